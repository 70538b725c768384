//! Reads a response as its bytes arrive, keeps none of them, and tells whether it is whole.

use std::fmt;

/// Longest response head.
const HEAD: usize = 64 << 10;
/// As much of a line's beginning as it takes to tell what the line is.
const LINE: usize = 20;

/// Why a response is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not the status 200.
    Status(u16),
    /// Not HTTP/1.1 as we know it.
    Malformed(&'static str),
    /// The connection ended before the response did.
    CutOff,
    /// A stream that told an error.
    ErrorEvent,
    /// A stream whose last event is not `[DONE]`.
    NotDone,
    /// A body that is no JSON object.
    NotJson,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Malformed(what) => write!(f, "malformed response: {what}"),
            Self::CutOff => f.write_str("the connection ended before the response"),
            Self::ErrorEvent => f.write_str("an error in the stream"),
            Self::NotDone => f.write_str("a stream without [DONE]"),
            Self::NotJson => f.write_str("a body that is no JSON object"),
        }
    }
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// After as many bytes.
    Length(u64),
    Chunked,
    UntilClose,
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// In the line that tells a size.
    Size(u64),
    /// Behind the digits of that line.
    Extension(u64),
    /// In the data; so many bytes of it are to come.
    Data(u64),
    /// In the line end behind the data.
    DataEnd,
    /// In the trailer; whether its current line has any bytes so far.
    Trailer(bool),
}

/// One response being read.
#[derive(Debug)]
pub(crate) struct Reply {
    stream: bool,
    /// The head's bytes so far, for one that comes in pieces.
    head: Vec<u8>,
    framing: Option<Framing>,
    chunk: Chunk,
    status: u16,
    closes: bool,
    bytes: u64,
    first_byte: u8,
    last_byte: u8,
    line: [u8; LINE],
    line_length: usize,
    events: u64,
    done: bool,
    failed: bool,
}

/// What a whole response was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Bytes of the body.
    pub(crate) bytes: u64,
    /// Events of a stream, without `[DONE]`.
    pub(crate) events: u64,
    /// Whether the server wants the connection closed.
    pub(crate) closes: bool,
}

impl Reply {
    pub(crate) fn new(stream: bool) -> Self {
        Self {
            stream,
            head: Vec::new(),
            framing: None,
            chunk: Chunk::Size(0),
            status: 0,
            closes: false,
            bytes: 0,
            first_byte: 0,
            last_byte: 0,
            line: [0; LINE],
            line_length: 0,
            events: 0,
            done: false,
            failed: false,
        }
    }

