//! The built-in fake vendor: `type: mock` without a `base_url`, and the demo.

use std::io;
use std::thread::JoinHandle;

use llmux_mock::{Mock, Options};
use tokio::sync::oneshot;

use crate::config::Settings;

/// A fake vendor on a thread of its own; stops when dropped.
struct InProcess {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for InProcess {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The fake vendor of this process, once one is wanted.
#[derive(Default)]
pub(crate) struct FakeVendor(Option<InProcess>);

impl FakeVendor {
    /// Starts it if a provider of type `mock` names no address, and points those providers to it.
    pub(crate) fn serve(&mut self, settings: &mut Settings) -> io::Result<()> {
        let wanted = |provider: &crate::config::Provider| {
            provider.vendor.name == "mock"
                && Some(provider.base_url.as_str()) == provider.vendor.base_url
        };
        for provider in settings.providers.iter_mut().filter(|provider| wanted(provider)) {
            let running = match self.0.take() {
                Some(running) => running,
                None => InProcess::start()?,
            };
            provider.base_url.clone_from(&running.url);
            self.0 = Some(running);
        }
        Ok(())
    }
}

impl InProcess {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let options = Options { record: false, ..Options::default() };
        let mock = runtime.block_on(Mock::start(options))?;
        let url = format!("{}/v1", mock.url());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("mock".into()).spawn(move || {
            runtime.block_on(async {
                let _ = stopped.await;
                drop(mock);
            });
        })?;
        Ok(Self { url, stop: Some(stop), thread: Some(thread) })
    }
}
