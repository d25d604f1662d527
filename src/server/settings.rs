//! Where is listened, and where the metrics are.

use std::{fmt, io, str::FromStr};

use thiserror::Error;
use tokio::net::TcpListener;

/// An address to listen on: `HOST:PORT`, or `:PORT` for all interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// `None` is every interface.
    host: Option<String>,
    port: u16,
}

/// The text is no address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an address to listen on is HOST:PORT, [IPV6]:PORT, or :PORT for all interfaces")]
pub struct InvalidListenAddress;

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidListenAddress)?;
        // `u16` would take a sign.
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidListenAddress);
        }
        let port = port.parse().map_err(|_| InvalidListenAddress)?;
        let host = match host.strip_prefix('[') {
            None if host.is_empty() => None,
            None if is_host_name(host) => Some(host.to_owned()),
            None => return Err(InvalidListenAddress),
            Some(rest) => {
                let ip = rest.strip_suffix(']').ok_or(InvalidListenAddress)?;
                Some(ip.parse::<std::net::Ipv6Addr>().map_err(|_| InvalidListenAddress)?.to_string())
            }
        };
        Ok(Self { host, port })
    }
}

fn is_host_name(host: &str) -> bool {
    host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_deref() {
            None => write!(f, ":{}", self.port),
            Some(ip) if ip.contains(':') => write!(f, "[{ip}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

impl ListenAddress {
    /// Host and port at which this machine reaches it, for a URL; `None` if any free port is taken.
    #[must_use]
    pub fn reachable(&self) -> Option<String> {
        let host = match self.host.as_deref() {
            // `bind` takes both families.
            None | Some("0.0.0.0") => "127.0.0.1",
            Some("::") => "::1",
            Some(host) => host,
        };
        (self.port != 0).then(|| Self { host: Some(host.to_owned()), port: self.port }.to_string())
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// If the address is taken, not of this machine, or not allowed.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        match self.host.as_deref() {
            Some(host) => TcpListener::bind((host, self.port)).await,
            // One IPv6 socket serves both families, unless the machine has IPv6 switched off.
            None => match TcpListener::bind(("::", self.port)).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind(("0.0.0.0", self.port)).await
                }
                bound => bound,
            },
        }
    }
}

/// Where the metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryPath(String);

/// The text is no path to serve metrics on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a telemetry path begins with a slash, holds letters, digits, `/`, `.`, `-` and `_`, and is not below /-/")]
pub struct InvalidTelemetryPath;

impl TelemetryPath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TelemetryPath {
    type Err = InvalidTelemetryPath;

    fn from_str(text: &str) -> Result<Self, InvalidTelemetryPath> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_'));
        if text.starts_with('/') && plain && text != "/-" && !text.starts_with("/-/") {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTelemetryPath)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_written_as_prometheus_writes_them() {
        for text in [":9100", "127.0.0.1:10199", "localhost:0", "[::1]:9100", "exporter-1.example.com:65535"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "9100",
            "localhost",
            ":",
            ":+1",
            ":65536",
            "::1:9100",
            "[::1]",
            "[::1]9100",
            "[localhost]:1",
            "a b:1",
            "http://x:1",
            "x:1/",
        ] {
            assert_eq!(wrong.parse::<ListenAddress>(), Err(InvalidListenAddress), "{wrong:?}");
        }
    }

    #[test]
    fn a_telemetry_path_cannot_hide_the_health_endpoints() {
        for good in ["/", "/metrics", "/a/b-c_d.e"] {
            assert_eq!(good.parse::<TelemetryPath>().unwrap().as_str(), good);
        }
        for wrong in ["", "metrics", "/-/healthy", "/-", "/{x}", "/a?b", "/a b"] {
            assert_eq!(wrong.parse::<TelemetryPath>(), Err(InvalidTelemetryPath), "{wrong:?}");
        }
    }
}
