//! Query parameters, read strictly: a misspelt `dry-run` must not purge.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::problem::{Code, ItemError, Problem};

/// The parameters of one request: each known, each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    /// Splits and decodes a raw query. A parameter that is not among `known`, given twice, without `=`, or wrongly escaped
    /// is `invalid_request`; each is named.
    pub fn parse(raw: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut query = Self::default();
        let mut errors = Vec::new();
        // An empty query (`?`) has no parameters.
        for part in raw.filter(|raw| !raw.is_empty()).into_iter().flat_map(|raw| raw.split('&')) {
            match decode_pair(part) {
                None => {
                    errors.push(ItemError::parameter(part, "malformed; expected name=value, percent-escaped"))
                }
                Some((name, _)) if !known.contains(&name.as_str()) => {
                    let detail = match known {
                        [] => "unknown parameter; this route takes none".to_owned(),
                        _ => format!("unknown parameter; this route takes {}", known.join(", ")),
                    };
                    errors.push(ItemError::parameter(name, detail));
                }
                Some((name, _)) if query.text(&name).is_some() => {
                    errors.push(ItemError::parameter(name, "given more than once"));
                }
                Some(pair) => query.parameters.push(pair),
            }
        }
        if errors.is_empty() { Ok(query) } else { Err(Problem::of_items(Code::InvalidRequest, errors)) }
    }

    /// The value as it is, if the parameter was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `true` or `false`; false when not given.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.parsed(name, "true or false", |text| text.parse().ok())?.unwrap_or(false))
    }

    /// A whole number within `range`, in plain digits.
    pub fn number<N>(&self, name: &str, range: std::ops::RangeInclusive<N>) -> Result<Option<N>, Problem>
    where
        N: FromStr + PartialOrd + std::fmt::Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(name, &expected, |text| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|number| plain && range.contains(number))
        })
    }

    /// A value that `read` accepts; `expected` says what that would be.
    pub fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => {
                let error = ItemError::parameter(name, format!("must be {expected}")).with_value(text);
                Err(Problem::of_item(Code::InvalidRequest, error))
            }
        }
    }
}

fn decode_pair(part: &str) -> Option<(String, String)> {
    let (name, value) = part.split_once('=')?;
    Some((decode(name)?, decode(value)?)).filter(|(name, _)| !name.is_empty())
}

/// Percent-decoding that refuses what it cannot decode. A plus sign is a plus sign, as in a time zone.
fn decode(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some((_, tail)) = rest.split_once('%') {
        let digits = tail.get(..2)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        rest = &tail[2..];
    }
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["dry_run", "wait"];

    fn named(raw: &str) -> Vec<String> {
        let problem = Query::parse(Some(raw), &KNOWN).unwrap_err();
        assert_eq!(problem.code, Code::InvalidRequest);
        problem.errors.into_iter().filter_map(|error| error.parameter).collect()
    }

    #[test]
    fn known_parameters_are_decoded() {
        let query = Query::parse(Some("dry%5Frun=tru%65&wait=30"), &KNOWN).unwrap();
        assert!(query.flag("dry_run").unwrap());
        assert_eq!(query.number("wait", 0..=30u64).unwrap(), Some(30));
        assert!(!Query::parse(Some(""), &KNOWN).unwrap().flag("dry_run").unwrap());
        assert!(!Query::parse(None, &[]).unwrap().flag("dry_run").unwrap());
    }

    #[test]
    fn unknown_repeated_and_malformed_parameters_are_named() {
        assert_eq!(named("dry-run=true"), ["dry-run"]);
        assert_eq!(named("DRY_RUN=true"), ["DRY_RUN"]);
        assert_eq!(named("dry_run=true&dry_run=true"), ["dry_run"]);
        assert_eq!(named("dry_run=true&dry%5frun=false"), ["dry_run"]);
        assert_eq!(named("dry_run"), ["dry_run"]);
        assert_eq!(named("dry_run=true&"), [""]);
        assert_eq!(named("=true"), ["=true"]);
        assert_eq!(named("wait=%2"), ["wait=%2"]);
        assert_eq!(named("wait=%zz"), ["wait=%zz"]);
        assert_eq!(named("wait=%ff"), ["wait=%ff"]);
        assert_eq!(named("x=1&y=2"), ["x", "y"]);
    }

    #[test]
    fn values_out_of_form_are_given_back() {
        let flag = |raw| Query::parse(Some(raw), &KNOWN).unwrap().flag("dry_run").is_err();
        assert!(["dry_run=1", "dry_run=", "dry_run=True", "dry_run=yes"].into_iter().all(flag));
        let wait = |raw| Query::parse(Some(raw), &KNOWN).unwrap().number("wait", 0..=30u64).is_err();
        assert!(["wait=31", "wait=-1", "wait=%2B1", "wait=+1", "wait=1.5", "wait="].into_iter().all(wait));
        let problem = Query::parse(Some("wait=99"), &KNOWN).unwrap().number("wait", 0..=30u64).unwrap_err();
        assert_eq!(problem.errors[0].value.as_deref(), Some("99"));
        assert_eq!(problem.errors[0].detail, "must be a whole number from 0 to 30");
    }
}
