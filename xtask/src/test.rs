//! `cargo xtask test`: every check and every test, and how many of them passed.

mod count;
mod python;
mod services;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::workspace::{cargo, program, root, succeeds, target_dir};
use crate::{Outcome, complain, say};
use count::{Cargo, Count, Pytest};
use services::Services;

struct Step {
    name: &'static str,
    run: fn() -> Result<Count, String>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", run: fmt },
    Step { name: "clippy", run: clippy },
    Step { name: "tidy", run: tidy },
    Step { name: "rust", run: rust },
    Step { name: "sdk", run: sdk },
];

/// What clippy looks at: the workspace as it is built, and the stores in each combination.
const CLIPPY: &[&[&str]] = &[
    &["--workspace"],
    &["--package", "llmux-auth"],
    &["--package", "llmux-auth", "--features", "sqlite"],
    &["--package", "llmux-auth", "--features", "postgres"],
    &["--package", "llmux-auth", "--all-features"],
    &["--package", "llmux-cache"],
    &["--package", "llmux-cache", "--all-features"],
];

/// The stores, which the crates have only if asked for them; their other tests ran with the workspace's.
const STORES: &[&[&str]] = &[
    &["--package", "llmux-auth", "--all-features", "--test", "store", "--example", "embedded"],
    &["--package", "llmux-cache", "--all-features", "--lib", "--test", "backends"],
];

/// Runs all steps, or the one named, each of them even if an earlier one failed. The last line printed is
/// `N passed, N failed`.
pub(crate) fn run(only: Option<&str>) -> Outcome {
    if let Some(name) = only
        && !STEPS.iter().any(|step| step.name == name)
    {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(format!("no step `{name}`; there are {}", names.join(", ")));
    }
    let mut done: Vec<(&str, Count, Duration)> = Vec::new();
    for step in STEPS.iter().filter(|step| only.is_none_or(|name| name == step.name)) {
        say(&format!("--- {}", step.name));
        let start = Instant::now();
        let count = (step.run)().unwrap_or_else(|message| {
            complain(&format!("error: step {}: {message}", step.name));
            Count::FAILED
        });
        done.push((step.name, count, start.elapsed()));
    }
    let total = done.iter().fold(Count::default(), |total, (_, count, _)| total + *count);
    say(&format!("\n{:<8}{:>8}{:>8}{:>10}", "step", "passed", "failed", "seconds"));
    for (name, count, time) in &done {
        say(&format!(
            "{name:<8}{:>8}{:>8}{:>10.1}",
            count.passed,
            count.failed,
            time.as_secs_f64()
        ));
    }
    say(&format!("{} passed, {} failed", total.passed, total.failed));
    Ok(total.failed == 0)
}

fn fmt() -> Result<Count, String> {
    component("fmt", "rustfmt")?;
    Ok(Count::of_check(succeeds(cargo().args(["fmt", "--all", "--check"]))?))
}

fn clippy() -> Result<Count, String> {
    component("clippy", "clippy")?;
    let mut count = Count::default();
    for features in CLIPPY {
        let arguments = ["--all-targets", "--", "-D", "warnings"];
        let success = succeeds(cargo().arg("clippy").args(*features).args(arguments))?;
        count = count + Count::of_check(success);
    }
    Ok(count)
}

fn tidy() -> Result<Count, String> {
    Ok(Count::of_check(crate::tidy::run()?))
}

fn rust() -> Result<Count, String> {
    let services = Services::start()?;
    let mut count = cargo_test(&["--workspace"], &services)?;
    for features in STORES {
        count = count + cargo_test(features, &services)?;
    }
    Ok(count)
}

fn cargo_test(what: &[&str], services: &Services) -> Result<Count, String> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]).args(what);
    services.tell(&mut command);
    let mut tests = Cargo::default();
    let success = each_line(&mut command, |line| tests.line(line))?;
    let (count, notes) = tests.finish(success);
    notes.iter().for_each(|note| complain(note));
    Ok(count)
}

/// Runs a program that finds the servers of the tests in its environment.
pub(crate) fn with_services(command: &[&str]) -> Outcome {
    let (name, arguments) = command.split_first().ok_or("which program?")?;
    let services = Services::start()?;
    let mut command = program(name);
    command.args(arguments);
    services.tell(&mut command);
    succeeds(&mut command)
}

fn sdk() -> Result<Count, String> {
    if !python::has_tests()? {
        say("apps/llmux-server/tests/sdk holds no tests");
        return Ok(Count::default());
    }
    if !succeeds(cargo().args(["build", "--workspace", "--exclude", "xtask", "--bins"]))? {
        return Err("the programs under test cannot be built".to_owned());
    }
    let target = target_dir()?;
    let python = python::environment(&target.join("xtask/venv"))?;
    let binaries = target.join("debug");
    let mut tests = Pytest::default();
    let success = each_line(
        program(&python)
            .args([
                "-m",
                "pytest",
                "apps/llmux-server/tests/sdk",
                "-q",
                "-rfE",
                "--color=no",
                "-p",
                "no:cacheprovider",
            ])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("LLMUX_SERVER_BIN", binaries.join("llmux-server"))
            .env("LLMUX_MOCK_BIN", binaries.join("llmux-mock")),
        |line| tests.line(line),
    )?;
    let (count, notes) = tests.finish(success);
    notes.iter().for_each(|note| complain(note));
    Ok(count)
}

/// Makes sure that cargo has a subcommand that comes as a component of the toolchain.
fn component(subcommand: &str, name: &str) -> Result<(), String> {
    let present = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if present(cargo().args([subcommand, "--version"])) {
        return Ok(());
    }
    say(&format!("{name} is missing: asking rustup for it"));
    if succeeds(program("rustup").args(["component", "add", name])).unwrap_or(false)
        && present(cargo().args([subcommand, "--version"]))
    {
        return Ok(());
    }
    Err(format!("{name} is missing; `rustup component add {name}` installs it"))
}

/// Runs a program, shows its standard output as it comes, and hands over each line. Returns whether it succeeded.
fn each_line(command: &mut Command, mut take: impl FnMut(&str)) -> Result<bool, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("cannot run {name}: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        say(text);
        take(&count::plain(text));
        line.clear();
    }
    Ok(child.wait().map_err(failed)?.success())
}

/// The folder of the SDK tests.
fn sdk_dir() -> std::path::PathBuf {
    root().join("apps/llmux-server/tests/sdk")
}
