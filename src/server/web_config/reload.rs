//! The web configuration as it is in its file now, while the program runs.
//!
//! The files are read for every request and every connection, at once for all that wait for it, and compared with what they held before, by a hash; what
//! is in them is only read again if it changed. Time and length of a file would be asked for in less time, but a file
//! can be written twice within one tick of the file system's clock, and reading a few small files takes some twenty
//! microseconds. A certificate, a key and a list of users so change together, and a mistake costs only what comes
//! until it is mended.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use aws_lc_rs::digest::{self, SHA256};
use axum::http::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use secrecy::ExposeSecret as _;
use tokio::{
    sync::{self, OwnedMutexGuard},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    basic_auth::{Authenticator, Credentials, Guesser, Verdict},
    config::{Loaded, WebConfig, read_file},
    file::FileBytes,
    rate_limit::{Limiter, RateLimit},
    report::{WebConfigErrors, WebMistake},
    tls::{ClientRules, TlsSettings},
};
use crate::server::{limit::Reached, sending::lock};

/// How long the files may take to be read. A request and its connection wait once each, and Prometheus ten seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// A web configuration that is followed while the program runs.
#[derive(Debug)]
pub struct Web {
    seen: Arc<sync::Mutex<Seen>>,
    /// Looks that have begun.
    begun: AtomicU64,
    hang: Mutex<Hang>,
    /// These are as they were at the start.
    is_tls: bool,
    limiter: Option<Mutex<Limiter>>,
    authenticator: Authenticator,
}

/// The configuration cannot be used now, which the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Unusable;

/// The files are not read in time.
#[derive(Debug, Default)]
struct Hang {
    /// It was said, and not yet that it is over.
    is_said: bool,
    again: Reached,
}

/// What to say of it.
#[derive(Debug, PartialEq, Eq)]
enum SayOfHang {
    /// So many looks have failed since this was last said.
    Failed(u64),
    Over,
}

/// What the files held when they were last looked at.
#[derive(Debug)]
struct Seen {
    file: PathBuf,
    started: Started,
    protection: Protection,
    config: Followed<WebConfig>,
    tls: Followed<ServerConfig>,
    /// Of which configuration the TLS settings are made.
    tls_of: Option<Arc<WebConfig>>,
    found_config: Found<Option<Arc<WebConfig>>>,
    found_tls: Found<Option<Arc<ServerConfig>>>,
    found_readable: Found<()>,
}

/// What the latest look of a kind found, for those who have waited since before it began.
#[derive(Debug)]
struct Found<T> {
    /// Which look that was; 0 before the first.
    look: u64,
    found: Option<T>,
}

/// What stays as it was at the start.
#[derive(Debug, Clone, Copy)]
struct Started {
    is_tls: bool,
    http2: bool,
    rate_limit: Option<RateLimit>,
}

/// What has kept anybody out so far. A file that is empty, or of which the end is not written yet, lacks it just as one
/// that is meant to do without, so it takes a restart to do without.
#[derive(Debug, Clone, Copy, Default)]
struct Protection {
    users: bool,
    clients: ClientRules,
}

/// Something that is made of files, and made anew when they change.
#[derive(Debug)]
struct Followed<T> {
    what: &'static str,
    /// The hash of what was read; `None` if it could not be read.
    digest: Option<Digest>,
    made: Option<Arc<T>>,
    said: Option<String>,
    again: Reached,
}

type Digest = [u8; 32];

impl Web {
    /// Reads a file and the certificates that it names, to serve with.
    ///
    /// # Errors
    /// With every mistake, if there is one.
    pub fn open(file: &Path) -> Result<Self, WebConfigErrors> {
        let Loaded { config, bytes, tls } = WebConfig::load(file)?;
        warn(file, &config.warnings);
        tracing::info!(
            file = %file.display(),
            tls = config.tls.is_some(),
            http2 = config.tls.is_some() && config.http2,
            users = config.users.len(),
            rate_limit = config.rate_limit.is_some(),
            "The web configuration is in use."
        );
        let (is_tls, http2, rate_limit) = (config.tls.is_some(), config.http2, config.rate_limit);
        let protection = Protection::of(&config);
        let config = Arc::new(config);
        let seen = Seen {
            file: file.to_owned(),
            started: Started { is_tls, http2, rate_limit },
            protection,
            tls_of: Some(Arc::clone(&config)),
            found_config: Found::default(),
            found_tls: Found::default(),
            found_readable: Found::default(),
            config: Followed::new("The web configuration", Some((digest_of(&bytes), config))),
            tls: Followed::new(
                "The TLS configuration",
                tls.map(|(files, made)| (digest(files.parts()), Arc::new(made))),
            ),
        };
        Ok(Self {
            seen: Arc::new(sync::Mutex::new(seen)),
            begun: AtomicU64::new(0),
            hang: Mutex::default(),
            is_tls,
            limiter: rate_limit.map(|limit| Mutex::new(Limiter::new(limit))),
            authenticator: Authenticator::new(),
        })
    }

