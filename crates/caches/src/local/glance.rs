use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::folder::FolderUse;

use super::config::LocalSection;
use super::socket::group_id;
use crate::shared::glance::{AREA, folder_in_memory, listens};
use crate::shared::pipeline::Address;

/// The socket is connected to, and nothing said.
pub(super) async fn examine(section: &LocalSection, running: &FolderUse, report: &mut Diagnosis) {
    let shown = section.socket.display();
    if let Some(Err(error)) = section.group.as_deref().map(group_id) {
        report.error(AREA, error.to_string(), "make the group, or correct caches.local.group");
    }
    if running.is_held() {
        match listens(&Address::Unix(section.socket.clone())).await {
            Ok(()) => report.fine(AREA, format!("local: the daemon listens at {shown}")),
            Err(error) => report.error(
                AREA,
                format!("local: nobody answers at {shown}: {error}"),
                "restart the daemon; run this as its user, or as one of caches.local.group",
            ),
        }
        folder_in_memory("local: pages", &section.pages, "the daemon makes it, and is running", report);
        return;
    }
    match section.socket.parent() {
        Some(folder) if folder.is_dir() => report.fine(AREA, format!("local: {shown} is made by the start")),
        _ => report.warn(
            AREA,
            format!("local: the folder of {shown} is not there"),
            "make it for the daemon's user (RuntimeDirectory=batoff-edge in its unit does)",
        ),
    }
}
