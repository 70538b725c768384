//! The scopes that were seen, their counters, and the walks over several of them at once.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::purse::{Purse, Rolls};
use super::rates::{Rates, left_at};
use super::{
    Budget, BudgetExceeded, Exceeded, Limit, Limits, MoneyRefused, MoneyReservation, Quota,
    Reservation, Scope, Standing, Unloaded,
};

/// Enough that threads which look up unrelated scopes rarely meet; a power of two.
const SHARDS: usize = 64;

/// The most that one attempt reserves, in nano-dollars: a million dollars.
const MOST_RESERVED: i64 = 1_000_000_000_000_000;

type Shard = Mutex<HashMap<Scope, Arc<Entry>>>;

/// What a request needs besides its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// The estimate of its tokens. In each scope it counts as at most the whole limit: a request must not wait forever.
    pub tokens: u64,
}

/// What is counted of a scope now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests in the window of a minute.
    pub requests: u64,
    /// Tokens in the window of a minute.
    pub tokens: u64,
    /// Requests under way.
    pub parallel: u64,
    /// What was spent in the budget's window, in nano-dollars; `None` if that is not known here.
    pub settled_nanos: Option<i64>,
    /// What attempts under way may cost, in nano-dollars.
    pub reserved_nanos: i64,
}

/// The counters of a scope.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) rates: Rates,
    pub(super) parallel: u64,
    pub(super) purse: Purse,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) scope: Scope,
    /// Unique: the order in which locks are taken.
    pub(super) number: u64,
    state: Mutex<State>,
}

impl Entry {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A scope of a request with its limits.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) entry: Arc<Entry>,
    pub(super) limits: Limits,
    /// The place in the list that the caller gave.
    rank: usize,
}

/// The scopes of a request, found once and cheap to clone. Made by [`Limiter::scopes`]; may be kept as long as the
/// limits in it are current, also across requests. A scope that is kept here is not forgotten.
#[derive(Clone, Debug)]
pub struct Scopes {
    /// In the order of their numbers, none twice.
    pub(super) members: Arc<[Member]>,
}

impl Scopes {
    /// Tells whether nothing limits the request.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Enforces limits and budgets in this process. See the [module](super).
#[derive(Debug)]
pub struct Limiter {
    epoch: Instant,
    shards: Box<[Shard]>,
    numbers: AtomicU64,
    rolls: Rolls,
}

impl Limiter {
    /// Makes a limiter that has seen no scope. Times are counted from `epoch`; earlier ones count as `epoch`.
    pub fn new(epoch: Instant) -> Arc<Self> {
        Arc::new(Self {
            epoch,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            numbers: AtomicU64::new(0),
            rolls: Rolls::default(),
        })
    }

    /// Finds the counters of scopes, and starts those that were never seen. Scopes without limits are left out. Of a
    /// scope that is named twice, the first limits apply.
    pub fn scopes(&self, scopes: &[(Scope, Limits)]) -> Scopes {
        let mut members: Vec<Member> = scopes
            .iter()
            .enumerate()
            .filter(|(_, (_, limits))| !limits.is_empty())
            .map(|(rank, (scope, limits))| Member {
                entry: self.entry(scope),
                limits: *limits,
                rank,
            })
            .collect();
        members.sort_unstable_by_key(|member| (member.entry.number, member.rank));
        members.dedup_by_key(|member| member.entry.number);
        Scopes { members: members.into() }
    }

    /// Reserves one request in all scopes, or in none: its place in the minute, its tokens and its slot.
    ///
    /// # Errors
    /// [`Exceeded`] if it does not fit. It names the limit that keeps the request out longest.
    pub fn reserve(
        &self,
        scopes: &Scopes,
        demand: Demand,
        now: Instant,
    ) -> Result<Reservation, Box<Exceeded>> {
        let since = self.since(now);
        let second = second(since);
        let mut walk = Walk {
            since,
            second,
            tokens: demand.tokens,
            refusal: None,
            before: Standing::default(),
            after: Standing::default(),
        };
        walk.reserve(&scopes.members);
        match walk.refusal {
            None => {
                Ok(Reservation::new(self.epoch, scopes.clone(), demand.tokens, second, walk.after))
            }
            Some(refusal) => Err(Box::new(Exceeded {
                scope: refusal.member.entry.scope.clone(),
                limit: refusal.limit,
                value: refusal.value,
                retry_after: refusal.retry_after,
                permanent: refusal.value == 0,
                standing: walk.before,
            })),
        }
    }

