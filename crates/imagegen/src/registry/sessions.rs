//! Uploads under way, so that registries can be told to forget them.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use reqwest::Url;
use tokio::sync::watch;

use super::attempts::Attempts;
use super::auth::Access;
use super::client::{Client, Request};

/// How long the registry may take to forget an upload.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// How long an interrupted program waits for the addresses of uploads that it has asked for.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// The uploads that were begun and not completed: interrupted ones, and those of a publication that failed elsewhere.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<BTreeMap<u64, Open>>,
    next: AtomicU64,
    /// How many were asked for and not answered: the registry may have begun them, and nobody knows where.
    asked: watch::Sender<usize>,
    stopping: AtomicBool,
}

/// An upload was asked for; answered when this value goes.
pub(super) struct Asking<'a>(&'a Sessions);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asked.send_modify(|asked| *asked -= 1);
    }
}

#[derive(Debug)]
struct Open {
    owner: u64,
    access: Access,
    url: Url,
}

/// An upload, and its address as the registry gave it last.
#[derive(Debug, Clone)]
pub(super) struct Session {
    number: u64,
    pub(super) url: Url,
    /// The smallest chunk in bytes that the registry takes.
    pub(super) smallest_chunk: u64,
}

impl Sessions {
    /// A name for a sink, to tell its uploads from those of others.
    pub(super) fn owner(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Before an upload is asked for, until its address is noted. None is asked for any more by a program that ends.
    pub(super) async fn asking(&self) -> Asking<'_> {
        if self.stopping.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        self.asked.send_modify(|asked| *asked += 1);
        Asking(self)
    }

    /// Lets no more uploads be asked for, and waits for the addresses of those that were.
    pub(super) async fn stop_asking(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut asked = self.asked.subscribe();
        let _ = tokio::time::timeout(ANSWER_PATIENCE, asked.wait_for(|asked| *asked == 0)).await;
    }

    pub(super) fn begin(&self, owner: u64, access: &Access, url: Url, smallest_chunk: u64) -> Session {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Open { owner, access: access.clone(), url: url.clone() };
        self.lock().insert(number, open);
        Session { number, url, smallest_chunk }
    }

    pub(super) fn moved(&self, session: &mut Session, url: Url) {
        if let Some(open) = self.lock().get_mut(&session.number) {
            open.url = url.clone();
        }
        session.url = url;
    }

    pub(super) fn completed(&self, session: &Session) {
        self.lock().remove(&session.number);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the registry to forget what is left of this owner, so that nothing of it stays. It may not listen.
    pub(super) async fn cancel(&self, client: &Client, owner: u64) {
        let left = self.lock().extract_if(.., |_, open| open.owner == owner).map(|(_, open)| open).collect();
        forget(client, left).await;
    }

    /// The same with what is left of everyone.
    pub(super) async fn cancel_all(&self, client: &Client) {
        let left = std::mem::take(&mut *self.lock()).into_values().collect();
        forget(client, left).await;
    }
}

/// One after the other: a registry at which uploads failed is often overloaded, and requests beside each other may use up
/// each other's tokens.
async fn forget(client: &Client, left: Vec<Open>) {
    let forgetting = async {
        for open in left {
            let mut attempts = Attempts::new(client, &open.access);
            // Whatever it answers is an answer: the upload may have ended by itself.
            while let Err(failure) = client.send(&open.access, Request::new(Method::DELETE, open.url.clone())).await {
                if attempts.next(failure).await.is_err() {
                    break;
                }
            }
        }
    };
    let _ = tokio::time::timeout(CANCEL_PATIENCE, forgetting).await;
}
