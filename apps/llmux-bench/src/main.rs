//! The load generator of the benchmarks: sends one request over and over to a gateway on loopback, checks each answer,
//! and prints what it measured as one line of JSON.
//!
//! One thread, raw sockets and a parser that keeps nothing, so that its CPU does not limit what is measured.

mod connection;
mod load;
mod pace;
mod reply;
mod request;
mod stats;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use load::{Limit, Load};
use request::Request;

/// Measures a gateway; the answer is a line of JSON.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Each connection sends its next request as soon as the last one is answered.
    Closed {
        #[command(flatten)]
        target: Target,
        /// Connections, each with one request at a time.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        connections: u32,
        /// Requests in all; without it --seconds is the limit.
        #[arg(long, conflicts_with = "seconds")]
        requests: Option<u64>,
        /// How long new requests are sent.
        #[arg(long, default_value_t = 1.0, value_parser = seconds)]
        seconds: f64,
    },
    /// Requests are due at a fixed rate, whatever the answers do; latency counts from when a request was due.
    Open {
        #[command(flatten)]
        target: Target,
        /// The most connections; requests that find none free wait, and their wait counts.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
        connections: u32,
        /// Requests a second.
        #[arg(long, value_parser = rate)]
        rate: f64,
        /// How long requests are due.
        #[arg(long, default_value_t = 1.0, value_parser = seconds)]
        seconds: f64,
    },
    /// Opens streams, prints {"open":N} when each has had its first event, and keeps them until standard input ends.
    Hold {
        #[command(flatten)]
        target: Target,
        /// Streams.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        streams: u32,
    },
}

#[derive(Debug, Args)]
struct Target {
    /// Address of the gateway.
    #[arg(long)]
    target: SocketAddr,
    /// Path of the requests.
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// The model that is asked for.
    #[arg(long, default_value = "bench")]
    model: String,
    /// Ask for streams.
    #[arg(long)]
    stream: bool,
    /// Length of the request's body, in bytes.
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    /// A further request header, as `name: value`.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// Seconds after which whatever is not finished is given up.
    #[arg(long, default_value_t = 120.0, value_parser = seconds)]
    give_up: f64,
}

impl Target {
    fn load(&self, stream: bool) -> Rc<Load> {
        let request = Request {
            target: self.target,
            path: &self.path,
            model: &self.model,
            stream,
            body_bytes: self.body_bytes,
            headers: &self.headers,
        };
        let give_up = Duration::from_secs_f64(self.give_up);
        Rc::new(Load::new(self.target, request.bytes(), stream, give_up))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds up to a day is wanted".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number of requests a second from 0.01 to 10 million is wanted".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse().mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Without stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "llmux-bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(mode: &Mode) -> io::Result<()> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, async {
        match mode {
            Mode::Closed { target, connections, requests, seconds } => {
                let limit = match requests {
                    Some(requests) => Limit::Requests(*requests),
                    None => Limit::Time(Duration::from_secs_f64(*seconds)),
                };
                Ok(load::closed(target.load(target.stream), *connections, limit).await)
            }
            Mode::Open { target, connections, rate, seconds } => {
                let due = (rate * seconds).ceil() as u64;
                load::open(target.load(target.stream), *connections, *rate, due).await
            }
            Mode::Hold { target, streams } => load::hold(target.load(true), *streams).await,
        }
    })?;
    writeln!(io::stdout(), "{report}")
}

/// Each connection is a file. What the system does not allow shows when a connection cannot be opened.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
