//! Usage records on their way to the database: files to which each record is appended before the last byte of its
//! answer leaves, so that neither a killed process nor a database that is away loses one.
//!
//! A record is a line of JSON and one `write`: the kernel has it when the call returns, however the process ends. Records
//! are handed on in order, from memory where they are still there, and a file is removed, or emptied, once the database has
//! all of it. Handing one on twice does no harm: the database knows a record by its id.

mod line;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use llmux_auth::tenants::{UnixMillis, UsageRecord};
use tokio::sync::Notify;

use crate::config;

/// The bytes from which on a new file is begun.
const SEGMENT: u64 = 16 << 20;
/// The most bytes that are read at once.
const READ: u64 = 512 << 10;
/// The most records that are kept in memory for the reader; later ones it reads from the files.
const FRESH: usize = 10_000;
/// The most records that are handed on at once.
const TAKE: usize = 500;
/// The most bytes of records that are kept in memory while the disk takes none.
const MEMORY: usize = 16 << 20;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    limits: config::Spool,
    /// The bytes from which on a new file is begun.
    segment: u64,
    tail: Mutex<Tail>,
    /// Bytes that the database does not have yet.
    backlog: AtomicU64,
    /// The end of the first call that the database does not know of yet, or of one before it, in Unix milliseconds.
    waiting_since: AtomicI64,
    /// Records that were given up, because the spool was full.
    dropped: AtomicU64,
    /// The disk took no record at the last try.
    is_failing: AtomicBool,
    pub(crate) appended: Notify,
}

/// The file that is written to.
#[derive(Debug)]
struct Tail {
    number: u64,
    file: File,
    length: u64,
    /// Lines that the disk did not take.
    kept: Vec<u8>,
    /// Records of the files that were not handed on yet, in their order, perhaps with gaps.
    fresh: VecDeque<Fresh>,
}

/// A record, and where it stands.
#[derive(Debug)]
struct Fresh {
    number: u64,
    offset: u64,
    length: usize,
    record: UsageRecord,
}

