//! The virtual environment of the SDK tests.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::sdk_dir;
use crate::say;
use crate::workspace::{output, program, succeeds};

/// Tells whether there are SDK tests.
pub(crate) fn has_tests() -> Result<bool, String> {
    let folder = sdk_dir();
    if !folder.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(&folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?
    {
        let name = entry
            .map_err(|error| format!("cannot read {}: {error}", folder.display()))?
            .file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the interpreter of an environment that holds exactly what `requirements.txt` pins. It is made anew when
/// that file or the machine's Python changed.
pub(crate) fn environment(folder: &Path) -> Result<String, String> {
    let requirements = sdk_dir().join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .map_err(|error| format!("cannot read {}: {error}", requirements.display()))?;
    let version = output(program("python3").arg("--version"))
        .map_err(|error| format!("{error}; the SDK tests need Python 3 with its venv module"))?;
    let wanted = format!("# {version}{wanted}");
    let python = folder.join("bin/python");
    // Written last, so that an environment whose making was interrupted is not taken for a complete one.
    let stamp = folder.join("made-from.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
        return Ok(python.to_string_lossy().into_owned());
    }
    say(&format!("making a virtual environment in {}", folder.display()));
    if !create(folder)? {
        install_venv_module()?;
        if !create(folder)? {
            return Err(
                "python3 -m venv fails; its package is named python3-venv on Debian and Ubuntu"
                    .to_owned(),
            );
        }
    }
    let python = python.to_string_lossy().into_owned();
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    if !succeeds(program(&python).args(pip).arg(&requirements))? {
        return Err("pip cannot install apps/llmux-server/tests/sdk/requirements.txt".to_owned());
    }
    fs::write(&stamp, wanted)
        .map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    Ok(python)
}

fn create(folder: &Path) -> Result<bool, String> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
    }
    let arguments = [OsStr::new("-m"), OsStr::new("venv"), folder.as_os_str()];
    succeeds(program("python3").args(arguments))
}

/// Debian packs the venv module apart from Python.
fn install_venv_module() -> Result<(), String> {
    let root = output(program("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if root {
        say("Python's venv module is missing: asking apt-get for it");
        let apt = |arguments: &[&str]| {
            succeeds(program("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
                .unwrap_or(false)
        };
        if apt(&["install", "--yes", "--quiet", "python3-venv"])
            || (apt(&["update", "--quiet"])
                && apt(&["install", "--yes", "--quiet", "python3-venv"]))
        {
            return Ok(());
        }
    }
    Err("Python's venv module is missing; its package is named python3-venv on Debian and Ubuntu"
        .to_owned())
}
