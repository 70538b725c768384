//! Recordings with random damage, given to every parser. `cargo fuzz` drives the same entries for longer.
#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::io::Write as _;
use std::panic::catch_unwind;
use std::path::Path;

use entries::{ENTRIES, Entry};
use serde_json::Value;

#[path = "../fuzz/entries.rs"]
mod entries;

/// Bodies of requests and answers; long ones cost more than they find.
fn bodies() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(root)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_dir())
        .flat_map(|path| std::fs::read_dir(path).expect("the folder is there"))
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    let mut bodies = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(path).expect("readable");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let asked = [&value["request"]["body"], &value["client_request"]["body"]];
        bodies.extend(asked.iter().filter(|body| body.is_object()).map(|body| body.to_string()));
        bodies.push(value["response"]["body"].as_str().expect("a body").to_owned());
    }
    bodies
        .push("--X\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--X--\r\n".into());
    bodies.retain(|body| body.len() < 16_000);
    assert!(bodies.len() > 400, "recordings are missing");
    bodies.into_iter().map(String::into_bytes).collect()
}

/// A small generator of numbers, so that each run damages alike.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).expect("below a usize")
    }

    fn damage(&mut self, body: &mut Vec<u8>, other: &[u8]) {
        const TOKENS: [&str; 12] =
            ["{", "}", "[", "]", "\"", "null", "1e999", "-1", "\\ud800", "\r", "\n\n", "\u{fffd}"];
        let at = self.below(body.len());
        let end = (at + self.below(40)).min(body.len());
        match self.below(6) {
            0 => drop(body.drain(at..end)),
            1 => body.truncate(at),
            2 => drop(body.splice(at..end, TOKENS[self.below(12)].bytes())),
            3 => {
                let again = body[at..end].to_vec();
                drop(body.splice(at..at, again));
            }
            4 => {
                let from = self.below(other.len());
                let to = (from + self.below(200)).min(other.len());
                drop(body.splice(at..end, other[from..to].iter().copied()));
            }
            _ if at < body.len() => body[at] = u8::try_from(self.below(256)).expect("a byte"),
            _ => {}
        }
    }
}

fn give((name, entry): Entry, body: &[u8]) {
    if catch_unwind(|| entry(body)).is_err() {
        panic!("{name} fails on {:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn recordings_themselves_pass_every_entry() {
    for body in bodies() {
        for entry in ENTRIES {
            give(entry, &body);
        }
    }
}

/// A few seconds' worth; the same damage in every run.
const RUNS: usize = 700;

#[test]
fn damaged_recordings_pass_every_entry() {
    let bodies = bodies();
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..RUNS {
        let mut body = bodies[numbers.below(bodies.len())].clone();
        let other = &bodies[numbers.below(bodies.len())];
        for _ in 0..=numbers.below(4) {
            numbers.damage(&mut body, other);
        }
        for entry in ENTRIES {
            give(entry, &body);
        }
    }
    let said = format!("damaged recordings: {RUNS}, {} entries each", ENTRIES.len());
    writeln!(std::io::stdout(), "{said}").expect("stdout");
}
