//! Where is listened, and where the metrics are.

use std::{
    fmt, io,
    net::{Ipv6Addr, SocketAddr},
    str::FromStr,
};

use socket2::SockRef;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

/// An address to listen on: `HOST:PORT`, or `:PORT` for all interfaces.
///
/// As in Go, `[::]:PORT` serves IPv4 as well; beside `0.0.0.0:PORT`, IPv6 alone.
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
                Some(ip.parse::<Ipv6Addr>().map_err(|_| InvalidListenAddress)?.to_string())
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

    /// The same with the port that it really has.
    #[must_use]
    pub fn bound_by(&self, listener: &TcpListener) -> Self {
        let port = listener.local_addr().map_or(self.port, |bound| bound.port());
        Self { host: self.host.clone(), port }
    }

    /// Starts to listen, on one of all these addresses.
    ///
    /// # Errors
    /// If the address is taken, not of this machine, or not allowed.
    pub async fn bind(&self, all: &[Self]) -> io::Result<TcpListener> {
        let is_ipv4_of_the_same = |other: &Self| other.host.as_deref() == Some("0.0.0.0") && other.port == self.port;
        match self.host.as_deref() {
            Some("::") => listen_on_ipv6(self.port, all.iter().any(is_ipv4_of_the_same)),
            Some(host) => TcpListener::bind((host, self.port)).await,
            // Unless the machine has IPv6 switched off.
            None => match listen_on_ipv6(self.port, false) {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind(("0.0.0.0", self.port)).await
                }
                bound => bound,
            },
        }
    }
}

/// Listens on all interfaces, with IPv4 unless it is to be IPv6 alone. What a system does without either is a
/// setting of it (`net.ipv6.bindv6only`).
fn listen_on_ipv6(port: u16, alone: bool) -> io::Result<TcpListener> {
    // As tokio's own `bind` has it.
    const BACKLOG: u32 = 1024;
    let socket = TcpSocket::new_v6()?;
    SockRef::from(&socket).set_only_v6(alone)?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    socket.listen(BACKLOG)
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
    use std::net::Ipv4Addr;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn all_interfaces_are_those_of_both_families() {
        for text in [":0", "[::]:0"] {
            let address: ListenAddress = text.parse().unwrap();
            let Ok(listener) = address.bind(&[]).await else {
                assert_eq!(text, "[::]:0", "only a machine without IPv6 may refuse this");
                continue;
            };
            let bound = listener.local_addr().unwrap();
            TcpStream::connect((Ipv4Addr::LOCALHOST, bound.port())).await.unwrap();
            if bound.is_ipv6() {
                assert!(!SockRef::from(&listener).only_v6().unwrap());
            }
            // A port of both families is taken.
            let taken: ListenAddress = format!(":{}", bound.port()).parse().unwrap();
            assert_eq!(taken.bind(&[]).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }

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
