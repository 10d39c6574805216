use std::time::Duration;

use crate::Problem;

/// Why a call did not do what was asked, named by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong, or not allowed: it fails again if it is sent again. Nothing was done.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// A quota is used up. Nothing was done; the same request is welcome after `retry_after`.
    #[error("{problem}")]
    RateLimited {
        /// What the API says.
        problem: Box<Problem>,
        /// How long to wait; at least a second.
        retry_after: Duration,
    },
    /// The control plane cannot take it now, or is not reachable. Nothing was done; try again later.
    #[error("{reason}")]
    Unavailable {
        /// What the API says, or why there was no connection.
        reason: String,
        /// How long to wait, when the API says so.
        retry_after: Option<Duration>,
    },
    /// A purge may or may not have been accepted: the answer was lost, or the API itself does not know. Sending the
    /// same [`Submission`](crate::Submission) again is safe; so is a new one, at the cost of a second purge.
    #[error("it is not known whether the purge was accepted: {reason}")]
    OutcomeUnknown {
        /// What the API says, or how the connection ended.
        reason: String,
        /// How long to wait, when the API says so.
        retry_after: Option<Duration>,
    },
    /// The answer is not one that the API gives; is this address really the API's?
    #[error("unexpected answer from {url}: {reason}")]
    Unexpected {
        /// Who answered.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The address, the certificate file or the credentials cannot be used at all. Nothing was sent.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    /// Whether the same request can succeed later without being changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable { .. } | Self::OutcomeUnknown { .. })
    }

    /// How long the API asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            Self::Unavailable { retry_after, .. } | Self::OutcomeUnknown { retry_after, .. } => *retry_after,
            Self::Refused(_) | Self::Unexpected { .. } | Self::Unusable(_) => None,
        }
    }

    /// The problem document behind it, if the API sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) | Self::RateLimited { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// The API's code, such as `invalid_url`.
    pub fn code(&self) -> Option<&str> {
        self.problem().map(|problem| problem.code.as_str())
    }
}
