//! Prometheus's text format, for what is read at the moment of a scrape.
//!
//! See <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::fmt::{Display, Write as _};

use super::families::Family;

/// Writes the value of a label.
pub(super) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A text that grows by families.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// Begins a family.
    pub(super) fn family(&mut self, family: &Family) {
        let Family { name, kind, help, .. } = family;
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
    }

    /// Adds a series of the family that was begun last. `labels` are the values in the order of the family's names.
    pub(super) fn sample(&mut self, family: &Family, labels: &[&str], value: impl Display) {
        self.text.push_str(family.name);
        let mut open = '{';
        for (name, value) in family.labels.iter().zip(labels) {
            self.text.push(open);
            open = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.text.push_str(&escaped(value));
            self.text.push('"');
        }
        if open == ',' {
            self.text.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    /// Adds a family of one series without labels.
    pub(super) fn single(&mut self, family: &Family, value: impl Display) {
        self.family(family);
        self.sample(family, &[], value);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a String takes any text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::families::{KEYS_CACHED, SPEND};

    #[test]
    fn series_are_written_with_their_labels_escaped() {
        let mut page = Page::default();
        page.single(&KEYS_CACHED, 3);
        page.family(&SPEND);
        page.sample(&SPEND, &["a\"b\\c\nd", ""], 0.25);
        let text = page.into_text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        let wanted = [
            "# TYPE llmux_keys_cached gauge",
            "llmux_keys_cached 3",
            "# TYPE llmux_spend_dollars_total counter",
            r#"llmux_spend_dollars_total{model="a\"b\\c\nd",provider=""} 0.25"#,
        ];
        assert_eq!(lines, wanted);
    }
}
