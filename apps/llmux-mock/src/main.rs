//! The fake vendor as a program; see the README for faults and scripts.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use llmux_mock::{Mock, Options, duration, listen};
use tokio::signal::unix::{SignalKind, signal};

/// A fast, scriptable fake LLM vendor.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0 takes any free one.
    #[arg(long, default_value_t = 8090)]
    port: u16,
    /// Wait before each answer, such as 50ms.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    latency: Duration,
    /// Content chunks of a stream; 0 means one for each word.
    #[arg(long, default_value_t = 0)]
    chunks: usize,
    /// Wait between two events of a stream; 0 sends them all at once.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    gap: Duration,
    /// Text of the answers.
    #[arg(long)]
    text: Option<String>,
    /// Threads, each with its own listening socket.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Keep no received requests.
    #[arg(long)]
    no_record: bool,
    /// Fixed answers at the least cost, for benchmarks: no faults, scripts, control routes or record.
    #[arg(long, conflicts_with = "script")]
    plain: bool,
    /// JSON file with replies to give in order.
    #[arg(long)]
    script: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Without stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "llmux-mock: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let mut options = Options::default();
    options.addr = SocketAddr::new(arguments.host, arguments.port);
    options.latency = arguments.latency;
    options.chunks = arguments.chunks;
    options.chunk_gap = arguments.gap;
    options.text = arguments.text.unwrap_or(options.text);
    options.record = !arguments.no_record;
    options.reuse_port = arguments.workers > 1;
    options.plain = arguments.plain;
    let script = match &arguments.script {
        Some(file) => Some(
            std::fs::read(file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))?,
        ),
        None => None,
    };
    let runtime = runtime().map_err(|error| format!("cannot start: {error}"))?;
    let addr = options.addr;
    let mock = runtime
        .block_on(Mock::start(options))
        .map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    if let Some(script) = script {
        mock.script_json(&script).map_err(|problem| format!("script: {problem}"))?;
    }
    let mock = Arc::new(mock);
    for _ in 1..arguments.workers {
        spawn_worker(Arc::clone(&mock))
            .map_err(|error| format!("cannot start a worker: {error}"))?;
    }
    let stopped = {
        // Before anybody is told that there is something to stop.
        let _inside = runtime.enter();
        stopped().map_err(|error| format!("cannot listen for signals: {error}"))?
    };
    let mut out = io::stdout();
    // A closed stdout is no reason not to serve.
    let _ = writeln!(out, "listening on {}", mock.url()).and_then(|()| out.flush());
    runtime.block_on(stopped);
    Ok(())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Starts a thread that serves until the process ends.
fn spawn_worker(mock: Arc<Mock>) -> io::Result<()> {
    let runtime = runtime()?;
    let listener = {
        let _inside = runtime.enter();
        listen(mock.addr(), true)?
    };
    std::thread::Builder::new().name("mock-worker".to_owned()).spawn(move || {
        runtime.block_on(async {
            mock.attach(listener);
            std::future::pending::<()>().await;
        });
    })?;
    Ok(())
}

/// Returns a future that ends at SIGTERM or SIGINT.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
