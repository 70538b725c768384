//! Single-flight among threads.
#![expect(clippy::unwrap_used, clippy::panic, reason = "in tests both are failures")]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bytes::Bytes;
use llmux_cache::{
    Asker, CacheKey, Entry, Flights, Joined, Kind, Leader, Local, LocalConfig, Outcome, Question,
    Reader, Scope,
};

const THREADS: usize = 50;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn key(number: usize) -> CacheKey {
    let body = format!("{{\"n\":{number}}}");
    let question = Question {
        scope: Scope::Global,
        asker: Asker::default(),
        route: "/v1/embeddings",
        model: "m",
        tags: &[],
        body: body.as_bytes(),
    };
    CacheKey::derive(&"n".into(), &question).unwrap()
}

fn answer() -> Arc<Entry> {
    let body = Bytes::from_static(b"{\"data\":[1]}");
    Arc::new(Entry::whole(Kind::Embedding, body, "application/json", None, 0, 1_000).unwrap())
}

/// Joins, and looks into the cache as a leader. `Ok`: somebody has the answer. `Err`: this thread is to get it.
fn ask(
    flights: &Flights<Reader>,
    kept: &Local,
    key: &CacheKey,
) -> Result<Arc<Entry>, Leader<Reader>> {
    let leader = match flights.join(key) {
        Joined::Leader(leader) => leader,
        Joined::Follower(follower) => match block_on(follower) {
            Outcome::Answer(entry) => return Ok(entry),
            Outcome::Lead(leader) => leader,
            other => panic!("{other:?}"),
        },
    };
    match kept.find(key, 0) {
        Some(entry) => {
            leader.finish(entry.clone());
            Ok(entry)
        }
        None => Err(leader),
    }
}

#[test]
fn fifty_threads_make_one_call_for_each_question() {
    let (flights, kept) = (Flights::new(), Local::new(LocalConfig::default()));
    let barrier = Barrier::new(THREADS);
    let calls = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for question in 0..40 {
                    let key = key(question);
                    barrier.wait();
                    if let Err(leader) = ask(&flights, &kept, &key) {
                        calls.fetch_add(1, Ordering::SeqCst);
                        kept.keep(&key, answer(), 0);
                        leader.finish(answer());
                    }
                }
            });
        }
    });
    assert_eq!(calls.into_inner(), 40);
    assert!(flights.is_empty());
}

#[test]
fn callers_that_leave_are_replaced_until_one_stays() {
    let (flights, kept) = (Flights::new(), Local::new(LocalConfig::default()));
    let barrier = Barrier::new(THREADS);
    let (left, calls) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for question in 0..20 {
                    let key = key(question);
                    barrier.wait();
                    let Err(leader) = ask(&flights, &kept, &key) else { continue };
                    // The first ten who lead a question leave.
                    if left.fetch_add(1, Ordering::SeqCst) % 11 < 10 {
                        drop(leader);
                        continue;
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                    kept.keep(&key, answer(), 0);
                    leader.finish(answer());
                }
            });
        }
    });
    assert_eq!((left.into_inner(), calls.into_inner()), (220, 20));
    assert!(flights.is_empty());
}
