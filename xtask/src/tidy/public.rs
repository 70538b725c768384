//! What the libraries make public without need. What the compiler finds (public and out of reach, public and without
//! documentation) is left to its lints.

use std::collections::BTreeSet;

use super::File;
use super::source::without_tests;

/// Public for those who use a library alone, though nothing in the project needs it: the folder below `crates/`, the name,
/// and what it is good for.
const FOR_OTHERS: &[(&str, &str, &str)] = &[
    ("llmux-types", "other_price", "prices that have no field of their own"),
    ("llmux-types", "other_prices", "prices that have no field of their own"),
    ("llmux-providers", "MAX_EVENT_BYTES", "the bound that an error tells of"),
    ("llmux-auth", "from_hex", "hashes that come from elsewhere"),
    ("llmux-auth", "refund", "a request that no vendor saw"),
    ("llmux-cache", "is_at_start", "whether a reader that broke off may begin anew elsewhere"),
];

/// Reports functions and constants of the libraries that nothing names outside of their crate's own sources: no other
/// crate, no test, benchmark or example, no README.
pub(super) fn check(files: &[File], findings: &mut Vec<String>) {
    let libraries: BTreeSet<&str> = files.iter().filter_map(|file| library(&file.path)).collect();
    for name in libraries {
        let own = format!("crates/{name}/src/");
        let (inside, outside): (Vec<&File>, Vec<&File>) =
            files.iter().partition(|file| file.path.starts_with(&own));
        let readme = format!("crates/{name}/README.md");
        let words: BTreeSet<&str> = outside
            .iter()
            .filter(|file| file.path.ends_with(".rs") || file.path == readme)
            .flat_map(|file| file.text.split(|c: char| !c.is_alphanumeric() && c != '_'))
            .collect();
        let for_others = |item: &str| {
            FOR_OTHERS.iter().any(|(library, known, _)| *library == name && *known == item)
        };
        for file in inside.iter().filter(|file| is_no_test(&file.path)) {
            for (index, line) in without_tests(&file.path, &file.text).lines().enumerate() {
                let Some(item) = public(line) else { continue };
                if !words.contains(item) && !for_others(item) {
                    findings.push(format!(
                        "{}:{}: `{item}` is public, and nothing outside of {name} uses it; make it `pub(crate)`, or say \
                         in xtask/src/tidy/public.rs whom it serves",
                        file.path,
                        index + 1
                    ));
                }
            }
        }
    }
}

/// The library that a source file belongs to.
fn library(path: &str) -> Option<&str> {
    let (name, rest) = path.strip_prefix("crates/")?.split_once('/')?;
    (rest == "src/lib.rs").then_some(name)
}

fn is_no_test(path: &str) -> bool {
    path.ends_with(".rs") && !path.contains("/tests/") && !path.ends_with("tests.rs")
}

/// The name of the function or constant that a line makes public.
fn public(line: &str) -> Option<&str> {
    let item = line.trim_start().strip_prefix("pub ")?;
    let item = match item.strip_prefix("const ") {
        Some(function) if function.starts_with("fn ") => function,
        Some(constant) => return word(constant),
        None => item,
    };
    word(item.strip_prefix("async ").unwrap_or(item).strip_prefix("fn ")?)
}

fn word(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::{check, public};
    use crate::tidy::File;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files
            .iter()
            .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        let mut findings = Vec::new();
        check(&files, &mut findings);
        findings
    }

    #[test]
    fn what_only_the_crate_itself_uses_is_reported_with_its_line() {
        let library = "pub use a::A;\n";
        let source = "impl A {\n    pub fn used(&self) {}\n    pub const fn idle(&self) {}\n}\nfn b(a: A) { a.idle() }\n";
        let files = [
            ("crates/one/src/lib.rs", library),
            ("crates/one/src/a.rs", source),
            ("apps/x/src/main.rs", "fn main() { one::A.used() }"),
        ];
        let found = findings(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crates/one/src/a.rs:3: `idle` is public"), "{found:?}");
        let mut files = files.to_vec();
        files.push(("crates/one/README.md", "`A::idle` does nothing"));
        assert_eq!(findings(&files), Vec::<String>::new());
    }

    #[test]
    fn tests_inside_are_no_users_and_make_nothing_public() {
        let tested = "pub fn idle() {}\n#[cfg(test)]\nmod tests {\n    pub fn helper() { super::idle() }\n}\n";
        assert_eq!(findings(&[("crates/one/src/lib.rs", tested)]).len(), 1);
        assert!(findings(&[("apps/x/src/lib.rs", tested)]).is_empty(), "no library for others");
    }

    #[test]
    fn functions_and_constants_have_names() {
        for (line, name) in [
            ("pub fn a(", Some("a")),
            ("    pub const fn b<T>(", Some("b")),
            ("pub async fn c()", Some("c")),
            ("    pub const D: u8 = 1;", Some("D")),
            ("pub(crate) fn e()", None),
            ("pub struct F;", None),
            ("fn g()", None),
        ] {
            assert_eq!(public(line), name, "{line}");
        }
    }
}
