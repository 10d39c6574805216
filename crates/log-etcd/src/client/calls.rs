//! The calls themselves: where they go, how long they may take, and whose answers count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::call_error::EtcdError;
use super::connect::{EtcdConnection, EtcdEndpoint};
use crate::config::{EtcdConfig, EtcdUser};
use crate::open_error::EtcdOpenError;
use crate::rpc::auth_client::AuthClient;
use crate::rpc::cluster_client::ClusterClient;
use crate::rpc::kv_client::KvClient;
use crate::rpc::lease_client::LeaseClient;
use crate::rpc::maintenance_client::MaintenanceClient;
use crate::rpc::{
    AlarmRequest, AlarmResponse, AuthenticateRequest, CompactionRequest, CompactionResponse, Headed,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, MemberListRequest, MemberListResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};

/// How long a call may take. A healthy member answers within some milliseconds, and a disk that needs longer than this
/// for one flush is none to keep a purge log on.
pub(super) const CALL_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a call may take that brings megabytes.
const BULK_TIME_MAX: Duration = Duration::from_secs(5);

/// Largest answer, in bytes: some groups of records together.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a call is made.
#[derive(Clone, Copy, Debug)]
struct Manner {
    time_max: Duration,
    /// A member that knows no leader refuses at once instead of letting the call wait.
    needs_leader: bool,
}

impl Manner {
    const USUAL: Self = Self { time_max: CALL_TIME_MAX, needs_leader: true };
    const BULK: Self = Self { time_max: BULK_TIME_MAX, needs_leader: true };
    /// Of what one member knows by itself.
    const LOCAL: Self = Self { time_max: BULK_TIME_MAX, needs_leader: false };
}

pub(crate) struct EtcdClient {
    endpoints: Vec<EtcdEndpoint>,
    /// The endpoint of the moment.
    current: AtomicUsize,
    user: Option<EtcdUser>,
    /// The cluster that all answers must come from; 0 until it is known.
    cluster: Arc<AtomicU64>,
}

impl EtcdClient {
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self, EtcdOpenError> {
        if config.endpoints.is_empty() {
            return Err(EtcdOpenError::NoEndpoints);
        }
        let endpoints = config
            .endpoints
            .iter()
            .map(|url| EtcdEndpoint::new(url, config.tls.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            endpoints,
            current: AtomicUsize::new(0),
            user: config.user.clone(),
            cluster: Arc::new(AtomicU64::new(0)),
        })
    }

    /// Another client of the same endpoints, with connections of its own: what streams there delays nothing here.
    pub(crate) fn twin(&self) -> Self {
        Self {
            endpoints: self.endpoints.iter().map(EtcdEndpoint::unconnected).collect(),
            current: AtomicUsize::new(self.current.load(Ordering::Relaxed)),
            user: self.user.clone(),
            cluster: Arc::clone(&self.cluster),
        }
    }

    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    pub(crate) fn endpoint_name(&self, at: usize) -> &str {
        self.endpoints.get(at).map_or("", EtcdEndpoint::url)
    }

    /// From now on answers of any other cluster are errors.
    pub(crate) fn expect_cluster(&self, cluster: u64) {
        self.cluster.store(cluster, Ordering::Relaxed);
    }

    pub(crate) async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, EtcdError> {
        self.call(Manner::USUAL, request, |channel, request| async move { kv(channel).txn(request).await })
            .await
    }

    pub(crate) async fn put(&self, request: &PutRequest) -> Result<PutResponse, EtcdError> {
        self.call(Manner::BULK, request, |channel, request| async move { kv(channel).put(request).await })
            .await
    }

    /// Reads, from whichever endpoint answers. Linearizable unless the request says otherwise.
    pub(crate) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, EtcdError> {
        let manner = match (request.serializable, request.limit) {
            (true, _) => Manner::LOCAL,
            (false, 1) => Manner::USUAL,
            (false, _) => Manner::BULK,
        };
        let send = |channel, request| async move { kv(channel).range(request).await };
        self.call_anywhere(manner, request, send).await
    }

    /// A transaction that only reads, from whichever endpoint answers.
    pub(crate) async fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, EtcdError> {
        let send = |channel, request| async move { kv(channel).txn(request).await };
        self.call_anywhere(Manner::USUAL, request, send).await
    }

