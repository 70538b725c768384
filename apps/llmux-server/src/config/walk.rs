//! Checks a tree against the schema of the configuration, expands its variables, and turns its texts into what the
//! schema wants. All problems are collected; what has one is left out.

use std::collections::BTreeMap;

use figment::value::{Dict, Value as Typed};
use serde_json::Value as Schema;

use super::expand::{Expanded, Failure, expand};
use super::node::{self, Entry, Node, Origin, Value};
use super::units::{Period, Size};
use super::{Problem, nearest};

/// Longest text of a wrong value that is repeated in a problem: longer than any choice, shorter than a vendor's key, in
/// case that one was written at the wrong place.
const LONGEST_SHOWN: usize = 24;

pub(super) struct Walk<'a> {
    pub(super) schema: &'a Schema,
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) problems: Vec<Problem>,
    /// Where each key stands that was given, also those with problems; of two layers the higher one.
    pub(super) origins: BTreeMap<String, Origin>,
    /// What a provider, by its place in the list, needs and is not set.
    pub(super) unset: BTreeMap<usize, Vec<Unset>>,
}

/// A variable that is not set, and the key that names it.
#[derive(Debug)]
pub(super) struct Unset {
    pub(super) variable: String,
    pub(super) path: String,
}

/// A scalar on its way to its type.
struct Scalar<'a> {
    text: &'a str,
    path: &'a str,
    origin: &'a Origin,
    /// Whether the text may be repeated in a problem.
    shown: bool,
}

