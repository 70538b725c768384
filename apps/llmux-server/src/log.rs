//! The log: a thread of its own writes it, so that no request waits for whoever reads standard output.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use llmux_types::Secret;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{LogFormat, Logging};
use crate::redact::Redactor;

/// Lines that may wait for the writer. Over it lines are lost and counted: a stopped reader must not stop the gateway.
const QUEUE: usize = 16 * 1024;

/// The most bytes of lines that wait, but for the last one.
const WAITING: usize = 32 * 1024 * 1024;

/// How long the first line waits for others.
const LINGER: Duration = Duration::from_millis(5);

/// The most bytes of lines that are written at once.
const BUFFER: usize = 64 * 1024;

/// How long the end of the process waits for whoever reads the log.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// The module that requests are logged as.
const ACCESS: &str = "llmux_server::access";

/// Libraries that have much to say of what nobody wants to know, unless their level is set.
const QUIET: [&str; 4] = ["rustls", "h2", "hyper", "mio"];

type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;

/// What writes events.
type Output = Box<dyn Layer<Filtered> + Send + Sync>;

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where log lines go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    lines: Lines,
    state: Arc<State>,
}

struct State {
    is_text: AtomicBool,
    /// Whether requests are logged.
    access: AtomicBool,
    redactor: Arc<ArcSwap<Redactor>>,
    levels: reload::Handle<Targets, Registry>,
    output: reload::Handle<Output, Filtered>,
}

impl Log {
    /// Starts the writer and makes it the place of all `tracing` events.
    pub(crate) fn start(settings: &Logging) -> io::Result<Self> {
        let (log, subscriber) = Self::make(io::stdout())?;
        subscriber.init();
        log.apply(settings);
        Ok(log)
    }

    /// Makes a log that is silent until settings are applied, and what collects events for it.
    fn make(
        out: impl Write + Send + 'static,
    ) -> io::Result<(Self, impl Subscriber + Send + Sync + 'static)> {
        let (queue, messages) = sync_channel(QUEUE);
        let lines = Lines { queue, waiting: Arc::default(), lost: Arc::default() };
        let redactor = Arc::new(ArcSwap::from_pointee(Redactor::default()));
        let (waiting, lost) = (Arc::clone(&lines.waiting), Arc::clone(&lines.lost));
        let redacts = Arc::clone(&redactor);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&messages, out, (&waiting, &lost), &redacts))?;
        let (level_layer, levels) = reload::Layer::new(Targets::new());
        let (output_layer, output) = reload::Layer::new(output(&lines, LogFormat::Json));
        let subscriber = tracing_subscriber::registry().with(level_layer).with(output_layer);
        let (is_text, access) = (AtomicBool::new(false), AtomicBool::new(false));
        let state = Arc::new(State { is_text, access, redactor, levels, output });
        Ok((Self { lines, state }, subscriber))
    }

    /// Goes on with other settings. Lines that are on their way may still follow the old ones.
    pub(crate) fn apply(&self, settings: &Logging) {
        let state = &self.state;
        let is_text = settings.format == LogFormat::Text;
        if state.is_text.swap(is_text, Ordering::Relaxed) != is_text {
            // An error means that the subscriber is gone, and with it the log.
            let _ = state.output.reload(output(&self.lines, settings.format));
        }
        let targets = targets(&settings.level);
        let access = targets.would_enable(ACCESS, &tracing::Level::INFO);
        state.access.store(access, Ordering::Relaxed);
        let _ = state.levels.reload(targets);
    }

    /// Keeps these secrets out of all lines from now on, besides what looks like one anyway.
    pub(crate) fn hide(&self, secrets: impl IntoIterator<Item = Secret>) {
        self.state.redactor.store(Arc::new(Redactor::new(secrets)));
    }

    /// Tells whether requests are logged.
    pub(crate) fn access(&self) -> bool {
        self.state.access.load(Ordering::Relaxed)
    }

    pub(crate) fn format(&self) -> LogFormat {
        if self.state.is_text.load(Ordering::Relaxed) { LogFormat::Text } else { LogFormat::Json }
    }

    /// Returns what takes secrets out of texts, for those that are cut before they are lines.
    pub(crate) fn redactor(&self) -> Arc<Redactor> {
        self.state.redactor.load_full()
    }

    /// Queues one line, which ends with a line feed.
    pub(crate) fn line(&self, line: Vec<u8>) {
        self.lines.line(line);
    }

    /// Waits until all lines so far are written.
    pub(crate) fn flush(&self) {
        self.lines.flush();
    }
}

