//! Runs named scenarios around the real router in virtual time and prints a table for each: `--list` names them.
//! The same seed prints the same tables.

mod engine;
mod random;
mod scenarios;
mod table;
mod vendor;

use std::io::Write as _;
use std::process::ExitCode;

use llmux_router::Builtin;

const USAGE: &str = "\
usage: sim [--seed N] [--scenario NAME] [--strategy NAME] [--list]

  --seed N          the chance of the run, a whole number (default 1)
  --scenario NAME   only this scenario
  --strategy NAME   only this strategy
  --list            names the scenarios and the strategies

Times are in milliseconds, of answered requests: to the first output of a stream, to the end of a whole answer.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (text, code) = match answer(&arguments) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(message) => {
            let _ = write!(std::io::stderr(), "error: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A closed pipe is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

fn answer(arguments: &[String]) -> Result<String, String> {
    let mut seed = 1;
    let mut scenarios = scenarios::all();
    let mut strategies = Builtin::ALL.to_vec();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| format!("{argument} wants a value after it"));
        match argument.as_str() {
            "--seed" => {
                let text = value()?;
                seed = text.parse().map_err(|_| format!("{text:?} is no seed"))?;
            }
            "--scenario" => {
                let name = value()?;
                let found = scenarios::named(name);
                scenarios = vec![found.ok_or_else(|| format!("no scenario is called {name:?}"))?];
            }
            "--strategy" => {
                strategies = vec![value()?.parse().map_err(|error| format!("{error}"))?];
            }
            "--list" => return Ok(list()),
            "--help" | "-h" => return Ok(USAGE.to_owned()),
            _ => return Err(format!("{argument:?} is not understood")),
        }
    }
    let tables: Vec<String> =
        scenarios.iter().map(|scenario| table::table(scenario, &strategies, seed)).collect();
    Ok(tables.join("\n"))
}

fn list() -> String {
    let mut lines: Vec<String> = scenarios::all()
        .iter()
        .map(|scenario| format!("{:<16}{}\n", scenario.name, scenario.about))
        .collect();
    lines.push("\nstrategies:".to_owned());
    lines.extend(Builtin::ALL.iter().map(|strategy| format!(" {}", strategy.as_str())));
    lines.push("\n".to_owned());
    lines.concat()
}
