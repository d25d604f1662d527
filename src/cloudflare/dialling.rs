//! When a new connection to the API is made: not while one of those that there are is about to be free.
//!
//! The pool of hyper takes a connection back a moment after its answer was read, and the next request may be sent
//! before that. The pool then lets two race, a new connection and the one that comes back, and when the old one wins,
//! the new one is made nevertheless: there would be more than `poll.concurrency` of them.

use std::{
    mem::replace,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{task_local, time::sleep};
use tower::{BoxError, Layer, Service};

/// What a connection has to come back before another one is made. On a busy machine it took 0.2 ms, and this is
/// nothing beside the way to Cloudflare.
const GRACE: Duration = Duration::from_millis(5);

task_local! {
    /// Set while what is polled is a request that waits. A connection that lost its race is polled by another task.
    static AWAITED: ();
}

/// Sends a request with a client that has the layer [`Reluctant`].
pub(super) async fn awaiting<T>(request: impl Future<Output = T>) -> T {
    AWAITED.scope((), request).await
}

/// Makes a connection only after a while, and none for which no request waits any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reluctant;

impl<S> Layer<S> for Reluctant {
    type Service = Dialling<S>;

    fn layer(&self, connector: S) -> Dialling<S> {
        Dialling(connector)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Dialling<S>(S);

/// Nobody sees this: whoever waited has another connection.
#[derive(Debug, thiserror::Error)]
#[error("no request waits for this connection any more")]
struct NotNeeded;

impl<S, T> Service<T> for Dialling<S>
where
    S: Service<T, Error = BoxError, Future: Send> + Clone + Send + 'static,
    T: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: T) -> Self::Future {
        // The clone is not ready, and this one is.
        let next = self.0.clone();
        let mut connector = replace(&mut self.0, next);
        Box::pin(async move {
            sleep(GRACE).await;
            AWAITED.try_with(|()| ()).map_err(|_| NotNeeded)?;
            connector.call(target).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use futures_util::FutureExt as _;
    use tower::service_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_made_for_who_waits_and_for_nobody_else() {
        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        let mut connector = Reluctant.layer(service_fn(move |(): ()| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, BoxError>(()) }
        }));
        awaiting(connector.call(())).await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 1);

        // As the pool does it: the request polls it, gets another connection and leaves it to a task of its own.
        let mut lost = connector.call(());
        awaiting(async { assert!((&mut lost).now_or_never().is_none()) }).await;
        let error = tokio::spawn(lost).await.unwrap().unwrap_err();
        assert!(error.is::<NotNeeded>(), "{error}");
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
