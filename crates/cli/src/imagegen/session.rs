//! What every command that speaks to registries shares: the environment, and an end on interruption.

use std::collections::BTreeMap;
use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use vast_imagegen::Error;

/// The environment, without variables that are not text.
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Runs `work` to its end, or until SIGINT or SIGTERM: then it is dropped, and with it its temporary files.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let interrupted = |_| Error::Interrupted;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(interrupted)?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(interrupted)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(interrupted)?;
        tokio::select! {
            outcome = work => outcome,
            _ = interrupt.recv() => Err(Error::Interrupted),
            _ = terminate.recv() => Err(Error::Interrupted),
        }
    });
    // Threads that still compress or wait for a program write into files that are gone; nobody waits for them.
    runtime.shutdown_background();
    outcome
}
