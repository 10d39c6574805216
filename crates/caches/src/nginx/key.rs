//! From nginx's key back to the URL.

use batoff_types::PurgeUrl;

/// The value of `proxy_cache_key`: text, with variables between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyTemplate {
    /// From the front up to the path.
    before: Vec<Part>,
    path: PathForm,
    /// From the back down to the path.
    after: Vec<Part>,
    names_host: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Scheme,
    /// Upper-case letters, which a host never has.
    Method,
    Host,
    /// Anything that does not belong to the URL (a cookie, a device class, a slice): makes objects of their own that
    /// every purge of the URL hits.
    Other,
}

/// How the path and the query stand in the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathForm {
    /// `$request_uri`, or `$uri$is_args$args`.
    WithQuery,
    /// `$uri` alone.
    Alone,
}

impl KeyTemplate {
    /// Whether the host in its keys is what nginx has in `$host`, to the letter.
    pub(super) const fn names_host(&self) -> bool {
        self.names_host
    }

    /// Reads the template.
    ///
    /// # Errors
    /// Says why keys of this template could not be turned into URLs.
    pub(super) fn parse(template: &str) -> Result<Self, String> {
        let mut names = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let (text, variables) = rest.split_at(rest.find('$').unwrap_or(rest.len()));
            if !text.is_empty() {
                names.push((false, text.to_owned()));
            }
            let Some(variable) = variables.strip_prefix('$') else { break };
            let (name, after) = match variable.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or("has a ${ without its }")?,
                None => {
                    let end = variable.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    variable.split_at(end.unwrap_or(variable.len()))
                }
            };
            names.push((true, name.to_owned()));
            rest = after;
        }
        let is =
            |at: usize, name: &str| names.get(at).is_some_and(|(variable, found)| *variable && found == name);
        let place = |name: &str| (0..names.len()).find(|&at| is(at, name));
        let (at, path, width) = match (place("request_uri"), place("uri")) {
            (Some(at), _) => (at, PathForm::WithQuery, 1),
            (None, Some(at))
                if is(at + 1, "is_args") && (is(at + 2, "args") || is(at + 2, "query_string")) =>
            {
                (at, PathForm::WithQuery, 3)
            }
            (None, Some(at)) => (at, PathForm::Alone, 1),
            (None, None) => return Err("has neither $request_uri nor $uri".to_owned()),
        };
        let part = |(variable, name): &(bool, String)| match (variable, name.as_str()) {
            (false, text) => Part::Text(text.to_owned()),
            (true, "scheme") => Part::Scheme,
            (true, "request_method") => Part::Method,
            (true, "host" | "http_host" | "server_name") => Part::Host,
            (true, _) => Part::Other,
        };
        let before: Vec<_> = names[..at].iter().map(part).collect();
        let after: Vec<_> = names[at + width..].iter().rev().map(part).collect();
        if !before.contains(&Part::Host) {
            return Err("has no $host before the path, so objects of different hosts would be one".to_owned());
        }
        if after.iter().any(|part| matches!(part, Part::Scheme | Part::Method | Part::Host)) {
            return Err(
                "has $scheme, $request_method or $host behind the path; put them before it".to_owned()
            );
        }
        let ambiguous = |parts: &[Part]| {
            parts.windows(2).any(|two| {
                let [first, second] = two else { return false };
                match (first, second) {
                    // `https…` may be http and a host that begins with an s.
                    (Part::Scheme, Part::Host | Part::Other) => true,
                    (Part::Host | Part::Other, Part::Text(_)) => false,
                    (Part::Host | Part::Other, _) => true,
                    (Part::Text(_) | Part::Method | Part::Scheme, _) => false,
                }
            })
        };
        let from_the_front: Vec<_> = after.iter().rev().cloned().collect();
        if ambiguous(&before) || ambiguous(&from_the_front) || matches!(after.last(), Some(Part::Other)) {
            return Err(
                "has two variables side by side that cannot be told apart; put text between them".to_owned()
            );
        }
        let names_host = (0..at).any(|at| is(at, "host"))
            && before.iter().filter(|part| **part == Part::Host).count() == 1;
        Ok(Self { before, path, after, names_host })
    }

    /// The URL of an object with this key; `None` when the key does not follow the template.
    pub(super) fn url(&self, key: &[u8]) -> Option<PurgeUrl> {
        let mut rest = std::str::from_utf8(key).ok()?;
        let (mut scheme, mut host) = ("http", "");
        let mut parts = self.before.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Scheme => {
                    scheme = if rest.starts_with("https") { "https" } else { "http" };
                    rest = rest.strip_prefix(scheme)?;
                }
                Part::Method => rest = rest.trim_start_matches(|c: char| c.is_ascii_uppercase()),
                Part::Host | Part::Other => {
                    // To the next text; the path begins with a slash.
                    let end = match parts.peek() {
                        Some(Part::Text(text)) => rest.find(text.as_str())?,
                        _ => rest.find('/')?,
                    };
                    if *part == Part::Host {
                        host = &rest[..end];
                    }
                    rest = &rest[end..];
                }
            }
        }
        let mut parts = self.after.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(text) => rest = rest.strip_suffix(text.as_str())?,
                Part::Other => {
                    let Some(Part::Text(text)) = parts.peek() else { return None };
                    rest = &rest[..rest.rfind(text.as_str())? + text.len()];
                }
                Part::Scheme | Part::Method | Part::Host => return None,
            }
        }
        let bare = host.contains(['/', '?', '#', '\\', '@']) || host.is_empty();
        if bare || !rest.starts_with('/') {
            return None;
        }
        let url: Option<PurgeUrl> = match self.path {
            PathForm::WithQuery => format!("{scheme}://{host}{rest}").parse().ok(),
            // Decoded by nginx: what was escaped in the request has to be escaped again to be a path.
            PathForm::Alone => {
                let path = rest.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
                format!("{scheme}://{host}{path}").parse().ok()
            }
        };
        // A visitor may spell a hostname as no purge does (escapes, letters outside ASCII). Held back under one spelling, it
        // would be served under the other.
        url.filter(|url| !self.names_host || url.host() == host)
    }
}

