//! Lines of a file of URLs, and what in them nobody means.

use batoff_types::invisible;

/// The lines that are URLs, with their numbers as editors count them. A comment begins with `#`, at the beginning or
/// behind white space.
pub fn urls(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    let plain = |character: char| matches!(character, ' ' | '\t' | '\r');
    lines
        .enumerate()
        .map(move |(at, line)| (at + 1, without_comment(line).trim_matches(plain)))
        .filter(|(_, line)| !line.is_empty())
}

fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, character) in line.char_indices() {
        if character == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = character;
    }
    line
}

/// What is wrong with a URL or prefix that would be taken, and would hit something else than is meant, or nothing. The
/// remedy is part of the text.
pub fn mistake(text: &str) -> Option<String> {
    let inside = text.trim();
    if let Some(invisible) = invisible(text) {
        return Some(format!(
            "the invisible character U+{:04X} is in it: type the URL anew, or write the character percent-escaped if it \
             is meant",
            u32::from(invisible)
        ));
    }
    let two = inside.split(char::is_whitespace).filter(|word| word.contains("://")).count() > 1;
    if two {
        return Some("two URLs: write one URL a line, and give one to each --url".to_owned());
    }
    if let Some(space) = text.chars().find(|character| character.is_whitespace()) {
        let escaped: String = space.to_string().bytes().map(|b| format!("%{b:02X}")).collect();
        return Some(format!(
            "white space is in it: write {escaped} if it is part of the URL; a comment begins with # behind white space"
        ));
    }
    if inside.ends_with('*') {
        return Some(
            "a * at the end is an ordinary character, no pattern: purge the prefix without the * (--prefix), or write \
             %2A if it is meant"
                .to_owned(),
        );
    }
    None
}
