//! Mistakes and warnings about a web configuration, each with its line and key, and which values they may repeat.

use std::{error::Error, fmt, path::PathBuf};

/// One mistake, with the line and the full name of the key that it is about, where it is about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebMistake {
    /// Counted from 1.
    pub line: Option<usize>,
    /// Empty where it is about the file itself.
    pub key: String,
    /// What is wrong.
    pub text: String,
}

impl WebMistake {
    /// One that is about no line: what lacks has none.
    pub(super) fn new(key: &str, text: impl Into<String>) -> Self {
        Self { line: None, key: key.to_owned(), text: text.into() }
    }
}

/// Why a file is no web configuration: every mistake in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub mistakes: Vec<WebMistake>,
}

impl fmt::Display for WebMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.text)
    }
}

impl fmt::Display for WebConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "\n" })?;
            write!(f, "{}:{mistake}", self.file.display())?;
        }
        Ok(())
    }
}

impl Error for WebConfigErrors {}

/// Collects mistakes and warnings while a document is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) mistakes: Vec<WebMistake>,
    pub(super) warnings: Vec<String>,
}

impl Findings {
    pub(super) fn mistake(&mut self, line: Option<usize>, key: &str, text: impl Into<String>) {
        self.mistakes.push(WebMistake { line, key: key.to_owned(), text: text.into() });
    }
}

/// The line of a value, counted from 1.
pub(super) fn line(line: u64) -> Option<usize> {
    usize::try_from(line).ok().filter(|line| *line > 0)
}

/// What stands for a text in a message when that may be a secret.
pub(super) const HIDDEN: &str = "(not shown, it may be a secret)";

/// A text for a message, unless it could be a secret.
pub(super) fn shown(text: &str) -> String {
    if may_be_secret(text) { HIDDEN.to_owned() } else { text.to_owned() }
}

/// Whether a text could be a hash of bcrypt, a line of a key, or more than was meant. A line of a key has slashes too,
/// but none of what sets names apart; and whatever is as long without a slash is no part of a path.
pub(super) fn may_be_secret(text: &str) -> bool {
    let longest = |is_of_a_key: fn(char) -> bool| {
        text.split(|c| !is_of_a_key(c)).map(str::len).max().is_some_and(|longest| longest >= 40)
    };
    let is_path = text.contains(['.', '-', '_']);
    longest(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '='))
        || (!is_path && longest(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '=' | '/')))
        || text.contains('$')
        || text.contains("PRIVATE KEY")
        || text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_and_secrets_are_not() {
        for (text, is_shown) in [
            ("server.pem", true),
            ("/etc/prometheus/exporters/cloudflare/certificates/server.pem", true),
            ("/var/lib/acme/live/exporter-1-of-the-monitoring.example.com/fullchain_and_more.pem", true),
            ("/etc/cloudflare-cert-exporter/tls/certificates/of/this/machine/server", true),
            ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", true),
            ("$2y$10$QOauhQNbBCuQDKes6eFzPe", false),
            ("MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/a/b/c/d/e+f+g/h", false),
            ("./MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgabcdefgh", false),
            ("-----BEGIN PRIVATE KEY-----", false),
            ("a\nb", false),
        ] {
            assert_eq!(shown(text) != HIDDEN, is_shown, "{text}");
        }
    }
}
