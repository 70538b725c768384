//! `cargo xtask bench`: what a gateway costs, measured side by side in one run.
//!
//! Every subject passes the same requests on to the same mock vendor, one after another in each of several rounds, so
//! that what changes on the machine changes for all. What counts are the ratios of the medians.

mod allocations;
mod compare;
mod http;
mod instructions;
mod litellm;
mod measure;
mod options;
mod plot;
mod process;
mod report;
mod results;
mod scenario;
mod subject;

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::workspace::{cargo, root, succeeds, target_dir};
use crate::{Outcome, say};
use measure::Bench;
use options::Options;
use process::Cores;
use results::Results;
use subject::Subject;

/// Where the figures are kept, from the root folder.
const FOLDER: &str = "docs/benchmarks";

/// The profile of the programs as they are shipped.
const SHIPPED: &str = "dist";
/// The same with the names of functions, by which calls are told apart.
const COUNTED: &str = "counted";

/// The programs that are measured or measure.
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) mock: PathBuf,
    pub(crate) load: PathBuf,
}

/// Runs the benchmark.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let options = Options::parse(arguments)?;
    let target = target_dir()?;
    let programs = build(&target, if options.instructions { COUNTED } else { SHIPPED })?;
    let kept = target.join("xtask/bench");
    let folder = Folder::make(&kept)?;
    let cores = Cores::find()?;
    process::raise_file_limit();
    let mut results = Results::new(&options, &cores);
    let mut progress = Progress::new();

    let mocks = subject::Mocks::start(&programs, &cores)?;
    if options.instructions {
        instructions::run(&options, &programs, &mocks, &folder.0, &mut results, &mut progress)?;
    } else {
        let mut subjects = Vec::new();
        for name in options.subjects() {
            progress.say(&format!("starting {name}"));
            match subject::start(name, &programs, &mocks, &cores, &folder.0, &target) {
                Ok(Some(subject)) => subjects.push(subject),
                Ok(None) => {}
                Err(reason) if subject::is_optional(name) => {
                    results.note(format!("{name} was skipped: {reason}"));
                }
                Err(reason) => return Err(format!("{name} does not start: {reason}")),
            }
        }
        measure(
            &options,
            &programs,
            &cores,
            &mut subjects,
            &folder.0,
            &mut results,
            &mut progress,
        )?;
    }
    progress.end();
    finish(&options, &kept, &results)
}

/// Runs all rounds.
fn measure(
    options: &Options,
    programs: &Programs,
    cores: &Cores,
    subjects: &mut [Subject],
    folder: &Path,
    results: &mut Results,
    progress: &mut Progress,
) -> Result<(), String> {
    let scenarios = options.scenarios();
    let mut bench = Bench { programs, cores, folder, quick: options.quick };
    for subject in subjects.iter_mut() {
        bench.idle(subject, results);
    }
    let total = options.rounds * scenarios.len() * subjects.len();
    let mut done = 0;
    for round in 0..options.rounds {
        for scenario in &scenarios {
            for turn in 0..subjects.len() {
                // Nobody is always first.
                let index = (turn + round) % subjects.len();
                let subject = &mut subjects[index];
                done += 1;
                progress.say(&format!(
                    "{done}/{total}  round {}/{}  {}  {}",
                    round + 1,
                    options.rounds,
                    scenario.name,
                    subject.name
                ));
                if round > 0 && subject.is_slow {
                    continue;
                }
                bench.measure(scenario, subject, results)?;
            }
        }
    }
    for subject in subjects.iter_mut() {
        progress.say(&format!("afterwards  {}", subject.name));
        bench.after(subject, results);
    }
    for subject in subjects.iter_mut() {
        progress.say(&format!("system calls  {}", subject.name));
        if let Err(reason) = bench.system_calls(subject, results) {
            results.note(format!("No system calls of {}: {reason}", subject.name));
        }
    }
    Ok(())
}

/// Tells the figures, keeps them, and compares them with earlier ones.
fn finish(options: &Options, kept: &Path, results: &Results) -> Outcome {
    let report = report::markdown(results);
    say(&report);
    let write = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().unwrap_or(path))
            .and_then(|()| fs::write(path, text))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let json = results.json();
    // A run of some subjects or scenarios alone is no picture of the whole.
    if options.is_whole() {
        let folder = root().join(FOLDER);
        write(&folder.join("latest.md"), &report)?;
        write(&folder.join("latest.json"), &json)?;
        write(&folder.join("latest.svg"), &plot::svg(results))?;
        say(&format!("written to {FOLDER}/latest.md, .json and .svg"));
    }
    let saved = |name: &str| kept.join("saved").join(format!("{name}.json"));
    let mut good = true;
    if let Some(name) = &options.compare {
        let path = saved(name);
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let comparison = compare::compare(&Results::from_json(&text)?, results);
        say(&comparison.text);
        good = !comparison.is_worse;
    }
    if let Some(name) = &options.save {
        write(&saved(name), &json)?;
        say(&format!("saved as {name}"));
    }
    Ok(good)
}

/// Builds what is needed.
fn build(target: &Path, profile: &str) -> Result<Programs, String> {
    let packages = ["-p", "llmux-server", "-p", "llmux-mock", "-p", "llmux-bench"];
    let mut build = cargo();
    // What cargo told this program about itself would make build scripts that watch it, and all that depends on their
    // crates, run again each time that a build was asked for in another way.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    if !succeeds(build.args(["build", "--profile", profile]).args(packages))? {
        return Err("the programs cannot be built".to_owned());
    }
    let folder = target.join(profile);
    Ok(Programs {
        server: folder.join("llmux-server"),
        mock: folder.join("llmux-mock"),
        load: folder.join("llmux-bench"),
    })
}

/// A folder that is gone when the run ends.
struct Folder(PathBuf);

impl Folder {
    /// Makes one for this process, and removes those of runs that were killed.
    fn make(kept: &Path) -> Result<Self, String> {
        for entry in fs::read_dir(kept).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("run-");
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = kept.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path)
            .map_err(|error| format!("cannot make the folder {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is being done, on standard error: one line that changes, or many where nobody can rewrite them.
pub(crate) struct Progress {
    rewrites: bool,
}

impl Progress {
    fn new() -> Self {
        Self { rewrites: std::io::stderr().is_terminal() }
    }

    pub(crate) fn say(&mut self, text: &str) {
        let mut out = std::io::stderr().lock();
        let _ = if self.rewrites { write!(out, "\r\x1b[K{text}") } else { writeln!(out, "{text}") };
        let _ = out.flush();
    }

    fn end(&mut self) {
        if self.rewrites {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
