//! The body of a submission, read strictly: a purge that was misspelt must not silently purge nothing.

use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use utoipa::ToSchema;

use super::json::Json;
use super::problem::{Code, ERRORS_MAX, ItemError, Problem};

/// How deep a body may be nested. Ours is two deep; the limit keeps a hostile one from costing stack.
pub const NESTING_MAX: usize = 32;

/// What a submission asks for, as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// Exactly these URLs, with every `Vary` variant and content encoding, under both `http` and `https`.
    #[schema(max_items = 200, example = json!(["https://www.example.com/index.html"]))]
    #[serde(default)]
    pub urls: Vec<String>,
    /// Every URL that begins with these characters. Prefixes, hosts and `everything` together: at most 60.
    #[schema(max_items = 60, example = json!(["https://www.example.com/img/"]))]
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// Every object whose origin response carried the tag in `Cache-Tag`: 1 to 256 bytes of UTF-8, no comma, no white space,
    /// and no character that nobody sees (zero-width, direction marks).
    #[schema(max_items = 200, example = json!(["product:42", "category:shoes"]))]
    #[serde(default)]
    pub tags: Vec<String>,
    /// Everything cached under a hostname of the site.
    #[schema(max_items = 60, example = json!(["static.example.com"]))]
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Everything cached for the site; alone in its request.
    #[serde(default)]
    pub everything: bool,
    /// Mark stale instead of removing: the cache may serve it while it revalidates, unless its origin forbids stale answers
    /// (`must-revalidate`, `proxy-revalidate`). `s-maxage` does not forbid it here. An answer of the origin's that is no
    /// server error ends it.
    #[serde(default)]
    pub soft: bool,
    /// Queue nothing if more cached objects than this would be hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 10_000, nullable = false)]
    pub max_objects: Option<u64>,
}

impl PurgeRequest {
    /// Reads a body; everything that is wrong with its form is `invalid_request`, each bad member named.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let malformed = |detail: String| Problem::detailed(Code::InvalidRequest, detail);
        let text = std::str::from_utf8(body).map_err(|error| {
            malformed(format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))
        })?;
        if nesting(body) > NESTING_MAX {
            return Err(malformed(format!("the body is nested deeper than {NESTING_MAX}")));
        }
        let mut reading = BodyReader::default();
        let mut source = serde_json::Deserializer::from_str(text);
        reading.deserialize(&mut source).and_then(|()| source.end()).map_err(|error| {
            malformed(format!("the body is not a JSON object as the API takes it: {error}"))
        })?;
        if !reading.errors.is_empty() {
            return Err(Problem::of_items(Code::InvalidRequest, reading.errors));
        }
        reading.request.checked()
    }

    /// Itself, if it names something to purge, and *everything* alone.
    pub fn checked(self) -> Result<Self, Problem> {
        let listed = self.urls.len() + self.prefixes.len() + self.tags.len() + self.hosts.len();
        if self.everything && listed > 0 {
            let error =
                ItemError::at("/everything", "stands alone: send the other items in a request of their own");
            return Err(Problem::of_item(Code::InvalidRequest, error));
        }
        if !self.everything && listed == 0 {
            let detail = "nothing to purge: give urls, prefixes, tags, hosts or everything";
            return Err(Problem::of_item(Code::InvalidRequest, ItemError::at("", detail)));
        }
        Ok(self)
    }
}

