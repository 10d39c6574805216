//! What `batoff-edge check <kind>` found: it shows on the running set-up, with objects of its own, that a cache is configured
//! so that what the daemon promises is so.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What was found, claim by claim.
#[derive(Clone, Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

#[derive(Clone, Debug)]
struct Finding {
    claim: String,
    /// What is wrong, and the remedy.
    wrong: Option<String>,
}

/// The check could not be made at all; the text says what is in the way and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CheckError(pub String);

impl Report {
    /// This is as it should be.
    pub fn holds(&mut self, claim: impl Into<String>) {
        self.findings.push(Finding { claim: claim.into(), wrong: None });
    }

    /// This is not; `wrong` says what to change.
    pub fn broken(&mut self, claim: impl Into<String>, wrong: impl Into<String>) {
        self.findings.push(Finding { claim: claim.into(), wrong: Some(wrong.into()) });
    }

    /// One or the other.
    pub fn note(&mut self, holds: bool, claim: &str, wrong: impl Into<String>) {
        if holds { self.holds(claim) } else { self.broken(claim, wrong) }
    }

    /// Whether everything is as it should be.
    ///
    /// # Errors
    /// With the number of claims that are not.
    pub fn verdict(&self) -> Result<(), CheckError> {
        match self.findings.iter().filter(|finding| finding.wrong.is_some()).count() {
            0 => Ok(()),
            wrong => Err(CheckError(format!("{wrong} of {} claims do not hold", self.findings.len()))),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { claim, wrong } in &self.findings {
            match wrong {
                None => writeln!(f, "ok     {claim}")?,
                Some(wrong) => writeln!(f, "WRONG  {claim}\n       {wrong}")?,
            }
        }
        Ok(())
    }
}

/// What was fetched this long ago shows it in `Age`, which counts whole seconds and is all that some caches tell of
/// themselves.
pub(crate) const AGING: std::time::Duration = std::time::Duration::from_millis(2_100);

/// Where nginx and HAProxy say whether they had a page, each behind what a cache behind it has said.
pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Without the last line of this header: the one that this node's own cache has written.
pub(crate) fn drop_last(headers: &mut HeaderMap, name: &HeaderName) {
    let mut values: Vec<_> = headers.get_all(name).iter().cloned().collect();
    values.pop();
    headers.remove(name);
    for value in values {
        headers.append(name, value);
    }
}

/// Marks of a cache behind one of which it is not known what it writes itself: each cache adds to `Via` and the like, so one
/// entry is its own; and what was just fetched from an origin has no age.
pub(crate) fn marks_behind(mut fetched: HeaderMap) -> Vec<String> {
    let is_old = |value: &HeaderValue| {
        value.to_str().is_ok_and(|age| age.trim().parse().is_ok_and(|age: u64| age >= 2))
    };
    let has_one = |name: &HeaderName| {
        let values: Vec<_> = fetched.get_all(name).iter().collect();
        matches!(values[..], [value] if !value.as_bytes().contains(&b','))
    };
    let own = |name: &&HeaderName| match **name {
        header::AGE => !fetched.get(header::AGE).is_some_and(is_old),
        _ => has_one(name) && !name.as_str().starts_with("x-batoff-"),
    };
    let own: Vec<HeaderName> = fetched.keys().filter(own).cloned().collect();
    own.iter().for_each(|name| drop(fetched.remove(name)));
    batoff_edge::marks_of_another_cache(&fetched, &[])
}

/// Looks at a page that has just been fetched, for the second time within more than [`AGING`], so that a cache behind this
/// one has had it and tells so: whether it comes from there, and `[path]` has to name it. `own` are headers that this node's
/// own cache writes.
pub(crate) fn note_parents(report: &mut Report, has_parents: bool, fetched: &HeaderMap, own: &[HeaderName]) {
    if has_parents {
        report.holds("the caches behind which it stands are declared");
        return;
    }
    note_marks(report, &batoff_edge::marks_of_another_cache(fetched, own));
}

/// The finding that these are.
pub(crate) fn note_marks(report: &mut Report, marks: &[String]) {
    report.note(
        marks.is_empty(),
        "no cache lies behind it that is not declared",
        format!(
            "the page comes with {}: name that node (or its PoP) in [path] parents; without that its old pages are stored \
             as new",
            marks.join(", ")
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_is_the_caches_own_and_two_are_another_caches() {
        let marks = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            marks_behind(headers).len()
        };
        assert_eq!(marks(&[("x-cache", "MISS"), ("via", "1.1 own"), ("age", "0"), ("x-varnish", "7")]), 0);
        assert_eq!(marks(&[("x-cache", "HIT"), ("x-cache", "MISS")]), 2);
        assert_eq!(marks(&[("via", "1.1 other, 1.1 own")]), 1);
        assert_eq!(marks(&[("age", "2")]), 1);
        assert_eq!(marks(&[("x-batoff-stale", "1")]), 1);
    }

    #[test]
    fn the_last_line_is_the_caches_own() {
        let mut headers = HeaderMap::new();
        for state in ["HIT", "MISS"] {
            headers.append(X_CACHE, HeaderValue::from_static(state));
        }
        drop_last(&mut headers, &X_CACHE);
        assert_eq!(headers.get_all(X_CACHE).iter().collect::<Vec<_>>(), ["HIT"]);
        drop_last(&mut headers, &X_CACHE);
        assert!(headers.is_empty());
    }
}
