//! Schemas and operations, as the document has them.

use llmux_auth::tenants::{KeyType, MemberRole, OrganizationRole, Role, UsageStatus};
use serde_json::{Map, Value, json};

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum T {
    Text,
    /// A text of 1 to 256 bytes without control characters.
    Name,
    Time,
    Day,
    Period,
    /// How long a key is valid.
    Validity,
    /// A key of somebody's own choice.
    OwnKey,
    /// US dollars.
    Money,
    /// US dollars that are asked for.
    Budget,
    /// A whole number from 0 on, up to what the database holds.
    Count,
    /// A whole number between these, both included.
    Between(u64, u64),
    Number,
    Flag,
    Object,
    /// One of these.
    Choice(&'static [&'static str]),
    KeyType,
    Role,
    MemberRole,
    OrganizationRole,
    UsageStatus,
    /// A schema of the document by its name.
    Ref(&'static str),
    List(&'static Self),
    /// A value each by name.
    Map(&'static Self),
    /// Or `null`.
    Opt(&'static Self),
    /// One, or a list of 1 to 1000.
    Some(&'static Self),
    /// What another schema says.
    Any,
}

/// Fields: name, what they hold, what they mean.
pub(crate) type Table = [(&'static str, T, &'static str)];

/// The most dollars that are counted: so many nano-dollars are the largest number of the database.
const MOST_DOLLARS: i64 = i64::MAX / 1_000_000_000;

impl T {
    pub(crate) fn schema(self) -> Value {
        let choice = |names: Vec<&str>| json!({"type": "string", "enum": names});
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Name => json!({
                "type": "string", "minLength": 1, "maxLength": 256,
                "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
            }),
            Self::Time => json!({"type": "string", "format": "date-time"}),
            Self::Day => json!({"type": "string", "format": "date"}),
            Self::Period => json!({
                "type": "string", "pattern": "^[1-9][0-9]*(s|m|h|d|w|mo)$", "examples": ["24h", "30d", "1mo"],
            }),
            Self::Validity => json!({
                "type": "string", "pattern": "^(-1|[1-9][0-9]*(s|m|h|d|w|mo))$", "examples": ["24h", "30d", "-1"],
            }),
            Self::OwnKey => json!({
                "type": "string", "minLength": 32, "maxLength": 256, "pattern": "^[!-~]+$",
            }),
            Self::Money => json!({"type": "number", "minimum": 0}),
            Self::Budget => json!({"type": "number", "minimum": 0, "maximum": MOST_DOLLARS}),
            Self::Count => json!({"type": "integer", "minimum": 0, "maximum": i64::MAX}),
            Self::Between(least, most) => {
                json!({"type": "integer", "minimum": least, "maximum": most})
            }
            Self::Number => json!({"type": "number"}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Object => json!({"type": "object"}),
            Self::Choice(names) => choice(names.to_vec()),
            Self::KeyType => choice(KeyType::ALL.iter().map(|it| it.as_str()).collect()),
            Self::Role => choice(Role::ALL.iter().map(|it| it.as_str()).collect()),
            Self::MemberRole => choice(MemberRole::ALL.iter().map(|it| it.as_str()).collect()),
            Self::OrganizationRole => {
                choice(OrganizationRole::ALL.iter().map(|it| it.as_str()).collect())
            }
            Self::UsageStatus => choice(UsageStatus::ALL.iter().map(|it| it.as_str()).collect()),
            Self::Ref(name) => reference(name),
            Self::List(item) => json!({"type": "array", "items": item.schema()}),
            Self::Map(item) => json!({
                "type": "object", "propertyNames": Self::Name.schema(), "additionalProperties": item.schema(),
            }),
            Self::Opt(inner) => or_null(inner.schema()),
            Self::Some(inner) => {
                let (one, item) = (inner.schema(), inner.schema());
                let list = json!({"type": "array", "items": item, "minItems": 1, "maxItems": 1000});
                json!({"anyOf": [one, list]})
            }
            Self::Any => json!({}),
        }
    }
}

/// Lets `null` stand where the schema wants something.
pub(crate) fn or_null(mut schema: Value) -> Value {
    let Some(object) = schema.as_object_mut() else { return schema };
    match (object.get("type").cloned(), object.contains_key("enum")) {
        (Some(Value::String(kind)), false) => {
            object.insert("type".to_owned(), json!([kind, "null"]));
            schema
        }
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

pub(crate) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A schema with what it means. A reference keeps its own description beside it.
pub(crate) fn described(mut schema: Value, about: &str) -> Value {
    if !about.is_empty() {
        schema["description"] = about.into();
    }
    schema
}

pub(crate) fn properties(table: &Table) -> Map<String, Value> {
    let property = |(name, kind, about): &(&'static str, T, &'static str)| {
        ((*name).to_owned(), described(kind.schema(), about))
    };
    table.iter().map(property).collect()
}

/// An object of an answer, which has all of its fields always.
pub(crate) fn object(about: &str, tables: &[&Table]) -> Value {
    let all: Vec<(&str, T, &str)> = tables.iter().copied().flatten().copied().collect();
    let names: Vec<&str> = all.iter().map(|(name, ..)| *name).collect();
    let properties: Map<String, Value> = tables.iter().flat_map(|it| properties(it)).collect();
    described(json!({"type": "object", "required": names, "properties": properties}), about)
}

/// A page of a list.
pub(crate) fn list_of(name: &str) -> Value {
    let page: &Table = &[
        ("total", T::Count, "How many entries all pages have."),
        ("page", T::Count, "The page's number, from 1 on."),
        ("page_size", T::Count, "How many entries a page has at most."),
    ];
    let mut schema = object("", &[page]);
    schema["properties"]["data"] = json!({"type": "array", "items": reference(name)});
    schema["required"].as_array_mut().into_iter().for_each(|names| names.insert(0, "data".into()));
    schema
}

/// What one route does: an operation in the making.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) tag: &'static str,
    summary: &'static str,
    about: String,
    parameters: Vec<Value>,
    body: Option<Value>,
    /// The answer with 200: its headers and content.
    ok: Value,
    /// Other statuses with an error of ours.
    pub(crate) fails: Vec<u16>,
    /// Other answers.
    others: Vec<(&'static str, Value)>,
}

impl Op {
    pub(crate) fn new(tag: &'static str, summary: &'static str) -> Self {
        Self {
            tag,
            summary,
            about: String::new(),
            parameters: Vec::new(),
            body: None,
            ok: json!({"headers": own_headers(&[])}),
            fails: Vec::new(),
            others: Vec::new(),
        }
    }

    pub(crate) fn about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }

    /// Takes parameters of the query.
    pub(crate) fn query(mut self, table: &Table) -> Self {
        self.parameters.extend(table.iter().map(|(name, kind, about)| {
            json!({"name": name, "in": "query", "description": about, "schema": kind.schema()})
        }));
        self
    }

    /// Says that a parameter of the query must be there.
    pub(crate) fn needs(mut self, wanted: &str) -> Self {
        for parameter in self.parameters.iter_mut().filter(|it| it["name"] == wanted) {
            parameter["required"] = true.into();
        }
        self
    }

    pub(crate) fn parameter(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Takes headers that are described once for all.
    pub(crate) fn headers(mut self, names: &[&str]) -> Self {
        let reference = |name: &&str| json!({"$ref": format!("#/components/parameters/{name}")});
        self.parameters.extend(names.iter().map(reference));
        self
    }

    pub(crate) fn body(mut self, kind: &str, schema: &Value, required: bool) -> Self {
        self.body = Some(json!({"required": required, "content": {kind: {"schema": schema}}}));
        self
    }

    pub(crate) fn json(self, schema: &Value) -> Self {
        self.body("application/json", schema, true)
    }

    /// Answers with 200 and JSON.
    pub(crate) fn ok(self, about: &str, schema: &Value) -> Self {
        self.content(about, json!({"application/json": {"schema": schema}}))
    }

    pub(crate) fn content(mut self, about: &str, content: Value) -> Self {
        self.ok["description"] = about.into();
        self.ok["content"] = content;
        self
    }

    /// Names headers of the answer with 200 that are described once for all.
    pub(crate) fn sends(mut self, names: &[&str]) -> Self {
        self.ok["headers"] = own_headers(names).into();
        self
    }

    /// Names statuses with an error of ours.
    pub(crate) fn fails(mut self, statuses: &[u16]) -> Self {
        self.fails.extend_from_slice(statuses);
        self
    }

    /// Answers another status in another way.
    pub(crate) fn other(mut self, status: &'static str, answer: Value) -> Self {
        self.others.push((status, answer));
        self
    }

    /// Makes the operation. `error` is the schema of its errors.
    pub(crate) fn build(self, id: &str, error: &str) -> Value {
        let mut responses = Map::new();
        responses.insert("200".to_owned(), self.ok);
        let mut statuses = self.fails;
        statuses.sort_unstable();
        statuses.dedup();
        for status in statuses {
            let answer = json!({"$ref": format!("#/components/responses/{error}{status}")});
            responses.insert(status.to_string(), answer);
        }
        responses.extend(self.others.into_iter().map(|(status, it)| (status.to_owned(), it)));
        let mut operation = json!({
            "operationId": id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": responses,
        });
        if !self.about.is_empty() {
            operation["description"] = self.about.into();
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

/// What each answer has, and these.
fn own_headers(more: &[&str]) -> Map<String, Value> {
    named_headers(&[&["x-request-id"], more].concat())
}

fn named_headers(names: &[&str]) -> Map<String, Value> {
    let header =
        |name: &&str| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    names.iter().map(header).collect()
}

/// An answer with an error of ours, as all operations have it.
pub(super) fn failure(error: &str, status: u16) -> Value {
    let more: &[&str] = match status {
        402 => &["x-should-retry"],
        429 => &["retry-after", "x-should-retry"],
        503 => &["retry-after"],
        _ => &[],
    };
    json!({
        "description": meaning(status),
        "headers": own_headers(more),
        "content": {"application/json": {"schema": reference(error)}},
    })
}

/// The statuses of errors of ours.
pub(super) const FAILURES: [u16; 15] =
    [400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 429, 500, 502, 503, 504];

/// What a status means, when it is ours.
const fn meaning(status: u16) -> &'static str {
    match status {
        400 => {
            "Malformed JSON, or a field that is missing, wrong, unknown or given twice: `param` names it."
        }
        401 => "No key, or one that is unknown, expired or blocked (`invalid_api_key`).",
        402 => {
            "A budget is used up, or does not have what the call may cost (`budget_exceeded`). The message names the scope."
        }
        403 => {
            "Not for this key (`not_permitted`, `model_not_allowed`, `tag_not_allowed`, `price_unknown`, `origin_not_allowed`)."
        }
        404 => {
            "What is named does not exist (`not_found`, `model_not_found`, `deployment_not_found`)."
        }
        408 => "The body did not arrive in time (`request_timeout`).",
        409 => {
            "It cannot be done as things are (`conflict`, `in_use`, `checksum_mismatch`, `configuration_changing`)."
        }
        413 => "The body is too large (`request_too_large`).",
        415 => "The body has a content encoding.",
        429 => {
            "A limit of the caller is reached, or those of all deployments are (`rate_limit_exceeded`)."
        }
        500 => {
            "The gateway failed (`internal_error`); or a change was made that is not in the audit log (`not_audited`)."
        }
        502 => {
            "The provider failed, or refused the gateway's own credential (`upstream_authentication_error`)."
        }
        503 => {
            "Not at the moment (`database_unavailable`, `spool_full`, `no_deployment_available`, `not_audited`), or the provider said so."
        }
        504 => "The provider, or the client's own `x-llmux-timeout`, ran out of time.",
        _ => "An error.",
    }
}
