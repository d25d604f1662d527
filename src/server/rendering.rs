//! One rendering for all who ask at the same moment, sent in pieces to each at its own speed.
//!
//! Here is when something is rendered, who shares it, and how much of it is in memory at once. What is rendered is a
//! function of others.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::limit::Reached;

/// Renderings in memory at once, however slowly clients read. Those who scrape every 15 seconds need two.
const MAX_ALIVE: usize = 8;

/// How long a rendering waits for one of the others to be sent before one has to be given up, as long as something is
/// taken of each: clients that all read need a while on a machine that is busy.
const ROOM_PATIENCE: Duration = Duration::from_millis(500);

/// One of which nothing was taken for so long is not waited for.
const STALLED: Duration = Duration::from_millis(200);

/// How often it looks whether one was.
const ROOM_LOOK: Duration = Duration::from_millis(10);

/// What is handed to a connection at a time. A client that stopped reading holds two.
const PIECE: usize = 32 * 1024;

/// Makes one sort of body, such as the metrics packed with gzip.
pub(super) struct Renderer {
    what: &'static str,
    make: Box<dyn Fn() -> io::Result<Vec<u8>> + Send + Sync>,
    /// The rendering that has not begun yet: whoever comes meanwhile shares it.
    next: Mutex<Option<watch::Receiver<Option<Arc<Rendering>>>>>,
    renderings: Arc<Renderings>,
}

impl Renderer {
    /// `what` is for messages.
    pub(super) fn new(
        what: &'static str,
        renderings: &Arc<Renderings>,
        make: impl Fn() -> io::Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let renderings = Arc::clone(renderings);
        Arc::new(Self { what, make: Box::new(make), next: Mutex::default(), renderings })
    }

    /// A rendering that begins after this is called, so that it shows all that is published by now.
    ///
    /// # Errors
    /// If it fails, which is in the log.
    pub(super) async fn body(self: &Arc<Self>) -> Result<Sending, Unrendered> {
        let mut next = lock(&self.next)
            .get_or_insert_with(|| {
                let (sender, next) = watch::channel(None);
                // A task of its own, since each of those who wait for it may leave.
                tokio::spawn(Arc::clone(self).render(sender));
                next
            })
            .clone();
        let rendered = next.wait_for(Option::is_some).await.ok().and_then(|rendered| rendered.clone());
        let rendering = rendered.ok_or(Unrendered { what: self.what })?;
        let left = 0..rendering.length;
        Ok(Sending { rendering, left })
    }

    async fn render(self: Arc<Self>, sender: watch::Sender<Option<Arc<Rendering>>>) {
        // One at a time, of whatever sort, which also bounds what is in memory while it is made.
        let waiting = Instant::now();
        let mut alive = self.renderings.0.lock().await;
        while alive.is_full_and_moves() && waiting.elapsed() < ROOM_PATIENCE {
            sleep(ROOM_LOOK).await;
        }
        // It begins: what is published from here on may be missing, so whoever comes shares another.
        drop(lock(&self.next).take());
        if sender.is_closed() {
            return;
        }
        alive.make_room();
        let renderer = Arc::clone(&self);
        let made = spawn_blocking(move || (renderer.make)()).await;
        match made.map_err(io::Error::other).and_then(|made| made) {
            Ok(bytes) => {
                let (length, bytes) = (bytes.len(), bytes.into());
                let content = Mutex::new(Content { bytes, moved: Instant::now() });
                let rendering = Arc::new(Rendering { length, content });
                alive.renderings.push_back(Arc::downgrade(&rendering));
                // All who waited may have left.
                let _ = sender.send(Some(rendering));
            }
            Err(error) => {
                tracing::error!(%error, "The {} cannot be rendered. Please report this.", self.what);
            }
        }
    }
}

/// There is nothing to send.
#[derive(Debug)]
pub(super) struct Unrendered {
    what: &'static str,
}

impl IntoResponse for Unrendered {
    fn into_response(self) -> Response {
        let message = format!("The {} cannot be rendered; the log says why.\n", self.what);
        (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
    }
}

/// All renderings, of every sort. Whoever holds the lock renders.
#[derive(Debug, Default)]
pub(super) struct Renderings(tokio::sync::Mutex<Alive>);

/// Those that are being sent; nothing is kept for those who may come.
#[derive(Debug, Default)]
struct Alive {
    renderings: VecDeque<Weak<Rendering>>,
    cut_off: Reached,
}

impl Alive {
    /// The one of which nothing was taken for longest, if there are as many as there can be.
    fn stillest_of_too_many(&mut self) -> Option<Arc<Rendering>> {
        self.renderings.retain(|rendering| rendering.strong_count() > 0);
        if self.renderings.len() < MAX_ALIVE {
            return None;
        }
        let alive = self.renderings.iter().filter_map(Weak::upgrade);
        alive.min_by_key(|rendering| lock(&rendering.content).moved)
    }

