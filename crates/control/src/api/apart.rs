//! What customers wait for, on threads that accept nothing: long polls and event streams. There may be thousands of them,
//! each is woken by every purge, and whoever submits must not notice.

use std::convert::Infallible;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::problem::{Code, Problem};

/// Pieces of a body that are ready and not yet taken by its connection. A client that does not read holds up only itself.
const PIECES_MAX: usize = 2;

/// What is there at one time is joined into one piece: a connection is woken, and written to, once for all of it.
const JOINED_MAX: usize = 64;

/// Does `work` on `threads`. It ends when nobody waits for it any longer.
pub async fn wait<T: Send + 'static>(
    threads: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    match AbortOnDropHandle::new(threads.spawn(work)).await {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Its threads have ended before it.
        Err(_) => Err(Problem::detailed(Code::Unavailable, "this control plane is stopping")),
    }
}

/// A body that is made, and then produced, on `threads`. That ends when nobody reads it any longer.
pub fn body(threads: &Handle, make: impl FnOnce() -> Body + Send + 'static) -> Body {
    let (pieces, taken) = mpsc::channel::<Bytes>(PIECES_MAX);
    threads.spawn(async move {
        let mut produced = make().into_data_stream().ready_chunks(JOINED_MAX);
        loop {
            let ready = tokio::select! {
                ready = produced.next() => ready,
                () = pieces.closed() => return,
            };
            let Some(ready) = ready else { return };
            let mut joined = BytesMut::new();
            ready.into_iter().flatten().for_each(|piece| joined.extend_from_slice(&piece));
            if pieces.send(joined.freeze()).await.is_err() {
                return;
            }
        }
    });
    Body::from_stream(ReceiverStream::new(taken).map(Ok::<_, Infallible>))
}
