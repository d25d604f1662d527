//! HTTP/2 on one connection, which is TLS and whose client has chosen it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{
        HeaderName, HeaderValue, Method, Request, Uri,
        header::{ACCEPT_ENCODING, AUTHORIZATION, HOST, ORIGIN},
    },
};
use hyper::{
    body::{Body as _, Frame, Incoming, SizeHint},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::sleep,
};

use super::connection::{Activity, Ended, LINGER, MAX_HEADER, answer, linger, stopped};

/// Requests at once on a connection. A browser sends ten for a page; whoever wants more can wait for its turn.
const MAX_STREAMS: u32 = 16;

/// How many of them are answered at once. The others wait until the client has taken an answer, so that a client that
/// does not read holds pieces of so many answers and no more. Users of a proxy that shares a connection among them wait
/// for each other's large answers; what is small lets the next begin at once.
const MAX_ANSWERS: usize = 2;

/// An answer of no more bytes is small: health, a refusal, what came of a reload. Sixteen of them are less than two pieces
/// of a large one.
const SMALL_ANSWER: u64 = 1024;

/// What is kept of an answer until the client takes it, for each request.
const SEND_BUFFER: usize = 16 * 1024;

/// What a client may send of the bodies of its requests, which are not read: the least that the protocol allows.
const RECEIVE_WINDOW: u32 = 65_535;

/// The headers that answers depend on.
const READ_HEADERS: [HeaderName; 5] =
    [ACCEPT_ENCODING, AUTHORIZATION, HOST, ORIGIN, HeaderName::from_static("sec-fetch-site")];

/// Values of each that are kept. None may be there more than once, or it does not matter how often.
const MAX_VALUES: usize = 2;

/// Bytes of a value that are kept, and of a host. No browser sends as many.
const MAX_VALUE: usize = 512;

/// The same of `Authorization`. A password that is cut off is wrong; bcrypt reads 72 bytes of it.
const MAX_AUTHORIZATION: usize = 1024;

/// Bytes of a path that are kept. No path is as long.
const MAX_PATH: usize = 4 * 1024;

/// Bytes of a method. Longer ones are kept in memory of their own, and no route takes one.
const MAX_METHOD: usize = 15;

/// Serves until the client is done, nothing moves, or `stop` turns true. Then requests that are here are still
/// answered, and nothing else is waited for.
pub(super) async fn serve<S>(
    stream: S,
    activity: &Arc<Activity>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (router, of_service, unanswered) =
        (TowerToHyperService::new(router), Arc::clone(activity), Unanswered::default());
    let count = unanswered.clone();
    let turns = Arc::new(Semaphore::new(MAX_ANSWERS));
    let service = service_fn(move |request: Request<Incoming>| {
        let (request, one, turns) = (what_is_read(request), count.one(), Arc::clone(&turns));
        let (router, of_service) = (router.clone(), Arc::clone(&of_service));
        async move {
            // Nothing closes it, so there is always one.
            let turn = turns.acquire_owned().await.ok();
            let answer = answer(&router, &of_service, request).await;
            answer.map(|answer| {
                answer.map(|body| {
                    let is_small = body.size_hint().upper().is_some_and(|size| size <= SMALL_ANSWER);
                    Counted { body, _one: one, _turn: turn.filter(|_| !is_small) }
                })
            })
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEADER).unwrap_or(u32::MAX))
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let (stream, given_back) = Lent::new(stream);
    // Boxed, so that it can be dropped before the end of this.
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A client that went, or speaks something else.
        _ = &mut connection => {}
        () = activity.ceases() => return Ended::Still,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = &mut connection => {}
                // The client has to say that it has understood, and this one does not.
                () = unanswered.none() => {}
            }
        }
    }
    drop(connection);
    if let Ok(mut stream) = given_back.await {
        linger(&mut stream).await;
    }
    Ended::Done
}

/// What answers depend on, copied: a request that waits for its turn would hold all that it was sent with. The copy is
/// bounded, since a byte of HPACK can stand for a header of four thousand, and nobody has been asked for a password yet.
fn what_is_read<B>(request: Request<B>) -> Request<Body> {
    let (mut parts, _) = request.into_parts();
    let sent = std::mem::take(&mut parts.headers);
    for name in READ_HEADERS {
        let most = if name == AUTHORIZATION { MAX_AUTHORIZATION } else { MAX_VALUE };
        for value in sent.get_all(&name).iter().take(MAX_VALUES) {
            let kept = value.as_bytes().get(..most).unwrap_or(value.as_bytes());
            if let Ok(value) = HeaderValue::from_bytes(kept) {
                parts.headers.append(name.clone(), value);
            }
        }
    }
    if parts.method.as_str().len() > MAX_METHOD {
        // As well as any other that no route takes.
        parts.method = Method::TRACE;
    }
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    // Nothing is there under a path that was cut off.
    let path = uri.path_and_query.as_ref().map(|path| path.path().chars().take(MAX_PATH).collect::<String>());
    uri.path_and_query = path.and_then(|path| path.parse().ok());
    let host = uri.authority.as_ref().map(|host| host.as_str().chars().take(MAX_VALUE).collect::<String>());
    uri.authority = host.and_then(|host| host.parse().ok());
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    Request::from_parts(parts, Body::empty())
}

/// A stream that goes back where it came from when it is dropped; hyper does not give it back by itself.
#[derive(Debug)]
struct Lent<S> {
    /// There until it is dropped.
    stream: Option<S>,
    back: Option<oneshot::Sender<S>>,
}

impl<S> Lent<S> {
    fn new(stream: S) -> (Self, oneshot::Receiver<S>) {
        let (back, given_back) = oneshot::channel();
        (Self { stream: Some(stream), back: Some(back) }, given_back)
    }
}

