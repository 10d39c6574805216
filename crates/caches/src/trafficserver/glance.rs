use std::fs;

use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;

use super::TrafficServerSection;
use super::layout::{MAGIC, VERSION, VERSION_AT, read_f64};
use crate::shared::glance::{AREA, folder_in_memory};

/// The table is read; Traffic Server itself is not asked.
pub(super) fn examine(section: &TrafficServerSection, running: &FolderUse, report: &mut Diagnosis) {
    let shown = section.rules.display();
    if let Some(folder) = section.rules.parent() {
        folder_in_memory(
            "trafficserver: rules",
            folder,
            "make it for the daemon's user (deploy/trafficserver)",
            report,
        );
    }
    match fs::read(&section.rules) {
        Ok(table) if table.starts_with(MAGIC) && read_f64(&table, VERSION_AT) == Some(f64::from(VERSION)) => {
            report.fine(AREA, format!("trafficserver: {shown} is a table of this version"));
        }
        Ok(_) => report.warn(
            AREA,
            format!("trafficserver: {shown} is no table of this version"),
            "a start replaces it; Traffic Server fetches everything anew until then",
        ),
        Err(error) if running.is_held() => report.error(
            AREA,
            format!("trafficserver: {shown}: {error}"),
            "restart the daemon, which makes it; it has to be in a folder that both users reach",
        ),
        Err(_) => report.fine(AREA, format!("trafficserver: {shown} is made by the start")),
    }
}
