//! The command line.

use super::scenario::{SCENARIOS, Scenario};
use super::subject::{LITELLM, SUBJECTS};

const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--rounds N] [--save NAME] [--compare NAME] [--instructions] [--litellm]
                         [--scenario NAME]... [--subject NAME]...";

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) save: Option<String>,
    pub(crate) compare: Option<String>,
    pub(crate) instructions: bool,
    litellm: bool,
    scenarios: Vec<String>,
    subjects: Vec<String>,
}

impl Options {
    pub(super) fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            quick: false,
            rounds: 0,
            save: None,
            compare: None,
            instructions: false,
            litellm: false,
            scenarios: Vec::new(),
            subjects: Vec::new(),
        };
        let mut arguments = arguments.iter().copied();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
            match argument {
                "--quick" => options.quick = true,
                "--instructions" => options.instructions = true,
                "--litellm" => options.litellm = true,
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|rounds| (1..=100).contains(rounds));
                    options.rounds = rounds.ok_or("--rounds wants a number from 1 to 100")?;
                }
                "--save" => options.save = Some(name(value()?)?),
                "--compare" => options.compare = Some(name(value()?)?),
                "--scenario" => {
                    let known = SCENARIOS.iter().map(|scenario| scenario.name);
                    options.scenarios.push(one_of("scenarios", known, value()?)?);
                }
                "--subject" => {
                    options.subjects.push(one_of("subjects", SUBJECTS.iter().copied(), value()?)?);
                }
                _ => return Err(format!("{argument} is not understood\n{USAGE}")),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 1 } else { 3 };
        }
        Ok(options)
    }

    /// The names of the subjects, in the order of the report.
    pub(super) fn subjects(&self) -> Vec<&'static str> {
        let is_wanted = |name: &&str| {
            if self.subjects.is_empty() {
                *name != LITELLM || self.litellm
            } else {
                self.subjects.iter().any(|wanted| wanted == name)
            }
        };
        SUBJECTS.iter().copied().filter(is_wanted).collect()
    }

    pub(super) fn scenarios(&self) -> Vec<&'static Scenario> {
        let is_wanted = |scenario: &&Scenario| {
            if self.scenarios.is_empty() {
                !(self.quick && scenario.is_long)
            } else {
                self.scenarios.iter().any(|wanted| wanted == scenario.name)
            }
        };
        SCENARIOS.iter().filter(is_wanted).collect()
    }

    /// Whether the run is a picture of the whole, which is kept.
    pub(super) fn is_whole(&self) -> bool {
        self.scenarios.is_empty() && self.subjects.is_empty() && !self.instructions
    }
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.starts_with('.') || !text.chars().all(is_plain) {
        return Err(format!("`{text}` is no name: letters, digits, `-`, `_` and `.` are"));
    }
    Ok(text.to_owned())
}

fn one_of<'a>(
    what: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    name: &str,
) -> Result<String, String> {
    if known.clone().any(|known| known == name) {
        return Ok(name.to_owned());
    }
    Err(format!("`{name}` is none of the {what}: {}", known.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn all_but_the_slowest_is_measured_unless_somebody_asks_for_less() {
        let options = Options::parse(&[]).unwrap();
        assert_eq!(options.rounds, 3);
        assert_eq!(options.subjects(), ["direct", "nginx", "llmux-off", "llmux-on"]);
        assert!(options.is_whole());
        let options = Options::parse(&["--litellm", "--quick"]).unwrap();
        assert_eq!(options.subjects().last(), Some(&"litellm"));
        assert!(options.scenarios().iter().all(|scenario| !scenario.is_long));
        let options =
            Options::parse(&["--subject", "nginx", "--scenario", "open-8000", "--quick"]).unwrap();
        assert_eq!(options.subjects(), ["nginx"]);
        assert_eq!(options.scenarios()[0].name, "open-8000");
        assert!(!options.is_whole());
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (arguments, told) in [
            (&["--fast"] as &[&str], "--fast is not understood"),
            (&["--save"], "--save wants a value"),
            (&["--save", "../x"], "`../x` is no name"),
            (&["--rounds", "0"], "--rounds wants"),
            (&["--subject", "envoy"], "`envoy` is none of the subjects: direct, nginx"),
        ] {
            let error = Options::parse(arguments).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
