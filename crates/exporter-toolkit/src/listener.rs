//! Which connections there are: accepted, counted, closed when there are too many, and all closed at the end.
//!
//! No client keeps another one out. There is always room for a new connection, since the one on which nothing moved
//! for longest makes it. What happens on a connection is in `connection`.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use rustix::process::{Resource, getrlimit};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep},
};

use super::{
    activity::{Activity, TrackedStream},
    connection::{self, CloseReason, ConnectionService, MAX_HEADER, stopped},
    host,
    middleware::guard,
    web_config::Web,
};
use crate::log_throttle::LogThrottle;

/// Connections at once. Two Prometheus servers, a probe and some people are a dozen.
pub const MAX_CONNECTIONS: usize = 512;

/// What the kernel takes of a response before the client does. Left to itself it takes 4 MiB for each connection.
const SEND_BUFFER: usize = 256 * 1024;

/// A connection on which nothing moves for so long is closed, such as that of a client that stopped reading.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How often idle connections are looked for.
const CLOSE_IDLE_EVERY: Duration = Duration::from_secs(1);

/// The pause after a connection could not be accepted, most likely for want of descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How often connections are closed at the end, once they have responded. Until the first time each can end in the way
/// of its protocol.
const CLOSE_EVERY: Duration = Duration::from_millis(100);

/// Serves on every listener until `stop` turns true, then until the responses in progress are sent.
///
/// With a web configuration, that decides about TLS and who may ask, and is followed until the end; without one, everybody
/// is answered, in plain HTTP. There are never more than `limit` connections, nor more than half of the files that this
/// process can have open.
///
/// # Errors
/// If one of the listeners does not listen and never will. Everything else that goes wrong passes.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    web: Option<Arc<Web>>,
    limit: usize,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let Some(web) = web else { return serve_with(None, listeners, router, limit, stop).await };
    tokio::select! {
        served = serve_with(Some(Arc::clone(&web)), listeners, router, limit, stop) => served,
        never = web.follow() => match never {},
    }
}

async fn serve_with(
    web: Option<Arc<Web>>,
    mut listeners: Vec<TcpListener>,
    mut router: Router,
    limit: usize,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    if let Some(web) = &web {
        router = router.layer(from_fn_with_state(Arc::clone(web), guard));
    }
    let mut connections = Connections {
        router: router.layer(from_fn(host::check)),
        tls: web.filter(|web| web.is_tls()),
        stop: stop.clone(),
        limit: max_connections(limit, getrlimit(Resource::Nofile).current),
        tasks: JoinSet::new(),
        open: Vec::new(),
        log: ConnectionLog::default(),
    };
    let mut failed = LogThrottle::default();
    let mut close_idle = ticks(CLOSE_IDLE_EVERY);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(ended) = connections.tasks.join_next() => connections.ended(ended),
            _ = close_idle.tick() => connections.close_idle(),
            accepted = poll_fn(|context| poll_accept(&mut listeners, context)) => match accepted {
                Ok((stream, address)) => {
                    connections.make_room().await;
                    connections.open(stream, address.ip());
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
                Err(error) => {
                    if let Some(failures) = failed.count(1) {
                        tracing::warn!(%error, failures, "Connections cannot be accepted; it is tried again and again.");
                    }
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            },
        }
    }
    drop(listeners);
    connections.close_all().await;
    Ok(())
}

fn poll_accept(listeners: &mut [TcpListener], context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    // Each time another is asked first, so that a flood of one keeps no other waiting.
    listeners.rotate_left(1);
    let accepted = listeners.iter().find_map(|listener| match listener.poll_accept(context) {
        Poll::Ready(accepted) => Some(accepted),
        Poll::Pending => None,
    });
    let Some(accepted) = accepted else { return Poll::Pending };
    Poll::Ready(accepted.map(|(stream, address)| {
        // The connection works without them too.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        (stream, address)
    }))
}

/// At least one, and at most half of the files that can be open, since the program needs some as well.
fn max_connections(limit: usize, open_files: Option<u64>) -> usize {
    let half = open_files.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX));
    half.clamp(1, limit.max(1))
}

/// The open connections, never more than the limit.
#[derive(Debug)]
struct Connections {
    router: Router,
    /// Where connections are TLS.
    tls: Option<Arc<Web>>,
    stop: watch::Receiver<bool>,
    limit: usize,
    tasks: JoinSet<CloseReason>,
    /// Some of them may have ended.
    open: Vec<Connection>,
    log: ConnectionLog,
}

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    activity: Arc<Activity>,
}

