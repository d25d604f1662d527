//! Where log lines go and how they look.
//!
//! A thread of its own writes them to stderr, so that nothing else waits for those who read it. What they do not take
//! in time is dropped and counted. What waits is bounded by bytes, because a mistake in a configuration can be a long
//! line; `tracing-appender` bounds lines, and says nothing of those that it drops.

use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::LogFormat;

/// What waits to be written while stderr is not read: some thousands of lines.
const MAX_BYTES: usize = 1024 * 1024;

/// How long the end of the program waits for the last lines to be written.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Another process that shares stderr can make it one that does not block.
const WRITE_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The log of this process. When it is dropped, lines that wait are still written, unless that takes too long.
#[derive(Debug)]
pub(super) struct Log(Arc<Queue>);

/// Logs to stderr what this program says.
///
/// What libraries say is left out. They do not know what is secret, and some write a line for each odd frame of HTTP/2,
/// which anyone can send. What matters of it comes back as an error, and is logged as one.
pub(super) fn init(level: LevelFilter, format: LogFormat) -> io::Result<Log> {
    let filter = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_target("exporter_toolkit", level);
    let (queue, messages) = Queue::new(MAX_BYTES);
    let lines = Arc::clone(&queue);
    let layer = match format {
        LogFormat::Logfmt => tracing_logfmt::builder().with_target(false).layer().with_writer(lines).boxed(),
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false).with_writer(lines).boxed()
        }
    };
    let lines = Arc::clone(&queue);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || lines.write(&messages, io::stderr(), tell_of_dropped))?;
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(Log(queue))
}

impl Log {
    /// Counts the lines that were dropped.
    pub(super) fn dropped(&self) -> IntCounter {
        self.0.dropped.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIME);
    }
}

fn tell_of_dropped(lines: u64) {
    tracing::warn!(lines, "Log lines were dropped, since they could not be written to stderr in time.");
}

/// Lines on their way to where they are written.
#[derive(Debug)]
struct Queue {
    messages: Sender<Message>,
    /// Of the lines that wait.
    bytes: AtomicUsize,
    max_bytes: usize,
    dropped: IntCounter,
}

enum Message {
    Line(Box<[u8]>),
    /// Everything before this is written once this is dropped.
    Flush(#[expect(dead_code, reason = "it is dropped and not used")] Sender<()>),
}

impl Queue {
    fn new(max_bytes: usize) -> (Arc<Self>, Receiver<Message>) {
        let dropped = IntCounter::new(
            "cloudflare_cert_exporter_log_lines_dropped_total",
            "Number of log lines lost because stderr was not read in time or could not be written.",
        );
        let dropped = dropped.expect("the name and the help are constants that a test reads");
        let (messages, to_write) = mpsc::channel();
        (Arc::new(Self { messages, bytes: AtomicUsize::new(0), max_bytes, dropped }), to_write)
    }

    /// Puts a line at the end, if there is room, and never waits.
    fn push(&self, line: &[u8]) {
        let waiting = self.bytes.fetch_add(line.len(), Relaxed);
        if waiting > 0 && waiting + line.len() > self.max_bytes {
            self.bytes.fetch_sub(line.len(), Relaxed);
            self.dropped.inc();
            return;
        }
        // The thread that writes lives as long as the process.
        let _ = self.messages.send(Message::Line(line.into()));
    }

    /// Writes lines for as long as the process lives. `tell` logs how many were dropped, once writing works again.
    fn write(&self, messages: &Receiver<Message>, mut out: impl Write, tell: impl Fn(u64)) {
        let (mut is_torn, mut told) = (false, 0);
        for message in messages {
            let Message::Line(line) = message else { continue };
            let waiting = self.bytes.fetch_sub(line.len(), Relaxed) - line.len();
            if write_line(&mut out, &line, &mut is_torn).is_err() {
                self.dropped.inc();
                continue;
            }
            let dropped = self.dropped.get();
            if dropped > told && waiting <= self.max_bytes / 2 {
                tell(dropped - std::mem::replace(&mut told, dropped));
            }
        }
    }