    /// Reserves what one attempt may cost in the budgets of all scopes, or in none.
    ///
    /// It fits if a budget is not used up, and what was spent, what is reserved and this are at most the budget.
    /// `nanos` below 0 count as 0, and those over a million dollars as that: sums of reservations must not saturate.
    ///
    /// # Errors
    /// [`MoneyRefused`] if it does not fit, or the spend of a scope is not known.
    pub fn reserve_money(
        &self,
        scopes: &Scopes,
        nanos: i64,
        wall_ms: i64,
    ) -> Result<MoneyReservation, MoneyRefused> {
        let nanos = nanos.clamp(0, MOST_RESERVED);
        let walk = self.walk_money(scopes, nanos, wall_ms, true)?;
        let soft = walk.soft.map(|member| member.entry.number);
        Ok(MoneyReservation::new(scopes.clone(), nanos, wall_ms, walk.mark, soft))
    }

    /// Tells whether [`reserve_money`](Self::reserve_money) would work now, and reserves nothing.
    ///
    /// # Errors
    /// Those of `reserve_money`.
    pub fn check_money(
        &self,
        scopes: &Scopes,
        nanos: i64,
        wall_ms: i64,
    ) -> Result<(), MoneyRefused> {
        self.walk_money(scopes, nanos.clamp(0, MOST_RESERVED), wall_ms, false).map(|_| ())
    }

    /// Takes the spend that the database has for the window of a scope that starts at `window_start_ms`. Returns
    /// whether it was wanted: the first answer for a window counts, later ones are ignored, as are those for another
    /// window or a scope that was forgotten meanwhile.
    pub fn load(&self, scope: &Scope, window_start_ms: i64, nanos: i64) -> bool {
        let wanted = |purse: &Purse| !purse.known && purse.start_ms() == window_start_ms;
        self.with_purse(scope, |purse| {
            let wanted = wanted(purse);
            if wanted {
                purse.load(nanos);
            }
            wanted
        })
        .unwrap_or(false)
    }

    /// Replaces what was spent in the current window of a scope by what the database has now: somebody set it there.
    /// Reservations stay, and so does what is not recorded yet. Exact if no record of the scope is written between the
    /// change of the database and this call, otherwise that record counts twice until the window ends. Returns whether
    /// the scope was known.
    pub fn replace(&self, scope: &Scope, nanos: i64) -> bool {
        self.with_purse(scope, |purse| {
            let known = purse.known;
            if known {
                purse.load(nanos);
            }
            known
        })
        .unwrap_or(false)
    }

    /// Notes that the database has the cost of an attempt, by scope: `at_ms` is [`MoneyReservation::at_ms`]. Until
    /// then the scope is not forgotten. Call it also for a record that was given up, but not for one that an earlier
    /// process left behind, nor before the attempt is settled: settle first, then hand the record over.
    pub fn recorded(&self, scope: &Scope, at_ms: i64, nanos: i64) {
        self.with_purse(scope, |purse| purse.recorded(at_ms, nanos));
    }

    /// Returns what is counted of a scope; zeros if it was never seen or forgotten. The money is that of the window in
    /// which the scope was last used.
    pub fn counted(&self, scope: &Scope, now: Instant) -> Counted {
        let Some(entry) = self.find(scope) else { return Counted::default() };
        let mut state = entry.lock();
        state.rates.roll(second(self.since(now)));
        Counted {
            requests: state.rates.requests,
            tokens: state.rates.tokens,
            parallel: state.parallel,
            settled_nanos: state.purse.known.then_some(state.purse.settled),
            reserved_nanos: state.purse.reserved,
        }
    }

    /// Returns the sums over all scopes of the requests under way and of the nano-dollars reserved: zero when nothing
    /// is under way.
    pub fn under_way(&self) -> (u64, i64) {
        let mut sums = (0_u64, 0_i64);
        for shard in &self.shards {
            for entry in lock(shard).values() {
                let state = entry.lock();
                sums.0 = sums.0.saturating_add(state.parallel);
                sums.1 = sums.1.saturating_add(state.purse.reserved);
            }
        }
        sums
    }

