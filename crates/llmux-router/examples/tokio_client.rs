//! Many concurrent calls over tokio. The router is behind a plain mutex, which is never held while a call is out.
//!
//! `cargo run -p llmux-router --example tokio_client`. The vendors run inside of the example and nothing leaves the
//! machine.
#![expect(clippy::disallowed_methods, reason = "a program has a clock and draws lots")]

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use llmux_router::{
    Builtin, Config, Deployment, Failure, FailureClass, Measured, Outcome, Pick, Request,
    RetryPolicy, Router, Step,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

struct Shared {
    router: Mutex<Router>,
    policy: RetryPolicy,
    addresses: Vec<SocketAddr>,
}

impl Shared {
    fn router(&self) -> MutexGuard<'_, Router> {
        // A panic elsewhere leaves counts that are off by one at worst.
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call in flight. Dropped without an outcome, as when the client leaves and its task is aborted, it counts as
/// cancelled.
struct Call<'a> {
    shared: &'a Shared,
    pick: Option<Pick>,
}

impl Call<'_> {
    fn end(mut self, outcome: Outcome) {
        if let Some(pick) = self.pick.take() {
            self.shared.router().record(pick, outcome, Instant::now());
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(pick) = self.pick.take() {
            self.shared.router().record(pick, Outcome::Cancelled, Instant::now());
        }
    }
}

/// Makes one request; returns the deployment that answered.
async fn ask(shared: &Shared) -> Option<usize> {
    let mut tried = Vec::new();
    for attempt in 1.. {
        let started = Instant::now();
        let request = Request { tried: &tried, random: random(), ..Request::default() };
        let pick = shared.router().pick(&request, started).ok()?;
        let index = pick.index();
        let call = Call { shared, pick: Some(pick) };
        let answer = timeout(Duration::from_secs(2), post(shared.addresses[index])).await;
        let failure = match answer.unwrap_or(Err(FailureClass::Timeout)) {
            Ok(()) => {
                let duration = started.elapsed();
                call.end(Outcome::Success(Measured { duration, ..Measured::default() }));
                return Some(index);
            }
            Err(class) => Failure { class, retry_after: None },
        };
        call.end(Outcome::Failure(failure));
        tried.push(index);
        let request = Request { tried: &tried, ..Request::default() };
        let left = shared.router().left(&request, Instant::now());
        match shared.policy.after(&failure, attempt, left, random()) {
            Step::Elsewhere => {}
            Step::Again { delay } => sleep(delay).await,
            Step::NextModel | Step::GiveUp => break,
        }
    }
    None
}

async fn post(address: SocketAddr) -> Result<(), FailureClass> {
    let mut socket = TcpStream::connect(address).await.map_err(|_| FailureClass::Connect)?;
    let mut answer = Vec::new();
    let sent = socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
    sent.map_err(|_| FailureClass::Malformed)?;
    socket.read_to_end(&mut answer).await.map_err(|_| FailureClass::Malformed)?;
    match answer.starts_with(b"HTTP/1.0 200 ") {
        true => Ok(()),
        false => Err(FailureClass::Server),
    }
}

/// Starts a vendor that answers after `delay`, and with an error if `fails`.
async fn vendor(delay: Duration, fails: bool) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 18];
                if socket.read_exact(&mut head).await.is_err() {
                    return;
                }
                sleep(delay).await;
                let status = if fails { "500 Internal Server Error" } else { "200 OK" };
                let answer = format!("HTTP/1.0 {status}\r\n\r\n{{}}");
                // A client that leaves early is its own affair.
                drop(socket.write_all(answer.as_bytes()).await);
            });
        }
    });
    Ok(address)
}

/// Draws a number. A real service would take one from its generator.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let vendors =
        [("fails", 1, true), ("slow", 60, false), ("quick", 10, false), ("quick too", 10, false)];
    let mut addresses = Vec::new();
    for (_, delay, fails) in vendors {
        addresses.push(vendor(Duration::from_millis(delay), fails).await?);
    }
    let config = Config { strategy: Builtin::LowestLatency, ..Config::default() };
    let router = Router::new(config, vendors.map(|(name, ..)| Deployment::new(name)));
    let policy = RetryPolicy {
        count: 3,
        backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        jitter: 0.2,
        fallback: true,
    };
    let shared = Arc::new(Shared { router: Mutex::new(router), policy, addresses });

    // Twenty clients, each with ten requests one after another.
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for _ in 0..10 {
                    answers.push(ask(&shared).await);
                }
                answers
            })
        })
        .collect();
    // One leaves at once: its call does not stay in flight.
    let leaver = tokio::spawn({
        let shared = Arc::clone(&shared);
        async move { ask(&shared).await }
    });
    tokio::task::yield_now().await;
    leaver.abort();

    let mut counts = vec![0_u32; vendors.len()];
    let mut unanswered = 0;
    for client in clients {
        for answer in client.await? {
            match answer {
                Some(index) => counts[index] += 1,
                None => unanswered += 1,
            }
        }
    }
    drop(leaver.await);

    let mut out = std::io::stdout();
    for (index, answered) in counts.iter().enumerate() {
        let seen = shared.router().snapshot(index, Instant::now());
        let (name, failures, state) = (&seen.deployment, seen.failures, seen.state);
        let in_flight = seen.in_flight;
        writeln!(
            out,
            "{name}: {answered} answers, {failures} failures, {in_flight} in flight, {state}"
        )?;
    }
    writeln!(out, "{unanswered} of 200 requests went unanswered")?;
    Ok(())
}
