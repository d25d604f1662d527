//! The `[credentials.*]` sections, and what stands in for them in the environment.
//!
//! No message holds a value of theirs, the paths of files excepted.

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc};

use super::{
    Context, FORBIDDEN, check_name,
    document::{Entry, Place, Section, text_as},
};
use crate::cloudflare::{Credential, CredentialError, Scheme, SecretSource, check_email};

/// The credential of a zone or account that names none.
pub(super) const DEFAULT: &str = "default";

/// The variable with the directory in which systemd hands over what no other user can read.
const SYSTEMD_FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// The name under which systemd hands over a token.
const SYSTEMD_CREDENTIAL: &str = "cloudflare-api-token";

impl Context<'_> {
    /// Every credential that can be used, and the names of all.
    pub(super) fn read_credentials<'a>(&self, section: &Section<'a>) -> (Vec<Arc<Credential>>, BTreeSet<&'a str>) {
        if section.is_empty() {
            return (self.default_credential().into_iter().collect(), BTreeSet::from([DEFAULT]));
        }
        let sections = section.sections("a credential must be a section with a name, such as [credentials.default]");
        let names = sections.iter().map(|(name, _)| *name).collect();
        let credentials = sections.into_iter().filter_map(|(name, section)| self.read_credential(name, section));
        (credentials.collect(), names)
    }

    fn read_credential(&self, name: &str, mut section: Section<'_>) -> Option<Arc<Credential>> {
        if let Err(mistake) = check_name(name) {
            self.report.mistake(&section.place, mistake);
        }
        let place = section.place.clone();
        let keys = ["api_token_file", "api_token_env", "api_email", "api_key_file", "api_key_env"];
        let entries = keys.map(|key| section.take(key));
        section.finish();
        match &entries {
            [Some(file), None, None, None, None] => self.load(name, None, file, true),
            [None, Some(variable), None, None, None] => self.load(name, None, variable, false),
            [None, None, Some(email), Some(file), None] => self.load(name, Some(email), file, true),
            [None, None, Some(email), None, Some(variable)] => self.load(name, Some(email), variable, false),
            entries => {
                let found: Vec<_> =
                    keys.iter().zip(entries).filter(|(_, e)| e.is_some()).map(|(key, _)| *key).collect();
                let found = if found.is_empty() { "no known key".to_owned() } else { found.join(" and ") };
                self.report.mistake(
                    &place,
                    format!(
                        "it has {found}, but needs exactly one of these: api_token_file, api_token_env, \
                         api_email with api_key_file, or api_email with api_key_env"
                    ),
                );
                None
            }
        }
    }

    fn load(
        &self,
        name: &str,
        email: Option<&Entry<'_>>,
        secret: &Entry<'_>,
        is_in_file: bool,
    ) -> Option<Arc<Credential>> {
        let email = email.and_then(|entry| entry.read(text_as(|email| check_email(email).map(|()| email.to_owned()))));
        let credential = secret.read(text_as(|value| {
            let source = match (is_in_file, (self.environment)(value)) {
                (true, _) => self.file(self.path(value)),
                (false, Some(secret)) => SecretSource::Fixed(secret.into()),
                (false, None) => return Err("the environment variable that it names is not set or is empty; set it where this program is started".to_owned()),
            };
            // Read even where the address is bad, so that every mistake is in the report.
            let scheme = match &email {
                None => Scheme::Token(source.clone()),
                Some(email) => Scheme::Key { email: email.clone(), key: source.clone() },
            };
            Credential::load(name, scheme).map_err(|error| match source {
                SecretSource::File { .. } => self.unusable_file(value, &error, remedy_for_file(&error)),
                SecretSource::Fixed(_) => {
                    format!("the value of the environment variable that it names cannot be used: {error}")
                }
            })
        }))?;
        Some(Arc::new(credential))
    }

    fn file(&self, path: PathBuf) -> SecretSource {
        let guarded = (self.environment)(SYSTEMD_FOLDER).is_some_and(|directory| path.starts_with(directory));
        SecretSource::File { path, guarded }
    }

    /// What a file without credentials takes from the environment.
    fn default_credential(&self) -> Option<Arc<Credential>> {
        let variable = |name: &str| (self.environment)(name);
        let place = Place::absent("credentials");
        let file = variable(SYSTEMD_FOLDER).map(|directory| PathBuf::from(directory).join(SYSTEMD_CREDENTIAL));
        let token = variable("CLOUDFLARE_API_TOKEN");
        let (email, key) = (variable("CLOUDFLARE_EMAIL"), variable("CLOUDFLARE_API_KEY"));
        let (scheme, origin) = match (file.filter(|file| file.exists()), token, email, key) {
            (Some(file), ..) => (Scheme::Token(self.file(file.clone())), file.display().to_string()),
            (None, Some(token), ..) => {
                (Scheme::Token(SecretSource::Fixed(token.into())), "CLOUDFLARE_API_TOKEN".to_owned())
            }
            (None, None, Some(email), Some(key)) => (
                Scheme::Key { email, key: SecretSource::Fixed(key.into()) },
                "CLOUDFLARE_EMAIL with CLOUDFLARE_API_KEY".to_owned(),
            ),
            (None, None, email, key) => {
                let set_both = "set both, or CLOUDFLARE_API_TOKEN in their place";
                let text = match (email, key) {
                    (Some(_), None) => format!("CLOUDFLARE_EMAIL is set without CLOUDFLARE_API_KEY; {set_both}"),
                    (None, Some(_)) => format!("CLOUDFLARE_API_KEY is set without CLOUDFLARE_EMAIL; {set_both}"),
                    _ => self.no_token(),
                };
                self.report.mistake(&place, text);
                return None;
            }
        };
        Credential::load(DEFAULT, scheme)
            .map_err(|error| self.report.mistake(&place, format!("{origin} cannot be used: {error}")))
            .ok()
            .map(Arc::new)
    }

    /// The commonest ways to pass a token; the documentation has the others.
    fn no_token(&self) -> String {
        let file = self.file.display();
        format!(
            "there is no API token; set CLOUDFLARE_API_TOKEN, or set api_token_file in a section [credentials.default] of \
             {file}. Create the token in the dashboard under My Profile > API Tokens, with the permission \
             SSL and Certificates: Read, and Zone: Read to find zones"
        )
    }
}

/// The remedy where the file of a secret is of no use; the error of what is in it has its own.
fn remedy_for_file(error: &CredentialError) -> Option<&'static str> {
    match error {
        CredentialError::Unreadable(error) => Some(match error.kind() {
            io::ErrorKind::NotFound => "create it with the bare secret in it, or name another file",
            io::ErrorKind::PermissionDenied => FORBIDDEN,
            _ => "name a file that holds the bare secret",
        }),
        CredentialError::Empty => Some("write the bare secret into it"),
        CredentialError::NotBare | CredentialError::Email => None,
    }
}
