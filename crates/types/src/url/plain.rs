//! Most URLs are in normal form already. Those of them that are so at a glance need no parser, which takes ten times as
//! long; of each purge the URLs are normalised at its acceptance and again by everybody who reads its record.

use super::{HOSTNAME_BYTES_MAX, Normal, URL_BYTES_MAX};

/// The longest label of a name in the DNS.
const LABEL_BYTES_MAX: usize = 63;

/// The URL, if it is certainly in normal form: a name of plain labels, no port, a path and a query of characters that
/// nobody writes in two ways. `None` says nothing.
pub(super) fn plain(text: &str) -> Option<Normal> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let host = &rest[..rest.find('/')?];
    let after_host = &rest[host.len()..];
    let is_plain = text.len() <= URL_BYTES_MAX && is_plain_name(host) && is_plain_target(after_host);
    is_plain.then(|| {
        let host_start = text.len() - rest.len();
        // Both fit: the whole text is at most URL_BYTES_MAX.
        Normal {
            text: text.into(),
            host_start: host_start as u16,
            host_end: (host_start + host.len()) as u16,
        }
    })
}

/// Labels of lower-case letters, digits and single hyphens inside, the last of which begins with a letter: neither an
/// address nor anything that IDNA looks at.
fn is_plain_name(host: &str) -> bool {
    let is_label = |label: &str| {
        label.len() <= LABEL_BYTES_MAX
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && !label.contains("--")
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= HOSTNAME_BYTES_MAX
        && last.starts_with(|first: char| first.is_ascii_lowercase())
        && host.split('.').all(is_label)
}

/// Unreserved characters (RFC 3986, section 2.3) and delimiters that mean the same wherever they stand, and no segment
/// that begins with a dot.
fn is_plain_target(target: &str) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'?' | b'=' | b'&')
    };
    target.bytes().all(is_plain) && !target.contains("/.") && !target.contains("//")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::normalise_any;
    use super::*;

    /// Of what URLs are made of, and of what makes them other than they look.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "https://",
            "http://",
            "HTTP://",
            "www",
            "example",
            ".",
            "..",
            "com",
            "xn--",
            "1",
            "0x7f",
            "127",
            "-",
            "--",
            "_",
            "A",
            "a",
            "z9",
            "/",
            "//",
            "/./",
            "/../",
            "/.well-known",
            "?",
            "=",
            "&",
            "#",
            ":",
            ":80",
            "@",
            "%",
            "%2e",
            "%41",
            "~",
            "*",
            "\\",
            " ",
            "\t",
            "é",
            "ß",
            "\u{200b}",
            "+",
            ";",
            "'",
            "localhost",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    fn likely() -> impl Strategy<Value = String> {
        let regex = "https?://[a-z0-9-]{1,8}(\\.[a-z0-9-]{1,5}){0,3}(/[A-Za-z0-9._~-]{0,6}){1,4}(\\?[a-z0-9=&/?.]{0,9})?";
        proptest::string::string_regex(regex).unwrap_or_else(|error| panic!("{error}"))
    }

    fn agrees(text: &str) -> bool {
        plain(text).is_none_or(|normal| normalise_any(text).is_ok_and(|slow| slow == normal))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_called_plain_is_what_the_parser_makes_of_it(text in pieces()) {
            prop_assert!(agrees(&text), "{:?}: {:?}", text, normalise_any(&text).map(|normal| normal.text));
        }

        #[test]
        fn and_so_it_is_where_nearly_all_is_plain(text in likely()) {
            prop_assert!(agrees(&text), "{:?}: {:?}", text, normalise_any(&text).map(|normal| normal.text));
        }
    }

    #[test]
    fn ordinary_urls_are_plain_and_others_are_left_to_the_parser() {
        for text in [
            "https://www.example.com/articles/17/headline.html",
            "http://a-b.example.com/",
            "https://cdn1.example.com/x?width=640&format=webp",
            "https://localhost/",
        ] {
            assert!(plain(text).is_some(), "{text}");
        }
        for text in [
            "https://www.example.com",
            "https://www.example.com:8080/",
            "https://WWW.example.com/",
            "https://xn--e1afmkfd.xn--p1ai/",
            "https://127.0.0.1/",
            "https://example.1/",
            "https://example.0x7f/",
            "https://example.com./",
            "https://example.com/a/../b",
            "https://example.com/%41",
            "https://example.com/a#b",
            "https://user@example.com/",
            "ftp://example.com/",
            "/a",
        ] {
            assert!(plain(text).is_none(), "{text}");
        }
    }
}
