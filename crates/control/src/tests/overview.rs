use std::time::Duration;

use batoff_types::message::{FromNode, LeasePolicy, Trouble};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::administration::compare;
use super::node::Node;
use super::plane::{Plane, shop};
use crate::overview::Overview;
use crate::tracker::{Concern, ConcernKind, LateCause, TaskState};

/// The overview once it fits; it is good for a second.
async fn until(plane: &Plane, fits: impl Fn(&Overview) -> bool) -> std::sync::Arc<Overview> {
    let deadline = tokio::time::Instant::now() + super::plane::PATIENCE;
    loop {
        let overview = plane.services().overview.now().await.unwrap();
        if fits(&overview) {
            return overview;
        }
        assert!(tokio::time::Instant::now() < deadline, "{overview:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn concern(overview: &Overview, kind: ConcernKind) -> Option<&Concern> {
    overview.fleet.concerns.iter().find(|concern| concern.kind == kind)
}

/// What the operator's API says: status, type, body.
async fn admin(plane: &Plane, path: &str) -> (u16, String, String) {
    let request = http::Request::get(format!("/admin/v1/{path}"))
        .header("authorization", format!("Bearer {}", plane.admin_token()))
        .body(axum::body::Body::empty())
        .unwrap();
    let response = crate::admin::router(plane.services().clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    let kind = parts.headers[http::header::CONTENT_TYPE].to_str().unwrap().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    compare("GET", &format!("/admin/v1/{path}"), &parts, &body);
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_is_well_it_says_so_and_who_was_slowest() {
    let plane = Plane::start().await;
    Node::strict(&plane, "fra1/edge-1").await.follow();
    let task = plane.purge("/a").await.task;
    let done = plane.completed(task).await;
    let overview = until(&plane, |overview| overview.hour.judged == 1).await;
    let fleet = overview.fleet.fleet;
    assert_eq!((fleet.total, fleet.current, fleet.connected), (1, 1, 1));
    assert_eq!((overview.fleet.concerns.len(), overview.fleet.concerns_more), (0, 0), "{overview:?}");
    let slowest = overview.hour.slowest.as_ref().unwrap();
    assert_eq!((slowest.task, Some(slowest.propagation_ms)), (task, done.propagation_ms));
    assert_eq!(slowest.node.as_ref().unwrap().0.to_string(), "fra1/edge-1");
    until(&plane, |overview| overview.fleet.per_second.iter().sum::<u32>() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_late_is_named_with_the_reason_and_since_when() {
    let plane = Plane::start().await;
    let mut stuck = Node::available(&plane, "fra1/edge-1").await;
    let gone = Node::available(&plane, "waw1/edge-1").await;
    drop(gone);
    let accepted = plane.purge("/a").await;
    stuck.receive_through(accepted.seq).await;
    stuck.say(FromNode::Trouble(Trouble {
        cache: "nginx".into(),
        message: "no answer".into(),
        stuck: Some(accepted.seq),
    }));
    plane.services().overview.handle_over_quota(&shop(), "prefixes: 0 of 60 a minute left, 1 needed");
    let all = |overview: &Overview| {
        [ConcernKind::LateNode, ConcernKind::CacheTrouble, ConcernKind::OverQuota]
            .into_iter()
            .all(|kind| concern(overview, kind).is_some())
            && overview.fleet.concerns.iter().filter(|c| c.kind == ConcernKind::LateNode).count() == 2
    };
    let overview = until(&plane, all).await;
    let late: Vec<_> = overview
        .fleet
        .concerns
        .iter()
        .filter(|concern| concern.kind == ConcernKind::LateNode)
        .map(|concern| (&*concern.subject, concern.cause.unwrap()))
        .collect();
    assert!(late.contains(&("fra1/edge-1", LateCause::CacheTrouble)), "{late:?}");
    assert!(late.contains(&("waw1/edge-1", LateCause::NoConnection)), "{late:?}");
    assert!(overview.fleet.concerns.iter().all(|concern| concern.since.is_some()), "{overview:?}");
    let trouble = concern(&overview, ConcernKind::CacheTrouble).unwrap();
    assert_eq!(trouble.detail, format!("nginx: no answer (since seq {})", accepted.seq));

    let (status, _, way) = admin(&plane, &format!("purges/{}/propagation", accepted.task)).await;
    assert!(status == 200 && way.contains("\"late\":[{"), "{way}");
    assert_eq!(admin(&plane, "purges/01JF7M2KZ7YH9Q4K0P2BDH9W3Y/propagation").await.0, 404);
    let (status, _, shown) = admin(&plane, "overview").await;
    assert!(status == 200 && shown.contains("\"cause\":\"no_connection\""), "{shown}");
    let (_, _, nodes) = admin(&plane, "nodes").await;
    assert!(nodes.contains("\"kind\":\"late_node\"") && nodes.contains("trouble_since"), "{nodes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promise_is_told_day_by_day_with_its_breaches() {
    let plane = Plane::start().await;
    let node = Node::available(&plane, "fra1/edge-1").await;
    let intro = node.intro(LeasePolicy::Serve);
    drop(node);
    let task = plane.purge("/late").await.task;
    plane.until(task, |view| view.state == TaskState::Partial).await;
    // It counts as late once the target is over, which is noticed a moment after the state.
    let deadline = tokio::time::Instant::now() + super::plane::PATIENCE;
    loop {
        let (_, _, open) = admin(&plane, "sla/export?site=shop").await;
        let open: serde_json::Value = serde_json::from_str(&open).unwrap();
        assert_eq!(open["total"]["purges"], 1, "{open}");
        if open["total"]["late"] == 1 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{open}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    Node::connect(&plane, intro).await.follow();
    plane.completed(task).await;
    plane.completed(plane.purge("/fast").await.task).await;
    let now = plane.services().clock.wall();
    for site in [Some(&shop()), None] {
        let report = plane.tracker().sla_days(site, now, now).await.unwrap();
        // The test may run over midnight.
        let purges: u64 = report.days.iter().map(|day| day.view.purges).sum();
        assert_eq!((report.total.purges, purges, report.breaches.len()), (2, 2, 1), "{report:?}");
        assert_eq!((report.total.judged, report.total.within), (2, 1));
        assert_eq!(report.total.slowest.as_ref().unwrap().task, task);
    }

    let (status, kind, days) = admin(&plane, "sla/export?format=csv&site=shop").await;
    assert_eq!((status, kind.as_str()), (200, "text/csv; charset=utf-8; header=present"));
    let lines: Vec<&str> = days.split("\r\n").collect();
    assert!(lines[0].starts_with("site,day,purges,within_target,late,attainment,p50_ms"), "{days}");
    assert_eq!((lines.len(), lines.last()), (1 + 30 + 1, Some(&"")), "{days}");
    assert!(lines.iter().all(|line| line.is_empty() || line.split(',').count() == 14), "{days}");
    assert!(days.contains(",2,1,1,0.500000,"), "{days}");
    let (_, _, breaches) = admin(&plane, "sla/export?format=csv&table=breaches").await;
    assert!(breaches.contains(&format!("shop,{task},")) && breaches.contains(",fra1/edge-1,"), "{breaches}");

    for bad in [
        "from=yesterday",
        "format=xml",
        "from=2026-01-02&until=2026-01-01",
        "from=2020-01-01",
        "table=x",
        "site=A",
    ] {
        assert_eq!(admin(&plane, &format!("sla/export?{bad}")).await.0, 400, "{bad}");
    }
}
