//! The built-in fake vendor: `type: mock` without a `base_url`, and the demo.

use std::io;
use std::thread::JoinHandle;

use llmux_mock::{Mock, Options};
use tokio::sync::oneshot;

use crate::config::Settings;

/// A fake vendor on a thread of its own; stops when dropped.
pub(crate) struct InProcess {
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

/// Starts a fake vendor if a provider of type `mock` names no address, and points those providers to it.
pub(crate) fn start_where_wanted(settings: &mut Settings) -> io::Result<Option<InProcess>> {
    let wanted = |provider: &crate::config::Provider| {
        provider.vendor.name == "mock"
            && Some(provider.base_url.as_str()) == provider.vendor.base_url
    };
    if !settings.providers.iter().any(wanted) {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mock = runtime.block_on(Mock::start(Options { record: false, ..Options::default() }))?;
    let url = format!("{}/v1", mock.url());
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("mock".into()).spawn(move || {
        runtime.block_on(async {
            let _ = stopped.await;
            drop(mock);
        });
    })?;
    for provider in settings.providers.iter_mut().filter(|provider| wanted(provider)) {
        provider.base_url.clone_from(&url);
    }
    Ok(Some(InProcess { stop: Some(stop), thread: Some(thread) }))
}
