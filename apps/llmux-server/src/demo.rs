//! `llmux-server demo`: real answers without a vendor's key.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::{Problem, Settings, Sources, load};
use crate::run::Addresses;

/// The models of the demo, all answered by the built-in fake vendor.
const CONFIGURATION: &str = "\
providers:
  - name: mock
    type: mock
    models: [gpt-4o, gpt-4o-mini, text-embedding-3-small]
";

/// A folder that is removed with everything in it when this is dropped.
pub(crate) struct TemporaryFolder(PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl TemporaryFolder {
    fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;

        let name = format!("llmux-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

/// Makes the demo's settings. Address and port come from the command line or the environment as usual; nothing else of
/// the user's configuration counts.
pub(crate) fn settings(
    sources: Sources,
) -> io::Result<(TemporaryFolder, Result<Settings, Vec<Problem>>)> {
    let folder = TemporaryFolder::new()?;
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, CONFIGURATION)?;
    let port = sources.environment.get("PORT").cloned().map(|port| ("PORT".to_owned(), port));
    let data = ("LLMUX_DATA_DIR".to_owned(), folder.path().join("data").display().to_string());
    let sources = Sources {
        file: Some(file),
        env_file: None,
        environment: port.into_iter().chain([data]).collect(),
        // No `.env` of the user's is read from here.
        working_dir: folder.path().to_owned(),
        ..sources
    };
    let settings = load(&sources);
    Ok((folder, settings))
}

/// Tells a newcomer what to try.
pub(crate) fn introduce(addresses: &Addresses, out: &mut dyn Write) -> io::Result<()> {
    let url = format!("http://{}/v1", addresses.main);
    writeln!(
        out,
        "
LLMux demo: a gateway with a built-in mock provider at {url}
No key is needed, and nothing leaves this machine. Try it:

  curl {url}/chat/completions -H 'content-type: application/json' \\
    -d '{{\"model\": \"gpt-4o\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'

and with \"stream\": true. Press Ctrl-C to stop.
"
    )
}
