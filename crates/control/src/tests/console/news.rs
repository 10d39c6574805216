//! What happens is brought into pages that are open.

use std::time::Duration;

use tokio_stream::StreamExt;

use super::*;
use crate::console::live::{Live, NewsPiece, Sight};
use crate::tests::plane::PATIENCE;

/// An open stream, and what has come of it.
struct Stream {
    data: axum::body::BodyDataStream,
    text: String,
}

impl Browser {
    async fn listen(&self, path: &str, last: Option<&str>) -> Stream {
        let mut request = Request::builder().uri(path).header("cookie", self.cookie.as_ref().unwrap());
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(home(), 4711)));
        let response = self.console.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream { data: response.into_body().into_data_stream(), text: String::new() }
    }
}

impl Stream {
    /// Reads on until it has this.
    async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let next = tokio::time::timeout(PATIENCE, self.data.next()).await;
            let next = next.unwrap_or_else(|_| panic!("{wanted} does not come after {}", self.text));
            let next = next.unwrap_or_else(|| panic!("the stream ends without {wanted} after {}", self.text));
            self.text.push_str(std::str::from_utf8(&next.unwrap()).unwrap());
        }
    }

    /// The id of the last event.
    fn last(&self) -> &str {
        self.text.rsplit("id: ").next().unwrap().lines().next().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_comes_when_its_purge_does_and_only_to_those_whose_site_it_is() {
    let plane = Plane::start().await;
    plane.change("blog", Some(&["blog.example.org"])).await;
    let operator = Browser::of(&plane, Role::Operator, &[]).await.with("accept-language", "ru");
    let page = operator.get("/purges").await.into_body();
    let place = page.split("data-live=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let reader =
        Browser { console: operator.console.clone(), ..Browser::of(&plane, Role::Viewer, &["blog"]).await };
    // Between the page and its stream: it is not missed.
    let first = purge(&plane, "<b>ci</b>", vec![Selector::Everything]).await;
    let mut all = operator.listen(&format!("/live?after={place}"), None).await;
    let mut of_blog = reader.listen("/live", None).await;
    all.until(&format!("<tr id=\"p-{first}\"")).await;
    assert!(all.text.contains("&#60;b&#62;ci"), "{}", all.text);
    let second = purge(&plane, "ci", vec![Selector::Everything]).await;
    all.until(&second).await;

    let last = all.last().to_owned();
    drop(all);
    let third = purge(&plane, "ci", vec![Selector::Everything]).await;
    let mut again = operator.listen("/live?after=0-0", Some(&last)).await;
    again.until(&third).await;
    assert!(!again.text.contains(&first), "{}", again.text);

    // Somebody else's rows have not come; that the stream lives shows when its viewer's account does not.
    let url = batoff_types::Selector::Url("https://blog.example.org/a".parse().unwrap());
    let submission = Submission {
        purge: Purge { site: "blog".parse().unwrap(), selectors: vec![url], soft: false },
        request_id: "request-2".into(),
        requester: None,
        dedupe: Vec::new(),
        trace: None,
    };
    let own = plane.services().commit.submit(submission).await.unwrap().task.to_string();
    of_blog.until(&own).await;
    assert!([first, second, third].iter().all(|task| !of_blog.text.contains(task)), "{}", of_blog.text);
    let accounts = &plane.services().accounts;
    accounts.sign_out(reader.viewer.as_ref().unwrap(), home()).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, async { while of_blog.data.next().await.is_some() {} });
    end.await.expect("who has signed out hears no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_in_what_is_rendered_ends_the_news_for_a_moment_only() {
    let plane = Plane::start().await;
    let (services, live) = (plane.services(), Arc::new(Live::default()));
    let mut told = live.listen(services);
    let mut place = services.tracker.news_place();
    for round in 0..3 {
        live.fail();
        let task = purge(&plane, &format!("round {round}"), vec![Selector::Everything]).await;
        let hears = async {
            loop {
                let next = live
                    .next(services, place, crate::language::Language::English, &Sight::All)
                    .await
                    .unwrap();
                match next {
                    Some(NewsPiece::Told(events, to)) => {
                        place = to;
                        if events.iter().any(|event| String::from_utf8_lossy(event).contains(&task)) {
                            return;
                        }
                    }
                    Some(NewsPiece::Lost(_, to)) => place = to,
                    None => told.changed().await.unwrap(),
                }
            }
        };
        tokio::time::timeout(PATIENCE, hears).await.unwrap_or_else(|_| panic!("no news in round {round}"));
        // Not only who asks for himself: the rendering goes on, and tells.
        let task = purge(&plane, "after", vec![Selector::Everything]).await;
        plane.until(task.parse().unwrap(), |_| true).await;
        tokio::time::timeout(PATIENCE, told.changed()).await.expect("the rendering goes on").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_too_long_asks_for_his_page_anew() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane, Role::Operator, &[]).await;
    let mut stream = browser.listen("/live?after=ffff-0", None).await;
    stream.until("event: refresh").await;
    let place = stream.last().to_owned();
    assert!(!place.starts_with("ffff"), "{place}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let task = purge(&plane, "ci", vec![Selector::Everything]).await;
    stream.until(&task).await;
}
