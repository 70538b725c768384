use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use bytes::Bytes;

use super::*;
use crate::{Asker, Broadcast, Kind, Question, Reader, Scope, Shared, Source, WeakShared};

/// A waker that counts.
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0)))
    }

    pub(crate) fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn poll<T>(count: &Arc<Count>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
    poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
}

fn step<F: Future + Unpin>(future: &mut F, count: &Arc<Count>) -> Poll<F::Output> {
    poll(count, |context| Pin::new(future).poll(context))
}

fn key(body: &str) -> CacheKey {
    let question = Question {
        scope: Scope::Global,
        asker: Asker::default(),
        route: "r",
        model: "m",
        tags: &[],
        body: body.as_bytes(),
    };
    CacheKey::derive(&"n".into(), &question).unwrap()
}

fn answer() -> Arc<Entry> {
    let body = Bytes::from_static(b"{\"data\":[1]}");
    Arc::new(Entry::whole(Kind::Embedding, body, "application/json", None, 0, 1).unwrap())
}

fn leader<P: Clone>(flights: &Flights<P>) -> Leader<P> {
    match flights.join(&key("{}")) {
        Joined::Leader(leader) => leader,
        Joined::Follower(_) => panic!("somebody leads already"),
    }
}

fn follower<P: Clone>(flights: &Flights<P>) -> Follower<P> {
    match flights.join(&key("{}")) {
        Joined::Follower(follower) => follower,
        Joined::Leader(_) => panic!("nobody leads"),
    }
}

#[test]
fn all_who_wait_get_the_leaders_answer() {
    let flights = Flights::<Reader>::new();
    let first = leader(&flights);
    let count = Count::new();
    let mut followers: Vec<_> = (0..49).map(|_| follower(&flights)).collect();
    assert!(followers.iter_mut().all(|follower| step(follower, &count).is_pending()));
    assert_eq!((first.followers(), flights.len()), (49, 1));
    let entry = answer();
    first.finish(Arc::clone(&entry));
    assert_eq!(count.wakes(), 49);
    for follower in &mut followers {
        let Poll::Ready(Outcome::Answer(got)) = step(follower, &count) else { panic!("no answer") };
        assert!(Arc::ptr_eq(&got, &entry));
    }
    assert!(flights.is_empty());
    assert!(matches!(flights.join(&key("{}")), Joined::Leader(_)), "the next one starts anew");
}

#[test]
fn other_questions_do_not_wait() {
    let flights = Flights::<Reader>::new();
    let _first = leader(&flights);
    assert!(matches!(flights.join(&key("{\"a\":1}")), Joined::Leader(_)));
}

#[test]
fn a_leader_that_leaves_hands_over_to_one_follower() {
    let flights = Flights::<Reader>::new();
    let first = leader(&flights);
    let (one, two) = (Count::new(), Count::new());
    let (mut a, mut b) = (follower(&flights), follower(&flights));
    assert!(step(&mut a, &one).is_pending() && step(&mut b, &two).is_pending());
    drop(first);
    assert_eq!((one.wakes(), two.wakes()), (1, 0));
    let mut late = follower(&flights);
    assert!(step(&mut b, &two).is_pending() && step(&mut late, &two).is_pending());
    let Poll::Ready(Outcome::Lead(second)) = step(&mut a, &one) else { panic!("nobody leads") };
    drop(a);
    second.finish(answer());
    for follower in [&mut b, &mut late] {
        assert!(matches!(step(follower, &two), Poll::Ready(Outcome::Answer(_))));
    }
}

#[test]
fn a_chosen_follower_that_leaves_passes_it_on() {
    let flights = Flights::<Reader>::new();
    let first = leader(&flights);
    let count = Count::new();
    let (mut a, mut b) = (follower(&flights), follower(&flights));
    assert!(step(&mut a, &count).is_pending() && step(&mut b, &count).is_pending());
    drop(first);
    drop(a);
    let Poll::Ready(Outcome::Lead(second)) = step(&mut b, &count) else { panic!("nobody leads") };
    drop(b);
    drop(second);
    assert!(flights.is_empty(), "nobody is left");
    let _next = leader(&flights);
}

#[test]
fn a_follower_that_was_never_polled_can_lead() {
    let flights = Flights::<Reader>::new();
    let first = leader(&flights);
    let mut only = follower(&flights);
    drop(first);
    assert!(matches!(step(&mut only, &Count::new()), Poll::Ready(Outcome::Lead(_))));
}

