//! What a line may hold: nothing that a terminal or a reader of lines takes for anything but text.

use std::borrow::Cow;
use std::fmt::Write;

use super::LINE_BYTES_MAX;

/// How a character is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `\u{1b}`
    Text,
    /// `\u001b`, as JSON has it.
    Json,
}

/// The line without control characters, and no longer than [`LINE_BYTES_MAX`]; ends in one line break.
pub(super) fn clean(line: &[u8], style: Style) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut text = escaped(text, style);
    if text.len() > LINE_BYTES_MAX {
        text = match style {
            Style::Text => cut(&text).into(),
            Style::Json => cut_json(&text).into(),
        };
    }
    let mut line = text.into_owned().into_bytes();
    line.push(b'\n');
    line
}

fn escaped(text: &str, style: Style) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match (is_harmful(character), style) {
            (false, _) => clean.push(character),
            (true, Style::Text) => clean.extend(character.escape_default()),
            // None of them is beyond the plane that four digits name.
            (true, Style::Json) => drop(write!(clean, "\\u{:04x}", u32::from(character))),
        }
    }
    Cow::Owned(clean)
}

/// Control characters, and those that break or turn around a line.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn cut(text: &str) -> String {
    let kept = &text[..text.floor_char_boundary(LINE_BYTES_MAX)];
    format!("{kept}… ({} bytes left out)", text.len() - kept.len())
}

/// A line of JSON that was cut is no JSON any more: another one that holds its beginning.
fn cut_json(text: &str) -> String {
    // Half, because each of its quotes takes two bytes in the new line.
    let kept = &text[..text.floor_char_boundary(LINE_BYTES_MAX / 2)];
    let time =
        kept.strip_prefix("{\"timestamp\":\"").and_then(|rest| rest.split_once('"')).map(|(time, _)| time);
    let quoted = kept.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "{{\"timestamp\":\"{}\",\"level\":\"WARN\",\"message\":\"a line was too long\",\"left_out_bytes\":{},\"begins\":\"{quoted}\"}}",
        time.unwrap_or_default(),
        text.len() - kept.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, style: Style) -> String {
        String::from_utf8(clean(line.as_bytes(), style)).unwrap()
    }

    #[test]
    fn a_line_stays_one_line_whatever_it_holds() {
        assert_eq!(check("as it is: ж \"\\\"\n", Style::Text), "as it is: ж \"\\\"\n");
        assert_eq!(
            check("a\nb\r\u{1b}[31m\u{202e}\u{85}\n", Style::Text),
            "a\\nb\\r\\u{1b}[31m\\u{202e}\\u{85}\n"
        );
        assert_eq!(check("{\"a\":\"\u{7f}\u{2028}\"}\n", Style::Json), "{\"a\":\"\\u007f\\u2028\"}\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_says_so() {
        let line = check(&"ж".repeat(LINE_BYTES_MAX), Style::Text);
        assert!(line.len() < LINE_BYTES_MAX + 64, "{}", line.len());
        assert!(line.ends_with("… (8192 bytes left out)\n"), "{}", &line[line.len() - 64..]);
    }

    #[test]
    fn a_json_line_that_is_too_long_is_still_json() {
        let long = format!(
            "{{\"timestamp\":\"2026-11-29T23:00:00Z\",\"message\":\"{}\"}}\n",
            "\\\"".repeat(LINE_BYTES_MAX)
        );
        let line = check(&long, Style::Json);
        assert!(line.len() < 2 * LINE_BYTES_MAX, "{}", line.len());
        let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert_eq!(quotes % 2, 0, "{line}");
        assert!(line.starts_with("{\"timestamp\":\"2026-11-29T23:00:00Z\",\"level\":\"WARN\""), "{line}");
    }
}
