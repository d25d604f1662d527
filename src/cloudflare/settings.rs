//! Where the API is, and how many requests it may get.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use reqwest::Url;
use thiserror::Error;

use super::CaFile;

/// What the client needs in addition to a credential.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiSettings {
    /// Where the API is.
    pub base_url: BaseUrl,
    /// The longest that one request may take, connection and body included; within [`ApiSettings::TIMEOUT`].
    pub timeout: Duration,
    /// The budget of each credential: requests in any five minutes; within [`ApiSettings::REQUESTS_PER_5M`].
    pub requests_per_5m: u32,
    /// Requests in flight for each credential; within [`ApiSettings::CONCURRENCY`].
    pub concurrency: u32,
    /// Certificate authorities that are trusted in addition to the system's, for an inspecting proxy.
    pub ca_file: Option<Arc<CaFile>>,
}

impl ApiSettings {
    /// What `timeout` can be.
    pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10 * 60);
    /// What `requests_per_5m` can be. Cloudflare itself blocks a user beyond 1200, unless more is agreed on.
    pub const REQUESTS_PER_5M: RangeInclusive<u32> = 1..=1_000_000;
    /// What `concurrency` can be.
    pub const CONCURRENCY: RangeInclusive<u32> = 1..=100;
}

/// Where the API is: https, or plain http to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why a text is no base URL. No variant repeats it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidBaseUrl {
    /// Not a URL.
    #[error("it is not a URL: {0}")]
    NotAUrl(String),
    /// Secrets would go over the network in plain text.
    #[error(
        "it must begin with https:// (http:// is for a loopback address alone, since a token travels with each request)"
    )]
    NotSecure,
    /// User, password, query or fragment.
    #[error("it must hold nothing but scheme, host, port and path")]
    TooMuch,
}

impl BaseUrl {
    /// Checks the text.
    ///
    /// # Errors
    /// If it is not a URL that a token may be sent to.
    pub fn try_new(text: &str) -> Result<Self, InvalidBaseUrl> {
        let url = Url::parse(text).map_err(|error| InvalidBaseUrl::NotAUrl(error.to_string()))?;
        let loopback = match url.host_str() {
            Some("localhost") => true,
            Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            None => false,
        };
        if !(url.scheme() == "https" || url.scheme() == "http" && loopback) {
            return Err(InvalidBaseUrl::NotSecure);
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidBaseUrl::TooMuch);
        }
        Ok(Self(url))
    }

    pub(super) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// The URL with a path and a query added. `path` begins with a slash and needs no escaping.
    pub(super) fn join(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = self.0.clone();
        let joined = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&joined);
        url.set_query(query);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_over_https_or_within_this_machine() {
        for good in [
            "https://api.cloudflare.com/client/v4",
            "https://api.cloudflare.com/client/v4/",
            "http://127.0.0.1:8080",
            "http://127.1.2.3",
            "http://localhost:1/x",
            "http://[::1]:80/client/v4",
        ] {
            assert!(BaseUrl::try_new(good).is_ok(), "{good}");
        }
        for (wrong, error) in [
            ("http://api.cloudflare.com/client/v4", InvalidBaseUrl::NotSecure),
            ("http://localhost.example.com", InvalidBaseUrl::NotSecure),
            ("ftp://127.0.0.1/", InvalidBaseUrl::NotSecure),
            ("file:///etc/passwd", InvalidBaseUrl::NotSecure),
            ("https://user:secret@example.com/", InvalidBaseUrl::TooMuch),
            ("https://example.com/?a=b", InvalidBaseUrl::TooMuch),
            ("https://example.com/#a", InvalidBaseUrl::TooMuch),
            ("api.cloudflare.com", InvalidBaseUrl::NotAUrl("relative URL without a base".into())),
        ] {
            assert_eq!(BaseUrl::try_new(wrong), Err(error), "{wrong}");
        }
    }

    #[test]
    fn paths_are_added_with_one_slash() {
        for base in ["https://api.example/client/v4", "https://api.example/client/v4/"] {
            let url = BaseUrl::try_new(base).unwrap().join("/zones/x", Some("page=1"));
            assert_eq!(url.as_str(), "https://api.example/client/v4/zones/x?page=1");
        }
        assert_eq!(BaseUrl::try_new("http://[::1]:8").unwrap().join("/zones", None).as_str(), "http://[::1]:8/zones");
    }
}
