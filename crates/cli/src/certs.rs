//! `batoff certs`: an authority of one's own, and the certificates of control plane, nodes and operators.

mod authority;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use batoff_types::{Hostname, NodeName};
use clap::{ArgGroup, Args, Subcommand};

use crate::exit::Failure;
use crate::output;

pub use self::authority::{Authority, CertsError, Holder};

/// `batoff certs …`
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make an authority of your own: ca.pem and ca.key (0600), good for ten years
    Init {
        /// Folder for the files; made if it does not exist
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
    },
    /// Issue a certificate and its key (0600) to a node, to the control plane, to an operator, or to the console's proxy
    Issue(IssueArgs),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("holder").required(true))]
pub struct IssueArgs {
    /// Folder with ca.pem and ca.key; the new files go there, too
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// For this node, as fra1/edge-03: <pop>-<node>.pem and .key
    #[arg(long, group = "holder", value_name = "POP/NODE")]
    node: Option<NodeName>,
    /// For the control plane, reached under these hostnames or addresses: control.pem and .key
    #[arg(long, group = "holder", value_name = "HOST", num_args = 1..)]
    control: Option<Vec<String>>,
    /// For an operator, to be shown to the admin API (batoff --client-cert): operator-<name>.pem and .key
    #[arg(long, group = "holder", value_name = "NAME", value_parser = operator_name)]
    operator: Option<String>,
    /// For the proxy that signs people in to the console, by this DNS name: console-proxy.pem and .key
    #[arg(long, group = "holder", value_name = "NAME", value_parser = proxy_name)]
    console_proxy: Option<String>,
    /// How long it is good
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

/// `batoff certs …`
pub fn run(command: CertsCommand) -> Result<(), Failure> {
    match command {
        CertsCommand::Init { dir } => {
            Authority::create(&dir)?;
            output::text(&format!("{}\n{}", dir.join("ca.pem").display(), dir.join("ca.key").display()))?;
            output::note(
                "Whoever has ca.key can be any node: keep it off the machines that only need ca.pem.",
            );
            Ok(())
        }
        CertsCommand::Issue(args) => {
            let holder = args.holder()?;
            let issued = Authority::open(&args.dir)?.issue(&holder, args.days)?.save(&args.dir)?;
            output::text(&format!("{}\n{}", issued.cert.display(), issued.key.display()))
        }
    }
}

impl IssueArgs {
    fn holder(&self) -> Result<Holder, Failure> {
        if let Some(node) = &self.node {
            return Ok(Holder::Node(node.clone()));
        }
        if let Some(name) = &self.operator {
            return Ok(Holder::Operator(name.clone()));
        }
        if let Some(name) = &self.console_proxy {
            return Ok(Holder::ConsoleProxy(name.clone()));
        }
        let hosts = self.control.iter().flatten().map(|host| server_name(host)).collect::<Result<_, _>>()?;
        Ok(Holder::Control(hosts))
    }
}

/// A hostname in normal form, or an address without the brackets that it has in a URL.
fn server_name(text: &str) -> Result<String, Failure> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let host: Hostname = text.parse().map_err(|e| Failure::Usage(format!("--control: {e}")))?;
    Ok(host.as_str().to_owned())
}

/// As the control plane compares it: a DNS name in normal form.
fn proxy_name(text: &str) -> Result<String, String> {
    let host: Hostname = text.parse().map_err(|error| format!("{error}"))?;
    Ok(host.as_str().to_owned())
}

fn operator_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let safe = fits && !text.starts_with('.');
    if safe { Ok(text.to_owned()) } else { Err("must be 1 to 64 of A-Z a-z 0-9 - . _".to_owned()) }
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate (PEM).
    pub cert: PathBuf,
    /// The private key (PEM), 0600.
    pub key: PathBuf,
}

impl CertFiles {
    fn named(dir: &Path, name: &str) -> Self {
        Self { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) }
    }
}

impl From<CertsError> for Failure {
    fn from(error: CertsError) -> Self {
        match error {
            CertsError::Crypto { .. } => Self::Internal(error.to_string()),
            _ => Self::Usage(error.to_string()),
        }
    }
}
