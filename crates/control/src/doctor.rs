//! `batoff-control doctor`: looks at everything that a control plane stands on, beside one that runs or before one is
//! started, changes nothing, and says what it would change.
//!
//! | module | looks at |
//! | --- | --- |
//! | `disk` | room, how long a flush takes, how the file system is mounted |
//! | `time` | the clock: against what was written before, and whether anything keeps it right |
//! | `certificates` | each listener's: ends, keys, rights |
//! | `cluster` | instead of disk and store: the members of etcd, and the files for them |
//! | `sockets` | each listener's address, and descriptors for as many connections as are configured |
//! | `folder` | the data folder: rights, secrets, the store |

mod certificates;
mod cluster;
mod disk;
mod folder;
mod report;
mod sockets;
mod time;

use std::path::Path;

use batoff_program::config;

pub use self::report::{Diagnosis, DoctorFinding, Severity};
use crate::config::{Config, Engine};

/// Looks at all that the configuration at `path`, with what `set` overrides, names. Blocks for about a second.
pub fn examine(path: &Path, set: &[String]) -> Diagnosis {
    let mut report = Diagnosis::default();
    let config: Config = match config::load(path, set) {
        Ok(config) => config,
        Err(error) => {
            report.error(
                "configuration",
                error.to_string(),
                "correct it; `deploy/control.toml` names every key",
            );
            return report;
        }
    };
    report.fine("configuration", format!("{} is fine", path.display()));
    time::examine(&config.data.dir, &mut report);
    match &config.store.etcd {
        Some(etcd) if config.store.engine == Engine::Etcd => {
            folder::examine(&config.data.dir, &mut report);
            cluster::examine(&config, &etcd.endpoints, &mut report);
        }
        _ => {
            disk::examine(&config.data.dir, &mut report);
            folder::examine(&config.data.dir, &mut report);
            folder::store(&config.data.dir, &mut report);
        }
    }
    certificates::examine(&config, &mut report);
    sockets::examine(&config, &mut report);
    report
}
