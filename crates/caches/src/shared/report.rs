//! What `batoff-edge check <kind>` found: it shows on the running set-up, with objects of its own, that a cache is configured
//! so that what the daemon promises is so.

use std::fmt;

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

/// Looks at a page that has just been fetched: whether it comes from another cache, which `[path]` has to name. `own` are
/// headers that this node's own cache writes.
pub(crate) fn note_parents(
    report: &mut Report,
    has_parents: bool,
    fetched: &http::HeaderMap,
    own: &[http::HeaderName],
) {
    if has_parents {
        report.holds("the caches behind which it stands are declared");
        return;
    }
    let marks = batoff_edge::marks_of_another_cache(fetched, own);
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
