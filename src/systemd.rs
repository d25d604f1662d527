//! What systemd gets and what it hands over. Without systemd nothing of this does anything.
//!
//! The only place that knows its protocols: readiness and watchdog (`sd_notify(3)`), and sockets that were opened
//! before the program began (`sd_listen_fds(3)`).

use std::{convert::Infallible, future::pending, io, net::TcpListener, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::sleep;

/// Says that scrapes are answered, after the start or after a reload.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Says that the configuration is being read again; [`ready`] has to follow.
pub fn reloading() {
    // systemd 253 and later want to know since when.
    let since = NotifyState::monotonic_usec_now();
    notify(&[Some(NotifyState::Reloading), since.ok()].into_iter().flatten().collect::<Vec<_>>());
}

/// Says that the end has begun, which takes as long as scrapes in flight do.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog, if there is one, for as long as `is_well`. Never ends.
///
/// A program that is not healthy stops sending, so that systemd restarts it.
pub async fn feed_watchdog(is_well: impl Fn() -> bool) -> Infallible {
    let Some(within) = sd_notify::watchdog_enabled() else { return pending().await };
    let every = (within / 3).max(Duration::from_millis(10));
    let mut was_well = true;
    loop {
        let well = is_well();
        if well {
            notify(&[NotifyState::Watchdog]);
        } else if was_well {
            tracing::error!("Nothing is polled or served any more; the watchdog is no longer fed.");
        }
        was_well = well;
        sleep(every).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "The state of this program cannot be reported to systemd.");
    }
}

/// The sockets that were opened for this process.
///
/// # Errors
/// If there are none, or one of them is of another sort.
pub fn sockets() -> io::Result<Vec<TcpListener>> {
    let mut handed = ListenFd::from_env();
    let taken = (0..handed.len()).filter_map(|index| handed.take_tcp_listener(index).transpose());
    let sockets = taken.collect::<io::Result<Vec<_>>>()?;
    if sockets.is_empty() {
        return Err(io::Error::other(
            "no socket activation file descriptors found; start it through its .socket unit, or leave the option out",
        ));
    }
    Ok(sockets)
}
