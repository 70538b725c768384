//! A private Redis.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{KEEPER, install, make_folder};

/// The server's program. Tests that need several servers start them from it.
const PROGRAM: &str = "redis-server";

pub(super) struct Redis {
    keeper: Child,
    port: u16,
    folder: PathBuf,
}

impl Redis {
    pub(super) fn start() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("llmux-redis-{}", std::process::id()));
        make_folder(&folder, 0o700, None)?;
        // Somebody may take the port between its choice and the server's start.
        for _ in 0..3 {
            if let Some(server) = Self::on_free_port(&folder)? {
                return Ok(server);
            }
        }
        let log = fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
        let _ = fs::remove_dir_all(&folder);
        Err(format!("Redis does not start:\n{log}"))
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn on_free_port(folder: &Path) -> Result<Option<Self>, String> {
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("there is no free port: {error}"))?
            .port();
        let log = folder.join("log.txt");
        let mut keeper = Command::new("sh");
        keeper.arg("-c").arg(format!("exec >>{} 2>&1; {KEEPER}", log.display())).arg(PROGRAM);
        keeper.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        keeper.args(["--save", "", "--appendonly", "no"]);
        let mut child = keeper
            .current_dir(folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains("Address already in use") {
                break;
            }
            // Whoever listens is it only if it says so.
            if text.contains("Ready to accept connections")
                && TcpStream::connect(("127.0.0.1", port)).is_ok()
            {
                return Ok(Some(Self { keeper: child, port, folder: folder.to_owned() }));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(child.stdin.take());
        let _ = child.wait();
        let _ = fs::remove_file(&log);
        Ok(None)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Makes sure that the server's program can be run.
pub(super) fn find_or_install() -> Result<(), String> {
    if !is_there() {
        install("Redis", PROGRAM);
    }
    if is_there() {
        return Ok(());
    }
    Err("Redis is missing; its package is named redis-server on Debian and Ubuntu".to_owned())
}

fn is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).exists())
}
