//! The licences of everything that the project is built from.

use serde_json::Value;

use super::File;

/// Licences that ask for no more than notices. `deny.toml` has the same list.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// `metadata` is that of cargo, with all dependencies.
pub(super) fn check(
    metadata: &Value,
    files: &[File],
    findings: &mut Vec<String>,
) -> Result<(), String> {
    let packages = metadata["packages"].as_array().ok_or("cargo names no packages")?;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let version = package["version"].as_str().unwrap_or_default();
        match package["license"].as_str().map(allowed) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => findings.push(format!(
                "{name} {version}: the licence {} is not allowed",
                package["license"]
            )),
            Some(Err(error)) => {
                findings.push(format!("{name} {version}: licence {}: {error}", package["license"]))
            }
            None => findings.push(format!("{name} {version}: its manifest names no licence")),
        }
    }
    match files.iter().find(|file| file.path == "deny.toml") {
        Some(file) if listed(&file.text) == ALLOWED => {}
        Some(_) => findings.push(
            "deny.toml: its licences differ from those in xtask/src/tidy/licence.rs".to_owned(),
        ),
        None => findings.push("deny.toml: missing".to_owned()),
    }
    Ok(())
}

/// The strings of the first `allow` list.
fn listed(deny: &str) -> Vec<&str> {
    let list = deny
        .split_once("\nallow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(list, _)| list);
    list.split('"').skip(1).step_by(2).collect()
}

/// Tells whether the project may use what has this licence: an SPDX expression, or one with the `/` of old manifests,
/// which means OR.
fn allowed(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let result = alternatives(&mut words)?;
    match words.pop() {
        None => Ok(result),
        Some(word) => Err(format!("`{word}` is out of place")),
    }
}

/// Reads from the end of `words`, which are in reverse order.
fn alternatives(words: &mut Vec<&str>) -> Result<bool, String> {
    let mut result = conjunction(words)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        result |= conjunction(words)?;
    }
    Ok(result)
}

fn conjunction(words: &mut Vec<&str>) -> Result<bool, String> {
    let mut result = licence(words)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        result &= licence(words)?;
    }
    Ok(result)
}

fn licence(words: &mut Vec<&str>) -> Result<bool, String> {
    match words.pop() {
        Some("(") => {
            let result = alternatives(words)?;
            if words.pop() == Some(")") { Ok(result) } else { Err("a `)` is missing".to_owned()) }
        }
        None => Err("it ends too early".to_owned()),
        Some(word @ (")" | "AND" | "OR" | "WITH")) => Err(format!("`{word}` is out of place")),
        Some(name) if words.pop_if(|word| *word == "WITH").is_some() => {
            let exception = words.pop().ok_or("it ends too early")?;
            Ok(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()))
        }
        Some(name) => Ok(ALLOWED.contains(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::{allowed, listed};

    #[test]
    fn one_allowed_alternative_is_enough() {
        for expression in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "GPL-3.0-only OR MIT",
            "GPL-2.0/MIT",
            "Apache-2.0 / MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "GPL-2.0 OR MIT AND ISC",
        ] {
            assert_eq!(allowed(expression), Ok(true), "{expression}");
        }
    }

    #[test]
    fn all_parts_of_a_conjunction_must_be_allowed() {
        for expression in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "GPL-2.0 OR MIT AND OpenSSL",
            "MIT WITH Classpath-exception-2.0",
            "mit",
        ] {
            assert_eq!(allowed(expression), Ok(false), "{expression}");
        }
    }

    #[test]
    fn broken_expressions_are_errors() {
        for expression in
            ["", "MIT OR", "(MIT", "MIT)", "MIT ISC", "AND MIT", "Apache-2.0 WITH", "()"]
        {
            assert!(allowed(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn the_list_of_deny_toml_is_read() {
        assert_eq!(
            listed("[licenses]\nallow = [\n    \"MIT\",\n    \"ISC\",\n]\n[bans]\nallow = [\"x\"]"),
            ["MIT", "ISC"]
        );
    }
}