#[cfg(test)]
mod tests {
    use super::KeyTemplate;

    #[track_caller]
    fn check(template: &str, key: &str, url: Option<&str>) {
        let found = KeyTemplate::parse(template).unwrap().url(key.as_bytes());
        assert_eq!(found.as_ref().map(|url| url.as_str()), url, "{template} {key}");
    }

    #[test]
    fn keys_are_turned_back_into_urls() {
        const USUAL: &str = "$scheme://$host$request_uri";
        check(USUAL, "https://a.test/x?y=1", Some("https://a.test/x?y=1"));
        check(USUAL, "http://a.test/%7eu/../b", Some("http://a.test/b"));
        check(USUAL, "http://up/stream", Some("http://up/stream"));
        check(USUAL, "GEThttp://a.test/x", None);
        check(USUAL, "https://a.testx", None);
        check("$host$request_uri", "a.test/x", Some("http://a.test/x"));
        check("${scheme}://${host}${request_uri}", "https://a.test/x", Some("https://a.test/x"));
        check(
            "$request_method $scheme://$http_host$request_uri",
            "GET http://a.test:81/",
            Some("http://a.test:81/"),
        );
        check("$scheme$request_method$host$request_uri", "httpsGETa.test/x", Some("https://a.test/x"));
        check("$scheme:$host$uri$is_args$args", "https:a.test/x?a=/b", Some("https://a.test/x?a=/b"));
        check("$scheme://$host$uri", "http://a.test/a b?c%d", Some("http://a.test/a%20b%3Fc%25d"));
        check("$host$request_uri|$cookie_lang|", "a.test/x|de|", Some("http://a.test/x"));
        check("$host$request_uri#$slice_range", "a.test/x#bytes=0-1023", Some("http://a.test/x"));
        check(USUAL, "http://b\u{fc}cher.test/", None);
        check(USUAL, "http://%61.test/", None);
        check("$http_host$request_uri", "A.test:81/", Some("http://a.test:81/"));
        check("$http_x_device:$host$request_uri", "mobile:a.test/x", Some("http://a.test/x"));
    }

    #[test]
    fn a_template_that_cannot_be_turned_back_is_refused() {
        for (template, word) in [
            ("$scheme$proxy_host$request_uri", "$host"),
            ("$host", "$request_uri"),
            ("$request_uri$host", "$host"),
            ("$scheme$host$request_uri", "side by side"),
            ("$cookie_a$host$request_uri", "side by side"),
            ("$host$request_uri$cookie_a", "side by side"),
            ("${host$request_uri", "}"),
        ] {
            let refusal = KeyTemplate::parse(template).unwrap_err();
            assert!(refusal.contains(word), "{template}: {refusal}");
        }
    }
}
