//! What has to hold whatever a web configuration says. See `src/properties.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a property that fails panics")]

use std::path::Path;

use super::{basic_auth::Credentials, config::WebConfig};
use crate::model::StandIn;

/// As long as a line of a key can be.
const SECRET_LENGTH: usize = 49;

/// The bytes are a web configuration, in which the word SECRET stands for one, and the value of `Authorization`.
pub fn web_configuration(bytes: &[u8]) {
    let secret = StandIn::of(bytes, SECRET_LENGTH);
    let text = String::from_utf8_lossy(bytes).replace("SECRET", secret.text());
    // There is no such folder, so that no file of this machine matters.
    match WebConfig::parse(&text, Path::new("/nonexistent")) {
        Ok(config) => {
            assert!(config.warnings.iter().all(|warning| !secret.is_in(warning)), "{config:?}");
            if let Some(tls) = &config.tls {
                let errors = tls.read().and_then(|files| tls.build(&files, config.http2));
                assert!(!secret.is_in(&format!("{:?}", errors.map(drop))));
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            // Either ends a line of YAML.
            let lines = 1 + text.matches(['\n', '\r']).count();
            for mistake in mistakes {
                assert!(!secret.is_in(&mistake.to_string()), "{mistake}");
                assert!(mistake.line.is_none_or(|line| (1..=lines).contains(&line)), "{mistake}");
            }
        }
    }
    // Whatever it is, it is refused and nothing worse.
    let _ = Credentials::from_header(bytes);
}