    /// Returns how many scopes are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Tells whether no scope is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets scopes that nobody holds, in which nothing is reserved, whose last minute is empty, and whose spend the
    /// database has. Call it every minute or so. Returns how many were forgotten.
    pub fn forget_idle(&self, now: Instant) -> usize {
        let second = second(self.since(now));
        let mut forgotten = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.len();
            shard.retain(|_, entry| {
                // Who holds it may use it at any time. New holders come only through the map, which is locked.
                let Some(entry) = Arc::get_mut(entry) else { return true };
                let state = entry.state.get_mut().unwrap_or_else(PoisonError::into_inner);
                state.rates.roll(second);
                state.parallel > 0 || !state.rates.is_empty() || !state.purse.is_idle()
            });
            forgotten += before - shard.len();
            if shard.capacity() > 4 * shard.len().max(16) {
                shard.shrink_to_fit();
            }
        }
        forgotten
    }

    fn walk_money<'a>(
        &'a self,
        scopes: &'a Scopes,
        nanos: i64,
        wall_ms: i64,
        commit: bool,
    ) -> Result<MoneyWalk<'a>, MoneyRefused> {
        let mut walk = MoneyWalk {
            rolls: &self.rolls,
            nanos,
            wall_ms,
            commit,
            mark: 0,
            soft: None,
            exceeded: None,
            unknown: Vec::new(),
        };
        walk.reserve(&scopes.members);
        if let Some((_, exceeded)) = walk.exceeded {
            return Err(exceeded.into());
        }
        if walk.unknown.is_empty() { Ok(walk) } else { Err(MoneyRefused::Unknown(walk.unknown)) }
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    fn entry(&self, scope: &Scope) -> Arc<Entry> {
        let mut shard = lock(self.shard(scope));
        if let Some(entry) = shard.get(scope) {
            return Arc::clone(entry);
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry { scope: scope.clone(), number, state: Mutex::default() });
        shard.insert(scope.clone(), Arc::clone(&entry));
        entry
    }

    fn find(&self, scope: &Scope) -> Option<Arc<Entry>> {
        lock(self.shard(scope)).get(scope).map(Arc::clone)
    }

    fn with_purse<R>(&self, scope: &Scope, change: impl FnOnce(&mut Purse) -> R) -> Option<R> {
        self.find(scope).map(|entry| change(&mut entry.lock().purse))
    }

    /// Ids end in their most random part. Ids that fall together only wait for each other.
    fn shard(&self, scope: &Scope) -> &Shard {
        let tail = scope.id.as_bytes().iter().rev().take(8);
        let mix = |mixed: u64, &byte: &u8| (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let mixed = tail.fold(scope.kind as u64, mix).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(mixed >> 32) as usize % SHARDS]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn second(since_epoch: Duration) -> u32 {
    u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX)
}

/// The limit that keeps a request out longest.
struct Refusal<'a> {
    member: &'a Member,
    limit: Limit,
    value: u64,
    retry_after: Option<Duration>,
}

impl Refusal<'_> {
    fn weight(&self) -> (bool, Duration, Reverse<usize>) {
        (self.value == 0, self.retry_after.unwrap_or_default(), Reverse(self.member.rank))
    }
}

/// Goes through the scopes of a request with all their locks held, which makes the reservation one step for everybody
/// else. It looks on the way down, and counts on the way back if nobody refused. The locks are taken in the order of
/// the scopes' numbers, so that no two walks wait for each other, and are held by the recursion: no list of guards is
/// allocated. A request has about a dozen scopes at most.
struct Walk<'a> {
    since: Duration,
    second: u32,
    tokens: u64,
    refusal: Option<Refusal<'a>>,
    before: Standing,
    after: Standing,
}

impl<'a> Walk<'a> {
    fn reserve(&mut self, members: &'a [Member]) {
        let Some((member, others)) = members.split_first() else { return };
        let mut state = member.entry.lock();
        state.rates.roll(self.second);
        self.look(member, &state);
        self.reserve(others);
        if self.refusal.is_none() {
            let tokens = clamped(&member.limits, self.tokens);
            state.rates.add(self.second, 1, tokens);
            state.parallel += 1;
        }
    }