impl Walk<'_> {
    /// Turns one layer into what figment merges.
    pub(super) fn layer(&mut self, node: &Node) -> Dict {
        match self.value(node, self.schema, "") {
            Some(Typed::Dict(_, dict)) => dict,
            _ => Dict::new(),
        }
    }

    fn report(&mut self, path: &str, origin: &Origin, message: impl Into<String>) {
        self.problems.push(Problem::new(path, origin, message));
    }

    fn value(&mut self, node: &Node, schema: &Schema, path: &str) -> Option<Typed> {
        let forms = self.forms(schema);
        if node.origin != Origin::Unknown || !self.origins.contains_key(path) {
            self.origins.insert(path.to_owned(), node.origin.clone());
        }
        match &node.value {
            Value::Null => {
                if path == "auth.master_key" {
                    self.report(path, &node.origin, EMPTY_MASTER_KEY);
                } else if path.ends_with(']') {
                    self.report(
                        path,
                        &node.origin,
                        format!("is empty, expected {}", expected(&forms)),
                    );
                }
                None
            }
            Value::Map(entries) => match forms.iter().find(|form| has_type(form, "object")) {
                Some(form) => Some(self.map(entries, form, path)),
                None => {
                    self.report(
                        path,
                        &node.origin,
                        format!("expected {}, not a map", expected(&forms)),
                    );
                    None
                }
            },
            Value::List(items) => match forms.iter().find(|form| has_type(form, "array")) {
                Some(form) => Some(self.list(items, form, path)),
                None => {
                    self.report(
                        path,
                        &node.origin,
                        format!("expected {}, not a list", expected(&forms)),
                    );
                    None
                }
            },
            Value::Scalar(text) => {
                let expanded = self.expand(text, path, &node.origin)?;
                let compound = |form: &&Schema| has_type(form, "array") || has_type(form, "object");
                let shown =
                    !expanded.from_variable && !is_secret(schema) && !forms.iter().any(compound);
                self.scalar(
                    &forms,
                    &Scalar { text: &expanded.text, path, origin: &node.origin, shown },
                )
            }
            Value::Literal(text) => {
                if path == "auth.master_key" && text.is_empty() {
                    self.report(path, &node.origin, EMPTY_MASTER_KEY);
                    return None;
                }
                let flow =
                    forms.iter().any(|form| has_type(form, "array") || has_type(form, "object"));
                let one_text = forms.iter().any(|form| has_type(form, "string"));
                if flow && (!one_text || text.trim_start().starts_with('{')) {
                    let node = self.flow(text, path, &node.origin)?;
                    return self.value(&node, schema, path);
                }
                self.scalar(&forms, &Scalar { text, path, origin: &node.origin, shown: false })
            }
        }
    }

    /// Reads a list or a map from a variable: YAML's `[a, b]` and `{a: b}`, or a list as `a,b`.
    fn flow(&mut self, text: &str, path: &str, origin: &Origin) -> Option<Node> {
        let trimmed = text.trim();
        if trimmed.starts_with(['[', '{']) {
            let Ok(node) = node::yaml(trimmed) else {
                self.report(path, origin, "is not a list or map in YAML's or JSON's form");
                return None;
            };
            return Some(as_literal(node, origin));
        }
        let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items = items.map(|item| Node::literal(item, origin.clone())).collect();
        Some(Node { value: Value::List(items), origin: origin.clone() })
    }

    fn expand(&mut self, text: &str, path: &str, origin: &Origin) -> Option<Expanded> {
        match expand(text, self.environment) {
            Ok(expanded) => {
                if path == "auth.master_key" && expanded.text.is_empty() && !expanded.used_default {
                    self.report(path, origin, EMPTY_MASTER_KEY);
                    return None;
                }
                Some(expanded)
            }
            Err(Failure::Syntax(message)) => {
                self.report(path, origin, message);
                None
            }
            Err(Failure::Unset(names)) => {
                if let Some(index) = provider_index(path) {
                    let unset =
                        names.into_iter().map(|variable| Unset { variable, path: path.to_owned() });
                    self.unset.entry(index).or_default().extend(unset);
                } else {
                    for name in names {
                        let message =
                            format!("the variable {name} is not set; `${{{name}:}}` allows that");
                        self.report(path, origin, message);
                    }
                }
                None
            }
        }
    }

    fn map(&mut self, entries: &[Entry], form: &Schema, path: &str) -> Typed {
        let mut dict = Dict::new();
        let properties = form.get("properties").and_then(Schema::as_object);
        let others = form.get("additionalProperties").filter(|schema| schema.is_object());
        for entry in entries {
            let inner = join(path, &entry.key);
            let schema = properties.and_then(|properties| properties.get(&entry.key)).or(others);
            let Some(schema) = schema else {
                let known = properties
                    .into_iter()
                    .flat_map(|properties| properties.keys().map(String::as_str));
                let message = format!("unknown key{}", nearest(&entry.key, known));
                self.report(&inner, &entry.origin, message);
                continue;
            };
            if let Some(value) = self.value(&entry.node, schema, &inner) {
                dict.insert(entry.key.clone(), value);
            }
        }
        dict.into()
    }

    fn list(&mut self, items: &[Node], form: &Schema, path: &str) -> Typed {
        let none = Schema::Null;
        let schema = form.get("items").unwrap_or(&none);
        let is_map = self.forms(schema).iter().all(|form| has_type(form, "object"));
        let value = |(index, item)| {
            let value = self.value(item, schema, &format!("{path}[{index}]"));
            // An item that has a problem keeps its place, so that all others keep theirs in later problems.
            value.unwrap_or_else(|| if is_map { Dict::new().into() } else { String::new().into() })
        };
        items.iter().enumerate().map(value).collect::<Vec<_>>().into()
    }

    fn scalar(&mut self, forms: &[&Schema], scalar: &Scalar<'_>) -> Option<Typed> {
        let mut failure = None;
        for form in forms {
            match typed(form, scalar.text) {
                Ok(value) => return Some(value),
                Err(message) => failure = failure.or(message),
            }
        }
        let mut message = failure.unwrap_or_else(|| format!("expected {}", expected(forms)));
        if scalar.shown && scalar.text.len() <= LONGEST_SHOWN {
            message = format!("{message}, not `{}`", scalar.text.escape_debug());
            let choices = forms.iter().flat_map(|form| choices(form));
            let choices: Vec<String> = choices.collect();
            message.push_str(&nearest(scalar.text, choices.iter().map(String::as_str)));
        }
        self.report(scalar.path, scalar.origin, message);
        None
    }

    /// The schemas of which one has to fit: references are followed, `null` is left out.
    fn forms<'s>(&self, schema: &'s Schema) -> Vec<&'s Schema>
    where
        Self: 's,
    {
        let mut forms = Vec::new();
        collect_forms(self.schema, schema, &mut forms);
        forms
    }
}

const EMPTY_MASTER_KEY: &str =
    "the master key is empty; `${LLMUX_MASTER_KEY:}` allows that, or leave the key out";

fn collect_forms<'s>(root: &'s Schema, schema: &'s Schema, forms: &mut Vec<&'s Schema>) {
    if let Some(reference) = schema.get("$ref").and_then(Schema::as_str) {
        if let Some(target) = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
        {
            collect_forms(root, target, forms);
        }
    } else if let Some(alternatives) =
        schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Schema::as_array)
    {
        for alternative in alternatives {
            collect_forms(root, alternative, forms);
        }
    } else if schema.get("type").and_then(Schema::as_str) != Some("null") {
        forms.push(schema);
    }
}

fn is_secret(schema: &Schema) -> bool {
    schema.get("writeOnly").and_then(Schema::as_bool) == Some(true)
}