impl<S: Unpin> Lent<S> {
    fn with<T>(&mut self, use_it: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.stream {
            Some(stream) => use_it(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Nobody wants it back if the connection was given up.
            let _ = back.send(stream);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(context, buffer))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(context))
    }
}

/// How many requests have not got all of their answer.
#[derive(Debug, Clone, Default)]
struct Unanswered(watch::Sender<usize>);

impl Unanswered {
    fn one(&self) -> One {
        self.0.send_modify(|count| *count += 1);
        One(self.clone())
    }

    /// Waits until there is none, and a little longer, since the end of the last may be on its way.
    async fn none(&self) {
        let mut count = self.0.subscribe();
        loop {
            // An error cannot be: this holds the sender.
            let _ = count.wait_for(|count| *count == 0).await;
            sleep(LINGER).await;
            if *count.borrow() == 0 {
                return;
            }
        }
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
struct One(Unanswered);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// An answer that counts until it is sent.
struct Counted {
    body: Body,
    _one: One,
    _turn: Option<OwnedSemaphorePermit>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        spawn,
        time::timeout,
    };

    use super::{super::connection::Watched, *};
    use crate::server::web_config::Guesser;

    /// Heads of answers that come while nothing of their bodies is taken.
    async fn answers_at_once(path: &'static str, requests: u8) -> usize {
        let router = Router::new()
            .route("/small", get(async || "Healthy.\n"))
            .route("/large", get(async || "x".repeat(2 * SEND_BUFFER)));
        let (mut client, server) = duplex(64 * 1024);
        let activity = Arc::clone(Watched::new((), Guesser::default()).activity());
        let (_stop, stop) = watch::channel(false);
        spawn(async move { serve(server, &activity, router, stop).await });
        // Windows of streams are empty.
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0".to_vec();
        for request in 0..requests {
            // GET, https, and the path and the authority spelled out.
            let head = [b"\x82\x87\x04\x06", path.as_bytes(), b"\x01\x01a"].concat();
            sent.extend([0, 0, u8::try_from(head.len()).unwrap(), 1, 5, 0, 0, 0, 1 + 2 * request]);
            sent.extend(head);
        }
        client.write_all(&sent).await.unwrap();
        let mut heads = 0;
        // The clock stands still, and goes on once nothing else happens.
        while let Ok(Ok(_)) = timeout(Duration::from_secs(1), async {
            let mut frame = [0; 9];
            client.read_exact(&mut frame).await?;
            heads += usize::from(frame[3] == 1);
            let length = u64::from(u32::from_be_bytes([0, frame[0], frame[1], frame[2]]));
            (&mut client).take(length).read_to_end(&mut Vec::new()).await
        })
        .await
        {}
        heads
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_answer_that_is_not_taken_keeps_no_other_request_waiting() {
        assert_eq!(answers_at_once("/small", 10).await, 10);
        assert_eq!(answers_at_once("/large", 10).await, MAX_ANSWERS);
    }

    #[test]
    fn of_a_request_that_waits_what_answers_depend_on_is_kept_and_no_more() {
        let long = "x".repeat(2 * MAX_PATH);
        let request =
            |uri: &str| Request::post(uri).header("host", "a").header("accept-encoding", "gzip").header("x", "y");
        let kept =
            what_is_read(request("https://a:1/-/reload?x=y").header("origin", &long).body(long.clone()).unwrap());
        assert_eq!((kept.method().as_str(), kept.uri().to_string()), ("POST", "https://a:1/-/reload".to_owned()));
        assert_eq!((kept.headers().len(), &kept.headers()["accept-encoding"]), (3, &HeaderValue::from_static("gzip")));
        assert_eq!(kept.headers()["origin"].len(), MAX_VALUE);
        assert!(kept.body().is_end_stream());
        let twice = request("/metrics").header("accept-encoding", "gzip;q=0").header("host", "b").body(()).unwrap();
        let kept = what_is_read(twice);
        assert_eq!((kept.uri().path(), kept.headers().get_all("host").iter().count()), ("/metrics", 2));
        assert_eq!(kept.headers().get_all("accept-encoding").iter().count(), 2);
        let kept = what_is_read(request(&format!("https://a/{long}?{long}")).body(()).unwrap());
        assert_eq!(kept.uri().path().len(), MAX_PATH);
        assert_eq!(what_is_read(request("*").body(()).unwrap()).uri().path(), "*");
    }

    #[test]
    fn of_a_request_that_waits_little_is_kept_however_much_its_few_bytes_stand_for() {
        let long = "x".repeat(4000);
        let size = |request: &Request<Body>| {
            let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            (request.headers().len(), headers + request.method().as_str().len() + request.uri().to_string().len())
        };
        // Each of these fits into the header of a request, of which the most is an index into what was sent before.
        for (name, values, value, most) in
            [("accept-encoding", 7, &*long, 1100), ("authorization", 7, &long, 2100), ("host", 900, "", 100)]
        {
            let request = (0..values).fold(Request::get("https://a/"), |request, _| request.header(name, value));
            let (headers, bytes) = size(&what_is_read(request.body(()).unwrap()));
            assert!(headers == 2 && bytes < most, "{name}: {headers} headers, {bytes} bytes");
        }
        let request = Request::builder().method(&*long).uri(format!("https://{long}/{long}")).body(()).unwrap();
        let (_, bytes) = size(&what_is_read(request));
        assert!(bytes < MAX_PATH + MAX_VALUE + 100, "{bytes}");
        // What a real client sends is kept whole.
        let basic = format!("Basic {}", "x".repeat(600));
        let kept = what_is_read(Request::get("/").header("authorization", &basic).body(()).unwrap());
        assert_eq!(kept.headers()["authorization"], basic);
    }
}
