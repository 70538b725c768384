//! Framing of server-sent events: bytes split anywhere in, whole events out, with their exact bytes.
//!
//! The format: <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>. Lines end with
//! CR, LF or CRLF, and nothing else does: U+2028 in a payload is text.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Buf as _, BufMut as _, BytesMut};

/// The longest event that is kept in memory, in bytes.
pub const MAX_EVENT_BYTES: usize = 64 * 1024 * 1024;

/// An event grew over [`MAX_EVENT_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
pub struct EventTooLong;

/// One event, or a run of comments, with the blank line that ends it. If that line ended with a CR whose LF had not
/// come yet, the LF follows as a frame of its own.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// The bytes as they came.
    pub raw: &'a [u8],
    /// The value of the `event` field.
    pub event: Option<&'a [u8]>,
    /// The value of the `data` field; `None` if there is none. Several lines are joined by a line feed.
    pub data: Option<Cow<'a, [u8]>>,
    /// Where `data` stands in `raw`, if it is one line.
    pub data_range: Option<Range<usize>>,
}

/// Cuts a byte stream into [`Frame`]s.
#[derive(Debug, Default)]
pub struct Framer {
    /// The beginning of an event that is not complete.
    rest: BytesMut,
    scan: Scan,
}

/// How far the bytes of the current event have been searched.
#[derive(Debug)]
struct Scan {
    position: usize,
    /// Nothing stands between the last line end and `position`.
    line_empty: bool,
    /// The last byte seen was a CR that ended a line: an LF that follows belongs to it.
    after_cr: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self { position: 0, line_empty: true, after_cr: false }
    }
}

impl Scan {
    /// Returns the end of the first event in `bytes`, if it is complete.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.after_cr && self.position < bytes.len() {
            self.after_cr = false;
            if bytes[self.position] == b'\n' {
                self.position += 1;
                if self.position == 1 {
                    return Some(1);
                }
            }
        }
        while self.position < bytes.len() {
            let Some(length) = memchr::memchr2(b'\n', b'\r', &bytes[self.position..]) else {
                self.line_empty = false;
                self.position = bytes.len();
                return None;
            };
            let blank = self.line_empty && length == 0;
            let mut end = self.position + length + 1;
            if bytes[end - 1] == b'\r' {
                match bytes.get(end) {
                    Some(b'\n') => end += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.position = end;
            self.line_empty = true;
            if blank {
                return Some(end);
            }
        }
        None
    }

    /// Starts over for the next event, which begins where the last one ended.
    const fn restart(&mut self) {
        self.position = 0;
    }
}

impl Framer {
    /// Takes the next bytes and hands each event that they complete to `on_frame`, in order, until that fails.
    ///
    /// # Errors
    /// The first error of `on_frame`, or [`EventTooLong`].
    pub fn feed<E: From<EventTooLong>>(
        &mut self,
        bytes: &[u8],
        mut on_frame: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        // Reads mostly end where an event ends: those never touch the buffer.
        if self.rest.is_empty() {
            let mut bytes = bytes;
            while let Some(end) = self.scan.event_end(bytes) {
                self.scan.restart();
                on_frame(&Frame::parse(&bytes[..end]))?;
                bytes = &bytes[end..];
            }
            self.rest.extend_from_slice(bytes);
        } else {
            self.rest.extend_from_slice(bytes);
            while let Some(end) = self.scan.event_end(&self.rest) {
                self.scan.restart();
                on_frame(&Frame::parse(&self.rest[..end]))?;
                self.rest.advance(end);
            }
        }
        if self.rest.len() > MAX_EVENT_BYTES {
            return Err(EventTooLong.into());
        }
        Ok(())
    }

    /// Hands out what came after the last blank line. Browsers drop it; vendors that forget the last blank line mean
    /// it as an event.
    ///
    /// # Errors
    /// The error of `on_frame`.
    pub fn finish<E>(
        &mut self,
        on_frame: impl FnOnce(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let rest = std::mem::take(&mut self.rest);
        self.scan = Scan::default();
        if rest.is_empty() { Ok(()) } else { on_frame(&Frame::parse(&rest)) }
    }
}

impl Framer {
    /// Ends a relayed stream: what is left goes to `on_frame`, and the blank line that a vendor may have forgotten after
    /// it is written.
    pub(crate) fn finish_into<E>(
        &mut self,
        out: &mut BytesMut,
        on_frame: impl FnOnce(&Frame<'_>, &mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        self.finish(|frame| {
            let before = out.len();
            on_frame(frame, out)?;
            if out.len() > before && !frame.raw.ends_with(b"\n\n") {
                out.put_slice(b"\n\n");
            }
            Ok(())
        })
    }
}

