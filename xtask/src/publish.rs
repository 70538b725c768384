//! `cargo xtask publish --dry-run`: whether the libraries can be published, as far as one can know before.

use serde_json::Value;

use crate::workspace::{cargo, metadata, output, succeeds};
use crate::{Outcome, complain, say};

/// What stands in each package.
const NEEDED: &[&str] = &["Cargo.toml", "LICENSE", "README.md", "src/lib.rs"];

/// What may stand in a package: what is needed to build it, and to learn how to use it. Tests and benchmarks are not.
const KINDS: &[&str] = &["src/", "examples/", "data/", "migrations/"];

/// Files that cargo adds.
const CARGOS: &[&str] = &[".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig"];

/// Looks at what would be packed of each library, and lets cargo pack all of them, build each from its package alone, with
/// all features, and do everything but the upload.
pub(crate) fn dry_run() -> Outcome {
    let metadata = metadata(false)?;
    let libraries = libraries(&metadata);
    if libraries.is_empty() {
        return Err("there are no libraries to publish".to_owned());
    }
    let mut findings = Vec::new();
    for library in &libraries {
        let name = library["name"].as_str().unwrap_or_default();
        fields(name, library, &mut findings);
        let list = ["package", "--list", "--allow-dirty", "--package", name];
        files(name, &output(cargo().args(list))?, &mut findings);
    }
    findings.iter().for_each(|finding| complain(finding));
    // A working tree with changes is what one wants to know about.
    let mut publish = cargo();
    publish.args(["publish", "--dry-run", "--allow-dirty", "--locked", "--all-features"]);
    let names: Vec<&str> =
        libraries.iter().filter_map(|library| library["name"].as_str()).collect();
    names.iter().for_each(|name| {
        publish.args(["--package", name]);
    });
    let builds = succeeds(&mut publish)?;
    let good = builds && findings.is_empty();
    say(&if good {
        format!("{} can be published", names.join(", "))
    } else {
        let built = if builds { "built" } else { "not built" };
        format!("cannot be published: {} findings, packages {built}", findings.len())
    });
    Ok(good)
}

/// The packages of the workspace that have a library and are to be published.
fn libraries(metadata: &Value) -> Vec<&Value> {
    let is_library = |package: &&Value| {
        let has_library = package["targets"].as_array().into_iter().flatten().any(|target| {
            target["kind"].as_array().into_iter().flatten().any(|kind| kind == "lib")
        });
        // `publish = false` is an empty list of registries.
        has_library && package["publish"].as_array().is_none_or(|registries| !registries.is_empty())
    };
    metadata["packages"].as_array().into_iter().flatten().filter(is_library).collect()
}

/// What a library's manifest says for those who look for one.
fn fields(name: &str, package: &Value, findings: &mut Vec<String>) {
    for field in ["description", "license", "repository", "documentation", "readme", "rust_version"]
    {
        if package[field].as_str().is_none_or(str::is_empty) {
            findings.push(format!("{name}: its manifest has no {}", field.replace('_', "-")));
        }
    }
    for field in ["keywords", "categories"] {
        if package[field].as_array().is_none_or(Vec::is_empty) {
            findings.push(format!("{name}: its manifest has no {field}"));
        }
    }
    if package["metadata"]["docs"]["rs"]["all-features"] != true {
        findings.push(format!("{name}: its documentation is not made with all features"));
    }
}

/// `list` is what cargo would pack, a file a line.
fn files(name: &str, list: &str, findings: &mut Vec<String>) {
    for needed in NEEDED.iter().filter(|needed| !list.lines().any(|file| file == **needed)) {
        findings.push(format!("{name}: its package has no {needed}"));
    }
    let is_known = |file: &str| {
        NEEDED.contains(&file)
            || CARGOS.contains(&file)
            || KINDS.iter().any(|kind| file.starts_with(kind))
    };
    for file in list.lines().filter(|file| !is_known(file)) {
        findings.push(format!("{name}: its package needs no {file}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{fields, files, libraries};

    #[test]
    fn libraries_are_published_and_programs_and_private_crates_are_not() {
        let metadata = json!({"packages": [
            {"name": "library", "publish": null, "targets": [{"kind": ["bench"]}, {"kind": ["lib"]}]},
            {"name": "program", "publish": null, "targets": [{"kind": ["bin"]}]},
            {"name": "private", "publish": [], "targets": [{"kind": ["lib"]}]},
        ]});
        let found = libraries(&metadata);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["name"], "library");
    }

    #[test]
    fn a_package_has_what_is_needed_and_no_more() {
        let mut findings = Vec::new();
        let good = ".cargo_vcs_info.json\nCargo.lock\nCargo.toml\nCargo.toml.orig\nLICENSE\nREADME.md\nsrc/lib.rs\n\
                    src/a/b.rs\nexamples/c.rs\n";
        files("a", good, &mut findings);
        assert_eq!(findings, Vec::<String>::new());
        files("a", "Cargo.toml\nREADME.md\nsrc/lib.rs\ntests/fixtures/x.json\n", &mut findings);
        assert_eq!(
            findings,
            ["a: its package has no LICENSE", "a: its package needs no tests/fixtures/x.json"]
        );
    }

    #[test]
    fn a_manifest_tells_what_the_library_is() {
        let mut package = json!({
            "description": "d", "license": "MIT", "repository": "r", "documentation": "d", "readme": "README.md",
            "rust_version": "1.95", "keywords": ["k"], "categories": ["c"],
            "metadata": {"docs": {"rs": {"all-features": true}}},
        });
        let mut findings = Vec::new();
        fields("a", &package, &mut findings);
        assert_eq!(findings, Vec::<String>::new());
        package["keywords"] = json!([]);
        package["rust_version"] = json!(null);
        package["metadata"] = json!(null);
        fields("a", &package, &mut findings);
        assert_eq!(
            findings,
            [
                "a: its manifest has no rust-version",
                "a: its manifest has no keywords",
                "a: its documentation is not made with all features"
            ]
        );
    }
}
