//! The secrets that sign requests to Cloudflare.
//!
//! A secret is checked when it is read, redacted wherever it is formatted, and leaves its type
//! in one function: [`Credential::headers`]. If a response echoes it, [`Credential::redact`] removes it.

use std::{
    collections::HashSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::files::{
    self,
    watch::{Fingerprint, wait_for_change},
};

/// No token or key of Cloudflare's comes near this size, so a larger file is some other file.
const MAX_SECRET_BYTES: u64 = 8 * 1024;

/// The shortest part of a secret that is hidden: five characters only tell what sort of token it is.
const SHORTEST_HIDDEN: usize = 8;

/// One of Cloudflare's two ways to sign in, with where its secret comes from.
#[derive(Debug, Clone)]
pub enum Scheme {
    /// `Authorization: Bearer`, user-owned or account-owned.
    Token(SecretSource),
    /// The global API key of a user: `X-Auth-Email` and `X-Auth-Key`.
    Key {
        /// Whose key it is.
        email: String,
        /// The key.
        key: SecretSource,
    },
}

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// A file, read again when it changes.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its owner, such as systemd, keeps it from other users.
        guarded: bool,
    },
    /// A value that stays as long as the process, such as an environment variable's.
    Fixed(SecretString),
}

/// Why a secret cannot be used. No variant holds any part of it.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(std::io::Error),
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// It cannot be sent in a header.
    #[error(
        "it holds a blank, a line break or another character that no token has; it must be the bare secret, without `Bearer` or quotes"
    )]
    NotBare,
    /// The address cannot be sent in a header.
    #[error("the e-mail address is empty or holds a character that no address has")]
    Email,
}

/// A named credential, with the headers that sign a request. Another secret is another credential.
#[derive(Debug)]
pub struct Credential {
    name: Arc<str>,
    scheme: Scheme,
    secret: SecretString,
    /// Marked sensitive, so that their `Debug` is redacted.
    headers: HeaderMap,
    /// What the file of the secret held.
    seen: Fingerprint,
}

/// Two credentials are equal if they have the same name and sign requests in the same way.
impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.headers == other.headers
    }
}

impl Credential {
    /// Reads the secret.
    ///
    /// # Errors
    /// If it cannot be read or cannot be sent.
    pub fn load(name: &str, scheme: Scheme) -> Result<Self, CredentialError> {
        Self::read(name.into(), scheme, Fingerprint::default())
    }

    fn read(name: Arc<str>, scheme: Scheme, mut seen: Fingerprint) -> Result<Self, CredentialError> {
        let secret = match scheme.secret() {
            SecretSource::Fixed(secret) => bare(secret.expose_secret())?,
            SecretSource::File { path, guarded } => read_file(path, *guarded, &mut seen)?,
        };
        let headers = scheme.sign(&secret)?;
        Ok(Self { name, scheme, secret, headers, seen })
    }

    /// The name that the configuration gives it: a label value.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The headers that sign a request: the one place where the secret leaves.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The text without the secret: a proxy on the way may echo a request.
    ///
    /// It may echo parts, and a long text is cut before it comes here: any eight characters of the secret in a row
    /// are taken out too.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        redacted(text, self.secret.expose_secret())
    }

    /// Whether it is a token, which can expire.
    #[must_use]
    pub const fn is_token(&self) -> bool {
        matches!(self.scheme, Scheme::Token(_))
    }

    /// Whether the secret is in a file, which can change.
    #[must_use]
    pub const fn is_in_a_file(&self) -> bool {
        matches!(self.scheme.secret(), SecretSource::File { .. })
    }

    /// Waits until the file of the secret holds another one, and returns the credential with that. A file that cannot be
    /// used is logged. Never ends where the secret is not in a file.
    pub async fn changed(self: Arc<Self>) -> Arc<Self> {
        let name = Arc::clone(&self.name);
        wait_for_change(self, Self::reread, |error| {
            tracing::warn!(credential = %name, %error, "The file of the secret cannot be used. The secret read before stays in use.");
        })
        .await
    }

    fn reread(&self) -> Result<Option<Self>, CredentialError> {
        if !self.is_in_a_file() {
            return Ok(None);
        }
        let read = Self::read(Arc::clone(&self.name), self.scheme.clone(), self.seen.clone())?;
        Ok(Some(read).filter(|read| read.seen != self.seen))
    }
}

/// The text without this secret, and without any part of it that tells something. A secret is ASCII.
fn redacted(text: &str, secret: &str) -> String {
    let length = secret.len().min(SHORTEST_HIDDEN);
    let hidden: HashSet<&[u8]> = secret.as_bytes().windows(length.max(1)).collect();
    let mut redacted = String::new();
    let mut kept_to = 0;
    let mut hidden_to = 0;
    for (at, part) in text.as_bytes().windows(length.max(1)).enumerate() {
        if !hidden.contains(part) {
            continue;
        }
        if at > hidden_to || hidden_to == 0 {
            redacted.push_str(&text[kept_to..at]);
            redacted.push_str("[secret]");
        }
        hidden_to = at + length;
        kept_to = hidden_to;
    }
    redacted.push_str(&text[kept_to..]);
    redacted
}

