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
    judgement: Judgement,
}

#[derive(Clone, Debug)]
enum Judgement {
    Holds,
    /// What is wrong, and the remedy.
    Broken(String),
    /// No set-up of this cache has it; what to do instead.
    Beyond(String),
}

/// The check could not be made at all; the text says what is in the way and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CheckError(pub String);

impl Report {
    /// This is as it should be.
    pub fn holds(&mut self, claim: impl Into<String>) {
        self.findings.push(Finding { claim: claim.into(), judgement: Judgement::Holds });
    }

    /// This is not; `wrong` says what to change.
    pub fn broken(&mut self, claim: impl Into<String>, wrong: impl Into<String>) {
        let judgement = Judgement::Broken(wrong.into());
        self.findings.push(Finding { claim: claim.into(), judgement });
    }

    /// This cannot be had of this cache, however it is set up; `instead` says what to do. Nothing is wrong with the set-up.
    pub fn beyond(&mut self, claim: impl Into<String>, instead: impl Into<String>) {
        let judgement = Judgement::Beyond(instead.into());
        self.findings.push(Finding { claim: claim.into(), judgement });
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
        match self.findings.iter().filter(|finding| matches!(finding.judgement, Judgement::Broken(_))).count()
        {
            0 => Ok(()),
            wrong => Err(CheckError(format!("{wrong} of {} claims do not hold", self.findings.len()))),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { claim, judgement } in &self.findings {
            match judgement {
                Judgement::Holds => writeln!(f, "ok     {claim}")?,
                Judgement::Broken(wrong) => writeln!(f, "WRONG  {claim}\n       {wrong}")?,
                Judgement::Beyond(instead) => writeln!(f, "cannot {claim}\n       {instead}")?,
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

/// The finding that this cache keeps a page whose URL was asked for with such a method (RFC 9111, 4.4).
pub(crate) fn note_methods(report: &mut Report, methods: &str) {
    report.beyond(
        format!("take the page out after {methods}"),
        "this cache leaves it there; where such a request changes a page, whoever handles it has to purge that page",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_set_up_has_is_told_and_is_no_mistake() {
        let mut report = Report::default();
        note_methods(&mut report, "a PATCH");
        assert!(report.verdict().is_ok());
        assert!(
            report.to_string().starts_with("cannot take the page out after a PATCH\n       "),
            "{report}"
        );
        report.broken("it is so", "it is not");
        assert_eq!(report.verdict().unwrap_err().to_string(), "1 of 2 claims do not hold");
    }

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
