//! An origin that counts, and that can be held before its header and before its body.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the origin does for one path.
#[derive(Clone)]
pub struct Plan {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub chunked: bool,
    /// Answers `304` to a conditional request.
    pub confirms: bool,
    pub header_gate: Option<Arc<Semaphore>>,
    pub body_gate: Option<Arc<Semaphore>>,
}

#[derive(Clone, Default)]
pub struct Origin {
    inner: Arc<Mutex<Inner>>,
    pub address: Option<SocketAddr>,
}

#[derive(Default)]
struct Inner {
    plans: HashMap<String, Plan>,
    asked: HashMap<String, Vec<HeaderMap>>,
}

impl Plan {
    pub fn page(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("cache-control", "max-age=3600".into())],
            body: body.into(),
            chunked: false,
            confirms: false,
            header_gate: None,
            body_gate: None,
        }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn confirming(self, etag: &str) -> Self {
        Self { confirms: true, ..self.header("etag", etag) }
    }

    pub fn held_before_header(self, gate: &Arc<Semaphore>) -> Self {
        Self { header_gate: Some(gate.clone()), ..self }
    }

    pub fn held_before_body(self, gate: &Arc<Semaphore>) -> Self {
        Self { body_gate: Some(gate.clone()), ..self }
    }
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self { address: Some(listener.local_addr().unwrap()), ..Self::default() };
        let app = Router::new().fallback(answer).with_state(origin.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        origin
    }

    pub fn plan(&self, path: &str, plan: Plan) {
        self.inner.lock().unwrap().plans.insert(path.to_owned(), plan);
    }

    /// How often it was asked for the path.
    pub fn asked(&self, path: &str) -> usize {
        self.inner.lock().unwrap().asked.get(path).map_or(0, Vec::len)
    }

    pub fn last_request(&self, path: &str) -> HeaderMap {
        self.inner.lock().unwrap().asked[path].last().unwrap().clone()
    }

    /// Until it was asked so often. Fails before a proxy gives up waiting in line (30 s), so that waiting is told from
    /// asking.
    pub async fn until_asked(&self, path: &str, times: usize) {
        let since = Instant::now();
        while self.asked(path) < times {
            assert!(since.elapsed() < PATIENCE, "asked {} times for {path}, not {times}", self.asked(path));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn answer(State(origin): State<Origin>, request: Request) -> Response<Body> {
    let path = request.uri().to_string();
    let plan = {
        let mut inner = origin.inner.lock().unwrap();
        inner.asked.entry(path.clone()).or_default().push(request.headers().clone());
        inner.plans.get(&path).cloned()
    };
    let Some(plan) = plan else {
        return Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap();
    };
    if let Some(gate) = &plan.header_gate {
        gate.acquire().await.unwrap().forget();
    }
    let mut response = Response::builder().status(plan.status);
    for (name, value) in &plan.headers {
        response = response.header(*name, value);
    }
    if plan.confirms && request.headers().contains_key("if-none-match") {
        return response.status(StatusCode::NOT_MODIFIED).body(Body::empty()).unwrap();
    }
    if request.method() == Method::HEAD || !(plan.chunked || plan.body_gate.is_some()) {
        return response.body(Body::from(plan.body)).unwrap();
    }
    let (chunks, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    tokio::spawn(async move {
        let (first, rest) = plan.body.split_at(plan.body.len() / 2);
        chunks.send(Ok(Bytes::copy_from_slice(first))).await.ok();
        if let Some(gate) = &plan.body_gate {
            gate.acquire().await.unwrap().forget();
        }
        chunks.send(Ok(Bytes::copy_from_slice(rest))).await.ok();
    });
    response.body(Body::from_stream(ReceiverStream::new(body))).unwrap()
}
