//! Asks a vendor of another dialect in OpenAI's, with a blocking socket and no runtime.
//!
//! `cargo run -p llmux-providers --example blocking -- http://127.0.0.1:9000` asks whatever speaks Anthropic's dialect
//! there (a mock, say); without an address the request is only shown.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use llmux_providers::anthropic::Anthropic;
use llmux_providers::openai::{self, AnswerHead};
use llmux_providers::{ChatCodec as _, Encoding};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let asked = br#"{"model": "claude", "messages": [{"role": "user", "content": "Hello"}]}"#;
    let address = std::env::args().nth(1);
    let encoding = Encoding {
        base_url: address.as_deref().unwrap_or("http://127.0.0.1"),
        model: "claude-sonnet-5-5",
        drop_params: false,
        max_output_tokens: None,
    };
    let outgoing = Anthropic.encode(&openai::read_request(asked)?, &encoding)?;
    writeln!(out, "POST {}\n{}\n", outgoing.url, String::from_utf8_lossy(&outgoing.body))?;
    let Some(address) = &address else { return Ok(()) };

    let host = address.strip_prefix("http://").ok_or("the address must begin with http://")?;
    let mut socket = TcpStream::connect(host)?;
    let path = outgoing.url.strip_prefix(address.as_str()).unwrap_or("/");
    write!(socket, "POST {path} HTTP/1.0\r\nhost: {host}\r\ncontent-type: application/json\r\n")?;
    for (name, value) in &outgoing.headers {
        write!(socket, "{name}: {}\r\n", value.to_str()?)?;
    }
    write!(socket, "content-length: {}\r\nconnection: close\r\n\r\n", outgoing.body.len())?;
    socket.write_all(&outgoing.body)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;

    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("no answer")?;
    let response = Anthropic.decode(&answer[end + 4..])?;
    let head = AnswerHead { id: "made-up".into(), model: "claude".into(), created: 0 };
    out.write_all(&openai::write_response(&response, &head))?;
    writeln!(out)?;
    Ok(())
}
