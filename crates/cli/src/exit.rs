//! Why a command did not do what was asked: the exit code, and the words with the remedy.

use std::process::ExitCode;

use batoff_client::{Error, Problem};

use crate::args::Format;
use crate::{help, output};

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
    /// What the API said, or that it said nothing.
    #[error("{text}")]
    Api {
        /// For people, with what they can do.
        text: String,
        /// For scripts.
        problem: Box<Problem>,
        /// 1, 64 or 75.
        code: u8,
    },
    /// Whoever read our output is gone. Not worth a word: they know.
    #[error("nobody reads standard output")]
    Unread,
}

/// What a shell shows of a program that SIGPIPE has ended, which is what others do that nobody reads.
const UNREAD: u8 = 128 + 13;

impl Failure {
    /// The same, beginning with what it is about.
    pub fn about(self, what: &str) -> Self {
        let tell = |text: String| format!("{what}: {text}");
        match self {
            Self::Failed(text) => Self::Failed(tell(text)),
            Self::Usage(text) => Self::Usage(tell(text)),
            Self::Internal(text) => Self::Internal(tell(text)),
            Self::Temporary(text) => Self::Temporary(tell(text)),
            Self::Api { text, problem, code } => Self::Api { text: tell(text), problem, code },
            Self::Unread => Self::Unread,
        }
    }

    /// What the admin API answered, which another token opens than the customers'.
    pub fn of_admin(error: Error) -> Self {
        Self::of(error, admin_remedy)
    }

    fn of(error: Error, remedy: impl Fn(&str) -> Option<&'static str>) -> Self {
        let mut text = error.to_string();
        if let Some(remedy) = error.code().and_then(remedy) {
            text.push_str("\n  ");
            text.push_str(remedy);
        }
        let (code, name) = match &error {
            Error::Unusable(_) => return Self::Usage(text),
            Error::Refused(_) => (1, "refused"),
            Error::Unexpected { .. } => (1, "unexpected_answer"),
            Error::RateLimited { .. } => (75, "rate_limited"),
            Error::Unavailable { .. } => (75, "unavailable"),
            Error::OutcomeUnknown { .. } => (75, "outcome_unknown"),
        };
        let problem = error.problem().cloned().unwrap_or_else(|| Problem {
            kind: "about:blank".to_owned(),
            title: text.clone(),
            code: name.to_owned(),
            ..Problem::default()
        });
        Self::Api { text, problem: Box::new(problem), code }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 64,
            Self::Internal(_) => 70,
            Self::Temporary(_) => 75,
            Self::Api { code, .. } => *code,
            Self::Unread => UNREAD,
        }
    }

    /// One JSON document in the form of the API's problems (RFC 9457), with the exit code.
    fn document(&self) -> String {
        let name = match self {
            Self::Failed(_) | Self::Unread => "failed",
            Self::Usage(_) => "usage",
            Self::Internal(_) => "internal",
            Self::Temporary(_) => "temporary",
            Self::Api { problem, .. } => {
                let mut document = serde_json::to_value(problem).unwrap_or_default();
                if let Some(members) = document.as_object_mut() {
                    // What did not come from the API has no request and no status.
                    members.retain(|_, value| *value != "" && *value != 0);
                    members.insert("exit_code".to_owned(), self.code().into());
                }
                return document.to_string();
            }
        };
        let text = self.to_string();
        let (title, detail) = text.split_once('\n').unwrap_or((&text, ""));
        let mut document = serde_json::json!({
            "type": "about:blank", "title": title, "code": name, "exit_code": self.code()
        });
        if !detail.is_empty()
            && let Some(members) = document.as_object_mut()
        {
            members.insert("detail".to_owned(), detail.into());
        }
        document.to_string()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(error, remedy)
    }
}

/// What the user can do, where the problem's own words leave that open.
fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "invalid_token" => {
            "check the token (--token-file, BATOFF_TOKEN); an operator issues a new one with `batoff tokens issue SITE`"
        }
        "bad_signature" => {
            "check the signing secret (--secret-file, BATOFF_SECRET; it belongs to the token) and this machine's clock"
        }
        "scope_denied" => "check --site; a token is for one site, and purging needs the scope `purge`",
        _ => return None,
    })
}

fn admin_remedy(code: &str) -> Option<&'static str> {
    (code == "invalid_token").then_some(
        "check the admin token (--admin-token-file, BATOFF_ADMIN_TOKEN): `batoff-control init` has written it to \
         admin.token in the control plane's data folder",
    )
}

/// Prints why the command line is not one (or the help that was asked for).
pub fn of_parser(error: &clap::Error, format: Format) -> ExitCode {
    if !error.use_stderr() {
        // With standard output gone there is nobody left to tell.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if format == Format::Json {
        let text = error.to_string();
        return of_command(
            Err(Failure::Usage(text.trim_start_matches("error: ").trim_end().to_owned())),
            format,
        );
    }
    if help::is_plain(error) {
        let _ = error.print();
    } else {
        output::document(help::explain(error).trim_end());
    }
    ExitCode::from(64)
}

/// Prints why a command failed, if it did.
pub fn of_command(result: Result<(), Failure>, format: Format) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Unread) => ExitCode::from(UNREAD),
        Err(failure) => {
            match format {
                Format::Json => output::document(&failure.document()),
                Format::Human => output::note(&format!("batoff: {failure}")),
            }
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused(code: &str) -> Error {
        Error::Refused(Box::new(Problem {
            code: code.into(),
            title: "No".into(),
            status: 401,
            ..Problem::default()
        }))
    }

    #[test]
    fn the_exit_code_says_whether_to_try_again() {
        let code = |error: Error| Failure::from(error).code();
        assert_eq!(code(Error::Refused(Box::default())), 1);
        assert_eq!(code(Error::Unusable("x".into())), 64);
        assert_eq!(code(Error::Unavailable { reason: "x".into(), retry_after: None }), 75);
        let limited = Error::RateLimited { problem: Box::default(), retry_after: Duration::from_secs(1) };
        assert_eq!(code(limited), 75);
    }

    #[test]
    fn a_wrong_token_is_told_which_one_it_is() {
        let customer = Failure::from(refused("invalid_token")).to_string();
        assert!(customer.contains("BATOFF_TOKEN") && !customer.contains("ADMIN"), "{customer}");
        let operator = Failure::of_admin(refused("invalid_token")).to_string();
        assert!(operator.contains("BATOFF_ADMIN_TOKEN") && !operator.contains("tokens issue"), "{operator}");
    }

    #[test]
    fn every_failure_is_a_problem_document_for_scripts() {
        let document =
            |failure: Failure| serde_json::from_str::<serde_json::Value>(&failure.document()).unwrap();
        let api = document(Failure::from(refused("invalid_url")));
        assert_eq!(
            (&api["code"], &api["status"], &api["exit_code"]),
            (&"invalid_url".into(), &401.into(), &1.into())
        );
        let gone = document(Error::Unavailable { reason: "no route".into(), retry_after: None }.into());
        assert_eq!(
            (&gone["code"], &gone["title"], &gone["exit_code"]),
            (&"unavailable".into(), &"no route".into(), &75.into())
        );
        let usage = document(Failure::Usage("which site?\ngive --site".into()));
        assert_eq!(
            (&usage["code"], &usage["title"], &usage["detail"]),
            (&"usage".into(), &"which site?".into(), &"give --site".into())
        );
    }
}
