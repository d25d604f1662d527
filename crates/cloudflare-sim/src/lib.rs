//! The one simulated Cloudflare API of this project, on a loopback port inside the process.
//!
//! It serves the `demo` command, the tests and the benchmarks, and it does what is publicly known of
//! the real API, oddities included: docs/cloudflare-api.md has the facts and their evidence. It knows
//! nothing of the program and its client: what works with it works because of what went over the socket.
//! Not here: starting the daemon on it, and anything that judges what a client made of an answer.
//!
//! A [`World`] says what there is to list, who may ask and what goes wrong. It is plain data, made
//! before the start and altered at any time by [`SimulatedApi::change`].
//!
//! What goes wrong is the feature `faults`. Without it [`Fault`] has no values and nothing can. The
//! tests and benchmarks turn it on; the program does not, so that none of it is in what is released.

mod answer;
mod connection;
#[cfg(feature = "faults")]
mod fault;
#[cfg(not(feature = "faults"))]
#[path = "no_fault.rs"]
mod fault;
mod inventory;
mod listing;
mod router;
mod sibling;
mod world;
mod x509;
mod zones;

use std::{
    borrow::Cow,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

pub use answer::ApiError;
pub use fault::Fault;
#[cfg(feature = "faults")]
pub use fault::{Canned, Change, Delivery, Ending};
pub use router::RecordedRequest;
pub use sibling::{PRIVATE_KEY, Sibling, SimulatedListing};
pub use world::{AcceptedCredential, Quota, SimulatedAccount, SimulatedCertificate, SimulatedZone, World};

use router::RouterState;

/// A running simulation. Dropping it ends it and every connection to it.
#[derive(Debug)]
pub struct SimulatedApi {
    address: SocketAddr,
    state: Arc<Mutex<RouterState>>,
    connections: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl SimulatedApi {
    /// Serves the world on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(world: World) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(RouterState::new(world)));
        let connections = Arc::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state), Arc::clone(&connections))).abort_handle();
        Ok(Self { address, state, connections, accepting })
    }

    /// Where it listens, for what is put in front of it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands in for `https://api.cloudflare.com/client/v4`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/client/v4", self.address)
    }

    /// The requests so far, in the order of their arrival; at most the last
    /// [`World::remembered_requests`].
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.state).requests()
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The status, headers and body of the response to a request that reached a server of the caller, after the
    /// latency. Faults of delivery are left out: they are about a connection.
    pub async fn respond(&self, request: RecordedRequest) -> (u16, Vec<(Cow<'static, str>, String)>, Vec<u8>) {
        let (answer, body) = connection::answer(request, &self.state).await;
        (answer.status, answer.headers, body)
    }

    /// Alters or reads the world between two requests.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut lock(&self.state).world)
    }
}

impl Drop for SimulatedApi {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The lock is never held over an await, and a test that panics in `change` has failed already.
fn lock(state: &Mutex<RouterState>) -> MutexGuard<'_, RouterState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connections belong to this task, so that they end with it.
async fn accept(listener: TcpListener, state: Arc<Mutex<RouterState>>, made: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    made.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection::serve(stream, Arc::clone(&state)));
                }
                // Out of descriptors, most likely: others have to close first.
                Err(_) => sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests;
