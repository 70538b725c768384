//! `cargo xtask dist`: the archive that a release consists of, and its checksum.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{cargo, metadata, output, program, root, succeeds, target_dir};
use crate::{Outcome, say};

const SERVER: &str = "llmux-server";

/// What is packed beside the program: from where, from the root folder, and its name in the archive. Of folders, the files
/// that git knows.
const PACKED: &[(&str, &str)] = &[
    ("LICENSE", "LICENSE"),
    ("README.md", "README.md"),
    ("README_CN.md", "README_CN.md"),
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("config", "config"),
    ("docs", "docs"),
    ("deploy/systemd/llmux.service", "deploy/systemd/llmux.service"),
    // The demo and the pages name these.
    ("deploy/grafana", "deploy/grafana"),
    ("deploy/prometheus", "deploy/prometheus"),
    // Not hidden, where somebody looks for it.
    (".env.example", "env.example"),
];

/// Builds the server as it is shipped, for this machine or for `target`, and packs it.
pub(crate) fn run(target: Option<&str>) -> Outcome {
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", "dist", "--package", SERVER]);
    let folder = target_dir()?;
    let (triple, built) = match target {
        Some(triple) => {
            build.args(["--target", triple]);
            (triple.to_owned(), folder.join(triple).join("dist"))
        }
        None => (host()?, folder.join("dist")),
    };
    if !succeeds(&mut build)? {
        return Err("the server cannot be built".to_owned());
    }
    let suffix = if triple.contains("windows") { ".exe" } else { "" };
    let release = Release {
        name: format!("llmux-{}-{triple}", version()?),
        server: built.join(format!("{SERVER}{suffix}")),
        time: time()?,
    };
    let archive = release.pack(&folder.join("xtask/dist"))?;
    say(&format!("{}\n{}.sha256", archive.display(), archive.display()));
    Ok(true)
}

/// What an archive is made of.
struct Release {
    /// That of the archive, and of the one folder in it.
    name: String,
    server: PathBuf,
    /// Of all files, in seconds since 1970: the same sources make the same bytes.
    time: u64,
}

impl Release {
    /// Writes the archive and the file with its checksum into a folder, and returns the archive's path.
    fn pack(&self, folder: &Path) -> Result<PathBuf, String> {
        let files = folder.join(&self.name);
        if files.exists() {
            fs::remove_dir_all(&files).map_err(|error| format!("{}: {error}", files.display()))?;
        }
        copy(&self.server, &files.join(self.server.file_name().unwrap_or(SERVER.as_ref())))?;
        for (from, to) in PACKED {
            let known = known(from)?;
            if known.is_empty() {
                return Err(format!("{from} is not in git"));
            }
            for path in known {
                // What stands behind the folder's name, or nothing if it is a file.
                let within = path.strip_prefix(from).unwrap_or_default();
                copy(&root().join(&path), &files.join(format!("{to}{within}")))?;
            }
        }
        let archive = format!("{}.tar.gz", self.name);
        let tar = format!("{}.tar", self.name);
        let mut command = Command::new("tar");
        // In the order of bytes, whatever the language of who runs it.
        command.current_dir(folder).env("LC_ALL", "C").env_remove("TAR_OPTIONS");
        command.args(["--create", "--format=gnu", "--sort=name", "--mode=u+rw,go=rX"]);
        command.args(["--owner=0", "--group=0", "--numeric-owner"]);
        command.arg(format!("--mtime=@{}", self.time)).args(["--file", &tar, &self.name]);
        must_succeed(&mut command)?;
        // Without the name and the time that gzip would keep.
        let mut gzip = Command::new("gzip");
        gzip.current_dir(folder).env_remove("GZIP").args(["--no-name", "--best", "--force", &tar]);
        must_succeed(&mut gzip)?;
        let sum = output(Command::new("sha256sum").current_dir(folder).arg(&archive))?;
        let path = folder.join(&archive);
        let sums = folder.join(format!("{archive}.sha256"));
        fs::write(&sums, sum).map_err(|error| format!("{}: {error}", sums.display()))?;
        fs::remove_dir_all(&files).map_err(|error| format!("{}: {error}", files.display()))?;
        Ok(path)
    }
}

fn must_succeed(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    if succeeds(command)? { Ok(()) } else { Err(format!("{name} failed; it must be GNU's")) }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to.parent().unwrap_or(to))
        .and_then(|()| fs::copy(from, to))
        .map(|_| ())
        .map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))
}

/// A file, or all files of a folder, that are in git: no key that somebody wrote into a file of their own is packed.
fn known(path: &str) -> Result<Vec<String>, String> {
    let list = git(&["ls-files", "-z", "--", path])?;
    Ok(list.split_terminator('\0').map(str::to_owned).collect())
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let owned = format!("safe.directory={}", root().display());
    output(program("git").args(["-c", &owned]).args(arguments))
}

