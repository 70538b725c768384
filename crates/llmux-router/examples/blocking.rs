//! A service without a runtime: a blocking HTTP client, two vendors of which one fails, and the router between them.
//!
//! `cargo run -p llmux-router --example blocking`. The vendors run inside of the example and nothing leaves the machine.
#![expect(clippy::disallowed_methods, reason = "a program has a clock, waits and draws lots")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use llmux_router::{
    Builtin, Config, Deployment, Failure, FailureClass, Measured, NoRoute, Outcome, Request,
    RetryPolicy, Router, Step,
};

/// A client of one model that two vendors serve.
struct Client {
    router: Router,
    policy: RetryPolicy,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Client {
    fn ask(&mut self, question: &str, out: &mut impl io::Write) -> io::Result<Option<String>> {
        let mut tried = Vec::new();
        // A rough guess is enough: the vendor's usage corrects it.
        let input_tokens = question.len() as u64 / 4;
        for attempt in 1.. {
            let request = Request {
                tried: &tried,
                input_tokens,
                max_output_tokens: Some(50),
                random: random(),
                ..Request::default()
            };
            let started = Instant::now();
            let pick = match self.router.pick(&request, started) {
                Ok(pick) => pick,
                Err(NoRoute::Limited { retry_after: Some(wait) }) => {
                    writeln!(out, "  all limits are used up for {wait:?}")?;
                    return Ok(None);
                }
                Err(refused) => {
                    writeln!(out, "  {refused}")?;
                    return Ok(None);
                }
            };
            let index = pick.index();
            let name = self.router.deployment(index).id().to_owned();
            write!(out, "  {name} ({}): ", pick.why())?;

            let failure = match post(self.addresses[&name], question) {
                Ok((answer, tokens)) => {
                    writeln!(out, "{answer}")?;
                    let measured = Measured {
                        first_output: None,
                        duration: started.elapsed(),
                        output_tokens: Some(tokens),
                        total_tokens: Some(input_tokens + tokens),
                    };
                    self.router.record(pick, Outcome::Success(measured), Instant::now());
                    return Ok(Some(answer));
                }
                Err(failure) => failure,
            };
            writeln!(out, "{}", failure.class.as_str())?;
            let now = Instant::now();
            self.router.record(pick, Outcome::Failure(failure), now);
            tried.push(index);
            let request = Request { tried: &tried, ..Request::default() };
            let left = self.router.left(&request, now);
            match self.policy.after(&failure, attempt, left, random()) {
                Step::Elsewhere => {}
                Step::Again { delay } => thread::sleep(delay),
                Step::NextModel | Step::GiveUp => break,
            }
        }
        Ok(None)
    }
}

/// Asks one vendor; returns the answer and its tokens.
fn post(address: SocketAddr, question: &str) -> Result<(String, u64), Failure> {
    let failed = |class| Failure { class, retry_after: None };
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .map_err(|_| failed(FailureClass::Connect))?;
    let length = question.len();
    let mut answer = String::new();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .and_then(|()| {
            write!(socket, "POST / HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{question}")?;
            socket.read_to_string(&mut answer)
        })
        .map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => failed(FailureClass::Timeout),
            _ => failed(FailureClass::Malformed),
        })?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(failed(FailureClass::Malformed))?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).and_then(|(_, value)| value.parse::<u64>().ok())
    };
    let retry_after = header("retry-after").map(Duration::from_secs);
    match head.split(' ').nth(1) {
        Some("200") => Ok((body.to_owned(), body.len() as u64 / 4)),
        Some("429") => Err(Failure { class: FailureClass::RateLimited, retry_after }),
        Some("503") => Err(Failure { class: FailureClass::Overloaded, retry_after }),
        Some(status) if status.starts_with('5') => Err(failed(FailureClass::Server)),
        Some("401") => Err(failed(FailureClass::Credential)),
        Some(_) => Err(failed(FailureClass::Request)),
        None => Err(failed(FailureClass::Malformed)),
    }
}

/// Starts a vendor that gives everybody the same answer.
fn vendor(answer: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // A client that leaves early is its own affair.
            drop(serve(socket, answer));
        }
    });
    Ok(address)
}

fn serve(mut socket: TcpStream, answer: &str) -> io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    io::copy(&mut reader.take(length), &mut io::sink())?;
    write!(socket, "HTTP/1.0 {answer}")
}

/// Draws a number. A real service would take one from its generator.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let addresses = BTreeMap::from([
        ("shaky/model".to_owned(), vendor("503 Service Unavailable\r\n\r\noverloaded")?),
        ("solid/model".to_owned(), vendor("200 OK\r\n\r\nIt is warmer in Paris.")?),
    ]);
    let config = Config { strategy: Builtin::RoundRobin, ..Config::default() };
    let router = Router::new(config, addresses.keys().map(Deployment::new));
    let policy = RetryPolicy {
        count: 3,
        backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        jitter: 0.2,
        fallback: true,
    };
    let mut client = Client { router, policy, addresses };
    let mut answered = 0;
    for number in 1..=8 {
        writeln!(out, "question {number}")?;
        let answer = client.ask("Where is it warmer, in Paris or in Oslo?", &mut out)?;
        answered += usize::from(answer.is_some());
    }
    writeln!(out, "{answered} of 8 questions were answered")?;
    for index in 0..2 {
        let seen = client.router.snapshot(index, Instant::now());
        let name = &seen.deployment;
        writeln!(out, "{name}: {}, {} of {} calls failed", seen.state, seen.failures, seen.calls)?;
    }
    Ok(())
}