impl Spool {
    /// Opens the spool in `folder`, and makes the folder if it is not there.
    pub(crate) fn open(folder: &Path, limits: config::Spool) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let old = numbers(folder)?;
        let mut backlog = 0;
        for &number in &old {
            backlog += fs::metadata(path(folder, number))?.len();
        }
        let number = old.last().map_or(0, |last| last + 1);
        let file = create(folder, number)?;
        Ok(Self {
            folder: folder.to_owned(),
            limits,
            segment: SEGMENT,
            tail: Mutex::new(Tail {
                number,
                file,
                length: 0,
                kept: Vec::new(),
                fresh: VecDeque::new(),
            }),
            backlog: AtomicU64::new(backlog),
            waiting_since: AtomicI64::new(0),
            dropped: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            appended: Notify::new(),
        })
    }

    /// Appends a record. What happens to one that finds no place is said by the configuration: dropped, and counted; or
    /// kept in memory, while [`Spool::refuses`] keeps further requests away.
    ///
    /// # Errors
    /// Returns a record that was dropped.
    pub(crate) fn append(&self, record: UsageRecord) -> Result<(), Box<UsageRecord>> {
        let mut line = Vec::with_capacity(512);
        if line::write(&record, &mut line).is_err() {
            tracing::error!(id = record.id, "a usage record cannot be written as JSON");
            return Err(Box::new(record));
        }
        let mut tail = self.tail();
        let full = self.backlog() + line.len() as u64 > self.limits.max_bytes;
        if full && !self.limits.reject_when_full {
            self.drop_one(&record.id);
            return Err(Box::new(record));
        }
        if self.backlog.fetch_add(line.len() as u64, Ordering::Relaxed) == 0 {
            self.waiting_since.store(record.end_time.0, Ordering::Relaxed);
        }
        let is_next = tail.kept.is_empty();
        tail.kept.extend_from_slice(&line);
        if let Err(error) = self.write_kept(&mut tail) {
            if !self.is_failing.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, folder = %self.folder.display(), "usage records cannot be written");
            }
            if tail.kept.len() > MEMORY {
                let length = tail.kept.len() - line.len();
                tail.kept.truncate(length);
                self.wait_less(line.len() as u64);
                self.drop_one(&record.id);
                return Err(Box::new(record));
            }
        } else if is_next && tail.fresh.len() < FRESH {
            let offset = tail.length - line.len() as u64;
            let fresh = Fresh { number: tail.number, offset, length: line.len(), record };
            tail.fresh.push_back(fresh);
        }
        drop(tail);
        self.appended.notify_one();
        Ok(())
    }

    /// Tries again to write what the disk did not take.
    pub(crate) fn retry(&self) {
        let mut tail = self.tail();
        if !tail.kept.is_empty() && self.write_kept(&mut tail).is_ok() {
            tracing::info!("usage records can be written again");
        }
    }

    fn write_kept(&self, tail: &mut Tail) -> io::Result<()> {
        if tail.length >= self.segment {
            let number = tail.number + 1;
            tail.file = create(&self.folder, number)?;
            (tail.number, tail.length) = (number, 0);
        }
        let kept = std::mem::take(&mut tail.kept);
        if let Err(error) = tail.file.write_all(&kept) {
            // Half a line must not stand before the next one.
            if tail.file.set_len(tail.length).is_err() {
                tail.length = self.segment;
            }
            tail.kept = kept;
            return Err(error);
        }
        tail.length += kept.len() as u64;
        self.is_failing.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn drop_one(&self, id: &str) {
        if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(id, "the spool is full: usage records are dropped");
        }
    }

    /// Tells whether no request may be admitted, since what it uses could not be recorded.
    pub(crate) fn refuses(&self) -> bool {
        self.limits.reject_when_full
            && (self.backlog() >= self.limits.max_bytes || self.is_failing.load(Ordering::Relaxed))
    }

    /// Returns the bytes that the database does not have yet.
    pub(crate) fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// So many bytes wait no more. After a failure of the disk it may be known of fewer.
    fn wait_less(&self, bytes: u64) {
        let less = |backlog: u64| Some(backlog.saturating_sub(bytes));
        let _ = self.backlog.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Takes note that the database has all records up to one that was made at `time`.
    pub(crate) fn note_recorded(&self, time: UnixMillis) {
        self.waiting_since.fetch_max(time.0, Ordering::Relaxed);
    }

    /// Returns the age of the oldest record that the database does not have yet; 0 if it has all.
    pub(crate) fn lag(&self, now: UnixMillis) -> Duration {
        let since = self.waiting_since.load(Ordering::Relaxed);
        let millis = u64::try_from(now.0.saturating_sub(since)).unwrap_or(0);
        if self.backlog() == 0 { Duration::ZERO } else { Duration::from_millis(millis) }
    }

    /// Returns how many records were given up.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Puts aside what the database will never take, so that a person can look at it.
    pub(crate) fn put_aside(&self, line: &[u8]) -> io::Result<()> {
        let file = self.folder.join("rejected.jsonl");
        let mut file = File::options().create(true).append(true).mode(0o600).open(file)?;
        file.write_all(line)?;
        file.write_all(b"\n")?;
        file.sync_data()
    }

    /// Asks the disk to keep what was written: worth its while only when the database is away for long.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let file = self.tail().file.try_clone()?;
        file.sync_data()
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the spool in order. There is one reader.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    number: u64,
    offset: u64,
}

impl Reader {
    /// Returns the next records, and the bytes that they take in the spool; none and 0 if all were read. A line that is
    /// no record is put aside.
    pub(crate) fn read(&mut self, spool: &Spool) -> io::Result<(Vec<UsageRecord>, usize)> {
        if let Some(taken) = self.take(spool) {
            return Ok(taken);
        }
        let lines = self.lines(spool)?;
        let (mut records, mut length) = (Vec::new(), 0);
        for line in lines.split_inclusive(|&byte| byte == b'\n').take(TAKE) {
            length += line.len();
            match line::read(line) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::error!(%error, "a line of the spool is no usage record: it is put aside");
                    spool.put_aside(line.trim_ascii())?;
                }
            }
        }
        Ok((records, length))
    }

    /// Takes the next records out of the memory, if they are there.
    fn take(&self, spool: &Spool) -> Option<(Vec<UsageRecord>, usize)> {
        let mut tail = spool.tail();
        // What was read from the files meanwhile.
        while tail
            .fresh
            .front()
            .is_some_and(|it| (it.number, it.offset) < (self.number, self.offset))
        {
            tail.fresh.pop_front();
        }
        let (mut records, mut length) = (Vec::new(), 0);
        while records.len() < TAKE {
            let place = (self.number, self.offset + length as u64);
            let next = tail.fresh.pop_front_if(|it| (it.number, it.offset) == place);
            let Some(next) = next else { break };
            length += next.length;
            records.push(next.record);
        }
        (!records.is_empty()).then_some((records, length))
    }

    /// Returns the next whole lines of the files; none if all were read.
    fn lines(&mut self, spool: &Spool) -> io::Result<Vec<u8>> {
        loop {
            let Some(&number) = numbers(&spool.folder)?.first() else { return Ok(Vec::new()) };
            if number != self.number {
                (self.number, self.offset) = (number, 0);
            }
            // Asked before the reading: what is not the tail by now is not written to any more.
            let is_tail = spool.tail().number == number;
            let mut file = File::open(path(&spool.folder, number))?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut lines = Vec::new();
            file.take(READ).read_to_end(&mut lines)?;
            // The last line of a process that was killed may be a part of one: nobody got its answer.
            let whole = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let rest = lines.len() - whole;
            lines.truncate(whole);
            if !lines.is_empty() {
                return Ok(lines);
            }
            if is_tail {
                let mut tail = spool.tail();
                if tail.number != number {
                    continue;
                }
                if tail.length == self.offset && tail.length > 0 {
                    tail.file.set_len(0)?;
                    (tail.length, self.offset) = (0, 0);
                    tail.fresh.clear();
                }
                return Ok(lines);
            }
            fs::remove_file(path(&spool.folder, number))?;
            spool.wait_less(rest as u64);
        }
    }

    /// Goes on behind lines that were read, since the database has them.
    pub(crate) fn advance(&mut self, spool: &Spool, length: usize) {
        self.offset += length as u64;
        spool.wait_less(length as u64);
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.jsonl"))
}

