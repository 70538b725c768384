//! The three ways to load a gateway.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinSet, spawn_local};

use crate::connection::{BUFFER, Connection};
use crate::pace::Ticks;
use crate::stats::{Stats, cpu_time};

/// Time between the openings of two streams that are to be held. A gateway may keep a stream's opening back for a while,
/// so that waiting for one before the next would take for ever.
const OPENING: Duration = Duration::from_millis(1);
/// Wait after a failure, so that a gateway that is gone is not asked a million times.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// When no further requests are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    Requests(u64),
    Time(Duration),
}

/// What all connections of a run share.
#[derive(Debug)]
pub(crate) struct Load {
    target: SocketAddr,
    request: Vec<u8>,
    stream: bool,
    give_up: Duration,
    buffer: RefCell<Vec<u8>>,
    stats: RefCell<Stats>,
    in_flight: Cell<u64>,
    started: Instant,
}

impl Load {
    pub(crate) fn new(
        target: SocketAddr,
        request: Vec<u8>,
        stream: bool,
        give_up: Duration,
    ) -> Self {
        Self {
            target,
            request,
            stream,
            give_up,
            buffer: RefCell::new(vec![0; BUFFER]),
            stats: RefCell::new(Stats::new()),
            in_flight: Cell::new(0),
            started: Instant::now(),
        }
    }

    /// Sends one request. `since` is what its latency counts from.
    async fn send(&self, connection: &mut Connection<'_>, since: Instant) {
        self.in_flight.set(self.in_flight.get() + 1);
        let begun = || self.stats.borrow_mut().begun(since.elapsed());
        let result = connection.exchange(&self.request, self.stream, begun).await;
        let latency = since.elapsed();
        self.in_flight.set(self.in_flight.get() - 1);
        let failure = match result {
            Ok(summary) => return self.stats.borrow_mut().answered(summary, latency),
            Err(failure) => failure,
        };
        self.stats.borrow_mut().failed(&failure);
        tokio::time::sleep(AFTER_FAILURE).await;
    }

    /// Waits for all connections, but not for ever. Returns the report.
    async fn finish(&self, mode: &str, mut connections: JoinSet<()>) -> Value {
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.give_up, all).await.is_err() {
            let unfinished = self.in_flight.get();
            self.stats.borrow_mut().failures_of("not finished in time".to_owned(), unfinished);
        }
        self.stats.borrow().json(mode, self.started.elapsed(), cpu_time())
    }
}

/// Each connection sends its next request when the last one is answered.
pub(crate) async fn closed(load: Rc<Load>, connections: u32, limit: Limit) -> Value {
    let left = Rc::new(Cell::new(match limit {
        Limit::Requests(requests) => requests,
        Limit::Time(_) => u64::MAX,
    }));
    let mut running = JoinSet::new();
    for _ in 0..connections {
        let (load, left) = (Rc::clone(&load), Rc::clone(&left));
        running.spawn_local(async move {
            let mut connection = Connection::new(load.target, &load.buffer);
            loop {
                let now = Instant::now();
                if matches!(limit, Limit::Time(time) if now - load.started >= time) {
                    break;
                }
                let Some(rest) = left.get().checked_sub(1) else { break };
                left.set(rest);
                load.send(&mut connection, now).await;
            }
        });
    }
    load.finish("closed", running).await
}

/// Requests that are due and not yet sent.
#[derive(Debug, Default)]
struct Due {
    times: RefCell<VecDeque<Instant>>,
    added: Notify,
    ended: Cell<bool>,
}

impl Due {
    /// Returns when the next request was due; `None` when there are no more.
    async fn next(&self) -> Option<Instant> {
        loop {
            if let Some(time) = self.times.borrow_mut().pop_front() {
                return Some(time);
            }
            if self.ended.get() {
                return None;
            }
            self.added.notified().await;
        }
    }
}

/// `number` requests are due at `rate` a second; each is sent by a connection that is free.
///
/// # Errors
/// If the system gives no timer.
pub(crate) async fn open(
    load: Rc<Load>,
    connections: u32,
    rate: f64,
    number: u64,
) -> io::Result<Value> {
    let due = Rc::new(Due::default());
    let mut running = JoinSet::new();
    for _ in 0..connections {
        let (load, due) = (Rc::clone(&load), Rc::clone(&due));
        running.spawn_local(async move {
            let mut connection = Connection::new(load.target, &load.buffer);
            while let Some(since) = due.next().await {
                load.send(&mut connection, since).await;
            }
        });
    }
    let interval = Duration::from_secs_f64(1.0 / rate);
    let mut next = Instant::now();
    let ticks = Ticks::start(interval)?;
    let pacer = spawn_local(async move {
        let mut left = number;
        while left > 0 {
            let count = ticks.next().await?.min(left);
            for _ in 0..count {
                next += interval;
                due.times.borrow_mut().push_back(next);
                due.added.notify_one();
            }
            left -= count;
        }
        due.ended.set(true);
        due.added.notify_waiters();
        io::Result::Ok(())
    });
    let mut report = load.finish("open", running).await;
    pacer.abort();
    if let Ok(paced) = pacer.await {
        paced?;
    }
    report["asked_per_second"] = rate.into();
    Ok(report)
}

/// Opens streams and keeps them until standard input ends.
///
/// # Errors
/// If nobody can be told that the streams are open.
pub(crate) async fn hold(load: Rc<Load>, streams: u32) -> io::Result<Value> {
    let pending = Rc::new(Cell::new(streams));
    let open = Rc::new(Cell::new(0_u32));
    let settled = Rc::new(Notify::new());
    let mut running = JoinSet::new();
    for number in 0..streams {
        let (load, settled) = (Rc::clone(&load), Rc::clone(&settled));
        let (pending, open) = (Rc::clone(&pending), Rc::clone(&open));
        running.spawn_local(async move {
            tokio::time::sleep(OPENING * number).await;
            let mut connection = Connection::new(load.target, &load.buffer);
            let since = Instant::now();
            let is_open = Cell::new(false);
            let settle = || {
                pending.set(pending.get() - 1);
                if pending.get() == 0 {
                    settled.notify_one();
                }
            };
            let begun = || {
                load.stats.borrow_mut().begun(since.elapsed());
                is_open.set(true);
                open.set(open.get() + 1);
                settle();
            };
            let result = connection.exchange(&load.request, true, begun).await;
            let mut stats = load.stats.borrow_mut();
            match result {
                Ok(summary) => {
                    stats.answered(summary, since.elapsed());
                    stats.failures_of("a stream that ended while it was to be held".to_owned(), 1);
                }
                Err(failure) => stats.failed(&failure),
            }
            if is_open.get() {
                open.set(open.get() - 1);
            } else {
                settle();
            }
        });
    }
    let all = async {
        while pending.get() > 0 {
            settled.notified().await;
        }
    };
    let _ = tokio::time::timeout(load.give_up, all).await;
    let opening_time = load.started.elapsed();
    let missing = u64::from(pending.get());
    load.stats.borrow_mut().failures_of("no first event in time".to_owned(), missing);
    let mut out = io::stdout();
    writeln!(out, "{}", json!({"open": open.get()}))?;
    out.flush()?;
    let (release, released) = oneshot::channel();
    // Ends with the process: nothing else can stop a read of standard input.
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = release.send(());
    });
    let _ = tokio::time::timeout(load.give_up, released).await;
    let mut report = load.stats.borrow().json("hold", opening_time, cpu_time());
    report["open"] = open.get().into();
    drop(running);
    Ok(report)
}
