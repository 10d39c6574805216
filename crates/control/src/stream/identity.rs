use batoff_types::{NodeName, UnixMillis};
use tokio_rustls::server::TlsStream;
use tonic::{Request, Status};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::metrics;
use crate::revoked::RevokedList;
use crate::tls::end_of;

/// Who a connection may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerIdentity {
    /// The node that its certificate names, which ends then and has that serial.
    Certified(NodeName, UnixMillis, Vec<u8>),
    /// Plain text on loopback: whoever it says.
    Believed,
}

impl PeerIdentity {
    /// Whether the connection may say `Hello` as `node`; the refusal names both.
    pub(super) fn admit(&self, node: &NodeName) -> Result<(), Status> {
        match self {
            Self::Certified(name, ..) if name != node => Err(Status::permission_denied(format!(
                "the Hello names node {node}, but the certificate is for node {name}"
            ))),
            Self::Certified(..) | Self::Believed => Ok(()),
        }
    }

    /// When its certificate ends.
    pub(super) fn until(&self) -> Option<UnixMillis> {
        match self {
            Self::Certified(_, until, _) => Some(*until),
            Self::Believed => None,
        }
    }

    /// Refuses a certificate that was revoked, by the line that says so.
    pub(super) fn check(&self, revoked: &RevokedList) -> Result<(), Status> {
        let Self::Certified(node, _, serial) = self else { return Ok(()) };
        match revoked.revokes(node, serial) {
            None => Ok(()),
            Some(line) => {
                metrics::revoked_refused("grpc");
                Err(Status::permission_denied(format!(
                    "the certificate of node {node} was revoked (`{line}` in grpc.revoked): issue another one"
                )))
            }
        }
    }
}

/// The identity of a request's connection.
pub(super) fn of<T>(request: &Request<T>, plaintext: bool) -> Result<PeerIdentity, Status> {
    if plaintext {
        return Ok(PeerIdentity::Believed);
    }
    let chain = request.peer_certs();
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| Status::unauthenticated("a client certificate is needed"))?;
    let named = named_in(leaf).zip(end_of(leaf)).zip(serial_of(leaf));
    named.map(|((node, until), serial)| PeerIdentity::Certified(node, until, serial)).ok_or_else(|| {
        Status::permission_denied(
            "the certificate names no node: its subject alternative names need exactly one URI of the form \
             spiffe://batoff/pop/<pop>/node/<node>",
        )
    })
}

/// The node that the other end's certificate names.
pub(super) fn certified<S>(stream: &TlsStream<S>) -> Option<NodeName> {
    named_in(stream.get_ref().1.peer_certificates()?.first()?)
}

fn serial_of(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.raw_serial().to_vec())
}

/// The node that the certificate names, if it names exactly one.
fn named_in(der: &[u8]) -> Option<NodeName> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut nodes = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => NodeName::from_spiffe_uri(uri),
        _ => None,
    });
    let node = nodes.next()?;
    nodes.next().is_none().then_some(node)
}
