use std::fmt;

use serde::{Deserialize, Serialize};

/// What the API answers when it refuses: RFC 9457's `application/problem+json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI with an explanation.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// One line for people.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// The word for programs; it never changes. Empty when the answer did not come from the API.
    #[serde(default)]
    pub code: String,
    /// More about this occurrence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Names the request in the control plane's logs.
    #[serde(default)]
    pub request_id: String,
    /// What was wrong with each bad item.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemItem>,
}

/// One bad item of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemItem {
    /// Where it stands in the body, as a JSON pointer: `/urls/1`.
    #[serde(default)]
    pub pointer: String,
    /// What was given there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// What is wrong with it.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// From an answer whose body is not a problem document: the status and the first line of the body stand in.
    pub(crate) fn from_text(status: u16, text: &str) -> Self {
        const TITLE_CHARS_MAX: usize = 200;
        let line = text.lines().next().unwrap_or_default().trim();
        let title = if line.is_empty() || line.starts_with('<') {
            format!("the server answered {status} without saying why")
        } else {
            line.chars().take(TITLE_CHARS_MAX).collect()
        };
        Self { title, status, ..Self::default() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.title)?;
        if !self.code.is_empty() {
            write!(f, " ({} {})", self.status, self.code)?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        for item in &self.errors {
            write!(f, "\n  {item}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ProblemItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(serde_json::Value::String(value)) => write!(f, "{} {value}: {}", self.pointer, self.detail),
            Some(value) => write!(f, "{} {value}: {}", self.pointer, self.detail),
            None => write!(f, "{}: {}", self.pointer, self.detail),
        }
    }
}
