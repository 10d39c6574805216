//! The reference: the OpenAPI document that is served, as a page shows it.

use serde_json::Value;

use super::rich::Rich;
use super::russian::in_russian;

/// Headers that every answer has, and so need not be told of each.
const EVERYWHERE: [&str; 2] = ["X-Request-Id", "Date"];

/// An API.
pub struct Reference {
    /// Its operations.
    pub operations: Vec<OperationDoc>,
    /// The documents that they take and give.
    pub schemas: Vec<SchemaDoc>,
}

/// An operation.
pub struct OperationDoc {
    /// Its name, which is its anchor.
    pub id: String,
    /// In capitals.
    pub method: String,
    /// As the description has it, with `{…}`.
    pub path: String,
    pub summary: String,
    pub about: Vec<Rich>,
    pub parameters: Vec<MemberDoc>,
    /// The document that it takes.
    pub body: Option<KindDoc>,
    pub answers: Vec<AnswerDoc>,
    /// Statuses with what they mean, code by code.
    pub refusals: Vec<(String, Vec<String>)>,
}

/// A parameter, a header or a member.
pub struct MemberDoc {
    pub name: String,
    /// Of a parameter: `path`, `query` or `header`.
    pub place: String,
    pub is_required: bool,
    pub kind: KindDoc,
    pub about: Rich,
}

/// A success.
pub struct AnswerDoc {
    pub status: String,
    pub about: Rich,
    pub kind: Option<KindDoc>,
    pub headers: Vec<MemberDoc>,
}

/// A document.
pub struct SchemaDoc {
    pub name: String,
    pub about: Rich,
    pub members: Vec<MemberDoc>,
    /// Of an enum, its values with what they mean.
    pub values: Vec<String>,
    /// Of one that is one of several documents, those.
    pub variants: Vec<KindDoc>,
}

/// What a value is: some words, and the document that it leads to.
#[derive(Default)]
pub struct KindDoc {
    pub words: String,
    /// The name of a schema.
    pub link: Option<String>,
}

impl Reference {
    /// Of a complete description.
    pub fn of(description: &utoipa::openapi::OpenApi) -> Self {
        // It was made by this program, and what it consists of always has a JSON form.
        Self::of_document(&serde_json::to_value(description).unwrap_or_default())
    }

    /// The same in Russian, as far as there is Russian for it; and what stays English.
    pub fn in_russian(description: &utoipa::openapi::OpenApi) -> (Self, Vec<String>) {
        let mut document = serde_json::to_value(description).unwrap_or_default();
        let mut missing = Vec::new();
        for part in ["paths", "components"] {
            translate(&mut document[part], &mut missing);
        }
        (Self::of_document(&document), missing)
    }

    fn of_document(document: &Value) -> Self {
        let mut operations = Vec::new();
        for (path, item) in members(&document["paths"]) {
            for (method, operation) in members(item) {
                operations.push(operation_of(path, method, operation));
            }
        }
        // By subject; within one the paths are sorted as they are.
        operations.sort_by_key(|operation: &OperationDoc| tag_place(document, &operation.path));
        let schemas =
            members(&document["components"]["schemas"]).map(|(name, schema)| schema_of(name, schema));
        // Problems and their codes have a chapter of their own.
        let schemas = schemas.filter(|schema| schema.name != "Code").collect();
        Self { operations, schemas }
    }
}

/// Exchanges summaries and descriptions, paragraph by paragraph. What refusals say is told by code elsewhere.
fn translate(value: &mut Value, missing: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match member {
                    Value::String(text) if name == "summary" || name == "description" => {
                        let paragraphs = text.split("\n\n").map(|paragraph| {
                            let known =
                                in_russian(paragraph).or_else(|| in_russian(paragraph.trim_end_matches('.')));
                            known.unwrap_or_else(|| {
                                missing.push(paragraph.to_owned());
                                paragraph
                            })
                        });
                        *text = paragraphs.collect::<Vec<_>>().join("\n\n");
                    }
                    Value::Object(_) if name.starts_with(['4', '5']) => {}
                    Value::Object(all) if name == "headers" => {
                        all.retain(|header, _| !EVERYWHERE.contains(&header.as_str()));
                        translate(member, missing);
                    }
                    _ if name == "securitySchemes" || name == "x-batoff-per-request" => {}
                    member => translate(member, missing),
                }
            }
        }
        Value::Array(items) => {
            items.retain(|item| item["x-batoff-per-request"] != true);
            items.iter_mut().for_each(|item| translate(item, missing));
        }
        _ => {}
    }
}

