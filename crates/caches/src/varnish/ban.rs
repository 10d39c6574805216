//! Ban expressions. Only on `obj.*`, so that Varnish can test them in the background, on the two headers that
//! `batoff.vcl` leaves with each object: `Batoff-Key` (`host[:port]/path?query`) and `xkey` (`number:url number/tag`, the
//! number being the hostname's; `number!` stands for any tag).

use std::collections::BTreeSet;

use batoff_types::HostPattern;

/// Everything.
pub(super) const EVERYTHING: &str = "ban obj.status != 0";

/// Bytes of alternatives in one expression; more become several bans. PCRE takes far more.
const ALTERNATIVES_BYTES_MAX: usize = 4_000;

/// Bytes of a prefix that are compared. A longer one bans what begins with so much of it: wider, never narrower.
const PREFIX_BYTES_MAX: usize = 2_000;

/// What begins with a key.
pub(super) fn prefix(key: &str) -> String {
    let key = key.get(..PREFIX_BYTES_MAX).unwrap_or(key);
    on_key(&literal(key))
}

/// A hostname, or the names under one, as an alternative for [`hosts`].
pub(super) fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => exact_host(host.as_str()),
        HostPattern::Under(parent) => under(parent.as_str()),
    }
}

/// One hostname, as an alternative for [`hosts`].
pub(super) fn exact_host(host: &str) -> String {
    literal(host)
}

/// Everything under these hostnames, on any port.
pub(super) fn hosts(alternatives: &BTreeSet<String>) -> Vec<String> {
    chunks(alternatives).into_iter().map(|hosts| on_key(&format!("(?:{hosts})[:/]"))).collect()
}

/// These tags under the names that `pattern` covers.
pub(super) fn tags(pattern: &HostPattern, tags: &BTreeSet<String>) -> Vec<String> {
    let tags = tags.iter().map(|tag| literal(tag)).collect();
    let host = on_key(&format!("{}[:/]", host(pattern)));
    let expression = |tags| quoted(&format!("(?:^|\\s)[0-9]+(?:!|/(?:{tags}))(?:\\s|$)"));
    chunks(&tags).into_iter().map(|tags| format!("{host} && obj.http.xkey ~ {}", expression(tags))).collect()
}

fn under(parent: &str) -> String {
    format!("[^/:\\s]+{}", literal(&format!(".{parent}")))
}

fn on_key(expression: &str) -> String {
    format!("ban obj.http.Batoff-Key ~ {}", quoted(&format!("^{expression}")))
}

fn chunks(alternatives: &BTreeSet<String>) -> Vec<String> {
    let mut chunks: Vec<String> = Vec::new();
    for alternative in alternatives {
        match chunks.last_mut().filter(|last| last.len() + alternative.len() < ALTERNATIVES_BYTES_MAX) {
            Some(last) => {
                last.push('|');
                last.push_str(alternative);
            }
            None => chunks.push(alternative.clone()),
        }
    }
    chunks
}

/// An expression that matches exactly these bytes. Every byte but letters and digits is written in hex: neither the
/// regular expression nor the command line, which does not keep spaces, can take it for something else.
fn literal(text: &str) -> String {
    let mut expression = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            expression.push(char::from(byte));
        } else {
            expression.push_str(&format!("\\x{byte:02x}"));
        }
    }
    expression
}

/// As an argument of the command line.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_is_taken_for_a_pattern() {
        assert_eq!(prefix("a.b/c*(\" "), r#"ban obj.http.Batoff-Key ~ "^a\\x2eb\\x2fc\\x2a\\x28\\x22\\x20""#);
        assert_eq!(
            tags(&"*.b.de".parse().unwrap(), &BTreeSet::from(["ß|".to_owned()])),
            [concat!(
                r#"ban obj.http.Batoff-Key ~ "^[^/:\\s]+\\x2eb\\x2ede[:/]" && "#,
                r#"obj.http.xkey ~ "(?:^|\\s)[0-9]+(?:!|/(?:\\xc3\\x9f\\x7c))(?:\\s|$)""#
            )]
        );
    }

    #[test]
    fn long_lists_become_several_bans_and_long_prefixes_shorter_ones() {
        let many: BTreeSet<_> = (0..1_000).map(|n| exact_host(&format!("host{n}.example"))).collect();
        let bans = hosts(&many);
        assert!(bans.len() > 1 && bans.iter().all(|ban| ban.len() < 10_000));
        assert!(prefix(&"x".repeat(8_000)).len() < 2_100);
    }
}
