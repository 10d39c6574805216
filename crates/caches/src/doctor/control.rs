//! The control planes, as the configuration names them: each is connected to as the node does it, and asked whether it is well.

use batoff_edge::ControlAnswer;
use batoff_edge::config::ControlSection;
use batoff_program::doctor::Diagnosis;
use batoff_program::doctor::clock::{self, PeerTime};

use super::needs;

pub(super) async fn examine(control: &ControlSection, report: &mut Diagnosis) {
    let Ok(endpoints) = control.endpoints() else { return };
    let mut troubles = Vec::new();
    let all = endpoints.len();
    for endpoint in endpoints {
        let name = endpoint.uri().to_string();
        let name = name.trim_end_matches('/');
        match ControlAnswer::ask(control, &endpoint).await {
            Ok(ControlAnswer { date, asked, answered }) => {
                let takes = if control.plaintext { "" } else { ", and takes this node's certificate" };
                report.fine("control plane", format!("{name} answers{takes}"));
                clock::compare(name, &PeerTime { date, asked, answered }, None, needs::CLOCK, report);
            }
            Err(error) => troubles.push(format!("{name}: {error}")),
        }
    }
    let is_any = troubles.len() < all;
    for trouble in troubles {
        // Said with its own remedy where TLS says what is wrong.
        let remedy = "do what it says; else see that the control plane runs, and the network between (`control.endpoints`)";
        if is_any {
            report.warn("control plane", trouble, remedy);
        } else {
            report.error("control plane", trouble, remedy);
        }
    }
}
