//! Links between documents, and the two languages of the README.

use std::collections::{BTreeMap, BTreeSet};

use super::File;

/// What matters of a Markdown file.
#[derive(Debug, Default)]
struct Document {
    headings: usize,
    /// What `#name` in a link may be.
    anchors: BTreeSet<String>,
    /// Fenced code, with the line of the opening fence.
    code: Vec<String>,
    /// Line number and target.
    links: Vec<(usize, String)>,
}

pub(super) fn check(files: &[File], paths: &[String], findings: &mut Vec<String>) {
    let documents: BTreeMap<&str, Document> = files
        .iter()
        .filter(|file| file.path.ends_with(".md"))
        .map(|file| (file.path.as_str(), parse(&file.text)))
        .collect();
    for (path, document) in &documents {
        for (line, link) in &document.links {
            if let Some(problem) = broken(path, link, &documents, paths) {
                findings.push(format!("{path}:{line}: {problem}"));
            }
        }
    }
    match (documents.get("README.md"), documents.get("README_CN.md")) {
        (None, _) => findings.push("README.md: missing".to_owned()),
        (Some(one), Some(other)) => {
            if one.headings != other.headings {
                let (one, other) = (one.headings, other.headings);
                findings.push(format!("README_CN.md: {other} headings, and README.md has {one}"));
            }
            if one.code.len() != other.code.len() {
                let (one, other) = (one.code.len(), other.code.len());
                findings
                    .push(format!("README_CN.md: {other} blocks of code, and README.md has {one}"));
            }
            for (index, _) in one
                .code
                .iter()
                .zip(&other.code)
                .enumerate()
                .filter(|(_, (one, other))| one != other)
            {
                findings.push(format!(
                    "README_CN.md: block of code {} differs from that in README.md",
                    index + 1
                ));
            }
        }
        (Some(_), None) => {}
    }
}

/// Says what is wrong with a link; `None` if nothing is, or if it leads out of the repository.
fn broken(
    from: &str,
    link: &str,
    documents: &BTreeMap<&str, Document>,
    paths: &[String],
) -> Option<String> {
    let scheme = link
        .split_once(':')
        .is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric()));
    if scheme || link.starts_with("//") {
        return None;
    }
    let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = if target.is_empty() { Some(from.to_owned()) } else { resolve(from, target) };
    let Some(path) = path else {
        return Some(format!("the link {link} leads out of the repository"));
    };
    let folder = format!("{path}/");
    if !path.is_empty() && !paths.iter().any(|known| *known == path || known.starts_with(&folder)) {
        return Some(format!("the link {link} leads to nothing"));
    }
    let document = documents.get(path.as_str())?;
    (!anchor.is_empty() && !document.anchors.contains(&anchor.to_lowercase()))
        .then(|| format!("the link {link} names no heading of {path}"))
}

/// The path that a link means, from the root folder; `None` if it leads out of it.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> =
        if target.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

fn parse(text: &str) -> Document {
    let mut document = Document::default();
    let mut fence: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let ticks = trimmed
            .chars()
            .take_while(|c| *c == '`')
            .count()
            .max(trimmed.chars().take_while(|c| *c == '~').count());
        if let Some(open) = &fence {
            let block = document.code.last_mut().expect("an open fence has begun a block");
            if trimmed.starts_with(open.as_str()) && trimmed.trim_end().len() == ticks {
                fence = None;
            } else {
                block.push('\n');
                block.push_str(line);
            }
            continue;
        }
        if ticks >= 3 && !trimmed[ticks..].contains('`') {
            fence = Some(trimmed[..ticks].to_owned());
            document.code.push(trimmed[ticks..].trim().to_owned());
            continue;
        }
        let level = line.chars().take_while(|c| *c == '#').count();
        if (1..=6).contains(&level) && line[level..].starts_with(' ') {
            document.headings += 1;
            let slug = slug(&line[level..]);
            let mut name = slug.clone();
            let mut number = 0;
            while !document.anchors.insert(name) {
                number += 1;
                name = format!("{slug}-{number}");
            }
        }
        for attribute in ["id=\"", "name=\""] {
            for (_, value) in quoted(line, attribute) {
                document.anchors.insert(value.to_lowercase());
            }
        }
        links(&without_code(line), |link| document.links.push((index + 1, link.to_owned())));
    }
    document
}

