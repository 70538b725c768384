//! Many streams at once: this process is the client, the gateway and the vendor are processes of their own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore};

use crate::bytes::items;
use crate::client::{Request, Response};
use crate::harness::{Gateway, once};

const STREAMS: usize = 5000;
/// The slowest machine that we think of still does it in this time.
const LIMIT: Duration = Duration::from_secs(300);

/// The vendor's process.
struct Mock {
    child: Child,
    address: SocketAddr,
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Mock {
    /// Starts the mock vendor's binary, which lies beside the gateway's; builds it if a partial build left it out.
    fn start(arguments: &[&str]) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_llmux-server")).with_file_name("llmux-mock");
        if !binary.exists() {
            let built = Command::new(env!("CARGO"))
                .args(["build", "-p", "llmux-mock"])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status();
            assert!(
                built.is_ok_and(|status| status.success()) && binary.exists(),
                "{} can be built",
                binary.display()
            );
        }
        let mut command = Command::new(binary);
        command
            .args(arguments)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the mock starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let line = lines.next().expect("the mock says where it listens").expect("stdout is text");
        // The pipe must stay open and empty for as long as the mock runs.
        std::thread::spawn(move || lines.for_each(drop));
        let address = line
            .split("http://")
            .nth(1)
            .and_then(|url| url.trim().trim_end_matches('/').parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("no address in {line:?}")) }
    }
}

/// Raises this process's limit of open files, which its children inherit.
fn raise_file_limit() {
    let pid = std::process::id().to_string();
    for limit in ["1048576:1048576", "65536:", "20000:", "15000:"] {
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={limit}")])
            .stderr(Stdio::null())
            .status();
        if status.expect("prlimit (util-linux) is installed").success() {
            return;
        }
    }
    panic!(
        "two files a stream and some more must be allowed to the gateway: raise the hard limit of open files to 15000"
    );
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("Linux tells the resident size");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("the size is a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_streams_open_at_once_all_complete() {
    raise_file_limit();
    // A chunk each five seconds: the first stream must not end before the last has begun.
    let mock = Mock::start(&["--chunks", "6", "--gap", "5s", "--no-record"]);
    let provider = json!({"name": "mock", "type": "openai", "api_key": "k", "base_url": format!("http://{}/v1", mock.address), "models": ["m"]});
    let mut configuration = once(vec![provider]);
    configuration["logging"] = json!({"level": "warn"});
    let gateway = Arc::new(Gateway::start(configuration).await);
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true})
            .to_string();
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &[],
        body: body.as_bytes(),
    }
    .bytes(gateway.address);
    let request: Arc<[u8]> = request.into();
    let before = resident(gateway.pid());

    let connecting = Arc::new(Semaphore::new(200));
    let all_open = Arc::new(Barrier::new(STREAMS + 1));
    let ended_early = Arc::new(AtomicUsize::new(0));
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let (gateway, request) = (Arc::clone(&gateway), Arc::clone(&request));
        let (connecting, all_open, ended_early) =
            (Arc::clone(&connecting), Arc::clone(&all_open), Arc::clone(&ended_early));
        streams.push(tokio::spawn(async move {
            let permit = connecting.acquire().await.expect("the semaphore is not closed");
            let mut socket =
                TcpStream::connect(gateway.address).await.expect("the gateway accepts");
            tokio::io::AsyncWriteExt::write_all(&mut socket, &request)
                .await
                .expect("the gateway reads");
            drop(permit);
            let mut response = Response::read(socket).await;
            assert_eq!(response.status, 200);
            response.next_event().await.expect("a first event comes");
            all_open.wait().await;
            if items(&response.body).iter().any(crate::bytes::Item::is_done) {
                ended_early.fetch_add(1, Ordering::Relaxed);
            }
            let response = response.whole().await;
            let got = items(&response.body);
            assert_eq!(got.iter().filter(|item| item.is_done()).count(), 1, "{got:?}");
            assert!(got.iter().all(|item| item.json()["error"].is_null()), "{got:?}");
        }));
    }
    let run = async {
        all_open.wait().await;
        let during = resident(gateway.pid());
        for stream in streams {
            stream.await.expect("each stream completes without an error");
        }
        during
    };
    let during = tokio::time::timeout(LIMIT, run).await.expect("the streams end in time");
    let each = during.saturating_sub(before) as f64 / STREAMS as f64;
    writeln!(
        std::io::stdout(),
        "{STREAMS} streams at once: gateway at rest {before} KiB, with all open {during} KiB, {each:.1} KiB a stream (debug build)"
    )
    .expect("stdout is open");
    assert_eq!(ended_early.load(Ordering::Relaxed), 0, "all were open at the same time");
}
