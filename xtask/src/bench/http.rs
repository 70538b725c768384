//! A request now and then: no more of HTTP than that takes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    /// As it came: a body in chunks still has their sizes between them.
    pub(crate) body: String,
}

impl Answer {
    /// Returns the value of a header, whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }
}

/// Sends a request on a connection of its own. `headers` are whole lines without their ends.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[String],
    body: &str,
) -> Result<Answer, String> {
    let fault = |error: std::io::Error| format!("{method} {path} at {address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(fault)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(fault)?;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .map_err(fault)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(fault)?;
    Answer::parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| format!("{method} {path} at {address}: no HTTP came back"))
}

/// Waits until a path is answered with 200, or `is_alive` is false.
pub(crate) fn until_ready(
    address: SocketAddr,
    path: &str,
    patience: Duration,
    mut is_alive: impl FnMut() -> bool,
) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let answer = ask(address, "GET", path, &[], "");
        if matches!(&answer, Ok(answer) if answer.status == 200) {
            return Ok(());
        }
        if !is_alive() {
            return Err("it ended at once".to_owned());
        }
        if start.elapsed() > patience {
            return Err(match answer {
                Ok(answer) => format!("{path} is answered with {}", answer.status),
                Err(error) => error,
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::Answer;

    #[test]
    fn an_answer_has_a_status_headers_and_a_body() {
        let answer = Answer::parse("HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n{}").unwrap();
        assert_eq!(
            (answer.status, answer.header("x-a"), answer.body.as_str()),
            (200, Some("b"), "{}")
        );
        assert!(Answer::parse("SSH-2.0").is_none());
    }
}
