use crate::rig::Rig;

/// What the description must say of each route: method, path, success, and refusals beside those of every route.
const ROUTES: [(&str, &str, &str, &[&str]); 5] = [
    ("post", "/v1/sites/{site_id}/purge", "202", &["412", "415", "422"]),
    ("get", "/v1/sites/{site_id}/purge/{task_id}", "200", &[]),
    ("get", "/v1/sites/{site_id}/purges", "200", &[]),
    ("get", "/v1/sites/{site_id}/purges/stream", "200", &[]),
    ("get", "/v1/sites/{site_id}/sla", "200", &[]),
];

const EVERYWHERE: [&str; 8] = ["400", "401", "403", "404", "405", "413", "429", "503"];

#[tokio::test]
async fn the_description_names_every_route_with_its_refusals() {
    let rig = Rig::start().await;
    let reply = rig.get("/openapi.json").no_token().send().await;
    assert_eq!(reply.status, 200);
    let description = reply.json();
    assert_eq!(description["openapi"], "3.1.0");
    assert_eq!(description["paths"].as_object().unwrap().len(), ROUTES.len());
    for (method, path, success, more) in ROUTES {
        let operation = &description["paths"][path][method];
        let responses = operation["responses"].as_object().unwrap_or_else(|| panic!("{method} {path}"));
        assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{path}");
        assert_eq!(operation["security"][0].as_object().unwrap().len(), 1, "{path}");
        for status in EVERYWHERE.iter().chain(more).chain([&success]) {
            let response = &responses.get(*status).unwrap_or_else(|| panic!("{path} has no {status}"));
            assert!(response["headers"]["X-Request-Id"].is_object(), "{path} {status}");
            if *status != success {
                let content = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(content, "#/components/schemas/Problem", "{path} {status}");
            }
        }
    }
    for name in ["Problem", "Code", "Task", "PurgeRequest", "Accepted", "DryRun", "TaskList", "Sla"] {
        assert!(description["components"]["schemas"][name].is_object(), "no schema {name}");
    }
    assert_eq!(description["components"]["schemas"]["PurgeRequest"]["additionalProperties"], false);
    assert_eq!(description["components"]["securitySchemes"].as_object().unwrap().len(), 1);
    assert!(description["info"]["description"].as_str().unwrap().contains("CORS"));
}

#[tokio::test]
async fn parameters_say_what_they_may_be_and_signing_headers_that_they_are_no_settings() {
    let rig = Rig::start().await;
    let description = rig.get("/openapi.json").no_token().send().await.json();
    let parameter = |path: &str, method: &str, name: &str| {
        let all = description["paths"][path][method]["parameters"].as_array().unwrap();
        all.iter()
            .find(|parameter| parameter["name"] == name)
            .unwrap_or_else(|| panic!("{path} {name}"))
            .clone()
    };
    let kinds = parameter("/v1/sites/{site_id}/purges", "get", "kind")["schema"]["enum"].clone();
    assert_eq!(kinds, serde_json::json!(["url", "prefix", "tag", "host", "everything"]));
    let states = parameter("/v1/sites/{site_id}/purges", "get", "state")["schema"]["enum"].clone();
    assert_eq!(states, serde_json::json!(["pending", "in_progress", "completed", "partial"]));
    for (path, name) in [
        ("/v1/sites/{site_id}/sla", "window"),
        ("/v1/sites/{site_id}/purge/{task_id}", "include"),
        ("/v1/sites/{site_id}/purge/{task_id}", "task_id"),
    ] {
        assert!(parameter(path, "get", name)["schema"]["pattern"].is_string(), "{name}");
    }
    for (method, path, ..) in ROUTES {
        for name in ["X-Batoff-Timestamp", "X-Batoff-Signature"] {
            let header = parameter(path, method, name);
            assert_eq!(
                (&header["in"], &header["x-batoff-per-request"]),
                (&"header".into(), &true.into()),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn the_page_signs_what_is_tried_from_it_and_can_talk_to_nobody_else() {
    let rig = Rig::start().await;
    for path in ["/docs/", "/docs/swagger-initializer.js", "/docs/swagger-ui-bundle.js"] {
        let page = rig.get(path).no_token().send().await;
        let policy = page.header("content-security-policy").unwrap_or_else(|| panic!("{path} has no policy"));
        for part in ["default-src 'none'", "connect-src 'self'", "script-src 'self'", "form-action 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
    }
    let page = rig.get("/docs/").no_token().send().await;
    let html = String::from_utf8_lossy(&page.body).into_owned();
    assert!(
        html.split("<script").skip(1).all(|script| script.starts_with(" src=\"./")),
        "no script of its own: {html}"
    );
    let script = rig.get("/docs/swagger-initializer.js").no_token().send().await;
    let script = String::from_utf8_lossy(&script.body).into_owned();
    assert!(script.contains("crypto.subtle.sign") && script.contains("requestInterceptor: signed"));
    for storage in ["localStorage", "sessionStorage", "document.cookie", "http://", "https://"] {
        assert!(!script.contains(storage), "{storage}");
    }
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere() {
    let rig = Rig::start().await;
    let description = rig.get("/openapi.json").no_token().send().await.json();
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn people_read_it_as_pages_without_a_token() {
    let rig = Rig::start().await;
    let moved = rig.get("/docs").no_token().send().await;
    assert_eq!((moved.status, moved.header("location")), (303, Some("/docs/")));
    let page = rig.get("/docs/").no_token().send().await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let script = rig.get("/docs/swagger-initializer.js").no_token().send().await;
    assert!(String::from_utf8_lossy(&script.body).contains("/openapi.json"));
}

#[tokio::test]
async fn what_is_served_is_what_the_routes_are_described_as() {
    let rig = Rig::start().await;
    let served = rig.get("/openapi.json").no_token().send().await.json();
    assert_eq!(served, serde_json::to_value(batoff_control::api::description()).unwrap());
}

#[test]
fn every_part_of_both_descriptions_says_what_it_is() {
    let descriptions = [batoff_control::api::description(), batoff_control::admin::description()];
    for description in descriptions.map(|description| serde_json::to_value(description).unwrap()) {
        let mut silent = Vec::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let at = format!("{method} {path}");
                let says = |value: &serde_json::Value| value.as_str().is_some_and(|text| !text.is_empty());
                if !says(&operation["summary"]) || !says(&operation["operationId"]) {
                    silent.push(at.clone());
                }
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    if !says(&parameter["description"]) || parameter["schema"].is_null() {
                        silent.push(format!("{at}: {}", parameter["name"]));
                    }
                }
                // Whoever is refused is told what to do.
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let about = response["description"].as_str().unwrap_or_default();
                    if about.is_empty() || status.as_str() >= "400" && !about.contains("`: ") {
                        silent.push(format!("{at}: {status}"));
                    }
                }
            }
        }
        for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
            for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
                // What a reference leads to says what it is.
                let text = schema.to_string();
                if !text.contains("\"description\"") && !text.contains("\"$ref\"") {
                    silent.push(format!("{name}.{member}"));
                }
            }
        }
        assert!(silent.is_empty(), "{silent:#?}");
    }
}

#[tokio::test]
async fn the_operators_description_names_every_route_and_leads_nowhere_else() {
    let description = serde_json::to_value(batoff_control::admin::description()).unwrap();
    let operations = |(path, item): (&String, &serde_json::Value)| {
        item.as_object().unwrap().keys().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    let all: Vec<String> = description["paths"].as_object().unwrap().iter().flat_map(operations).collect();
    assert!(all.len() >= 14, "{all:?}");
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(description.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}
