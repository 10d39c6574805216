use std::time::Duration;

use batoff_types::message::LeasePolicy;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::described::{Description, RealAnswer};
use super::node::{Intro, Node};
use super::plane::{PATIENCE, Plane};
use crate::tracker::Membership;

/// Asks the operator's API; status and body.
async fn ask(plane: &Plane, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("/admin/v1/{path}"))
        .header("authorization", format!("Bearer {token}"));
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let response = crate::admin::router(plane.services().clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    let bytes = body.collect().await.unwrap().to_bytes();
    compare(method, &format!("/admin/v1/{path}"), &parts, &bytes);
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}

/// Whatever a story is about: the answer is one that the description knows.
#[track_caller]
pub(super) fn compare(method: &str, target: &str, parts: &http::response::Parts, body: &[u8]) {
    let description = serde_json::to_value(crate::admin::description()).unwrap();
    let text = |value: &'_ http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers: Vec<_> = parts.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
    let headers = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = RealAnswer { method, target, status: parts.status.as_u16(), headers, body };
    Description(&description).compare(&answer).unwrap();
}

async fn admin(plane: &Plane, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    ask(plane, &plane.admin_token(), method, path, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_gets_in() {
    let plane = Plane::start().await;
    for token in ["", "bto_admin_wrong", "Bearer"] {
        let (status, problem) = ask(&plane, token, "GET", "sites", None).await;
        assert_eq!((status, &problem["code"]), (401, &json!("invalid_token")));
    }
    assert_eq!(admin(&plane, "GET", "sites", None).await.0, 200);
    assert_eq!(admin(&plane, "GET", "nothing", None).await.0, 404);
    assert_eq!(admin(&plane, "PUT", "sites", None).await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_with_a_log_of_its_own_is_the_only_one_that_counts() {
    let plane = Plane::start().await;
    let (status, replicas) = admin(&plane, "GET", "replicas", None).await;
    assert_eq!((status, &replicas["own"], &replicas["members"]), (200, &json!(1), &json!([1])));
    let own = &replicas["replicas"][0];
    assert_eq!((&own["id"], &own["role"], &own["live"]), (&json!(1), &json!("member"), &json!(true)));
    let set = |members: Value| {
        admin(&plane, "POST", "replicas/sets?force=true", Some(json!({ "members": members })))
    };
    let (status, problem) = set(json!([1, 2, 3])).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    assert!(problem["detail"].as_str().unwrap().contains("the only one"), "{problem}");
    for nonsense in [json!([]), json!([0]), json!((1..=20).collect::<Vec<u8>>())] {
        let (status, problem) = set(nonsense).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")));
    }
    let (_, audit) = admin(&plane, "GET", "audit?action=replica.set", None).await;
    assert_eq!(audit["entries"].as_array().map(Vec::len), Some(4), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostname_has_one_owner_and_moves_only_when_told_to() {
    let plane = Plane::start().await;
    let new = json!({"site_id": "blog", "hostnames": ["www.example.com", "blog.example.com"]});
    let (status, problem) = admin(&plane, "POST", "sites", Some(new.clone())).await;
    assert_eq!(
        (status, &problem["code"], &problem["errors"][0]["pointer"]),
        (409, &json!("conflict"), &json!("/hostnames/0"))
    );
    let mut moving = new;
    moving["move"] = json!(true);
    assert_eq!(admin(&plane, "POST", "sites", Some(moving.clone())).await.0, 201);
    assert_eq!(admin(&plane, "POST", "sites", Some(moving)).await.0, 409);
    assert_eq!(admin(&plane, "GET", "sites/shop", None).await.1["hostnames"], json!([]));
    let owner = plane.services().catalog.table().owner("www.example.com").cloned();
    assert_eq!(owner.unwrap().as_str(), "blog");
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_are_changed_in_part_and_removed_with_their_tokens() {
    let plane = Plane::start().await;
    let limits = json!({"limits": {"items_per_minute": 7}});
    let (status, site) = admin(&plane, "PATCH", "sites/shop", Some(limits)).await;
    assert_eq!(
        (status, &site["hostnames"], &site["limits"]),
        (200, &json!(["www.example.com"]), &json!({"items_per_minute": 7}))
    );
    for (body, pointer) in [
        (json!({"hostnames": []}), "/hostnames"),
        (json!({"hostnames": ["a.test", "a.test"]}), "/hostnames/1"),
        (json!({"hostnames": ["http://a.test/"]}), "/hostnames/0"),
        (json!({"hostnames": ["a.test", "exam\u{ad}ple.test"]}), "/hostnames/1"),
        (json!({"hostnames": ["*.exam\u{200b}ple.test"]}), "/hostnames/0"),
        (json!({"limits": {"prefixes_per_minute": 0}}), "/limits/prefixes_per_minute"),
        (json!({"limits": {"tags_per_response": 0}}), "/limits/tags_per_response"),
        (json!({"limits": {"tags_per_response": 1_025}}), "/limits/tags_per_response"),
    ] {
        let (status, problem) = admin(&plane, "PATCH", "sites/shop", Some(body)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!(pointer)));
    }
    let limits = json!({"limits": {"tags_per_response": 64}});
    let (status, site) = admin(&plane, "PATCH", "sites/shop", Some(limits)).await;
    assert_eq!((status, &site["limits"]), (200, &json!({"tags_per_response": 64})));
    assert_eq!(plane.services().catalog.table().tags_max("www.example.com"), 64);
    // The dot of the root makes no other name of it.
    let dotted = json!({"site_id": "thief", "hostnames": ["www.example.com."]});
    assert_eq!(admin(&plane, "POST", "sites", Some(dotted)).await.0, 409);
    let misspelt = json!({"hostname": ["a.test"]});
    assert_eq!(admin(&plane, "PATCH", "sites/shop", Some(misspelt)).await.0, 400);

    let (status, issued) = admin(&plane, "POST", "sites/shop/tokens", Some(json!({"label": "ci"}))).await;
    assert_eq!(status, 201);
    let token = issued["token"].as_str().unwrap();
    assert!(plane.services().catalog.find(token).is_ok());
    assert_eq!(admin(&plane, "DELETE", "sites/shop", None).await.0, 204);
    assert!(plane.services().catalog.find(token).is_err());
    assert_eq!(admin(&plane, "GET", "sites/shop", None).await.0, 404);
    assert_eq!(admin(&plane, "DELETE", "sites/shop", None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_and_refused_from_its_revocation_on() {
    let plane = Plane::start().await;
    let wanted = json!({"label": "ci", "scopes": ["read"], "expires_at": "2100-01-01T00:00:00Z"});
    let (_, issued) = admin(&plane, "POST", "sites/shop/tokens", Some(wanted)).await;
    let (token, id) = (issued["token"].as_str().unwrap(), issued["token_id"].as_str().unwrap());
    assert!(issued["secret"].as_str().unwrap().starts_with("bts_live_"));
    let (_, list) = admin(&plane, "GET", "sites/shop/tokens", None).await;
    assert_eq!(list["tokens"][0]["expires_at"], "2100-01-01T00:00:00Z");
    assert_eq!((&list["tokens"][0]["created_by"], &list["revoked"]), (&json!("admin"), &json!([])));
    assert!(!list.to_string().contains(token));
    assert_eq!(admin(&plane, "DELETE", &format!("sites/other/tokens/{id}"), None).await.0, 404);
    assert_eq!(admin(&plane, "DELETE", &format!("sites/shop/tokens/{id}"), None).await.0, 204);
    assert!(plane.services().catalog.find(token).is_err());
    let (_, list) = admin(&plane, "GET", "sites/shop/tokens", None).await;
    let revoked = &list["revoked"][0];
    assert_eq!((&list["tokens"], &revoked["token_id"]), (&json!([]), &json!(id)));
    assert_eq!((&revoked["revoked_by"], &revoked["label"]), (&json!("admin"), &json!("ci")));
    let past = json!({"expires_at": "2001-01-01T00:00:00Z"});
    assert_eq!(admin(&plane, "POST", "sites/shop/tokens", Some(past)).await.0, 400);
    assert_eq!(admin(&plane, "POST", "sites/shop/tokens", Some(json!({"scopes": ["admin"]}))).await.0, 400);
    assert_eq!(admin(&plane, "POST", "sites/none/tokens", Some(json!({}))).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_node_is_no_longer_waited_for() {
    let plane = Plane::start().await;
    let node = Node::available(&plane, "fra1/edge-1").await;
    let name = node.name.clone();
    let (_, nodes) = admin(&plane, "GET", "nodes", None).await;
    assert_eq!(
        (&nodes["nodes"][0]["state"], &nodes["nodes"][0]["caches"][0]["name"]),
        (&json!("leased"), &json!("nginx"))
    );
    drop(node);
    let task = plane.purge("/a").await.task;
    plane.tracker().knows(plane.task(task).await.seq).await;
    assert_eq!(admin(&plane, "DELETE", "nodes/fra1/edge-1", None).await.0, 409);
    assert_eq!(admin(&plane, "DELETE", "nodes/fra1/edge-1?force=true", None).await.0, 204);
    assert_eq!(admin(&plane, "DELETE", "nodes/fra1/edge-1?force=true", None).await.0, 204);
    plane.completed(task).await;
    let (_, nodes) = admin(&plane, "GET", "nodes", None).await;
    assert_eq!((&nodes["nodes"], &nodes["removed"]), (&json!([]), &json!(["fra1/edge-1"])));
    assert_eq!(plane.tracker().membership(&name), Membership::Blocked);
    assert_eq!(admin(&plane, "POST", "nodes/fra1/edge-1", None).await.0, 204);
    assert_eq!(plane.tracker().membership(&name), Membership::Unknown);
    assert_eq!(admin(&plane, "DELETE", "nodes/fra1/edge-9", None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_shows_how_many_objects_came_to_its_nodes_with_too_many_tags() {
    use batoff_types::message::{Ack, FromNode, OVERFLOWED_SITES_MAX, Overflowed};

    const AGO: Duration = Duration::from_secs(3_600);

    let plane = Plane::start().await;
    let shown = async || admin(&plane, "GET", "sites/shop", None).await.1["tag_overflow"].clone();
    let until = async |objects: u64, nodes: u32| {
        let told = async {
            while shown().await["objects"] != objects {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, told).await.is_ok(), "{} is not {objects}", shown().await);
        assert_eq!(shown().await["nodes"], nodes);
    };
    let tell = |node: &Node, sites: &[(&str, u64)]| {
        let figure = |(site, objects): &(&str, u64)| Overflowed {
            site: site.parse().unwrap(),
            objects: *objects,
            since: AGO,
        };
        let overflowed = sites.iter().map(figure).collect();
        node.say(FromNode::Ack(Ack { cursor: node.cursor, reports: Vec::new(), overflowed }));
    };
    assert_eq!(shown().await, json!({ "objects": 0, "nodes": 0 }));
    let (one, other) = (Node::strict(&plane, "fra1/edge-1").await, Node::strict(&plane, "lon1/edge-2").await);
    tell(&one, &[("shop", 3), ("no-such-site", 9)]);
    until(3, 1).await;
    tell(&other, &[("shop", 4)]);
    until(7, 2).await;
    tell(&one, &[("shop", 5)]);
    until(9, 2).await;
    let (_, sites) = admin(&plane, "GET", "sites", None).await;
    assert_eq!(sites["sites"][0]["tag_overflow"], shown().await, "{sites}");
    let at: jiff::Timestamp = shown().await["last_at"].as_str().unwrap().parse().unwrap();
    let age = jiff::Timestamp::now().as_second() - at.as_second();
    assert!((3_590..3_700).contains(&age), "when it came, not when it was told: {age} s");

    // What its last run has counted counts no more when it has started anew.
    drop(one);
    let one = Node::connect(&plane, Intro::new("fra1/edge-1", LeasePolicy::Revalidate)).await;
    until(4, 1).await;

    // Of a node that tells of more sites than it may the first count.
    let names: Vec<String> = (0..OVERFLOWED_SITES_MAX).map(|n| format!("site-{n}")).collect();
    tell(&one, &names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>());
    tell(&one, &[("shop", 50), ("site-0", 2)]);
    let told = async {
        while plane.tracker().tag_overflow(&"site-0".parse().unwrap()).objects != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the last message of the node is taken up");
    tell(&other, &[("shop", 6)]);
    until(6, 1).await;
    assert_eq!(plane.tracker().tag_overflows().len(), OVERFLOWED_SITES_MAX + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_a_cache_is_shown_until_it_is_over() {
    use batoff_types::message::{FromNode, Trouble};

    let plane = Plane::start().await;
    let node = Node::strict(&plane, "fra1/edge-1").await;
    let trouble = |message: &str| {
        node.say(FromNode::Trouble(Trouble { cache: "nginx".into(), message: message.into(), stuck: None }));
    };
    for message in ["connection refused", ""] {
        trouble(message);
        tokio::time::timeout(PATIENCE, async {
            let shown = |nodes: Value| {
                nodes["nodes"][0]["caches"][0]["trouble"].as_str().unwrap_or_default().to_owned()
            };
            while shown(admin(&plane, "GET", "nodes", None).await.1) != message {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
    }
    assert_eq!(plane.tracker().nodes()[0].policy, Some(LeasePolicy::Revalidate));
}