#[test]
fn after_a_leader_that_fails_each_asks_alone() {
    let flights = Flights::<Reader>::new();
    let first = leader(&flights);
    let count = Count::new();
    let mut followers = [follower(&flights), follower(&flights)];
    assert!(followers.iter_mut().all(|follower| step(follower, &count).is_pending()));
    first.decline();
    assert_eq!(count.wakes(), 2);
    for follower in &mut followers {
        assert!(matches!(step(follower, &count), Poll::Ready(Outcome::Alone)));
    }
    assert!(flights.is_empty());
}

#[test]
fn waiting_has_a_limit() {
    let flights = Flights::<Reader>::new();
    let first = leader(&flights);
    let count = Count::new();
    let mut patient = follower(&flights).within(std::future::pending());
    assert!(step(&mut patient, &count).is_pending());
    let mut hasty = follower(&flights).within(std::future::ready(()));
    assert!(matches!(step(&mut hasty, &count), Poll::Ready(Outcome::Alone)));
    drop(hasty);
    assert_eq!(first.followers(), 1);
    first.finish(answer());
    assert!(matches!(step(&mut patient, &count), Poll::Ready(Outcome::Answer(_))));
}

#[test]
fn followers_read_what_comes_from_its_beginning() {
    let flights = Flights::<Reader>::new();
    let first = leader(&flights);
    let count = Count::new();
    let mut early = follower(&flights);
    assert!(step(&mut early, &count).is_pending());
    let broadcast = Broadcast::new();
    broadcast.push(Bytes::from_static(b"a"));
    first.publish(broadcast.reader());
    assert_eq!(count.wakes(), 1);
    let mut late = follower(&flights);
    for follower in [&mut early, &mut late] {
        let Poll::Ready(Outcome::Coming(mut reader)) = step(follower, &count) else {
            panic!("nothing comes")
        };
        let next = poll(&count, |context| reader.poll_next(context));
        assert_eq!(next, Poll::Ready(Some(Ok(Bytes::from_static(b"a")))));
        assert!(poll(&count, |context| reader.poll_next(context)).is_pending());
    }
    broadcast.finish();
    first.finish(answer());
    assert!(flights.is_empty());
}

#[test]
fn a_leader_that_leaves_its_stream_ends_the_flight() {
    let flights = Flights::<Reader>::new();
    let first = leader(&flights);
    let broadcast = Broadcast::new();
    first.publish(broadcast.reader());
    let mut behind = follower(&flights);
    let Poll::Ready(Outcome::Coming(mut reader)) = step(&mut behind, &Count::new()) else {
        panic!("nothing comes")
    };
    drop(broadcast);
    drop(first);
    let next = poll(&Count::new(), |context| reader.poll_next(context));
    assert!(matches!(next, Poll::Ready(Some(Err(_)))) && reader.is_at_start());
    let _again = leader(&flights);
}

/// A source that leads: it ends the flight when it ends, whoever drives it.
struct Leading {
    parts: Vec<&'static [u8]>,
    leader: Option<Leader<WeakShared<Self>>>,
}

impl Source for Leading {
    fn poll_next(
        &mut self,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, crate::Aborted>>> {
        if self.parts.is_empty() {
            if let Some(leader) = self.leader.take() {
                leader.finish(answer());
            }
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Bytes::from_static(self.parts.remove(0)))))
    }
}

fn publish(flights: &Flights<WeakShared<Leading>>) -> Shared<Leading> {
    let first = leader(flights);
    let shared = Shared::new(Leading { parts: vec![b"a", b"b"], leader: None });
    first.publish(shared.downgrade());
    shared.with_source(|source| source.leader = Some(first));
    shared
}

#[test]
fn followers_of_a_shared_stream_outlive_the_one_who_began_it() {
    let flights = Flights::new();
    let count = Count::new();
    let mut own = publish(&flights);
    assert!(poll(&count, |context| own.poll_next(context)).is_ready());
    let mut behind = follower(&flights);
    let Poll::Ready(Outcome::Coming(weak)) = step(&mut behind, &count) else {
        panic!("nothing comes")
    };
    let mut shared = weak.upgrade().unwrap();
    drop(own);
    let mut got = Vec::new();
    while let Poll::Ready(Some(Ok(bytes))) = poll(&count, |context| shared.poll_next(context)) {
        got.extend_from_slice(&bytes);
    }
    assert_eq!(got, b"ab");
    assert!(flights.is_empty());
}

#[test]
fn a_shared_stream_without_readers_ends_its_flight() {
    let flights = Flights::new();
    drop(publish(&flights));
    assert!(flights.is_empty());
}
