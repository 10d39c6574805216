//! Where the purge log is, and which of the control planes beside it this one is.

use std::path::PathBuf;
use std::time::Duration;

use batoff_delivery::{REPLICAS_MAX, ReplicaSet, SEAT};
use batoff_program::config::ConfigError;
use batoff_types::Replica;
use serde::Deserialize;

use super::url::is_base;

/// Which engine keeps the purge log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// In the data folder, or in an etcd cluster.
    pub engine: Engine,
    /// `[store.etcd]`: needed for `engine = "etcd"`, and nothing to say otherwise.
    pub etcd: Option<EtcdSection>,
}

/// An engine of the purge log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Files in the data folder, for one control plane.
    #[default]
    Embedded,
    /// An etcd cluster, for one control plane or several beside one log.
    Etcd,
}

/// The etcd cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdSection {
    /// `http://` or `https://` with host and port, one for each member. The first is asked first.
    pub endpoints: Vec<String>,
    /// What all keys begin with. One prefix is one log.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// Who signed the members' certificates (PEM); needed for `https`.
    pub ca: Option<PathBuf>,
    /// Our certificate chain (PEM), for members that ask for one.
    pub cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    pub key: Option<PathBuf>,
    /// Who signs in, for a cluster with authentication.
    pub user: Option<String>,
    /// The file with that user's password, which nobody else may read.
    pub password_file: Option<PathBuf>,
    /// The members' `--quota-backend-bytes`. Members from 3.6 on say it themselves.
    pub quota_bytes: Option<u64>,
    /// How long etcd's history of changes is kept, in seconds, for all prefixes of the cluster: 60 to 86,400. 0: somebody
    /// else compacts it.
    #[serde(default = "compact_after_seconds")]
    pub compact_after_seconds: u64,
}

/// Which of the control planes beside one log this one is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicaConfig {
    /// Its number: 1 to 250, the same after every start, and no other's.
    pub id: u8,
    /// The numbers of those that count when the log begins. In a log that has begun it says nothing any more.
    pub initial: Vec<u8>,
    /// How nodes reach this control plane's gRPC listener, such as `https://cp1.example.net:7443`. Not needed for one that
    /// is alone.
    pub advertise: Option<String>,
    /// How long a proof counts that this process has its replica's seat. No key: it has to be the same for every process
    /// that ever takes the seat.
    #[serde(skip)]
    pub seat: Duration,
}

/// The highest number of a replica.
const ID_MAX: u8 = 250;

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self { id: Replica::ONLY.0, initial: vec![Replica::ONLY.0], advertise: None, seat: SEAT }
    }
}

impl ReplicaConfig {
    /// This one.
    pub const fn replica(&self) -> Replica {
        Replica(self.id)
    }

    /// Those that count when the log begins; checked, so that there is at least one.
    pub fn first_set(&self) -> ReplicaSet {
        ReplicaSet::new(self.initial.iter().copied().map(Replica)).unwrap_or_else(|_| ReplicaSet::only())
    }

    /// For people.
    pub fn described(&self) -> String {
        let initial = self.first_set();
        let advertised = self.advertise.as_ref().map(|url| format!(", reached at {url}")).unwrap_or_default();
        format!("{}; a new log begins with {initial}{advertised}", self.id)
    }

    pub(super) fn check(&self, engine: Engine) -> Result<(), ConfigError> {
        ConfigError::within("replica.id", u64::from(self.id), 1, u64::from(ID_MAX))?;
        let wrong = |problem: String| Err(invalid("replica.initial", problem));
        for (number, id) in self.initial.iter().enumerate() {
            if !(1..=ID_MAX).contains(id) {
                return wrong(format!("{id} is outside 1 to {ID_MAX}"));
            }
            if self.initial[..number].contains(id) {
                return wrong(format!("{id} is named twice"));
            }
        }
        if self.initial.is_empty() || self.initial.len() > REPLICAS_MAX {
            return wrong(format!(
                "names {} replicas: name 1 to {REPLICAS_MAX}, best 1, 3 or 5",
                self.initial.len()
            ));
        }
        if engine == Engine::Embedded && (self.id != Replica::ONLY.0 || self.initial != [Replica::ONLY.0]) {
            return Err(invalid(
                "replica.id",
                "a control plane with its log in the data folder is replica 1, alone: leave id and initial out, or set \
                 store.engine = \"etcd\"",
            ));
        }
        match &self.advertise {
            Some(url) if !is_base(url, &["http", "https"]) => Err(invalid(
                "replica.advertise",
                format!("{url:?} is not scheme, host and port: write it as \"https://cp1.example.net:7443\""),
            )),
            None if self.initial.len() > 1 || !self.initial.contains(&self.id) => Err(invalid(
                "replica.advertise",
                "nodes have to know how to reach each of several control planes: set it, such as \
                 \"https://cp1.example.net:7443\"",
            )),
            _ => Ok(()),
        }
    }
}

impl StoreConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match (self.engine, &self.etcd) {
            (Engine::Embedded, None) => Ok(()),
            (Engine::Embedded, Some(_)) => Err(invalid(
                "store.etcd",
                "stands there, but the log is in the data folder: set store.engine = \"etcd\", or remove the section",
            )),
            (Engine::Etcd, None) => {
                Err(invalid("store.etcd", "engine = \"etcd\" needs [store.etcd] with endpoints"))
            }
            (Engine::Etcd, Some(etcd)) => etcd.check(),
        }
    }
}

