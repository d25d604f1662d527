//! The web configuration as its files have it, followed while the program runs.
//!
//! The files are looked at once a second, and what they hold then counts for every request and connection that comes
//! until the next look. A certificate and its key so change together, and a mistake costs only what comes until it is
//! repaired.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::http::HeaderValue;
use rustls::ServerConfig;
use secrecy::ExposeSecret as _;

use super::{
    basic_auth::{Authenticator, Credentials, Guesser, LoginVerdict},
    config::{WebConfig, read_file},
    rate_limit::{GuessLimit, Limiter},
    report::{WebConfigErrors, WebMistake},
    tls::{Protection, TlsSettings},
};
use crate::{
    files::watch::{Fingerprint, PATIENCE, Watch},
    lock,
    log_throttle::LogThrottle,
};

/// A web configuration that is followed while the program runs.
#[derive(Debug)]
pub struct Web {
    reloader: Mutex<WebConfigReloader>,
    current: Mutex<CurrentConfig>,
    /// These are as they were at the start.
    is_tls: bool,
    limiter: Option<Mutex<Limiter>>,
    authenticator: Authenticator,
}

/// What the last look at the files found.
#[derive(Debug, Clone, Default)]
struct CurrentConfig {
    /// They were read in time.
    is_read: bool,
    config: Option<Arc<WebConfig>>,
    tls: Option<Arc<ServerConfig>>,
}

/// Looks at the files.
#[derive(Debug)]
struct WebConfigReloader {
    file: PathBuf,
    started: StartSettings,
    /// Keys of what has kept anybody out so far. A file that is empty, or of which the end is not written yet, lacks it just
    /// as one that is meant to do without, so it takes a restart to do without.
    required: BTreeSet<&'static str>,
    config: Reloaded<WebConfig>,
    /// `None` if the program was started without TLS.
    tls: Option<Reloaded<ServerConfig>>,
}

/// What stays as it was at the start.
#[derive(Debug, Clone, Copy)]
struct StartSettings {
    is_tls: bool,
    http2: bool,
    rate_limit: Option<GuessLimit>,
}

/// Something that is made of files, and made again when they hold something else.
#[derive(Debug)]
struct Reloaded<T> {
    /// For the log.
    what: &'static str,
    fingerprint: Fingerprint,
    made: Result<Arc<T>, Vec<WebMistake>>,
    /// The last look made it.
    is_new: bool,
    unusable: LogThrottle<Vec<WebMistake>>,
}

impl Web {
    /// Reads a file and the certificates that it names, to serve with.
    ///
    /// # Errors
    /// With every mistake, if there is one.
    pub fn open(file: &Path) -> Result<Self, WebConfigErrors> {
        let config = WebConfig::load(file)?;
        tracing::info!(
            file = %file.display(),
            tls = config.tls.is_some(),
            http2 = config.tls.is_some() && config.http2,
            users = config.users.len(),
            rate_limit = config.rate_limit.is_some(),
            "The web configuration is in use."
        );
        let started =
            StartSettings { is_tls: config.tls.is_some(), http2: config.http2, rate_limit: config.rate_limit };
        let mut reloader = WebConfigReloader {
            file: file.to_owned(),
            started,
            required: BTreeSet::new(),
            config: Reloaded::new("The web configuration"),
            tls: started.is_tls.then(|| Reloaded::new("The TLS configuration")),
        };
        reloader.look();
        Ok(Self {
            current: Mutex::new(reloader.current()),
            reloader: Mutex::new(reloader),
            is_tls: started.is_tls,
            limiter: started.rate_limit.map(|limit| Mutex::new(Limiter::new(limit))),
            authenticator: Authenticator::new(),
        })
    }

    /// Follows the files. Never ends.
    pub(crate) async fn follow(self: &Arc<Self>) -> Infallible {
        let web = Arc::clone(self);
        let mut watch = Watch::new(move || web.look());
        let mut late = LogThrottle::default();
        loop {
            if watch.next().await.is_some() {
                if late.end() {
                    tracing::info!("The files of the web configuration can be read again.");
                }
                continue;
            }
            *lock(&self.current) = CurrentConfig::default();
            if late.count(1).is_some() {
                let seconds = PATIENCE.as_secs();
                tracing::error!(
                    seconds,
                    "The files of the web configuration cannot be read in time, so every request is refused until they can: the disk that they are on does not answer."
                );
            }
        }
    }

