use crate::checks::{check, pointers};
use crate::client::Request;
use crate::rig::Rig;

type Make = fn(&Rig) -> Request;

const PURGE: &str = "/v1/sites/shop/purge";
const NO_TASK: &str = "/v1/sites/shop/purge/01JF7M2KZ7YH9Q4K0P2BDH9W3Y";
const FINE: &str = r#"{"tags":["a"]}"#;

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let rig = Rig::start().await;
    rig.set_limits(3, 60).await;
    let cases: &[(&str, Make, u16, &str)] = &[
        // 400 invalid_url
        ("foreign host", |rig| rig.post(r#"{"urls":["https://evil.example/"]}"#), 400, "invalid_url"),
        ("no scheme", |rig| rig.post(r#"{"urls":["www.example.com/"]}"#), 400, "invalid_url"),
        ("ftp", |rig| rig.post(r#"{"urls":["ftp://www.example.com/"]}"#), 400, "invalid_url"),
        ("user name", |rig| rig.post(r#"{"urls":["https://u@www.example.com/"]}"#), 400, "invalid_url"),
        (
            "control character",
            |rig| rig.post(r#"{"urls":["https://www.example.com/a\nb"]}"#),
            400,
            "invalid_url",
        ),
        ("half a host", |rig| rig.post(r#"{"prefixes":["https://www.example.co"]}"#), 400, "invalid_url"),
        (
            "half an escape",
            |rig| rig.post(r#"{"prefixes":["https://www.example.com/%2"]}"#),
            400,
            "invalid_url",
        ),
        ("foreign hostname", |rig| rig.post(r#"{"hosts":["evil.example"]}"#), 400, "invalid_url"),
        (
            "hostname with a soft hyphen",
            |rig| rig.post(r#"{"hosts":["www.exam\u00adple.com"]}"#),
            400,
            "invalid_url",
        ),
        (
            "URL with a zero-width space in its host",
            |rig| rig.post(r#"{"urls":["https://www.example\u200b.com/"]}"#),
            400,
            "invalid_url",
        ),
        (
            "prefix with a soft hyphen in its host",
            |rig| rig.post(r#"{"prefixes":["https://www.exam\u00adple.com/"]}"#),
            400,
            "invalid_url",
        ),
        ("URL as hostname", |rig| rig.post(r#"{"hosts":["https://www.example.com"]}"#), 400, "invalid_url"),
        // 400 invalid_tag
        ("comma", |rig| rig.post(r#"{"tags":["a,b"]}"#), 400, "invalid_tag"),
        ("empty tag", |rig| rig.post(r#"{"tags":[""]}"#), 400, "invalid_tag"),
        ("white space", |rig| rig.post(r#"{"tags":["a b"]}"#), 400, "invalid_tag"),
        // 400 invalid_request
        ("unknown member", |rig| rig.post(r#"{"url":["https://www.example.com/"]}"#), 400, "invalid_request"),
        ("repeated member", |rig| rig.post(r#"{"tags":["a"],"tags":["b"]}"#), 400, "invalid_request"),
        ("wrong type", |rig| rig.post(r#"{"tags":"a"}"#), 400, "invalid_request"),
        ("null for a list", |rig| rig.post(r#"{"tags":null}"#), 400, "invalid_request"),
        ("array for the object", |rig| rig.post(r#"[{"tags":["a"]}]"#), 400, "invalid_request"),
        ("bytes after it", |rig| rig.post(r#"{"tags":["a"]}x"#), 400, "invalid_request"),
        ("empty body", |rig| rig.post(""), 400, "invalid_request"),
        ("nothing to purge", |rig| rig.post(r#"{"soft":true}"#), 400, "invalid_request"),
        (
            "everything with others",
            |rig| rig.post(r#"{"everything":true,"tags":["a"]}"#),
            400,
            "invalid_request",
        ),
        ("invalid UTF-8", |rig| rig.post("").bytes(b"{\"tags\":[\"\xff\"]}"), 400, "invalid_request"),
        (
            "nesting over 32",
            |rig| rig.post(&format!(r#"{{"tags":{}{}}}"#, "[".repeat(40), "]".repeat(40))),
            400,
            "invalid_request",
        ),
        (
            "unknown parameter",
            |rig| rig.request("POST", &format!("{PURGE}?dry-run=true")).json(FINE),
            400,
            "invalid_request",
        ),
        (
            "repeated parameter",
            |rig| rig.request("POST", &format!("{PURGE}?dry_run=true&dry_run=true")).json(FINE),
            400,
            "invalid_request",
        ),
        (
            "malformed parameter",
            |rig| rig.request("POST", &format!("{PURGE}?dry_run=1")).json(FINE),
            400,
            "invalid_request",
        ),
        ("malformed wait", |rig| rig.get(&format!("{NO_TASK}?wait=31")), 400, "invalid_request"),
        ("malformed include", |rig| rig.get(&format!("{NO_TASK}?include=x")), 400, "invalid_request"),
        ("malformed limit", |rig| rig.get("/v1/sites/shop/purges?limit=0"), 400, "invalid_request"),
        ("malformed state", |rig| rig.get("/v1/sites/shop/purges?state=done"), 400, "invalid_request"),
        ("malformed cursor", |rig| rig.get("/v1/sites/shop/purges?cursor=x"), 400, "invalid_request"),
        ("malformed window", |rig| rig.get("/v1/sites/shop/sla?window=1y"), 400, "invalid_request"),
        (
            "parameter of another route",
            |rig| rig.get("/v1/sites/shop/purges/stream?wait=1"),
            400,
            "invalid_request",
        ),
        ("malformed key", |rig| rig.post(FINE).header("Idempotency-Key", "a b"), 400, "invalid_request"),
        (
            "two keys",
            |rig| rig.post(FINE).header("Idempotency-Key", "a").header("Idempotency-Key", "b"),
            400,
            "invalid_request",
        ),
        // 400 too_many_items
        ("201 items", |rig| rig.post(&list("tags", "t", 201)), 400, "too_many_items"),
        (
            "61 prefixes",
            |rig| rig.post(&list("prefixes", "https://www.example.com/", 61)),
            400,
            "too_many_items",
        ),
        // 401 bad_signature
        ("no timestamp", |rig| rig.post(FINE).timestamp(""), 401, "bad_signature"),
        ("malformed timestamp", |rig| rig.post(FINE).timestamp("now"), 401, "bad_signature"),
        ("no signature", |rig| rig.post(FINE).signature(""), 401, "bad_signature"),
        ("malformed signature", |rig| rig.post(FINE).signature("sha256=00"), 401, "bad_signature"),
        ("wrong secret", |rig| rig.post(FINE).secret("bts_live_x"), 401, "bad_signature"),
        (
            "signature in upper case",
            |rig| {
                let request = rig.post(FINE);
                let signature = request.right_signature().to_uppercase().replace("SHA256", "sha256");
                request.signature(&signature)
            },
            401,
            "bad_signature",
        ),
        (
            "signature of another body",
            |rig| {
                let signature = rig.post(FINE).right_signature();
                rig.post(r#"{"tags":["b"]}"#).signature(&signature)
            },
            401,
            "bad_signature",
        ),
        // 401 invalid_token
        ("no token", |rig| rig.post(FINE).no_token(), 401, "invalid_token"),
        ("malformed token", |rig| rig.post(FINE).token("bto_live_x"), 401, "invalid_token"),
        ("unknown token", |rig| rig.post(FINE).token(&rig.never_issued), 401, "invalid_token"),
        (
            "another scheme",
            |rig| rig.post(FINE).no_token().header("Authorization", "Basic Zm9vOmJhcg=="),
            401,
            "invalid_token",
        ),
        // 403 scope_denied
        ("another site", |rig| rig.request("POST", "/v1/sites/blog/purge").json(FINE), 403, "scope_denied"),
        (
            "a site that is none",
            |rig| rig.request("POST", "/v1/sites/nowhere/purge").json(FINE),
            403,
            "scope_denied",
        ),
        (
            "a name that is none",
            |rig| rig.request("POST", "/v1/sites/SHOP/purge").json(FINE),
            403,
            "scope_denied",
        ),
        ("no scope", |rig| rig.reader(rig.post(FINE)), 403, "scope_denied"),
        // 404 not_found
        ("no such task", |rig| rig.get(NO_TASK), 404, "not_found"),
        ("no task id", |rig| rig.get("/v1/sites/shop/purge/1"), 404, "not_found"),
        ("no such route", |rig| rig.get("/v1/sites/shop/purge/1/2"), 404, "not_found"),
        ("no route, no token", |rig| rig.get("/").no_token(), 404, "not_found"),
        ("no such page", |rig| rig.get("/docs/none.js").no_token(), 404, "not_found"),
        // 405 method_not_allowed
        ("GET of the submission", |rig| rig.get(PURGE), 405, "method_not_allowed"),
        ("DELETE of a task", |rig| rig.request("DELETE", NO_TASK), 405, "method_not_allowed"),
        // 413 body_too_large
        ("1 MiB and a byte", |rig| rig.post(&" ".repeat(1024 * 1024 + 1)), 413, "body_too_large"),
        // 415 unsupported_media_type
        (
            "no media type",
            |rig| rig.request("POST", PURGE).bytes(FINE.as_bytes()),
            415,
            "unsupported_media_type",
        ),
        (
            "a form",
            |rig| {
                rig.request("POST", PURGE)
                    .bytes(b"tags=a")
                    .header("Content-Type", "application/x-www-form-urlencoded")
            },
            415,
            "unsupported_media_type",
        ),
    ];
    for (name, make, status, code) in cases {
        let reply = make(&rig).send().await;
        check(name, &reply, *status, code);
        let reply = make(&rig).header("Accept-Language", "ru").send().await;
        let problem = check(name, &reply, *status, code);
        let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        for text in std::iter::once(&problem["detail"]).chain(errors.iter().map(|error| &error["detail"])) {
            let is_russian = |text: &str| text.chars().any(|character| ('а'..='я').contains(&character));
            assert!(text.as_str().is_none_or(is_russian), "{name}: {text}");
        }
    }
    assert_eq!(rig.tasks().await, Vec::<String>::new(), "a refused request has queued something");
    let whole_quota = rig.post(r#"{"tags":["a","b","c"]}"#).send().await;
    assert_eq!(whole_quota.status, 202, "a refused request has taken of the quota: {whole_quota:?}");
}

#[tokio::test]
async fn each_bad_item_is_named_and_nothing_is_queued() {
    let rig = Rig::start().await;
    let body = r#"{"urls":["https://www.example.com/","https://evil.example/"],"tags":["fine","a,b"]}"#;
    let problem = check("two bad items", &rig.post(body).send().await, 400, "invalid_url");
    assert_eq!(pointers(&problem), ["/urls/1", "/tags/1"]);
    assert_eq!(problem["errors"][0]["value"], "https://evil.example/");
    assert_eq!(problem["errors"][0]["detail"], "host evil.example is not a hostname of site shop");
    let foreign =
        check("foreign", &rig.post(r#"{"urls":["https://evil.example/"]}"#).send().await, 400, "invalid_url");
    assert_eq!(foreign["title"], "URL does not belong to the site");
    assert!(rig.tasks().await.is_empty());
}

#[tokio::test]
async fn the_checks_come_in_the_order_of_the_contract() {
    let rig = Rig::start().await;
    let huge = " ".repeat(1024 * 1024 + 1);
    let no_route = rig.request("POST", "/v1/nowhere").no_token();
    check("route before token", &no_route.send().await, 404, "not_found");
    check("token before size", &rig.post(&huge).token("bto_live_x").send().await, 401, "invalid_token");
    check("size before signature", &rig.post(&huge).secret("wrong").send().await, 413, "body_too_large");
    let foreign_and_unsigned = rig.request("POST", "/v1/sites/blog/purge").json(FINE).secret("wrong");
    check("signature before scope", &foreign_and_unsigned.send().await, 401, "bad_signature");
    let scope_and_type = rig.request("POST", "/v1/sites/blog/purge").bytes(b"x");
    check("scope before media type", &scope_and_type.send().await, 403, "scope_denied");
    let type_and_json = rig.request("POST", PURGE).bytes(b"x");
    check("media type before JSON", &type_and_json.send().await, 415, "unsupported_media_type");
    let json_and_items = rig.post(r#"{"tags":["a,b"],"url":[]}"#);
    check("JSON before items", &json_and_items.send().await, 400, "invalid_request");
    rig.set_limits(100, 1).await;
    rig.post(r#"{"everything":true}"#).send().await.task();
    check("items before quota", &rig.post(r#"{"hosts":["evil.example"]}"#).send().await, 400, "invalid_url");
    rig.services.draining.cancel();
    check("quota before durability", &rig.post(r#"{"everything":true}"#).send().await, 429, "rate_limited");
    check("durability", &rig.post(FINE).send().await, 503, "unavailable");
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_by_how_much() {
    let rig = Rig::start().await;
    let now = rig.wall_secs();
    for (timestamp, text) in [
        ((now - 412).to_string(), "412 s behind the server's clock"),
        ((now + 1_000).to_string(), "1000 s ahead of the server's clock"),
    ] {
        let reply = rig.post(FINE).timestamp(&timestamp).send().await;
        let problem = check("skew", &reply, 401, "bad_signature");
        assert!(problem["detail"].as_str().unwrap().contains(text), "{problem}");
        let date = httpdate::parse_http_date(reply.header("date").unwrap()).unwrap();
        assert_eq!(date.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), now);
    }
    for fine in [format!("{}", now - 299), format!("{}.5", now + 299), format!("{now}.123456789")] {
        assert_eq!(rig.post(FINE).timestamp(&fine).send().await.status, 202, "{fine}");
    }
}

#[tokio::test]
async fn titles_and_details_are_russian_where_the_reader_prefers_it() {
    let rig = Rig::start().await;
    let title = async |accept: &str| {
        let reply =
            rig.post(r#"{"urls":["https://evil.example/"]}"#).header("Accept-Language", accept).send().await;
        let problem = check(accept, &reply, 400, "invalid_url");
        (problem["title"].as_str().unwrap().to_owned(), reply.header("content-language").unwrap().to_owned())
    };
    let russian = ("URL не принадлежит сайту".to_owned(), "ru".to_owned());
    let english = ("URL does not belong to the site".to_owned(), "en".to_owned());
    assert_eq!(title("ru-RU,ru;q=0.9,en;q=0.8").await, russian);
    assert_eq!(title("en;q=0.3, ru;q=0.4").await, russian);
    assert_eq!(title("en, ru;q=0.9").await, english);
    assert_eq!(title("de").await, english);
}

#[tokio::test]
async fn the_callers_request_id_is_kept_when_it_is_sane() {
    let rig = Rig::start().await;
    let reply = rig.post("{}").header("X-Request-Id", "deploy-42").send().await;
    assert_eq!(reply.header("x-request-id"), Some("deploy-42"));
    assert_eq!(reply.json()["request_id"], "deploy-42");
    let reply = rig.post(FINE).header("X-Request-Id", "a b").send().await;
    assert_eq!(reply.header("x-request-id").map(str::len), Some(26));
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let rig = Rig::start().await;
    assert_eq!(rig.get(PURGE).send().await.header("allow"), Some("POST, OPTIONS"));
    assert_eq!(rig.post(FINE).send().await.header("allow"), None);
    let options = rig.request("OPTIONS", NO_TASK).no_token().send().await;
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once() {
    let rig = Rig::start().await;
    let token = rig.issue("shop").await;
    let request = || rig.post(FINE).token(&token.text).secret(&token.secret);
    assert_eq!(request().send().await.status, 202);
    assert!(rig.services.catalog.revoke("shop", token.token.id, "rig").await.unwrap());
    check("revoked", &request().send().await, 401, "invalid_token");
}

fn list(name: &str, start: &str, count: usize) -> String {
    let items: Vec<String> = (0..count).map(|n| format!("\"{start}{n}\"")).collect();
    format!(r#"{{"{name}":[{}]}}"#, items.join(","))
}
