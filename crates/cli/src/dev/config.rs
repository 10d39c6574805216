//! The configuration files of the children, as an operator would write them.

use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

use super::plan::{self, ControlAddresses, MemberPlan, NodePlan};
use crate::certs::CertFiles;

/// What makes a control plane one of several.
pub struct Among<'a> {
    /// Which it is, from 1 on.
    pub id: u16,
    /// How many there are.
    pub replicas: u16,
    /// The members of etcd.
    pub members: &'a [MemberPlan],
}

/// `control.toml`
pub fn control(
    data: &Path,
    at: &ControlAddresses,
    ca: &Path,
    certs: &CertFiles,
    among: Option<&Among<'_>>,
) -> String {
    let mut sections = vec![
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
    ];
    if let Some(among) = among {
        let members = among.members.iter().map(|member| text(&format!("http://{}", member.client)));
        let etcd = Table::from_iter([("endpoints".to_owned(), Value::Array(members.collect()))]);
        sections.push(("store", vec![("engine", text("etcd")), ("etcd", Value::Table(etcd))]));
        let initial = (1..=among.replicas).map(|id| Value::Integer(id.into()));
        sections.push((
            "replica",
            vec![
                ("id", Value::Integer(among.id.into())),
                ("initial", Value::Array(initial.collect())),
                ("advertise", text(&format!("https://{}", at.grpc))),
            ],
        ));
    }
    toml(sections)
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
    grpc: &[SocketAddr],
    origin: SocketAddr,
    ca: &Path,
    certs: &CertFiles,
) -> String {
    toml([
        ("node", vec![("pop", text(node.name.pop())), ("node", text(node.name.node()))]),
        (
            "control",
            vec![
                (
                    "endpoints",
                    Value::Array(grpc.iter().map(|grpc| text(&format!("https://{grpc}"))).collect()),
                ),
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

fn toml<'a>(sections: impl IntoIterator<Item = (&'a str, Vec<(&'a str, Value)>)>) -> String {
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
        let table: Table = control(data, &addresses, Path::new("/ca.pem"), &files, None).parse().unwrap();
        assert_eq!(table["data"]["dir"].as_str(), data.to_str());
        assert_eq!(table["grpc"]["key"].as_str(), Some("/c.key"));
        assert!(!table.contains_key("replica"), "alone it needs none of that");
    }

    #[test]
    fn several_share_their_etcd_and_are_told_who_they_are() {
        let at: SocketAddr = "127.0.0.1:4001".parse().unwrap();
        let addresses = ControlAddresses { api: at, admin: at, console: at, grpc: at, metrics: at };
        let files = CertFiles { cert: "/c.pem".into(), key: "/c.key".into() };
        let members = [MemberPlan { client: at, peer: at }];
        let among = Among { id: 2, replicas: 3, members: &members };
        let text = control(Path::new("/d"), &addresses, Path::new("/ca.pem"), &files, Some(&among));
        let table: Table = text.parse().unwrap();
        assert_eq!(table["store"]["etcd"]["endpoints"][0].as_str(), Some("http://127.0.0.1:4001"));
        assert_eq!(table["replica"]["id"].as_integer(), Some(2));
        assert_eq!(table["replica"]["initial"].as_array().map(Vec::len), Some(3));
        assert_eq!(table["replica"]["advertise"].as_str(), Some("https://127.0.0.1:4001"));
    }
}
