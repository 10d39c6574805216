use batoff_types::{CacheTags, TAG_BYTES_MAX, TAGS_PER_RESPONSE_MAX};

/// Reads the lines, and once more in a way that could not be simpler.
pub fn check(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let read = CacheTags::parse(lines.iter().copied());

    let (mut tags, mut ignored) = (Vec::<&str>::new(), 0);
    for member in lines.iter().flat_map(|line| line.split(|&byte| byte == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let fits = |text: &&str| {
            text.len() <= TAG_BYTES_MAX && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        match std::str::from_utf8(member).ok().filter(fits) {
            Some(text) if tags.contains(&text) => {}
            Some(text) if tags.len() < TAGS_PER_RESPONSE_MAX => tags.push(text),
            _ => ignored += 1,
        }
    }
    let found: Vec<&str> = read.tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!((found, read.ignored), (tags, ignored), "{:?}", String::from_utf8_lossy(data));
}