impl Connections {
    fn open<S>(&mut self, stream: S, address: IpAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let stream = TrackedStream::new(stream, Arc::clone(&activity));
        let service = ConnectionService::new(self.router.clone(), Arc::clone(&activity), address);
        let task = self.tasks.spawn(connection::serve(stream, self.tls.clone(), service, self.stop.clone()));
        self.open.push(Connection { task, activity });
    }

    /// Closes the connection on which nothing moved for longest if there are as many as there can be.
    async fn make_room(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.ended(ended);
        }
        self.open.retain(|connection| !connection.task.is_finished());
        if self.tasks.len() < self.limit {
            return;
        }
        if let Some(idlest) = self.open.iter().min_by_key(|connection| connection.activity.last_movement()) {
            idlest.task.abort();
            self.log.evicted(self.limit);
        }
        // This one or another; its descriptor is free before the new connection is served.
        if let Some(ended) = self.tasks.join_next().await {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<CloseReason, JoinError>) {
        // Otherwise it was closed here, or has a fault, of which the panic is in the log.
        if let Ok(reason) = ended {
            self.log.closed(reason);
        }
    }

    fn close_idle(&mut self) {
        let closed = self.close(|activity| activity.last_movement().elapsed() >= IDLE_TIMEOUT);
        if closed > 0 {
            self.log.idle(closed);
        }
    }

    /// Waits for the responses in progress, and closes every other connection.
    async fn close_all(mut self) {
        let mut close = ticks(CLOSE_EVERY);
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => if ended.is_none() {
                    return;
                },
                _ = close.tick() => drop(self.close(Activity::has_responded)),
            }
        }
    }

    /// Closes those of which the activity is such, and returns how many there were.
    fn close(&mut self, is_such: impl Fn(&Activity) -> bool) -> u64 {
        let mut closed = 0;
        self.open.retain(|connection| {
            let closes = is_such(&connection.activity);
            if closes && !connection.task.is_finished() {
                connection.task.abort();
                closed += 1;
            }
            !closes
        });
        closed
    }
}

/// The first of these is after one period.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What is logged of connections: once in a while, since a client can cause it.
#[derive(Debug, Default)]
struct ConnectionLog {
    evicted: LogThrottle,
    idle: LogThrottle,
    header_too_large: LogThrottle,
    handshakes: LogThrottle,
}

impl ConnectionLog {
    fn evicted(&mut self, limit: usize) {
        if let Some(closed) = self.evicted.count(1) {
            tracing::warn!(
                closed,
                limit,
                "There are too many connections: for each new one, that on which nothing moved for longest is closed."
            );
        }
    }

