//! `cargo xtask tidy`: rules of the project that no compiler knows.

mod crates;
mod licence;
mod markdown;
mod public;
mod source;

use std::fs;

use crate::workspace::{metadata, output, program, root};
use crate::{Outcome, complain, say};

/// A text file of the project.
struct File {
    /// From the root folder, with `/`.
    path: String,
    text: String,
}

/// Reports every breach of a rule.
pub(crate) fn run() -> Outcome {
    let paths = paths()?;
    let files: Vec<File> = paths
        .iter()
        // What is not UTF-8 is no text, and what is gone from the disk is about to be gone from git.
        .filter_map(|path| {
            Some(File { path: path.clone(), text: fs::read_to_string(root().join(path)).ok()? })
        })
        .collect();
    let metadata = metadata(true)?;
    let mut findings = Vec::new();
    crates::check(&metadata, &mut findings)?;
    licence::check(&metadata, &files, &mut findings)?;
    source::check(&files, &mut findings);
    public::check(&files, &mut findings);
    markdown::check(&files, &paths, &mut findings);
    findings.iter().for_each(|finding| complain(finding));
    say(&match findings.len() {
        0 => format!("{} files are tidy", paths.len()),
        number => format!("findings: {number}"),
    });
    Ok(findings.is_empty())
}

/// All files that are in git, or could be with the next commit.
fn paths() -> Result<Vec<String>, String> {
    let owned = format!("safe.directory={}", root().display());
    let arguments =
        ["-c", owned.as_str(), "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let mut paths: Vec<String> =
        output(program("git").args(arguments))?.split_terminator('\0').map(str::to_owned).collect();
    paths.retain(|path| root().join(path).exists());
    paths.sort();
    paths.dedup();
    Ok(paths)
}
