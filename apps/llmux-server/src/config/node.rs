//! A configuration file as it is written: texts, lists and maps with their lines, before anything is known of types.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;

/// Deeper files are refused, since the tree is walked by recursion. The schema needs 5 levels.
const DEEPEST: usize = 32;
/// Larger files are refused; aliases of aliases could otherwise fill the memory.
const MOST_NODES: usize = 100_000;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`, unquoted. The same as leaving the key out.
    Null,
    /// From a file: variables in it are expanded.
    Scalar(String),
    /// From the environment or the command line: taken as it is.
    Literal(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) node: Node,
}

/// Where a value was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Origin {
    #[default]
    Unknown,
    /// A line of the file, from 1.
    Line(u32),
    /// A variable or a flag.
    Named(String),
}

impl Node {
    pub(super) const fn map(entries: Vec<Entry>) -> Self {
        Self { value: Value::Map(entries), origin: Origin::Unknown }
    }

    pub(super) fn literal(text: impl Into<String>, origin: Origin) -> Self {
        Self { value: Value::Literal(text.into()), origin }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// Puts `node` under `path`, making maps on the way. What is not a map there gives way to one.
    pub(super) fn set(&mut self, path: &[String], node: Self) {
        let Some((key, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else {
            return;
        };
        let index = entries.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
            entries.push(Entry {
                key: key.clone(),
                origin: node.origin.clone(),
                node: Self::map(Vec::new()),
            });
            entries.len() - 1
        });
        if let Some(entry) = entries.get_mut(index) {
            entry.node.set(rest, node);
        }
    }

    /// Lays `over` over this node: maps are merged, all else is replaced.
    pub(super) fn merge(&mut self, over: &Self) {
        match (&mut self.value, &over.value) {
            (Value::Map(entries), Value::Map(others)) => {
                for other in others {
                    match entries.iter_mut().find(|entry| entry.key == other.key) {
                        Some(entry) => entry.node.merge(&other.node),
                        None => entries.push(other.clone()),
                    }
                }
            }
            _ => *self = over.clone(),
        }
    }

    /// Takes out whatever `over` sets, so that it is neither expanded nor checked.
    pub(super) fn remove_overridden(&mut self, over: &Self) {
        let Value::Map(entries) = &mut self.value else {
            return;
        };
        entries.retain_mut(|entry| match over.get(&entry.key) {
            None | Some(Self { value: Value::Null, .. }) => true,
            Some(other)
                if matches!((&entry.node.value, &other.value), (Value::Map(_), Value::Map(_))) =>
            {
                entry.node.remove_overridden(other);
                true
            }
            Some(_) => false,
        });
    }
}

fn line(span: &Span) -> Origin {
    u32::try_from(span.start.line()).map_or(Origin::Unknown, Origin::Line)
}

fn problem(origin: Origin, message: impl Into<String>) -> Problem {
    Problem::new("", &origin, message)
}

/// Reads YAML, and JSON as its subset.
///
/// # Errors
/// Returns the first syntax error, or what else cannot be read, with its line.
pub(super) fn yaml(text: &str) -> Result<Node, Problem> {
    let mut reader =
        Yaml { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            _ if root.is_some() => {
                return Err(problem(line(&span), "a second YAML document in one file"));
            }
            event => root = Some(reader.node(event, &span, 0)?),
        }
    }
    Ok(match root {
        None | Some(Node { value: Value::Null, .. }) => Node::map(Vec::new()),
        Some(node) => node,
    })
}

struct Yaml<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Yaml<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = u32::try_from(error.marker().line()).map_or(Origin::Unknown, Origin::Line);
                Err(problem(at, format!("not valid YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Problem> {
        let origin = line(span);
        self.count(1, &origin)?;
        if depth > DEEPEST {
            return Err(problem(origin, "nested too deeply"));
        }
        let (value, anchor) = match event {
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node =
                    node.ok_or_else(|| problem(origin.clone(), "an alias within its own anchor"))?;
                self.count(size(&node), &origin)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tagged_text = check_tag(tag.as_deref(), &origin)?;
                let plain = style == ScalarStyle::Plain && !tagged_text;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (if null { Value::Null } else { Value::Scalar(text.into_owned()) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), &origin)?;
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                        break;
                    }
                    items.push(self.node(event, &span, depth + 1)?);
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), &origin)?;
                (Value::Map(self.entries(depth)?), anchor)
            }
            _ => return Err(problem(origin, "not valid YAML")),
        };
        let node = Node { value, origin };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let origin = line(&span);
            let key = match event {
                Event::MappingEnd | Event::StreamEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(problem(origin, "a key must be a text")),
            };
            if entries.iter().any(|entry| entry.key == key) {
                return Err(problem(origin, format!("the key `{key}` is written twice")));
            }
            let (event, span) = self.next()?;
            let mut node = self.node(event, &span, depth + 1)?;
            if !matches!(node.value, Value::Scalar(_)) {
                // A map's own mark is at its first key, and that of nothing behind it.
                node.origin = origin.clone();
            }
            entries.push(Entry { key, origin, node });
        }
    }

    fn count(&mut self, more: usize, origin: &Origin) -> Result<(), Problem> {
        self.nodes += more;
        if self.nodes > MOST_NODES {
            return Err(problem(origin.clone(), "too large"));
        }
        Ok(())
    }
}

/// Tells whether the tag makes a scalar a text; other tags are refused.
fn check_tag(tag: Option<&Tag>, origin: &Origin) -> Result<bool, Problem> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        Some(_) => Err(problem(origin.clone(), "YAML tags are not supported")),
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| size(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}

/// Reads TOML.
///
/// # Errors
/// Returns the first syntax error with its line.
pub(super) fn toml(text: &str) -> Result<Node, Problem> {
    let at = |offset: usize| {
        let before = text.as_bytes().get(..offset).unwrap_or_default();
        u32::try_from(1 + before.iter().filter(|byte| **byte == b'\n').count())
            .map_or(Origin::Unknown, Origin::Line)
    };
    match DeTable::parse(text) {
        Ok(table) => toml_map(table.get_ref(), &at, 0),
        Err(error) => {
            let origin = error.span().map_or(Origin::Unknown, |span| at(span.start));
            Err(problem(origin, format!("not valid TOML: {}", error.message())))
        }
    }
}

fn toml_map(
    table: &DeTable<'_>,
    at: &dyn Fn(usize) -> Origin,
    depth: usize,
) -> Result<Node, Problem> {
    let mut entries = Vec::new();
    for (key, value) in table {
        let origin = at(key.span().start);
        let node = toml_node(value, at, depth + 1)?;
        entries.push(Entry { key: key.get_ref().to_string(), origin, node });
    }
    Ok(Node::map(entries))
}

fn toml_node(
    value: &Spanned<DeValue<'_>>,
    at: &dyn Fn(usize) -> Origin,
    depth: usize,
) -> Result<Node, Problem> {
    let origin = at(value.span().start);
    if depth > DEEPEST {
        return Err(problem(origin, "nested too deeply"));
    }
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Scalar(text.to_string()),
        DeValue::Integer(number) => {
            Value::Scalar(match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => number.to_string(),
                Err(_) => number.to_string(),
            })
        }
        DeValue::Float(number) => Value::Scalar(number.to_string()),
        DeValue::Boolean(value) => Value::Scalar(value.to_string()),
        DeValue::Datetime(time) => Value::Scalar(time.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| toml_node(item, at, depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => toml_map(table, at, depth)?.value,
    };
    Ok(Node { value, origin })
}

#[cfg(test)]
mod tests {
    use super::{Node, Origin, Value, toml, yaml};

    fn text(node: &Node, path: &[&str]) -> String {
        let node = path.iter().fold(node, |node, key| node.get(key).expect(key));
        match &node.value {
            Value::Scalar(text) => text.clone(),
            Value::Null => "(null)".to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn scalars_keep_their_text() {
        let node = yaml("a: 0123\nb: 'true'\nc: \"null\"\nd: null\ne:\nf: ~\ng: !!str null\nh: 1.50\ni: |\n  x\n  y\n")
            .expect("valid");
        let texts = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|key| text(&node, &[key]));
        assert_eq!(
            texts,
            ["0123", "true", "null", "(null)", "(null)", "(null)", "null", "1.50", "x\ny\n"]
        );
    }

    #[test]
    fn lines_are_those_of_keys_and_values() {
        let node = yaml("# first\na:\n  b: 1\n\n  c:\n    - x\n").expect("valid");
        let a = &node.entries()[0];
        assert_eq!(a.origin, Origin::Line(2));
        assert_eq!(a.node.entries()[1].origin, Origin::Line(5));
        assert_eq!(a.node.get("b").expect("b").origin, Origin::Line(3));
        let node = toml("a = 1\n[b]\n\nc = 'x'\n").expect("valid");
        let b = node.get("b").expect("b");
        assert_eq!(b.get("c").expect("c").origin, Origin::Line(4));
        assert_eq!(text(b, &["c"]), "x");
    }

    #[test]
    fn json_is_read_with_tabs_and_escapes() {
        let node = yaml("{\n\t\"a\": {\"b\": \"x\\/y\\u00e9\"},\n\t\"c\": [1, true, null]\n}\n")
            .expect("valid");
        assert_eq!(text(&node, &["a", "b"]), "x/yé");
    }

    #[test]
    fn toml_values_of_each_kind_are_read() {
        let node = toml("a = 0x10\nb = 1_000\nc = 0.5\nd = true\ne = [1, 2]\n[[f]]\nname = 'x'\n")
            .expect("valid");
        assert_eq!(
            ["a", "b", "c", "d"].map(|key| text(&node, &[key])),
            ["16", "1000", "0.5", "true"]
        );
        assert!(matches!(&node.get("e").expect("e").value, Value::List(items) if items.len() == 2));
        assert!(matches!(&node.get("f").expect("f").value, Value::List(items) if items.len() == 1));
    }

    #[test]
    fn aliases_are_followed_and_cannot_fill_the_memory() {
        let node = yaml("a: &x {b: 1}\nc: *x\n").expect("valid");
        assert_eq!(text(&node, &["c", "b"]), "1");
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..10 {
            let item = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![item; 10].join(", ")));
        }
        let problem = yaml(&bomb).expect_err("too large");
        assert_eq!(problem.message, "too large");
    }

    #[test]
    fn what_is_no_sane_file_is_refused_with_its_line() {
        for (file, line, message) in [
            ("a: 1\nb: [1\nc: 2\n", 3, "not valid YAML"),
            ("a: 1\na: 2\n", 2, "the key `a` is written twice"),
            ("a: 1\n---\nb: 2\n", 3, "a second YAML document"),
            ("a: !env X\n", 1, "YAML tags are not supported"),
            ("? [a]\n: 1\n", 1, "a key must be a text"),
        ] {
            let problem = yaml(file).expect_err(file);
            assert!(problem.message.starts_with(message), "{file:?}: {problem}");
            assert_eq!(problem.line, Some(line), "{file:?}: {problem}");
        }
        let deep = format!("a: {}{}", "[".repeat(1000), "]".repeat(1000));
        yaml(&deep).expect_err("nested too deeply");
        let problem = toml("a = 1\nb = \n").expect_err("no value");
        assert_eq!(problem.line, Some(2), "{problem}");
    }

    #[test]
    fn an_empty_file_is_an_empty_map() {
        for file in ["", "# nothing\n", "---\n", "null\n"] {
            let node = yaml(file).expect(file);
            assert!(matches!(&node.value, Value::Map(entries) if entries.is_empty()), "{file:?}");
        }
    }
}
