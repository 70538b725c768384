//! What must not stand in the project's files.

use super::File;

/// Longest source file, in lines.
const LINES: usize = 700;

/// Words that no Rust file may have, and why.
const RUST: &[(&str, &str)] = &[
    ("todo!", "unfinished"),
    ("unimplemented!", "unfinished"),
    ("dbg!", "left from debugging"),
    ("#[ignore", "a test runs or does not exist"),
    ("```ignore", "an example compiles or does not exist"),
    ("#[allow(", "use `#[expect(.., reason = \"..\")]`"),
    ("#![allow(", "use `#![expect(.., reason = \"..\")]`"),
];

/// Folders that only exist on somebody's machine.
const FOLDERS: &[&str] = &["/root/", "/home/", "/Users/", "/tmp/"];

/// Hosts of package registries, in two parts so that this file does not name them either: where packages come from is
/// each machine's own business.
const HOSTS: &[[&str; 2]] = &[
    ["pypi", "org"],
    ["pythonhosted", "org"],
    ["index.crates", "io"],
    ["static.crates", "io"],
    ["registry.npmjs", "org"],
    ["proxy.golang", "org"],
];

/// Where the lock file says that packages come from: the registry that cargo asks by default.
const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/";

pub(super) fn check(files: &[File], findings: &mut Vec<String>) {
    for File { path, text } in files {
        if path == "Cargo.lock" {
            lines(path, text, findings, |line| {
                (line.starts_with("source = ") && !line.starts_with(REGISTRY))
                    .then(|| format!("not from the default registry: {line}"))
            });
            continue;
        }
        // The rules have to name what they forbid.
        if path == "xtask/src/tidy/source.rs" {
            continue;
        }
        lines(path, text, findings, |line| {
            HOSTS
                .iter()
                .map(|parts| parts.join("."))
                .find(|host| line.contains(host.as_str()))
                .map(|host| format!("names the package registry {host}"))
        });
        if !is_test(path) {
            lines(path, without_tests(path, text), findings, |line| {
                FOLDERS
                    .iter()
                    .find(|folder| has_folder(line, folder))
                    .map(|folder| format!("names the folder {folder}"))
            });
        }
        if path.ends_with(".rs") {
            lines(path, text, findings, |line| {
                RUST.iter()
                    .find(|(word, _)| has_word(line, word))
                    .map(|(word, why)| format!("`{word}`: {why}"))
            });
            let length = text.lines().count();
            if path.contains("src/") && length > LINES {
                findings.push(format!("{path}: {length} lines are too many, at most {LINES}"));
            }
        }
    }
}

fn lines(
    path: &str,
    text: &str,
    findings: &mut Vec<String>,
    rule: impl Fn(&str) -> Option<String>,
) {
    for (index, line) in text.lines().enumerate() {
        if let Some(finding) = rule(line) {
            findings.push(format!("{path}:{}: {finding}", index + 1));
        }
    }
}

fn is_test(path: &str) -> bool {
    path.split('/')
        .any(|part| matches!(part, "tests" | "fixtures" | "golden" | "testdata" | "tests.rs"))
}

/// The part of a source file before its unit tests.
pub(super) fn without_tests<'a>(path: &str, text: &'a str) -> &'a str {
    if !path.ends_with(".rs") {
        return text;
    }
    text.find("#[cfg(test)]\nmod ").map_or(text, |tests| &text[..tests])
}

/// Tells whether a line names something below an absolute path.
fn has_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = &line[..at];
        before.ends_with("//")
            || !before.ends_with(|c: char| c.is_alphanumeric() || "._-~/$}{*>)".contains(c))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::{File, check};

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&[File { path: path.to_owned(), text: text.to_owned() }], &mut findings);
        findings
    }

    #[test]
    fn unfinished_and_switched_off_code_is_reported_with_its_line() {
        assert_eq!(
            findings("a/src/b.rs", "fn a() {\n    todo!()\n}"),
            ["a/src/b.rs:2: `todo!`: unfinished"]
        );
        for text in [
            "unimplemented!()",
            "dbg!(1)",
            "#[ignore]",
            "#[ignore = \"slow\"]",
            "/// ```ignore",
            "#[allow(x)]",
        ] {
            assert_eq!(findings("b.rs", text).len(), 1, "{text}");
        }
        assert!(findings("b.rs", "my_todo!(); // ignore all").is_empty());
    }

    #[test]
    fn folders_of_a_machine_are_reported_outside_of_tests() {
        for text in ["see /root/x", "\"/home/me/x\"", "file:///tmp/x"] {
            assert_eq!(findings("docs/a.md", text).len(), 1, "{text}");
            assert!(findings("apps/a/tests/a.rs", text).is_empty(), "{text}");
        }
        for text in ["https://host/root/x", "${HOME}/tmp/x", "./tmp/x"] {
            assert!(findings("docs/a.md", text).is_empty(), "{text}");
        }
        assert!(findings("src/a.rs", "\n#[cfg(test)]\nmod tests {\n\"/tmp/x\"").is_empty());
    }

    #[test]
    fn package_registries_are_reported() {
        let line = format!("--index-url https://{}/simple", super::HOSTS[0].join("."));
        assert_eq!(findings("requirements.txt", &line).len(), 1);
        assert_eq!(
            findings("Cargo.lock", "source = \"registry+https://example.com/index\"").len(),
            1
        );
        assert!(findings("Cargo.lock", super::REGISTRY).is_empty());
    }

    #[test]
    fn long_source_files_are_reported() {
        assert!(findings("a/src/b.rs", &"\n".repeat(700)).is_empty());
        assert_eq!(
            findings("a/src/b.rs", &"\n".repeat(701)),
            ["a/src/b.rs: 701 lines are too many, at most 700"]
        );
    }
}
