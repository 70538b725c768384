//! Single-flight: of identical questions at the same time one is asked, and its answer serves all.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::broadcast::lock;
use crate::{CacheKey, Entry};

type Table<P> = Arc<Mutex<BTreeMap<[u8; 32], Arc<Mutex<Flight<P>>>>>>;

/// The questions that are being asked. `P` is what a leader may publish while its answer comes: a
/// [`Reader`](crate::Reader), a [`WeakShared`](crate::WeakShared).
pub struct Flights<P> {
    table: Table<P>,
}

/// One question under way.
struct Flight<P> {
    phase: Phase<P>,
    followers: BTreeMap<u64, Waiting>,
    next_follower: u64,
}

enum Phase<P> {
    /// Somebody asks, or a follower was chosen to.
    Asking,
    /// The answer is coming.
    Coming(P),
    /// The answer is there; `None`: everybody for themselves.
    Over(Option<Arc<Entry>>),
}

#[derive(Default)]
struct Waiting {
    waker: Option<Waker>,
    /// The leader is gone, and this follower is the next.
    chosen: bool,
}

/// What joining a flight comes to.
#[derive(Debug)]
pub enum Joined<P> {
    /// Nobody asks: the caller does.
    Leader(Leader<P>),
    /// Somebody asks: the caller waits.
    Follower(Follower<P>),
}

/// How waiting ends.
#[derive(Debug)]
pub enum Outcome<P> {
    /// The leader's answer.
    Answer(Arc<Entry>),
    /// The leader's answer is coming, and can be followed.
    Coming(P),
    /// The leader is gone, and the caller is the new one.
    Lead(Leader<P>),
    /// There is nothing to share, or it took too long: the caller asks for itself.
    Alone,
}

impl<P: Clone> Flights<P> {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self { table: Arc::default() }
    }

    /// Joins those who ask the same question, or starts to ask it.
    pub fn join(&self, key: &CacheKey) -> Joined<P> {
        let mut table = lock(&self.table);
        let place = table.entry(*key.hash());
        if let Place::Occupied(place) = &place {
            let flight = Arc::clone(place.get());
            let id = {
                let mut flight = lock(&flight);
                let id = flight.next_follower;
                flight.next_follower += 1;
                flight.followers.insert(id, Waiting::default());
                id
            };
            let part = Part { table: Arc::clone(&self.table), hash: *key.hash(), flight };
            return Joined::Follower(Follower { part, id });
        }
        let flight = Arc::new(Mutex::new(Flight {
            phase: Phase::Asking,
            followers: BTreeMap::new(),
            next_follower: 0,
        }));
        place.insert_entry(Arc::clone(&flight));
        let part = Part { table: Arc::clone(&self.table), hash: *key.hash(), flight };
        Joined::Leader(Leader { part, done: false })
    }

    /// Returns how many questions are under way.
    pub fn len(&self) -> usize {
        lock(&self.table).len()
    }

    /// Tells whether no question is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<P: Clone> Default for Flights<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Clone for Flights<P> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<P> fmt::Debug for Flights<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &lock(&self.table).len()).finish()
    }
}

/// A place in a flight. Locks are taken in this order: the table, then the flight.
struct Part<P> {
    table: Table<P>,
    hash: [u8; 32],
    flight: Arc<Mutex<Flight<P>>>,
}

impl<P> Part<P> {
    /// Ends the flight: whoever joins from now on starts another one.
    fn end(&self, answer: Option<Arc<Entry>>) {
        let mut table = lock(&self.table);
        self.leave_table(&mut table);
        let mut flight = lock(&self.flight);
        let published = std::mem::replace(&mut flight.phase, Phase::Over(answer));
        let wakers: Vec<Waker> =
            flight.followers.values_mut().filter_map(|waiting| waiting.waker.take()).collect();
        drop(flight);
        drop(table);
        // Not under the locks: it may be the last of something that has a part in a flight.
        drop(published);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Chooses the follower who waits longest as the new leader; without followers the flight ends.
    fn hand_over(&self) {
        let mut table = lock(&self.table);
        let mut flight = lock(&self.flight);
        if let Some(next) = flight.followers.values_mut().next() {
            next.chosen = true;
            let waker = next.waker.take();
            drop(flight);
            drop(table);
            if let Some(waker) = waker {
                waker.wake();
            }
        } else {
            self.leave_table(&mut table);
        }
    }

    fn leave_table(&self, table: &mut BTreeMap<[u8; 32], Arc<Mutex<Flight<P>>>>) {
        if table.get(&self.hash).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            table.remove(&self.hash);
        }
    }
}