/// Reads levels, which the configuration has checked.
fn targets(levels: &str) -> Targets {
    let mut targets = Targets::new();
    for library in QUIET {
        targets = targets.with_target(library, LevelFilter::WARN);
    }
    for part in levels.split(',').map(str::trim) {
        let (module, level) = part.split_once('=').unwrap_or(("", part));
        let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
        targets = match module {
            "" => targets.with_default(level),
            module => targets.with_target(module, level),
        };
    }
    targets
}

fn output(lines: &Lines, format: LogFormat) -> Output {
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
    match format {
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => layer.with_ansi(false).boxed(),
    }
}

/// The way to the writer.
#[derive(Clone, Debug)]
struct Lines {
    queue: SyncSender<Message>,
    /// Bytes of lines that wait.
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn line(&self, line: Vec<u8>) {
        let length = line.len();
        let waits = self.waiting.fetch_add(length, Ordering::Relaxed);
        let is_lost = waits > WAITING
            || matches!(self.queue.try_send(Message::Line(line)), Err(TrySendError::Full(_)));
        if is_lost {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
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

fn write_all(
    messages: &Receiver<Message>,
    out: impl Write,
    (waiting, lost): (&AtomicUsize, &AtomicU64),
    redactor: &ArcSwap<Redactor>,
) {
    let mut out = io::BufWriter::with_capacity(BUFFER, out);
    while let Ok(first) = messages.recv() {
        // Under load there is one write, and one wakening, for many lines.
        if matches!(first, Message::Line(_)) {
            std::thread::sleep(LINGER);
        }
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                // A closed standard output is nobody to tell about. Secrets are looked for here, where no request waits.
                Message::Line(line) => {
                    waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    let _ = out.write_all(&redactor.load().redact(&line));
                }
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
    lines: Lines,
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
            self.lines.line(std::mem::take(&mut self.line));
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter { lines: self.clone(), line: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::Level;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn level_and_format_can_change_while_it_runs() {
        let kept = Kept::default();
        let (log, subscriber) = Log::make(kept.clone()).unwrap();
        let settings =
            |level: &str, format| Logging { level: level.into(), format, content: false };
        let say = |word: &str| {
            tracing::info!(word, "info");
            tracing::debug!(word, "debug");
            log.flush();
            String::from_utf8(std::mem::take(&mut *kept.0.lock().unwrap())).unwrap()
        };
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(say("silent"), "");
            log.apply(&settings("info", LogFormat::Json));
            let json = say("one");
            let line: serde_json::Value = serde_json::from_str(&json).expect(&json);
            assert_eq!((&line["message"], &line["word"]), (&"info".into(), &"one".into()));
            assert!(log.access() && log.format() == LogFormat::Json);

            log.apply(&settings("warn,llmux_server::log=debug", LogFormat::Text));
            let text = say("two");
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 2, "{text}");
            assert!(
                lines[1].contains("DEBUG") && lines[1].ends_with("debug word=\"two\""),
                "{text}"
            );
            assert!(!log.access() && log.format() == LogFormat::Text);

            log.apply(&settings("error", LogFormat::Json));
            assert_eq!(say("three"), "");
            log.hide([Secret::new("a-secret-word")]);
            log.apply(&settings("info", LogFormat::Json));
            let json = say("with a-secret-word");
            assert!(json.contains("with ***") && !json.contains("a-secret"), "{json}");
        });
    }

    #[test]
    fn levels_are_those_of_the_nearest_module() {
        let all = targets("info,llmux_server::proxy=debug,hyper=debug");
        for (module, level, shown) in [
            ("llmux_server", Level::INFO, true),
            ("llmux_server", Level::DEBUG, false),
            ("llmux_server::proxy", Level::DEBUG, true),
            ("llmux_server::proxy::admission", Level::DEBUG, true),
            ("llmux_server::proxy", Level::TRACE, false),
            ("hyper::client", Level::DEBUG, true),
            ("h2", Level::INFO, false),
            ("h2", Level::WARN, true),
        ] {
            assert_eq!(all.would_enable(module, &level), shown, "{module} {level}");
        }
        assert!(!targets("warn").would_enable(ACCESS, &Level::INFO));
        assert!(targets("warn,llmux_server::access=info").would_enable(ACCESS, &Level::INFO));
        assert!(!targets("llmux_server::proxy=debug").would_enable(ACCESS, &Level::INFO));
        assert!(!targets("off").would_enable("llmux_server", &Level::ERROR));
    }
}
