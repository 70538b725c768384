//! The command line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, Problem, Settings, Sources, load};
use crate::run::{Addresses, run};
use crate::{demo, routes};

/// An LLM gateway: one OpenAI-compatible endpoint for all model vendors.
#[derive(Debug, Parser)]
#[command(name = "llmux-server", version)]
pub(crate) struct Cli {
    /// Configuration file: YAML, or JSON or TOML by extension [default: config/config.yaml if it exists]
    /// [env: LLMUX_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// File of KEY=value lines that adds to the environment [default: .env if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Address to listen on, instead of server.host
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// Port to listen on, instead of server.port
    #[arg(long, global = true, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// What to do instead of running.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Check the configuration, tell all problems, start nothing
    Check,
    /// List the HTTP routes and the role each needs
    Routes,
    /// Print the JSON schema of the configuration file
    ConfigSchema,
    /// Print completions for a shell
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the version
    Version,
    /// Run with a built-in mock provider and a temporary data folder
    Demo,
}

impl Cli {
    /// Returns where the configuration comes from, with the environment and the working directory of this process.
    ///
    /// # Errors
    /// Fails when the working directory cannot be told.
    pub(crate) fn sources(self) -> io::Result<Sources> {
        // A variable that is not UTF-8 cannot be named in the file, so that leaving it out loses nothing.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Ok(Sources {
            file: self.config,
            env_file: self.env_file,
            host: self.host,
            port: self.port,
            environment: std::env::vars_os().filter_map(text).collect(),
            working_dir: std::env::current_dir()?,
        })
    }
}

/// Exit code of a bad configuration.
pub(crate) const BAD_CONFIGURATION: u8 = 1;

/// Checks the configuration and writes the findings.
///
/// # Errors
/// Fails when `out` does.
pub(crate) fn check(sources: &Sources, out: &mut dyn Write) -> io::Result<u8> {
    match load(sources) {
        Ok(Settings { warnings, .. }) => {
            for warning in warnings {
                writeln!(out, "warning: {warning}")?;
            }
            writeln!(out, "configuration ok")?;
            Ok(0)
        }
        Err(problems) => {
            write_problems(&problems, out)?;
            Ok(BAD_CONFIGURATION)
        }
    }
}

/// Writes one problem a line and their number.
///
/// # Errors
/// Fails when `out` does.
pub(crate) fn write_problems(problems: &[Problem], out: &mut dyn Write) -> io::Result<()> {
    for problem in problems {
        writeln!(out, "{problem}")?;
    }
    let plural = if problems.len() == 1 { "" } else { "s" };
    writeln!(out, "{} problem{plural}", problems.len())
}

/// Writes the JSON schema of the configuration file.
///
/// # Errors
/// Fails when `out` does.
pub(crate) fn config_schema(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:#}", config::schema())
}

/// Writes what makes a shell complete the program's commands and options.
///
/// # Errors
/// Fails when `out` does.
pub(crate) fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // It ends the process if what it writes to fails; a text does not.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "llmux-server", &mut text);
    out.write_all(&text)
}

/// Writes the name and the version of the program.
///
/// # Errors
/// Fails when `out` does.
pub(crate) fn version(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "llmux-server {}", env!("CARGO_PKG_VERSION"))
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = &mut io::stdout();
    let code = match cli.command {
        None => cli.sources().and_then(|sources| serve(sources.clone(), load(&sources), |_| {})),
        Some(Command::Demo) => cli.sources().and_then(demo),
        Some(Command::Check) => cli.sources().and_then(|sources| check(&sources, out)),
        Some(Command::Routes) => write!(out, "{}", routes::list()).map(|()| 0),
        Some(Command::ConfigSchema) => config_schema(out).map(|()| 0),
        Some(Command::Completions { shell }) => completions(shell, out).map(|()| 0),
        Some(Command::Version) => version(out).map(|()| 0),
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "llmux-server: {error}");
        BAD_CONFIGURATION
    }))
}

fn demo(sources: Sources) -> io::Result<u8> {
    let (_folder, sources, settings) = demo::settings(sources)?;
    let master_key = settings.as_ref().ok().and_then(|settings| settings.auth.master_key.clone());
    serve(sources, settings, move |addresses| {
        if let Some(master_key) = &master_key {
            let _ = demo::introduce(addresses, master_key, &mut io::stdout());
        }
    })
}

/// Runs the server with a configuration that was good, else tells what is wrong with it.
fn serve(
    sources: Sources,
    settings: Result<Settings, Vec<Problem>>,
    announce: impl FnOnce(&Addresses) + Send + 'static,
) -> io::Result<u8> {
    let settings = match settings {
        Ok(settings) => settings,
        Err(problems) => {
            write_problems(&problems, &mut io::stderr())?;
            return Ok(BAD_CONFIGURATION);
        }
    };
    match run(sources, settings, announce) {
        Ok(()) => Ok(0),
        Err(error) => {
            writeln!(io::stderr(), "llmux-server: {error}")?;
            Ok(error.exit_code())
        }
    }
}
