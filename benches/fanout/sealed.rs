//! Mutual TLS of a subscriber, as nodes speak it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use batoff_types::NodeName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::certificates::{AUTHORITY, HOST, cert_of, key_of};
use super::purge_stream::node_name;

/// What all subscribers have in common: the folder with their certificates, and whom they believe.
pub struct Sealing<'a> {
    folder: &'a Path,
    authority: Arc<RootCertStore>,
}

impl<'a> Sealing<'a> {
    pub fn from(folder: &'a Path) -> anyhow::Result<Self> {
        let mut authority = RootCertStore::empty();
        authority.add(CertificateDer::from_pem_file(folder.join(AUTHORITY))?)?;
        Ok(Self { folder, authority: Arc::new(authority) })
    }

    /// The whole handshake of one subscriber, before anything else is done: a stranger may have only so many under way.
    pub fn shake(&self, number: usize, stream: &mut TcpStream) -> anyhow::Result<Sealed> {
        let node = node_name(number)?;
        let mut config = self.config(&node).with_context(|| format!("the certificate of {node}"))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from(HOST)?)?;
        while tls.is_handshaking() {
            tls.complete_io(stream).with_context(|| format!("the handshake of {node}"))?;
        }
        Ok(Sealed(Box::new(tls)))
    }

    fn config(&self, node: &NodeName) -> anyhow::Result<ClientConfig> {
        let cert = CertificateDer::from_pem_file(self.folder.join(cert_of(node)))?;
        let key = PrivateKeyDer::from_pem_file(self.folder.join(key_of(node)))?;
        let believing = ClientConfig::builder().with_root_certificates(Arc::clone(&self.authority));
        Ok(believing.with_client_auth_cert(vec![cert], key)?)
    }
}

/// One subscriber's end.
pub struct Sealed(Box<ClientConnection>);

impl Sealed {
    /// What is in the records that have come.
    pub fn open(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        while !sealed.is_empty() {
            self.0.read_tls(&mut sealed)?;
            let ready = self.0.process_new_packets()?.plaintext_bytes_to_read();
            let begin = out.len();
            out.resize(begin + ready, 0);
            self.0.reader().read_exact(&mut out[begin..])?;
        }
        Ok(())
    }

    /// Writes what there is to say. What the kernel does not take now is said with what comes next.
    pub fn write(&mut self, out: &mut Vec<u8>, stream: &mut impl Write) -> anyhow::Result<()> {
        if !out.is_empty() {
            self.0.writer().write_all(out)?;
            out.clear();
        }
        while self.0.wants_write() {
            match self.0.write_tls(stream) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(error) => return Err(error).context("writing"),
            }
        }
        Ok(())
    }
}
