//! Reads Prometheus's text format, and takes nothing that the format does not allow.
//!
//! See <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::Gateway;

/// The labels of a series.
type Labels = BTreeMap<String, String>;

/// One page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    /// The type of each family.
    pub(crate) kinds: BTreeMap<String, String>,
    /// All series with their values.
    pub(crate) series: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let mut helped = BTreeSet::new();
        let mut current = String::new();
        assert!(text.ends_with('\n'), "the last line ends");
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a family has a help text");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a family has a type");
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                assert!(helped.contains(name), "no help of {name}");
                let old = scrape.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(old, None, "the series of {name} are not together");
                name.clone_into(&mut current);
            } else {
                assert!(!line.starts_with('#'), "{line}");
                let (name, labels, value) = sample(line);
                let kind = scrape.kinds.get(&current).expect("a type comes first");
                let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line}"));
                match kind.as_str() {
                    "histogram" => {
                        assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}")
                    }
                    _ => assert_eq!(suffix, "", "{line}"),
                }
                assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
                assert!(value.is_finite() && (kind == "gauge" || value >= 0.0), "{line}");
                let old = scrape.series.insert((name, labels), value);
                assert_eq!(old, None, "{line} is there twice");
            }
        }
        scrape.check_histograms();
        scrape
    }

    /// Buckets grow with their bounds, and the last one has all.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in &self.series {
            if let Some(family) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bucket has a bound");
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                buckets.entry((family.to_owned(), labels)).or_default().push((bound, *value));
            }
        }
        for ((family, labels), mut bounds) in buckets {
            bounds.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(bounds.is_sorted_by(|one, other| one.1 <= other.1), "{family}{labels:?}");
            let (last, all) = bounds[bounds.len() - 1];
            let count = self.series[&(format!("{family}_count"), labels.clone())];
            assert_eq!((last, all), (f64::INFINITY, count), "{family}{labels:?}");
            assert!(self.series.contains_key(&(format!("{family}_sum"), labels)));
        }
    }

    /// The sum of all series of that name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |found: &Labels| {
            labels.iter().all(|(label, value)| {
                let found = found.get(*label).unwrap_or_else(|| panic!("{name} has no {label}"));
                found == value
            })
        };
        self.series
            .iter()
            .filter(|((found, labels), _)| found == name && fits(labels))
            .map(|(_, value)| value)
            .sum()
    }

    /// The series, without their values.
    pub(crate) fn keys(&self) -> BTreeSet<(String, Labels)> {
        self.series.keys().cloned().collect()
    }

    /// The series of a family, of a histogram all three kinds.
    pub(crate) fn of_family(&self, family: &str) -> BTreeMap<&(String, Labels), f64> {
        let suffixes: &[&str] = match self.kinds.get(family).map(String::as_str) {
            Some("histogram") => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let is_of =
            |name: &str| name.strip_prefix(family).is_some_and(|suffix| suffixes.contains(&suffix));
        let found = self.series.iter().filter(|((name, _), _)| is_of(name));
        found.map(|(key, value)| (key, *value)).collect()
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect("a value stands behind the name");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, behind) = rest.split_once("=\"").expect("a label has a value");
            assert!(is_name(label), "{line}");
            let (value, behind) = unquoted(behind);
            assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
            match behind.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a space stands before the value");
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

/// Reads up to the closing quotation mark.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[index + 1..]),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, letter @ ('\\' | '"'))) => value.push(letter),
                other => panic!("{other:?} is no escape in {text}"),
            },
            letter => value.push(letter),
        }
    }
    panic!("{text} is not closed")
}

impl Gateway {
    /// Scrapes `/metrics`, with a key if one is needed.
    pub(crate) async fn scrape(&self, headers: &[(&str, &str)]) -> Scrape {
        let response = self.send("GET", "/metrics", headers, b"").await.whole().await;
        assert_eq!(response.status, 200, "{}", response.text());
        let content_type = response.header("content-type");
        assert_eq!(content_type, Some("text/plain; version=0.0.4; charset=utf-8"));
        Scrape::parse(&response.text())
    }
}
