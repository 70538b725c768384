//! Instructions instead of time: a figure that a busy machine does not change. And how often memory was asked for.
//!
//! The subject runs in valgrind, twice, with a different number of requests; the difference is what the requests took, in
//! user space, all threads together.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::allocations::allocations;
use super::measure::report;
use super::options::Options;
use super::process::{Cores, pinned, until_idle};
use super::results::Results;
use super::scenario::{Scenario, Vendor};
use super::subject::{self, Mocks, Subject, find};
use super::{Programs, Progress};

/// What is counted: the scenario whose requests are sent, and how many in the shorter and the longer run.
const CASES: &[(&str, u32, u32)] =
    &[("saturation", 100, 1100), ("body-20k", 100, 600), ("cross", 100, 600), ("streams", 4, 24)];

/// Counts for each subject.
pub(super) fn run(
    options: &Options,
    programs: &Programs,
    mocks: &Mocks,
    folder: &Path,
    results: &mut Results,
    progress: &mut Progress,
) -> Result<(), String> {
    let valgrind = find("valgrind").ok_or("valgrind is not installed")?;
    let cores = Cores::find()?;
    let wanted = options.scenarios();
    let cases = CASES.iter().filter_map(|(name, few, many)| {
        let scenario = wanted.iter().find(|scenario| scenario.name == *name)?;
        Some((*scenario, *few, *many))
    });
    let cases: Vec<(&Scenario, u32, u32)> = cases.collect();
    for name in options.subjects() {
        if !matches!(name, "nginx" | "llmux-off" | "llmux-on") {
            continue;
        }
        for (scenario, few, many) in &cases {
            if name == "nginx" && scenario.vendor == Vendor::Anthropic {
                continue;
            }
            progress.say(&format!("instructions  {}  {name}", scenario.name));
            let count = |requests: u32| {
                let counted = Counted { valgrind: &valgrind, programs, mocks, cores: &cores };
                let folder = folder.join(format!("{name}-{}-{requests}", scenario.name));
                counted.count(name, scenario, requests, &folder)
            };
            match count(*few).and_then(|few| Ok((few, count(*many)?))) {
                Ok((fewer, more)) => {
                    let units = more.units - fewer.units;
                    let unit = if scenario.stream { "chunk" } else { "request" };
                    let each = (more.instructions - fewer.instructions) / units;
                    results.add(scenario.name, name, &format!("instructions_per_{unit}"), each);
                    if let (Some(more), Some(fewer)) = (more.allocations, fewer.allocations) {
                        let each = (more - fewer) / units;
                        results.add(scenario.name, name, &format!("allocations_per_{unit}"), each);
                    } else {
                        results.note(format!("No allocations of {name}: it calls no allocator by a name that is known"));
                    }
                }
                Err(reason) => results.note(format!("No instructions of {name}: {reason}")),
            }
        }
    }
    Ok(())
}

/// What a subject did in its whole life.
struct Life {
    instructions: f64,
    /// How often it asked for memory.
    allocations: Option<f64>,
    /// The requests or the chunks that it had.
    units: f64,
}

/// What counting takes.
struct Counted<'a> {
    valgrind: &'a Path,
    programs: &'a Programs,
    mocks: &'a Mocks,
    cores: &'a Cores,
}

impl Counted<'_> {
    /// Counts what a subject does in its whole life.
    fn count(
        &self,
        name: &str,
        scenario: &Scenario,
        requests: u32,
        folder: &Path,
    ) -> Result<Life, String> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let counts = folder.join("callgrind.out");
        let in_valgrind = |program: &Path| {
            let mut command = pinned(self.cores.subject, self.valgrind);
            command.args(["--quiet", "--tool=callgrind"]);
            command.arg(format!("--callgrind-out-file={}", counts.display())).arg(program);
            command
        };
        let mut subject = self.start(name, in_valgrind, folder)?;
        let target = subject.target(scenario.vendor).ok_or("it has no such target")?.clone();
        let mut load = pinned(self.cores.load, &self.programs.load);
        // Few connections, so that what is counted does not depend on how the load meets the subject.
        let connections = if scenario.stream { "4" } else { "1" };
        load.args(["closed", "--connections", connections, "--give-up", "300"]);
        load.args(["--requests", &requests.to_string()]);
        load.args(["--target", &target.address.to_string(), "--model", target.model]);
        load.args(["--body-bytes", &scenario.body_bytes.to_string()]);
        for header in &target.headers {
            load.args(["--header", header]);
        }
        if scenario.stream {
            load.arg("--stream");
        }
        let report = report(&mut load)?;
        if report["failed"] != 0 {
            return Err(format!("requests failed: {}", report["failures"]));
        }
        if let Some(pid) = target.pid {
            until_idle(pid);
        }
        subject.stop();
        let text = fs::read_to_string(&counts).map_err(|error| format!("callgrind: {error}"))?;
        let instructions = total(&text).ok_or("callgrind tells no total")?;
        let unit = if scenario.stream { "events" } else { "requests" };
        let units = report[unit].as_f64().unwrap_or(f64::NAN);
        Ok(Life { instructions, allocations: allocations(&text), units })
    }

    fn start(
        &self,
        name: &str,
        command: impl Fn(&Path) -> Command,
        folder: &Path,
    ) -> Result<Subject, String> {
        match name {
            "nginx" => subject::nginx(command, self.mocks, folder),
            "llmux-off" => subject::llmux_off(command, &self.programs.server, self.mocks, folder),
            _ => subject::llmux_on(command, &self.programs.server, self.mocks, folder),
        }
    }
}

/// The sum that callgrind writes at the end of its file.
fn total(text: &str) -> Option<f64> {
    let totals = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    totals.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{CASES, total};
    use crate::bench::scenario::SCENARIOS;

    #[test]
    fn the_total_stands_at_the_end() {
        assert_eq!(total("events: Ir\nfn=main\n1 5\n\ntotals: 1234\n"), Some(1234.0));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn what_is_counted_is_a_scenario_and_the_longer_run_is_longer() {
        for (name, few, many) in CASES {
            assert!(SCENARIOS.iter().any(|scenario| scenario.name == *name), "{name}");
            assert!(few < many);
        }
    }
}
