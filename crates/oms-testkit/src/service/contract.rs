//! Holds every answer that a test gets from the service to `docs/openapi.json`: its status and media
//! type are described, and its body is what the schema says, down to members that are not
//! described. So are bodies that the service has taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Value, json};

/// An operation as the document describes it.
struct Operation {
    id: String,
    method: String,
    /// Its path, part by part; parameters in braces.
    path: Vec<String>,
    /// What its body must be.
    body: Option<SchemaIndex>,
    /// By status: by media type what the answer's body must be, where it is JSON.
    answers: BTreeMap<u16, BTreeMap<String, Option<SchemaIndex>>>,
}

/// The document, ready to hold answers to.
struct Contract {
    schemas: Schemas,
    operations: Vec<Operation>,
}

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let text = std::fs::read_to_string(file).expect("docs/openapi.json");
    Contract::new(serde_json::from_str(&text).expect("JSON"))
});

/// Where the compiler finds the schemas; nothing is fetched from there.
const HERE: &str = "http://localhost/openapi.json";

fn is_json(media: &str) -> bool {
    media == "application/json" || media.ends_with("+json")
}

/// The components that are one part of a larger object: what they do not describe, the rest does.
fn parts(document: &Value, found: &mut BTreeSet<String>) {
    match document {
        Value::Object(map) => {
            let all_of = map.get("allOf").and_then(Value::as_array);
            for part in all_of.into_iter().flatten() {
                if let Some(name) = part["$ref"].as_str() {
                    found.insert(name.to_owned());
                }
            }
            map.values().for_each(|value| parts(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| parts(value, found)),
        _ => {}
    }
}

/// Has objects hold what is described and nothing else, so that a member that was forgotten in the
/// description is noticed.
fn close(schema: &mut Value, is_part: bool) {
    let Value::Object(map) = schema else {
        return;
    };
    let whole = map.contains_key("allOf");
    for (name, value) in map.iter_mut() {
        match (name.as_str(), value) {
            ("properties", Value::Object(members)) => {
                members.values_mut().for_each(|member| close(member, false));
            }
            ("items" | "additionalProperties", value) => close(value, false),
            ("oneOf" | "anyOf" | "allOf", Value::Array(items)) => {
                items.iter_mut().for_each(|item| close(item, whole));
            }
            _ => {}
        }
    }
    let described = map.contains_key("properties") && !map.contains_key("additionalProperties");
    if (described || whole) && !is_part {
        map.insert("unevaluatedProperties".into(), false.into());
    }
}

impl Contract {
    fn new(document: Value) -> Self {
        let mut components = document["components"]["schemas"].clone();
        let mut within = BTreeSet::new();
        parts(&document, &mut within);
        for (name, schema) in components.as_object_mut().expect("schemas") {
            close(
                schema,
                within.contains(&format!("#/components/schemas/{name}")),
            );
        }
        // Each schema of an operation by a name that needs no escape in an address.
        let mut named = serde_json::Map::new();
        let mut name = |schema: &Value| {
            let mut schema = schema.clone();
            close(&mut schema, false);
            let name = format!("s{}", named.len());
            named.insert(name.clone(), schema);
            name
        };
        let mut drafts = Vec::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let body = &operation["requestBody"]["content"];
                let body = body.as_object().and_then(|content| content.values().next());
                let body = body.map(|media| name(&media["schema"]));
                let mut answers = BTreeMap::new();
                for (status, answer) in operation["responses"].as_object().expect("responses") {
                    let content = answer["content"].as_object();
                    let media = content.into_iter().flatten().map(|(media, content)| {
                        let schema = is_json(media).then(|| name(&content["schema"]));
                        (media.clone(), schema)
                    });
                    let media: BTreeMap<_, _> = media.collect();
                    answers.insert(status.parse::<u16>().expect("a status"), media);
                }
                let id = operation["operationId"].as_str().expect("an id").to_owned();
                drafts.push((id, method.to_uppercase(), path.clone(), body, answers));
            }
        }
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        let root = json!({ "components": { "schemas": components }, "$defs": named });
        compiler.add_resource(HERE, root).expect("a resource");
        let mut schemas = Schemas::new();
        let mut compiled = |name: String| {
            let at = format!("{HERE}#/$defs/{name}");
            let made = compiler.compile(&at, &mut schemas);
            made.unwrap_or_else(|e| panic!("{name}: {e:#}"))
        };
        let mut operations = Vec::new();
        for (id, method, path, body, answers) in drafts {
            let mut ready = BTreeMap::new();
            for (status, media) in answers {
                let media = media
                    .into_iter()
                    .map(|(media, schema)| (media, schema.map(&mut compiled)));
                ready.insert(status, media.collect());
            }
            operations.push(Operation {
                id,
                method,
                path: path.split('/').map(str::to_owned).collect(),
                body: body.map(&mut compiled),
                answers: ready,
            });
        }
        Self {
            schemas,
            operations,
        }
    }

    /// The operation that a request is for: of several, the one with the fewest parameters.
    fn operation(&self, method: &str, path: &str) -> Option<&Operation> {
        let path = path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let is_parameter = |part: &str| part.starts_with('{');
        let fits = |operation: &&Operation| {
            operation.method == method
                && operation.path.len() == parts.len()
                && operation
                    .path
                    .iter()
                    .zip(&parts)
                    .all(|(known, part)| is_parameter(known) || known == part)
        };
        let parameters = |operation: &&Operation| {
            let those = operation.path.iter().filter(|part| is_parameter(part));
            those.count()
        };
        self.operations.iter().filter(fits).min_by_key(parameters)
    }

    fn check(&self, what: &str, value: &Value, schema: SchemaIndex) -> Result<(), String> {
        let held = self.schemas.validate(value, schema);
        held.map_err(|e| format!("{what} is not as described: {e:#}\n{value}"))
    }
}

