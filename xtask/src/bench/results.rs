//! The figures of a run.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::options::Options;
use super::process::Cores;
use crate::workspace::{output, program};

/// Which figure: scenario, subject, metric. Metrics have their unit in their name.
pub(crate) type Key = (String, String, String);

/// All figures, and what one must know to read them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Results {
    /// Facts of the run, by name.
    pub(crate) about: BTreeMap<String, String>,
    /// One figure for each round in which it was measured.
    samples: BTreeMap<Key, Vec<f64>>,
    pub(crate) notes: Vec<String>,
}

impl Results {
    pub(super) fn new(options: &Options, cores: &Cores) -> Self {
        let mut about = BTreeMap::new();
        let mut fact = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                about.insert(name.to_owned(), value.trim().to_owned());
            }
        };
        let read = |path: &str| fs::read_to_string(path).ok();
        let run = |name: &str, arguments: &[&str]| output(program(name).args(arguments)).ok();
        fact("date", run("date", &["-u", "+%F"]));
        fact("commit", run("git", &["describe", "--always", "--dirty"]));
        fact("cores", Some(cores.describe()));
        fact("kernel", read("/proc/sys/kernel/osrelease"));
        fact("load average at the start", read("/proc/loadavg").map(|text| load_average(&text)));
        fact("processor", read("/proc/cpuinfo").and_then(|text| processor(&text)));
        let pace = if options.quick { "quick" } else { "full" };
        fact("rounds", Some(format!("{}, {pace}", options.rounds)));
        Self { about, samples: BTreeMap::new(), notes: Vec::new() }
    }

    pub(crate) fn add(&mut self, scenario: &str, subject: &str, metric: &str, value: f64) {
        if value.is_finite() {
            let key = (scenario.to_owned(), subject.to_owned(), metric.to_owned());
            self.samples.entry(key).or_default().push(value);
        }
    }

    /// Keeps a remark, once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub(crate) fn median(&self, scenario: &str, subject: &str, metric: &str) -> Option<f64> {
        median(self.samples(scenario, subject, metric))
    }

    /// The figure of the latest round.
    pub(crate) fn last(&self, scenario: &str, subject: &str, metric: &str) -> Option<f64> {
        self.samples(scenario, subject, metric).last().copied()
    }

    fn samples(&self, scenario: &str, subject: &str, metric: &str) -> &[f64] {
        let key = (scenario.to_owned(), subject.to_owned(), metric.to_owned());
        self.samples.get(&key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.samples.keys()
    }

    /// Whether there is any figure of a subject.
    pub(crate) fn has_subject(&self, subject: &str) -> bool {
        self.samples.keys().any(|(_, known, _)| known == subject)
    }

    pub(crate) fn json(&self) -> String {
        let figure = |((scenario, subject, metric), samples): (&Key, &Vec<f64>)| {
            let median = median(samples);
            json!({"scenario": scenario, "subject": subject, "metric": metric, "median": median, "samples": samples})
        };
        let figures: Vec<Value> = self.samples.iter().map(figure).collect();
        // A figure a line, so that two runs can be told apart by any tool that compares texts.
        let lines: Vec<String> = figures.iter().map(|figure| format!("    {figure}")).collect();
        format!(
            "{{\n  \"about\": {},\n  \"notes\": {},\n  \"figures\": [\n{}\n  ]\n}}\n",
            json!(self.about),
            json!(self.notes),
            lines.join(",\n")
        )
    }

    pub(crate) fn from_json(text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut results = Self::default();
        for (name, value) in json["about"].as_object().into_iter().flatten() {
            results.about.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        let list = |name: &str| json[name].as_array().into_iter().flatten();
        results.notes = list("notes").filter_map(Value::as_str).map(str::to_owned).collect();
        for figure in list("figures") {
            let field = |name: &str| figure[name].as_str().ok_or("a figure has no name");
            let samples = figure["samples"].as_array().into_iter().flatten();
            for sample in samples.filter_map(Value::as_f64) {
                results.add(field("scenario")?, field("subject")?, field("metric")?, sample);
            }
        }
        Ok(results)
    }
}

/// The middle one, or what is half way between the middle two.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

fn load_average(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Results, median};

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn figures_survive_being_written_and_read() {
        let mut results = Results::default();
        results.about.insert("date".to_owned(), "today".to_owned());
        results.add("saturation", "nginx", "cpu_us_per_request", 12.5);
        results.add("saturation", "nginx", "cpu_us_per_request", 13.0);
        results.add("saturation", "nginx", "nothing", f64::NAN);
        results.note("a \"note\"".to_owned());
        results.note("a \"note\"".to_owned());
        let read = Results::from_json(&results.json()).unwrap();
        assert_eq!(read, results);
        assert_eq!(read.keys().count(), 1);
        assert_eq!(read.notes.len(), 1);
        assert_eq!(read.last("saturation", "nginx", "cpu_us_per_request"), Some(13.0));
        assert_eq!(read.median("saturation", "nginx", "cpu_us_per_request"), Some(12.75));
        assert!(Results::from_json("[").is_err());
    }
}
