//! Certificates for a control plane and so many nodes.

use std::path::Path;

use batoff_types::NodeName;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};

use super::purge_stream::node_name;

/// The authority's certificate, the control plane's and its key, in the folder.
pub const AUTHORITY: &str = "ca.pem";
pub const CONTROL: [&str; 2] = ["control.pem", "control.key"];

/// The name in the control plane's.
pub const HOST: &str = "localhost";

/// A node's certificate.
pub fn cert_of(node: &NodeName) -> String {
    format!("{}-{}.pem", node.pop(), node.node())
}

/// A node's key.
pub fn key_of(node: &NodeName) -> String {
    format!("{}-{}.key", node.pop(), node.node())
}

/// Writes all of them.
pub fn issue(folder: &Path, nodes: usize) -> anyhow::Result<()> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    std::fs::write(folder.join(AUTHORITY), authority.pem())?;
    let write = |[cert, key]: [&str; 2], name, usage| -> anyhow::Result<()> {
        let own = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        std::fs::write(folder.join(cert), params.signed_by(&own, &authority)?.pem())?;
        std::fs::write(folder.join(key), own.serialize_pem())?;
        Ok(())
    };
    write(CONTROL, SanType::DnsName(HOST.try_into()?), ExtendedKeyUsagePurpose::ServerAuth)?;
    for number in 0..nodes {
        let node = node_name(number)?;
        let name = SanType::URI(node.spiffe_uri().try_into()?);
        write([&cert_of(&node), &key_of(&node)], name, ExtendedKeyUsagePurpose::ClientAuth)?;
    }
    Ok(())
}
