//! What every command that speaks to registries shares: the environment, and an end on interruption.

use std::collections::BTreeMap;
use std::future::{Future, ready};

use tokio::signal::unix::{SignalKind, signal};
use vast_imagegen::Error;
use vast_imagegen::transport::TransportOptions;

/// The environment, without variables that are not text.
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Runs `work` to its end, or until SIGINT or SIGTERM: then it is dropped, and with it its temporary files.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    run(work, ready(()), ready(()))
}

/// The same for work that writes to registries: when it is interrupted, they are told to forget what was begun.
pub(super) fn publishing<T>(
    options: &TransportOptions,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    run(work, options.registry.stop_uploads(), options.registry.cancel_uploads())
}

fn run<T>(
    work: impl Future<Output = Result<T, Error>>,
    stop: impl Future<Output = ()>,
    clean_up: impl Future<Output = ()>,
) -> Result<T, Error> {
    let interrupted = |_| Error::Interrupted;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(interrupted)?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(interrupted)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(interrupted)?;
        let mut work = Box::pin(work);
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Whoever interrupts twice does not want to wait for anything.
        let ending = async {
            tokio::select! {
                // It was as good as done.
                Ok(outcome) = &mut work => return Ok(outcome),
                () = stop => {}
            }
            drop(work);
            clean_up.await;
            Err(Error::Interrupted)
        };
        tokio::select! {
            ended = ending => ended,
            _ = interrupt.recv() => Err(Error::Interrupted),
            _ = terminate.recv() => Err(Error::Interrupted),
        }
    });
    // Threads that still compress or wait for a program write into files that are gone; nobody waits for them.
    runtime.shutdown_background();
    outcome
}
