//! What the tests share: a client that does not wait, and short ways to read and copy.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use vast_imagegen::Error;
use vast_imagegen::publish::{self, Published};
use vast_imagegen::reference::Reference;
use vast_imagegen::registry::{AuthFiles, Client, Clock, Settings};
use vast_imagegen::source::{Image, ImageSource};
use vast_imagegen::transport::{TransportOptions, open_sink, open_source};

/// Notes the pauses it is asked for, and does not wait.
#[derive(Debug, Default)]
pub(crate) struct Impatient(Mutex<Vec<Duration>>);

impl Impatient {
    /// The pauses so far.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Clock for Impatient {
    async fn sleep(&self, pause: Duration) {
        self.0.lock().unwrap().push(pause);
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

/// Options without credentials and without waiting, and the clock to ask for the pauses.
pub(crate) fn options() -> (TransportOptions, Arc<Impatient>) {
    options_with(|_| ())
}

pub(crate) fn options_with(change: impl FnOnce(&mut Settings)) -> (TransportOptions, Arc<Impatient>) {
    let clock = Arc::new(Impatient::default());
    let mut settings = Settings { clock: Arc::<Impatient>::clone(&clock), ..Settings::default() };
    change(&mut settings);
    (TransportOptions::new(Client::new(settings)), clock)
}

/// An auth file in `dir` with these credentials for `host`.
pub(crate) fn auth_file(dir: &Path, host: &str, auth: &str) -> AuthFiles {
    let path = dir.join("auth.json");
    let auths = BTreeMap::from([(host, serde_json::json!({ "auth": auth }))]);
    std::fs::write(&path, serde_json::json!({ "auths": auths }).to_string()).unwrap();
    AuthFiles::new(vec![path])
}

pub(crate) async fn source(reference: &str, options: &TransportOptions) -> Result<Box<dyn ImageSource>, Error> {
    open_source(&reference.parse::<Reference>()?, options).await
}

/// The image for `platform`.
pub(crate) async fn image(reference: &str, platform: &str, options: &TransportOptions) -> Result<Image, Error> {
    source(reference, options).await?.image(&platform.parse().unwrap()).await
}

/// The bytes of the layer with this number.
pub(crate) async fn layer(source: &dyn ImageSource, image: &Image, number: usize) -> Result<Vec<u8>, Error> {
    let reader = source.open_blob(&image.manifest.layers()[number]).await?;
    let reference = source.reference();
    tokio::task::spawn_blocking(move || {
        let (mut reader, mut bytes) = (reader, Vec::new());
        match std::io::Read::read_to_end(&mut reader, &mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(Error::from_read(error, &reference)),
        }
    })
    .await
    .unwrap()
}

pub(crate) async fn copy(from: &str, to: &str, options: &TransportOptions) -> Result<Published, Error> {
    copy_in_parallel(from, to, 4, options).await
}

pub(crate) async fn copy_in_parallel(
    from: &str,
    to: &str,
    parallel: usize,
    options: &TransportOptions,
) -> Result<Published, Error> {
    let source = source(from, options).await?;
    let sink = open_sink(&to.parse::<Reference>()?, options).await?;
    publish::copy(&*source, &*sink, parallel, &()).await
}

/// The error and its causes, as people see them.
pub(crate) fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// `bytes` that no compression makes small, the same each time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
