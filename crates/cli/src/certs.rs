//! `batoff certs`: an authority of one's own, and the certificates of control plane, nodes and operators.

mod authority;
mod read;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use batoff_types::{Hostname, NodeName};
use clap::{ArgGroup, Args, Subcommand};

use crate::args::Format;
use crate::exit::Failure;
use crate::output;

pub use self::authority::{Authority, CertsError, Holder};
use self::read::{IssuedBy, KeyBeside, ShownCertificate};

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
    /// Show whose a certificate is, how long it is good, who issued it, and whether its key fits; exits with 1 if not all is
    /// well
    Show {
        /// Certificates (PEM); the key of each is looked for beside it, as <name>.key
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The authority to compare with; ca.pem beside the certificate unless given
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
    /// Issue certificates anew to the same holders, with new keys; the old files are kept as <name>.pem.old and .key.old
    Renew {
        /// Folder with ca.pem and ca.key
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
        /// Certificates (PEM) to be replaced; the key of each lies beside it, as <name>.key
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// How long they are good
        #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
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
pub fn run(command: CertsCommand, format: Format) -> Result<(), Failure> {
    match command {
        CertsCommand::Show { files, ca } => show(&files, ca.as_deref(), format),
        CertsCommand::Renew { dir, files, days } => renew(&dir, &files, days),
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

fn show(files: &[PathBuf], ca: Option<&Path>, format: Format) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for file in files {
        let beside = file.with_file_name("ca.pem");
        for shown in read::show(file, ca.unwrap_or(&beside))? {
            match format {
                Format::Json => output::json(&shown)?,
                Format::Human => output::say(&shown.sentences())?,
            }
            wrong.extend(shown.problems.iter().map(|problem| format!("{} {problem}", file.display())));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Failed(wrong.join("\n"))) }
}

/// All are looked at before the first is replaced.
fn renew(dir: &Path, files: &[PathBuf], days: u32) -> Result<(), Failure> {
    let authority = Authority::open(dir)?;
    let mut renewed = Vec::with_capacity(files.len());
    for cert in files {
        let pair = CertFiles { cert: cert.clone(), key: read::key_of(cert) };
        let key = pair.key.metadata();
        key.map_err(|source| CertsError::File { path: pair.key.clone(), source })?;
        renewed.push((authority.issue(&read::holder(cert)?, days)?, pair));
    }
    for (issued, pair) in renewed {
        issued.renew(&pair)?;
        output::text(&format!("{}\n{}", pair.cert.display(), pair.key.display()))?;
    }
    output::note("Programs that run take the new ones within some seconds, or at once on SIGHUP.");
    Ok(())
}

impl ShownCertificate {
    fn sentences(&self) -> String {
        let authority = match &self.authority {
            IssuedBy::Ours => "the one in ca.pem".to_owned(),
            IssuedBy::Itself => "itself".to_owned(),
            IssuedBy::Another(name) => format!("another one: {name}"),
            IssuedBy::Unchecked(name) => format!("{name} (not compared: there is no ca.pem)"),
        };
        let key = match self.key {
            KeyBeside::Matches => "matches",
            KeyBeside::Other => "is another certificate's",
            KeyBeside::Unreadable => "cannot be read",
            KeyBeside::Absent => "not here",
        };
        let names = if self.names.is_empty() { "-".to_owned() } else { self.names.join(", ") };
        format!(
            "{}\n  subject    {}\n  names      {names}\n  serial     {}\n  valid      {} to {}, {} days left\n  \
             authority  {authority}\n  key        {key}",
            self.file.display(),
            self.subject,
            self.serial,
            self.not_before,
            self.not_after,
            self.days_left
        )
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
