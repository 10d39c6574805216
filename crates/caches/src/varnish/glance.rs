use batoff_program::doctor::Diagnosis;

use super::cli::Cli;
use super::config::VarnishSection;
use crate::shared::glance::{AREA, folder_in_memory, listens, within};
use crate::shared::pipeline::Address;

/// Its listener is connected to, and its command line asked whether it is there, with the secret.
pub(super) async fn examine(section: &VarnishSection, report: &mut Diagnosis) {
    let listening = match section.purge.parse::<Address>() {
        Ok(address) => listens(&address).await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match listening {
        Ok(()) => report.fine(AREA, format!("varnish: somebody listens at {}", section.purge)),
        Err(error) => report.error(
            AREA,
            format!("varnish: nobody answers at {}: {error}", section.purge),
            "start varnishd with -a batoff=… at that address (deploy/varnish), or correct caches.varnish.purge; this user must be \
             able to open the socket",
        ),
    }
    let mut cli = Cli::new(&section.cli, section.secret.clone(), Vec::new());
    let ping = ["ping".to_owned()];
    let asked = within(async { cli.run(&ping).await.map_err(std::io::Error::other) }).await;
    match asked {
        Ok(_) => report.fine(AREA, format!("varnish: its command line at {} takes the secret", section.cli)),
        Err(error) => report.error(
            AREA,
            format!("varnish: {error}"),
            "start varnishd with -T and -S as caches.varnish.cli and secret say, readable for the daemon's user",
        ),
    }
    folder_in_memory(
        "varnish: lease_dir",
        &section.lease_dir,
        "make it for the daemon's user (deploy/varnish)",
        report,
    );
}
