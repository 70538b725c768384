//! Where things are, and how programs are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root folder")
}

/// Cargo, to be run in the root folder.
pub(crate) fn cargo() -> Command {
    program(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

/// A program, to be run in the root folder with no input.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a program and returns what it printed; its complaints go to standard error.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", output.status));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| format!("{name} printed something else than UTF-8"))
}

/// Runs a program, its output going where ours goes, and tells whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .status()
        .map(|status| status.success())
        .map_err(|error| format!("cannot run {name}: {error}"))
}

/// `cargo metadata` of the workspace alone, or with all its dependencies.
pub(crate) fn metadata(dependencies: bool) -> Result<serde_json::Value, String> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1"]);
    if !dependencies {
        command.arg("--no-deps");
    }
    serde_json::from_str(&output(&mut command)?)
        .map_err(|error| format!("cannot read the output of cargo metadata: {error}"))
}

/// The folder of build results, which the environment and cargo's own configuration may move.
pub(crate) fn target_dir() -> Result<PathBuf, String> {
    let metadata = metadata(false)?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .ok_or_else(|| "cargo names no target folder".to_owned())
}
