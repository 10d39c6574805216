//! What a tonic server needs to know of watched connections.

use std::task::{Context, Poll};

use ::http::{Request, Response};
use std::sync::Arc;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::{Layer, Service};

use crate::watched::{Activity, Watched};

/// What is known of a watched connection: what is known of what is watched, and its activity.
#[derive(Clone, Debug)]
pub struct WatchedInfo<I> {
    inner: I,
    activity: Arc<Activity>,
}

impl<S: Connected> Connected for Watched<S> {
    type ConnectInfo = WatchedInfo<S::ConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        WatchedInfo { inner: self.get_ref().connect_info(), activity: self.activity() }
    }
}

/// Tells a connection of its calls, each until its answer has ended, and hands on what is known of what is watched.
/// `I` is the [`Connected::ConnectInfo`] of that.
#[derive(Debug)]
pub struct TellActivity<I>(std::marker::PhantomData<fn(I)>);

impl<I> TellActivity<I> {
    /// For connections of that kind.
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<I> Default for TellActivity<I> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I> Clone for TellActivity<I> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<I, S> Layer<S> for TellActivity<I> {
    type Service = Telling<I, S>;

    fn layer(&self, service: S) -> Self::Service {
        Telling { service, info: std::marker::PhantomData }
    }
}

/// See [`TellActivity`].
#[derive(Debug)]
pub struct Telling<I, S> {
    service: S,
    info: std::marker::PhantomData<fn(I)>,
}

impl<I, S: Clone> Clone for Telling<I, S> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), info: std::marker::PhantomData }
    }
}

impl<I, S> Service<Request<Body>> for Telling<I, S>
where
    I: Clone + Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let busy = request.extensions_mut().remove::<WatchedInfo<I>>().map(|info| {
            request.extensions_mut().insert(info.inner);
            info.activity.begin()
        });
        let answered = self.service.call(request);
        Box::pin(async move {
            let response = answered.await?;
            Ok(response.map(|body| Body::new(crate::http::BusyBody::new(body, busy))))
        })
    }
}
