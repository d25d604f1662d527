//! One connection: TLS where it is wanted, and HTTP/1.1 or HTTP/2 on it.
//!
//! It ends when the client is done, or when the program stops. Whether it ends earlier, because nothing moves on it or
//! others need the room, is decided in `listener`, by what `activity` records.

use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper::{Request, Response, Version, body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{
    activity::{Activity, TrackedStream},
    tls,
    web_config::{Guesser, Web},
};

/// How long a request's header may take. hyper also counts the time before it begins, so this is longer than the
/// minute that Prometheus waits between two scrapes unless told otherwise: its connection stays.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// The most that a request's header can be; a browser sends two KiB.
pub(crate) const MAX_HEADER: u16 = 32 * 1024;

/// Requests at once on a connection of HTTP/2. A client that has more waits until it has taken a response, so that one that
/// does not read holds pieces of so many responses and no more. Users of a proxy that shares a connection among them
/// wait for each other's.
const MAX_STREAMS: u32 = 2;

/// What HTTP/2 decodes of a request's header, field by field: a byte of it can stand for four thousand.
const MAX_DECODED_HEADER: u32 = 16 * 1024;

/// What HTTP/2 keeps of a response until the client takes it, for each request.
const SEND_BUFFER: usize = 16 * 1024;

/// What a client of HTTP/2 may send of the bodies of its requests, which are not read: the least that the protocol
/// allows.
const RECEIVE_WINDOW: u32 = 65_535;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// As either side wished.
    Done,
    /// A request's header was too large.
    HeaderTooLarge,
    /// The TLS handshake failed, and why.
    Handshake(String),
}

/// Serves a client until it is done. Once `stop` is true, it takes no more requests, and ends when those that it has
/// taken are answered.
pub(crate) async fn serve<S>(
    stream: TrackedStream<S>,
    tls: Option<Arc<Web>>,
    service: ConnectionService,
    stop: watch::Receiver<bool>,
) -> CloseReason
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(web) = tls else {
        return serve_http(stream, Version::HTTP_11, service, stop).await;
    };
    match tls::accept(stream, || web.tls_now()).await {
        Ok(stream) => {
            let version = tls::negotiated_version(&stream);
            serve_http(stream, version, service, stop).await
        }
        Err(reason) => reason,
    }
}

async fn serve_http<S>(
    stream: S,
    version: Version,
    service: ConnectionService,
    mut stop: watch::Receiver<bool>,
) -> CloseReason
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = builder(version);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = &mut connection => served,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match served {
        Err(error) if error.downcast_ref().is_some_and(hyper::Error::is_parse_too_large) => CloseReason::HeaderTooLarge,
        // Otherwise the client is gone, or speaks something else.
        Ok(()) | Err(_) => CloseReason::Done,
    }
}

fn builder(version: Version) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(usize::from(MAX_HEADER))
        // A client that has sent everything may close its side before it has the response.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_DECODED_HEADER)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    // A client that has chosen none by TLS gets HTTP/1.1, whatever it sends.
    if version == Version::HTTP_2 { builder.http2_only() } else { builder.http1_only() }
}

/// Waits until `stop` turns true.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nothing is left that could stop it.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// Hands the requests of a connection to the router.
#[derive(Debug)]
pub(crate) struct ConnectionService {
    router: TowerToHyperService<Router>,
    activity: Arc<Activity>,
    guesser: Arc<Guesser>,
}

impl ConnectionService {
    pub(crate) fn new(router: Router, activity: Arc<Activity>, client: IpAddr) -> Self {
        Self { router: TowerToHyperService::new(router), activity, guesser: Arc::new(Guesser::new(client)) }
    }
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin_response();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&self.guesser));
        let router = self.router.clone();
        let activity = Arc::clone(&self.activity);
        Box::pin(async move {
            let response = activity.while_handling(router.call(request)).await?;
            // It is in progress until its body is dropped, and this with it.
            let in_progress = move |error| {
                let _ = &in_flight;
                error
            };
            Ok(response.map(|body| Body::new(body.map_err(in_progress))))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        spawn,
        task::JoinHandle,
        time::{Instant, sleep, timeout},
    };

    use super::*;
    use crate::activity::LINGER;

    fn service(router: Router, activity: &Arc<Activity>) -> ConnectionService {
        ConnectionService::new(router, Arc::clone(activity), Ipv4Addr::LOCALHOST.into())
    }

    /// A client's end of a connection, what stops it, and how it ends.
    fn connect() -> (DuplexStream, watch::Sender<bool>, JoinHandle<CloseReason>) {
        let router = Router::new()
            .route("/", get("well"))
            .route("/large", get(async || vec![b'x'; 1 << 20]))
            .route("/late", get(async || sleep(Duration::from_secs(5)).await));
        let (stop, stopped) = watch::channel(false);
        let (client, server) = duplex(1024);
        let activity = Arc::new(Activity::default());
        let stream = TrackedStream::new(server, Arc::clone(&activity));
        (client, stop, spawn(serve(stream, None, service(router, &activity), stopped)))
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
        assert_eq!(started.elapsed(), HEADER_TIMEOUT);
        drop(client);
        assert_eq!(ended.await.unwrap(), CloseReason::Done);

        let started = Instant::now();
        let (mut client, _stop, _) = connect();
        while client.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        // The writing goes on until it fails, which is once it is no longer listened to either.
        assert!(started.elapsed() <= HEADER_TIMEOUT + 2 * LINGER, "{:?}", started.elapsed());
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
    async fn a_client_may_say_that_it_is_done_before_it_has_its_answer() {
        for path in ["/late", "/large"] {
            let (mut client, _stop, ended) = connect();
            client.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let answer = rest(&mut client).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"));
            assert!(head.to_lowercase().contains(&format!("content-length: {}", body.len())), "{head}");
            assert_eq!(ended.await.unwrap(), CloseReason::Done);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_is_too_large_gets_its_status() {
        let (mut client, _stop, ended) = connect();
        let header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(2 * usize::from(MAX_HEADER)));
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let mut answer = String::new();
        let (written, _) = tokio::join!(writer.write_all(header.as_bytes()), reader.read_to_string(&mut answer));
        written.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        drop(client);
        assert_eq!(ended.await.unwrap(), CloseReason::HeaderTooLarge);
    }

    /// Heads of answers that come while nothing of their bodies is taken.
    async fn answers_at_once(path: &'static str, requests: u8) -> usize {
        let router = Router::new().route("/large", get(async || "x".repeat(2 * SEND_BUFFER)));
        let (mut client, server) = duplex(64 * 1024);
        let (_stop, stop) = watch::channel(false);
        spawn(serve_http(server, Version::HTTP_2, service(router, &Arc::default()), stop));
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
    async fn a_client_of_http_2_has_two_responses_at_once() {
        assert_eq!(answers_at_once("/large", 1).await, 1);
        assert_eq!(answers_at_once("/large", 10).await, 2);
    }
}
