//! Which crate may depend on which, and what a crate's manifest says.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::workspace::{cargo, output};

/// Each crate of the workspace, and the crates of the workspace that it may use.
const EDGES: &[(&str, &[&str])] = &[
    ("llmux-types", &[]),
    ("llmux-providers", &["llmux-types"]),
    ("llmux-router", &["llmux-types"]),
    ("llmux-auth", &["llmux-types"]),
    ("llmux-cache", &["llmux-types"]),
    ("llmux-mock", &[]),
    ("llmux-bench", &[]),
    // Nothing but the documentation's examples, which use all libraries.
    (
        "llmux-docs",
        &["llmux-types", "llmux-providers", "llmux-router", "llmux-auth", "llmux-cache"],
    ),
    (
        "llmux-server",
        &[
            "llmux-types",
            "llmux-providers",
            "llmux-router",
            "llmux-auth",
            "llmux-cache",
            "llmux-mock",
        ],
    ),
    ("xtask", &[]),
];

/// Libraries that do no I/O with their default features, nor draw lots, nor log. Features that are off by default may
/// bring drivers: the stores of llmux-auth, the Redis of llmux-cache.
const PURE: &[&str] =
    &["llmux-types", "llmux-providers", "llmux-router", "llmux-auth", "llmux-cache"];

/// What a pure library does not use, not even through others.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "reqwest",
    "tracing",
    "sqlx",
    "redis",
    "fred",
    "tokio-postgres",
    "deadpool-postgres",
    "rusqlite",
    "rustls",
];

/// What a pure library may use for tests and examples nonetheless, each with its reason.
const IMPURE_IN_DEV: &[(&str, &str)] = &[
    // Its `examples/tokio_client.rs` shows embedders how to share a router among tasks.
    ("llmux-router", "tokio"),
];

/// All that some libraries depend on, whose users are promised that it is no more.
const WHOLE_TREES: &[(&str, &[&str])] = &[(
    "llmux-router",
    &[
        "llmux-router",
        "llmux-types",
        // serde, its derive macro and serde_json
        "serde",
        "serde_core",
        "serde_derive",
        "serde_json",
        "itoa",
        "memchr",
        "zmij",
        // thiserror
        "thiserror",
        "thiserror-impl",
        // what derive macros are made of
        "proc-macro2",
        "quote",
        "syn",
        "unicode-ident",
    ],
)];

/// Sources of chance. Property tests need them.
const CHANCE: &[&str] = &["rand", "fastrand", "getrandom"];

/// What nothing here uses: rustls works with ring.
const BANNED: &[&str] = &["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"];

/// `metadata` is that of cargo, with all dependencies.
pub(super) fn check(metadata: &Value, findings: &mut Vec<String>) -> Result<(), String> {
    let members: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let member = |package: &&Value| package["id"].as_str().is_some_and(|id| members.contains(id));
    let names: BTreeSet<&str> =
        packages.iter().filter(member).filter_map(|package| package["name"].as_str()).collect();
    if names.is_empty() {
        return Err("cargo names no crates of the workspace".to_owned());
    }
    for package in packages.iter().filter(member) {
        let name = package["name"].as_str().unwrap_or_default();
        manifest(name, package, findings);
        let dependencies: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| names.contains(dependency))
            .collect();
        edges(name, &dependencies, findings);
    }
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if BANNED.contains(&name) {
            findings.push(format!(
                "Cargo.lock: {name} must not be used; `cargo tree -i {name}` shows by whom it is"
            ));
        }
    }
    for name in PURE.iter().filter(|name| names.contains(*name)) {
        let tree = tree(name, "normal")?;
        for foreign in IMPURE.iter().chain(CHANCE).filter(|foreign| tree.contains(**foreign)) {
            findings.push(format!("{name}: must not depend on {foreign}"));
        }
        let tree = self::tree(name, "normal,dev")?;
        dev_edges(name, &tree, findings);
    }
    for (name, allowed) in WHOLE_TREES.iter().filter(|(name, _)| names.contains(name)) {
        whole_tree(name, allowed, &tree(name, "normal")?, findings);
    }
    Ok(())
}

