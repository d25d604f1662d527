//! One connection: HTTP/1.1 on whatever can be read and written, TLS included, which is in `tls`.
//!
//! It ends when the client is done, when nothing moves, or when the program stops. Which connections there are, and
//! which of them has to make room for another, is in `listener`.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError, Router,
    body::{Body, Bytes},
};
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy, sink},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::web_config::Guesser;

/// How long a request's header may take. hyper also counts the time before it begins, so this is longer than the
/// minute that Prometheus waits between two scrapes unless told otherwise: its connection stays.
const HEADER_TIME: Duration = Duration::from_secs(75);

/// The most that a request's header can be; a browser sends two KiB.
pub(super) const MAX_HEADER: usize = 32 * 1024;

/// A connection on which nothing moves for so long is closed, such as that of a client that stopped reading.
pub(super) const STILL_TIME: Duration = Duration::from_secs(120);

/// How long a client may take to see that the connection ends.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// As either side wished.
    Done,
    /// A request's header was too large.
    TooLarge,
    /// Nothing had moved.
    Still,
    /// It never became a TLS connection, and why.
    Handshake(String),
}

/// Serves a client without TLS.
pub(super) async fn serve<S>(stream: Watched<S>, router: Router, stop: watch::Receiver<bool>) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::clone(&stream.activity);
    serve_http1(stream, &activity, router, stop).await
}

/// Serves until the client is done, nothing moves, or `stop` turns true. Then a request of which the header is here is
/// still answered, and nothing else is waited for.
pub(super) async fn serve_http1<S>(
    stream: S,
    activity: &Arc<Activity>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Hearing { stream, activity: Arc::clone(activity) };
    let (router, of_service) = (TowerToHyperService::new(router), Arc::clone(activity));
    let service = service_fn(move |request: Request<Incoming>| answer(&router, &of_service, request));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER)
        // A client that has said all may close its side before it has the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        served = &mut connection => served,
        () = activity.ceases() => return Ended::Still,
        () = stopped(&mut stop) => {
            activity.deaf.store(true, Relaxed);
            Pin::new(&mut connection).graceful_shutdown();
            // It failed if it was waiting for the rest of a header, and nobody is left to tell.
            let _ = connection.await;
            return Ended::Done;
        }
    };
    let mut stream = connection.into_parts().io.into_inner().stream;
    tokio::select! {
        () = linger(&mut stream) => {}
        () = stopped(&mut stop) => {}
    }
    match served {
        Err(error) if error.is_parse_too_large() => Ended::TooLarge,
        // A client that went, or speaks something else.
        Ok(()) | Err(_) => Ended::Done,
    }
}

/// Answers a request, and meanwhile shows that it is not the client that is waited for.
pub(super) fn answer<B>(
    router: &TowerToHyperService<Router>,
    activity: &Arc<Activity>,
    mut request: Request<B>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<B>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    request.extensions_mut().insert(Arc::clone(&activity.guesser));
    let (answer, answering) = (router.call(request), activity.answering());
    async move {
        let answer = answer.await;
        drop(answering);
        answer
    }
}

/// Says that the connection ends, and waits a little for the client to see it. Closed at once, with input of it unread,
/// the connection would be reset, and that may destroy an answer on its way.
pub(super) async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let lingering = async {
        stream.shutdown().await?;
        copy(stream, &mut sink()).await
    };
    // Whatever comes of it, the connection is closed now.
    let _ = timeout(LINGER, lingering).await;
}

/// Waits until `stop` turns true.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could say stop is gone.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// What goes on on a connection, for those who look at it from outside.
#[derive(Debug)]
pub(super) struct Activity {
    moved: Mutex<Instant>,
    /// Answers that are being made, so it is not the client that is waited for.
    answering: AtomicUsize,
    /// Nothing more is wanted of the client.
    deaf: AtomicBool,
    guesser: Arc<Guesser>,
}

impl Activity {
    /// When bytes last moved, in either direction; now, while an answer is being made.
    pub(super) fn moved(&self) -> Instant {
        if self.answering.load(Relaxed) > 0 { Instant::now() } else { *self.lock() }
    }

    /// Waits until nothing has moved for long.
    pub(super) async fn ceases(&self) {
        loop {
            let still_at = self.moved() + STILL_TIME;
            if still_at <= Instant::now() {
                return;
            }
            sleep_until(still_at).await;
        }
    }

    fn moves(&self) {
        *self.lock() = Instant::now();
    }

    fn answering(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Relaxed);
        Answering(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until it is dropped, an answer is being made.
struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.moves();
        self.0.answering.fetch_sub(1, Relaxed);
    }
}

