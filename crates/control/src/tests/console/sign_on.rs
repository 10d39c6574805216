//! A proxy signs people in, and is known by its certificate: over real TLS, with clients that pretend to be it.

use std::sync::Arc;

use batoff_types::UnixMillis;
use rcgen::SanType;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::plane::{PATIENCE, Plane};
use super::super::tls::{Authority, authority, issue, write_server};
use crate::audit::{AuditEntry, AuditFilter, LISTED_MAX};

/// As the proxy's certificate has it, but for the case.
const PROXY: &str = "SSO.example.net";

const GROUPS: &str = "groups = [{ group = 'ops', role = 'operator' }, { group = 'web', role = 'manager', sites = ['shop'] }, \
                      { group = 'guests', role = 'viewer', sites = ['blog'] }]";

/// A control plane whose console is behind the proxy, and the authority of both.
struct Behind {
    plane: Plane,
    authority: Authority,
}

/// Certificate and key.
type Shown = Option<(String, String)>;

impl Behind {
    /// With these lines in `[console.proxy]`.
    async fn with(lines: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (authority, dir) = (authority(), TempDir::new().unwrap());
        write_server(dir.path(), &authority);
        let file = |name: &str| dir.path().join(name);
        let console = format!(
            "cert = {:?}\nkey = {:?}\n[console.proxy]\nca = {:?}\nname = '{PROXY}'\n{GROUPS}\n{lines}",
            file("cert.pem"),
            file("key.pem"),
            file("ca.pem")
        );
        let plane = Plane::start_with_console(dir, console).await;
        plane.change("blog", Some(&["blog.example.org"])).await;
        Self { plane, authority }
    }

    fn certificate(&self, name: &str) -> Shown {
        let name = match name.contains("://") {
            true => SanType::URI(name.try_into().unwrap()),
            false => SanType::DnsName(name.try_into().unwrap()),
        };
        Some(issue(&self.authority, vec![name]))
    }

    fn of_proxy(&self) -> Shown {
        self.certificate("sso.example.net")
    }

    async fn connect(&self, shown: Shown) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match shown {
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let socket = TcpStream::connect(self.plane.running().addresses.console).await?;
        let host = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(host, socket).await
    }

    /// The whole answer to a request with these lines in its head; empty when the connection was ended.
    async fn ask(&self, shown: Shown, request: &str, lines: &[&str], body: &str) -> String {
        let Ok(mut stream) = self.connect(shown).await else { return String::new() };
        let head = format!(
            "{request} HTTP/1.1\r\nhost: console.example\r\nconnection: close\r\n{}content-length: {}\r\n\r\n{body}",
            lines.iter().map(|line| format!("{line}\r\n")).collect::<String>(),
            body.len()
        );
        let mut answer = Vec::new();
        if stream.write_all(head.as_bytes()).await.is_ok() {
            // An end without a farewell is an end.
            let _ = stream.read_to_end(&mut answer).await;
        }
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, shown: Shown, path: &str, lines: &[&str]) -> String {
        self.ask(shown, &format!("GET {path}"), lines, "").await
    }

    async fn post(&self, shown: Shown, path: &str, lines: &[&str], body: &str) -> String {
        let own = ["sec-fetch-site: same-origin", "content-type: application/x-www-form-urlencoded"];
        let lines: Vec<&str> = own.iter().chain(lines).copied().collect();
        self.ask(shown, &format!("POST {path}"), &lines, body).await
    }

    /// Actor, action, object, result and what of the audit log, the oldest first.
    async fn told(&self) -> Vec<String> {
        let audit = &self.plane.services().audit;
        audit.flush().await.unwrap();
        let page = audit.list(&AuditFilter::default(), None, LISTED_MAX).await.unwrap();
        let entries = page.entries.iter().rev().map(|entry| {
            let entry: AuditEntry = serde_json::from_str(entry.as_str()).unwrap();
            let [object, code, what] = [entry.object, entry.code, entry.what].map(Option::unwrap_or_default);
            let line = format!("{} {} {object} {} {code} {what}", entry.actor, entry.action, entry.result);
            line.trim_end().to_owned()
        });
        entries.collect()
    }
}

