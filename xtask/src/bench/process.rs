//! Programs on cores of their own, and what they use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The unit of CPU times in `/proc`: the kernel's, the same on all Linux machines that we know of.
const TICK: Duration = Duration::from_millis(10);

/// Who runs on which core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) subject: usize,
    pub(crate) mock: usize,
    pub(crate) load: usize,
    /// How many there are to choose from.
    pub(crate) number: usize,
}

impl Cores {
    pub(super) fn find() -> Result<Self, String> {
        let status = fs::read_to_string("/proc/self/status")
            .map_err(|error| format!("benchmarks need Linux: {error}"))?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cores = cores(list.unwrap_or_default().trim());
        Self::share(&cores).ok_or_else(|| "the system names no cores".to_owned())
    }

    /// The subject has a core of its own, if there are two.
    fn share(cores: &[usize]) -> Option<Self> {
        let (&subject, number) = (cores.first()?, cores.len());
        let mock = cores.get(1).copied().unwrap_or(subject);
        let load = cores.get(2).copied().unwrap_or(mock);
        Some(Self { subject, mock, load, number })
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let Self { subject, mock, load, number } = self;
        let rest = if mock == load {
            format!("mock vendor and load generator share core {mock}")
        } else {
            format!("mock vendor on core {mock}, load generator on core {load}")
        };
        if subject == mock {
            return format!("everything shares core {subject}: rates and latencies mean little");
        }
        format!("subject on core {subject}, {rest}, of {number} cores")
    }
}

/// Reads a list such as `0-3,8`.
fn cores(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// A program that is to run on one core, and to end with this one, however this one ends.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "taskset", "-c", &core.to_string()]).arg(program);
    command.stdin(Stdio::null());
    command
}

/// A program that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        match command.spawn() {
            Ok(child) => Ok(Self(child)),
            Err(error) => Err(format!(
                "cannot run {} (of util-linux): {error}",
                command.get_program().to_string_lossy()
            )),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Asks the program to end and waits until it has.
    pub(crate) fn stop(&mut self, signal: &str) {
        let _ =
            Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        let start = Instant::now();
        while self.is_alive() && start.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address on loopback that nobody uses.
pub(crate) fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("there is no free port: {error}"))
}

/// Lets the programs open as many files as the system allows: a stream takes two of a gateway.
pub(crate) fn raise_file_limit() {
    let pid = std::process::id().to_string();
    for limit in ["--nofile=1048576:1048576", "--nofile=65536:65536", "--nofile=65536:"] {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid, limit]).stdin(Stdio::null()).stderr(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            return;
        }
    }
}

/// CPU time of a program and its children so far, those that have ended included.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let ticks: u64 = tree(pid)
        .into_iter()
        .filter_map(|pid| ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .sum();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// Resident memory of a program and its children, in MiB.
pub(crate) fn resident_mib(pid: u32) -> f64 {
    let kib: u64 = tree(pid)
        .into_iter()
        .filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            size.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum();
    kib as f64 / 1024.0
}

/// Waits until a program does nothing any more: what it puts off until after the load is part of its cost.
pub(crate) fn until_idle(pid: u32) {
    let start = Instant::now();
    let mut before = cpu_time(pid);
    let mut quiet = 0;
    while quiet < 3 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
        let now = cpu_time(pid);
        quiet = if now - before <= TICK { quiet + 1 } else { 0 };
        before = now;
    }
}

/// A program and all its descendants.
fn tree(pid: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = fields(&stat).nth(1).and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        if found.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// The fields of `/proc/PID/stat` behind the name, which may hold anything.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace()
}

/// User and system time, with that of children that were waited for.
fn ticks(stat: &str) -> Option<u64> {
    let times: Vec<u64> =
        fields(stat).skip(11).take(4).map_while(|time| time.parse().ok()).collect();
    (times.len() == 4).then(|| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::{Cores, cores, cpu_time, resident_mib, ticks, tree};

    #[test]
    fn a_list_of_cores_has_single_ones_and_ranges() {
        assert_eq!(cores("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(cores("3"), [3]);
        assert_eq!(cores(""), [0_usize; 0]);
    }

    #[test]
    fn the_subject_has_a_core_of_its_own_where_there_are_two() {
        let shared = |cores: &[usize]| {
            Cores::share(cores).map(|cores| (cores.subject, cores.mock, cores.load))
        };
        assert_eq!(shared(&[4]), Some((4, 4, 4)));
        assert_eq!(shared(&[0, 1]), Some((0, 1, 1)));
        assert_eq!(shared(&[0, 1, 2, 3]), Some((0, 1, 2)));
        assert_eq!(shared(&[]), None);
    }

    #[test]
    fn cpu_times_are_found_behind_a_name_with_blanks_and_parentheses() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(127));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_and_is_in_its_own_tree() {
        let pid = std::process::id();
        assert!(tree(pid).contains(&pid));
        assert!(resident_mib(pid) > 0.1);
        let before = cpu_time(pid);
        assert!(cpu_time(pid) >= before);
    }
}
