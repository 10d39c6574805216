use std::net::Ipv4Addr;

use rustls::pki_types::ServerName;

use super::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn told(error: CertificateError, end: OurEnd) -> (HandshakeReason, String) {
    let trouble = HandshakeTrouble::of(&rustls::Error::InvalidCertificate(error), end);
    (trouble.reason, trouble.to_string())
}

const NOW: u64 = CLOCK_MIN + 1_000_000;

#[test]
fn each_way_to_fail_has_a_reason_and_a_remedy_of_its_own() {
    let name = ServerName::try_from("control.example.net").unwrap();
    let cases = [
        (
            CertificateError::ExpiredContext { time: at(NOW), not_after: at(NOW - 7_500) },
            HandshakeReason::Expired,
            ["2 h 5 min ago", "batoff certs renew"],
        ),
        (
            CertificateError::NotValidYetContext { time: at(NOW), not_before: at(NOW + 172_800) },
            HandshakeReason::NotYetValid,
            ["in 2 d", "NTP"],
        ),
        (
            CertificateError::NotValidYetContext { time: at(3_600), not_before: at(NOW) },
            HandshakeReason::Clock,
            ["years behind", "NTP"],
        ),
        (CertificateError::UnknownIssuer, HandshakeReason::UnknownAuthority, ["not trusted", "control.ca"]),
        (CertificateError::BadSignature, HandshakeReason::UnknownAuthority, ["not trusted", "control.ca"]),
        (
            CertificateError::NotValidForNameContext { expected: name, presented: vec!["other".into()] },
            HandshakeReason::WrongName,
            ["not for control.example.net, but for other", "control.server_name"],
        ),
        (
            CertificateError::InvalidPurpose,
            HandshakeReason::WrongPurpose,
            ["this end", "certs issue --control"],
        ),
    ];
    for (error, reason, words) in cases {
        let (found, text) = told(error, OurEnd::Client);
        assert_eq!(found, reason, "{text}");
        assert!(words.iter().all(|words| text.contains(words)), "{words:?} in {text}");
    }
}

#[test]
fn what_tls_says_is_found_however_deep_it_stands() {
    #[derive(Debug, thiserror::Error)]
    #[error("transport error")]
    struct Outer(#[source] io::Error);

    let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
    let error = Outer(io::Error::new(io::ErrorKind::InvalidData, alert));
    let trouble = HandshakeTrouble::find(&error, OurEnd::Client).unwrap();
    assert_eq!(trouble.reason, HandshakeReason::Refused);
    assert!(trouble.to_string().contains("control.cert"), "{trouble}");
    let text = io::Error::other("connection error: received fatal alert: CertificateExpired");
    assert_eq!(HandshakeTrouble::find(&text, OurEnd::Client).unwrap().reason, HandshakeReason::Refused);
    let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
    assert_eq!(HandshakeTrouble::find(&closed, OurEnd::Server), None);
    assert_eq!(HandshakeTrouble::of_io(&closed, OurEnd::Server).reason, HandshakeReason::Closed);
}

#[test]
fn one_client_is_told_of_once_and_a_thousand_others_do_not_make_the_memory_grow() {
    let mut told = ToldFailures::default();
    let start = Instant::now();
    let client = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
    assert!(told.is_news(client(1), HandshakeReason::Expired, start));
    assert!(!told.is_news(client(1), HandshakeReason::Expired, start));
    assert!(told.is_news(client(1), HandshakeReason::NotTls, start));
    assert!(told.is_news(client(1), HandshakeReason::Expired, start + TELL_AGAIN_AFTER));
    for n in 0..10_000 {
        told.is_news(client(n), HandshakeReason::NotTls, start);
    }
    assert!(told.0.len() <= TOLD_MAX);
}

#[test]
fn labels_are_different() {
    let labels: std::collections::HashSet<_> = HandshakeReason::ALL.map(HandshakeReason::as_str).into();
    assert_eq!(labels.len(), HandshakeReason::ALL.len());
}
