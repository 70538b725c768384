//! The request that is sent, over and over.

use std::net::SocketAddr;

/// What OpenAI's official client sends along, so that the cost of headers is a real one.
const HEADERS: &str = "accept: application/json\r\naccept-encoding: gzip, deflate\r\nconnection: keep-alive\r\n\
    content-type: application/json\r\nuser-agent: AsyncOpenAI/Python 2.8.1\r\nx-stainless-lang: python\r\n\
    x-stainless-package-version: 2.8.1\r\nx-stainless-os: Linux\r\nx-stainless-arch: x64\r\n\
    x-stainless-runtime: CPython\r\nx-stainless-runtime-version: 3.13.1\r\nx-stainless-async: async:asyncio\r\n\
    x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n";

/// Prose with the escapes that prose has in JSON.
const PROSE: &str = "The gateway reads what it must and passes on what it can; \\\"nothing\\\" is changed on the way.\\n";

/// The most prose in one message.
const MESSAGE: usize = 2000;

/// What to ask for.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) target: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) model: &'a str,
    pub(crate) stream: bool,
    /// Length of the body: up to a message exactly, above that to about 1 KiB.
    pub(crate) body_bytes: usize,
    /// Further headers, as `name: value`.
    pub(crate) headers: &'a [String],
}

impl Request<'_> {
    /// Returns the request as it goes to the socket.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let body = self.body();
        let mut head = format!("POST {} HTTP/1.1\r\nhost: {}\r\n{HEADERS}", self.path, self.target);
        for header in self.headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn body(&self) -> String {
        let model = serde_json::Value::from(self.model);
        let mut body = format!(
            r#"{{"model":{model},"messages":[{{"role":"system","content":"You answer briefly."}}"#
        );
        let tail = format!(r#"],"temperature":0.7,"max_tokens":256,"stream":{}}}"#, self.stream);
        let mut user = true;
        loop {
            let role = if user { "user" } else { "assistant" };
            body.push_str(&format!(r#",{{"role":"{role}","content":""#));
            let room = self.body_bytes.saturating_sub(body.len() + tail.len() + 2);
            let prose = room.min(MESSAGE);
            let whole = prose / PROSE.len();
            body.push_str(&PROSE.repeat(whole));
            // No part of the prose, which might end within an escape.
            body.push_str(&"x".repeat(prose - whole * PROSE.len()));
            body.push_str("\"}");
            // A conversation ends with its user.
            if user && self.body_bytes.saturating_sub(body.len() + tail.len()) < MESSAGE / 2 {
                break;
            }
            user = !user;
        }
        body.push_str(&tail);
        body
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADERS, Request};

    fn request(body_bytes: usize) -> String {
        let request = Request {
            target: ([127, 0, 0, 1], 80).into(),
            path: "/v1/chat/completions",
            model: "a \"model\"",
            stream: true,
            body_bytes,
            headers: &["authorization: Bearer k".to_owned()],
        };
        String::from_utf8(request.bytes()).unwrap()
    }

    #[test]
    fn the_body_is_json_of_about_the_size_that_was_asked_for() {
        for size in [0, 1024, 20_480, 204_800] {
            let request = request(size);
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())));
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(json["model"], "a \"model\"");
            assert_eq!(json["stream"], true);
            assert_eq!(json["messages"].as_array().unwrap().last().unwrap()["role"], "user");
            assert!(body.len() < 400 || body.len().abs_diff(size) < 1100, "{size}: {}", body.len());
        }
    }

    #[test]
    fn each_header_is_a_line() {
        assert!(
            HEADERS
                .split_terminator("\r\n")
                .all(|line| line.contains(": ") && !line.contains('\n'))
        );
        assert!(request(0).contains("\r\nauthorization: Bearer k\r\ncontent-length: "));
    }
}