impl Scheme {
    const fn secret(&self) -> &SecretSource {
        match self {
            Self::Token(secret) | Self::Key { key: secret, .. } => secret,
        }
    }

    fn sign(&self, secret: &SecretString) -> Result<HeaderMap, CredentialError> {
        let bare = secret.expose_secret();
        let header = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| CredentialError::NotBare)?;
            value.set_sensitive(true);
            Ok(value)
        };
        let mut headers = HeaderMap::new();
        match self {
            Self::Token(_) => {
                headers.insert(AUTHORIZATION, header(&format!("Bearer {bare}"))?);
            }
            Self::Key { email, .. } => {
                check_email(email)?;
                headers.insert(HeaderName::from_static("x-auth-email"), header(email)?);
                headers.insert(HeaderName::from_static("x-auth-key"), header(bare)?);
            }
        }
        Ok(headers)
    }
}

/// Whether an address can be sent in a header.
///
/// # Errors
/// If it cannot.
pub fn check_email(email: &str) -> Result<(), CredentialError> {
    let is_good = !email.is_empty() && email.bytes().all(|b| b.is_ascii_graphic());
    if is_good { Ok(()) } else { Err(CredentialError::Email) }
}

/// Reads a secret, and warns if others can use a file that is not what it was when `seen` was last asked.
fn read_file(path: &Path, guarded: bool, seen: &mut Fingerprint) -> Result<SecretString, CredentialError> {
    let (content, metadata) = files::read_at_most(path, MAX_SECRET_BYTES).map_err(CredentialError::Unreadable)?;
    let is_new = seen.changes(&[&content, &metadata.mode().to_be_bytes()]);
    let content = SecretString::from(String::from_utf8(content).map_err(|_| CredentialError::NotBare)?);
    let secret = bare(content.expose_secret())?;
    if is_new
        && !guarded
        && let Some(remedy) = remedy_if_open(metadata.mode(), metadata.uid() == rustix::process::geteuid().as_raw())
    {
        let mode = format!("{:04o}", metadata.mode() & 0o7777);
        tracing::warn!(file = %path.display(), mode, remedy, "Others can read or change a file that holds a secret.");
    }
    Ok(secret)
}

/// What to do about a file that others than its owner can use.
///
/// Where it is somebody else's, such as root's, the group is how we may read it.
const fn remedy_if_open(mode: u32, is_ours: bool) -> Option<&'static str> {
    match (mode & 0o077, is_ours) {
        (0, _) | (0o040, false) => None,
        (_, true) => Some("chmod 600"),
        (_, false) => Some("chmod 640, with a group that has no other member"),
    }
}