fn tag_place(document: &Value, path: &str) -> usize {
    let tag = members(&document["paths"][path]).next().map(|(_, operation)| &operation["tags"][0]);
    let tags = document["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    tags.iter().position(|known| Some(&known["name"]) == tag).unwrap_or(tags.len())
}

fn operation_of(path: &str, method: &str, operation: &Value) -> OperationDoc {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let is_signing = |parameter: &&Value| parameter["x-batoff-per-request"] == true;
    let (mut answers, mut refusals) = (Vec::new(), Vec::new());
    for (status, response) in members(&operation["responses"]) {
        if status.starts_with('2') {
            answers.push(answer_of(status, response));
        } else {
            let codes = text(&response["description"]);
            let codes = codes.split("\n\n").filter_map(|about| about.split('`').nth(1)).map(str::to_owned);
            refusals.push((status.to_owned(), codes.collect()));
        }
    }
    let content = members(&operation["requestBody"]["content"]).next();
    OperationDoc {
        id: text(&operation["operationId"]).to_owned(),
        method: method.to_ascii_uppercase(),
        path: path.to_owned(),
        summary: text(&operation["summary"]).trim_end_matches('.').to_owned(),
        about: Rich::paragraphs(text(&operation["description"])),
        parameters: parameters.filter(|parameter| !is_signing(parameter)).map(parameter_of).collect(),
        body: content.map(|(_, content)| kind_of(&content["schema"])),
        answers,
        refusals,
    }
}

fn parameter_of(parameter: &Value) -> MemberDoc {
    MemberDoc {
        name: text(&parameter["name"]).to_owned(),
        place: text(&parameter["in"]).to_owned(),
        is_required: parameter["required"] == true,
        kind: kind_of(&parameter["schema"]),
        about: Rich::line(text(&parameter["description"])),
    }
}

fn answer_of(status: &str, response: &Value) -> AnswerDoc {
    let content = members(&response["content"]).next();
    let headers = members(&response["headers"]).filter(|(name, _)| !EVERYWHERE.contains(&name.as_str()));
    AnswerDoc {
        status: status.to_owned(),
        about: Rich::line(text(&response["description"])),
        kind: content.map(|(media_type, content)| {
            let kind = kind_of(&content["schema"]);
            if media_type == "application/json" {
                kind
            } else {
                KindDoc { words: media_type.clone(), link: kind.link }
            }
        }),
        headers: headers
            .map(|(name, header)| MemberDoc {
                name: name.clone(),
                place: String::new(),
                is_required: false,
                kind: kind_of(&header["schema"]),
                about: Rich::line(text(&header["description"])),
            })
            .collect(),
    }
}

fn schema_of(name: &str, schema: &Value) -> SchemaDoc {
    let mut fields = Vec::new();
    let mut add = |schema: &Value| {
        let required: Vec<&str> = list(&schema["required"]).filter_map(Value::as_str).collect();
        for (name, member) in members(&schema["properties"]) {
            fields.push(MemberDoc {
                name: name.clone(),
                place: String::new(),
                is_required: required.contains(&name.as_str()),
                kind: kind_of(member),
                about: Rich::line(text(&member["description"])),
            });
        }
    };
    add(schema);
    list(&schema["allOf"]).for_each(&mut add);
    let included = list(&schema["allOf"]).filter(|part| part["$ref"].is_string());
    SchemaDoc {
        name: name.to_owned(),
        about: Rich::line(text(&schema["description"])),
        members: fields,
        values: list(&schema["enum"]).filter_map(Value::as_str).map(str::to_owned).collect(),
        variants: list(&schema["oneOf"]).chain(included).map(kind_of).collect(),
    }
}

/// `integer, 0 to 30`, `string`, `list of Item`.
fn kind_of(schema: &Value) -> KindDoc {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default().to_owned();
        return KindDoc { words: name.clone(), link: Some(name) };
    }
    // A reference that may be absent or null stands beside null; one with a description of its own stands alone.
    let variants = list(&schema["oneOf"]).chain(list(&schema["allOf"])).chain(list(&schema["anyOf"]));
    if let Some(variant) = variants.into_iter().find(|variant| variant["type"] != "null") {
        return kind_of(variant);
    }
    let words: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        kinds => list(kinds).filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
    };
    let words = words.join(" or ");
    if words == "array" {
        let item = kind_of(&schema["items"]);
        return KindDoc { words: format!("list of {}", item.words), link: item.link };
    }
    let values: Vec<&str> = list(&schema["enum"]).filter_map(Value::as_str).collect();
    if !values.is_empty() {
        return KindDoc { words: values.join(" | "), link: None };
    }
    let words = match (schema["format"].as_str(), schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (Some("date-time"), ..) => "time".to_owned(),
        (_, Some(least), Some(most)) => format!("{words}, {least} to {most}"),
        _ => words,
    };
    KindDoc { words, link: None }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
