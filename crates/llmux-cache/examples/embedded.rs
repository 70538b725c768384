//! A cache without a gateway: several threads ask the same question, one vendor's call answers all, and a streaming
//! client gets the kept answer as a stream.
//!
//! Run it with `cargo run -p llmux-cache --example embedded`.
#![expect(clippy::disallowed_methods, reason = "a program may read the clock")]

use std::error::Error;
use std::future::Future;
use std::io::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::SystemTime;

use bytes::Bytes;
use llmux_cache::{
    Asker, CacheKey, Entry, Flights, Form, Joined, Kind, Local, LocalConfig, Outcome, Question,
    Reader, Scope,
};

const HOUR_MS: u64 = 3_600_000;

/// What all threads share.
struct Cached {
    namespace: Arc<str>,
    kept: Local,
    under_way: Flights<Reader>,
    calls: AtomicU32,
}

impl Cached {
    /// Answers from the cache, from somebody else's call, or by a call.
    fn ask(&self, key_id: &str, body: &str) -> Result<Arc<Entry>, Box<dyn Error + Send + Sync>> {
        let question = Question {
            scope: Scope::Team,
            asker: Asker { key: Some(key_id), team: Some("research"), organization: None },
            route: "/v1/chat/completions",
            model: "gpt-4o",
            tags: &[],
            body: body.as_bytes(),
        };
        let key =
            CacheKey::derive(&self.namespace, &question).ok_or("the body is no JSON object")?;
        // Join first, then look: whoever leads after another leader finds that one's answer.
        let leader = match self.under_way.join(&key) {
            Joined::Leader(leader) => leader,
            Joined::Follower(follower) => match block_on(follower) {
                Outcome::Answer(entry) => return Ok(entry),
                Outcome::Lead(leader) => leader,
                Outcome::Coming(_) | Outcome::Alone => return self.call(),
            },
        };
        if let Some(entry) = self.kept.find(&key, now_ms()) {
            leader.finish(Arc::clone(&entry));
            return Ok(entry);
        }
        let entry = self.call()?;
        self.kept.keep(&key, Arc::clone(&entry), now_ms());
        leader.finish(Arc::clone(&entry));
        Ok(entry)
    }

    /// Where the vendor would be asked.
    fn call(&self) -> Result<Arc<Entry>, Box<dyn Error + Send + Sync>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = br#"{"id":"c1","object":"chat.completion","created":1795348800,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"Paris."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;
        let entry = Entry::whole(
            Kind::Chat,
            Bytes::from_static(answer),
            "application/json",
            None,
            now_ms(),
            HOUR_MS,
        )?;
        Ok(Arc::new(entry))
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut out = std::io::stdout();
    let cached = Cached {
        namespace: "example".into(),
        kept: Local::new(LocalConfig::default()),
        under_way: Flights::new(),
        calls: AtomicU32::new(0),
    };
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Capital of France?"}]}"#;
    thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|number| {
                let cached = &cached;
                scope.spawn(move || cached.ask(&format!("key-{number}"), body))
            })
            .collect();
        asking.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| "a thread panicked")??;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        })
    })?;
    writeln!(
        out,
        "8 threads asked, the vendor answered {} time(s)",
        cached.calls.load(Ordering::Relaxed)
    )?;
    // The same question, streamed and spelled otherwise.
    let streamed = r#"{"stream":true,"messages":[{"content":"Capital of France?","role":"user"}],"model":"gpt-4o"}"#;
    let entry = cached.ask("key-0", streamed)?;
    let stream = entry.body(Form::Stream { include_usage: false });
    write!(out, "{}", String::from_utf8_lossy(&stream))?;
    writeln!(out, "{} call(s) in all", cached.calls.load(Ordering::Relaxed))?;
    Ok(())
}

fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for a future with nothing but a thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
