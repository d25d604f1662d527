//! Small files that a person names: the configuration, secrets, certificates.
//!
//! A path can lead to anything. Here a pipe, a device or a directory is an error at once, and never waited for. A disk
//! that hangs still blocks the thread: callers that have other things to do read on a thread of its own.
//! [`watch`] follows files that change.

pub mod watch;

use std::{
    fs::{File, FileType, Metadata},
    io::{self, Read as _},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// Far more than any configuration or bundle of certificates needs.
const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// Opens a regular file to read it.
///
/// The type is that of what was opened: the path can lead elsewhere a moment later.
///
/// # Errors
/// If it cannot be opened, or is something else than a regular file.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // With NONBLOCK neither a pipe without a writer nor a file that somebody has a lease on is waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        // What a socket and a device without a driver say.
        Err(Errno::NXIO | Errno::NODEV) => return Err(not_regular(path.metadata()?.file_type())),
        opened => File::from(opened?),
    };
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(not_regular(metadata.file_type())) }
}

/// Reads a regular file of at most 10 MiB.
///
/// # Errors
/// If it cannot be read, is something else than a regular file, or is larger.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_BYTES).map(|(bytes, _)| bytes)
}

/// Reads a regular file of at most so many bytes.
///
/// # Errors
/// If it cannot be read, is something else than a regular file, or is larger.
pub fn read_at_most(path: &Path, limit: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let (file, metadata) = open(path)?;
    // Growing would leave copies of a secret behind that are never wiped.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let limit = if limit < 1 << 20 { format!("{} KiB", limit >> 10) } else { format!("{} MiB", limit >> 20) };
        return Err(io::Error::other(format!("it is larger than {limit}, so it is some other file")));
    }
    Ok((bytes, metadata))
}

fn not_regular(is: FileType) -> io::Error {
    let what = if is.is_dir() {
        "a directory"
    } else if is.is_fifo() {
        "a pipe"
    } else if is.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    io::Error::other(format!("it is not a regular file but {what}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn whatever_is_no_regular_file_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        symlink(path("pipe"), path("to-a-pipe")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        symlink(path("loop"), path("loop")).unwrap();
        std::fs::write(path("file"), "text").unwrap();
        symlink(path("file"), path("to-a-file")).unwrap();
        let large = File::create(path("large")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        for (path, expected) in [
            (path("pipe"), "but a pipe"),
            (path("to-a-pipe"), "but a pipe"),
            (path("socket"), "but a socket"),
            (path(""), "but a directory"),
            ("/dev/zero".into(), "but a device"),
            ("/dev/full".into(), "but a device"),
            ("/dev/tty".into(), "but a device"),
            (path("dangling"), "No such file"),
            (path("loop"), "symbolic links"),
            (path("large"), "larger than 10 MiB"),
        ] {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{path:?}: {error}");
        }
        assert_eq!(read(&path("to-a-file")).unwrap(), b"text");
        // Its length is reported as 0.
        assert!(!read(Path::new("/proc/self/status")).unwrap().is_empty());
    }
}
