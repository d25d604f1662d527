//! What has to hold whatever a web configuration says. Compiled for fuzzers and property tests alone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a property that fails panics")]

use std::path::Path;

use super::{basic_auth::Credentials, config::WebConfig};
/// The bytes are a web configuration, in which the word SECRET stands for `secret`, and the value of `Authorization`.
/// No message holds the secret, of which `holds_secret` knows every form.
pub fn web_configuration(bytes: &[u8], secret: &str, holds_secret: impl Fn(&str) -> bool) {
    let text = String::from_utf8_lossy(bytes).replace("SECRET", secret);
    // There is no such directory, so that no file of this machine matters.
    match WebConfig::parse(text.as_bytes(), Path::new("/nonexistent/web.yml")) {
        Ok(config) => {
            assert!(config.warnings.iter().all(|warning| !holds_secret(warning)), "{config:?}");
            if let Some(tls) = &config.tls {
                let errors = tls.read().and_then(|files| tls.build(&files, config.http2));
                assert!(!holds_secret(&format!("{:?}", errors.map(drop))));
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            // Either ends a line of YAML.
            let lines = 1 + text.matches(['\n', '\r']).count();
            for mistake in mistakes {
                assert!(!holds_secret(&mistake.to_string()), "{mistake}");
                assert!(mistake.line.is_none_or(|line| (1..=lines).contains(&line)), "{mistake}");
            }
        }
    }
    // Whatever it is, it is refused and nothing worse.
    let _ = Credentials::from_header(bytes);
}
