use std::process::ExitCode;

use batoff_client::Error;

use crate::output;

/// Why a command did not do what was asked; each kind has its exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// 1: refused, or not completed in time.
    #[error("{0}")]
    Failed(String),
    /// 64: wrong flags, files or configuration; the same command fails again.
    #[error("{0}")]
    Usage(String),
    /// 70: our own fault.
    #[error("{0}")]
    Internal(String),
    /// 75: the same command can succeed later.
    #[error("{0}")]
    Temporary(String),
}

impl Failure {
    /// The same, beginning with what it is about.
    pub fn about(self, what: &str) -> Self {
        let tell = |text: String| format!("{what}: {text}");
        match self {
            Self::Failed(text) => Self::Failed(tell(text)),
            Self::Usage(text) => Self::Usage(tell(text)),
            Self::Internal(text) => Self::Internal(tell(text)),
            Self::Temporary(text) => Self::Temporary(tell(text)),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 64,
            Self::Internal(_) => 70,
            Self::Temporary(_) => 75,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut text = error.to_string();
        let code = error.code().unwrap_or_default();
        if let Some(remedy) = remedy(code) {
            text.push_str("\n  ");
            text.push_str(remedy);
        }
        match error {
            Error::Unusable(_) => Self::Usage(text),
            Error::Refused(_) | Error::Unexpected { .. } => Self::Failed(text),
            Error::RateLimited { .. } | Error::Unavailable { .. } | Error::OutcomeUnknown { .. } => {
                Self::Temporary(text)
            }
        }
    }
}

/// What the user can do, where the problem's own words leave that open.
fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "invalid_token" => "check BATOFF_TOKEN; an operator issues a new one with `batoff tokens issue SITE`",
        "bad_signature" => "check BATOFF_SECRET (it belongs to the token) and this machine's clock",
        "scope_denied" => "check --site; a token is for one site, and purging needs the scope `purge`",
        _ => return None,
    })
}

/// Prints why the command line is not one (or the help that was asked for).
pub fn of_parser(error: &clap::Error) -> ExitCode {
    // With standard output gone there is nobody left to tell.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS }
}

/// Prints why a command failed, if it did.
pub fn of_command(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("batoff: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_exit_code_says_whether_to_try_again() {
        let code = |error: Error| Failure::from(error).code();
        assert_eq!(code(Error::Refused(Box::default())), 1);
        assert_eq!(code(Error::Unusable("x".into())), 64);
        assert_eq!(code(Error::Unavailable { reason: "x".into(), retry_after: None }), 75);
        let limited = Error::RateLimited { problem: Box::default(), retry_after: Duration::from_secs(1) };
        assert_eq!(code(limited), 75);
    }
}