    /// Whether connections are TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// What is right for a request that has come now.
    ///
    /// # Errors
    /// If the file holds no configuration at the moment.
    pub(in crate::server) async fn now(&self) -> Result<Arc<WebConfig>, Unusable> {
        self.look(|seen| &mut seen.found_config, Seen::config).await.flatten().ok_or(Unusable)
    }

    /// What is right for a connection that has come now.
    ///
    /// # Errors
    /// If the files hold no configuration of TLS at the moment.
    pub(in crate::server) async fn tls_now(&self) -> Result<Arc<ServerConfig>, Unusable> {
        self.look(|seen| &mut seen.found_tls, Seen::tls).await.flatten().ok_or(Unusable)
    }

    /// Whether the files can be read in time, whatever is in them. A mistake in them does not count: it is over when it
    /// is repaired, and a program that is restarted for it would not start.
    pub(in crate::server) async fn can_be_read(&self) -> bool {
        self.look(|seen| &mut seen.found_readable, |seen| seen.read()).await.is_some()
    }

    /// `None` if it takes too long. One at a time looks, so that a disk that hangs takes one thread and not all of them.
    /// What it finds is for all who had begun to wait before, so nobody waits longer because many do.
    async fn look<T: Clone + Send + 'static>(
        &self,
        found: fn(&mut Seen) -> &mut Found<T>,
        look: fn(&mut Seen) -> T,
    ) -> Option<T> {
        let before = self.begun.load(SeqCst);
        let looking = async {
            let mut seen: OwnedMutexGuard<Seen> = Arc::clone(&self.seen).lock_owned().await;
            let latest = found(&mut seen);
            if latest.look > before {
                return latest.found.clone();
            }
            let number = self.begun.fetch_add(1, SeqCst) + 1;
            let looking = spawn_blocking(move || {
                let new = look(&mut seen);
                *found(&mut seen) = Found { look: number, found: Some(new.clone()) };
                new
            });
            // A panic is in the log.
            looking.await.ok()
        };
        let looked = timeout(PATIENCE, looking).await.ok();
        let say = lock(&self.hang).note(looked.is_none());
        if let Some(say) = say {
            say.say();
        }
        looked.flatten()
    }

    /// Whether one more request is within the limit.
    pub(in crate::server) fn allows_one(&self) -> bool {
        self.limiter.as_ref().is_none_or(|limiter| lock(limiter).allows_one())
    }

    /// Whether who sent a request may have an answer.
    pub(in crate::server) async fn judge(
        &self,
        config: &WebConfig,
        authorization: Option<&HeaderValue>,
        guesser: &Arc<Guesser>,
    ) -> Verdict {
        if config.users.is_empty() {
            return Verdict::Right;
        }
        match authorization.and_then(|value| Credentials::from_header(value.as_bytes())) {
            Some(credentials) => self.authenticator.judge(&config.users, credentials, guesser).await,
            None => Verdict::Wrong,
        }
    }
}

impl WebConfig {
    /// What every answer has to have.
    pub(in crate::server) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { look: 0, found: None }
    }
}

impl Hang {
    /// What to say after a look. On a slow disk some looks are in time and some are not, and how many is up to clients,
    /// so failures are said once in a while even if looks between them succeed.
    fn note(&mut self, failed: bool) -> Option<SayOfHang> {
        if !failed {
            return std::mem::take(&mut self.is_said).then_some(SayOfHang::Over);
        }
        let failed = self.again.count(1)?;
        self.is_said = true;
        Some(SayOfHang::Failed(failed))
    }
}