    fn is_full_and_moves(&mut self) -> bool {
        self.stillest_of_too_many().is_some_and(|stillest| lock(&stillest.content).moved.elapsed() < STALLED)
    }

    /// Gives up the one of which nothing was taken for longest if there are too many: whoever reads is not cut off
    /// because of those who do not.
    fn make_room(&mut self) {
        if let Some(stillest) = self.stillest_of_too_many() {
            self.renderings.retain(|rendering| rendering.as_ptr() != Arc::as_ptr(&stillest));
            lock(&stillest.content).bytes = Box::default();
            // Without the one that is held here.
            let clients = Arc::strong_count(&stillest) - 1;
            if let Some(clients) = self.cut_off.count(clients as u64) {
                tracing::warn!(
                    clients,
                    answers = MAX_ALIVE,
                    "Clients that read too slowly were cut off, since too many different answers were being sent."
                );
            }
        }
    }
}

/// Something rendered, for as long as it is being sent to somebody.
#[derive(Debug)]
struct Rendering {
    /// Also once it was given up, so that no client takes nothing for the whole.
    length: usize,
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    /// Empty once it was given up.
    bytes: Box<[u8]>,
    /// When a piece of it was last taken.
    moved: Instant,
}

/// A rendering on its way to one client.
///
/// Pieces are copied out of it. If connections shared its bytes instead, each that stopped reading would keep all of
/// them in memory until the connection is closed, and giving one up would free nothing.
#[derive(Debug)]
pub(super) struct Sending {
    rendering: Arc<Rendering>,
    left: Range<usize>,
}

/// The rest of an answer is gone.
#[derive(Debug, thiserror::Error)]
#[error("the answer was given up, since the client read it too slowly")]
pub(super) struct CutOff;

impl Body for Sending {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.left.start..self.left.end.min(self.left.start + PIECE);
        let taken = {
            let mut content = lock(&self.rendering.content);
            content.moved = Instant::now();
            content.bytes.get(piece.clone()).map(Bytes::copy_from_slice)
        };
        self.left.start = piece.end;
        Poll::Ready(Some(taken.map(Frame::data).ok_or(CutOff)))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

/// What is locked here is whole at all times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{
            atomic::{AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
    };

    use tokio::{task::yield_now, time::advance};

    use super::*;

    /// Says when it begins, ends when it is let, and tells the how-many-eth it is.
    struct Gated {
        renderer: Arc<Renderer>,
        begun: tokio::sync::mpsc::UnboundedReceiver<usize>,
        gate: mpsc::Sender<()>,
    }

    impl Gated {
        fn new() -> Self {
            let (begins, begun) = tokio::sync::mpsc::unbounded_channel();
            let (gate, opened) = mpsc::channel();
            let (opened, made) = (Mutex::new(opened), AtomicUsize::new(0));
            let renderer = Renderer::new("text", &Arc::default(), move || {
                let number = made.fetch_add(1, SeqCst) + 1;
                begins.send(number).unwrap();
                lock(&opened).recv().unwrap();
                Ok(number.to_string().into_bytes())
            });
            Self { renderer, begun, gate }
        }

        fn ask(&self) -> tokio::task::JoinHandle<Vec<u8>> {
            let renderer = Arc::clone(&self.renderer);
            tokio::spawn(async move { read(&mut renderer.body().await.unwrap()).await.unwrap() })
        }
    }

