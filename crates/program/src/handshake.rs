//! Why a TLS handshake came to nothing, and what whoever reads the log can do about it. Both ends use it, so that each way
//! to fail has one name and one remedy.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use crate::certificates::span;

/// Before this (2026-01-01, in seconds of Unix time) no certificate of ours was ever issued: a clock that says so has lost
/// its time.
const CLOCK_MIN: u64 = 1_767_225_600;

/// What the other end says when it does not want our certificate.
const REFUSALS: [AlertDescription; 9] = [
    AlertDescription::CertificateExpired,
    AlertDescription::UnknownCA,
    AlertDescription::DecryptError,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateRequired,
    AlertDescription::CertificateUnknown,
    AlertDescription::AccessDenied,
];

/// Failures that are remembered as told; when there are more, the memory begins anew.
const TOLD_MAX: usize = 1_024;

/// A failure of one kind is told once in this time for each client.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How a handshake failed, as a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeReason {
    /// The other end's certificate has ended.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// This machine's clock has lost its time, so that no certificate can be judged.
    Clock,
    /// No trusted authority has issued it.
    UnknownAuthority,
    /// It is another one's.
    WrongName,
    /// It may not be used for this end of a connection.
    WrongPurpose,
    /// The client showed none.
    NoCertificate,
    /// The other end refuses ours.
    Refused,
    /// Nothing both ends speak.
    NothingCommon,
    /// What came is no TLS.
    NotTls,
    /// The other end closed the connection, or the network did.
    Closed,
    /// It took too long, or others needed its place.
    Late,
    /// One address has as many under way as it may have.
    TooMany,
    /// Anything else.
    Other,
}

impl HandshakeReason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Expired,
        Self::NotYetValid,
        Self::Clock,
        Self::UnknownAuthority,
        Self::WrongName,
        Self::WrongPurpose,
        Self::NoCertificate,
        Self::Refused,
        Self::NothingCommon,
        Self::NotTls,
        Self::Closed,
        Self::Late,
        Self::TooMany,
        Self::Other,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Clock => "clock",
            Self::UnknownAuthority => "unknown_authority",
            Self::WrongName => "wrong_name",
            Self::WrongPurpose => "wrong_purpose",
            Self::NoCertificate => "no_certificate",
            Self::Refused => "refused",
            Self::NothingCommon => "nothing_common",
            Self::NotTls => "not_tls",
            Self::Closed => "closed",
            Self::Late => "late",
            Self::TooMany => "too_many",
            Self::Other => "other",
        }
    }

    /// Whether a certificate is to be exchanged or a clock to be set, as opposed to somebody who knocks on every port.
    pub const fn is_about_certificates(self) -> bool {
        match self {
            Self::Expired
            | Self::NotYetValid
            | Self::Clock
            | Self::UnknownAuthority
            | Self::WrongName
            | Self::WrongPurpose
            | Self::NoCertificate
            | Self::Refused => true,
            Self::NothingCommon | Self::NotTls | Self::Closed | Self::Late | Self::TooMany | Self::Other => {
                false
            }
        }
    }
}

/// Which end of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OurEnd {
    /// We listen; the certificate that is judged here is a client's.
    Server,
    /// We connect; the certificate that is judged here is the control plane's.
    Client,
}

impl OurEnd {
    const fn theirs(self) -> &'static str {
        match self {
            Self::Server => "the client's certificate",
            Self::Client => "the control plane's certificate",
        }
    }

    const fn ours(self) -> &'static str {
        match self {
            Self::Server => "this listener's certificate",
            Self::Client => "this node's certificate (control.cert)",
        }
    }

    /// Where those are named that this end trusts.
    const fn trusted(self) -> &'static str {
        match self {
            Self::Server => "the listener's `ca`",
            Self::Client => "control.ca",
        }
    }

    const fn issue(self) -> &'static str {
        match self {
            Self::Server => "`batoff certs issue --node` or `--operator`",
            Self::Client => "`batoff certs issue --control`",
        }
    }
}

/// A handshake that failed: how, and in words with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeTrouble {
    /// How.
    pub reason: HandshakeReason,
    text: String,
}

