//! One measurement: a load, and what the subject used meanwhile.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Programs;
use super::process::{Cores, Running, cpu_time, pinned, resident_mib, until_idle};
use super::results::Results;
use super::scenario::{Load, Scenario, Vendor};
use super::subject::{Subject, Target, find};

/// How long streams are held before memory is looked at: whoever frees late shall have freed.
const HELD: Duration = Duration::from_secs(1);
/// How long a subject has after its last load to give memory back.
const SETTLED: Duration = Duration::from_secs(3);
/// What a stuck subject may cost, in seconds.
const GIVE_UP: &str = "60";

/// What measuring takes.
pub(crate) struct Bench<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) cores: &'a Cores,
    pub(crate) folder: &'a Path,
    pub(crate) quick: bool,
}

impl Bench<'_> {
    /// Looks at a subject that has done nothing yet.
    pub(crate) fn idle(&mut self, subject: &Subject, results: &mut Results) {
        subject.notes.iter().for_each(|note| results.note(note.clone()));
        if let Some(pid) = subject.pid() {
            until_idle(pid);
            results.add("memory", subject.name, "rss_idle_mib", resident_mib(pid));
        }
    }

    /// Looks at a subject that is done.
    pub(crate) fn after(&mut self, subject: &Subject, results: &mut Results) {
        if let Some(pid) = subject.pid() {
            until_idle(pid);
            std::thread::sleep(SETTLED);
            results.add("memory", subject.name, "rss_after_mib", resident_mib(pid));
        }
    }

    /// Measures one scenario once. What a subject cannot do is left out.
    pub(crate) fn measure(
        &mut self,
        scenario: &Scenario,
        subject: &Subject,
        results: &mut Results,
    ) -> Result<(), String> {
        let Some(target) = subject.target(scenario.vendor) else { return Ok(()) };
        match scenario.load {
            Load::Requests { connections, requests, quick } => {
                let requests = if self.quick { quick } else { requests };
                let requests = if subject.is_slow { requests / 10 } else { requests };
                let connections = connections.min(requests);
                let mode = ["closed", "--connections", &connections.to_string()];
                let limit = ["--requests", &requests.to_string()];
                self.load(scenario, subject, target, &[mode.as_slice(), &limit].concat(), results)
            }
            Load::Closed { connections } => {
                let connections = connections.to_string();
                let mode = ["closed", "--connections", &connections, "--seconds", self.seconds()];
                self.load(scenario, subject, target, &mode, results)
            }
            Load::HalfRate { connections } => {
                let capacity = results.last("saturation", subject.name, "requests_per_second");
                let Some(capacity) = capacity else {
                    results.note("half-rate needs saturation in the same run.".to_owned());
                    return Ok(());
                };
                let rate = (capacity / 2.0).to_string();
                let connections = connections.to_string();
                let mode = ["open", "--connections", &connections, "--rate", &rate];
                let limit = ["--seconds", self.seconds()];
                self.load(scenario, subject, target, &[mode.as_slice(), &limit].concat(), results)
            }
            Load::Hold { streams } => {
                if subject.is_slow && scenario.is_long {
                    results.note(format!("{} was not asked for {}.", subject.name, scenario.title));
                    return Ok(());
                }
                self.hold(scenario, subject, target, streams, results)
            }
        }
    }

    fn seconds(&self) -> &'static str {
        if self.quick { "1" } else { "4" }
    }

    /// The load generator, with these words first.
    fn generator(&self, mode: &[&str], scenario: &Scenario, target: &Target) -> Command {
        let mut command = pinned(self.cores.load, &self.programs.load);
        command.args(mode).args(["--target", &target.address.to_string()]);
        command.args(["--model", target.model, "--give-up", GIVE_UP]);
        command.args(["--body-bytes", &scenario.body_bytes.to_string()]);
        for header in &target.headers {
            command.args(["--header", header]);
        }
        if scenario.stream && mode.first() != Some(&"hold") {
            command.arg("--stream");
        }
        command.stdout(Stdio::piped());
        command
    }

    fn load(
        &self,
        scenario: &Scenario,
        subject: &Subject,
        target: &Target,
        mode: &[&str],
        results: &mut Results,
    ) -> Result<(), String> {
        // So that connections to the vendor are open and code is loaded.
        let warm_up = ["closed", "--connections", "16", "--seconds", "0.3"];
        if !matches!(scenario.load, Load::Requests { .. }) {
            report(&mut self.generator(&warm_up, scenario, target))?;
        } else if scenario.stream || subject.is_slow {
            report(&mut self.generator(&["closed", "--requests", "4"], scenario, target))?;
        } else {
            let warm_up = ["closed", "--connections", "100", "--requests", "200"];
            report(&mut self.generator(&warm_up, scenario, target))?;
        }
        if let Some(pid) = target.pid {
            until_idle(pid);
        }
        let before = target.pid.map(cpu_time);
        let report = report(&mut self.generator(mode, scenario, target))?;
        let during = target.pid.map(cpu_time);
        let mut add =
            |metric: &str, value: f64| results.add(scenario.name, subject.name, metric, value);
        if let Some(pid) = target.pid {
            add("rss_loaded_mib", resident_mib(pid));
            until_idle(pid);
        }
        let after = target.pid.map(cpu_time);

        let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
        let (requests, events, seconds) = (number("requests"), number("events"), number("seconds"));
        add("requests_per_second", number("per_second"));
        add("failed_percent", 100.0 * number("failed") / (number("failed") + requests));
        add("load_cores", number("cpu_seconds") / seconds);
        if let (Some(before), Some(during), Some(after)) = (before, during, after) {
            let cost = after.saturating_sub(before).as_secs_f64() * 1e6;
            let late = after.saturating_sub(during).as_secs_f64() * 1e6;
            add("cpu_us_per_request", cost / requests);
            add("cpu_us_per_request_afterwards", late / requests);
            if scenario.stream {
                add("cpu_us_per_chunk", cost / events);
            }
            add("subject_cores", during.saturating_sub(before).as_secs_f64() / seconds);
        }
        for (field, metric) in [("latency_us", "latency"), ("first_event_us", "first_event")] {
            for quantile in ["mean", "p50", "p90", "p99", "p999", "max"] {
                let value = report[field][quantile].as_f64().unwrap_or(f64::NAN);
                add(&format!("{metric}_{quantile}_us"), value);
            }
        }
        note_failures(&report, scenario, subject, results);
        Ok(())
    }

    /// Looks at memory while streams are open.
    fn hold(
        &self,
        scenario: &Scenario,
        subject: &Subject,
        target: &Target,
        streams: u32,
        results: &mut Results,
    ) -> Result<(), String> {
        // Without a process there is no memory to look at.
        let Some(pid) = target.pid else { return Ok(()) };
        until_idle(pid);
        let before = resident_mib(pid);
        let mode = ["hold", "--streams", &streams.to_string()];
        let mut command = self.generator(&mode, scenario, target);
        let mut running = Running::start(command.stdin(Stdio::piped()))?;
        let stdout = running.child().stdout.take().ok_or("the load generator has no output")?;
        let mut output = BufReader::new(stdout);
        let mut line = String::new();
        output.read_line(&mut line).map_err(|error| format!("the load generator: {error}"))?;
        let open = parse(&line)?["open"].as_f64().unwrap_or(f64::NAN);
        std::thread::sleep(HELD);
        let during = resident_mib(pid);
        drop(running.child().stdin.take());
        let mut rest = String::new();
        output.read_to_string(&mut rest).map_err(|error| format!("the load generator: {error}"))?;
        let report = parse(&rest)?;
        drop(running);
        until_idle(pid);
        let mut add =
            |metric: &str, value: f64| results.add(scenario.name, subject.name, metric, value);
        add("streams_open", open);
        add("rss_before_mib", before);
        add("rss_open_mib", during);
        add("rss_kib_per_stream", (during - before).max(0.0) * 1024.0 / open);
        add("rss_closed_mib", resident_mib(pid));
        add("first_event_p99_us", report["first_event_us"]["p99"].as_f64().unwrap_or(f64::NAN));
        note_failures(&report, scenario, subject, results);
        Ok(())
    }

    /// Counts system calls, in a run of its own: whoever is counted is slow.
    pub(crate) fn system_calls(
        &self,
        subject: &Subject,
        results: &mut Results,
    ) -> Result<(), String> {
        let Some(target) = subject.target(Vendor::Fast) else { return Ok(()) };
        let Some(pid) = target.pid else { return Ok(()) };
        let strace = find("strace").ok_or("strace is not installed")?;
        let counts = self.folder.join(format!("{}.strace", subject.name));
        let mut command = pinned(self.cores.load, &strace);
        command.args(["-c", "-f", "-q", "-p", &pid.to_string(), "-o"]).arg(&counts);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        until_idle(pid);
        let mut counting = Running::start(&mut command)?;
        // There is no other sign of it that every version gives.
        let traced = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        for _ in 0..100 {
            if traced() || !counting.is_alive() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if !traced() {
            return Err("strace may not look at it".to_owned());
        }
        let requests = if subject.is_slow { "100" } else { "4000" };
        let scenario = super::scenario::SCENARIOS
            .iter()
            .find(|scenario| scenario.name == "saturation")
            .ok_or("there is no saturation")?;
        let mode = ["closed", "--connections", "64", "--requests", requests];
        let report = report(&mut self.generator(&mode, scenario, target))?;
        counting.stop("INT");
        let text = std::fs::read_to_string(&counts).map_err(|error| error.to_string())?;
        let calls = count_calls(&text) as f64;
        let requests = report["requests"].as_f64().unwrap_or(f64::NAN);
        results.add("saturation", subject.name, "system_calls_per_request", calls / requests);
        Ok(())
    }
}

