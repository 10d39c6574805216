//! The data folder: who may read it, its secrets, its store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use batoff_log::embedded::EmbeddedStore;
use batoff_program::doctor::{Diagnosis, folder};

use crate::backup;
use crate::init::{ADMIN_TOKEN_FILE, MASTER_KEY_FILE};

pub(super) fn examine(dir: &Path, report: &mut Diagnosis) {
    if !dir.is_dir() {
        return;
    }
    folder::alone("data", dir, "customers' hosts and purges", report);
    for name in [MASTER_KEY_FILE, ADMIN_TOKEN_FILE] {
        secret(&dir.join(name), report);
    }
}

fn secret(path: &Path, report: &mut Diagnosis) {
    let name = path.display();
    match fs::metadata(path) {
        Err(error) => report.error(
            "data",
            format!("{name}: {error}"),
            "restore it from a backup; a new data folder is made by `batoff-control init`",
        ),
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            report.error("data", format!("{name} may be read by others"), "chmod 600; a start refuses it");
        }
        Ok(_) => report.fine("data", format!("{name} is there")),
    }
}

/// The store that lies in it.
pub(super) fn store(dir: &Path, report: &mut Diagnosis) {
    if !EmbeddedStore::is_in(dir) {
        match EmbeddedStore::inspect(dir) {
            // Nothing at all: the first start makes one.
            Ok(None) => report.fine("store", "there is none yet; the first start makes it"),
            Ok(Some(_)) | Err(_) => report.error(
                "store",
                "purge.redb is missing, but what lies beside it says that there was a log",
                "put the files back, or restore a backup",
            ),
        }
        return;
    }
    if backup::is_served(dir) {
        let log = EmbeddedStore::log_beside(dir).ok().flatten();
        let log = log.map_or_else(String::new, |log_id| format!(": log {log_id}"));
        return report.fine("store", format!("a control plane runs on it{log}"));
    }
    match EmbeddedStore::inspect(dir) {
        Ok(Some(state)) => report.fine(
            "store",
            format!(
                "log {}, records {} to {} or later, nobody has it open",
                state.log_id, state.first, state.tail
            ),
        ),
        Ok(None) => {}
        Err(error) => report.error("store", error.to_string(), "the start will say the same"),
    }
}
