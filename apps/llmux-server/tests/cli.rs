//! `check`, `config-schema`, `completions` and `version`, as a user runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the program in an empty folder with an empty environment.
fn llmux(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmux-server"))
        .args(arguments)
        .current_dir(&folder.0)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the output is text")
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // It may be left over from an earlier run.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }
}

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_without_any_configuration_is_ok() {
    let output = llmux(&Folder::new("check-none"), &["check"], &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "configuration ok\n"));
}

#[test]
fn check_accepts_the_promised_samples_and_lists_warnings() {
    let folder = Folder::new("check-samples");
    let file = data("promised-config-1.yaml");
    let output = llmux(&folder, &["check", "--config", &file], &[("OPENAI_API_KEY", "k")]);
    assert_eq!(
        text(&output.stdout),
        "warning: provider anthropic is disabled: ANTHROPIC_API_KEY is not set\n\
         warning: cache.enabled is true and the data plane needs no key: calls without one share their answers, \
         whatever cache.scope is\n\
         configuration ok\n"
    );
    assert_eq!(output.status.code(), Some(0));
    let file = data("promised-config-2.yaml");
    let output = llmux(&folder, &["--config", &file, "check"], &[("SILICONFLOW_API_KEY", "k")]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "configuration ok\n"));
    let output =
        llmux(&folder, &["check"], &[("SILICONFLOW_API_KEY", "k"), ("LLMUX_CONFIG", &file)]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "configuration ok\n"));
}

#[test]
fn check_tells_all_problems_with_their_lines_and_ends_with_1() {
    let folder = Folder::new("check-problems");
    std::fs::write(folder.0.join("bad.yaml"), "server:\n  prot: 1\n  host: x\n").expect("writable");
    let output = llmux(&folder, &["check", "--config", "bad.yaml", "--port", "0"], &[]);
    assert_eq!(
        text(&output.stdout),
        "server.prot (line 2): unknown key; did you mean `port`?\n\
         server.host (line 3): expected an IP address or localhost\n\
         2 problems\n"
    );
    assert_eq!(output.status.code(), Some(1));
    let output = llmux(&folder, &["check", "--config", "bad.yaml", "--host", "::1"], &[]);
    assert!(text(&output.stdout).ends_with("\n1 problem\n"), "{output:?}");
}

#[test]
fn a_named_file_that_is_not_there_is_a_problem() {
    let folder = Folder::new("check-missing");
    for arguments in [["check", "--config", "none.yaml"], ["check", "--env-file", "none.env"]] {
        let output = llmux(&folder, &arguments, &[]);
        assert!(text(&output.stdout).contains(": cannot be read: "), "{output:?}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let folder = Folder::new("usage");
    for arguments in
        [&["--frob"][..], &["chekc"], &["--port", "x"], &["--port", "65536"], &["check", "more"]]
    {
        let output = llmux(&folder, arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn config_schema_prints_a_json_schema() {
    let output = llmux(&Folder::new("schema"), &["config-schema"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Server"]["properties"]["port"]["default"], 8080);
}

#[test]
fn completions_are_what_each_shell_understands() {
    let folder = Folder::new("completions");
    for shell in ["bash", "zsh", "fish"] {
        let output = llmux(&folder, &["completions", shell], &[]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        assert!(script.contains("config-schema") && script.contains("env-file"), "{shell}");
        std::fs::write(folder.0.join(shell), script).expect("writable");
    }
    let script = "source ./bash; COMP_WORDS=(llmux-server config); COMP_CWORD=1; \
                  _llmux__server llmux-server config llmux-server; echo \"${COMPREPLY[*]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", script])
        .current_dir(&folder.0)
        .output()
        .expect("bash starts");
    assert_eq!(text(&output.stdout).trim(), "config-schema", "{output:?}");
    let output = llmux(&folder, &["completions", "sh"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn version_and_help_need_no_configuration() {
    let folder = Folder::new("version");
    let output = llmux(&folder, &["version"], &[("LLMUX_CONFIG", "none.yaml")]);
    let version = concat!("llmux-server ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), version));
    let output = llmux(&folder, &["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    for word in [
        "check",
        "routes",
        "config-schema",
        "completions",
        "version",
        "demo",
        "--config",
        "--env-file",
        "--host",
        "--port",
    ] {
        assert!(text(&output.stdout).contains(word), "{word}");
    }
}
