//! systemd's side of `$NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;

use super::DEADLINE;

/// Receives what a program sends to systemd.
pub(crate) struct FakeSystemd {
    pub(crate) socket: UnixDatagram,
    /// The value of `$NOTIFY_SOCKET`.
    pub(crate) path: String,
    _directory: tempfile::TempDir,
}

impl FakeSystemd {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned(), _directory: directory }
    }

    /// The next message, but for those that feed the watchdog.
    pub(crate) fn next(&self) -> String {
        loop {
            let message = self.any();
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    pub(crate) fn any(&self) -> String {
        self.if_any().unwrap()
    }

    pub(crate) fn if_any(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
    }
}