    /// Whether connections are TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// What is right for a request that has come now; `None` if it cannot be used, and the log says why.
    pub(crate) fn now(&self) -> Option<Arc<WebConfig>> {
        lock(&self.current).config.clone()
    }

    /// What is right for a connection that has come now; `None` if it cannot be used, and the log says why.
    pub(crate) fn tls_now(&self) -> Option<Arc<ServerConfig>> {
        lock(&self.current).tls.clone()
    }

    /// Whether the files can be read in time, whatever is in them. A mistake in them does not count: it is over when it
    /// is repaired, and a program that is restarted for it would not start.
    pub fn is_read(&self) -> bool {
        lock(&self.current).is_read
    }

    /// Whether one more request is within the limit.
    pub(crate) fn allows_one(&self) -> bool {
        self.limiter.as_ref().is_none_or(|limiter| lock(limiter).allows_one())
    }

    /// Whether who sent a request may have an answer.
    pub(crate) async fn judge(
        &self,
        config: &WebConfig,
        authorization: Option<&HeaderValue>,
        guesser: &Arc<Guesser>,
    ) -> LoginVerdict {
        if config.users.is_empty() {
            return LoginVerdict::Right;
        }
        match authorization.and_then(|value| Credentials::from_header(value.as_bytes())) {
            Some(credentials) => self.authenticator.judge(&config.users, credentials, guesser).await,
            None => LoginVerdict::Wrong,
        }
    }

    fn look(&self) {
        let mut reloader = lock(&self.reloader);
        reloader.look();
        *lock(&self.current) = reloader.current();
        reloader.log();
    }
}

impl WebConfigReloader {
    fn look(&mut self) {
        let Self { file, started, required, config, tls } = self;
        match read_file(file) {
            Ok(text) => config.follow(&[text.expose_secret()], || {
                let new = WebConfig::parse(text.expose_secret(), file)?;
                require(required, &new)?;
                warn(file, &new.warnings);
                warn(file, started.warning(&new).as_slice());
                Ok(new)
            }),
            Err(mistakes) => config.fail(mistakes),
        }
        let (Ok(made), Some(tls)) = (&config.made, tls) else { return };
        if config.is_new {
            // The same files can mean something else now.
            tls.fingerprint.forget();
        }
        let Some(settings) = &made.tls else {
            let text = "TLS config is not present any more, but this program was started with TLS: restart it to serve without";
            return tls.fail(vec![WebMistake::new("tls_server_config", text)]);
        };
        match settings.read() {
            Ok(material) => tls.follow(&material.parts(), || {
                let (new, warnings) = settings.build(&material, started.http2)?;
                warn(file, &warnings);
                Ok(new)
            }),
            Err(mistakes) => tls.fail(mistakes),
        }
    }

    fn current(&self) -> CurrentConfig {
        let config = self.config.made.as_ref().ok().cloned();
        // A mistake anywhere in the file stops both.
        let tls = self.tls.as_ref().filter(|_| config.is_some()).and_then(|tls| tls.made.as_ref().ok().cloned());
        CurrentConfig { is_read: true, config, tls }
    }

    fn log(&mut self) {
        self.config.log(&self.file);
        if let (Ok(_), Some(tls)) = (&self.config.made, &mut self.tls) {
            tls.log(&self.file);
        }
    }
}

impl<T> Reloaded<T> {
    fn new(what: &'static str) -> Self {
        let (fingerprint, unusable) = (Fingerprint::default(), LogThrottle::default());
        Self { what, fingerprint, made: Err(Vec::new()), is_new: false, unusable }
    }

