//! The log: a thread of its own writes it, so that no request waits for whoever reads standard output.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, Logging};

/// Lines that may wait for the writer. Over it lines are lost and counted: a stopped reader must not stop the gateway.
const QUEUE: usize = 16 * 1024;

/// How long the first line waits for others.
const LINGER: Duration = Duration::from_millis(5);

/// The most bytes of lines that are written at once.
const BUFFER: usize = 64 * 1024;

/// How long the end of the process waits for whoever reads the log.
const FLUSH_TIME: Duration = Duration::from_secs(2);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where log lines go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    pub(crate) format: LogFormat,
    /// Whether requests are logged.
    pub(crate) access: bool,
}

impl Log {
    /// Starts the writer and makes it the place of all `tracing` events.
    pub(crate) fn start(settings: &Logging) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&messages, &counter))?;
        let access = matches!(settings.level.as_str(), "info" | "debug" | "trace");
        let log = Self { queue, lost, format: settings.format, access };
        let filter = tracing_subscriber::EnvFilter::new(format!(
            "{},rustls=warn,h2=warn,hyper=warn,mio=warn",
            settings.level
        ));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone());
        match settings.format {
            LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
            LogFormat::Text => builder.with_ansi(false).init(),
        }
        Ok(log)
    }

    /// Queues one line, which ends with a line feed.
    pub(crate) fn line(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Line(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines so far are written.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIME;
        let (done, wait) = sync_channel(1);
        // The queue may be full, and nobody may be reading: then the lines are lost.
        while let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Flush(done.clone())) {
            if Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(messages: &Receiver<Message>, lost: &AtomicU64) {
    let mut out = io::BufWriter::with_capacity(BUFFER, io::stdout());
    while let Ok(first) = messages.recv() {
        // Under load there is one write, and one wakening, for many lines.
        if matches!(first, Message::Line(_)) {
            std::thread::sleep(LINGER);
        }
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                // A closed standard output is nobody to tell about.
                Message::Line(line) => drop(out.write_all(&line)),
                Message::Flush(done) => {
                    let _ = out.flush();
                    let _ = done.send(());
                }
            }
            next = messages.try_recv().ok();
        }
        let _ = out.flush();
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "log lines were lost: nobody reads standard output fast enough");
        }
    }
}

/// Collects one event of `tracing`.
#[derive(Debug)]
pub(crate) struct LineWriter {
    log: Log,
    line: Vec<u8>,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.log.line(std::mem::take(&mut self.line));
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter { log: self.clone(), line: Vec::new() }
    }
}
