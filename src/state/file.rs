//! One state file: a line that says what it is, JSON, and a line with its checksum.
//!
//! Plain functions that block; who may call them when is decided above.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Ends the name of a file while it is written.
pub(super) const TEMPORARY: &str = ".tmp";

/// Ends the name of a file that could not be used.
pub(super) const KEPT_ASIDE: &str = ".unusable";

const FIRST_LINE: &str = "cloudflare-cert-exporter state, format ";

/// It holds the number of the format too.
const MAX_FIRST_LINE_BYTES: u64 = FIRST_LINE.len() as u64 + 16;

/// A file of another number is not touched: its fields may mean something else.
const FORMAT: u32 = 1;

/// How the last line begins, and how long it is: a torn file has no such line.
const LAST_LINE: &str = "crc32 ";
const LAST_LINE_BYTES: usize = LAST_LINE.len() + 8 + 1;

/// A million certificates, the most that a listing can hold, take 600 MB.
const MAX_BYTES: u64 = 1 << 30;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it is not a state file of this program")]
    Foreign,
    #[error("it has format {0}, and this version of the program knows {FORMAT}")]
    OtherFormat(u32),
    #[error("it is damaged: its checksum is missing or wrong")]
    Torn,
    #[error("its content is not what it should be: {0}")]
    Content(serde_json::Error),
    #[error("it belongs to another zone or credential")]
    Misplaced,
}

/// Writes a file beside the old one and puts it in its place. With `durable` both are on the disk then.
pub(super) fn replace(path: &Path, value: &impl Serialize, durable: bool) -> io::Result<()> {
    let temporary = with_suffix(path, TEMPORARY);
    let written =
        write(&temporary, value, durable).and_then(|()| fs::rename(&temporary, path)).and_then(|()| {
            match path.parent().filter(|_| durable) {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        });
    if written.is_err() {
        // Half a file takes room on a disk that may be full.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write(path: &Path, value: &impl Serialize, durable: bool) -> io::Result<()> {
    // Opening a pipe that somebody has put there would wait for a reader.
    if fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo()) {
        fs::remove_file(path)?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    seal(&file, |writer| Ok(serde_json::to_writer(writer, value)?))?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// Writes the lines around a content.
fn seal(mut file: impl Write, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut summed = Summed { file: &mut file, sum: crc32fast::Hasher::new() };
    let mut buffered = BufWriter::with_capacity(64 * 1024, &mut summed);
    writeln!(buffered, "{FIRST_LINE}{FORMAT}")?;
    content(&mut buffered)?;
    buffered.write_all(b"\n")?;
    buffered.flush()?;
    drop(buffered);
    let last_line = last_line(summed.sum);
    file.write_all(last_line.as_bytes())
}

/// A file in memory.
#[cfg(any(test, fuzzing))]
pub(super) fn sealed(content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    seal(&mut bytes, content).map(|()| bytes)
}

fn last_line(sum: crc32fast::Hasher) -> String {
    format!("{LAST_LINE}{:08x}\n", sum.finalize())
}

/// Sums up what is written.
struct Summed<W> {
    file: W,
    sum: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The value in a file; `None` where there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Unusable> {
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let metadata = match fs::metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        metadata => metadata.map_err(Unusable::Unreadable)?,
    };
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(Unusable::Foreign);
    }
    let mut file = File::open(path).map_err(Unusable::Unreadable)?;
    check_ends(&mut file)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(Unusable::Unreadable)?;
    parse(&bytes).map(Some)
}

/// Looks at both ends of a file, so that one that is no state file, or a piece of one, is not read whole. Leaves off
/// at its beginning.
pub(super) fn check_ends(file: &mut File) -> Result<(), Unusable> {
    let mut first = Vec::new();
    file.take(MAX_FIRST_LINE_BYTES).read_to_end(&mut first).map_err(Unusable::Unreadable)?;
    first_line(&first)?;
    let mut last = [0; LAST_LINE_BYTES];
    let length = file.seek(SeekFrom::End(0)).map_err(Unusable::Unreadable)?;
    let begins = length.checked_sub(last.len() as u64).ok_or(Unusable::Torn)?;
    file.seek(SeekFrom::Start(begins)).and_then(|_| file.read_exact(&mut last)).map_err(Unusable::Unreadable)?;
    if !last.starts_with(LAST_LINE.as_bytes()) {
        return Err(Unusable::Torn);
    }
    file.rewind().map_err(Unusable::Unreadable)
}

/// How long the first line is, if it is the one of a file that can be used.
fn first_line(bytes: &[u8]) -> Result<usize, Unusable> {
    let rest = bytes.strip_prefix(FIRST_LINE.as_bytes()).ok_or(Unusable::Foreign)?;
    let line = rest.iter().position(|&byte| byte == b'\n').ok_or(Unusable::Foreign)?;
    let format = std::str::from_utf8(&rest[..line]).ok().and_then(|format| format.parse().ok());
    match format.ok_or(Unusable::Foreign)? {
        FORMAT => Ok(FIRST_LINE.len() + line + 1),
        other => Err(Unusable::OtherFormat(other)),
    }
}

/// Reads the content of a file.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unusable> {
    let content = first_line(bytes)?;
    let (summed, last) = bytes.split_at_checked(bytes.len().saturating_sub(LAST_LINE_BYTES)).ok_or(Unusable::Torn)?;
    let mut sum = crc32fast::Hasher::new();
    sum.update(summed);
    if last != last_line(sum).as_bytes() {
        return Err(Unusable::Torn);
    }
    serde_json::from_slice(summed.get(content..).ok_or(Unusable::Torn)?).map_err(Unusable::Content)
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