/// A stream that records when bytes move on it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    /// Its coming is a movement too. `guesser` is who guesses if somebody does on it.
    pub(super) fn new(stream: S, guesser: Guesser) -> Self {
        Self {
            stream,
            activity: Arc::new(Activity {
                moved: Mutex::new(Instant::now()),
                answering: AtomicUsize::new(0),
                deaf: AtomicBool::new(false),
                guesser: Arc::new(guesser),
            }),
        }
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.moves();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.moves();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream of which the end is read, once nothing more is wanted of the client, instead of waiting for more: half a
/// header is then given up, and an answer goes on.
#[derive(Debug)]
struct Hearing<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Hearing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending if self.activity.deaf.load(Relaxed) => Poll::Ready(Ok(())),
            polled => polled,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hearing<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, DuplexStream, duplex},
        task::JoinHandle,
        time::sleep,
    };

    use super::*;

    /// A client's end of a connection, what says stop, and how it ends.
    fn connect() -> (DuplexStream, watch::Sender<bool>, JoinHandle<Ended>) {
        let router = Router::new()
            .route("/", get("well"))
            .route("/large", get(async || vec![b'x'; 1 << 20]))
            .route("/late", get(async || sleep(Duration::from_secs(5)).await));
        let (stop, stopped) = watch::channel(false);
        let (client, server) = duplex(1024);
        (client, stop, tokio::spawn(serve(Watched::new(server, Guesser::default()), router, stopped)))
    }

    async fn rest(client: &mut DuplexStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_may_take_its_time_and_no_longer_however_it_comes() {
        let started = Instant::now();
        let (mut client, _stop, ended) = connect();
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(started.elapsed(), HEADER_TIME);
        drop(client);
        assert_eq!(ended.await.unwrap(), Ended::Done);

        let started = Instant::now();
        let (mut client, _stop, _) = connect();
        while client.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        // The writing goes on until it fails, which is once it is no longer listened to either.
        assert!(started.elapsed() <= HEADER_TIME + 2 * LINGER, "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_stays_between_two_scrapes_a_minute_apart() {
        let (mut client, _stop, _) = connect();
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let mut answer = vec![0; 1024];
            let length = client.read(&mut answer).await.unwrap();
            assert!(answer[..length].ends_with(b"well"));
            sleep(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_left() {
        let (mut client, _stop, ended) = connect();
        client.write_all(b"GET /large HTTP/1.1\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(10)).await;
        client.read_exact(&mut [0; 1024]).await.unwrap();
        let started = Instant::now();
        assert_eq!(ended.await.unwrap(), Ended::Still);
        assert_eq!(started.elapsed(), STILL_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_its_answer_is_not_still() {
        let router = Router::new().route("/", get(async || sleep(2 * STILL_TIME).await));
        let (_stop, stopped) = watch::channel(false);
        let (mut client, server) = duplex(1024);
        let stream = Watched::new(server, Guesser::default());
        let activity = Arc::clone(stream.activity());
        tokio::spawn(serve(stream, router, stopped));
        client.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
        sleep(STILL_TIME).await;
        assert_eq!(activity.moved(), Instant::now());
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 200"));
        let answered = Instant::now();
        sleep(STILL_TIME).await;
        assert_eq!(activity.moved(), answered);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_say_that_it_is_done_before_it_has_its_answer() {
        for path in ["/late", "/large"] {
            let (mut client, _stop, ended) = connect();
            client.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let answer = rest(&mut client).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"));
            assert!(head.to_lowercase().contains(&format!("content-length: {}", body.len())), "{head}");
            assert_eq!(ended.await.unwrap(), Ended::Done);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_stop_waits_for_answers_and_for_nothing_else() {
        let second = Duration::from_secs(1);
        for (sent, answered) in [
            ("", false),
            ("GET /late HTT", false),
            ("GET / HTTP/1.1\r\nhost: a", false),
            ("GET /late HTTP/1.1\r\n\r\n", true),
            // The second of them was not begun.
            ("GET /late HTTP/1.1\r\n\r\nGET /late HTTP/1.1\r\n\r\n", true),
        ] {
            let (mut client, stop, ended) = connect();
            client.write_all(sent.as_bytes()).await.unwrap();
            sleep(second).await;
            let started = Instant::now();
            stop.send_replace(true);
            let answer = rest(&mut client).await;
            assert_eq!(answer.matches("HTTP/1.1 200").count(), usize::from(answered), "{sent:?} {answer}");
            assert_eq!(ended.await.unwrap(), Ended::Done);
            assert_eq!(started.elapsed(), if answered { 4 * second } else { Duration::ZERO }, "{sent:?}");
        }
        // Between two requests.
        let (mut client, stop, ended) = connect();
        client.write_all(b"GET / HTTP/1.1\r\n\r\nGET /").await.unwrap();
        sleep(second).await;
        stop.send_replace(true);
        assert!(rest(&mut client).await.ends_with("well"));
        assert_eq!(ended.await.unwrap(), Ended::Done);
    }

    #[tokio::test(start_paused = true)]
    async fn too_large_a_header_is_told_so() {
        let (mut client, _stop, ended) = connect();
        let header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(2 * MAX_HEADER));
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let mut answer = String::new();
        let (written, _) = tokio::join!(writer.write_all(header.as_bytes()), reader.read_to_string(&mut answer));
        written.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        drop(client);
        assert_eq!(ended.await.unwrap(), Ended::TooLarge);
    }
}