fn note_failures(report: &Value, scenario: &Scenario, subject: &Subject, results: &mut Results) {
    for (kind, number) in report["failures"].as_object().into_iter().flatten() {
        results.note(format!("{}, {}: {number} x {kind}", subject.name, scenario.name));
    }
}

/// Runs the load generator to its end.
pub(crate) fn report(command: &mut Command) -> Result<Value, String> {
    let output = command.output().map_err(|error| format!("the load generator: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the load generator: {}", complaint.trim()));
    }
    parse(&text)
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text.trim())
        .map_err(|error| format!("the load generator: {error}: {text}"))
}

/// Adds up the calls in strace's table.
fn count_calls(table: &str) -> u64 {
    let call = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_row = fields.first()?.parse::<f64>().is_ok() && fields.last() != Some(&"total");
        if is_row { fields.get(3)?.parse::<u64>().ok() } else { None }
    };
    table.lines().filter_map(call).sum()
}

#[cfg(test)]
mod tests {
    use super::count_calls;

    #[test]
    fn the_calls_of_all_rows_are_added_up() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000300           3       100        10 recvfrom
 40.00    0.000200           2       101           writev
------ ----------- ----------- --------- --------- ----------------
100.00    0.000500           2       201        10 total
";
        assert_eq!(count_calls(table), 201);
        assert_eq!(count_calls(""), 0);
    }
}