#[track_caller]
fn is_at_sign_in(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 303 ") && answer.contains("location: /sign-in"), "{answer}");
}

#[track_caller]
fn is_refused(answer: &str, why: &str) {
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains(why), "{answer}");
}

const ANNA: [&str; 2] = ["X-Forwarded-User: Anna@example.com", "X-Forwarded-Groups: staff, web ,guests"];

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_proxy_names_is_signed_in_and_may_what_the_groups_may() {
    let behind = Behind::with("sign_out_url = 'https://sso.example.net/out'").await;
    let page = behind.get(behind.of_proxy(), "/purges", &ANNA).await;
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("anna@example.com</a>"), "{page}");
    assert!(page.contains("form-action 'self' https://sso.example.net;"), "{page}");
    let account = behind.get(behind.of_proxy(), "/account", &ANNA).await;
    for said in ["sso.example.net", "manager: ", "<dd>shop</dd>", "viewer: ", "<dd>blog</dd>"] {
        assert!(account.contains(said), "{said}: {account}");
    }
    assert!(!account.contains("type=\"password\""), "there is no password to change here");
    is_refused(&behind.get(behind.of_proxy(), "/nodes", &ANNA).await, "does not allow this");
    let secret = "present=a&new=b&repeat=b";
    is_refused(
        &behind.post(behind.of_proxy(), "/account/password", &ANNA, secret).await,
        "does not allow this",
    );

    let key = ulid::Ulid::generate();
    let form = |site: &str| format!("key={key}&site={site}&label=ci&may=purge&ends=");
    let issued = behind.post(behind.of_proxy(), "/tokens", &ANNA, &form("shop")).await;
    assert!(issued.starts_with("HTTP/1.1 200 ") && issued.contains("bts_live_"), "{issued}");
    is_refused(&behind.post(behind.of_proxy(), "/tokens", &ANNA, &form("blog")).await, "does not allow this");

    let out = behind.post(behind.of_proxy(), "/sign-out", &ANNA, "").await;
    assert!(
        out.starts_with("HTTP/1.1 303 ") && out.contains("location: https://sso.example.net/out"),
        "{out}"
    );
    let again = behind.get(behind.of_proxy(), "/purges", &ANNA).await;
    assert!(again.starts_with("HTTP/1.1 200 "), "{again}");
    let more = ["x-forwarded-user: anna@example.com", "x-forwarded-groups: ops"];
    assert!(behind.get(behind.of_proxy(), "/nodes", &more).await.starts_with("HTTP/1.1 200 "));

    let token = issued.split("/tokens?site=shop#t-").nth(1).unwrap().split('"').next().unwrap();
    let told = behind.told().await;
    let mut of_anna: Vec<&str> =
        told.iter().filter_map(|line| line.strip_prefix("user:anna@example.com ")).collect();
    // What changed nothing is written down a little later.
    of_anna.sort_unstable();
    let through = "user.sign_in anna@example.com done  through sso.example.net:";
    let signed_in = format!("{through} manager of shop; viewer of blog");
    assert_eq!(
        of_anna,
        [
            format!("token.issue {token} done"),
            signed_in.clone(),
            signed_in,
            format!("{through} operator"),
            "user.sign_out anna@example.com done".to_owned(),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_anybody_else_are_as_if_they_were_absent() {
    let behind = Behind::with("").await;
    for shown in [
        None,
        behind.certificate("other.example.net"),
        behind.certificate("*.example.net"),
        behind.certificate("sso.example.net.evil.example"),
        behind.certificate("spiffe://batoff/pop/fra1/node/edge-1"),
        behind.certificate("spiffe://sso.example.net"),
    ] {
        is_at_sign_in(&behind.get(shown.clone(), "/purges", &ANNA).await);
        is_at_sign_in(
            &behind.post(shown.clone(), "/tokens", &ANNA, "site=shop&label=ci&may=purge&ends=").await,
        );
        let page = behind.get(shown, "/sign-in", &ANNA).await;
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("type=\"password\""), "{page}");
    }
    let foreign = issue(&authority(), vec![SanType::DnsName("sso.example.net".try_into().unwrap())]);
    assert_eq!(behind.get(Some(foreign), "/purges", &ANNA).await, "", "of another authority: no handshake");
    assert!(!behind.told().await.iter().any(|line| line.contains("anna")), "nobody has signed in");
    // Who knows a password signs in as ever, through the proxy too, as long as it names nobody.
    let form = format!("name=admin&password={}&code=&next=%2F", encoded(behind.plane.console_password()));
    for shown in [None, behind.of_proxy()] {
        let signed_in = behind.post(shown, "/sign-in", &[], &form).await;
        assert!(signed_in.contains("set-cookie: __Host-batoff="), "{signed_in}");
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_everybody_comes_through_the_proxy_who_comes_past_it_is_refused() {
    let behind = Behind::with("required = true").await;
    for (shown, lines) in
        [(None, &ANNA[..]), (None, &[]), (behind.certificate("other.example.net"), &ANNA[..])]
    {
        for path in ["/purges", "/sign-in", "/docs", "/nothing"] {
            is_refused(&behind.get(shown.clone(), path, lines).await, "This console is behind a sign-on");
        }
        let form = format!("name=admin&password={}&code=&next=%2F", encoded(behind.plane.console_password()));
        let refused = behind.post(shown, "/sign-in", lines, &form).await;
        is_refused(&refused, "by the proxy");
        assert!(!refused.contains("set-cookie: __Host-batoff="), "{refused}");
    }
    let style = format!("/assets/{}", crate::console::assets::NAMES.style);
    assert!(behind.get(None, &style, &[]).await.starts_with("HTTP/1.1 200 "), "the refusal has a style");
    assert!(behind.get(behind.of_proxy(), "/purges", &ANNA).await.starts_with("HTTP/1.1 200 "));
    is_at_sign_in(&behind.get(behind.of_proxy(), "/purges", &[]).await);
    let told = behind.told().await;
    assert!(told.iter().any(|line| line == "stranger user.sign_in  refused not_the_proxy"), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_is_refused() {
    let behind = Behind::with("").await;
    let user = "X-Forwarded-User: anna@example.com";
    for (lines, why) in [
        (&[user, "X-Forwarded-Groups: web", "X-Forwarded-User: root"][..], "comes more than once"),
        (&[user, user, "X-Forwarded-Groups: web"], "comes more than once"),
        (&[user, "X-Forwarded-Groups: web", "x-forwarded-groups: ops"], "comes more than once"),
        (&[user, "X-Forwarded-Groups: web", "X_Forwarded_User: root"], "another spelling"),
        (&[user, "X-Forwarded_Groups: ops"], "another spelling"),
        (&["X_Forwarded_User: root", "X_FORWARDED_GROUPS: ops"], "another spelling"),
        (&["X-Forwarded-User: anna@example.com, root", "X-Forwarded-Groups: ops"], "cannot call you"),
        (&["X-Forwarded-User: (null)", "X-Forwarded-Groups: ops"], "cannot call you"),
        (&["X-Forwarded-User: a\u{43d}na", "X-Forwarded-Groups: ops"], "cannot call you"),
        (&["X-Forwarded-User: admin", "X-Forwarded-Groups: ops"], "taken by an account"),
        (&[user, "X-Forwarded-Groups: staff,webmasters,OPS"], "You may not use this console"),
        (&[user], "You may not use this console"),
    ] {
        is_refused(&behind.get(behind.of_proxy(), "/purges", lines).await, why);
    }
    for lines in [&["X-Forwarded-User: "][..], &["X-Forwarded-Groups: ops"], &[]] {
        is_at_sign_in(&behind.get(behind.of_proxy(), "/purges", lines).await);
    }
    let told = behind.told().await;
    for code in ["not_certain", "bad_name", "has_account", "no_group"] {
        assert!(told.iter().any(|line| line.ends_with(code)), "{code}: {told:#?}");
    }
    assert!(!told.iter().any(|line| line.starts_with("user:")), "nobody has signed in: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_counts_for_nothing_beside_what_the_proxy_says() {
    let behind = Behind::with("").await;
    let accounts = &behind.plane.services().accounts;
    let first =
        accounts.sign_in("admin", behind.plane.console_password(), None, super::home()).await.unwrap();
    let own = accounts.change_password(
        &first.viewer,
        behind.plane.console_password(),
        super::PASSWORD,
        super::home(),
    );
    let cookie = own.await.unwrap().set_cookie(true);
    let cookie = format!("cookie: {}", cookie.split(';').next().unwrap());
    let lines = [ANNA[0], ANNA[1], cookie.as_str()];
    assert!(
        behind.get(None, "/nodes", &[&cookie]).await.starts_with("HTTP/1.1 200 "),
        "it is good by itself"
    );
    is_refused(&behind.get(behind.of_proxy(), "/nodes", &lines).await, "does not allow this");
    let page = behind.get(behind.of_proxy(), "/purges", &lines).await;
    assert!(page.contains("anna@example.com</a>") && !page.contains("set-cookie"), "{page}");
    // No session begins beside it, and none is left for afterwards.
    let form = format!("name=admin&password={}&code=&next=%2F", encoded(super::PASSWORD));
    let answer = behind.post(behind.of_proxy(), "/sign-in", &ANNA, &form).await;
    assert!(answer.starts_with("HTTP/1.1 303 ") && !answer.contains("set-cookie"), "{answer}");
    // The proxy's own cookie travels with what other sites send: those forms change nothing.
    let elsewhere =
        ["sec-fetch-site: cross-site", "content-type: application/x-www-form-urlencoded", ANNA[0], ANNA[1]];
    let answer =
        behind.ask(behind.of_proxy(), "POST /tokens", &elsewhere, "site=shop&label=ci&may=purge&ends=").await;
    is_refused(&answer, "The request comes from elsewhere");
    let out = behind.post(behind.of_proxy(), "/sign-out", &ANNA, "").await;
    assert!(out.contains("location: /account"), "where the proxy has no address for it: {out}");
}

#[test]
fn a_certificate_that_has_ended_is_nobodys() {
    let (pem, _) = issue(&authority(), vec![SanType::DnsName("sso.example.net".try_into().unwrap())]);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let shown = crate::tls::PeerCertificate::read(&der).unwrap();
    assert!(shown.is_of("sso.example.net", UnixMillis(1_776_672_751_000)));
    assert!(!shown.is_of("sso.example.net", UnixMillis(u64::MAX)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_proxy_that_is_revoked_opens_nothing_any_more() {
    let behind = Behind::with("").await;
    let (services, dir) = (behind.plane.services(), TempDir::new().unwrap());
    let list = dir.path().join("revoked");
    std::fs::write(&list, "# nobody yet\n").unwrap();
    services.revoked.open(Some(list.clone()), &services.audit, &services.clock).unwrap();
    let (stolen, other) = (behind.of_proxy(), behind.of_proxy());
    let user = ["x-forwarded-user: anna", "x-forwarded-groups: ops"];
    let before = behind.get(stolen.clone(), "/", &user).await;
    assert!(!before.contains("was revoked"), "{before}");

    let mut open = behind.connect(stolen.clone()).await.unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(stolen.as_ref().unwrap().0.as_bytes()).unwrap();
    let serial = pem.parse_x509().unwrap().raw_serial_as_string();
    std::fs::write(&list, format!("serial {serial}\n")).unwrap();
    // The connection is ended; nothing was asked on it.
    let ended = tokio::time::timeout(PATIENCE, open.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "an open connection goes on with a certificate that is revoked");
    let refused = behind.get(stolen, "/", &user).await;
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains(&format!("`serial {serial}")),
        "{refused}"
    );
    let spared = behind.get(other.clone(), "/", &user).await;
    assert_eq!(spared.lines().next(), before.lines().next(), "another one of that name goes on");

    std::fs::write(&list, "name sso.example.net\n").unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !behind.get(other.clone(), "/", &user).await.starts_with("HTTP/1.1 403") {
        assert!(tokio::time::Instant::now() < deadline, "all of that name are revoked");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let told = behind.told().await;
    let changes = told.iter().filter(|entry| entry.contains("certificates.revoked")).count();
    assert_eq!(changes, 2, "{told:?}");
}
