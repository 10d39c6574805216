use std::any::Any;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use pingora::proxy::HttpProxy;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::ListenersSection;
use crate::figures::{self, Overdue};
use crate::service::Service;

/// Says that the header of a request has been read in time. pingora hands it to the service's `on_connection_reuse`, which
/// it calls right then, at the first request, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderRead(Arc<AtomicBool>);

impl HeaderRead {
    /// What pingora was given with the connection.
    pub(crate) fn note(context: &(dyn Any + Send + Sync)) {
        if let Some(Self(is_read)) = context.downcast_ref() {
            is_read.store(true, Ordering::Release);
        }
    }

    /// When the header has not been read by then; else never.
    async fn overdue(&self, by: Instant) {
        sleep_until(by).await;
        if self.0.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }
}

/// Serves one visitor, request after request, as long as each header comes in time.
pub(super) async fn serve(
    app: &Arc<HttpProxy<Service>>,
    stream: TcpStream,
    peer: SocketAddr,
    listeners: &ListenersSection,
    drain: &watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection that was gone at once");
        return;
    }
    // It costs nobody anything yet but its place.
    if timeout(listeners.first_byte(), stream.readable()).await.is_err() {
        figures::overdue(Overdue::FirstByte);
        return;
    }
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // New, so not set yet.
    let _ = digest.peer_addr.set(Some(peer.into()));
    let mut stream = Stream::from(stream);
    stream.set_socket_digest(digest);
    let mut session = ServerSession::new_http1(Box::new(stream));
    let mut by = Instant::now() + listeners.header();
    loop {
        // Between two bytes of a header, too; all of it has to be there by then.
        session.set_keepalive((!*drain.borrow()).then(|| listeners.idle_seconds()));
        let header = HeaderRead::default();
        session.set_connection_user_context(Some(Box::new(header.clone())));
        let answered = tokio::select! {
            biased;
            answered = app.process_new_http(session, drain) => answered,
            () = header.overdue(by) => {
                figures::overdue(Overdue::Header);
                return;
            }
        };
        let Some((stream, settings)) = answered.map(|answered| answered.consume()) else { return };
        session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        by = Instant::now() + listeners.idle() + listeners.header();
    }
}