    fn look(&mut self, member: &'a Member, state: &State) {
        let limits = &member.limits;
        let rates = &state.rates;
        if let Some(value) = limits.parallel_requests
            && state.parallel >= value
        {
            self.refuse(Refusal { member, limit: Limit::Parallel, value, retry_after: None });
        }
        if let Some(value) = limits.requests_per_minute {
            let fits = |requests, _| requests < value;
            if !fits(rates.requests, 0) {
                let retry_after = self.wait(rates.free_at(fits));
                self.refuse(Refusal { member, limit: Limit::Requests, value, retry_after });
            }
            self.note(rates, value, rates.requests, 1, |standing| &mut standing.requests);
        }
        if let Some(value) = limits.tokens_per_minute {
            let demand = self.tokens.min(value);
            let fits = |_, tokens: u64| value > 0 && tokens.saturating_add(demand) <= value;
            if !fits(0, rates.tokens) {
                let retry_after = self.wait(rates.free_at(fits));
                self.refuse(Refusal { member, limit: Limit::Tokens, value, retry_after });
            }
            self.note(rates, value, rates.tokens, demand, |standing| &mut standing.tokens);
        }
    }

    fn refuse(&mut self, refusal: Refusal<'a>) {
        if self.refusal.as_ref().is_none_or(|held| refusal.weight() > held.weight()) {
            self.refusal = Some(refusal);
        }
    }

    fn wait(&self, free_at: Option<Duration>) -> Option<Duration> {
        free_at.map(|at| at.saturating_sub(self.since))
    }

    /// Notes what is left of a limit of which `used` are gone, without and with this request, which takes `demand`.
    fn note(
        &mut self,
        rates: &Rates,
        limit: u64,
        used: u64,
        demand: u64,
        slot: impl Fn(&mut Standing) -> &mut Option<Quota>,
    ) {
        let quota = |used: u64, until: Duration| Quota {
            limit,
            remaining: limit.saturating_sub(used),
            reset: until.saturating_sub(self.since),
        };
        let before = quota(used, rates.empty_at());
        let after = quota(used.saturating_add(demand), rates.empty_at().max(left_at(self.second)));
        Quota::tighten(slot(&mut self.before), before);
        Quota::tighten(slot(&mut self.after), after);
    }
}

/// The tokens that a demand counts as in a scope with these limits.
pub(super) fn clamped(limits: &Limits, tokens: u64) -> u64 {
    limits.tokens_per_minute.map_or(tokens, |limit| tokens.min(limit))
}

/// The same walk for money.
struct MoneyWalk<'a> {
    rolls: &'a Rolls,
    nanos: i64,
    wall_ms: i64,
    commit: bool,
    /// Taken while all locks are held.
    mark: u64,
    soft: Option<&'a Member>,
    /// With the place in the caller's list.
    exceeded: Option<(usize, BudgetExceeded)>,
    unknown: Vec<Unloaded>,
}

impl<'a> MoneyWalk<'a> {
    fn reserve(&mut self, members: &'a [Member]) {
        let Some((member, others)) = members.split_first() else {
            self.mark = self.rolls.mark();
            return;
        };
        let Some(budget) = &member.limits.budget else { return self.reserve(others) };
        let mut state = member.entry.lock();
        let purse = &mut state.purse;
        purse.turn(budget, self.wall_ms, self.rolls);
        self.look(member, budget, purse);
        self.reserve(others);
        if self.commit && self.exceeded.is_none() && self.unknown.is_empty() {
            purse.reserved = purse.reserved.saturating_add(self.nanos);
        }
    }

    fn look(&mut self, member: &'a Member, budget: &Budget, purse: &Purse) {
        if !purse.known && budget.max_nanos != Some(0) {
            let scope = member.entry.scope.clone();
            self.unknown.push(Unloaded { scope, window_start_ms: purse.start_ms() });
            return;
        }
        let fits = |max| {
            let taken = purse.settled.saturating_add(purse.reserved);
            purse.settled < max && taken.saturating_add(self.nanos) <= max
        };
        if let Some(max_nanos) = budget.max_nanos
            && !fits(max_nanos)
            && self.exceeded.as_ref().is_none_or(|(rank, _)| member.rank < *rank)
        {
            let exceeded = BudgetExceeded {
                scope: member.entry.scope.clone(),
                max_nanos,
                settled_nanos: purse.settled,
                reserved_nanos: purse.reserved,
                asked_nanos: self.nanos,
                resets_at_ms: purse.end_ms(),
            };
            self.exceeded = Some((member.rank, exceeded));
        }
        let warned = |soft| purse.settled >= soft;
        if budget.soft_nanos.is_some_and(warned)
            && self.soft.is_none_or(|held| member.rank < held.rank)
        {
            self.soft = Some(member);
        }
    }
}