fn create(folder: &Path, number: u64) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path(folder, number))
}

/// Returns the numbers of the spool's files in their order.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("llmux-spool-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const LIMITS: config::Spool = config::Spool { max_bytes: 1 << 30, reject_when_full: true };

    fn record(number: u64) -> UsageRecord {
        serde_json::from_value(serde_json::json!({
            "id": number.to_string(), "request_id": "r", "start_time": "2026-01-01T00:00:00Z",
            "end_time": "2026-01-01T00:00:00Z", "model": "m", "call_type": "chat_completion", "attempt": 1,
            "status": "success", "cache_hit": false, "stream": false, "prompt_tokens": 0, "completion_tokens": 0,
            "total_tokens": 0, "cached_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0, "spend": 0
        }))
        .expect("a record")
    }

    fn ids(records: &[UsageRecord]) -> Vec<u64> {
        records.iter().map(|record| record.id.parse().expect("a number")).collect()
    }

    #[test]
    fn each_record_is_read_once_while_files_are_begun_and_ended() {
        let folder = Folder::new("rotation");
        let mut spool = Spool::open(&folder.0, LIMITS).expect("a folder");
        spool.segment = 16 << 10;
        let spool = Arc::new(spool);
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let spool = Arc::clone(&spool);
                std::thread::spawn(move || {
                    for number in 0..3_000 {
                        spool.append(record(number * 2 + writer)).expect("room");
                    }
                })
            })
            .collect();
        let (mut reader, mut read) = (Reader::default(), Vec::new());
        loop {
            let is_over = writers.iter().all(std::thread::JoinHandle::is_finished);
            let (records, length) = reader.read(&spool).expect("readable");
            if length == 0 && is_over {
                break;
            }
            read.extend(ids(&records));
            reader.advance(&spool, length);
        }
        read.sort_unstable();
        assert_eq!(read, (0..6_000).collect::<Vec<_>>());
        assert_eq!(spool.backlog(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_read_without_its_half_line() {
        let folder = Folder::new("left");
        let spool = Spool::open(&folder.0, LIMITS).expect("a folder");
        spool.append(record(1)).expect("room");
        spool.tail().file.write_all(b"{\"id\": \"2\"").expect("room");
        drop(spool);
        let spool = Spool::open(&folder.0, LIMITS).expect("a folder");
        spool.append(record(3)).expect("room");
        let (mut reader, mut read) = (Reader::default(), Vec::new());
        loop {
            let (records, length) = reader.read(&spool).expect("readable");
            if length == 0 {
                break;
            }
            read.extend(ids(&records));
            reader.advance(&spool, length);
        }
        assert_eq!((read, spool.backlog()), (vec![1, 3], 0));
    }

    #[test]
    fn a_full_spool_refuses_requests_or_drops_records() {
        let folder = Folder::new("full");
        let limits = config::Spool { max_bytes: 10, ..LIMITS };
        let spool = Spool::open(&folder.0, limits).expect("a folder");
        assert!(!spool.refuses());
        // What was admitted is written down all the same.
        spool.append(record(1)).expect("room");
        assert!(spool.refuses() && spool.dropped() == 0);
        let folder = Folder::new("dropping");
        let limits = config::Spool { reject_when_full: false, ..limits };
        let spool = Spool::open(&folder.0, limits).expect("a folder");
        assert!(spool.append(record(1)).is_err());
        assert!(!spool.refuses() && spool.dropped() == 1 && spool.backlog() == 0);
    }
}