    /// Makes it again if its files hold something else.
    fn follow(&mut self, parts: &[&[u8]], make: impl FnOnce() -> Result<T, Vec<WebMistake>>) {
        self.is_new = false;
        if self.fingerprint.changes(parts) {
            // Should `make` panic, what was made before is not right any more.
            self.made =
                Err(vec![WebMistake::new("", "a fault of this program, which the log shows: please report it")]);
            self.made = make().map(Arc::new);
            self.is_new = self.made.is_ok();
        }
    }

    /// Its files cannot be read.
    fn fail(&mut self, mistakes: Vec<WebMistake>) {
        self.fingerprint.forget();
        self.made = Err(mistakes);
        self.is_new = false;
    }

    fn log(&mut self, file: &Path) {
        let what = self.what;
        match &self.made {
            Ok(_) => {
                if self.unusable.end() {
                    tracing::info!(file = %file.display(), "{what} can be used again.");
                } else if self.is_new {
                    tracing::info!(file = %file.display(), "{what} changed and is used from now on.");
                }
            }
            Err(mistakes) => {
                if self.unusable.happened(mistakes.clone()).is_some() {
                    let error = WebConfigErrors { file: file.to_owned(), mistakes: mistakes.clone() };
                    tracing::error!(%error, "{what} cannot be used, so clients are refused until it is repaired.");
                }
            }
        }
    }
}

/// Everything that can keep anybody out. Where there is no TLS any more, that is the mistake.
fn protections(config: &WebConfig) -> impl Iterator<Item = Protection> {
    let users = Protection {
        key: "basic_auth_users",
        is_there: !config.users.is_empty(),
        is_gone: config.users.is_empty(),
        lost: "there is no user any more, but this program has asked for passwords",
    };
    config.tls.iter().flat_map(TlsSettings::protections).chain([users])
}

/// Takes note of what keeps anybody out.
///
/// # Errors
/// With what is required and gone.
fn require(required: &mut BTreeSet<&'static str>, config: &WebConfig) -> Result<(), Vec<WebMistake>> {
    let lost = protections(config).filter(|one| one.is_gone && required.contains(one.key));
    let remedy = "complete the file, or restart the program to serve without";
    let lost: Vec<_> = lost.map(|one| WebMistake::new(one.key, format!("{}: {remedy}", one.lost))).collect();
    if lost.is_empty() {
        required.extend(protections(config).filter(|one| one.is_there).map(|one| one.key));
        return Ok(());
    }
    Err(lost)
}