    /// Returns the number of a stream's events so far, without `[DONE]`.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Takes the next bytes. Returns the summary once the response is whole; nothing may follow it.
    ///
    /// # Errors
    /// As soon as the response cannot become a good one, or when it is whole and no good one.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Summary>, Fault> {
        let mut rest = bytes;
        if self.framing.is_none() {
            rest = match self.take_head(bytes)? {
                Some(rest) => rest,
                None => return Ok(None),
            };
        }
        match self.framing {
            None => Ok(None),
            Some(Framing::UntilClose) => {
                self.take_body(rest);
                Ok(None)
            }
            Some(Framing::Length(left)) => {
                let Some(left) = left.checked_sub(rest.len() as u64) else {
                    return Err(Fault::Malformed("bytes after the body"));
                };
                self.take_body(rest);
                self.framing = Some(Framing::Length(left));
                if left == 0 { self.whole().map(Some) } else { Ok(None) }
            }
            Some(Framing::Chunked) => {
                if self.take_chunks(rest)? {
                    self.whole().map(Some)
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Takes the end of the connection, which some bodies end with.
    ///
    /// # Errors
    /// If the response is not whole, or no good one.
    pub(crate) fn end(&mut self) -> Result<Summary, Fault> {
        if self.framing == Some(Framing::UntilClose) { self.whole() } else { Err(Fault::CutOff) }
    }

    fn whole(&self) -> Result<Summary, Fault> {
        if self.status != 200 {
            return Err(Fault::Status(self.status));
        }
        if self.stream {
            if self.failed {
                return Err(Fault::ErrorEvent);
            }
            if !self.done {
                return Err(Fault::NotDone);
            }
        } else if (self.first_byte, self.last_byte) != (b'{', b'}') {
            return Err(Fault::NotJson);
        }
        Ok(Summary { bytes: self.bytes, events: self.events, closes: self.closes })
    }

    /// Reads the head; returns the bytes behind it once it is whole.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        const END: &[u8] = b"\r\n\r\n";
        if self.head.is_empty()
            && let Some(end) = memchr::memmem::find(bytes, END)
        {
            self.read_head(&bytes[..end])?;
            return Ok(Some(&bytes[end + END.len()..]));
        }
        let searched = self.head.len().saturating_sub(END.len() - 1);
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        match memchr::memmem::find(&self.head[searched..], END) {
            Some(at) => {
                let end = searched + at;
                let head = std::mem::take(&mut self.head);
                self.read_head(&head[..end])?;
                Ok(Some(&bytes[end + END.len() - before..]))
            }
            None if self.head.len() > HEAD => Err(Fault::Malformed("a head without end")),
            None => Ok(None),
        }
    }

    fn read_head(&mut self, head: &[u8]) -> Result<(), Fault> {
        let mut lines = head.split(|&byte| byte == b'\n');
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix(b"HTTP/1.1 "))
            .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok());
        self.status = status.ok_or(Fault::Malformed("no status line"))?;
        self.framing = Some(Framing::UntilClose);
        for line in lines {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            // Most names are told apart by their length.
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    let length = length.ok_or(Fault::Malformed("content-length"))?;
                    self.framing = Some(Framing::Length(length));
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    self.framing = Some(Framing::Chunked);
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    self.closes = value.eq_ignore_ascii_case(b"close");
                }
                _ => {}
            }
        }
        self.closes |= self.framing == Some(Framing::UntilClose);
        Ok(())
    }

    /// Reads chunk frames; true at the end of the body.
    fn take_chunks(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let mut used = 1;
            self.chunk = match self.chunk {
                Chunk::Size(size) => match (byte, char::from(byte).to_digit(16)) {
                    (_, Some(digit)) if size < 1 << 32 => Chunk::Size(size * 16 + u64::from(digit)),
                    (b'\n', _) => Chunk::after_size(size),
                    (b'\r' | b';' | b' ', _) => Chunk::Extension(size),
                    _ => return Err(Fault::Malformed("a chunk's size")),
                },
                Chunk::Extension(size) if byte == b'\n' => Chunk::after_size(size),
                Chunk::Extension(size) => Chunk::Extension(size),
                Chunk::Data(left) => {
                    used = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.take_body(&rest[..used]);
                    match left - used as u64 {
                        0 => Chunk::DataEnd,
                        left => Chunk::Data(left),
                    }
                }
                Chunk::DataEnd => match byte {
                    b'\r' => Chunk::DataEnd,
                    b'\n' => Chunk::Size(0),
                    _ => return Err(Fault::Malformed("a chunk's end")),
                },
                Chunk::Trailer(false) if byte == b'\n' => {
                    return if rest.len() == 1 {
                        Ok(true)
                    } else {
                        Err(Fault::Malformed("bytes after the body"))
                    };
                }
                Chunk::Trailer(any) => Chunk::Trailer(byte != b'\n' && (any || byte != b'\r')),
            };
            rest = &rest[used..];
        }
        Ok(false)
    }

    fn take_body(&mut self, bytes: &[u8]) {
        let Some(&first) = bytes.first() else { return };
        if self.bytes == 0 {
            self.first_byte = first;
        }
        self.bytes += bytes.len() as u64;
        if self.stream {
            self.take_lines(bytes);
        } else if let Some(&last) = bytes.trim_ascii_end().last() {
            self.last_byte = last;
        }
    }

    fn take_lines(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = &mut self.line[self.line_length..];
            let kept = part.len().min(room.len());
            room[..kept].copy_from_slice(&part[..kept]);
            self.line_length += kept;
            let Some(end) = end else { return };
            self.take_line();
            self.line_length = 0;
            bytes = &bytes[end + 1..];
        }
    }

    /// Looks at the beginning of a line, which is in `line`.
    fn take_line(&mut self) {
        let line = self.line[..self.line_length].trim_ascii_end();
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let data = data.trim_ascii_start();
        if data == b"[DONE]" {
            // Whatever follows it undoes it.
            self.failed |= self.done;
            self.done = true;
            return;
        }
        self.failed |= self.done || data.starts_with(b"{\"error\"");
        self.events += 1;
    }
}

