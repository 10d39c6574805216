use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::*;

struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    fn leaf(&self, names: &[&str], uri: Option<&str>) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

async fn control_plane(authority: &Authority) -> ControlPlane {
    let (cert, key) = authority.leaf(&["control.batoff.test"], None);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(&authority.1));
    ControlPlane::with_tls(Some(tls)).await
}

fn write_identity(dir: &Path, authority: &Authority) {
    let (cert, key) = authority.leaf(&[], Some("spiffe://batoff/pop/fra1/node/edge-1"));
    fs::write(dir.join("cert.pem"), cert).unwrap();
    fs::write(dir.join("key.pem"), key).unwrap();
}

fn secure(dir: &Path, control: &ControlPlane, server_name: &str) -> DaemonConfig {
    let mut config = config(&dir.join("state"), &[], LeasePolicy::Serve);
    config.control = ControlSection {
        endpoints: vec![format!("https://{}", control.address)],
        ca: Some(dir.join("ca.pem")),
        cert: Some(dir.join("cert.pem")),
        key: Some(dir.join("key.pem")),
        server_name: Some(server_name.to_owned()),
        plaintext: false,
    };
    config
}

#[tokio::test]
async fn a_node_proves_who_it_is_and_reads_renewed_certificates_on_reload() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    fs::write(dir.path().join("ca.pem"), &authority.1).unwrap();
    write_identity(dir.path(), &authority);
    let mut control = control_plane(&authority).await;
    let config = secure(dir.path(), &control, "control.batoff.test");
    let node = DaemonConfig::open::<()>(config, IndexConfig::default()).unwrap().start(Vec::new());
    let mut stream = control.welcome(3).await;

    // A file that cannot be read changes nothing.
    fs::rename(dir.path().join("cert.pem"), dir.path().join("old.pem")).unwrap();
    node.reload();
    stream.send(records(4..=4)).await;
    stream.until_cursor(4).await;

    write_identity(dir.path(), &authority);
    node.reload();
    stream.until_end().await;
    let stream = control.welcome(0).await;
    assert_eq!(stream.hello.position.unwrap().cursor, Cursor::new(4));
}

#[tokio::test]
async fn a_control_plane_with_another_name_or_authority_is_not_spoken_to() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for (server_name, foreign) in [("other.batoff.test", false), ("control.batoff.test", true)] {
        let dir = TempDir::new().unwrap();
        let authority = Authority::new();
        let trusted = if foreign { Authority::new().1 } else { authority.1.clone() };
        fs::write(dir.path().join("ca.pem"), trusted).unwrap();
        write_identity(dir.path(), &authority);
        let control = control_plane(&authority).await;
        let config = secure(dir.path(), &control, server_name);
        let node = DaemonConfig::open::<()>(config, IndexConfig::default()).unwrap().start(Vec::new());
        until(|| node.ready().unwrap_err().contains("cannot connect")).await;
        let reason = node.ready().unwrap_err();
        assert!(reason.contains("certificate"), "{reason}");
    }
}
