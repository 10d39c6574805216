use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

/// Every so many answers one is held back between its number and its first byte, so that purges overtake it.
const HELD_EVERY: u64 = 8;
/// For so long.
const HELD_FOR: Duration = Duration::from_millis(60);

/// An origin that numbers its answers, all pages together: the number in a body tells when it was fetched.
#[derive(Clone, Debug)]
pub struct Origin {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug, Default)]
struct Desk {
    answers: u64,
    /// For each page that was edited, the last answer of before.
    edited: HashMap<String, u64>,
}

impl Origin {
    /// Listens on a free port of `ip`, for as long as the runtime lives.
    pub async fn start(ip: IpAddr) -> Self {
        let listener = tokio::net::TcpListener::bind((ip, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let desk = Arc::<Mutex<Desk>>::default();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&desk));
        tokio::spawn(axum::serve(listener, app).into_future());
        Self { address, desk }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The editor changes these pages: no answer of before is good any more, not even when a cache asks with its number.
    /// Returns the number of the last answer of before.
    pub fn edit(&self, pages: &[String]) -> u64 {
        let mut desk = self.desk.lock().expect("nobody panicked");
        let last = desk.answers;
        desk.edited.extend(pages.iter().map(|page| (page.clone(), last)));
        last
    }
}

/// The number of an answer of the origin, from its body.
pub fn number(body: &str) -> Option<u64> {
    body.lines().next()?.strip_prefix("answer ")?.parse().ok()
}

async fn answer(State(desk): State<Arc<Mutex<Desk>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let known = request.headers().get("if-none-match").and_then(|tag| tag.to_str().ok());
    let known: Option<u64> = known.and_then(|tag| tag.trim_matches('"').parse().ok());
    let (number, unchanged) = {
        let mut desk = desk.lock().expect("nobody panicked");
        desk.answers += 1;
        let edited = desk.edited.get(&path).copied().unwrap_or(0);
        (desk.answers, known.filter(|known| *known > edited))
    };
    if number.is_multiple_of(HELD_EVERY) {
        tokio::time::sleep(HELD_FOR).await;
    }
    let column = path.rsplit('/').next().unwrap_or_default();
    let headers = |number: u64| {
        [
            ("etag", format!("\"{number}\"")),
            ("cache-control", "max-age=3600".to_owned()),
            ("cache-tag", format!("column:{column}")),
        ]
    };
    match unchanged {
        Some(known) => (axum::http::StatusCode::NOT_MODIFIED, headers(known)).into_response(),
        None => (headers(number), format!("answer {number}\n{path}\n")).into_response(),
    }
}