fn version() -> Result<String, String> {
    let metadata = metadata(false)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut server = packages.filter(|package| package["name"] == SERVER);
    let version = server.next().and_then(|package| package["version"].as_str());
    version.map(str::to_owned).ok_or_else(|| "cargo names no version of the server".to_owned())
}

/// What `rustc` builds for, unless told otherwise.
fn host() -> Result<String, String> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let text = output(program(&rustc).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc names no host".to_owned())
}

/// `SOURCE_DATE_EPOCH`, as reproducible builds have it, or when the latest commit was made.
fn time() -> Result<u64, String> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => git(&["log", "-1", "--format=%ct"])?,
    };
    text.trim().parse().map_err(|_| format!("`{}` is no time in seconds", text.trim()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::{PACKED, Release, host, time, version};
    use crate::workspace::{output, root};

    /// A folder that is gone when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("llmux-dist-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn pack(folder: &Path) -> PathBuf {
        let server = folder.join("llmux-server");
        fs::write(&server, "#!/bin/sh\necho served\n").unwrap();
        output(Command::new("chmod").arg("0700").arg(&server)).unwrap();
        let release = Release { name: "llmux-1.2.3-any".to_owned(), server, time: 1_700_000_000 };
        release.pack(&folder.join("made")).unwrap()
    }

    fn tar(arguments: &[&str], archive: &Path) -> String {
        output(Command::new("tar").env("TZ", "UTC").args(arguments).arg(archive)).unwrap()
    }

    #[test]
    fn an_archive_has_one_folder_with_all_that_one_needs() {
        let folder = Folder::new("content");
        let archive = pack(&folder.0);
        let list = tar(&["--list", "--file"], &archive);
        assert!(list.lines().all(|file| file.starts_with("llmux-1.2.3-any/")), "{list}");
        for file in [
            "llmux-server",
            "LICENSE",
            "README.md",
            "README_CN.md",
            "CHANGELOG.md",
            "config/config.yaml",
            "docs/deployment.md",
            "deploy/systemd/llmux.service",
            "deploy/grafana/llmux.json",
            "deploy/prometheus/alerts.yml",
            "env.example",
        ] {
            let whole = format!("llmux-1.2.3-any/{file}");
            assert!(list.lines().any(|line| line == whole), "no {file} in {list}");
        }
        assert!(!list.contains("made"), "{list}");
        let text =
            tar(&["--to-stdout", "--extract", "--wildcards", "*/LICENSE", "--file"], &archive);
        assert_eq!(text, fs::read_to_string(root().join("LICENSE")).unwrap());
    }

    #[test]
    fn the_program_can_be_run_and_belongs_to_nobody_in_particular() {
        let folder = Folder::new("rights");
        let list = tar(&["--list", "--verbose", "--numeric-owner", "--file"], &pack(&folder.0));
        let server = list.lines().find(|line| line.ends_with("/llmux-server")).unwrap();
        assert!(server.starts_with("-rwxr-xr-x 0/0 "), "{server}");
        assert!(list.lines().all(|line| line.contains(" 0/0 ")), "{list}");
        assert!(list.lines().all(|line| line.contains(" 2023-11-14 22:13 ")), "{list}");
        let licence = list.lines().find(|line| line.ends_with("/LICENSE")).unwrap();
        assert!(licence.starts_with("-rw-r--r-- "), "{licence}");
    }

    #[test]
    fn the_same_sources_make_the_same_bytes() {
        let (one, other) = (Folder::new("one"), Folder::new("other"));
        let (one, other) = (pack(&one.0), pack(&other.0));
        assert_eq!(fs::read(&one).unwrap(), fs::read(other).unwrap());
        // Once more over what is there.
        let before = fs::read(&one).unwrap();
        let folder = one.parent().and_then(Path::parent).unwrap();
        assert_eq!(fs::read(pack(folder)).unwrap(), before);
    }

    #[test]
    fn the_checksum_is_that_of_the_archive() {
        let folder = Folder::new("sum");
        let archive = pack(&folder.0);
        let made = archive.parent().unwrap();
        let check = |made: &Path| {
            let mut command = Command::new("sha256sum");
            command.current_dir(made).args(["--check", "llmux-1.2.3-any.tar.gz.sha256"]);
            output(&mut command)
        };
        assert_eq!(check(made).unwrap(), "llmux-1.2.3-any.tar.gz: OK\n");
        fs::write(&archive, "something else").unwrap();
        check(made).unwrap_err();
    }

    #[test]
    fn what_is_packed_is_there() {
        for (from, _) in PACKED {
            assert!(root().join(from).exists(), "{from}");
        }
        assert!(version().unwrap().starts_with(|first: char| first.is_ascii_digit()));
        assert!(host().unwrap().contains('-'));
        assert!(time().unwrap() > 1_700_000_000);
    }
}