impl<'a> Frame<'a> {
    /// Writes the LF of a last line that ends with a CR so far: it may still be on its way, and will find the stream
    /// ended.
    pub(crate) fn write_missing_lf(&self, out: &mut BytesMut) {
        if self.raw.ends_with(b"\r") {
            out.put_u8(b'\n');
        }
    }

    /// Writes the frame with other data, and everything else as it came where the data is one line.
    pub fn write_with_data(&self, data: &[u8], out: &mut BytesMut) {
        if let Some(range) = &self.data_range {
            out.put_slice(&self.raw[..range.start]);
            out.put_slice(data);
            out.put_slice(&self.raw[range.end..]);
            return;
        }
        if let Some(event) = self.event {
            out.put_slice(b"event: ");
            out.put_slice(event);
            out.put_u8(b'\n');
        }
        for line in data.split(|&byte| byte == b'\n') {
            out.put_slice(b"data: ");
            out.put_slice(line);
            out.put_u8(b'\n');
        }
        out.put_u8(b'\n');
    }

    fn parse(raw: &'a [u8]) -> Self {
        let mut frame = Frame { raw, event: None, data: None, data_range: None };
        let mut start = 0;
        while start < raw.len() {
            let end =
                memchr::memchr2(b'\n', b'\r', &raw[start..]).map_or(raw.len(), |at| start + at);
            frame.field(start, end);
            start = end + 1;
        }
        frame
    }

    fn field(&mut self, start: usize, end: usize) {
        let raw = self.raw;
        let line = &raw[start..end];
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => self.event = Some(value),
            b"data" => match &mut self.data {
                None => {
                    self.data = Some(Cow::Borrowed(value));
                    self.data_range = Some(end - value.len()..end);
                }
                Some(data) => {
                    self.data_range = None;
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[derive(Debug)]
    struct Never;
    impl From<EventTooLong> for Never {
        fn from(_: EventTooLong) -> Self {
            Self
        }
    }

    type Seen = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

    fn frames(pieces: &[&[u8]]) -> Vec<Seen> {
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        let see = |frame: &Frame<'_>| {
            (
                frame.raw.to_vec(),
                frame.event.map(<[u8]>::to_vec),
                frame.data.as_ref().map(|data| data.to_vec()),
            )
        };
        for piece in pieces {
            framer
                .feed::<Never>(piece, |frame| {
                    seen.push(see(frame));
                    Ok(())
                })
                .expect("short events");
        }
        framer
            .finish::<Infallible>(|frame| {
                seen.push(see(frame));
                Ok(())
            })
            .expect("no failure");
        seen
    }

    type Payload = (Option<Vec<u8>>, Option<Vec<u8>>);

    fn payloads(frames: &[Seen]) -> Vec<Payload> {
        frames
            .iter()
            .map(|(_, event, data)| (event.clone(), data.clone()))
            .filter(|seen| *seen != (None, None))
            .collect()
    }

    const STREAM: &[u8] = "\u{feff}: hello\n\ndata: {\"a\":\"b\u{2028}ü\"}\n\nevent: x\r\ndata:1\r\ndata:  2\r\n\r\nid: 7\rdata: cr\r\rdata\n\ndata: last".as_bytes();

    #[test]
    fn events_are_cut_at_blank_lines_whatever_ends_the_lines() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(
            payloads(&frames(&[STREAM])),
            [
                (None, some("{\"a\":\"b\u{2028}ü\"}")),
                (some("x"), some("1\n 2")),
                (None, some("cr")),
                (None, some("")),
                (None, some("last")),
            ]
        );
    }

    #[test]
    fn every_split_position_gives_the_same_events_and_bytes() {
        let whole = frames(&[STREAM]);
        for at in 0..=STREAM.len() {
            let split = frames(&[&STREAM[..at], &STREAM[at..]]);
            assert_eq!(payloads(&split), payloads(&whole), "split at {at}");
            let bytes: Vec<u8> = split.iter().flat_map(|(raw, ..)| raw.clone()).collect();
            assert_eq!(bytes, STREAM, "split at {at}");
        }
        let single: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(payloads(&frames(&single)), payloads(&whole));
    }

    #[test]
    fn an_event_is_complete_at_its_blank_line_without_waiting_for_more() {
        let mut framer = Framer::default();
        let mut count = 0;
        for (piece, expected) in [("data: x\r\n", 0), ("\r", 1), ("\ndata: y\n", 1), ("\n", 2)] {
            framer
                .feed::<Never>(piece.as_bytes(), |frame| {
                    count += usize::from(frame.data.is_some());
                    Ok(())
                })
                .expect("short events");
            assert_eq!(count, expected, "{piece:?}");
        }
    }
}
