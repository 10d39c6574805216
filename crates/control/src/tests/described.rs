//! Compares real answers with what the description says of them: status, headers, media type, and the body's members.
//! Every answer that a test of these APIs gets goes through here, so the description cannot fall behind.

use serde_json::Value;

/// Headers that HTTP itself, or every reply, has.
const GENERAL: [&str; 8] = [
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "cache-control",
    "vary",
    "x-content-type-options",
    "date",
];

/// An OpenAPI document.
pub struct Description<'a>(pub &'a Value);

/// An answer as it came.
pub struct RealAnswer<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub status: u16,
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: &'a [u8],
}

impl Description<'_> {
    /// What of the answer is not as described.
    pub fn compare(&self, answer: &RealAnswer<'_>) -> Result<(), String> {
        let RealAnswer { method, target, status, .. } = answer;
        let path = target.split('?').next().unwrap_or_default();
        let Some(item) = self.item(path) else {
            // The description itself, its pages, and what does not exist.
            return Ok(());
        };
        let wrong = |what: String| Err(format!("{method} {target}: {status}: {what}"));
        let method = if *method == "HEAD" { "get" } else { &*method.to_ascii_lowercase() };
        let Some(operation) = item.get(method) else {
            return match status {
                204 if method == "options" => Ok(()),
                405 | 401 => Ok(()),
                _ => wrong("the description has no such method".to_owned()),
            };
        };
        let Some(response) = operation["responses"].get(status.to_string()) else {
            return wrong("the description has no such status".to_owned());
        };
        for (name, _) in &answer.headers {
            let described = response["headers"].as_object().into_iter().flat_map(|all| all.keys());
            if !GENERAL.contains(name) && !described.into_iter().any(|known| known.eq_ignore_ascii_case(name))
            {
                return wrong(format!("the description has no header {name}"));
            }
        }
        let media_type =
            answer.headers.iter().find(|(name, _)| *name == "content-type").map(|(_, value)| *value);
        let essence = media_type.map(|value| value.split(';').next().unwrap_or_default().trim());
        let content = &response["content"];
        match (essence, content.as_object()) {
            (None, _) if answer.body.is_empty() => Ok(()),
            (Some(essence), Some(content)) => match content.get(essence) {
                Some(content) if essence.ends_with("json") && !answer.body.is_empty() => {
                    let body =
                        serde_json::from_slice(answer.body).map_err(|error| format!("{target}: {error}"))?;
                    self.fits(&content["schema"], &body, "").or_else(wrong)
                }
                Some(_) => Ok(()),
                None => wrong(format!("the description has not the media type {essence}")),
            },
            (essence, _) => wrong(format!("the description has no body, the answer one of {essence:?}")),
        }
    }

    /// The description of a path.
    fn item(&self, path: &str) -> Option<&Value> {
        let fits = |template: &str| {
            let (template, path) = (template.split('/'), path.split('/'));
            template.clone().count() == path.clone().count()
                && template
                    .zip(path)
                    .all(|(known, part)| known == part || known.starts_with('{') && !part.is_empty())
        };
        let paths = self.0["paths"].as_object()?;
        // A name goes before a placeholder.
        let exact = paths.iter().find(|(template, _)| *template == path);
        exact.or_else(|| paths.iter().find(|(template, _)| fits(template))).map(|(_, item)| item)
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let target =
            schema["$ref"].as_str().and_then(|reference| self.0.pointer(reference.trim_start_matches('#')));
        target.unwrap_or(schema)
    }

    /// Whether a value is what a schema says.
    fn fits(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.resolved(schema);
        for any in ["oneOf", "anyOf"] {
            if let Some(variants) = schema[any].as_array() {
                let tried: Vec<_> = variants.iter().map(|variant| self.fits(variant, value, at)).collect();
                return match tried.iter().any(Result::is_ok) {
                    true => Ok(()),
                    false => Err(format!("{at}: none of {any}: {tried:?}")),
                };
            }
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            return Err(format!("{at}: {value} is not among {allowed:?}"));
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(value, kind)) {
            return Err(format!("{at}: {value} is not of type {kinds:?}"));
        }
        match value {
            Value::Object(members) => {
                let (mut known, mut required) = (Vec::new(), Vec::new());
                self.members(schema, &mut known, &mut required);
                if let Some(missing) = required.iter().find(|name| !members.contains_key(**name)) {
                    return Err(format!("{at}: lacks {missing}"));
                }
                for (name, value) in members {
                    let at = format!("{at}/{name}");
                    match known.iter().find(|(known, _)| known == name) {
                        Some((_, schema)) => self.fits(schema, value, &at)?,
                        // An object of which nothing is said may have any members.
                        None if known.is_empty() => {}
                        None => return Err(format!("{at}: is not described")),
                    }
                }
                Ok(())
            }
            Value::Array(items) => {
                let mut items = items.iter().enumerate();
                items
                    .try_for_each(|(index, item)| self.fits(&schema["items"], item, &format!("{at}/{index}")))
            }
            _ => Ok(()),
        }
    }

    fn members<'a>(
        &'a self,
        schema: &'a Value,
        known: &mut Vec<(&'a str, &'a Value)>,
        required: &mut Vec<&'a str>,
    ) {
        let schema = self.resolved(schema);
        let properties = schema["properties"].as_object().into_iter().flatten();
        known.extend(properties.map(|(name, schema)| (name.as_str(), schema)));
        required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.members(part, known, required);
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[test]
fn what_is_not_described_is_noticed() {
    let description = serde_json::json!({
        "paths": { "/v1/{site}": { "get": { "responses": { "200": {
            "headers": { "X-Request-Id": {} },
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Site" } } }
        } } } } },
        "components": { "schemas": { "Site": {
            "type": "object", "required": ["name"],
            "properties": { "name": { "type": "string", "enum": ["shop"] }, "sizes": { "type": "array", "items": { "type": "integer" } } }
        } } }
    });
    let compare = |method, status, header, body: &str| {
        let headers = vec![("content-type", "application/json"), (header, "")];
        let answer = RealAnswer { method, target: "/v1/shop?x=y", status, headers, body: body.as_bytes() };
        Description(&description).compare(&answer)
    };
    compare("GET", 200, "x-request-id", r#"{"name": "shop", "sizes": [1]}"#).unwrap();
    for (method, status, header, body, complaint) in [
        ("PUT", 200, "x-request-id", "{}", "no such method"),
        ("GET", 404, "x-request-id", "{}", "no such status"),
        ("GET", 200, "x-secret", "{}", "no header x-secret"),
        ("GET", 200, "x-request-id", "{}", "lacks name"),
        ("GET", 200, "x-request-id", r#"{"name": "blog"}"#, "not among"),
        ("GET", 200, "x-request-id", r#"{"name": 1}"#, "not among"),
        ("GET", 200, "x-request-id", r#"{"name": "shop", "more": 1}"#, "/more: is not described"),
        ("GET", 200, "x-request-id", r#"{"name": "shop", "sizes": ["a"]}"#, "/sizes/0"),
    ] {
        let complained = compare(method, status, header, body).unwrap_err();
        assert!(complained.contains(complaint), "{complained}");
    }
}
