//! The configuration files of the children, as an operator would write them.

use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

use super::plan::{self, ControlAddresses, NodePlan};
use crate::certs::CertFiles;

/// `control.toml`
pub fn control(data: &Path, at: &ControlAddresses, ca: &Path, certs: &CertFiles) -> String {
    toml([
        ("data", vec![("dir", path(data))]),
        ("api", vec![("listen", address(at.api))]),
        ("admin", vec![("listen", address(at.admin))]),
        ("console", vec![("listen", address(at.console)), ("pops", Value::Array(pops().collect()))]),
        (
            "grpc",
            vec![
                ("listen", address(at.grpc)),
                ("ca", path(ca)),
                ("cert", path(&certs.cert)),
                ("key", path(&certs.key)),
            ],
        ),
        ("metrics", vec![("listen", address(at.metrics))]),
    ])
}

/// The PoPs on the console's map.
fn pops() -> impl Iterator<Item = Value> {
    plan::places().map(|(name, latitude, longitude)| {
        let keys = [
            ("name", text(name)),
            ("latitude", Value::Float(latitude)),
            ("longitude", Value::Float(longitude)),
        ];
        Value::Table(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    })
}

/// `proxy.toml` of one node. Without a lease it asks the origin before it serves, so that the proof can be tried by hand.
pub fn proxy(
    node: &NodePlan,
    state: &Path,
    grpc: SocketAddr,
    origin: SocketAddr,
    ca: &Path,
    certs: &CertFiles,
) -> String {
    toml([
        ("node", vec![("pop", text(node.name.pop())), ("node", text(node.name.node()))]),
        (
            "control",
            vec![
                ("endpoints", Value::Array(vec![text(&format!("https://{grpc}"))])),
                ("ca", path(ca)),
                ("cert", path(&certs.cert)),
                ("key", path(&certs.key)),
            ],
        ),
        ("state", vec![("dir", path(state))]),
        ("lease", vec![("on_lease_lost", text("revalidate"))]),
        ("metrics", vec![("listen", address(node.metrics))]),
        ("proxy", vec![("listen", address(node.proxy)), ("origin", text(&format!("http://{origin}")))]),
    ])
}

fn toml<const N: usize>(sections: [(&str, Vec<(&str, Value)>); N]) -> String {
    let table: Table = sections
        .into_iter()
        .map(|(name, keys)| {
            let keys: Table = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            (name.to_owned(), Value::Table(keys))
        })
        .collect();
    table.to_string()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn path(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

fn address(address: SocketAddr) -> Value {
    Value::String(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_quotes_in_its_name_stays_in_its_string() {
        let at: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let addresses = ControlAddresses { api: at, admin: at, console: at, grpc: at, metrics: at };
        let files = CertFiles { cert: "/c.pem".into(), key: "/c.key".into() };
        let data = Path::new("/tmp/a \"b\"\nc");
        let table: Table = control(data, &addresses, Path::new("/ca.pem"), &files).parse().unwrap();
        assert_eq!(table["data"]["dir"].as_str(), data.to_str());
        assert_eq!(table["grpc"]["key"].as_str(), Some("/c.key"));
    }
}
