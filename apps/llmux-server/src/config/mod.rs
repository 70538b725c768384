//! The configuration: what the files and the environment say (`file`), and what came out of it (`Settings`).
//!
//! A file becomes a tree of texts (`node`). Each layer (low environment, file, overrides, flags) is checked against the
//! schema of `FileConfig` and typed by it (`walk`), figment merges the layers over the defaults, and `check` turns the
//! result into `Settings`. Problems of all steps are collected and told together.

mod cache;
mod check;
mod database;
mod environment;
mod expand;
mod file;
mod fixed;
mod node;
mod providers;
mod routing;
mod settings;
mod telemetry;
#[cfg(test)]
mod tests;
mod units;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use sha2::{Digest as _, Sha256};

pub(crate) use fixed::Fixed;
pub(crate) use settings::*;

use file::FileConfig;
use node::{Node, Origin, Value};
use walk::Walk;

/// Read when no other file is named and this one exists.
const DEFAULT_FILE: &str = "config/config.yaml";

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--config`. Without it `LLMUX_CONFIG`, then `config/config.yaml` if it exists, then built-in defaults.
    pub(crate) file: Option<PathBuf>,
    /// `--env-file`. Without it `.env` if it exists.
    pub(crate) env_file: Option<PathBuf>,
    /// `--host`, which overrides `server.host`.
    pub(crate) host: Option<String>,
    /// `--port`, which overrides `server.port`.
    pub(crate) port: Option<u16>,
    /// The environment of the process, which the `.env` file adds to.
    pub(crate) environment: BTreeMap<String, String>,
    /// Relative paths start here.
    pub(crate) working_dir: PathBuf,
}

/// Something wrong with the configuration. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key (`providers[0].base_url`), the variable or the file.
    pub(crate) path: String,
    /// Line of the file, from 1, when the value stands in one.
    pub(crate) line: Option<u32>,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

impl Problem {
    fn new(path: impl Into<String>, origin: &Origin, message: impl Into<String>) -> Self {
        let mut message = message.into();
        let line = match origin {
            Origin::Line(line) => Some(*line),
            Origin::Named(name) => {
                message.push_str(&format!(" (set by {name})"));
                None
            }
            Origin::Unknown => None,
        };
        Self { path: path.into(), line, message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads, merges and checks the configuration.
///
/// # Errors
/// Returns all problems, in the order of their lines.
pub(crate) fn load(sources: &Sources) -> Result<Settings, Vec<Problem>> {
    let mut problems = Vec::new();
    let environment = environment::read(sources, &mut problems);
    let mut source = Source::default();
    let mut file = match read_file(sources, &environment, &mut source) {
        Ok(file) => file,
        Err(problem) => {
            problems.push(problem);
            return Err(problems);
        }
    };
    let mut warnings = Vec::new();
    let overrides = environment::overrides(&environment, &mut problems);
    providers::complete(&mut file, &overrides, &environment, &mut warnings, &mut problems);
    file.remove_overridden(&overrides.keys);
    let mut low = environment::low(&environment);
    low.remove_overridden(&overrides.keys);
    low.remove_overridden(&file);

    let schema = file_schema();
    let mut walk = Walk {
        schema: &schema,
        environment: &environment,
        problems,
        origins: BTreeMap::new(),
        unset: BTreeMap::new(),
    };
    let mut figment = Figment::from(Serialized::defaults(FileConfig::default()));
    for layer in [low, file, overrides.keys, flags(sources)] {
        figment = figment.merge(Serialized::defaults(walk.layer(&layer)));
    }
    match figment.extract::<FileConfig>() {
        Ok(config) => check::check(&config, walk, warnings, sources, source),
        Err(error) => {
            // The text of figment's error may hold the value, which may be a secret.
            let path = error.path.join(".");
            walk.problems.push(Problem::new(
                path,
                &Origin::Unknown,
                "has a value that cannot be used",
            ));
            Err(sorted(walk.problems))
        }
    }
}

/// Returns the JSON schema of the configuration file, for editors.
pub(crate) fn schema() -> serde_json::Value {
    let mut schema = file_schema();
    allow_variables(&mut schema);
    schema
}

/// The schema that files are checked against, after their variables were expanded.
fn file_schema() -> serde_json::Value {
    schemars::schema_for!(FileConfig).to_value()
}

/// Lets a text that names a variable stand wherever a number, a boolean, a choice or a text in a certain form may.
fn allow_variables(schema: &mut serde_json::Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    for key in ["$defs", "properties"] {
        let inner = object.get_mut(key).and_then(serde_json::Value::as_object_mut);
        inner.into_iter().flat_map(|inner| inner.values_mut()).for_each(allow_variables);
    }
    for key in ["items", "additionalProperties"] {
        object.get_mut(key).into_iter().for_each(allow_variables);
    }
    let one_type = object.get("type").and_then(serde_json::Value::as_str);
    let free =
        matches!(one_type, Some("object" | "array" | "string")) && !object.contains_key("enum");
    if free || object.keys().all(|key| !matches!(key.as_str(), "type" | "enum")) {
        return;
    }
    let mut form = serde_json::Map::new();
    for key in ["type", "enum", "format", "pattern", "minimum", "maximum"] {
        form.extend(object.remove(key).map(|value| (key.to_owned(), value)));
    }
    let variable = serde_json::json!({ "type": "string", "pattern": "\\$\\{" });
    object.insert("anyOf".to_owned(), serde_json::json!([form, variable]));
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.line.unwrap_or(u32::MAX));
    problems.dedup();
    problems
}

/// Returns the tree of the file that counts; an empty one when there is none. Notes in `source` what it is.
fn read_file(
    sources: &Sources,
    environment: &BTreeMap<String, String>,
    source: &mut Source,
) -> Result<Node, Problem> {
    let named = environment.get("LLMUX_CONFIG").filter(|path| !path.is_empty());
    let named = sources.file.clone().or_else(|| named.map(PathBuf::from));
    let path = sources.working_dir.join(named.as_deref().unwrap_or(Path::new(DEFAULT_FILE)));
    let shown = named.as_deref().unwrap_or(Path::new(DEFAULT_FILE)).display().to_string();
    source.files = vec![environment::file(sources), path.clone()];
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Node::map(Vec::new()));
        }
        Err(error) => {
            return Err(Problem::new(shown, &Origin::Unknown, format!("cannot be read: {error}")));
        }
    };
    source.path = Some(shown.clone());
    source.checksum = Some(hex(&Sha256::digest(&bytes)));
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(Problem::new(shown, &Origin::Unknown, "is not UTF-8"));
    };
    let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let tree = if is_toml { node::toml(text) } else { node::yaml(text) };
    source.is_empty = matches!(&tree, Ok(Node { value: Value::Map(all), .. }) if all.is_empty());
    match tree {
        Ok(node) if matches!(node.value, Value::Map(_)) => Ok(node),
        Ok(_) => {
            Err(Problem::new(shown, &Origin::Unknown, "expected sections and keys at the top"))
        }
        Err(problem) => Err(Problem { path: shown, ..problem }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn flags(sources: &Sources) -> Node {
    let mut node = Node::map(Vec::new());
    let port = sources.port.map(|port| port.to_string());
    for (key, value) in [("host", sources.host.clone()), ("port", port)] {
        if let Some(value) = value {
            let path = ["server".to_owned(), key.to_owned()];
            node.set(&path, Node::literal(value, Origin::Named(format!("--{key}"))));
        }
    }
    node
}

/// Returns `; did you mean ...?` with the known word nearest to `word`, or nothing if none is near.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let distance = |known: &str| strsim::osa_distance(&word.to_lowercase(), known);
    let best = known.map(|known| (distance(known), known)).min_by_key(|(distance, _)| *distance);
    match best {
        Some((distance, known)) if distance <= 1.max(word.chars().count() / 3) => {
            format!("; did you mean `{known}`?")
        }
        _ => String::new(),
    }
}
