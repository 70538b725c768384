//! The money of a scope in the current window of its budget.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Budget;
use crate::Period;

/// How far the wall clock may step back behind the start of a window before that window is given up. Small steps come
/// with clocks that are being set; a window that lies further ahead came from a clock that was wrong, and would keep a
/// scope without a new window until then.
const STEP_BACK_MS: i64 = 300_000;

/// The money of one scope. All amounts are nano-dollars of the current window.
#[derive(Debug, Default)]
pub(super) struct Purse {
    /// Period and start of the budget that the window is of.
    windows: Option<(Option<Period>, i64)>,
    start_ms: i64,
    end_ms: i64,
    /// The number of the roll that began this window. A reservation with a smaller mark is of an earlier one.
    roll: u64,
    /// Whether the spend from before the scope was first seen here is in `settled`.
    pub(super) known: bool,
    pub(super) settled: i64,
    pub(super) reserved: i64,
    /// The part of `settled` that the database is not known to have.
    pub(super) unrecorded: i64,
}

/// Numbers the rolls of all windows of a limiter. A reservation remembers the number it saw while it held the locks of
/// its scopes: a scope whose window began later has rolled since, whatever the wall clock says.
#[derive(Debug, Default)]
pub(super) struct Rolls(AtomicU64);

impl Rolls {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn mark(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Purse {
    /// Moves on to the window that `wall_ms` is in.
    pub(super) fn turn(&mut self, budget: &Budget, wall_ms: i64, rolls: &Rolls) {
        let windows = Some((budget.period, budget.started_ms));
        if self.windows == windows && self.start_ms <= wall_ms && wall_ms < self.end_ms {
            return;
        }
        let (start_ms, end_ms) = budget.window(wall_ms);
        if self.windows != windows {
            // First seen, or another budget: what was spent in its window is for the database to say. Reservations
            // are still out and will come back, and what is not recorded yet will not be in the database's answer.
            self.windows = windows;
            self.known = false;
            self.settled = self.unrecorded;
        } else if start_ms > self.start_ms {
            // All that was spent since then was spent here: nothing.
            self.forget(rolls);
        } else if start_ms < self.start_ms && wall_ms < self.start_ms.saturating_sub(STEP_BACK_MS) {
            self.forget(rolls);
            self.known = false;
        } else {
            return;
        }
        (self.start_ms, self.end_ms) = (start_ms, end_ms);
    }

    fn forget(&mut self, rolls: &Rolls) {
        self.roll = rolls.next();
        (self.settled, self.reserved, self.unrecorded) = (0, 0, 0);
    }

    pub(super) const fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// When the window ends; `None` if it never does.
    pub(super) const fn end_ms(&self) -> Option<i64> {
        match self.windows {
            Some((Some(_), _)) => Some(self.end_ms),
            _ => None,
        }
    }

    /// Ends a reservation of `reserved`, made under `mark`, which cost `actual`.
    pub(super) const fn settle(&mut self, mark: u64, reserved: i64, actual: i64) {
        // The window that it was admitted to is over.
        if self.roll > mark {
            return;
        }
        self.reserved = self.reserved.saturating_sub(reserved);
        self.settled = self.settled.saturating_add(actual);
        self.unrecorded = self.unrecorded.saturating_add(actual);
    }

    /// Takes the spend that the database has for this window.
    pub(super) const fn load(&mut self, recorded: i64) {
        self.settled = recorded.saturating_add(self.unrecorded);
        self.known = true;
    }

    /// Notes that the database has `nanos` of an attempt that was reserved at `at_ms`.
    pub(super) fn recorded(&mut self, at_ms: i64, nanos: i64) {
        let first = self.windows.map_or(i64::MIN, |(_, started_ms)| started_ms);
        if at_ms.max(first) >= self.start_ms {
            // What was not settled here was reserved before there was a budget: it counts from now on.
            let foreign = nanos.saturating_sub(self.unrecorded).max(0);
            if self.known {
                self.settled = self.settled.saturating_add(foreign);
            }
            self.unrecorded = self.unrecorded.saturating_sub(nanos).max(0);
        }
    }

    /// Whether all that is known here can be had from the database.
    pub(super) const fn is_idle(&self) -> bool {
        self.reserved == 0 && self.unrecorded == 0
    }
}
