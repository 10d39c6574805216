use std::path::Path;

use batoff_program::doctor::Diagnosis;
use rustix::fs::{Access, access};

use super::config::HttpSection;
use crate::shared::glance::{AREA, listens};
use crate::shared::pipeline::Address;

/// Whoever listens there is connected to and told nothing; the command that empties the cache is looked for, and not run.
pub(super) async fn examine(section: &HttpSection, report: &mut Diagnosis) {
    let listening = match section.address.parse::<Address>() {
        Ok(address) => listens(&address).await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match listening {
        Ok(()) => report.fine(AREA, format!("http: somebody listens at {}", section.address)),
        Err(error) => report.error(
            AREA,
            format!("http: nobody answers at {}: {error}", section.address),
            "start the cache, or correct caches.http.address",
        ),
    }
    let Some(command) = section.empty.first() else { return };
    if is_executable(command) {
        report.fine(AREA, format!("http: {command} is there, to empty it"));
    } else {
        report.error(
            AREA,
            format!("http: {command} is not there, or this user may not run it"),
            "correct caches.http.empty: a node that is reset empties its cache with it",
        );
    }
}

/// As a shell would find it.
fn is_executable(command: &str) -> bool {
    let may_run = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if command.contains('/') {
        return may_run(Path::new(command));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| may_run(&folder.join(command)))
}
