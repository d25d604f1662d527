//! Files that are read again when they change, and what is odd about files that people write.

use std::{
    convert::Infallible,
    fmt::Display,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime},
};

use tokio::{task::spawn_blocking, time::sleep};

/// How often it is looked whether a file changed.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What tells one version of a file from another: a new one can have the same size, and a restored one an older time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileVersion {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
    mode: u32,
}

impl FileVersion {
    /// The version that is there now.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode: metadata.ino(), mode: metadata.mode() }
    }
}

/// The bytes without the mark that some editors put before UTF-8 text.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Whether it is text in UTF-16, with its mark or without: every other byte of ASCII is zero there.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [0, first, 0, second, ..] | [first, 0, second, 0, ..] => *first != 0 && *second != 0,
        _ => false,
    }
}

/// Calls `refresh` every second, which reads a file again if it changed, then `changed` if there is something new.
/// `complain` gets each error once. Never ends.
pub(super) async fn watch<E, F>(
    refresh: impl Fn() -> Result<bool, E> + Clone + Send + 'static,
    mut changed: impl FnMut() -> F,
    complain: impl Fn(&str),
) -> Infallible
where
    E: Display + Send + 'static,
    F: Future<Output = ()>,
{
    let mut reported = None;
    loop {
        sleep(WATCH_EVERY).await;
        let refresh = refresh.clone();
        // A file can be on a disk that hangs.
        let refreshed = spawn_blocking(move || refresh().map_err(|error| error.to_string())).await;
        match refreshed.unwrap_or_else(|bug| Err(bug.to_string())) {
            Ok(is_new) => {
                reported = None;
                if is_new {
                    changed().await;
                }
            }
            Err(error) => {
                if reported.as_ref() != Some(&error) {
                    complain(&error);
                    reported = Some(error);
                }
            }
        }
    }
}
