//! The servers that tests need: private ones, in temporary folders, gone when the run ends.

mod redis;

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::say;
use crate::workspace::{output, program, succeeds};
use redis::Redis;

/// Where tests find PostgreSQL: `postgres://postgres@127.0.0.1:PORT`, to which they add `/DATABASE`.
const POSTGRES_URL: &str = "LLMUX_TEST_POSTGRES_URL";

/// Where tests find Redis: `redis://127.0.0.1:PORT`.
const REDIS_URL: &str = "LLMUX_TEST_REDIS_URL";

/// Starts the server in the background and stops it when the standard input ends: that of a killed run ends, too.
const KEEPER: &str = "trap '' INT; \"$0\" \"$@\" & pid=$!; read -r _; kill -INT $pid; wait $pid";

/// For the tests durability costs time and gives nothing.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "listen_addresses=127.0.0.1",
    "max_connections=200",
    "unix_socket_directories=",
];

/// The servers of one run.
pub(crate) struct Services {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
}

impl Services {
    /// Finds or installs the servers' programs, and starts them. A server that the environment names is used as it is.
    pub(crate) fn start() -> Result<Self, String> {
        // Tests start servers of this program themselves, also where one is named.
        redis::find_or_install()?;
        let is_named = |name| std::env::var_os(name).is_some();
        Ok(Self {
            postgres: if is_named(POSTGRES_URL) { None } else { Some(Postgres::start()?) },
            redis: if is_named(REDIS_URL) { None } else { Some(Redis::start()?) },
        })
    }

    /// Tells a program where the servers are.
    pub(crate) fn tell(&self, command: &mut Command) {
        if let Some(postgres) = &self.postgres {
            command.env(POSTGRES_URL, format!("postgres://postgres@127.0.0.1:{}", postgres.port));
        }
        if let Some(redis) = &self.redis {
            command.env(REDIS_URL, redis.url());
        }
    }
}

struct Postgres {
    keeper: Child,
    port: u16,
    folder: PathBuf,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Postgres {
    fn start() -> Result<Self, String> {
        let programs = find_or_install()?;
        let owner = Owner::find()?;
        let folder = std::env::temp_dir().join(format!("llmux-postgres-{}", std::process::id()));
        make_folder(&folder, 0o711, None)?;
        let data = folder.join("data");
        make_folder(&data, 0o700, owner.ids)?;
        let mut initdb = owner.command(programs.join("initdb"), &folder);
        initdb.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ]);
        if !succeeds(initdb.arg(&data).stdout(Stdio::null()))? {
            let _ = fs::remove_dir_all(&folder);
            return Err("initdb cannot make a PostgreSQL for the tests".to_owned());
        }
        // Somebody may take the port between its choice and the server's start.
        for _ in 0..3 {
            if let Some(server) = Self::on_free_port(&programs, &owner, &folder, &data)? {
                return Ok(server);
            }
        }
        let log = fs::read_to_string(folder.join("data/log.txt")).unwrap_or_default();
        let _ = fs::remove_dir_all(&folder);
        Err(format!("PostgreSQL does not start:\n{log}"))
    }

    fn on_free_port(
        programs: &Path,
        owner: &Owner,
        folder: &Path,
        data: &Path,
    ) -> Result<Option<Self>, String> {
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("there is no free port: {error}"))?
            .port();
        let log = data.join("log.txt");
        let mut keeper = owner.command("sh", folder);
        keeper.arg("-c").arg(format!("exec >>{} 2>&1; {KEEPER}", log.display()));
        keeper.arg(programs.join("postgres")).arg("-D").arg(data).args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            keeper.args(["-c", setting]);
        }
        let child = keeper
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        let mut server = Self { keeper: child, port, folder: folder.to_owned() };
        let start = Instant::now();
        let address = ["-q", "-h", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned);
        while start.elapsed() < Duration::from_secs(60) {
            let ready = Command::new(programs.join("pg_isready")).args(&address).status();
            if ready.is_ok_and(|status| status.success()) {
                return Ok(Some(server));
            }
            if fs::read_to_string(&log).is_ok_and(|log| log.contains("Address already in use")) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(server.keeper.stdin.take());
        let _ = server.keeper.wait();
        // The folder is for the next try.
        server.folder = PathBuf::new();
        Ok(None)
    }
}

/// Who runs the server: PostgreSQL refuses root.
struct Owner {
    ids: Option<(u32, u32)>,
}

impl Owner {
    fn find() -> Result<Self, String> {
        let id = |arguments: &[&str]| {
            let text = output(program("id").args(arguments).stderr(Stdio::null()))?;
            text.trim().parse::<u32>().map_err(|error| format!("id printed {text:?}: {error}"))
        };
        if id(&["-u"])? != 0 {
            return Ok(Self { ids: None });
        }
        for name in ["postgres", "nobody"] {
            if let (Ok(user), Ok(group)) = (id(&["-u", name]), id(&["-g", name])) {
                return Ok(Self { ids: Some((user, group)) });
            }
        }
        Err("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`"
            .to_owned())
    }

    /// A program of this owner's, in a folder that the owner may enter.
    fn command(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env("LC_ALL", "C");
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group);
        }
        command
    }
}

fn make_folder(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), String> {
    let failed = |error| format!("cannot make {}: {error}", path.display());
    let _ = fs::remove_dir_all(path);
    fs::create_dir_all(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    if let Some((user, group)) = owner {
        chown(path, Some(user), Some(group)).map_err(failed)?;
    }
    Ok(())
}

/// The folder of PostgreSQL's programs.
fn find_or_install() -> Result<PathBuf, String> {
    if let Some(folder) = find() {
        return Ok(folder);
    }
    let missing =
        "PostgreSQL's server is missing; its package is named postgresql on Debian and Ubuntu";
    install("PostgreSQL's server", "postgresql");
    find().ok_or_else(|| missing.to_owned())
}

/// Asks Debian's package manager for a package, if it may be asked.
fn install(what: &str, package: &str) {
    if output(program("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        say(&format!("{what} is missing: asking apt-get for it"));
        let apt = |arguments: &[&str]| {
            let mut command = program("apt-get");
            // A run level of 1 keeps the package from starting a server of its own.
            command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
            succeeds(&mut command).unwrap_or(false)
        };
        let install = ["install", "--yes", "--quiet", "--no-install-recommends", package];
        let _ = apt(&install) || (apt(&["update", "--quiet"]) && apt(&install));
    }
}

/// Debian keeps the programs of each version apart and out of the search path.
fn find() -> Option<PathBuf> {
    let complete =
        |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| complete(folder))
        .max();
    if let Some((_, folder)) = newest {
        return Some(folder);
    }
    std::env::split_paths(&std::env::var_os("PATH")?).find(complete)
}
