//! Watches: changes of a range of keys, as one member tells them.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::call_error::EtcdError;
use super::calls::{ANSWER_BYTES_MAX, CALL_TIME_MAX, EtcdClient, dressed};
use crate::rpc::watch_client::WatchClient;
use crate::rpc::watch_create_request::FilterType;
use crate::rpc::watch_request::RequestUnion;
use crate::rpc::{
    Event, Headed, KeyRange, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};

/// Requests that may wait to be sent on the stream of one watch: its beginning, and questions how far it is.
const REQUESTS_MAX: usize = 8;

/// One step of a watch.
pub(crate) enum WatchNews {
    /// What happened, in order, all through this revision unless more of it follows.
    Events { revision: i64, events: Vec<Event> },
    /// Nothing more has happened up to this revision.
    Progress { revision: i64 },
}

/// Changes of a range of keys, as one member tells them.
pub(crate) struct EtcdWatch {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    at: usize,
    url: String,
}

impl EtcdClient {
    /// Follows a range from a revision on, which is not 0: etcd would take that for "from now on", whenever that is.
    /// Deletions are told if asked for. [`EtcdError::Compacted`] now or later when the revision is gone.
    pub(crate) async fn watch(
        &self,
        range: &KeyRange,
        from_revision: i64,
        deletions: bool,
    ) -> Result<EtcdWatch, EtcdError> {
        let at = self.current();
        let outcome = self.watch_at(at, range, from_revision, deletions).await;
        if outcome.as_ref().is_err_and(EtcdError::is_of_the_endpoint) {
            self.leave(at);
        }
        outcome
    }

    /// The stream has failed or says nothing: the next one is of another endpoint.
    pub(crate) fn leave_watched(&self, stream: &EtcdWatch) {
        self.leave(stream.at);
    }

    async fn watch_at(
        &self,
        at: usize,
        range: &KeyRange,
        from_revision: i64,
        deletions: bool,
    ) -> Result<EtcdWatch, EtcdError> {
        let (endpoint, connection) = self.connection(at).await?;
        let create = WatchCreateRequest {
            key: range.begin.clone(),
            range_end: range.end.clone(),
            start_revision: from_revision.max(1),
            progress_notify: true,
            filters: if deletions { Vec::new() } else { vec![FilterType::Nodelete.into()] },
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // There is room.
        let _ = requests.try_send(create);
        let request = dressed(ReceiverStream::new(receiver), &connection, true);
        let mut client =
            WatchClient::new(connection.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let url = endpoint.url().to_owned();
        let begin = async {
            let responses = client.watch(request).await?.into_inner();
            Ok(EtcdWatch { requests, responses, at, url: url.clone() })
        };
        let outcome = match tokio::time::timeout(CALL_TIME_MAX, begin).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(status)) => Err(EtcdError::judge(&status, &url)),
            Err(_) => Err(EtcdError::NotDone(format!("{url} begins no watch"))),
        };
        if outcome.as_ref().is_err_and(EtcdError::is_of_the_endpoint) {
            endpoint.forget(&connection);
        }
        outcome
    }
}

impl EtcdWatch {
    /// The next step; waits for it. An error ends the stream. Can be dropped and called again.
    pub(crate) async fn next(&mut self, client: &EtcdClient) -> Result<WatchNews, EtcdError> {
        loop {
            let response = match self.responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Err(EtcdError::Unknown(format!("{} has ended a watch", self.url))),
                Err(status) => return Err(EtcdError::judge(&status, &self.url)),
            };
            if !client.is_of_our_cluster(&response) {
                return Err(EtcdError::WrongCluster);
            }
            if response.compact_revision > 0 {
                return Err(EtcdError::Compacted);
            }
            if response.canceled {
                let why = &response.cancel_reason;
                return Err(EtcdError::NotDone(format!("{} has cancelled a watch: {why}", self.url)));
            }
            let revision = response.revision();
            if !response.events.is_empty() {
                return Ok(WatchNews::Events { revision, events: response.events });
            }
            // That the watch exists says nothing of what has happened before this revision.
            if !response.created {
                return Ok(WatchNews::Progress { revision });
            }
        }
    }

    /// Asks how far the watch is. What cannot be sent now is not needed: the member has not taken the last question yet.
    pub(crate) fn ask_for_progress(&self) {
        let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
        let _ = self.requests.try_send(WatchRequest { request_union: Some(progress) });
    }
}
