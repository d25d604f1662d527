//! The YAML of a web configuration, as texts and numbers with their lines.
//!
//! The only place that knows the YAML library. What the values mean is for others; here is which keys there are, and
//! that no message repeats a value: it may be a key or the hash of a password.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_saphyr::{Error, Spanned};

use super::report::{WebMistake, line, shown};

/// The whole file. Whatever is absent or null is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) tls_server_config: Option<TlsSection>,
    pub(super) http_server_config: Option<HttpSection>,
    pub(super) basic_auth_users: Option<BTreeMap<String, Secret>>,
    pub(super) rate_limit: Option<RateLimitSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsSection {
    pub(super) cert: Secret,
    pub(super) key: Secret,
    pub(super) client_ca: Secret,
    pub(super) cert_file: Text,
    pub(super) key_file: Text,
    pub(super) client_ca_file: Text,
    pub(super) client_auth_type: Text,
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) cipher_suites: Option<Vec<Spanned<String>>>,
    pub(super) curve_preferences: Option<Vec<Spanned<String>>>,
    pub(super) min_version: Text,
    pub(super) max_version: Text,
    pub(super) prefer_server_cipher_suites: Option<bool>,
}

impl TlsSection {
    /// Whether it asks for TLS: one of these is there and not blank.
    pub(super) fn asks_for_tls(&self) -> bool {
        let texts = [&self.cert_file, &self.key_file, &self.client_ca_file, &self.client_auth_type];
        let secrets = [&self.cert, &self.key, &self.client_ca];
        texts.into_iter().flatten().any(|text| !text.value.is_empty())
            || secrets.into_iter().flatten().any(|secret| !secret.value.expose_secret().is_empty())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpSection {
    pub(super) http2: Option<bool>,
    pub(super) headers: Option<BTreeMap<String, Text>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimitSection {
    pub(super) interval: Text,
    pub(super) burst: Option<i64>,
}

/// A text as it is written; numbers are texts too where one is wanted.
pub(super) type Text = Option<Spanned<String>>;

/// One that no message repeats.
pub(super) type Secret = Option<Spanned<SecretString>>;

/// Reads what a file holds.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, WebMistake> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = Some(good.iter().filter(|&&byte| byte == b'\n').count() + 1);
        let text = "yaml: this is not valid YAML: it is not UTF-8 text".to_owned();
        WebMistake { line, key: String::new(), text }
    })?;
    let options = serde_saphyr::options! {
        // It would print the line, with whatever secret is in it.
        with_snippet: false,
    };
    let document: Result<Option<Document>, _> = serde_saphyr::from_str_with_options(text, options);
    document.map(Option::unwrap_or_default).map_err(|error| mistake(&error))
}

/// What is wrong with the file, in words of which none can be a value of it. Each begins as the toolkit's begins.
fn mistake(error: &Error) -> WebMistake {
    let error = error.without_snippet();
    let line = error.location().and_then(|location| line(location.line()));
    let another = |expected| {
        let wanted = in_words(expected).map(|wanted| format!(", which is {wanted}")).unwrap_or_default();
        format!("this is not the YAML that is wanted here (cannot unmarshal){wanted}")
    };
    let (key, text) = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let field = shown(field);
            (
                field.clone(),
                format!("unknown key (field {field} not found); the known keys here are {}", expected.join(", ")),
            )
        }
        Error::DuplicateMappingKey { key, .. } => (
            key.as_deref().map(shown).unwrap_or_default(),
            "this key is there twice (already set); remove one of the two".to_owned(),
        ),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            (String::new(), another(expected))
        }
        Error::Unexpected { expected, .. } => (String::new(), another(expected)),
        Error::InvalidScalar { ty, .. } => (String::new(), another(ty)),
        Error::MultipleDocuments { .. } => {
            (String::new(), "a second YAML document begins here; the file must hold one".to_owned())
        }
        Error::UnknownAnchor { .. } => (
            String::new(),
            "this is not valid YAML: a name after * that is nowhere defined with &; put the value into quotes"
                .to_owned(),
        ),
        _ => (
            String::new(),
            "this is not valid YAML; look at the indentation, at colons and at quotes, here and in the line before"
                .to_owned(),
        ),
    };
    WebMistake { line, key, text: format!("yaml: {text}") }
}

/// What the library calls a type, if it is one that the file has.
fn in_words(expected: &str) -> Option<&'static str> {
    match expected {
        "bool" | "boolean" | "a boolean" => Some("true or false"),
        "i64" | "integer" => Some("a whole number"),
        expected if expected.starts_with("struct") || expected.contains("map") => {
            Some("a section: keys below it, each with more indentation")
        }
        expected if expected.contains("sequence") => Some("a list: a line with a dash for each entry"),
        expected if expected.contains("str") => Some("text"),
        _ => None,
    }
}
