//! What the system knows of this process, as far as it tells it in `/proc`.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::families as family;
use super::page::Page;

/// Adds the families of the process; none where there is no `/proc`.
pub(super) fn write(page: &mut Page) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::read) {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        page.single(&family::PROCESS_CPU, stat.cpu_ticks as f64 / ticks);
        page.single(&family::PROCESS_VIRTUAL, stat.virtual_bytes);
        let resident = stat.resident_pages.saturating_mul(rustix::param::page_size() as u64);
        page.single(&family::PROCESS_RESIDENT, resident);
        if let Some(boot) = boot_time() {
            page.single(&family::PROCESS_START, boot as f64 + stat.start_ticks as f64 / ticks);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One of them is the folder that is read.
        page.single(&family::PROCESS_FDS, files.count().saturating_sub(1));
        if let Some(most) = getrlimit(Resource::Nofile).current {
            page.single(&family::PROCESS_MAX_FDS, most);
        }
    }
}

/// Fields of `/proc/self/stat` (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    /// Since the system's start.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(text: &str) -> Option<Self> {
        // The program's name comes before, in parentheses, and may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The third field is the first after the name.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.saturating_add(field(15)?),
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Returns the start of the system in seconds since 1970.
fn boot_time() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_process_are_found_behind_any_name() {
        let text = "7 (a) 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 3 4 20 0 5 0 1234 8192 3 18446744073709551615";
        let wanted =
            Stat { cpu_ticks: 300, start_ticks: 1234, virtual_bytes: 8192, resident_pages: 3 };
        assert_eq!(Stat::read(text), Some(wanted));
        assert_eq!(Stat::read("7 (a) S 1"), None);
        assert_eq!(Stat::read(""), None);
    }
}
