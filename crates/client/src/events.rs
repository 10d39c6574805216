use std::collections::VecDeque;

use reqwest::Response;

use crate::endpoint::{Connections, causes};
use crate::sse::{Dispatched, Parser};
use crate::{Error, Task};

/// The purges of a site as they happen. Ends with the connection; go on from [`Events::last_id`]: of several control planes
/// another one is asked then.
#[derive(Debug)]
pub struct Events {
    connection: Connections,
    at: usize,
    response: Response,
    parser: Parser,
    ready: VecDeque<Dispatched>,
    last_id: Option<String>,
}

impl Events {
    pub(crate) fn new(connection: Connections, response: Response) -> Self {
        let at = connection.at();
        Self { connection, at, response, parser: Parser::default(), ready: VecDeque::new(), last_id: None }
    }

    /// The next task that was accepted or changed its state; `None` when the control plane ended the stream.
    pub async fn next(&mut self) -> Result<Option<Task>, Error> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                if event.event != "purge" {
                    continue;
                }
                self.last_id = Some(event.id).filter(|id| !id.is_empty());
                let task = serde_json::from_str(&event.data).map_err(|e| Error::Unexpected {
                    url: self.response.url().to_string(),
                    reason: e.to_string(),
                })?;
                return Ok(Some(task));
            }
            let chunk = self.response.chunk().await;
            if !matches!(chunk, Ok(Some(_))) {
                self.connection.leave(self.at);
            }
            match chunk.map_err(|e| Error::Unavailable { reason: causes(&e), retry_after: None })? {
                Some(bytes) => self.ready.extend(self.parser.handle_bytes(&bytes)),
                None => return Ok(None),
            }
            if self.parser.is_overlong() {
                let reason = format!("an event is longer than {} bytes", Parser::PENDING_BYTES_MAX);
                return Err(Error::Unexpected { url: self.response.url().to_string(), reason });
            }
        }
    }

    /// The id of the last event that [`Events::next`] gave, for [`Client::events`](crate::Client::events).
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }
}