    fn idle(&mut self, connections: u64) {
        if let Some(closed) = self.idle.count(connections) {
            let seconds = IDLE_TIMEOUT.as_secs();
            tracing::warn!(closed, seconds, "Connections were closed because nothing had moved on them.");
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        match reason {
            CloseReason::Done => {}
            CloseReason::HeaderTooLarge => {
                if let Some(refused) = self.header_too_large.count(1) {
                    tracing::warn!(refused, limit_bytes = MAX_HEADER, "Requests with too large a header were refused.");
                }
            }
            CloseReason::Handshake(error) => {
                if let Some(failed) = self.handshakes.count(1) {
                    tracing::warn!(failed, last_error = error, "TLS handshakes with clients failed.");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, os::fd::AsFd as _};

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        net::TcpSocket,
        spawn,
        time::advance,
    };

    use super::*;
    use crate::activity::LINGER;

    const SECOND: Duration = Duration::from_secs(1);

    fn connections(limit: usize, stop: &watch::Sender<bool>) -> Connections {
        let router = Router::new()
            .route("/", get("well"))
            .route("/late", get(async || sleep(5 * SECOND).await))
            .route("/very-late", get(async || sleep(2 * IDLE_TIMEOUT).await))
            .route("/large", get(async || vec![b'x'; 1 << 20]));
        let stop = stop.subscribe();
        Connections {
            router,
            tls: None,
            stop,
            limit,
            tasks: JoinSet::new(),
            open: Vec::new(),
            log: ConnectionLog::default(),
        }
    }

    impl Connections {
        fn connect(&mut self) -> DuplexStream {
            let (client, server) = duplex(1024);
            self.open(server, Ipv4Addr::LOCALHOST.into());
            client
        }
    }

    async fn rest(client: &mut DuplexStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_on_which_nothing_moved_for_longest_makes_room() {
        let (stop, _) = watch::channel(false);
        let mut connections = connections(4, &stop);
        let mut clients = Vec::new();
        for _ in 0..4 {
            connections.make_room().await;
            clients.push(connections.connect());
            advance(SECOND).await;
        }
        // The first sends something, and the second is sent something.
        clients[0].write_all(b"G").await.unwrap();
        clients[1].write_all(b"GET /large HTTP/1.1\r\n\r\n").await.unwrap();
        sleep(SECOND).await;
        clients[1].read_exact(&mut [0; 1024]).await.unwrap();
        sleep(SECOND).await;
        // The third waits, and its response is being made.
        clients[2].write_all(b"GET /late HTTP/1.1\r\n\r\n").await.unwrap();
        sleep(SECOND).await;
        // The fourth is quiet, then the first one is for longest.
        for closed in [3, 0] {
            connections.make_room().await;
            assert_eq!(clients[closed].read(&mut [0]).await.unwrap(), 0);
            clients.push(connections.connect());
            assert_eq!(connections.tasks.len(), 4);
        }
        assert!(rest(&mut clients[2]).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_idle_and_one_that_waits_for_its_response_is_not() {
        let (stop, _) = watch::channel(false);
        let mut connections = connections(4, &stop);
        let mut stopped_reading = connections.connect();
        let mut waiting = connections.connect();
        stopped_reading.write_all(b"GET /large HTTP/1.1\r\n\r\n").await.unwrap();
        waiting.write_all(b"GET /very-late HTTP/1.1\r\n\r\n").await.unwrap();
        sleep(SECOND).await;
        stopped_reading.read_exact(&mut [0; 512]).await.unwrap();
        sleep(IDLE_TIMEOUT - SECOND).await;
        connections.close_idle();
        assert_eq!(connections.open.len(), 2);
        sleep(SECOND).await;
        connections.close_idle();
        assert_eq!(connections.open.len(), 1);
        assert!(rest(&mut stopped_reading).await.len() <= 1024);
        // It is idle from the response on.
        waiting.read_exact(&mut [0; 12]).await.unwrap();
        for idle in 0..3 {
            assert_eq!(connections.open[0].activity.last_movement().elapsed(), idle * SECOND);
            sleep(SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_responses_and_for_nothing_else() {
        for (sent, answered) in [
            ("", false),
            ("GET /late HTT", false),
            ("GET / HTTP/1.1\r\nhost: a", false),
            ("GET /late HTTP/1.1\r\n\r\n", true),
            // The second of them was not begun.
            ("GET /late HTTP/1.1\r\n\r\nGET /late HTTP/1.1\r\n\r\n", true),
        ] {
            let (stop, _) = watch::channel(false);
            let mut connections = connections(4, &stop);
            let mut client = connections.connect();
            client.write_all(sent.as_bytes()).await.unwrap();
            sleep(SECOND).await;
            let started = Instant::now();
            stop.send_replace(true);
            let closed = spawn(connections.close_all());
            let response = rest(&mut client).await;
            drop(client);
            closed.await.unwrap();
            assert_eq!(response.matches("HTTP/1.1 200").count(), usize::from(answered), "{sent:?} {response}");
            let expected = if answered { 4 * SECOND } else { Duration::ZERO };
            assert!(started.elapsed().abs_diff(expected) <= CLOSE_EVERY, "{sent:?} {:?}", started.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_time_gets_its_whole_response_at_the_end() {
        let (stop, _) = watch::channel(false);
        let mut connections = connections(4, &stop);
        let mut client = connections.connect();
        client.write_all(b"GET /large HTTP/1.1\r\n\r\n").await.unwrap();
        sleep(SECOND).await;
        stop.send_replace(true);
        let closed = spawn(connections.close_all());
        let mut length = 0;
        // At the end, all of it was handed over, and some waits for the client.
        loop {
            sleep(if length > 900_000 { 3 * LINGER } else { LINGER / 100 }).await;
            let mut piece = [0; 4096];
            match client.read(&mut piece).await.unwrap() {
                0 => break,
                read => length += read,
            }
        }
        assert!(length > 1 << 20, "{length}");
        drop(client);
        closed.await.unwrap();
    }

    #[test]
    fn half_of_the_open_files_are_left_to_others() {
        for (files, connections) in
            [(None, 512), (Some(1 << 20), 512), (Some(1024), 512), (Some(100), 50), (Some(1), 1)]
        {
            assert_eq!(max_connections(512, files), connections, "{files:?}");
        }
        assert_eq!(max_connections(0, None), 1);
    }

    #[tokio::test]
    async fn a_socket_that_does_not_listen_is_an_error_and_no_loop() {
        let socket = TcpSocket::new_v4().unwrap();
        let descriptor = socket.as_fd().try_clone_to_owned().unwrap();
        let listener = TcpListener::from_std(descriptor.into()).unwrap();
        let (_stop, stopped) = watch::channel(false);
        assert!(serve(vec![listener], Router::new(), None, MAX_CONNECTIONS, stopped).await.is_err());
    }
}