    async fn piece(sending: &mut Sending) -> Option<Result<Bytes, CutOff>> {
        let frame = poll_fn(|context| Pin::new(&mut *sending).poll_frame(context)).await;
        frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    async fn read(sending: &mut Sending) -> Result<Vec<u8>, CutOff> {
        let mut all = Vec::new();
        while let Some(piece) = piece(sending).await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn whoever_comes_while_it_is_rendered_shares_the_next_one() {
        let mut gated = Gated::new();
        let first = gated.ask();
        assert_eq!(gated.begun.recv().await, Some(1));
        let late = [gated.ask(), gated.ask(), gated.ask()];
        yield_now().await;
        gated.gate.send(()).unwrap();
        assert_eq!(first.await.unwrap(), b"1");
        assert_eq!(gated.begun.recv().await, Some(2));
        let later = gated.ask();
        yield_now().await;
        gated.gate.send(()).unwrap();
        for shared in late {
            assert_eq!(shared.await.unwrap(), b"2");
        }
        gated.gate.send(()).unwrap();
        assert_eq!(later.await.unwrap(), b"3");
    }

    #[tokio::test]
    async fn nothing_is_rendered_or_kept_for_those_who_left() {
        let mut gated = Gated::new();
        let first = gated.ask();
        assert_eq!(gated.begun.recv().await, Some(1));
        let left = gated.ask();
        yield_now().await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        gated.gate.send(()).unwrap();
        assert_eq!(first.await.unwrap(), b"1");
        let alive = gated.renderer.renderings.0.lock().await;
        assert_eq!(alive.renderings.iter().filter_map(Weak::upgrade).count(), 0);
        assert!(gated.begun.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_rendered_is_an_error_for_those_who_shared_it_alone() {
        let tries = AtomicUsize::new(0);
        let renderer = Renderer::new("text", &Arc::default(), move || match tries.fetch_add(1, SeqCst) {
            0 => Err(io::Error::other("it is broken")),
            _ => Ok(vec![1]),
        });
        let (first, second) = tokio::join!(renderer.body(), renderer.body());
        assert!(first.is_err() && second.is_err());
        assert_eq!(read(&mut renderer.body().await.unwrap()).await.unwrap(), [1]);
    }

    #[tokio::test]
    async fn pieces_are_the_whole_and_their_sum_is_told() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let whole: Vec<u8> = (0..=250).cycle().take(length).collect();
            let text = whole.clone();
            let renderer = Renderer::new("text", &Arc::default(), move || Ok(text.clone()));
            let mut sending = renderer.body().await.unwrap();
            assert_eq!(sending.size_hint().exact(), Some(length as u64));
            assert_eq!(sending.is_end_stream(), length == 0);
            assert_eq!(read(&mut sending).await.unwrap(), whole);
            assert!(sending.is_end_stream());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_clients_lose_the_answer_of_which_nothing_was_taken_for_longest() {
        let renderings = Arc::default();
        let sorts = ["plain", "gzip"].map(|what| Renderer::new(what, &renderings, || Ok(vec![0; 3 * PIECE])));
        let mut sent = Vec::new();
        for number in 0..MAX_ALIVE {
            sent.push(sorts[number % 2].body().await.unwrap());
            advance(Duration::from_secs(1)).await;
        }
        // Of the first, the client takes something; the second is the stillest now.
        assert!(piece(&mut sent[0]).await.unwrap().is_ok());
        sent.push(sorts[0].body().await.unwrap());
        for (number, sending) in sent.iter_mut().enumerate() {
            assert_eq!(read(sending).await.is_ok(), number != 1, "{number}");
        }
        assert!(lock(&sent[1].rendering.content).bytes.is_empty());
        assert_eq!(sent[1].rendering.length, 3 * PIECE);
        drop(sent);
        // One that is sent in time is waited for.
        let mut sent = Vec::new();
        for _ in 0..MAX_ALIVE {
            sent.push(sorts[0].body().await.unwrap());
        }
        let (next, first) = tokio::join!(sorts[1].body(), async {
            sleep(STALLED / 2).await;
            read(&mut sent.remove(0)).await
        });
        sent.push(next.unwrap());
        assert!(first.is_ok());
        for mut sending in sent {
            assert!(read(&mut sending).await.is_ok());
        }
        for _ in 0..3 * MAX_ALIVE {
            assert!(read(&mut sorts[1].body().await.unwrap()).await.is_ok());
        }
    }
    #[tokio::test(start_paused = true)]
    async fn waits_for_room_do_not_add_up() {
        let renderings = Arc::default();
        let sorts = ["page", "plain", "gzip"].map(|what| Renderer::new(what, &renderings, || Ok(vec![0; 100 * PIECE])));
        let mut sent = Vec::new();
        for _ in 0..MAX_ALIVE {
            sent.push(sorts[0].body().await.unwrap());
        }
        let reading = async {
            loop {
                for sending in &mut sent {
                    // One of them is given up in the end.
                    let _ = piece(sending).await;
                }
                sleep(STALLED / 4).await;
            }
        };
        let started = Instant::now();
        let asking = async { tokio::join!(sorts[0].body(), sorts[1].body(), sorts[2].body()) };
        tokio::select! {
            () = reading => {}
            _answers = asking => {}
        }
        let waited = started.elapsed();
        assert!((ROOM_PATIENCE..=ROOM_PATIENCE + 2 * ROOM_LOOK).contains(&waited), "{waited:?}");
    }
}
