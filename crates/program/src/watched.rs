//! A connection that may not do nothing for ever.
//!
//! ```text
//!  opened ─ first byte ─▶ ─ head ─▶ request ─ … ─▶ answered ─ idle ─▶ ─ head ─▶ next request
//!    └── closed ─────────┘ └─ closed ─┘               └── closed ──┘ └─ closed ─┘
//! ```
//!
//! Bytes alone keep no connection open: a client that sends one a second, or pings, has not asked for anything. While a
//! request is being answered nothing is expected of the client but that it reads.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a connection is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the beginning to the first byte. Without it there is no such deadline, and `head` counts from the beginning.
    pub first_byte: Option<Duration>,
    /// From the first byte to the first whole request head; from `idle` on to a later one.
    pub head: Duration,
    /// From the last answer's end to the next byte. Where there is no `first_byte`, to the next whole request head.
    pub idle: Duration,
    /// For a client that does not read what is written to it.
    pub write: Duration,
}

/// What a connection is doing, as whoever answers its requests knows it.
#[derive(Debug)]
pub struct Activity(Mutex<Doing>);

#[derive(Debug)]
struct Doing {
    requests: usize,
    has_asked: bool,
    quiet_since: Instant,
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(Doing { requests: 0, has_asked: false, quiet_since: Instant::now() }))
    }

    /// A request is being answered for as long as the result lives.
    pub fn begin(self: &Arc<Self>) -> Busy {
        let mut doing = self.0.lock();
        doing.requests += 1;
        doing.has_asked = true;
        Busy(Arc::clone(self))
    }

    /// When the connection is to be closed if nothing happens; `None` while a request is being answered.
    fn deadline(&self, patience: &Patience, heard: Option<Heard>) -> Option<Instant> {
        let doing = self.0.lock();
        if doing.requests > 0 {
            return None;
        }
        let since = doing.quiet_since;
        Some(match (doing.has_asked, patience.first_byte, heard) {
            (false, None, _) => since + patience.head,
            (false, Some(first_byte), None) => since + first_byte,
            (false, Some(_), Some(heard)) => heard.first + patience.head,
            (true, Some(_), Some(heard)) if heard.last > since => since + patience.idle + patience.head,
            (true, _, _) => since + patience.idle,
        })
    }
}

/// When bytes came.
#[derive(Clone, Copy, Debug)]
struct Heard {
    first: Instant,
    last: Instant,
}

/// See [`Activity::begin`].
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut doing = self.0.0.lock();
        doing.requests -= 1;
        doing.quiet_since = Instant::now();
    }
}

/// See the module.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    patience: Patience,
    heard: Option<Heard>,
    quiet: Pin<Box<Sleep>>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// From now on.
    pub fn new(stream: S, patience: Patience) -> Self {
        let quiet = Box::pin(tokio::time::sleep(patience.first_byte.unwrap_or(patience.head)));
        Self { stream, activity: Arc::new(Activity::new()), patience, heard: None, quiet, stalled: None }
    }

    /// To be told of requests.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// What is watched.
    pub const fn get_ref(&self) -> &S {
        &self.stream
    }

    fn hear(&mut self) {
        let now = Instant::now();
        let first = self.heard.map_or(now, |heard| heard.first);
        if self.heard.is_none() && self.patience.first_byte.is_some() {
            self.quiet.as_mut().reset(now + self.patience.head);
        }
        self.heard = Some(Heard { first, last: now });
    }

    fn is_overdue(&mut self, context: &mut Context<'_>) -> bool {
        while self.quiet.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let next = match self.activity.deadline(&self.patience, self.heard) {
                Some(deadline) if deadline <= now => return true,
                Some(deadline) => deadline,
                None => now + self.patience.idle.min(self.patience.head),
            };
            self.quiet.as_mut().reset(next);
        }
        false
    }

    /// What became of a write, or that it has been waited for long enough.
    fn written<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let time = self.patience.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(too_slow("the client does not read what is written to it"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn too_slow(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.hear();
        }
        if read.is_pending() && self.is_overdue(context) {
            return Poll::Ready(Err(too_slow("no whole request came in time")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Patience = Patience {
        first_byte: None,
        head: Duration::from_millis(60),
        idle: Duration::from_millis(60),
        write: Duration::from_millis(60),
    };

    /// Reads until that fails.
    async fn end(stream: &mut Watched<tokio::io::DuplexStream>) -> ErrorKind {
        loop {
            if let Err(error) = stream.read(&mut [0; 16]).await {
                return error.kind();
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_asks_for_nothing_ends_though_it_sends_a_byte_now_and_then() {
        let (mut client, server) = duplex(64);
        let mut server = Watched::new(server, PATIENCE);
        tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert_eq!(end(&mut server).await, ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_a_header_and_idleness_have_times_of_their_own() {
        let seconds = Duration::from_secs;
        let patience = Patience {
            first_byte: Some(seconds(10)),
            head: seconds(15),
            idle: seconds(60),
            write: seconds(20),
        };
        // (when a byte comes before the first request, whether one is answered, when a byte comes after it), closed after
        for (before, is_asked, after, closed) in [
            (None, false, None, 10),
            (Some(4), false, None, 19),
            (Some(4), true, None, 4 + 60),
            (Some(4), true, Some(30), 4 + 60 + 15),
        ] {
            let (mut client, server) = duplex(64);
            let mut server = Watched::new(server, patience);
            let activity = server.activity();
            let since = Instant::now();
            let ended = tokio::spawn(async move { (end(&mut server).await, since.elapsed().as_secs()) });
            if let Some(before) = before {
                tokio::time::sleep(seconds(before)).await;
                client.write_all(b"G").await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if is_asked {
                drop(activity.begin());
            }
            if let Some(after) = after {
                tokio::time::sleep(seconds(after)).await;
                client.write_all(b"G").await.unwrap();
            }
            assert_eq!(
                ended.await.unwrap(),
                (ErrorKind::TimedOut, closed),
                "{before:?} {is_asked} {after:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_request_may_take_its_time_and_the_idle_time_counts_from_its_end() {
        let (_client, server) = duplex(64);
        let mut server = Watched::new(server, PATIENCE);
        let busy = server.activity().begin();
        let still = tokio::time::timeout(PATIENCE.head * 5, end(&mut server)).await;
        assert!(still.is_err(), "a request was being answered: {still:?}");
        drop(busy);
        assert_eq!(end(&mut server).await, ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (mut client, server) = duplex(64);
        let mut server = Watched::new(server, PATIENCE);
        server.write_all(&[0; 64]).await.unwrap();
        assert_eq!(server.write_all(&[0; 64]).await.unwrap_err().kind(), ErrorKind::TimedOut);
        client.read_exact(&mut [0; 64]).await.unwrap();
    }
}
