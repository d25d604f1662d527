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
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{oneshot, watch},
    time::sleep,
};

use super::connection::{Activity, Ended, LINGER, MAX_HEADER, answer, linger, stopped};

/// Requests at once on a connection. A browser sends ten for a page; whoever wants more can wait for its turn.
const MAX_STREAMS: u32 = 16;

/// What is kept of an answer until the client takes it, for each request.
const SEND_BUFFER: usize = 32 * 1024;

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
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (answer, one) = (answer(&router, &of_service, request), count.one());
        async move { answer.await.map(|answer| answer.map(|body| Counted { body, _one: one })) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEADER).unwrap_or(u32::MAX))
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