/// Blanks around a secret and a byte order mark before it come from editors and `echo`; inside it they are a mistake.
fn bare(content: &str) -> Result<SecretString, CredentialError> {
    let secret = content.trim_start_matches('\u{feff}').trim();
    if secret.is_empty() {
        return Err(CredentialError::Empty);
    }
    if !secret.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\'') {
        return Err(CredentialError::NotBare);
    }
    Ok(secret.to_owned().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::cloudflare::{ApiSettings, BaseUrl, Client, ClientMaker};

    const SECRET: &str = "Zs3cretZs3cretZs3cretZs3cretZs3cretZs3cr";

    fn schemes() -> [Scheme; 2] {
        let secret = || SecretSource::Fixed(SECRET.to_owned().into());
        [Scheme::Token(secret()), Scheme::Key { email: "user@example.com".into(), key: secret() }]
    }

    #[test]
    fn an_echoed_secret_is_taken_out_even_where_it_is_cut() {
        let [token, _] = schemes();
        let credential = Credential::load("default", token).unwrap();
        for (text, redacted) in [
            (SECRET.to_owned(), "[secret]"),
            (format!("Bearer {SECRET}, ü {SECRET}."), "Bearer [secret], ü [secret]."),
            (format!("{SECRET}{SECRET}"), "[secret]"),
            (format!("Bearer {}…", &SECRET[..39]), "Bearer [secret]…"),
            (format!("Bearer {}", &SECRET[..8]), "Bearer [secret]"),
            (
                format!("…{} and {}, {}", &SECRET[2..], &SECRET[5..13], &SECRET[20..30]),
                "…[secret] and [secret], [secret]",
            ),
            (format!("ü{}ü{}ü", &SECRET[1..10], &SECRET[32..]), "ü[secret]ü[secret]ü"),
            ("Zs3cret".to_owned(), "Zs3cret"),
            (String::new(), ""),
        ] {
            assert_eq!(credential.redact(&text), redacted, "{text}");
        }
    }

    #[test]
    fn a_short_secret_is_taken_out_as_a_whole() {
        let credential = |secret: &str| {
            Credential::load("default", Scheme::Token(SecretSource::Fixed(secret.to_owned().into()))).unwrap()
        };
        assert_eq!(credential("abc").redact("abc xabcabcx ab bc"), "[secret] x[secret]x ab bc");
        assert_eq!(credential("12345678").redact("123456789 1234567"), "[secret]9 1234567");
    }

    proptest! {
        #[test]
        fn no_telling_part_of_a_secret_stays(secret in "[a-d0-3]{1,20}", before in "[a-d0-3ü ]{0,30}", from: usize, to: usize) {
            let (from, to) = (from % secret.len(), to % (secret.len() + 1));
            let text = format!("{before}{}{before}{secret}", &secret[from.min(to)..from.max(to)]);
            let scheme = Scheme::Token(SecretSource::Fixed(secret.clone().into()));
            let redacted = Credential::load("default", scheme).unwrap().redact(&text);
            for part in secret.as_bytes().windows(secret.len().min(SHORTEST_HIDDEN)) {
                let part = std::str::from_utf8(part).unwrap();
                prop_assert!(!redacted.replace("[secret]", "\n").contains(part), "{} in {}", part, redacted);
            }
        }
    }

    #[test]
    fn a_large_text_is_redacted_in_one_pass() {
        let [token, _] = schemes();
        let credential = Credential::load("default", token).unwrap();
        // A text that nearly matches everywhere would take hours if every place were looked at from the start again.
        let text = "Zs3creZs3cre".repeat(500_000);
        assert_eq!(credential.redact(&text).len(), text.len());
    }

    #[test]
    fn whatever_a_panic_shows_of_it_holds_no_secret() {
        for scheme in schemes() {
            let credential = Arc::new(Credential::load("default", scheme.clone()).unwrap());
            let settings = ApiSettings {
                base_url: BaseUrl::try_new("https://api.example.com").unwrap(),
                timeout: Duration::from_secs(1),
                requests_per_5m: 1,
                concurrency: 1,
                ca_file: None,
            };
            let maker = ClientMaker::for_one_sweep(|| DateTime::UNIX_EPOCH);
            let client = Client::new(&maker, &settings, Arc::clone(&credential), None).unwrap();
            let request = reqwest::Client::new().get("https://api.example.com").headers(credential.headers().clone());
            for shown in [
                format!("{scheme:?}"),
                format!("{credential:#?}"),
                format!("{client:?}"),
                format!("{request:?}"),
                format!("{:?}", request.build().unwrap()),
            ] {
                assert!(shown.len() > 20 && !shown.contains("s3cret"), "{shown}");
            }
        }
    }

    #[test]
    fn another_secret_in_the_file_is_another_credential() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "the-first-secret").unwrap();
        let source = SecretSource::File { path: path.clone(), guarded: true };
        let first = Credential::load("default", Scheme::Token(source)).unwrap();
        assert!(first.reread().unwrap().is_none());
        std::fs::write(&path, "the-first-secret\n").unwrap();
        assert!(first.reread().unwrap().unwrap() == first);
        std::fs::write(&path, "another-secret").unwrap();
        let other = first.reread().unwrap().unwrap();
        assert!(other != first);
        assert_eq!(other.headers()["authorization"], "Bearer another-secret");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_utf16_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let load = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Credential::load("default", Scheme::Token(SecretSource::File { path: path.clone(), guarded: true }))
        };
        for good in ["\u{feff}a-token\r\n", "a-token", " a-token\n"] {
            assert_eq!(load(good.as_bytes()).unwrap().headers()["authorization"], "Bearer a-token", "{good:?}");
        }
        for text in ["a-token", "\u{feff}a-token\r\n"] {
            for utf16 in [u16::to_le_bytes, u16::to_be_bytes] {
                let bytes: Vec<u8> = text.encode_utf16().flat_map(utf16).collect();
                assert!(matches!(load(&bytes), Err(CredentialError::NotBare)), "{text:?}");
            }
        }
        assert!(matches!(load("a-to\u{feff}ken".as_bytes()), Err(CredentialError::NotBare)));
    }

    #[test]
    fn a_file_is_safe_with_its_owner_alone_or_where_it_is_lent_to_our_group() {
        for (mode, is_ours, is_safe) in [
            (0o100_600, true, true),
            (0o100_400, true, true),
            (0o100_640, true, false),
            (0o100_604, true, false),
            (0o100_620, true, false),
            (0o100_600, false, true),
            (0o100_440, false, true),
            (0o100_640, false, true),
            (0o100_660, false, false),
            (0o100_644, false, false),
        ] {
            assert_eq!(remedy_if_open(mode, is_ours).is_none(), is_safe, "{mode:o} {is_ours}");
        }
    }
}
