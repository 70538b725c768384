//! The environment: the `.env` file, and the variables that set a key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::expand::is_name;
use super::node::{Node, Origin};
use super::{Problem, Sources};

/// Variables that stand below the file, and the key that each sets.
const LOW: &[(&str, &[&str])] = &[
    ("PORT", &["server", "port"]),
    ("LLMUX_MASTER_KEY", &["auth", "master_key"]),
    ("LOG_LEVEL", &["logging", "level"]),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", &["tracing", "endpoint"]),
    ("DB_HOST", &["database", "host"]),
    ("DB_PORT", &["database", "port"]),
    ("DB_USER", &["database", "user"]),
    ("DB_PASSWORD", &["database", "password"]),
    ("DB_NAME", &["database", "database"]),
    ("REDIS_ADDR", &["redis", "addr"]),
    ("REDIS_PASSWORD", &["redis", "password"]),
];

/// Returns the path of the `.env` file.
pub(super) fn file(sources: &Sources) -> PathBuf {
    sources.working_dir.join(sources.env_file.as_deref().unwrap_or(Path::new(".env")))
}

/// Returns the environment with what the `.env` file adds to it.
pub(super) fn read(sources: &Sources, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let mut environment = sources.environment.clone();
    let path = file(sources);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error)
            if sources.env_file.is_none() && error.kind() == std::io::ErrorKind::NotFound =>
        {
            return environment;
        }
        Err(error) => {
            problems.push(Problem::new(
                path.display().to_string(),
                &Origin::Unknown,
                format!("cannot be read: {error}"),
            ));
            return environment;
        }
    };
    match parse(&text) {
        Ok(variables) => {
            for (name, value) in variables {
                environment.entry(name).or_insert(value);
            }
        }
        Err(bad) => problems.extend(bad.into_iter().map(|(line, message)| {
            Problem::new(path.display().to_string(), &Origin::Line(line), message)
        })),
    }
    environment
}

/// Reads `KEY=value` lines: comments, `export`, single quotes (as written) and double quotes (with `\n`, `\r`, `\t`,
/// `\"`, `\\`, `\$`). Of two lines for one name the last counts.
fn parse(text: &str) -> Result<BTreeMap<String, String>, Vec<(u32, &'static str)>> {
    let mut variables = BTreeMap::new();
    let mut bad = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line
            .strip_prefix("export")
            .filter(|rest| rest.starts_with([' ', '\t']))
            .unwrap_or(line)
            .trim_start();
        let assignment = line.split_once('=').ok_or("expected KEY=value");
        let variable = assignment.and_then(|(name, value)| {
            let name = name.trim_end();
            if is_name(name) {
                Ok((name, unquote(value.trim_start())?))
            } else {
                Err("expected KEY=value")
            }
        });
        match variable {
            Ok((name, value)) => {
                variables.insert(name.to_owned(), value);
            }
            Err(message) => bad.push((number, message)),
        }
    }
    if bad.is_empty() { Ok(variables) } else { Err(bad) }
}

fn unquote(value: &str) -> Result<String, &'static str> {
    let (text, rest) = if let Some(inside) = value.strip_prefix('\'') {
        let (text, rest) = inside.split_once('\'').ok_or("the quote is not closed")?;
        (text.to_owned(), rest)
    } else if let Some(inside) = value.strip_prefix('"') {
        let mut text = String::new();
        let mut chars = inside.chars();
        loop {
            match chars.next() {
                None => return Err("the quote is not closed"),
                Some('"') => break,
                Some('\\') => match chars.next() {
                    Some('n') => text.push('\n'),
                    Some('r') => text.push('\r'),
                    Some('t') => text.push('\t'),
                    Some(c @ ('"' | '\\' | '$')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => return Err("the quote is not closed"),
                },
                Some(c) => text.push(c),
            }
        }
        (text, chars.as_str())
    } else {
        let comment = value.find(" #").or_else(|| value.find("\t#"));
        let end = if value.starts_with('#') { 0 } else { comment.unwrap_or(value.len()) };
        return Ok(value[..end].trim_end().to_owned());
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(text)
    } else {
        Err("text after the closing quote")
    }
}

