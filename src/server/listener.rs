//! Which connections there are: accepted, counted, and closed when there are too many.
//!
//! No client keeps another one out. There is always room for a new connection, since the one on which nothing moved
//! for longest makes it. What goes on on a connection is in `connection`.

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, middleware::from_fn};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep},
};

use super::{
    connection::{self, Activity, Ended, MAX_HEADER, STILL_TIME, Watched, stopped},
    host,
    limit::Reached,
    tls,
    web_config::{Guesser, Web},
};

/// Connections at once. Two Prometheus servers, a probe and some people are a dozen.
pub(super) const MAX_CONNECTIONS: usize = 512;

/// What the kernel takes of an answer before the client does. Left to itself it takes 4 MiB for each connection.
const SEND_BUFFER: usize = 256 * 1024;

/// The pause after a connection could not be accepted, most likely for want of descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Serves on every listener until `stop` turns true, then until the requests in flight are answered. Connections are
/// TLS where `tls` knows how, and never more than `limit`.
///
/// # Errors
/// If one of them does not listen and never will. Everything else that goes wrong passes.
pub(super) async fn serve(
    mut listeners: Vec<TcpListener>,
    router: Router,
    tls: Option<Arc<Web>>,
    limit: usize,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = router.layer(from_fn(host::check));
    let mut connections = Connections::new(max_connections(limit, max_open_files()));
    let mut failed = Reached::default();
    let stop_each = stop.clone();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(ended) = connections.tasks.join_next_with_id() => connections.ended(ended),
            accepted = poll_fn(|context| poll_accept(&mut listeners, context)) => match accepted {
                Ok((stream, address)) => {
                    connections.make_room().await;
                    let stream = Watched::new(stream, Guesser::new(address.ip()));
                    let activity = Arc::clone(stream.activity());
                    let (router, stop) = (router.clone(), stop_each.clone());
                    let task = match tls.clone() {
                        None => connections.tasks.spawn(connection::serve(stream, router, stop)),
                        Some(web) => connections.tasks.spawn(async move {
                            tls::serve(stream, || web.tls_now(), router, stop).await
                        }),
                    };
                    connections.open.insert(task.id(), Connection { task, activity });
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
    while connections.tasks.join_next().await.is_some() {}
    Ok(())
}

fn poll_accept(listeners: &mut [TcpListener], context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    // Each time another is asked first, so that a flood of one keeps no other from being heard.
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

/// At most half of the files that can be open, since Cloudflare and the configuration need some as well.
fn max_connections(limit: usize, open_files: Option<u64>) -> usize {
    let half = open_files.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX));
    half.clamp(1, limit)
}

/// How many files this process can have open, if there is a limit.
#[cfg(target_os = "linux")]
fn max_open_files() -> Option<u64> {
    use procfs::process::{LimitValue, Process};

    match Process::myself().and_then(|process| process.limits()).ok()?.max_open_files.soft_limit {
        LimitValue::Value(files) => Some(files),
        LimitValue::Unlimited => None,
    }
}

/// Other systems tell it in other ways.
#[cfg(not(target_os = "linux"))]
fn max_open_files() -> Option<u64> {
    None
}

/// The open connections, never more than the limit.
#[derive(Debug)]
struct Connections {
    limit: usize,
    tasks: JoinSet<Ended>,
    open: HashMap<Id, Connection>,
    closed_for_others: Reached,
    closed_as_still: Reached,
    too_large: Reached,
    handshakes_failed: Reached,
    handshakes_in_detail: Reached,
}

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    activity: Arc<Activity>,
}

impl Connections {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            tasks: JoinSet::new(),
            open: HashMap::new(),
            closed_for_others: Reached::default(),
            closed_as_still: Reached::default(),
            too_large: Reached::default(),
            handshakes_failed: Reached::default(),
            handshakes_in_detail: Reached::in_detail(),
        }
    }

    /// Closes the connection on which nothing moved for longest if there are as many as there can be.
    async fn make_room(&mut self) {
        if self.tasks.len() < self.limit {
            return;
        }
        if let Some(id) = stillest(self.open.iter().map(|(id, connection)| (*id, connection.activity.moved()))) {
            self.open[&id].task.abort();
            if let Some(closed) = self.closed_for_others.count(1) {
                tracing::warn!(
                    closed,
                    limit = self.limit,
                    "There are too many connections: for each new one, that on which nothing moved for longest is closed."
                );
            }
        }
        // This one or another; its descriptor is free before the new connection is served.
        if let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        match ended {
            Ok((id, ended)) => {
                self.open.remove(&id);
                self.say(ended);
            }
            // It had to make room, or has a fault, which its panic has told.
            Err(error) => drop(self.open.remove(&error.id())),
        }
    }

    fn say(&mut self, ended: Ended) {
        match ended {
            Ended::Done => {}
            Ended::Still => {
                if let Some(closed) = self.closed_as_still.count(1) {
                    let seconds = STILL_TIME.as_secs();
                    tracing::warn!(closed, seconds, "Connections were closed because nothing had moved on them.");
                }
            }
            Ended::TooLarge => {
                if let Some(refused) = self.too_large.count(1) {
                    tracing::warn!(refused, limit_bytes = MAX_HEADER, "Requests with too large a header were refused.");
                }
            }
            Ended::Handshake(error) => {
                if let Some(failed) = self.handshakes_in_detail.count(1) {
                    tracing::debug!(failed, last_error = error, "TLS handshakes failed lately.");
                }
                if let Some(failed) = self.handshakes_failed.count(1) {
                    tracing::warn!(failed, last_error = error, "TLS handshakes with clients failed.");
                }
            }
        }
    }
}

fn stillest<I>(connections: impl Iterator<Item = (I, Instant)>) -> Option<I> {
    connections.min_by_key(|(_, moved)| *moved).map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        net::TcpSocket,
        time::advance,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_connection_on_which_nothing_moved_for_longest_makes_room() {
        let mut ends: Vec<(DuplexStream, Watched<DuplexStream>)> = Vec::new();
        for _ in 0..4 {
            let (client, server) = duplex(64);
            ends.push((client, Watched::new(server, Guesser::default())));
            advance(Duration::from_secs(1)).await;
        }
        let closed = |ends: &[(DuplexStream, Watched<DuplexStream>)]| {
            stillest(ends.iter().map(|(_, stream)| stream.activity().moved()).enumerate())
        };
        assert_eq!(closed(&ends), Some(0));
        // It is told something.
        ends[0].0.write_all(b"x").await.unwrap();
        ends[0].1.read_u8().await.unwrap();
        assert_eq!(closed(&ends), Some(1));
        // It says something.
        ends[1].1.write_all(b"x").await.unwrap();
        assert_eq!(closed(&ends), Some(2));
        // Trying to read is no movement, nor is the end.
        ends[2].0.shutdown().await.unwrap();
        assert!(ends[2].1.read_u8().await.is_err());
        assert_eq!(closed(&ends), Some(2));
    }

    #[test]
    fn half_of_the_open_files_are_left_to_others() {
        for (files, connections) in
            [(None, 512), (Some(1 << 20), 512), (Some(1024), 512), (Some(100), 50), (Some(1), 1)]
        {
            assert_eq!(max_connections(512, files), connections, "{files:?}");
        }
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
