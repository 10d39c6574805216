use std::fs;
use std::path::Path;

use batoff_types::message::{FromNode, LeasePolicy, ToNode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::node::{Intro, Node};
use super::plane::Plane;

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key for these names.
pub(super) fn issue(authority: &Authority, names: Vec<SanType>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.subject_alt_names = names;
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(super) fn write_server(dir: &Path, authority: &Authority) {
    let localhost = SanType::DnsName("localhost".try_into().unwrap());
    let (cert, key) = issue(authority, vec![localhost]);
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    fs::write(dir.join("cert.pem"), cert).unwrap();
    fs::write(dir.join("key.pem"), key).unwrap();
}

/// A control plane with an authority of its own, with these lines in `[grpc]`.
pub(super) async fn secured(more: &str) -> (Authority, Plane) {
    let authority = authority();
    let (plane, _) = plane_with(&authority, more).await;
    (authority, plane)
}

/// A connection with the certificate of a node.
pub(super) async fn channel_of(
    plane: &Plane,
    authority: &Authority,
    node: &str,
) -> Result<Channel, tonic::transport::Error> {
    channel(plane, authority, Some(issue(authority, vec![spiffe(node)]))).await
}

/// What a node hears to its `Hello`.
pub(super) async fn hello_of(
    plane: &Plane,
    authority: &Authority,
    node: &str,
) -> Result<ToNode, tonic::Status> {
    let channel = channel_of(plane, authority, node)
        .await
        .map_err(|error| tonic::Status::unknown(error.to_string()))?;
    let intro = Intro::new(node, LeasePolicy::Serve);
    let mut node = Node::open_over(channel, &intro).await?;
    node.say(FromNode::Hello(intro.hello()));
    node.receive().await.map(Option::unwrap)
}

fn spiffe(node: &str) -> SanType {
    let (pop, node) = node.split_once('/').unwrap();
    uri(&format!("spiffe://batoff/pop/{pop}/node/{node}"))
}

async fn plane(authority: &Authority) -> (Plane, std::path::PathBuf) {
    plane_with(authority, "").await
}

async fn plane_with(authority: &Authority, more: &str) -> (Plane, std::path::PathBuf) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = TempDir::new().unwrap();
    write_server(dir.path(), authority);
    let file = |name: &str| dir.path().join(name);
    let grpc = format!(
        "ca = {:?}\ncert = {:?}\nkey = {:?}\n{more}",
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    );
    let path = dir.path().to_owned();
    (Plane::start_in(dir, &grpc, "").await, path)
}

async fn channel(
    plane: &Plane,
    authority: &Authority,
    identity: Option<(String, String)>,
) -> Result<Channel, tonic::transport::Error> {
    let address = plane.running().addresses.grpc;
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    if let Some((cert, key)) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect().await
}

/// Says `Hello` as `fra1/edge-1` with a certificate for these names; what comes back.
async fn hello(plane: &Plane, authority: &Authority, names: Vec<SanType>) -> Result<ToNode, tonic::Status> {
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Serve);
    let channel = channel(plane, authority, Some(issue(authority, names))).await.unwrap();
    let mut node = Node::open_over(channel, &intro).await?;
    node.say(FromNode::Hello(intro.hello()));
    node.receive().await.map(Option::unwrap)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_who_its_certificate_says() {
    let authority = authority();
    let (plane, _) = plane(&authority).await;
    let welcome = hello(&plane, &authority, vec![uri("spiffe://batoff/pop/fra1/node/edge-1")]).await;
    assert!(matches!(welcome, Ok(ToNode::Welcome(_))), "{welcome:?}");

    let other =
        hello(&plane, &authority, vec![uri("spiffe://batoff/pop/fra1/node/edge-2")]).await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
    assert!(other.message().contains("fra1/edge-1") && other.message().contains("fra1/edge-2"), "{other}");

    for names in [
        vec![SanType::DnsName("edge-1".try_into().unwrap())],
        vec![uri("spiffe://elsewhere/pop/fra1/node/edge-1")],
        vec![uri("spiffe://batoff/pop/fra1/node/edge-1"), uri("spiffe://batoff/pop/fra1/node/edge-2")],
    ] {
        let nameless = hello(&plane, &authority, names).await.unwrap_err();
        assert_eq!(nameless.code(), Code::PermissionDenied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_the_authority_nobody_gets_in() {
    let (ours, theirs) = (authority(), authority());
    let (plane, _) = plane(&ours).await;
    let name = || vec![uri("spiffe://batoff/pop/fra1/node/edge-1")];
    for identity in [None, Some(issue(&theirs, name()))] {
        // In TLS 1.3 the client learns of it at its first call.
        let intro = Intro::new("fra1/edge-1", LeasePolicy::Serve);
        let refused = match channel(&plane, &ours, identity).await {
            Err(_) => true,
            Ok(channel) => match Node::open_over(channel, &intro).await {
                Err(_) => true,
                Ok(mut node) => node.end().await.is_err(),
            },
        };
        assert!(refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reloaded_certificates_are_used_and_unusable_ones_are_not() {
    let (old, new) = (authority(), authority());
    let (plane, dir) = plane(&old).await;
    let name = || vec![uri("spiffe://batoff/pop/fra1/node/edge-1")];
    fs::write(dir.join("cert.pem"), "not a certificate").unwrap();
    plane.running().reload();
    assert!(hello(&plane, &old, name()).await.is_ok());
    write_server(&dir, &new);
    plane.running().reload();
    assert!(hello(&plane, &new, name()).await.is_ok());
    assert!(channel(&plane, &old, Some(issue(&old, name()))).await.is_err());
}

/// Opens a stream as `fra1/edge-1`, and hears the first answer.
async fn open_as(
    plane: &Plane,
    authority: &Authority,
    identity: (String, String),
) -> Result<Node, tonic::Status> {
    let intro = Intro::new("fra1/edge-1", LeasePolicy::Serve);
    let channel = channel(plane, authority, Some(identity)).await.unwrap();
    let mut node = Node::open_over(channel, &intro).await?;
    node.say(FromNode::Hello(intro.hello()));
    node.receive().await?;
    Ok(node)
}

fn serial_of(pem: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    pem.parse_x509().unwrap().raw_serial_as_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_revoked_ends_its_stream_and_opens_none() {
    let (authority, dir) = (authority(), TempDir::new().unwrap());
    let list = dir.path().join("revoked");
    fs::write(&list, "# nobody yet\n").unwrap();
    let (plane, _) = plane_with(&authority, &format!("revoked = {list:?}\n")).await;
    let name = || vec![spiffe("fra1/edge-1")];

    // By serial: that one alone.
    let stolen = issue(&authority, name());
    let mut node = open_as(&plane, &authority, stolen.clone()).await.unwrap();
    fs::write(&list, format!("serial {} # stolen\n", serial_of(&stolen.0))).unwrap();
    let ended = node.end().await.unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert!(ended.message().contains("was revoked (`serial "), "{ended}");
    let refused = open_as(&plane, &authority, stolen).await.err().unwrap();
    assert!(refused.message().contains("issue another one"), "{refused}");

    // By name: every one.
    let mut node = open_as(&plane, &authority, issue(&authority, name())).await.unwrap();
    fs::write(&list, "node fra1/edge-1\n").unwrap();
    let ended = node.end().await.unwrap_err();
    assert!(ended.message().contains("`node fra1/edge-1`"), "{ended}");
    assert!(open_as(&plane, &authority, issue(&authority, name())).await.is_err());

    // What cannot be read changes nothing; an empty list lets everybody in again.
    fs::write(&list, "nodes fra1/edge-1\n").unwrap();
    tokio::time::sleep(3 * batoff_program::certificates::LOOK_EVERY).await;
    assert!(open_as(&plane, &authority, issue(&authority, name())).await.is_err());
    fs::write(&list, "").unwrap();
    let deadline = tokio::time::Instant::now() + super::plane::PATIENCE;
    while let Err(status) = open_as(&plane, &authority, issue(&authority, name())).await {
        assert!(tokio::time::Instant::now() < deadline, "{status}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
