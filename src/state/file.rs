//! One state file: JSON that says what it is. It is written beside the old one and put in its place.
//!
//! Plain functions that block; who may call them when is decided above.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::files;

/// Ends the name of a file while it is written.
pub(super) const TEMPORARY: &str = ".tmp";

/// Ends the name of a file that could not be used.
pub(super) const KEPT_ASIDE: &str = ".unusable";

/// How every file ends.
const END: &[u8] = b"}\n";

/// A million certificates, the most that a listing can hold, take 600 MB.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct StateFile<T> {
    format: Format,
    content: T,
}

/// Fields of a file with another number may mean something else.
#[derive(Serialize, Deserialize)]
enum Format {
    #[serde(rename = "cloudflare-cert-exporter state, format 1")]
    One,
}

/// Writes a file beside the old one and puts it in its place. With `durable` both are on the disk then.
pub(super) fn replace(path: &Path, value: &impl Serialize, durable: bool) -> io::Result<()> {
    let temporary = with_suffix(path, TEMPORARY);
    let written = create(&temporary, value, durable).and_then(|()| fs::rename(&temporary, path)).and_then(|()| {
        match path.parent().filter(|_| durable) {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    });
    if written.is_err() {
        // Half a file takes room on a disk that may be full.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn create(path: &Path, value: &impl Serialize, durable: bool) -> io::Result<()> {
    // Opening a pipe that somebody has put there would wait for a reader.
    if fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo()) {
        fs::remove_file(path)?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut buffered = BufWriter::with_capacity(64 * 1024, &file);
    write(&mut buffered, value)?;
    buffered.flush()?;
    if durable { file.sync_all() } else { Ok(()) }
}

pub(super) fn write(mut writer: impl Write, content: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut writer, &StateFile { format: Format::One, content })?;
    writer.write_all(b"\n")
}

/// A file that holds this JSON.
#[cfg(any(test, fuzzing))]
pub(super) fn with_content(json: &[u8]) -> Vec<u8> {
    [br#"{"format":"cloudflare-cert-exporter state, format 1","content":"#, json, END].concat()
}

/// The value in a file, `None` where there is none, or why it cannot be used.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let unreadable = |error: io::Error| format!("it cannot be read: {error}");
    let (mut file, metadata) = match files::open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        opened => opened.map_err(unreadable)?,
    };
    // A piece of a file, or one that is much larger than it was, need not be read.
    if metadata.len() > MAX_BYTES || !ends_well(&mut file, metadata.len()).map_err(unreadable)? {
        return Err("it is damaged: its end is missing".to_owned());
    }
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(unreadable)?;
    parse(&bytes).map(Some)
}

/// A write that did not end leaves no such file, since it takes place beside this one.
fn ends_well(file: &mut File, length: u64) -> io::Result<bool> {
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(END.len() as u64)))?;
    file.read_to_end(&mut end)?;
    Ok(end == END)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let file = serde_json::from_slice(bytes).map(|StateFile { content, .. }| content);
    file.map_err(|error| format!("it is not a state file of this version of the program: {error}"))
}

/// Renames a file, so that a person can look at it; one that was kept before makes room.
pub(super) fn keep_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = with_suffix(path, KEPT_ASIDE);
    fs::rename(path, &aside).map(|()| aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
