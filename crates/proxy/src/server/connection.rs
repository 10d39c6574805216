//! One visitor, from the first byte to the last answer.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use batoff_program::listen::ListenersSection;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use pingora::proxy::HttpProxy;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::figures::{self, Overdue};
use crate::service::{HeaderRead, Service};

/// Serves one visitor, request after request, as long as each header comes in time.
pub(super) async fn serve(
    app: &Arc<HttpProxy<Service>>,
    stream: TcpStream,
    peer: SocketAddr,
    listeners: &ListenersSection,
    drain: &watch::Receiver<bool>,
) {
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
        session.set_keepalive((!*drain.borrow()).then(|| idle_seconds(listeners)));
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

/// The time between two requests as pingora counts it.
pub(super) const fn idle_seconds(listeners: &ListenersSection) -> u64 {
    listeners.idle_ms.div_ceil(1_000)
}