/// The one who asks. Dropped before its answer comes (its client left), it hands over to a follower; dropped while its answer
/// comes, it ends the flight, and those who follow what was published see that end by themselves.
#[must_use]
pub struct Leader<P> {
    part: Part<P>,
    done: bool,
}

impl<P: Clone> Leader<P> {
    /// Gives the answer to all who wait. Put it into the cache before: who comes next looks there.
    pub fn finish(mut self, answer: Arc<Entry>) {
        self.done = true;
        self.part.end(Some(answer));
    }

    /// The answer cannot be shared (an error, not to be kept): all who wait ask for themselves.
    pub fn decline(mut self) {
        self.done = true;
        self.part.end(None);
    }

    /// Lets those who wait, and those who come, follow the answer while it comes.
    pub fn publish(&self, coming: P) {
        let mut flight = lock(&self.part.flight);
        let before = std::mem::replace(&mut flight.phase, Phase::Coming(coming));
        let wakers: Vec<Waker> =
            flight.followers.values_mut().filter_map(|waiting| waiting.waker.take()).collect();
        drop(flight);
        drop(before);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns how many wait for the answer.
    pub fn followers(&self) -> usize {
        lock(&self.part.flight).followers.len()
    }
}

impl<P> Drop for Leader<P> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let is_coming = matches!(lock(&self.part.flight).phase, Phase::Coming(_));
        if is_coming {
            self.part.end(None);
        } else {
            self.part.hand_over();
        }
    }
}

impl<P> fmt::Debug for Leader<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").finish_non_exhaustive()
    }
}

/// One who waits for another's answer: a future. Dropping it is leaving.
#[must_use]
pub struct Follower<P> {
    part: Part<P>,
    id: u64,
}

impl<P> Follower<P> {
    /// Waits no longer than `limit` takes: a timer of whatever runtime there is.
    pub fn within<T: Future<Output = ()>>(self, limit: T) -> Within<P, T> {
        Within { follower: self, limit: Box::pin(limit) }
    }
}

impl<P: Clone> Future for Follower<P> {
    type Output = Outcome<P>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome<P>> {
        let mut flight = lock(&self.part.flight);
        match &flight.phase {
            Phase::Over(Some(answer)) => return Poll::Ready(Outcome::Answer(Arc::clone(answer))),
            Phase::Over(None) => return Poll::Ready(Outcome::Alone),
            Phase::Coming(coming) => return Poll::Ready(Outcome::Coming(coming.clone())),
            Phase::Asking => {}
        }
        let waiting = flight.followers.entry(self.id).or_default();
        if waiting.chosen {
            flight.followers.remove(&self.id);
            let Part { table, hash, flight } = &self.part;
            let part = Part { table: Arc::clone(table), hash: *hash, flight: Arc::clone(flight) };
            return Poll::Ready(Outcome::Lead(Leader { part, done: false }));
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<P> Drop for Follower<P> {
    fn drop(&mut self) {
        let was_chosen = {
            let mut flight = lock(&self.part.flight);
            let waiting = flight.followers.remove(&self.id);
            matches!(flight.phase, Phase::Asking) && waiting.is_some_and(|waiting| waiting.chosen)
        };
        if was_chosen {
            self.part.hand_over();
        }
    }
}

impl<P> fmt::Debug for Follower<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A follower who waits for a limited time, and then goes on alone.
#[must_use]
pub struct Within<P, T> {
    follower: Follower<P>,
    limit: Pin<Box<T>>,
}

impl<P: Clone, T: Future<Output = ()>> Future for Within<P, T> {
    type Output = Outcome<P>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome<P>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.follower).poll(context) {
            return ready;
        }
        self.limit.as_mut().poll(context).map(|()| Outcome::Alone)
    }
}

impl<P, T> fmt::Debug for Within<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("follower", &self.follower).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
pub(crate) mod tests;