    pub(crate) async fn compact(&self, revision: i64) -> Result<CompactionResponse, EtcdError> {
        let request = CompactionRequest { revision, physical: false };
        let send = |channel, request| async move { kv(channel).compact(request).await };
        self.call(Manner::USUAL, &request, send).await
    }

    pub(crate) async fn grant_lease(&self, ttl_s: i64) -> Result<LeaseGrantResponse, EtcdError> {
        let request = LeaseGrantRequest { ttl: ttl_s, id: 0 };
        let send = |channel, request| async move { LeaseClient::new(channel).lease_grant(request).await };
        self.call_anywhere(Manner::USUAL, &request, send).await
    }

    /// Renews a lease; [`EtcdError::LeaseLost`] when there is no such lease any more.
    pub(crate) async fn keep_lease(&self, id: i64) -> Result<(), EtcdError> {
        let request = LeaseKeepAliveRequest { id };
        let send = |channel, request: Request<LeaseKeepAliveRequest>| async move {
            let (metadata, extensions, one) = request.into_parts();
            let stream = Request::from_parts(metadata, extensions, tokio_stream::once(one));
            let mut answers = LeaseClient::new(channel).lease_keep_alive(stream).await?.into_inner();
            let answer = answers.message().await?;
            answer.map(Response::new).ok_or_else(|| Status::unavailable("the stream has ended"))
        };
        let answer: LeaseKeepAliveResponse = self.call_anywhere(Manner::USUAL, &request, send).await?;
        if answer.ttl > 0 { Ok(()) } else { Err(EtcdError::LeaseLost) }
    }

    pub(crate) async fn revoke_lease(&self, id: i64) -> Result<LeaseRevokeResponse, EtcdError> {
        let request = LeaseRevokeRequest { id };
        let send = |channel, request| async move { LeaseClient::new(channel).lease_revoke(request).await };
        self.call_anywhere(Manner::USUAL, &request, send).await
    }

    pub(crate) async fn members(&self) -> Result<MemberListResponse, EtcdError> {
        let send = |channel, request| async move { ClusterClient::new(channel).member_list(request).await };
        self.call_anywhere(Manner::LOCAL, &MemberListRequest {}, send).await
    }

    /// The members as the `at`th endpoint knows them.
    pub(crate) async fn members_at(&self, at: usize) -> Result<MemberListResponse, EtcdError> {
        let send = |channel, request| async move { ClusterClient::new(channel).member_list(request).await };
        self.call_at(at, Manner::LOCAL, &MemberListRequest {}, send).await
    }

    pub(crate) async fn alarm(&self, request: &AlarmRequest) -> Result<AlarmResponse, EtcdError> {
        let send = |channel, request| async move { MaintenanceClient::new(channel).alarm(request).await };
        self.call_anywhere(Manner::LOCAL, request, send).await
    }

    /// What one member says of itself.
    pub(crate) async fn status(&self) -> Result<StatusResponse, EtcdError> {
        self.status_of(self.current()).await
    }

    /// What the `at`th endpoint says of itself.
    pub(crate) async fn status_of(&self, at: usize) -> Result<StatusResponse, EtcdError> {
        let manner = Manner { time_max: CALL_TIME_MAX, needs_leader: false };
        let send = |channel, request| async move { MaintenanceClient::new(channel).status(request).await };
        self.call_at(at, manner, &StatusRequest {}, send).await
    }

    /// The same call at each endpoint in turn, until one has an answer. Only for calls that may be carried out twice.
    async fn call_anywhere<Req: Clone, Res: Headed, Fut>(
        &self,
        manner: Manner,
        request: &Req,
        send: impl Fn(Channel, Request<Req>) -> Fut,
    ) -> Result<Res, EtcdError>
    where
        Fut: Future<Output = Result<Response<Res>, Status>> + Send,
    {
        let mut left = self.endpoints.len();
        loop {
            let outcome = self.call(manner, request, &send).await;
            left -= 1;
            match outcome {
                Err(error) if error.is_of_the_endpoint() && left > 0 => {
                    tracing::debug!(%error, "asking the next endpoint of etcd");
                }
                outcome => return outcome,
            }
        }
    }