/// Calls `take` with the target of each link of a line.
fn links(line: &str, mut take: impl FnMut(&str)) {
    for (at, _) in line.match_indices("](") {
        let rest = &line[at + 2..];
        let target = match rest.strip_prefix('<') {
            Some(rest) => rest.split('>').next(),
            None => rest.split([')', ' ']).next(),
        };
        target.into_iter().for_each(&mut take);
    }
    if let Some((label, target)) = line.split_once("]: ")
        && label.starts_with('[')
        && !label.starts_with("[^")
    {
        target.split_whitespace().next().into_iter().for_each(&mut take);
    }
    for attribute in ["href=\"", "src=\""] {
        quoted(line, attribute).for_each(|(_, value)| take(value));
    }
}

/// The values of an HTML attribute; `start` is its name with `="`.
fn quoted<'a>(line: &'a str, start: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    line.match_indices(start)
        .filter_map(move |(at, _)| Some((at, line[at + start.len()..].split_once('"')?.0)))
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    // A lone backtick begins no code.
    let even = parts.len() % 2 == 1;
    let kept = parts
        .iter()
        .enumerate()
        .filter(|(index, _)| index % 2 == 0 || (!even && index + 1 == parts.len()));
    kept.map(|(_, part)| *part).collect::<Vec<_>>().join("``")
}

/// The anchor that code hosts make of a heading: lower case, hyphens for spaces, no punctuation, no targets of links.
fn slug(heading: &str) -> String {
    let mut text = heading.trim().to_owned();
    while let Some(middle) = text.find("](") {
        let end = text[middle..].find(')').map_or(text.len(), |length| middle + length + 1);
        text.replace_range(middle..end, "");
    }
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .flat_map(char::to_lowercase)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{File, check, parse, slug};

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files
            .iter()
            .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let mut findings = Vec::new();
        check(&files, &paths, &mut findings);
        findings
    }

    #[test]
    fn links_to_files_folders_and_headings_are_good() {
        let readme = "# A b\n## A b\n[1](docs/a.md) [2](docs/a.md#two-words \"title\") [3](#a-b-1) [4](docs) [5](./docs/)\n\
                      [6](https://example.com/x) [7](mailto:a@b.c) ![8](/docs/a.md)\n[ref]: docs/a.md\n\
                      <a href=\"docs/a.md#here\">x</a>\n`[no](link)`\n```sh\n[no](link)\n```\n";
        let page = "# Two `words`!\n<a id=\"here\"></a>\n[back](../README.md#a-b)\n";
        assert_eq!(findings(&[("README.md", readme), ("docs/a.md", page)]), Vec::<String>::new());
    }

    #[test]
    fn links_that_lead_nowhere_are_reported_with_their_line() {
        let page = "# One\n[a](two.md)\n[b](#two) [c](../README.md#x)\n[d](../../x)\n<img src=\"x.png\">\n[e]: y.md\n";
        assert_eq!(
            findings(&[("README.md", ""), ("docs/a.md", page)]),
            [
                "docs/a.md:2: the link two.md leads to nothing",
                "docs/a.md:3: the link #two names no heading of docs/a.md",
                "docs/a.md:3: the link ../README.md#x names no heading of README.md",
                "docs/a.md:4: the link ../../x leads out of the repository",
                "docs/a.md:5: the link x.png leads to nothing",
                "docs/a.md:6: the link y.md leads to nothing",
            ]
        );
    }

    #[test]
    fn both_readmes_have_the_same_shape() {
        let one = "# A\n## B\n```sh\nls\n```\n";
        assert!(
            findings(&[("README.md", one), ("README_CN.md", "# 甲\n## 乙\n```sh\nls\n```\n")])
                .is_empty()
        );
        assert_eq!(
            findings(&[("README.md", one), ("README_CN.md", "# 甲\n```sh\nls -l\n```\n")]),
            [
                "README_CN.md: 1 headings, and README.md has 2",
                "README_CN.md: block of code 1 differs from that in README.md"
            ]
        );
        assert_eq!(findings(&[]), ["README.md: missing"]);
    }

    #[test]
    fn fences_may_hold_shorter_fences() {
        let document = parse("````md\n```sh\n# no heading\n```\n````\n# Heading\n");
        assert_eq!((document.code.len(), document.headings), (1, 1));
    }

    #[test]
    fn headings_become_anchors() {
        assert_eq!(slug(" 1. Who may call?"), "1-who-may-call");
        assert_eq!(slug(" The [server](a.md) `--port`"), "the-server---port");
        assert_eq!(slug(" 快速 开始"), "快速-开始");
    }
}