impl HandshakeTrouble {
    /// With these words.
    pub fn new(reason: HandshakeReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// What TLS says, wherever it stands in the chain of an error's causes; `None` where TLS says nothing.
    pub fn find(error: &(dyn StdError + 'static), end: OurEnd) -> Option<Self> {
        if let Some(tls) = causes(error).find_map(tls_error) {
            return Some(Self::of(tls, end));
        }
        // HTTP/2 keeps only the text of what became of its connection.
        let alert = causes(error).find_map(|cause| alert_in(&cause.to_string()))?;
        Some(Self::of_alert(alert, end))
    }

    /// Of a handshake that ended with an error of the connection.
    pub fn of_io(error: &io::Error, end: OurEnd) -> Self {
        if let Some(trouble) = Self::find(error, end) {
            return trouble;
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::new(
                HandshakeReason::Closed,
                "the other end closed the connection in the middle of the handshake: its own log may say why; a load \
                 balancer that only looks whether the port is open does the same",
            ),
            _ => Self::new(HandshakeReason::Other, error.to_string()),
        }
    }

    /// What is known of an error of TLS.
    pub fn of(error: &rustls::Error, end: OurEnd) -> Self {
        use HandshakeReason as Reason;
        match error {
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error, end),
            rustls::Error::NoCertificatesPresented => Self::new(
                Reason::NoCertificate,
                "the client showed no certificate: a node names its own with control.cert and control.key, an operator with \
                 `batoff --client-cert`",
            ),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert, end),
            rustls::Error::InvalidMessage(_) => Self::new(
                Reason::NotTls,
                "what came is not TLS: does the other end speak plaintext, or another protocol?",
            ),
            rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => Self::new(
                Reason::NothingCommon,
                format!("{error}: TLS 1.2 or 1.3 and HTTP/2 are needed; is it another kind of client?"),
            ),
            other => Self::new(Reason::Other, other.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError, end: OurEnd) -> Self {
        use HandshakeReason as Reason;
        let theirs = end.theirs();
        match error {
            CertificateError::ExpiredContext { time, not_after } => {
                let ago = span(time.as_secs().saturating_sub(not_after.as_secs()));
                Self::of_time(Reason::Expired, *time, || {
                    format!(
                        "{theirs} ended {ago} ago by this machine's clock: renew it (`batoff certs renew`), or set this \
                         clock if it is ahead"
                    )
                })
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                let by = span(not_before.as_secs().saturating_sub(time.as_secs()));
                Self::of_time(Reason::NotYetValid, *time, || {
                    format!(
                        "{theirs} is valid only in {by} by this machine's clock: set this clock (NTP) if it is behind; else \
                         the clock of the machine that issued the certificate was ahead"
                    )
                })
            }
            CertificateError::Expired => Self::new(Reason::Expired, format!("{theirs} has ended: renew it")),
            CertificateError::NotValidYet => {
                Self::new(Reason::NotYetValid, format!("{theirs} is not valid yet: set this machine's clock"))
            }
            // An authority of the same name with another key, as each `batoff certs init` makes one.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::new(
                Reason::UnknownAuthority,
                format!(
                    "{theirs} is of an authority that is not trusted here: issue it anew with the authority in {}, or add \
                     its own authority to that file",
                    end.trusted()
                ),
            ),
            CertificateError::NotValidForNameContext { expected, presented } => Self::new(
                Reason::WrongName,
                format!(
                    "{theirs} is not for {}, but for {}: connect by a name that it has, set control.server_name to one, or \
                     issue it anew for this one",
                    expected.to_str(),
                    if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") }
                ),
            ),
            CertificateError::NotValidForName => {
                Self::new(Reason::WrongName, format!("{theirs} is for another name"))
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Self::new(
                Reason::WrongPurpose,
                format!(
                    "{theirs} may not be used for this end of a connection ({error}): issue one with {}",
                    end.issue()
                ),
            ),
            other => Self::new(Reason::Other, format!("{theirs} cannot be used: {other}")),
        }
    }

    /// A certificate that is judged by a clock which has lost its time is no certificate's fault.
    fn of_time(reason: HandshakeReason, now: UnixTime, text: impl FnOnce() -> String) -> Self {
        if now.as_secs() >= CLOCK_MIN {
            return Self::new(reason, text());
        }
        Self::new(
            HandshakeReason::Clock,
            "this machine's clock is years behind, so that no certificate seems valid: set it (NTP)",
        )
    }

    /// What the other end says of our certificate. With TLS 1.3 a client hears of it only after its handshake.
    pub fn of_alert(alert: AlertDescription, end: OurEnd) -> Self {
        let ours = end.ours();
        let why = match alert {
            AlertDescription::CertificateExpired => {
                "it has ended or is not valid yet by the other end's clock: renew it, or set that clock"
            }
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "the other end does not trust its authority: give it this authority's ca.pem, or issue the certificate anew"
            }
            AlertDescription::BadCertificate => "it lacks the name that the other end expects, or is damaged",
            AlertDescription::UnsupportedCertificate => "it may not be used for this end of a connection",
            AlertDescription::CertificateRevoked => "it was revoked: issue another one",
            AlertDescription::CertificateRequired => "none was sent, and the other end wants one",
            AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => {
                "the other end's own log says why"
            }
            _ => {
                return Self::new(
                    HandshakeReason::NothingCommon,
                    format!("the other end broke the handshake off ({alert:?}): its own log may say why"),
                );
            }
        };
        Self::new(HandshakeReason::Refused, format!("the other end refuses {ours} ({alert:?}): {why}"))
    }
}

impl fmt::Display for HandshakeTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The alert that a text of rustls names.
fn alert_in(text: &str) -> Option<AlertDescription> {
    let (_, rest) = text.split_once("received fatal alert: ")?;
    let name = rest.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
    REFUSALS.into_iter().find(|alert| format!("{alert:?}") == name)
}

/// An IO error keeps what it was made of apart from its causes.
fn tls_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    let inner: &'e (dyn StdError + 'static) = error.downcast_ref::<io::Error>()?.get_ref()?;
    tls_error(inner)
}

/// Which failures were told lately, so that one client that tries again and again fills no log.
#[derive(Debug, Default)]
pub struct ToldFailures(std::collections::HashMap<(IpAddr, HandshakeReason), Instant>);

impl ToldFailures {
    /// Whether this one is to be told now.
    pub fn is_news(&mut self, client: IpAddr, reason: HandshakeReason, now: Instant) -> bool {
        if self.0.len() >= TOLD_MAX {
            self.0.retain(|_, told| now.saturating_duration_since(*told) < TELL_AGAIN_AFTER);
        }
        if self.0.len() >= TOLD_MAX {
            self.0.clear();
        }
        let told = self.0.get(&(client, reason));
        if told.is_some_and(|told| now.saturating_duration_since(*told) < TELL_AGAIN_AFTER) {
            return false;
        }
        self.0.insert((client, reason), now);
        true
    }
}

#[cfg(test)]
mod tests;
