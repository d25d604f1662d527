//! What a file says, checked, section by section.

use std::{path::Path, str::FromStr as _};

use axum::http::{HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use serde_saphyr::Spanned;

use super::{
    basic_auth::Users,
    document::{self, Document},
    file::{FileBytes, read_bytes},
    rate_limit::GuessLimit,
    report::{Findings, WebConfigErrors, WebMistake, line, shown},
    tls::TlsSettings,
};

/// What a file says, every value of it right. The certificates that it names are read when they are needed.
#[derive(Debug)]
pub struct WebConfig {
    pub(super) tls: Option<TlsSettings>,
    pub(super) http2: bool,
    /// What every answer has to have.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) users: Users,
    pub(super) rate_limit: Option<GuessLimit>,
    /// What works, and hardly as it was meant.
    pub(super) warnings: Vec<String>,
}

impl WebConfig {
    /// Reads a file and the certificates that it names, as a server would, and tells what is odd about it.
    ///
    /// # Errors
    /// With every mistake, if there is one.
    pub fn check(file: &Path) -> Result<Vec<String>, WebConfigErrors> {
        Ok(Self::load(file)?.warnings)
    }

    /// Whether a server with this file speaks TLS; whether all else in it is right does not matter.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn asks_for_tls(file: &Path) -> Result<bool, WebConfigErrors> {
        let fail = |mistakes| WebConfigErrors { file: file.to_owned(), mistakes };
        let bytes = read_file(file).map_err(fail)?;
        let document = document::parse(bytes.expose_secret()).map_err(|mistake| fail(vec![mistake]))?;
        Ok(document.tls_server_config.is_some_and(|tls| tls.asks_for_tls()))
    }

    /// Reads a file, and sees whether TLS can be made of those that it names.
    pub(super) fn load(file: &Path) -> Result<Self, WebConfigErrors> {
        let fail = |mistakes| WebConfigErrors { file: file.to_owned(), mistakes };
        let bytes = read_file(file).map_err(fail)?;
        let (mut config, mut mistakes) =
            Self::read_bytes(bytes.expose_secret(), file).map_err(|mistake| fail(vec![mistake]))?;
        // Also where there are mistakes, so that those of the files are reported with them.
        if let Some(tls) = &config.tls {
            match tls.read().and_then(|files| tls.build(&files, config.http2)) {
                Ok((_, warnings)) => config.warnings.extend(warnings),
                Err(more) => mistakes.extend(more),
            }
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        if mistakes.is_empty() { Ok(config) } else { Err(fail(mistakes)) }
    }

    /// Reads what this file holds, but not the certificates that it names.
    pub(super) fn parse(bytes: &[u8], file: &Path) -> Result<Self, Vec<WebMistake>> {
        let (config, mistakes) = Self::read_bytes(bytes, file).map_err(|mistake| vec![mistake])?;
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }

    /// What is right only if there is no mistake, and every mistake in the text.
    fn read_bytes(bytes: &[u8], file: &Path) -> Result<(Self, Vec<WebMistake>), WebMistake> {
        let mut report = Findings::default();
        // Where the paths in it start.
        let directory = file.parent().unwrap_or(Path::new(""));
        let config = Self::read(document::parse(bytes)?, directory, &mut report);
        report.mistakes.sort_by_key(|mistake| mistake.line);
        Ok((Self { warnings: report.warnings, ..config }, report.mistakes))
    }

    /// Reads every section. Where one has a mistake something stands in, so that the rest is read too.
    fn read(document: Document, directory: &Path, report: &mut Findings) -> Self {
        let http = document.http_server_config.unwrap_or_default();
        let http2 = http.http2.unwrap_or(true);
        let headers = http.headers.unwrap_or_default();
        Self {
            tls: TlsSettings::read_section(document.tls_server_config.unwrap_or_default(), directory, http2, report),
            http2,
            headers: headers.into_iter().filter_map(|(name, value)| read_header(&name, value, report)).collect(),
            users: Users::read(document.basic_auth_users.unwrap_or_default(), report),
            rate_limit: GuessLimit::read(document.rate_limit.unwrap_or_default(), report),
            warnings: Vec::new(),
        }
    }
}

/// The headers that can be set, and to what, where not to anything.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

fn read_header(name: &str, value: Option<Spanned<String>>, report: &mut Findings) -> Option<(HeaderName, HeaderValue)> {
    let key = format!("http_server_config.headers.{}", shown(name));
    let at = value.as_ref().and_then(|value| line(value.referenced.line()));
    let value = value.map(|value| value.value).unwrap_or_default();
    let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        let known = HEADERS.map(|(known, _)| known).join(", ");
        let text = format!("HTTP header {:?} can not be configured; those that can are {known}", shown(name));
        report.mistake(at, &key, text);
        return None;
    };
    if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
        let text =
            format!("invalid value for {name}: expected one of {}, but got {:?}", allowed.join(", "), shown(&value));
        report.mistake(at, &key, text);
        return None;
    }
    let (Ok(header), Ok(content)) = (HeaderName::from_str(name), HeaderValue::from_str(&value)) else {
        report.mistake(at, &key, format!("invalid value for {name}: it holds a character that no header can"));
        return None;
    };
    // Blank means that the header is not sent.
    (!value.is_empty()).then_some((header, content))
}

pub(super) fn read_file(file: &Path) -> Result<FileBytes, Vec<WebMistake>> {
    let remedy = "--web.config.file or server.web_config_file has to name a file that this user can read";
    read_bytes(file).map_err(|error| {
        let text = format!("the web configuration cannot be read: {error}; {remedy}");
        vec![WebMistake::new("", text)]
    })
}
