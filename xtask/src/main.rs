//! The project's tasks: `cargo xtask <task>`.

mod bench;
mod dist;
mod prices;
mod publish;
mod sim;
mod test;
mod tidy;
mod workspace;

use std::io::Write as _;
use std::process::ExitCode;

/// What a task answers: whether all is well, or why it could not run.
type Outcome = Result<bool, String>;

const USAGE: &str = "\
usage: cargo xtask <task>

  test [--only STEP]    runs every check and every test; the last line is `N passed, N failed`
                        steps: fmt, clippy, tidy, rust, sdk
  with-services COMMAND...
                        runs a program with a private PostgreSQL and a private Redis, whose addresses are in
                        LLMUX_TEST_POSTGRES_URL and LLMUX_TEST_REDIS_URL
  tidy                  checks the crate graph, licences, manifests, sources and links
  prices --from FILE    makes crates/llmux-types/data/model-prices.tsv from a price map in LiteLLM's format; one is
                        `litellm/model_prices_and_context_window_backup.json` in the wheel of the Python package
                        litellm (name its version in the NOTICE beside the table)
  sim [--seed N] [--scenario NAME] [--strategy NAME] [--list]
                        simulates clients and deployments around the router in virtual time and prints a table for
                        each scenario; the same seed (default 1) prints the same tables
  bench [--quick] [--rounds N] [--save NAME] [--compare NAME] [--instructions] [--litellm]
        [--scenario NAME]... [--subject NAME]...
                        measures the cost of the gateway beside nginx and LiteLLM; see docs/performance.md
  publish --dry-run     packs the libraries, builds each from its package alone, and says what keeps them from being
                        published; `cargo publish` with the same packages publishes them
  dist [--target TRIPLE]
                        builds the server and makes the archive of a release and its checksum, in target/xtask/dist
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["test"] => test::run(None),
        ["test", "--only", step] => test::run(Some(step)),
        ["with-services", command @ ..] => test::with_services(command),
        ["tidy"] => tidy::run(),
        ["prices", "--from", source] => prices::run(source),
        ["bench", arguments @ ..] => bench::run(arguments),
        ["sim", arguments @ ..] => sim::run(arguments),
        ["publish", "--dry-run"] => publish::dry_run(),
        ["dist"] => dist::run(None),
        ["dist", "--target", triple] => dist::run(Some(triple)),
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            complain(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            complain(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. A closed pipe is no reason to stop a task half-way.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
    let _ = out.flush();
}

/// Prints a line to standard error.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end_matches('\n'));
}