impl EtcdSection {
    /// Whether it is spoken to with TLS.
    pub fn is_secure(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://"))
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.endpoints.is_empty() {
            return Err(invalid(
                "store.etcd.endpoints",
                "name one for each member, such as \"https://10.0.0.1:2379\"",
            ));
        }
        for endpoint in &self.endpoints {
            if !is_base(endpoint, &["http", "https"]) {
                return Err(invalid(
                    "store.etcd.endpoints",
                    format!(
                        "{endpoint:?} is not scheme, host and port: write it as \"https://10.0.0.1:2379\""
                    ),
                ));
            }
            if endpoint.starts_with("https://") != self.is_secure() {
                return Err(invalid("store.etcd.endpoints", "some have https and some http; take one"));
            }
        }
        let is_plain = self.prefix.bytes().all(|b| b.is_ascii_graphic());
        if self.prefix.is_empty() || !self.prefix.ends_with('/') || !is_plain {
            return Err(invalid(
                "store.etcd.prefix",
                format!("{:?} must be ASCII and end with /, such as \"batoff/\"", self.prefix),
            ));
        }
        if self.is_secure() != self.ca.is_some() {
            return Err(invalid(
                "store.etcd.ca",
                "ca and https go together: set ca and endpoints that begin with https://, or neither",
            ));
        }
        if self.cert.is_some() != self.key.is_some() || (self.cert.is_some() && self.ca.is_none()) {
            return Err(invalid(
                "store.etcd.cert",
                "cert and key go together, and with ca; set all three, or ca alone",
            ));
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Err(invalid(
                "store.etcd.user",
                "user and password_file go together; set both or neither",
            ));
        }
        if let Some(bytes) = self.quota_bytes {
            ConfigError::within("store.etcd.quota_bytes", bytes, 64 << 20, 1 << 40)?;
        }
        match self.compact_after_seconds {
            0 => Ok(()),
            seconds => ConfigError::within("store.etcd.compact_after_seconds", seconds, 60, 86_400),
        }
    }
}

fn invalid(key: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::invalid(key, problem)
}

fn prefix() -> String {
    batoff_log_etcd::DEFAULT_PREFIX.to_owned()
}

fn compact_after_seconds() -> u64 {
    batoff_log_etcd::COMPACT_AFTER.as_secs()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    const LEAST: &str = "[data]\ndir = 'd'\n[grpc]\nplaintext = true\n";

    fn check(text: &str) -> Result<Config, String> {
        Config::parse(&format!("{LEAST}{text}"), std::iter::empty()).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_replica_one_with_its_log_in_the_data_folder() {
        let config = check("").unwrap();
        assert_eq!((config.store.engine, config.replica.replica()), (Engine::Embedded, Replica::ONLY));
        assert_eq!(config.replica.first_set(), ReplicaSet::only());
    }

    #[test]
    fn a_cluster_is_taken_with_all_that_it_may_need() {
        let config = check(
            "[store]\nengine = 'etcd'\n[store.etcd]\nendpoints = ['https://a:2379', 'https://b:2379']\nca = 'ca'\ncert = 'c'\n\
             key = 'k'\nuser = 'u'\npassword_file = 'p'\nquota_bytes = 8589934592\ncompact_after_seconds = 0\n\
             [replica]\nid = 2\ninitial = [1, 2, 3]\nadvertise = 'https://cp2:7443'\n",
        )
        .unwrap();
        assert_eq!(config.store.etcd.unwrap().prefix, "batoff/");
        assert_eq!(config.replica.first_set().members(), [Replica(1), Replica(2), Replica(3)]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let etcd = "[store]\nengine = 'etcd'\n[store.etcd]\nendpoints = ['http://a:2379']\n";
        for (text, begin) in [
            ("[store]\nengine = 'etcd'\n".to_owned(), "store.etcd: "),
            ("[store.etcd]\nendpoints = ['http://a:2379']\n".to_owned(), "store.etcd: "),
            ("[replica]\nid = 2\n".to_owned(), "replica.id: "),
            ("[replica]\nid = 0\n".to_owned(), "replica.id: "),
            ("[replica]\ninitial = [1, 2]\n".to_owned(), "replica.id: "),
            (etcd.replace("'http://a:2379'", ""), "store.etcd.endpoints: "),
            (etcd.replace("http://a:2379", "a:2379"), "store.etcd.endpoints: "),
            (etcd.replace("'http://a:2379'", "'http://a:2379', 'https://b:2379'"), "store.etcd.endpoints: "),
            (etcd.replace("http", "https"), "store.etcd.ca: "),
            (format!("{etcd}ca = 'ca'\n"), "store.etcd.ca: "),
            (format!("{etcd}cert = 'c'\n"), "store.etcd.cert: "),
            (format!("{etcd}user = 'u'\n"), "store.etcd.user: "),
            (format!("{etcd}prefix = 'batoff'\n"), "store.etcd.prefix: "),
            (format!("{etcd}quota_bytes = 1\n"), "store.etcd.quota_bytes: "),
            (format!("{etcd}compact_after_seconds = 1\n"), "store.etcd.compact_after_seconds: "),
            (format!("{etcd}[replica]\ninitial = []\n"), "replica.initial: "),
            (format!("{etcd}[replica]\ninitial = [1, 1]\n"), "replica.initial: "),
            (format!("{etcd}[replica]\ninitial = [0]\n"), "replica.initial: "),
            (format!("{etcd}[replica]\ninitial = [1, 2, 3]\n"), "replica.advertise: "),
            (format!("{etcd}[replica]\nid = 2\n"), "replica.advertise: "),
            (format!("{etcd}[replica]\nadvertise = 'cp1'\n"), "replica.advertise: "),
        ] {
            let error = check(&text).unwrap_err();
            assert!(error.starts_with(begin), "{text}: {error}");
        }
    }
}
