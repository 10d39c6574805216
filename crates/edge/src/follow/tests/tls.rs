use std::fs;
use std::time::SystemTime;

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
        self.leaf_within(names, uri, -1, 24)
    }

    /// Good from so many hours after now to so many.
    fn leaf_within(&self, names: &[&str], uri: Option<&str>, from: i64, until: i64) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = hours(from).into();
        params.not_after = hours(until).into();
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn hours(after: i64) -> SystemTime {
    let by = Duration::from_secs(after.unsigned_abs() * 3_600);
    if after < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
}

async fn control_plane(authority: &Authority) -> ControlPlane {
    control_plane_with(authority, authority.leaf(&["control.batoff.test"], None)).await
}

async fn control_plane_with(authority: &Authority, (cert, key): (String, String)) -> ControlPlane {
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
        feeds: crate::config::FeedsSetting::default(),
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

#[tokio::test]
async fn files_that_change_are_taken_up_by_themselves_and_bad_ones_take_no_good_ones_place() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    fs::write(dir.path().join("ca.pem"), &authority.1).unwrap();
    write_identity(dir.path(), &authority);
    let mut control = control_plane(&authority).await;
    let config = secure(dir.path(), &control, "control.batoff.test");
    let node = DaemonConfig::open::<()>(config, IndexConfig::default()).unwrap().start(Vec::new());
    let mut stream = control.welcome(3).await;

    // The key of another one: a new stream is opened with what was good.
    fs::write(dir.path().join("key.pem"), authority.leaf(&[], None).1).unwrap();
    node.reload();
    stream.send(records(4..=4)).await;
    stream.until_cursor(4).await;
    drop(stream);
    let mut stream = control.welcome(0).await;
    assert_eq!(stream.hello.position.unwrap().cursor, Cursor::new(4));

    // One that has ended is no better.
    let (cert, key) = authority.leaf_within(&[], Some("spiffe://batoff/pop/fra1/node/edge-1"), -48, -1);
    fs::write(dir.path().join("cert.pem"), cert).unwrap();
    fs::write(dir.path().join("key.pem"), key).unwrap();
    node.reload();
    stream.send(records(5..=5)).await;
    stream.until_cursor(5).await;

    // Nobody says that these are there.
    write_identity(dir.path(), &authority);
    stream.until_end().await;
    let stream = control.welcome(0).await;
    assert_eq!(stream.hello.position.unwrap().cursor, Cursor::new(5));
}

#[tokio::test]
async fn a_node_says_why_it_does_not_speak_to_a_control_plane_and_what_helps() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authority = Authority::new();
    let name = ["control.batoff.test"];
    for (server, words) in [
        (authority.leaf_within(&name, None, -48, -3), ["ended 3 h", "certs renew"]),
        (authority.leaf_within(&name, None, 5, 48), ["is valid only in", "NTP"]),
        (
            authority.leaf(&["elsewhere.batoff.test"], None),
            ["not for control.batoff.test", "control.server_name"],
        ),
        (Authority::new().leaf(&name, None), ["not trusted here", "control.ca"]),
    ] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("ca.pem"), &authority.1).unwrap();
        write_identity(dir.path(), &authority);
        let control = control_plane_with(&authority, server).await;
        let config = secure(dir.path(), &control, "control.batoff.test");
        let node = DaemonConfig::open::<()>(config, IndexConfig::default()).unwrap().start(Vec::new());
        until(|| node.ready().unwrap_err().contains("cannot connect")).await;
        let reason = node.ready().unwrap_err();
        assert!(words.iter().all(|words| reason.contains(words)), "{words:?} in {reason}");
    }
}

#[tokio::test]
async fn a_node_whose_certificate_is_refused_says_so() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (cert, words) in [
        (ours.leaf_within(&[], Some("spiffe://batoff/pop/fra1/node/edge-1"), -48, -3), "it has ended"),
        (theirs.leaf(&[], Some("spiffe://batoff/pop/fra1/node/edge-1")), "does not trust its authority"),
    ] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("ca.pem"), &ours.1).unwrap();
        fs::write(dir.path().join("cert.pem"), cert.0).unwrap();
        fs::write(dir.path().join("key.pem"), cert.1).unwrap();
        let control = control_plane(&ours).await;
        let config = secure(dir.path(), &control, "control.batoff.test");
        let node = DaemonConfig::open::<()>(config, IndexConfig::default()).unwrap().start(Vec::new());
        until(|| node.ready().unwrap_err().contains("refuses this node's certificate")).await;
        let reason = node.ready().unwrap_err();
        assert!(reason.contains(words), "{words} in {reason}");
    }
}