/// The deepest nesting of arrays and objects, strings left out. Says nothing on whether the JSON is valid.
fn nesting(body: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What has been read so far, and what was wrong with it.
#[derive(Default)]
struct BodyReader {
    request: PurgeRequest,
    seen: Vec<String>,
    errors: Vec<ItemError>,
}

impl BodyReader {
    fn report(&mut self, error: ItemError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
    }

    fn member(&mut self, name: &str, value: Json) {
        let outcome = match name {
            "urls" => return self.request.urls = self.list(name, value),
            "prefixes" => return self.request.prefixes = self.list(name, value),
            "tags" => return self.request.tags = self.list(name, value),
            "hosts" => return self.request.hosts = self.list(name, value),
            "everything" => value.as_bool().map(|flag| self.request.everything = flag).ok_or("true or false"),
            "soft" => value.as_bool().map(|flag| self.request.soft = flag).ok_or("true or false"),
            "max_objects" => value
                .as_unsigned()
                .map(|count| self.request.max_objects = Some(count))
                .ok_or("a whole number, 0 or more"),
            _ => return,
        };
        if let Err(expected) = outcome {
            self.report(ItemError::at(
                format!("/{name}"),
                format!("must be {expected}, not {}", value.kind()),
            ));
        }
    }

    fn list(&mut self, name: &str, value: Json) -> Vec<String> {
        let Json::List(items) = value else {
            let detail = format!("must be a list of strings, not {}", value.kind());
            self.report(ItemError::at(format!("/{name}"), detail));
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            match item {
                Json::Text(text) => texts.push(text),
                other => {
                    let detail = format!("must be a string, not {}", other.kind());
                    self.report(ItemError::at(format!("/{name}/{place}"), detail));
                }
            }
        }
        texts
    }
}

const MEMBERS: [&str; 7] = ["urls", "prefixes", "tags", "hosts", "everything", "soft", "max_objects"];

impl<'de> DeserializeSeed<'de> for &mut BodyReader {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut BodyReader {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            let pointer = || format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            if !MEMBERS.contains(&name.as_str()) {
                members.next_value::<IgnoredAny>()?;
                let detail = format!("unknown member; known are {}", MEMBERS.join(", "));
                let mut cut = pointer();
                cut.truncate(cut.floor_char_boundary(256));
                self.report(ItemError::at(cut, detail));
            } else if self.seen.contains(&name) {
                members.next_value::<IgnoredAny>()?;
                self.report(ItemError::at(pointer(), "given more than once"));
            } else {
                let value = members.next_value::<Json>()?;
                self.member(&name, value);
                self.seen.push(name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(body: &str) -> Vec<String> {
        let problem = PurgeRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!(problem.code, Code::InvalidRequest, "{body}");
        problem.errors.into_iter().filter_map(|error| error.pointer).collect()
    }

    #[test]
    fn the_body_of_the_contract_is_read() {
        let body = r#"{ "urls": ["https://www.example.com/index.html"], "prefixes": ["https://www.example.com/img/"],
            "tags": ["product:42", "category:shoes"], "hosts": ["static.example.com"], "everything": false,
            "soft": true, "max_objects": 10000 }"#;
        let request = PurgeRequest::parse(body.as_bytes()).unwrap();
        assert_eq!(request.tags, ["product:42", "category:shoes"]);
        assert!(request.soft && !request.everything);
        assert_eq!(request.max_objects, Some(10_000));
    }

    #[test]
    fn bad_members_are_named() {
        assert_eq!(pointers(r#"{"url":["https://a.example/"]}"#), ["/url"]);
        assert_eq!(pointers(r#"{"urls":["a"],"urls":["b"]}"#), ["/urls"]);
        assert_eq!(pointers(r#"{"urls":["a"],"\u0075rls":["b"]}"#), ["/urls"]);
        assert_eq!(pointers(r#"{"urls":null}"#), ["/urls"]);
        assert_eq!(pointers(r#"{"urls":"https://a.example/"}"#), ["/urls"]);
        assert_eq!(pointers(r#"{"urls":{"0":"a"}}"#), ["/urls"]);
        assert_eq!(pointers(r#"{"urls":["a",1,"b",null,["c"]]}"#), ["/urls/1", "/urls/3", "/urls/4"]);
        assert_eq!(pointers(r#"{"urls":["a"],"soft":"true","everything":0}"#), ["/soft", "/everything"]);
        for max in ["-1", "1.5", "1e3", "\"1\"", "null", "true", "18446744073709551616"] {
            assert_eq!(pointers(&format!(r#"{{"urls":["a"],"max_objects":{max}}}"#)), ["/max_objects"]);
        }
        assert_eq!(pointers(r#"{"a/b~c":1,"everything":true}"#), ["/a~1b~0c"]);
        assert_eq!(pointers(r#"{"everything":true,"tags":["a"]}"#), ["/everything"]);
        assert_eq!(pointers(r#"{"urls":[],"everything":false}"#), [""]);
        assert_eq!(pointers("{}"), [""]);
    }

    #[test]
    fn what_is_no_json_object_is_refused_as_a_whole() {
        let bodies: [&[u8]; 14] = [
            b"",
            b" ",
            b"null",
            b"[]",
            br#"["urls"]"#,
            br#""urls""#,
            b"{",
            br#"{"urls":["a"]} x"#,
            br#"{"urls":["a"]}{}"#,
            br#"{"urls":["a"],}"#,
            br#"{'urls':['a']}"#,
            b"{\"urls\":[\"\xff\"]}",
            b"\xef\xbb\xbf{\"urls\":[\"a\"]}",
            br#"{"urls":["\ud800"]}"#,
        ];
        for body in bodies {
            let problem = PurgeRequest::parse(body).unwrap_err();
            assert_eq!(problem.code, Code::InvalidRequest);
            assert!(problem.detail.is_some() && problem.errors.is_empty(), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn nesting_is_measured_outside_strings() {
        let nested =
            |depth: usize| format!("{{\"urls\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(pointers(&nested(NESTING_MAX)), ["/urls/0"]);
        let deep = PurgeRequest::parse(nested(NESTING_MAX + 1).as_bytes()).unwrap_err();
        assert!(deep.detail.unwrap().contains("nested deeper than 32"));
        let brackets = format!(r#"{{"tags":["{}\"[["]}}"#, "[".repeat(40));
        assert!(PurgeRequest::parse(brackets.as_bytes()).is_ok());
        let hostile = "[".repeat(1_000_000);
        assert!(PurgeRequest::parse(hostile.as_bytes()).is_err());
    }

    #[test]
    fn the_list_of_errors_is_bounded() {
        let body = format!(r#"{{"urls":[{}]}}"#, vec!["0"; 10_000].join(","));
        assert_eq!(pointers(&body).len(), ERRORS_MAX);
    }
}
