use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::{ClientCertificates, TlsFiles};

#[test]
fn when_too_many_are_silent_the_one_that_was_silent_longest_goes() {
    let mut silent = Silent::default();
    let (first, mut oldest) = silent.wait();
    let (second, mut next) = silent.wait();
    silent.spoke(first);
    assert!(oldest.try_recv().is_err());
    let _others: Vec<_> = (0..SILENT_MAX).map(|_| silent.wait()).collect();
    assert_eq!(next.try_recv(), Ok(()), "the one that spoke was not in the way any more");
    silent.spoke(second);
    assert_eq!(silent.waiting.len(), SILENT_MAX);
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn write(path: &Path, text: &str) {
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A listener with an authority of its own, and what became of the one connection that it accepts.
async fn listen(authority: &Authority) -> (SocketAddr, tokio::task::JoinHandle<HandshakeTrouble>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = issue(authority, |params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let file = |name: &str| dir.path().join(name);
    write(&file("ca.pem"), &authority.pem());
    write(&file("cert.pem"), &cert);
    write(&file("key.pem"), &key);
    let files = TlsFiles {
        cert: file("cert.pem"),
        key: file("key.pem"),
        clients: ClientCertificates::Required(file("ca.pem")),
        alpn: vec![b"h2".to_vec()],
    };
    let tls = Tls::load("grpc", files).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let handshakes = Handshakes::new("grpc");
        let (socket, peer) = listener.accept().await.unwrap();
        let patience = Duration::from_secs(60);
        match handshakes.try_to_shake(&tls, socket, peer.ip(), false, patience).await {
            Err(failed) => failed.trouble(),
            Ok(mut stream) => {
                // The client may have something against us only once it has heard of us.
                let read = stream.read(&mut [0; 16]).await;
                HandshakeTrouble::of_io(&read.expect_err("the client was let in"), OurEnd::Server)
            }
        }
    });
    (address, served)
}

/// What a client with this certificate, and this authority that it trusts, comes to.
async fn outcome(
    ours: &Authority,
    trusted: &Authority,
    identity: Option<(String, String)>,
) -> HandshakeTrouble {
    let (address, served) = listen(ours).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    if let Ok(mut stream) = connector.connect(name, socket).await {
        // Until the server has said what it thinks.
        let _ = stream.read(&mut [0; 16]).await;
    }
    served.await.unwrap()
}

fn hours(from: i64, until: i64) -> impl FnOnce(&mut CertificateParams) {
    let at = |hours: i64| {
        let by = Duration::from_secs(hours.unsigned_abs() * 3_600);
        if hours < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    };
    move |params| {
        params.not_before = at(from).into();
        params.not_after = at(until).into();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_a_handshake_fails_is_told_apart_with_its_remedy() {
    let (ours, theirs) = (authority(), authority());
    let serving = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let cases = [
        (&ours, None, HandshakeReason::NoCertificate, "control.cert"),
        (&ours, Some(issue(&ours, hours(-48, -3))), HandshakeReason::Expired, "ended 3 h"),
        (&ours, Some(issue(&ours, hours(5, 48))), HandshakeReason::NotYetValid, "valid only in"),
        (&ours, Some(issue(&theirs, |_| {})), HandshakeReason::UnknownAuthority, "not trusted here"),
        (&ours, Some(issue(&ours, serving)), HandshakeReason::WrongPurpose, "certs issue --node"),
        (&theirs, Some(issue(&ours, |_| {})), HandshakeReason::Refused, "does not trust its authority"),
    ];
    for (trusted, identity, reason, words) in cases {
        let trouble = outcome(&ours, trusted, identity).await;
        assert_eq!(trouble.reason, reason, "{trouble}");
        assert!(trouble.to_string().contains(words), "{words} in {trouble}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_at_all_is_told_apart_too() {
    let ours = authority();
    let (address, served) = listen(&ours).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let trouble = served.await.unwrap();
    assert_eq!(trouble.reason, HandshakeReason::NotTls, "{trouble}");

    let (address, served) = listen(&ours).await;
    drop(TcpStream::connect(address).await.unwrap());
    let trouble = served.await.unwrap();
    assert_eq!(trouble.reason, HandshakeReason::Closed, "{trouble}");
}