    /// Waits until every line is written, but no longer than this.
    fn flush(&self, patience: Duration) {
        let (done, flushed) = mpsc::channel();
        let _ = self.messages.send(Message::Flush(done));
        // In vain if it took too long: the end of the program is not delayed any further.
        let _ = flushed.recv_timeout(patience);
    }
}

/// Takes one line with each `write`.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `is_torn` is whether a part of the line before was written alone; then this one does not continue it.
fn write_line(out: &mut impl Write, line: &[u8], is_torn: &mut bool) -> io::Result<()> {
    let end_of_before: &[u8] = if *is_torn { b"\n" } else { b"" };
    for mut rest in [end_of_before, line] {
        while !rest.is_empty() {
            match out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => {
                    rest = &rest[length..];
                    *is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(WRITE_AGAIN_AFTER),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

    use super::*;

    /// Somewhere to write to: what each `write` does comes from a test, and what was written goes there.
    struct Pipe<'a> {
        does: &'a Receiver<io::Result<usize>>,
        written: &'a SyncSender<String>,
    }

    impl Write for Pipe<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.does.recv().expect("the test goes on")?.min(bytes.len());
            self.written.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).unwrap();
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue of so many bytes and its thread: what `write` is to do, what was written, and what was reported.
    fn running(max_bytes: usize) -> (Arc<Queue>, Sender<io::Result<usize>>, Receiver<String>, Receiver<u64>) {
        let (queue, messages) = Queue::new(max_bytes);
        let (control, does) = channel();
        let (writes, written) = sync_channel(100);
        let (tells, reports) = channel();
        let lines = Arc::clone(&queue);
        thread::spawn(move || {
            let out = Pipe { does: &does, written: &writes };
            // It ends with a panic when the test is over.
            lines.write(&messages, out, |lines| tells.send(lines).unwrap());
        });
        (queue, control, written, reports)
    }

    #[test]
    fn what_is_not_taken_is_dropped_counted_and_reported_once_writing_works_again() {
        let (queue, control, written, reports) = running(12);
        // One is held by the thread, which waits, and two are in the queue.
        queue.push(b"first\n");
        until(|| queue.bytes.load(Relaxed) == 0);
        for line in [b"line2\n", b"line3\n", b"line4\n", b"line5\n"] {
            queue.push(line);
        }
        assert_eq!((queue.dropped.get(), queue.bytes.load(Relaxed)), (2, 12));
        queue.flush(Duration::from_millis(10));
        control.send(Ok(99)).unwrap();
        assert_eq!(written.recv().unwrap(), "first\n");
        control.send(Ok(99)).unwrap();
        assert_eq!(written.recv().unwrap(), "line2\n");
        assert_eq!(reports.recv().unwrap(), 2);
        control.send(Ok(99)).unwrap();
        queue.flush(Duration::from_secs(60));
        assert_eq!(written.recv().unwrap(), "line3\n");
        assert!(reports.try_recv().is_err() && queue.bytes.load(Relaxed) == 0);
    }

    #[test]
    fn a_line_that_breaks_off_is_lost_and_does_not_run_into_the_next() {
        let (queue, control, written, reports) = running(1000);
        control.send(Ok(3)).unwrap();
        control.send(Err(ErrorKind::Interrupted.into())).unwrap();
        control.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        control.send(Err(ErrorKind::StorageFull.into())).unwrap();
        queue.push(b"broken off\n");
        queue.push(b"whole\n");
        control.send(Ok(99)).unwrap();
        control.send(Ok(99)).unwrap();
        let all: Vec<_> = (0..3).map(|_| written.recv().unwrap()).collect();
        assert_eq!((all.concat().as_str(), reports.recv().unwrap(), queue.dropped.get()), ("bro\nwhole\n", 1, 1));
    }

    #[test]
    fn a_line_longer_than_all_room_is_written_if_nothing_else_waits() {
        let (queue, control, written, _) = running(4);
        queue.push(b"much longer\n");
        control.send(Ok(99)).unwrap();
        assert_eq!(written.recv().unwrap(), "much longer\n");
        assert_eq!(queue.dropped.get(), 0);
    }

    fn until(is_so: impl Fn() -> bool) {
        while !is_so() {
            thread::yield_now();
        }
    }
}