fn has_type(form: &Schema, name: &str) -> bool {
    match form.get("type") {
        Some(Schema::String(one)) => one == name,
        Some(Schema::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    }
}

fn choices(form: &Schema) -> Vec<String> {
    let values = form.get("enum").and_then(Schema::as_array);
    values
        .into_iter()
        .flatten()
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect()
}

/// Turns a text into the type of one form. `Err(None)`: there is nothing better to say than what was expected.
fn typed(form: &Schema, text: &str) -> Result<Typed, Option<String>> {
    let choices = choices(form);
    if !choices.is_empty() {
        let choice = choices.into_iter().find(|choice| choice == text);
        return choice.map(Typed::from).ok_or(None);
    }
    match form.get("format").and_then(Schema::as_str) {
        Some(Period::FORMAT) => {
            return text.parse().map(|it: Period| it.to_string().into()).map_err(|_| None);
        }
        Some(Size::FORMAT) => {
            return text.parse().map(|it: Size| it.to_string().into()).map_err(|_| None);
        }
        _ => {}
    }
    if has_type(form, "boolean") {
        return text.to_ascii_lowercase().parse::<bool>().map(Typed::from).map_err(|_| None);
    }
    if has_type(form, "integer") {
        let number = text.parse::<i128>().map_err(|_| None)?;
        return match whole_range(form) {
            (least, most) if (least..=most).contains(&number) => u64::try_from(number)
                .map(Typed::from)
                .map_err(|_| Some("must not be negative".to_owned())),
            (least, most) => Err(Some(format!("must be from {least} to {most}"))),
        };
    }
    if has_type(form, "number") {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or(None)?;
        let least = form.get("minimum").and_then(Schema::as_f64);
        let most = form.get("maximum").and_then(Schema::as_f64);
        return match (least, most) {
            (Some(least), Some(most)) if !(least..=most).contains(&number) => {
                Err(Some(format!("must be from {least} to {most}")))
            }
            (Some(least), None) if number < least => Err(Some(format!("must be at least {least}"))),
            _ => Ok(number.into()),
        };
    }
    if has_type(form, "string") { Ok(text.to_owned().into()) } else { Err(None) }
}

/// The range of a whole number, from its type in the program.
fn whole_range(form: &Schema) -> (i128, i128) {
    let most = match form.get("format").and_then(Schema::as_str) {
        Some("uint16") => i128::from(u16::MAX),
        Some("uint32") => i128::from(u32::MAX),
        _ => i128::from(u64::MAX),
    };
    (0, most)
}

/// Says what the schema wants, for people.
fn expected(forms: &[&Schema]) -> String {
    let mut texts = Vec::new();
    for form in forms {
        let choices = choices(form);
        let format = form.get("format").and_then(Schema::as_str);
        texts.push(if !choices.is_empty() {
            format!("one of {}", choices.join(", "))
        } else if format == Some(Period::FORMAT) {
            "a duration such as 250ms, 30s, 5m, 1h or 7d".to_owned()
        } else if format == Some(Size::FORMAT) {
            "a size such as 512KiB, 10MiB or 1GiB".to_owned()
        } else if has_type(form, "boolean") {
            "true or false".to_owned()
        } else if has_type(form, "integer") {
            "a whole number".to_owned()
        } else if has_type(form, "number") {
            "a number".to_owned()
        } else if has_type(form, "array") {
            "a list".to_owned()
        } else if has_type(form, "object") {
            "a map of keys".to_owned()
        } else {
            "a text".to_owned()
        });
    }
    texts.join(" or ")
}

/// What a variable's flow form holds is as literal as the variable.
fn as_literal(node: Node, origin: &Origin) -> Node {
    let value = match node.value {
        Value::Scalar(text) => Value::Literal(text),
        Value::List(items) => {
            Value::List(items.into_iter().map(|item| as_literal(item, origin)).collect())
        }
        Value::Map(entries) => {
            let literal = |entry: Entry| Entry {
                key: entry.key,
                origin: origin.clone(),
                node: as_literal(entry.node, origin),
            };
            Value::Map(entries.into_iter().map(literal).collect())
        }
        other => other,
    };
    Node { value, origin: origin.clone() }
}

/// Adds a key to a path; quoted when the key could be mistaken for more path.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let key = if plain { key.to_owned() } else { format!("\"{}\"", key.escape_debug()) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Returns the place in the list of the provider that `path` is inside of.
fn provider_index(path: &str) -> Option<usize> {
    path.strip_prefix("providers[")?.split_once(']')?.0.parse().ok()
}
