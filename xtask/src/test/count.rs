//! Counting the tests that other programs report. What such a program announced and did not account for has failed.

use std::ops::Add;

/// How many tests passed, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    /// One failure.
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1 };

    /// A check that either holds or does not is one test.
    pub(crate) fn of_check(holds: bool) -> Self {
        if holds { Self { passed: 1, failed: 0 } } else { Self::FAILED }
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// Adds up the output of `cargo test`.
#[derive(Debug, Default)]
pub(crate) struct Cargo {
    count: Count,
    announced: u64,
    ignored: u64,
}

impl Cargo {
    /// Takes one line of standard output.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(number) = line.strip_prefix("running ").and_then(|rest| {
            let (number, unit) = rest.split_once(' ')?;
            matches!(unit, "test" | "tests").then(|| number.parse::<u64>().ok())?
        }) {
            self.announced += number;
        } else if let Some((_, result)) = line.split_once("test result: ") {
            self.count.passed += before(result, "passed");
            self.count.failed += before(result, "failed");
            self.ignored += before(result, "ignored");
        }
    }

    /// Returns the sum, and what is to be said about it. `success`: cargo's exit code was 0.
    pub(crate) fn finish(self, success: bool) -> (Count, Vec<String>) {
        let Self { mut count, announced, ignored } = self;
        let mut notes = Vec::new();
        let accounted = count.passed + count.failed + ignored;
        if ignored > 0 {
            notes.push(format!("{ignored} tests were ignored: counted as failed"));
            count.failed += ignored;
        }
        if announced > accounted {
            let lost = announced - accounted;
            notes.push(format!(
                "{lost} tests began and never reported, their program crashed: counted as failed"
            ));
            count.failed += lost;
        }
        if announced == 0 {
            notes.push("not one test ran: counted as a failure".to_owned());
            count.failed += 1;
        } else if !success && count.failed == 0 {
            notes.push("cargo test failed outside of any test: counted as a failure".to_owned());
            count.failed += 1;
        }
        (count, notes)
    }
}

/// Adds up the output of pytest.
#[derive(Debug, Default)]
pub(crate) struct Pytest {
    summary: Option<(Count, u64)>,
}

impl Pytest {
    /// Takes one line of standard output. The summary is the last line that looks like one.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim_matches(['=', ' ']);
        let Some((counts, time)) = line.rsplit_once(" in ") else {
            return;
        };
        if !time.starts_with(|first: char| first.is_ascii_digit()) {
            return;
        }
        let mut count = Count::default();
        let mut skipped = 0;
        for part in counts.split(", ") {
            let Some((number, word)) = part.split_once(' ') else {
                return;
            };
            let Ok(number) = number.parse::<u64>() else {
                return;
            };
            match word {
                "passed" => count.passed += number,
                "failed" | "error" | "errors" => count.failed += number,
                "skipped" | "xfailed" | "xpassed" | "deselected" => skipped += number,
                _ => {}
            }
        }
        self.summary = Some((count, skipped));
    }

    /// Returns the sum, and what is to be said about it. `success`: pytest's exit code was 0.
    pub(crate) fn finish(self, success: bool) -> (Count, Vec<String>) {
        let Some((mut count, skipped)) = self.summary else {
            return (
                Count::FAILED,
                vec!["pytest ended without a summary: counted as a failure".to_owned()],
            );
        };
        let mut notes = Vec::new();
        if skipped > 0 {
            notes.push(format!("{skipped} tests were skipped: counted as failed"));
            count.failed += skipped;
        }
        if count == Count::default() || (!success && count.failed == 0) {
            notes.push("pytest failed outside of any test: counted as a failure".to_owned());
            count.failed += 1;
        }
        (count, notes)
    }
}

/// Returns the line without the colours of a terminal.
pub(crate) fn plain(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut text, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        text.push_str(&part[end..]);
        text
    })
}

/// The number before a word, as in `3 passed; 0 failed`.
fn before(text: &str, word: &str) -> u64 {
    let mut last = "";
    for part in text.split([' ', ';', ',', '.']).filter(|part| !part.is_empty()) {
        if part == word {
            return last.parse().unwrap_or(0);
        }
        last = part;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::{Cargo, Count, Pytest, plain};

    fn cargo(text: &str, success: bool) -> Count {
        let mut tests = Cargo::default();
        text.lines().for_each(|line| tests.line(&plain(line)));
        tests.finish(success).0
    }

    fn pytest(text: &str, success: bool) -> Count {
        let mut tests = Pytest::default();
        text.lines().for_each(|line| tests.line(line));
        tests.finish(success).0
    }

    #[test]
    fn results_of_all_test_programs_add_up() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
                    running 3 tests\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n\
                    running 0 tests\ntest result: \u{1b}[32mok\u{1b}[0m. 0 passed; 0 failed; 0 ignored";
        assert_eq!(cargo(text, false), Count { passed: 3, failed: 2 });
    }

    #[test]
    fn tests_of_a_crashed_program_have_failed() {
        let text =
            "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored\nrunning 5 tests\n";
        assert_eq!(cargo(text, false), Count { passed: 2, failed: 5 });
    }

    #[test]
    fn ignored_tests_have_failed() {
        let text = "running 2 tests\ntest result: ok. 1 passed; 0 failed; 1 ignored; 0 measured";
        assert_eq!(cargo(text, true), Count { passed: 1, failed: 1 });
    }

    #[test]
    fn a_build_that_fails_is_a_failure() {
        assert_eq!(cargo("", false), Count { passed: 0, failed: 1 });
        let text = "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored";
        assert_eq!(cargo(text, false), Count { passed: 1, failed: 1 });
    }

    #[test]
    fn pytest_errors_and_skips_count_as_failed() {
        assert_eq!(pytest("....\n4 passed in 0.10s", true), Count { passed: 4, failed: 0 });
        let text =
            "=== 1 failed, 2 passed, 1 skipped, 3 warnings, 2 errors in 61.00s (0:01:01) ===";
        assert_eq!(pytest(text, false), Count { passed: 2, failed: 4 });
    }

    #[test]
    fn pytest_without_tests_or_summary_has_failed() {
        assert_eq!(pytest("no tests ran in 0.01s", false), Count::FAILED);
        assert_eq!(pytest("Traceback", false), Count::FAILED);
    }
}
