//! `batoff-control doctor`: looks at everything that a control plane stands on, beside one that runs or before one is
//! started, changes nothing, and says what it would change. What it looks at as each program's doctor does is in
//! [`batoff_program::doctor`]: the clock, the disk, ports, descriptors.
//!
//! | module | looks at |
//! | --- | --- |
//! | `needs` | what those are measured by |
//! | `certificates` | each listener's: ends, keys, rights |
//! | `cluster` | instead of disk and store: the members of etcd, their clocks, and the files for them |
//! | `folder` | the data folder: rights, secrets, the store |

mod certificates;
mod cluster;
mod folder;
mod needs;

use std::path::Path;

use batoff_program::config;
use batoff_program::doctor::folder::FolderUse;
use batoff_program::doctor::{Diagnosis, clock, disk};

use crate::config::{Config, Engine};

/// Looks at all that the configuration at `path`, with what `set` overrides, names. Blocks for a second or two.
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
    let dir = &config.data.dir;
    let running = FolderUse::of(dir);
    clock::examine(dir, needs::CLOCK, &mut report);
    match &config.store.etcd {
        Some(etcd) if config.store.engine == Engine::Etcd => {
            folder::examine(dir, &mut report);
            cluster::examine(&config, etcd, &mut report);
        }
        _ => {
            disk::examine(dir, &needs::DISK, &mut report);
            folder::examine(dir, &mut report);
            folder::store(dir, &mut report);
        }
    }
    certificates::examine(&config, &mut report);
    needs::sockets(&config, &running, &mut report);
    report
}
