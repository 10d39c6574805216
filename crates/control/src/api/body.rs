//! Reading a request's body: hashed while it arrives, never parsed here, and discarded politely when it isn't wanted.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

/// The longest body, in bytes. A longer one is `413 body_too_large`.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long a client may take to send its body. After that the request is refused; a slow client holds a connection and
/// its buffer no longer than this.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes read and thrown away after an early refusal, so that a client that is still writing gets to read the reply.
/// Beyond, the connection is closed, and such a client may see a reset instead.
const DISCARD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The same limit in time.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// A whole body and its hash.
#[derive(Clone, Debug)]
pub struct ReadBody {
    /// The raw bytes.
    pub bytes: Bytes,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// Why there is no body.
#[derive(Debug)]
pub enum Unread {
    /// Longer than [`BODY_BYTES_MAX`]; here is the rest of it.
    TooLarge(Body),
    /// The client stopped in the middle, or took longer than allowed.
    Broken,
}

/// Reads a body to its end, or to the first byte over the limit.
pub async fn read(mut body: Body) -> Result<ReadBody, Unread> {
    let announced = http_body::Body::size_hint(&body).lower();
    if announced > BODY_BYTES_MAX as u64 {
        return Err(Unread::TooLarge(body));
    }
    // A small body comes in one piece, and is not copied.
    let mut bytes = Bytes::new();
    let mut hash = Sha256::new();
    let whole = tokio::time::timeout(BODY_TIME_MAX, async {
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Some(false) };
            let Ok(data) = frame.into_data() else { continue };
            if joined.len() + bytes.len() + data.len() > BODY_BYTES_MAX {
                return None;
            }
            hash.update(&data);
            if joined.is_empty() && bytes.is_empty() {
                bytes = data;
                continue;
            }
            joined.extend_from_slice(&std::mem::take(&mut bytes));
            joined.extend_from_slice(&data);
        }
        if !joined.is_empty() {
            bytes = joined.freeze();
        }
        Some(true)
    })
    .await;
    match whole {
        Ok(Some(true)) => Ok(ReadBody { bytes, sha256: hash.finalize().into() }),
        Ok(None) => Err(Unread::TooLarge(body)),
        Ok(Some(false)) | Err(_) => Err(Unread::Broken),
    }
}

/// Goes on reading what nobody wants, beside the reply, up to 8 MiB or 5 s.
///
/// Not for a client that waits for `100 Continue`: reading would invite it to send.
pub fn discard(mut body: Body) {
    if http_body::Body::is_end_stream(&body) {
        return;
    }
    tokio::spawn(tokio::time::timeout(DISCARD_TIME_MAX, async move {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > DISCARD_BYTES_MAX {
                break;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_hashed_while_it_is_read() {
        let received = read(Body::from("{}")).await.unwrap();
        assert_eq!(&received.bytes[..], b"{}");
        assert_eq!(
            hex::encode(received.sha256),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }

    #[tokio::test]
    async fn the_limit_itself_passes_and_one_byte_more_does_not() {
        assert!(read(Body::from(vec![b' '; BODY_BYTES_MAX])).await.is_ok());
        let over = read(Body::from(vec![b' '; BODY_BYTES_MAX + 1])).await;
        assert!(matches!(over, Err(Unread::TooLarge(_))));
        let chunks = (0..3).map(|_| Ok::<_, std::io::Error>(vec![b' '; BODY_BYTES_MAX / 2]));
        let over = read(Body::from_stream(tokio_stream::iter(chunks))).await;
        assert!(matches!(over, Err(Unread::TooLarge(_))));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let chunks = [Ok("{"), Err(std::io::Error::other("reset"))];
        assert!(matches!(read(Body::from_stream(tokio_stream::iter(chunks))).await, Err(Unread::Broken)));
    }
}