impl SayOfHang {
    fn say(&self) {
        match self {
            Self::Failed(failed) => {
                let seconds = PATIENCE.as_secs();
                tracing::error!(
                    failed,
                    seconds,
                    "The files of the web configuration cannot be read in time, so every request is refused until they can: the disk that they are on does not answer."
                );
            }
            Self::Over => tracing::info!("The files of the web configuration can be read again."),
        }
    }
}

impl Seen {
    /// Reads what a request and a new connection read, and makes nothing of it.
    fn read(&self) {
        let _ = read_file(&self.file);
        if let Some(tls) = self.config.made.as_ref().and_then(|config| config.tls.as_ref()) {
            let _ = tls.read();
        }
    }

    fn config(&mut self) -> Option<Arc<WebConfig>> {
        let bytes = read_file(&self.file);
        let (file, started, protection) = (&self.file, self.started, &mut self.protection);
        self.config.follow(file, bytes, digest_of, |bytes| {
            let config = WebConfig::of_bytes(bytes.expose_secret(), file)?;
            protection.stays_with(&config)?;
            warn(file, &config.warnings);
            warn(file, started.warning(&config).as_slice());
            Ok(config)
        })
    }

    fn tls(&mut self) -> Option<Arc<ServerConfig>> {
        let config = self.config()?;
        let is_new = self.tls_of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, &config));
        if is_new {
            // The same files can mean something else now.
            self.tls.digest = None;
            self.tls_of = Some(Arc::clone(&config));
        }
        let material =
            config.tls.as_ref().map_or_else(|| Err(vec![no_tls()]), |tls| tls.read().map(|files| (tls, files)));
        let (file, http2) = (&self.file, self.started.http2);
        self.tls.follow(
            file,
            material,
            |(_, material)| digest(material.parts()),
            |(tls, material)| {
                let (made, warnings) = tls.build(material, http2)?;
                warn(file, &warnings);
                Ok(made)
            },
        )
    }
}

impl Protection {
    fn of(config: &WebConfig) -> Self {
        let clients = config.tls.as_ref().map(TlsSettings::client_rules).unwrap_or_default();
        Self { users: !config.users.is_empty(), clients }
    }

    /// Takes note of what a configuration has.
    ///
    /// # Errors
    /// With whatever it lacks.
    fn stays_with(&mut self, config: &WebConfig) -> Result<(), Vec<WebMistake>> {
        // Where there is no TLS any more, that is the mistake.
        let mut lost = config.tls.as_ref().map(|tls| tls.lacking(self.clients)).unwrap_or_default();
        if self.users && config.users.is_empty() {
            lost.push(("basic_auth_users", "there is no user any more, but this program has asked for passwords"));
        }
        if !lost.is_empty() {
            let mistake = |(key, what): (&str, &str)| WebMistake {
                line: None,
                key: key.to_owned(),
                text: format!("{what}: complete the file, or restart the program to serve without"),
            };
            return Err(lost.into_iter().map(mistake).collect());
        }
        let now = Self::of(config);
        self.users |= now.users;
        self.clients.add(now.clients);
        Ok(())
    }
}

impl Started {
    /// What to say of a configuration that is not in use as a whole.
    fn warning(&self, config: &WebConfig) -> Option<String> {
        // That TLS ends is a mistake.
        let begins = config.tls.is_some() && !self.is_tls;
        let changed = [
            (begins, "tls_server_config"),
            (self.is_tls && config.http2 != self.http2, "http_server_config.http2"),
            (config.rate_limit != self.rate_limit, "rate_limit"),
        ];
        let changed: Vec<_> = changed.iter().filter(|(changed, _)| *changed).map(|(_, key)| *key).collect();
        (!changed.is_empty()).then(|| {
            let risk = if begins { ", and connections are not TLS" } else { "" };
            format!("{} stays as it was at the start until the program is restarted{risk}", changed.join(" and "))
        })
    }
}

fn warn(file: &Path, warnings: &[String]) {
    for warning in warnings {
        tracing::warn!(file = %file.display(), "{warning}.");
    }
}

fn no_tls() -> WebMistake {
    let text = "TLS config is not present any more, but this program was started with TLS: restart it to serve without"
        .to_owned();
    WebMistake { line: None, key: "tls_server_config".to_owned(), text }
}