    /// One call at the endpoint of the moment.
    async fn call<Req: Clone, Res: Headed, Fut>(
        &self,
        manner: Manner,
        request: &Req,
        send: impl Fn(Channel, Request<Req>) -> Fut,
    ) -> Result<Res, EtcdError>
    where
        Fut: Future<Output = Result<Response<Res>, Status>> + Send,
    {
        let at = self.current();
        let outcome = self.call_at(at, manner, request, send).await;
        if outcome.as_ref().is_err_and(EtcdError::is_of_the_endpoint) {
            self.leave(at);
        }
        outcome
    }

    /// Which endpoint is asked now.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.endpoints.len()
    }

    /// The next call goes to the next endpoint, unless somebody has seen to that.
    pub(super) fn leave(&self, at: usize) {
        let next = (at + 1) % self.endpoints.len();
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn call_at<Req: Clone, Res: Headed, Fut>(
        &self,
        at: usize,
        manner: Manner,
        request: &Req,
        send: impl Fn(Channel, Request<Req>) -> Fut,
    ) -> Result<Res, EtcdError>
    where
        Fut: Future<Output = Result<Response<Res>, Status>> + Send,
    {
        let (endpoint, connection) = self.connection(at).await?;
        let request = dressed(request.clone(), &connection, manner.needs_leader);
        let outcome =
            match tokio::time::timeout(manner.time_max, send(connection.channel.clone(), request)).await {
                Ok(Ok(response)) => self.of_our_cluster(response.into_inner(), endpoint),
                Ok(Err(status)) => Err(EtcdError::judge(&status, endpoint.url())),
                Err(_) => {
                    let after = manner.time_max.as_millis();
                    Err(EtcdError::Unknown(format!("{} has not answered for {after} ms", endpoint.url())))
                }
            };
        if outcome.as_ref().is_err_and(EtcdError::is_of_the_endpoint) {
            endpoint.forget(&connection);
        }
        outcome
    }

    /// The connection to the `at`th endpoint, made if there is none.
    pub(super) async fn connection(&self, at: usize) -> Result<(&EtcdEndpoint, EtcdConnection), EtcdError> {
        let endpoint = &self.endpoints[at % self.endpoints.len()];
        let connection = endpoint.connection(|channel| self.token(channel, endpoint.url())).await?;
        Ok((endpoint, connection))
    }

    /// Signs in; `None` without a user.
    async fn token(
        &self,
        channel: Channel,
        url: &str,
    ) -> Result<Option<MetadataValue<tonic::metadata::Ascii>>, EtcdError> {
        let Some(user) = &self.user else { return Ok(None) };
        let request = AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
        let mut auth = AuthClient::new(channel);
        let answer = match tokio::time::timeout(CALL_TIME_MAX, auth.authenticate(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            // A cluster that asks nobody who he is.
            Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => return Ok(None),
            Ok(Err(status)) => return Err(EtcdError::judge(&status, url).before_sending()),
            Err(_) => return Err(EtcdError::NotDone(format!("{url} lets nobody sign in"))),
        };
        let token = answer.token.parse();
        token
            .map(Some)
            .map_err(|_| EtcdError::Refused(format!("{url} gave a token that cannot be sent back")))
    }

    fn of_our_cluster<Res: Headed>(&self, response: Res, endpoint: &EtcdEndpoint) -> Result<Res, EtcdError> {
        if self.is_of_our_cluster(&response) {
            return Ok(response);
        }
        tracing::error!(endpoint = endpoint.url(), "this endpoint belongs to another etcd cluster");
        Err(EtcdError::WrongCluster)
    }

    pub(super) fn is_of_our_cluster(&self, response: &impl Headed) -> bool {
        let expected = self.cluster.load(Ordering::Relaxed);
        let found = response.header().map_or(0, |header| header.cluster_id);
        expected == 0 || found == expected || found == 0
    }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// The request with what etcd wants to know of it beside.
pub(super) fn dressed<Req>(request: Req, connection: &EtcdConnection, needs_leader: bool) -> Request<Req> {
    let mut request = Request::new(request);
    if needs_leader {
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    }
    if let Some(token) = &connection.token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}
