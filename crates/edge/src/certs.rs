//! The files of mutual TLS, looked at before anybody connects: for `--check`, and for whoever diagnoses a node.

use batoff_program::certificates::{ValidTime, span, unix_now};
use batoff_types::NodeName;

use crate::config::{ConfigError, ControlSection};
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

/// Files of mutual TLS that go together: a daemon that runs takes them up, unless they have ended.
#[derive(Clone, Debug)]
pub struct NodeCertificate {
    /// Until when the node's certificate is good; `None` when it cannot be read, though TLS takes it.
    pub valid: Option<ValidTime>,
    /// When the last of the authorities ends, in seconds of Unix time.
    pub authority_ends: Option<u64>,
    /// The node that the certificate names, if it names exactly one.
    pub node: Option<NodeName>,
}

/// Reads the files that `control` names.
///
/// # Errors
/// What is wrong with which of them: it cannot be read, or they do not go together.
pub fn read(control: &ControlSection) -> Result<NodeCertificate, ConfigError> {
    let (ends, uris) = credentials::read(control)?;
    let mut nodes = uris.iter().filter_map(|uri| NodeName::from_spiffe_uri(uri));
    let node = nodes.next().filter(|_| nodes.next().is_none());
    Ok(NodeCertificate { valid: ends.cert, authority_ends: ends.ca, node })
}
