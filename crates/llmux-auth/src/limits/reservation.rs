//! What was reserved, and its way back.

use std::time::Instant;

use super::limiter::{Member, State, clamped, second};
use super::{Scope, Scopes, Standing};

/// One request's place in the limits of its scopes. Dropped, it gives the slots back; the request stays counted, and
/// its tokens as they were estimated.
#[derive(Debug)]
#[must_use = "dropped, it gives the slots back"]
pub struct Reservation {
    epoch: Instant,
    scopes: Scopes,
    tokens: u64,
    second: u32,
    standing: Standing,
    open: bool,
}

impl Reservation {
    pub(super) const fn new(
        epoch: Instant,
        scopes: Scopes,
        tokens: u64,
        second: u32,
        standing: Standing,
    ) -> Self {
        Self { epoch, scopes, tokens, second, standing, open: true }
    }

    /// Returns what was left right after this was reserved.
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Returns the scopes.
    pub const fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Ends the request, which used `tokens`, all attempts together. What was reserved too much is taken back as if it
    /// had never been counted; what is more counts from `now` on, also over the limit.
    pub fn settle_tokens(mut self, tokens: u64, now: Instant) {
        let now = second(now.saturating_duration_since(self.epoch));
        self.close(|reservation, member, state| {
            let counted = clamped(&member.limits, reservation.tokens);
            match tokens.checked_sub(counted) {
                Some(0) => {}
                Some(more) => state.rates.add(now, 0, more),
                None => state.rates.remove(reservation.second, 0, counted - tokens),
            }
        });
    }

    /// Takes the request back, as if it had never been made: for one that no vendor ever saw.
    pub fn refund(mut self) {
        self.close(|reservation, member, state| {
            state.rates.remove(reservation.second, 1, clamped(&member.limits, reservation.tokens));
        });
    }

    /// Gives back in one scope after the other: each is consistent, and giving back can make nothing exceed its limit.
    fn close(&mut self, change: impl Fn(&Self, &Member, &mut State)) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        for member in self.scopes.members.iter() {
            let mut state = member.entry.lock();
            state.parallel = state.parallel.saturating_sub(1);
            change(self, member, &mut state);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.close(|_, _, _| {});
    }
}

/// What one attempt may cost, reserved in the budgets of its scopes. Dropped, it costs nothing.
#[derive(Debug)]
#[must_use = "dropped, it costs nothing"]
pub struct MoneyReservation {
    scopes: Scopes,
    nanos: i64,
    at_ms: i64,
    mark: u64,
    /// The number of the first scope over its soft budget.
    soft: Option<u64>,
    open: bool,
}

impl MoneyReservation {
    pub(super) const fn new(
        scopes: Scopes,
        nanos: i64,
        at_ms: i64,
        mark: u64,
        soft: Option<u64>,
    ) -> Self {
        Self { scopes, nanos, at_ms, mark, soft, open: true }
    }

    /// Returns the nano-dollars that are reserved.
    pub const fn nanos(&self) -> i64 {
        self.nanos
    }

    /// Returns when it was reserved, in milliseconds since 1970: the attempt is charged to the windows of this time,
    /// in the database too.
    pub const fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// Returns the first scope, in the order in which they were named, whose spend had reached its soft budget.
    pub fn soft_exceeded(&self) -> Option<&Scope> {
        let soft = self.soft?;
        let member = self.scopes.members.iter().find(|member| member.entry.number == soft)?;
        Some(&member.entry.scope)
    }

    /// Ends the attempt, which cost `nanos` (below 0 counts as 0), also if that is more than was reserved. A scope
    /// whose next window has begun meanwhile is not charged: the attempt was admitted to the old one, which is over.
    pub fn settle(mut self, nanos: i64) {
        self.close(nanos.max(0));
    }

    fn close(&mut self, actual: i64) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        for member in self.scopes.members.iter().filter(|member| member.limits.budget.is_some()) {
            member.entry.lock().purse.settle(self.mark, self.nanos, actual);
        }
    }
}

impl Drop for MoneyReservation {
    fn drop(&mut self) {
        self.close(0);
    }
}
