//! What goes over the connections to a control plane's port, as the kernel counts it.

use std::process::Command;

use anyhow::{Context, ensure};

/// Over all connections to some ports, as the nodes see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    pub connections: usize,
    /// Bytes of TCP's payload, both ways.
    pub bytes: f64,
    /// TCP segments, both ways, acknowledgements included.
    pub segments: f64,
}

/// What has gone so far over the connections that are open now.
pub fn count(ports: &[u16]) -> anyhow::Result<Wire> {
    let mut wire = Wire::default();
    for port in ports {
        let filter = format!("dport = :{port}");
        let output = Command::new("ss").args(["-tinHO", "state", "established", &filter]).output();
        let output = output.context("ss of the package iproute2")?;
        ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        wire.connections += text.lines().count();
        for word in text.split_whitespace() {
            match word.split_once(':') {
                Some(("bytes_sent" | "bytes_received", number)) => wire.bytes += number.parse::<f64>()?,
                Some(("segs_out" | "segs_in", number)) => wire.segments += number.parse::<f64>()?,
                _ => {}
            }
        }
    }
    Ok(wire)
}