/// `tree` is what the crate uses, in tests too.
fn dev_edges(name: &str, tree: &BTreeSet<String>, findings: &mut Vec<String>) {
    let is_allowed = |foreign: &&&str| IMPURE_IN_DEV.contains(&(name, **foreign));
    let found = IMPURE.iter().filter(|foreign| tree.contains(**foreign));
    for foreign in found.filter(|foreign| !is_allowed(foreign)) {
        findings.push(format!("{name}: must not depend on {foreign}, not even for tests"));
    }
}

fn whole_tree(name: &str, allowed: &[&str], tree: &BTreeSet<String>, findings: &mut Vec<String>) {
    for foreign in tree.iter().filter(|foreign| !allowed.contains(&foreign.as_str())) {
        findings.push(format!(
            "{name}: must not depend on {foreign}, not even through others; what its users are promised is in xtask/src/tidy/crates.rs"
        ));
    }
}

fn edges(name: &str, dependencies: &BTreeSet<&str>, findings: &mut Vec<String>) {
    let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == name) else {
        findings.push(format!(
            "{name}: a new crate; say in xtask/src/tidy/crates.rs what it may depend on"
        ));
        return;
    };
    for dependency in dependencies.iter().filter(|dependency| !allowed.contains(dependency)) {
        findings.push(format!("{name}: must not depend on {dependency}"));
    }
}

fn manifest(name: &str, package: &Value, findings: &mut Vec<String>) {
    for field in ["description", "license", "rust_version"] {
        if package[field].as_str().is_none_or(str::is_empty) {
            findings.push(format!("{name}: its manifest has no {}", field.replace('_', "-")));
        }
    }
    let inherits = package["manifest_path"].as_str().and_then(|path| fs::read_to_string(path).ok());
    if !inherits.is_some_and(|text| has_workspace_lints(&text)) {
        findings.push(format!("{name}: its manifest does not take the lints of the workspace"));
    }
}

fn has_workspace_lints(manifest: &str) -> bool {
    let mut section = "";
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let compact: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        (section == "[lints]" && compact == "workspace=true")
            || (section.is_empty() && compact == "lints.workspace=true")
    })
}

/// The names of all crates that a crate uses with its default features, on any platform.
fn tree(name: &str, edges: &str) -> Result<BTreeSet<String>, String> {
    let arguments =
        ["tree", "--package", name, "--edges", edges, "--target", "all", "--prefix", "none"];
    let text = output(cargo().args(arguments))?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{dev_edges, edges, has_workspace_lints, whole_tree};

    #[test]
    fn siblings_and_unknown_crates_are_reported() {
        let mut findings = Vec::new();
        edges("llmux-router", &["llmux-types"].into(), &mut findings);
        assert_eq!(findings, Vec::<String>::new());
        edges("llmux-router", &["llmux-providers", "llmux-types"].into(), &mut findings);
        assert_eq!(findings, ["llmux-router: must not depend on llmux-providers"]);
        edges("llmux-new", &[].into(), &mut findings);
        assert!(findings[1].starts_with("llmux-new: a new crate"));
    }

    #[test]
    fn the_router_may_use_tokio_for_its_example_and_others_may_not() {
        let tree = BTreeSet::from(["tokio".to_owned(), "serde".to_owned()]);
        let mut findings = Vec::new();
        dev_edges("llmux-router", &tree, &mut findings);
        assert_eq!(findings, Vec::<String>::new());
        dev_edges("llmux-types", &tree, &mut findings);
        assert_eq!(findings, ["llmux-types: must not depend on tokio, not even for tests"]);
        let tree = BTreeSet::from(["hyper".to_owned()]);
        dev_edges("llmux-router", &tree, &mut findings);
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn what_is_not_listed_in_a_whole_tree_is_reported() {
        let tree = BTreeSet::from(["serde".to_owned(), "bytes".to_owned()]);
        let mut findings = Vec::new();
        whole_tree("llmux-router", &["serde"], &tree, &mut findings);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("llmux-router: must not depend on bytes"));
    }

    #[test]
    fn only_the_lints_of_the_workspace_count() {
        assert!(has_workspace_lints("[package]\nname = \"a\"\n[lints]\nworkspace = true\n"));
        assert!(!has_workspace_lints("[package]\nname = \"a\"\n[lints]\n"));
        assert!(!has_workspace_lints(
            "[lints.rust]\nunsafe_code = \"deny\"\n[other]\nworkspace = true\n"
        ));
    }
}
