//! `batoff-edge doctor`: looks at everything that a node stands on, beside a daemon that runs or before one is started, changes
//! nothing, and says what it would change. What it looks at as each program's doctor does is in
//! [`batoff_program::doctor`]: the clock, the disk, ports, descriptors.
//!
//! | module | looks at |
//! | --- | --- |
//! | `needs` | what those are measured by |
//! | `node` | the state directory, and the certificates |
//! | `control` | each control plane: it answers, and what time it has |
//!
//! Each cache's own folder looks at that cache ([`Section::examine`](crate::section::Section::examine)), as far as nothing has
//! to be stored or removed for it; `batoff-edge check` does the rest.

mod control;
mod needs;
mod node;

use std::path::Path;

use batoff_program::config;
use batoff_program::doctor::folder::FolderUse;
use batoff_program::doctor::ports::PortOwner;
use batoff_program::doctor::{Diagnosis, clock, disk, limits, ports};

use crate::config::EdgeConfig;

/// Looks at all that the configuration at `path`, with what `set` overrides, names. Takes a second or two, and longer where a
/// control plane or a cache does not answer.
pub async fn examine(path: &Path, set: &[String]) -> Diagnosis {
    let mut report = Diagnosis::default();
    let config: EdgeConfig = match config::load(path, set) {
        Ok(config) => config,
        Err(error) => {
            report.error(
                "configuration",
                error.to_string(),
                "correct it; `deploy/edge.toml` names every key",
            );
            return report;
        }
    };
    report.fine("configuration", format!("{} is fine", path.display()));
    let dir = &config.state.dir;
    let running = FolderUse::of(dir);
    clock::examine(dir, needs::CLOCK, &mut report);
    let place = node::nearest(dir);
    disk::examine(&place, &needs::DISK, &mut report);
    node::state(&config, &running, &mut report);
    node::certificates(&config, &running, &mut report);
    control::examine(&config.control, &mut report).await;
    config.caches.examine(&config.beside_caches(), &running, &mut report).await;
    let owner = PortOwner { program: "batoff-edge", running: &running };
    ports::examine(owner, "metrics", config.metrics.listen, &mut report);
    let (wanted, of) = needs::descriptors(&config);
    limits::descriptors(&running, wanted, of, needs::DESCRIPTORS_REMEDY, &mut report);
    report
}
