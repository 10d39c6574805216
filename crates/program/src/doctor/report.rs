//! What a doctor has found, for people and for programs.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// How bad something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is as it should be.
    #[default]
    Fine,
    /// It works, and will not for long, or not well.
    Warning,
    /// The program does not start, or does not keep what it promised.
    Error,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorFinding {
    /// What it belongs to: `disk`, `clock`, `store`, ….
    pub area: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What to change; empty when nothing is to be.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remedy: Cow<'static, str>,
}

/// All that was found, in the order in which it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The worst of all.
    pub severity: Severity,
    /// Each.
    pub findings: Vec<DoctorFinding>,
}

impl Diagnosis {
    /// This is as it should be.
    pub fn fine(&mut self, area: &'static str, found: impl Into<String>) {
        self.add(area, Severity::Fine, found, "");
    }

    /// This works, and will not for long, or not well.
    pub fn warn(
        &mut self,
        area: &'static str,
        found: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) {
        self.add(area, Severity::Warning, found, remedy);
    }

    /// With this the program does not start, or does not keep what it promised.
    pub fn error(
        &mut self,
        area: &'static str,
        found: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) {
        self.add(area, Severity::Error, found, remedy);
    }

    /// Something that was found, and how bad it is.
    pub fn add(
        &mut self,
        area: &'static str,
        severity: Severity,
        found: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) {
        let remedy = if severity == Severity::Fine { Cow::Borrowed("") } else { remedy.into() };
        self.severity = self.severity.max(severity);
        self.findings.push(DoctorFinding { area, severity, found: found.into(), remedy });
    }

    /// The exit code: 0 when all is fine, 1 with warnings, 2 with errors.
    pub const fn exit_code(&self) -> u8 {
        match self.severity {
            Severity::Fine => 0,
            Severity::Warning => 1,
            Severity::Error => 2,
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Fine => "ok     ",
                Severity::Warning => "warning",
                Severity::Error => "error  ",
            };
            writeln!(f, "{mark} {:<14} {}", finding.area, finding.found)?;
            if !finding.remedy.is_empty() {
                writeln!(f, "{:23}-> {}", "", finding.remedy)?;
            }
        }
        Ok(())
    }
}
