//! The program: its flags, its first line, its end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

struct Program {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    addr: String,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmux-mock"));
        let mut child =
            command.args(["--port", "0"]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, _stdout: stdout, addr }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stop(mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_program_answers_and_ends_cleanly_at_a_signal() {
    for signal in ["-TERM", "-INT"] {
        let program = Program::start(&[]);
        assert!(program.get("/v1/models").starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(program.stop(signal), Some(0));
    }
}

#[test]
fn workers_share_the_port_the_script_and_the_counters() {
    let script =
        std::env::temp_dir().join(format!("llmux-mock-script-{}.json", std::process::id()));
    std::fs::write(&script, r#"[{"status": 503, "times": 20}]"#).unwrap();
    let program = Program::start(&["--workers", "3", "--script", script.to_str().unwrap()]);
    for _ in 0..20 {
        assert!(program.get("/v1/models").starts_with("HTTP/1.1 503 "));
    }
    assert!(program.get("/v1/models").starts_with("HTTP/1.1 200 "));
    assert!(program.get("/_mock/stats").contains(r#""requests":21"#));
    assert_eq!(program.stop("-TERM"), Some(0));
    std::fs::remove_file(script).unwrap();
}

#[test]
fn a_script_that_is_not_understood_stops_the_start() {
    let script =
        std::env::temp_dir().join(format!("llmux-mock-bad-script-{}.json", std::process::id()));
    std::fs::write(&script, r#"[{"status": "high"}]"#).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmux-mock"));
    let output =
        command.args(["--port", "0", "--script", script.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("llmux-mock: script: reply 0: "));
    std::fs::remove_file(script).unwrap();
}
