//! Two adapters: tonic over turmoil's TCP.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use batoff_edge::Dial;
use futures_util::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpConnectInfo};
use turmoil::net::{TcpListener, TcpStream};

/// Where the control plane listens for nodes.
pub const PORT: u16 = 7443;

/// A connection as tonic's server wants it.
pub struct Io(TcpStream);

impl Connected for Io {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: self.0.local_addr().ok(), remote_addr: self.0.peer_addr().ok() }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connections to this host.
pub async fn incoming() -> io::Result<impl Stream<Item = io::Result<Io>> + Send> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let accepted = futures_util::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(socket, _)| Io(socket));
        Some((accepted, listener))
    });
    Ok(Box::pin(accepted))
}

/// Connects to the host `control`, whatever the endpoint says.
pub fn dial() -> Dial {
    Arc::new(|endpoint| {
        let connector = tower::service_fn(|_: http::Uri| async {
            Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(("control", PORT)).await?))
        });
        Box::pin(async move { endpoint.connect_with_connector(connector).await })
    })
}
