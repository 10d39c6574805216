use std::fs;
use std::process::Command;
use std::time::Duration;

use batoff_log::Store;
use batoff_log::conformance::ManualClock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;

use super::{append_one, everything, record};
use crate::testing::{EtcdServers, EtcdSettings, EtcdTlsFiles};
use crate::{EtcdConfig, EtcdOpenError, EtcdStore, EtcdUser};

/// An authority, and a certificate of its for members on the loopback, which also says who their client is.
fn certificates(dir: &TempDir) -> EtcdTlsFiles {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let certificate = params.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    EtcdTlsFiles {
        ca: write("ca.pem", authority.pem()),
        certificate: write("cert.pem", certificate.pem()),
        key: write("key.pem", key.serialize_pem()),
    }
}

async fn refusal(config: EtcdConfig) -> String {
    match EtcdStore::open(config).await {
        Ok(_) => panic!("it was opened"),
        Err(error @ EtcdOpenError::Etcd(_)) => error.to_string(),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_clients_show_one_another_their_certificates() {
    let dir = TempDir::new().unwrap();
    let files = certificates(&dir);
    let settings = EtcdSettings { tls: Some(files.clone()), ..EtcdSettings::default() };
    let servers = EtcdServers::start_with(3, settings).await;
    let clock = ManualClock::default();
    let mut config = servers.config(clock.clock());
    assert!(config.endpoints[0].starts_with("https://"));
    config.tls = Some(files.read());
    let store = EtcdStore::open(config.clone()).await.unwrap();
    append_one(&store, record("x")).await;
    assert_eq!(everything(store.log()).await.len(), 1);

    let mut nameless = config.clone();
    nameless.tls = nameless.tls.map(|tls| crate::EtcdTls { client_pem: None, ..tls });
    refusal(nameless).await;
    let stranger = TempDir::new().unwrap();
    config.tls = Some(certificates(&stranger).read());
    let told = refusal(config).await;
    assert!(told.contains("certificate"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_signs_in_and_sees_the_prefix() {
    // Tokens of a second, so that signing in again is part of the story.
    let arguments = ["--auth-token-ttl", "1"].map(str::to_owned).to_vec();
    let mut servers = EtcdServers::start(1).await;
    let endpoint = servers.endpoints()[0].clone();
    let etcdctl = |arguments: &[&str]| {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoint])
            .args(arguments)
            .output()
            .expect("etcdctl runs; install it (apt-get install etcd-client) or use tests/run");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    etcdctl(&["user", "add", "root:secret"]);
    etcdctl(&["user", "grant-role", "root", "root"]);
    etcdctl(&["user", "add", "batoff:quite secret"]);
    etcdctl(&["role", "add", "purges"]);
    etcdctl(&["role", "grant-permission", "purges", "--prefix=true", "readwrite", "batoff/"]);
    etcdctl(&["user", "grant-role", "batoff", "purges"]);
    etcdctl(&["auth", "enable"]);

    let clock = ManualClock::default();
    let mut config = servers.config(clock.clock());
    let told = refusal(config.clone()).await;
    assert!(told.contains("user name is empty"), "{told}");
    let user = |password: &str| Some(EtcdUser { name: "batoff".to_owned(), password: password.to_owned() });
    config.user = user("wrong");
    let told = refusal(config.clone()).await;
    assert!(told.contains("authentication failed"), "{told}");
    config.user = user("quite secret");
    // Compacting is for root.
    config.compact_after = None;
    let store = EtcdStore::open(config.clone()).await.unwrap();
    append_one(&store, record("x")).await;
    // With another process its tokens are worth nothing; the store signs in again.
    servers.kill(0);
    servers.set_arguments(arguments);
    servers.restart(0);
    // Which member leads is told to root alone, by releases that are recent.
    let is_back = async {
        while store.log().state().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_back).await.expect("the member is there again");
    append_one(&store, record("y")).await;
    assert_eq!(everything(store.log()).await.len(), 2);
    config.prefix = "elsewhere/".to_owned();
    let told = refusal(config).await;
    assert!(told.contains("permission denied"), "{told}");
}
