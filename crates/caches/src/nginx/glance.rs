use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;
use rustix::fs::{Access, access};

use super::config::NginxSection;
use super::key::KeyTemplate;
use super::setup;
use crate::shared::glance::{AREA, folder_in_memory};

/// The directory is read and nothing tried in it; nginx itself is not asked.
pub(super) fn examine(section: &NginxSection, running: &FolderUse, report: &mut Diagnosis) {
    let path = section.path.display();
    match setup::look_at_directory(&section.path, section.levels) {
        Err(error) => {
            report.error(AREA, error.to_string(), "correct [caches.nginx], or nginx's rights; a start says the same");
        }
        Ok(_) => match access(&section.path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => report.fine(AREA, format!("nginx: {path} is there and can be written")),
            Err(error) => report.error(
                AREA,
                format!("nginx: {path} cannot be written by this user: {error}"),
                "run the daemon as nginx's user, or with CAP_DAC_OVERRIDE and CAP_CHOWN, and this as the daemon",
            ),
        },
    }
    if let Err(why) = KeyTemplate::parse(&section.key) {
        let found = format!("nginx: key = {:?} {why}", section.key);
        report.error(
            AREA,
            found,
            "write proxy_cache_key so that the URL can be read from it, and caches.nginx.key likewise",
        );
    }
    if running.is_held() || section.run_dir.is_dir() {
        folder_in_memory("nginx: run_dir", &section.run_dir, "the daemon makes it, and is running", report);
    } else {
        report.fine(AREA, format!("nginx: {} is made by the first start", section.run_dir.display()));
    }
}