/// An answer as it came.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its media type, with its parameters.
    pub media: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// Reads it to its end.
    pub async fn read(response: reqwest::Response) -> reqwest::Result<Self> {
        let media = response.headers().get("content-type");
        let media = media.map_or("", |m| m.to_str().expect("text")).to_owned();
        Ok(Self {
            status: response.status().as_u16(),
            media,
            body: response.text().await?,
        })
    }

    /// Holds it to what the document says of such a request, and the body of the request too if it
    /// was taken. Gives the operation's id, where the path is one of the API's.
    pub fn check(
        &self,
        method: &str,
        path: &str,
        sent: Option<&Value>,
    ) -> Result<Option<&'static str>, String> {
        let Some(operation) = CONTRACT.operation(method, path) else {
            return Ok(None);
        };
        let status = self.status;
        let Some(described) = operation.answers.get(&status) else {
            return Err(format!("status {status} is not described: {}", self.body));
        };
        let media = self.media.split(';').next().unwrap_or_default().trim();
        match described.get(media) {
            Some(Some(schema)) => {
                let value = serde_json::from_str(&self.body).map_err(|e| e.to_string())?;
                CONTRACT.check("the answer", &value, *schema)?;
            }
            Some(None) => {}
            None if described.is_empty() && self.body.is_empty() => {}
            None => return Err(format!("an answer {status} of {media:?} is not described")),
        }
        if (200..300).contains(&status) {
            match (operation.body, sent) {
                (Some(schema), Some(sent)) => {
                    CONTRACT.check("the body that was taken", sent, schema)?;
                }
                (Some(_), None) => return Err("no body was sent, and none was missed".into()),
                (None, _) => {}
            }
        }
        Ok(Some(&operation.id))
    }

    /// The same; whatever is not as described ends the test.
    pub fn hold(&self, method: &str, path: &str, sent: Option<&Value>) {
        if let Err(why) = self.check(method, path, sent) {
            panic!("{method} {path}: {why}");
        }
    }
}

/// The ids of all operations.
pub fn operations() -> BTreeSet<&'static str> {
    CONTRACT.operations.iter().map(|o| o.id.as_str()).collect()
}