/// Returns what the variables below the file say. An empty one says nothing.
pub(super) fn low(environment: &BTreeMap<String, String>) -> Node {
    let mut node = Node::map(Vec::new());
    for (name, path) in LOW {
        if let Some(value) = environment.get(*name).filter(|value| !value.is_empty()) {
            let value =
                if *name == "LOG_LEVEL" { value.to_ascii_lowercase() } else { value.clone() };
            let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
            node.set(&path, Node::literal(value, Origin::Named((*name).to_owned())));
        }
    }
    node
}

/// What the `LLMUX_<SECTION>__<KEY>` variables say.
#[derive(Debug)]
pub(super) struct Overrides {
    /// Everything but the providers.
    pub(super) keys: Node,
    /// Per provider, by the name as the variables spell it: lower case, `_` for all but letters and digits.
    pub(super) providers: BTreeMap<String, Node>,
}

/// Reads the `LLMUX_<SECTION>__<KEY>` and `LLMUX__<KEY>` variables. Other `LLMUX_*` names are not looked at.
pub(super) fn overrides(
    environment: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Overrides {
    let mut overrides = Overrides { keys: Node::map(Vec::new()), providers: BTreeMap::new() };
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix("LLMUX_") else {
            continue;
        };
        let rest = match rest.strip_prefix('_') {
            Some(top_level) => top_level,
            None if rest.contains("__") => rest,
            None => continue,
        };
        let origin = Origin::Named(name.clone());
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if path.iter().any(String::is_empty) {
            problems.push(Problem::new(
                name.clone(),
                &Origin::Unknown,
                "is not LLMUX_<SECTION>__<KEY>",
            ));
            continue;
        }
        let node = Node::literal(value.clone(), origin);
        match path.as_slice() {
            [section, provider, key @ ..] if section == "providers" => {
                if key.is_empty() {
                    let message =
                        "names a provider, but none of its keys: LLMUX_PROVIDERS__<NAME>__<KEY>";
                    problems.push(Problem::new(name.clone(), &Origin::Unknown, message));
                } else {
                    let provider = overrides.providers.entry(provider.clone());
                    provider.or_insert_with(|| Node::map(Vec::new())).set(key, node);
                }
            }
            [section] if section == "providers" => {
                let message = "cannot replace the whole list: use LLMUX_PROVIDERS__<NAME>__<KEY>";
                problems.push(Problem::new(name.clone(), &Origin::Unknown, message));
            }
            path => overrides.keys.set(path, node),
        }
    }
    overrides
}

/// Returns a provider's name as `LLMUX_PROVIDERS__<NAME>__<KEY>` spells it, in lower case.
pub(super) fn spelled(provider: &str) -> String {
    provider
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{parse, spelled};

    #[test]
    fn env_file_lines_are_read() {
        for (line, name, value) in [
            ("A=x", "A", "x"),
            ("  export A = x  ", "A", "x"),
            ("export\tA=x", "A", "x"),
            ("exported=x", "exported", "x"),
            ("A=", "A", ""),
            ("A= # nothing", "A", ""),
            ("A=x # comment", "A", "x"),
            ("A=x#y", "A", "x#y"),
            ("A=a b=c", "A", "a b=c"),
            ("A='a # $b \\n'", "A", "a # $b \\n"),
            ("A=\"a # \\\"b\\\" \\n\\\\ \\$ \\d\" # c", "A", "a # \"b\" \n\\ $ \\d"),
            ("A=$B", "A", "$B"),
            ("\u{feff}A=x", "A", "x"),
        ] {
            let variables = parse(line).expect(line);
            assert_eq!(variables.get(name).map(String::as_str), Some(value), "{line}");
        }
        assert!(parse("# A=x\n\n   \r\n").expect("comments").is_empty());
        assert_eq!(parse("A=1\r\nA=2\r\n").expect("twice")["A"], "2");
    }

    #[test]
    fn bad_env_file_lines_are_told_with_their_number_and_without_their_text() {
        let bad = parse("A=1\nsecret\n1B=2\nC='x\nD=\"x\nE='x'y\n").expect_err("bad");
        assert_eq!(bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn provider_names_are_spelled_as_variables_can() {
        assert_eq!(spelled("Azure-East.2"), "azure_east_2");
    }
}
