//! The files of mutual TLS, looked at before anybody connects: for `--check`.

use batoff_program::certificates::{span, unix_now};

use crate::config::ConfigError;
use crate::{DaemonConfig, credentials};

/// The lines of `--check` that every daemon has: what was looked at, and is fine.
///
/// # Errors
/// The certificates.
pub fn checked(daemon: &DaemonConfig) -> Result<Vec<String>, ConfigError> {
    let control = &daemon.control;
    let tls = if control.plaintext {
        "plaintext".to_owned()
    } else {
        let ends = credentials::examine(control)?;
        let cert = control.cert.as_ref().map_or_else(String::new, |cert| format!(" {}", cert.display()));
        let left = ends.cert.map_or(0, |valid| valid.until.saturating_sub(unix_now()));
        format!("certificate{cert}, its key and the authority are there and fit, for another {}", span(left))
    };
    Ok(vec![
        format!("node    {}", daemon.node),
        format!("control {}; {tls}", control.endpoints.join(", ")),
        format!("state   {}", daemon.state_dir.display()),
    ])
}