impl StartSettings {
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rcgen::{CertificateParams, CertifiedIssuer, Issuer, KeyPair};
    use rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer};
    use tokio::io::duplex;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A directory with certificates, and a web configuration in it.
    struct Files {
        directory: tempfile::TempDir,
        authority: CertifiedIssuer<'static, KeyPair>,
    }

    impl Files {
        fn new() -> Self {
            let files = Self { directory: tempfile::tempdir().unwrap(), authority: authority() };
            let key = KeyPair::generate().unwrap();
            files.write("server.pem", &files.certificate(&key, "localhost").pem());
            files.write("server.key", &key.serialize_pem());
            files.write("ca.pem", &files.authority.pem());
            files.write("other.pem", &authority().pem());
            files
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        fn certificate(&self, key: &KeyPair, name: &str) -> rcgen::Certificate {
            let issuer: &Issuer<'_, KeyPair> = &self.authority;
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(key, issuer).unwrap()
        }

        /// A client with a certificate for this name, or without one.
        fn client(&self, name: Option<&str>) -> Arc<ClientConfig> {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let client = client.with_root_certificates(roots);
            let Some(name) = name else { return Arc::new(client.with_no_client_auth()) };
            let key = KeyPair::generate().unwrap();
            let certificate = self.certificate(&key, name).der().clone();
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            Arc::new(client.with_client_auth_cert(vec![certificate], key).unwrap())
        }

        fn open(&self, text: &str) -> Web {
            self.write("web.yml", text);
            Web::open(&self.path("web.yml")).unwrap()
        }
    }

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

    fn users() -> String {
        let hash = bcrypt::hash("wonderland", 4).unwrap();
        format!("basic_auth_users:\n  alice: {hash}\n  bob: {hash}\n")
    }

    /// Whether this client gets in without a password.
    async fn gets_in(web: &Web, client: Arc<ClientConfig>) -> bool {
        if web.is_tls() {
            let Some(settings) = web.tls_now() else { return false };
            let (theirs, ours) = duplex(64 * 1024);
            let connected = TlsConnector::from(client).connect("localhost".try_into().unwrap(), theirs);
            let (_, accepted) = tokio::join!(connected, TlsAcceptor::from(settings).accept(ours));
            if accepted.is_err() {
                return false;
            }
        }
        let Some(config) = web.now() else { return false };
        web.judge(&config, None, &Arc::new(Guesser::new(IpAddr::from([192, 0, 2, 1])))).await == LoginVerdict::Right
    }

    #[tokio::test]
    async fn no_part_of_a_file_lets_anyone_in_who_may_not_with_all_of_it() {
        let files = Files::new();
        let names = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: [prometheus.example]\n";
        let authority = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: other.pem\n";
        let any = "  client_auth_type: RequireAnyClientCert\n";
        let users = users();
        let clients = [None, Some("prometheus.example"), Some("other.example")].map(|name| files.client(name));
        let [without, allowed, other] = &clients;
        for (text, kept_out) in [
            (users.clone(), &[without][..]),
            (format!("{TLS}{users}"), &[without, allowed, other]),
            (format!("{TLS}{any}"), &[without]),
            (format!("{TLS}{names}"), &[without, other]),
            (format!("{TLS}{authority}"), &[without, allowed, other]),
            (format!("{TLS}{names}{users}"), &[without, allowed, other]),
        ] {
            let web = files.open(&text);
            let admits_any = async || {
                web.look();
                let mut admits = false;
                for client in kept_out {
                    admits |= gets_in(&web, Arc::clone(client)).await;
                }
                admits
            };
            assert!(!admits_any().await, "{text}");
            // After each line, within each line, with nothing, and without any file.
            let lines = text.match_indices('\n').map(|(at, _)| at);
            let cuts = lines.flat_map(|at| [at + 1, at, at - 3]).chain([0]);
            for cut in cuts.filter(|cut| *cut < text.len() - 1) {
                files.write("web.yml", &text[..cut]);
                assert!(!admits_any().await, "{}", &text[..cut]);
            }
            std::fs::remove_file(files.path("web.yml")).unwrap();
            assert!(!admits_any().await, "{text}");
        }
    }

    #[tokio::test]
    async fn those_who_may_get_in_do_so_as_soon_as_the_file_is_whole_again() {
        let files = Files::new();
        let text = format!(
            "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: [prometheus.example]\n"
        );
        let web = files.open(&text);
        let client = files.client(Some("prometheus.example"));
        for broken in ["", TLS, "no: key", &format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n")] {
            for (text, is_let_in) in [(&text[..], true), (broken, false)] {
                files.write("web.yml", text);
                web.look();
                assert_eq!(gets_in(&web, Arc::clone(&client)).await, is_let_in, "{text}");
            }
        }
    }

    #[tokio::test]
    async fn what_did_not_change_is_not_made_again() {
        let files = Files::new();
        let web = files.open(&format!("{TLS}{}", users()));
        let made = || (web.now().unwrap(), web.tls_now().unwrap());
        let (config, tls) = made();
        web.look();
        assert!(Arc::ptr_eq(&config, &made().0) && Arc::ptr_eq(&tls, &made().1));
        // Certificates alone, and the file alone, of which TLS settings are made too.
        files.write(
            "server.pem",
            &format!("# The same.\n{}", std::fs::read_to_string(files.path("server.pem")).unwrap()),
        );
        web.look();
        assert!(Arc::ptr_eq(&config, &made().0) && !Arc::ptr_eq(&tls, &made().1));
        let (config, tls) = made();
        files.write("web.yml", &format!("{TLS}  prefer_server_cipher_suites: false\n{}", users()));
        web.look();
        assert!(!Arc::ptr_eq(&config, &made().0) && !Arc::ptr_eq(&tls, &made().1));
    }
}
