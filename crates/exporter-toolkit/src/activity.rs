//! What happens on a connection, for `listener`, which decides when it ends: bytes that move, and responses in progress.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::lock;

/// How long a client may take to notice that the connection ends, and to take the end of a response before that.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// What happens on a connection.
#[derive(Debug)]
pub(crate) struct Activity {
    traffic: Mutex<Traffic>,
    /// Has a copy for each response in progress.
    in_flight: Arc<()>,
    /// Has a copy for each response that a handler makes.
    handling: Arc<()>,
}

#[derive(Debug)]
struct Traffic {
    /// When bytes last moved, in either direction. The connection itself is a movement too.
    moved: Instant,
    /// When bytes were last sent.
    sent: Option<Instant>,
    /// Whether bytes wait until the client takes some.
    send_is_blocked: bool,
}

impl Default for Activity {
    fn default() -> Self {
        let traffic = Traffic { moved: Instant::now(), sent: None, send_is_blocked: false };
        Self { traffic: Mutex::new(traffic), in_flight: Arc::default(), handling: Arc::default() }
    }
}

impl Activity {
    /// Counts a response from the arrival of the request until the last of its body was handed over.
    pub(crate) fn begin_response(&self) -> Arc<()> {
        Arc::clone(&self.in_flight)
    }

    /// Awaits a handler. The connection counts as busy until then, since it is not the client that is waited for.
    pub(crate) async fn while_handling<T>(&self, handler: impl Future<Output = T>) -> T {
        let _handling = Arc::clone(&self.handling);
        let response = handler.await;
        // It is sent a moment later.
        self.moved();
        response
    }

    /// When bytes last moved, in either direction; now, while a handler makes a response.
    pub(crate) fn last_movement(&self) -> Instant {
        if has_copies(&self.handling) { Instant::now() } else { self.traffic().moved }
    }

    /// Whether no response is in progress, and none can be on its way: a protocol keeps the end of one until the client
    /// takes it.
    pub(crate) fn has_responded(&self) -> bool {
        if has_copies(&self.in_flight) {
            return false;
        }
        let traffic = self.traffic();
        !traffic.send_is_blocked && traffic.sent.is_none_or(|sent| sent.elapsed() >= LINGER)
    }

    fn moved(&self) {
        self.traffic().moved = Instant::now();
    }

    fn sent(&self, written: &Poll<io::Result<usize>>) {
        let mut traffic = self.traffic();
        traffic.send_is_blocked = written.is_pending();
        if matches!(written, Poll::Ready(Ok(1..))) {
            let now = Instant::now();
            traffic.moved = now;
            traffic.sent = Some(now);
        }
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        lock(&self.traffic)
    }
}

fn has_copies(counted: &Arc<()>) -> bool {
    Arc::strong_count(counted) > 1
}

/// A stream that records what moves on it.
///
/// Its end takes a little: closed with input unread, a connection is reset, and that can destroy a response on its way.
#[derive(Debug)]
pub(crate) struct TrackedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    /// There once this side has ended: until when the client's side is read.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> TrackedStream<S> {
    pub(crate) const fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, lingering: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.moved();
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.activity.sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Ends this side, and reads what the client still sends until it ends its side, or for the time of `LINGER`.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let lingering = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut unwanted = [0; 1024];
        while lingering.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut unwanted);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        spawn,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_the_client_to_notice_it_and_no_longer() {
        let second = Duration::from_secs(1);
        for (closes_after, expected) in [(second / 4, second / 4), (10 * second, LINGER)] {
            let (mut client, server) = duplex(64);
            let mut server = TrackedStream::new(server, Arc::default());
            spawn(async move {
                let closing = Instant::now() + closes_after;
                // More than is read at once, so it ends only if somebody reads.
                while Instant::now() < closing && client.write_all(&[0; 4096]).await.is_ok() {
                    sleep(second / 100).await;
                }
                assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            });
            let started = Instant::now();
            server.shutdown().await.unwrap();
            assert!(started.elapsed().abs_diff(expected) <= second / 10, "{:?} {expected:?}", started.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_is_in_progress_until_the_client_has_taken_it() {
        let activity = Arc::new(Activity::default());
        assert!(activity.has_responded());
        let (mut client, server) = duplex(64);
        let mut server = TrackedStream::new(server, Arc::clone(&activity));
        let in_flight = activity.begin_response();
        sleep(2 * LINGER).await;
        assert!(!activity.has_responded());
        drop(in_flight);
        assert!(activity.has_responded());
        // Of what was handed over, the last bytes wait for the client.
        let writing = spawn(async move { server.write_all(&[0; 100]).await });
        sleep(2 * LINGER).await;
        assert!(!activity.has_responded());
        client.read_exact(&mut [0; 100]).await.unwrap();
        writing.await.unwrap().unwrap();
        assert!(!activity.has_responded());
        sleep(LINGER).await;
        assert!(activity.has_responded());
    }
}