impl Chunk {
    fn after_size(size: u64) -> Self {
        if size == 0 { Self::Trailer(false) } else { Self::Data(size) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Reply, Summary};

    /// Feeds a response in pieces of `size` bytes.
    fn read(stream: bool, response: &str, size: usize) -> Result<Option<Summary>, Fault> {
        let mut reply = Reply::new(stream);
        let mut summary = None;
        for piece in response.as_bytes().chunks(size) {
            assert_eq!(summary, None, "no bytes are left");
            summary = reply.feed(piece)?;
        }
        Ok(summary)
    }

    fn chunked(pieces: &[&str]) -> String {
        let pieces: String =
            pieces.iter().map(|piece| format!("{:X}\r\n{piece}\r\n", piece.len())).collect();
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{pieces}0\r\n\r\n")
    }

    #[test]
    fn a_body_with_a_length_is_whole_at_its_end_wherever_it_is_split() {
        let response =
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nconnection: close\r\n\r\n{\"a\": \"bc\"}\n";
        for size in 1..=response.len() {
            let summary = Summary { bytes: 12, events: 0, closes: true };
            assert_eq!(read(false, response, size), Ok(Some(summary)), "{size}");
        }
    }

    #[test]
    fn the_events_of_a_stream_are_counted_wherever_it_is_split() {
        let response = chunked(&[
            ": comment\n\n",
            "data: {\"a\":1}\n\ndata:{\"b\"",
            ":2}\n\n",
            "event: x\ndata: {}\n\nda",
            "ta: [DONE]\n\n",
        ]);
        for size in 1..=response.len() {
            let summary = read(true, &response, size).unwrap().unwrap();
            assert_eq!((summary.events, summary.closes), (3, false), "{size}");
        }
    }

    #[test]
    fn what_is_no_good_answer_is_a_fault() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        for (stream, response, fault) in [
            (
                false,
                "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
                Fault::Status(503),
            ),
            (false, format!("{good}[]"), Fault::NotJson),
            (false, format!("{good}{{}}x"), Fault::Malformed("bytes after the body")),
            (false, "SSH-2.0\r\n\r\n".to_owned(), Fault::Malformed("no status line")),
            (true, chunked(&["data: {}\n\n"]), Fault::NotDone),
            (true, chunked(&["data: {\"error\":{}}\n\n", "data: [DONE]\n\n"]), Fault::ErrorEvent),
            (true, chunked(&["data: [DONE]\n\n", "data: [DONE]\n\n"]), Fault::ErrorEvent),
            (true, chunked(&["data: [DONE]\n\n"]) + "x", Fault::Malformed("bytes after the body")),
        ] {
            assert_eq!(read(stream, &response, response.len()), Err(fault), "{response}");
        }
    }

    #[test]
    fn only_a_body_without_a_length_may_end_with_the_connection() {
        let mut reply = Reply::new(false);
        assert_eq!(reply.feed(b"HTTP/1.1 200 OK\r\n\r\n{}"), Ok(None));
        assert_eq!(reply.end(), Ok(Summary { bytes: 2, events: 0, closes: true }));
        let mut reply = Reply::new(false);
        assert_eq!(reply.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"), Ok(None));
        assert_eq!(reply.end(), Err(Fault::CutOff));
    }
}