impl<T> Followed<T> {
    fn new(what: &'static str, made: Option<(Digest, Arc<T>)>) -> Self {
        let (digest, made) = made.unzip();
        Self { what, digest, made, said: None, again: Reached::default() }
    }

    /// What the files make now. What was made is kept only as long as they are the same.
    fn follow<F>(
        &mut self,
        file: &Path,
        read: Result<F, Vec<WebMistake>>,
        digest: impl FnOnce(&F) -> Digest,
        make: impl FnOnce(&F) -> Result<T, Vec<WebMistake>>,
    ) -> Option<Arc<T>> {
        let made = read.inspect_err(|_| (self.digest, self.made) = (None, None)).and_then(|files| {
            let digest = digest(&files);
            if self.digest != Some(digest) {
                self.digest = Some(digest);
                self.made = None;
                self.made = Some(Arc::new(make(&files)?));
            }
            Ok(())
        });
        match made {
            Ok(()) if self.made.is_some() => {
                if self.said.take().is_some() {
                    tracing::info!(file = %file.display(), "{} can be used again.", self.what);
                }
            }
            Ok(()) => self.complain(None),
            Err(mistakes) => {
                let errors = WebConfigErrors { file: file.to_owned(), mistakes };
                self.complain(Some(errors.to_string()));
            }
        }
        self.made.clone()
    }

    /// Says what is wrong when it begins or changes, and once in a while.
    fn complain(&mut self, error: Option<String>) {
        let changed = error.is_some() && error != self.said;
        if changed {
            self.again = Reached::default();
        }
        self.said = error.or(self.said.take());
        if let (Some(failed), Some(error)) = (self.again.count(1), &self.said) {
            tracing::error!(
                %error,
                failed,
                "{} cannot be used, so whoever asks is refused until it is mended.",
                self.what
            );
        }
    }
}

fn digest_of(bytes: &FileBytes) -> Digest {
    digest([Some(bytes.expose_secret().as_slice())])
}

fn digest<'a>(parts: impl IntoIterator<Item = Option<&'a [u8]>>) -> Digest {
    let mut context = digest::Context::new(&SHA256);
    for part in parts {
        // So that nothing moves from one part into another unseen.
        context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        context.update(part.unwrap_or_default());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_is_slow_now_and_then_fills_no_log() {
        let mut hang = Hang::default();
        assert_eq!(hang.note(false), None);
        let mut said = Vec::new();
        // One look in two fails, ten times a second, for two hours.
        for _ in 0..2 * 36_000 {
            said.extend(hang.note(true));
            advance(Duration::from_millis(50)).await;
            said.extend(hang.note(false));
            advance(Duration::from_millis(50)).await;
        }
        let hourly = SayOfHang::Failed(36_000);
        assert_eq!(said, [SayOfHang::Failed(1), SayOfHang::Over, hourly, SayOfHang::Over]);
    }

    /// Looks on a slow disk.
    static LOOKS: AtomicU64 = AtomicU64::new(0);

    fn slowly(seen: &mut Seen) -> Option<Arc<WebConfig>> {
        LOOKS.fetch_add(1, SeqCst);
        std::thread::sleep(Duration::from_millis(10));
        seen.config()
    }

    #[tokio::test]
    async fn many_that_wait_share_a_look_that_began_after_they_asked() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("web.yml");
        std::fs::write(&file, "").unwrap();
        let web = Web::open(&file).unwrap();
        let look = || web.look(|seen| &mut seen.found_config, slowly);
        let found = futures_util::future::join_all((0..512).map(|_| look())).await;
        assert!(found.iter().all(|found| found.as_ref().is_some_and(Option::is_some)));
        // That which the first began, and one for all who asked while it lasted.
        assert_eq!(LOOKS.load(SeqCst), 2);
        // Those that ask later look again.
        std::fs::write(&file, "no: key").unwrap();
        assert!(look().await.is_some_and(|found| found.is_none()));
        assert_eq!(LOOKS.load(SeqCst), 3);
        // The beat does not wait for all of them, though it asks last.
        let crowd = futures_util::future::join_all((0..512).map(|_| look()));
        let beat = async {
            tokio::task::yield_now().await;
            web.can_be_read().await
        };
        assert!(futures_util::future::join(crowd, beat).await.1);
        assert_eq!(LOOKS.load(SeqCst), 5);
    }
}
