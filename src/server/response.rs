//! Large answers on their way: each client gets them in pieces at its own speed, and only so many are held for those
//! who read slowly. What an answer says is made by others.

use std::{
    mem::take,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::limit::Reached;
use crate::exposition::{Exposition, Progress, json::StatusParts};

/// Contents in memory at once because clients have not read them to the end. Most of an exposition is shared with the
/// next one, but all of a large zone is new once it was polled.
const MAX_HELD: usize = 16;

/// What is handed to a connection at a time. A client that stopped reading holds two.
const PIECE: usize = 16 * 1024;

/// What those get who come while few others are there. In small pieces, a large answer is under way half as long
/// again, since they take more calls of the kernel and change threads more often.
const LARGE_PIECE: usize = 128 * 1024;

/// How many get large pieces at once, so that a crowd that stopped reading does not hold them.
const MAX_LARGE: usize = 16;

/// What is sent.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Exposition(Arc<Exposition>),
    /// A page, plain or packed.
    Page(Arc<[u8]>),
    Status(Arc<StatusParts>),
}

impl Content {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exposition(one), Self::Exposition(other)) => Arc::ptr_eq(one, other),
            (Self::Page(one), Self::Page(other)) => Arc::ptr_eq(one, other),
            (Self::Status(one), Self::Status(other)) => one.is_same(other),
            _ => false,
        }
    }
}

/// A content for as long as it is being sent to somebody.
#[derive(Debug)]
struct Held {
    /// `None` once it was given up.
    content: Mutex<Option<Content>>,
    /// When a piece of it was last taken.
    moved: Mutex<Instant>,
}

/// All contents that are being sent.
#[derive(Debug)]
pub(super) struct Responses {
    sent: Mutex<Sent>,
    large: Arc<Semaphore>,
}

impl Default for Responses {
    fn default() -> Self {
        Self { sent: Mutex::default(), large: Arc::new(Semaphore::new(MAX_LARGE)) }
    }
}

#[derive(Debug, Default)]
struct Sent {
    held: Vec<Weak<Held>>,
    cut_off: Reached,
}

impl Responses {
    /// The exposition as plain text, with `rest` behind it.
    pub(super) fn text(&self, exposition: Arc<Exposition>, rest: String) -> Sending {
        let length = exposition.length();
        self.send(Content::Exposition(exposition), Form::Text, length, rest.into())
    }

    /// The same packed.
    pub(super) fn gzip(&self, exposition: Arc<Exposition>, rest: &str) -> Sending {
        let (length, end) = (exposition.gzip_length(), exposition.gzip_end(rest));
        self.send(Content::Exposition(exposition), Form::Gzip, length, end.into())
    }

    pub(super) fn page(&self, page: Arc<[u8]>) -> Sending {
        let length = page.len() as u64;
        self.send(Content::Page(page), Form::Text, length, Bytes::new())
    }

    /// Its length is not known before it is written.
    pub(super) fn status(&self, status: Arc<StatusParts>) -> Sending {
        self.send(Content::Status(status), Form::Text, u64::MAX, Bytes::new())
    }

    fn send(&self, content: Content, form: Form, length: u64, rest: Bytes) -> Sending {
        let left = length.saturating_add(rest.len() as u64);
        let large = match form {
            Form::Text => Arc::clone(&self.large).try_acquire_owned().ok(),
            // Those pieces are made already.
            Form::Gzip => None,
        };
        Sending { held: self.hold(content), form, large, progress: Progress::default(), taken: 0, rest, left }
    }

    /// Holds the content for one client more. Of too many, the one of which nothing was taken for longest is given
    /// up: whoever reads is not cut off because of those who do not.
    fn hold(&self, content: Content) -> Arc<Held> {
        let mut sent = lock(&self.sent);
        sent.held.retain(|held| held.strong_count() > 0);
        let held: Vec<_> = sent.held.iter().filter_map(Weak::upgrade).collect();
        let same = |held: &&Arc<Held>| lock(&held.content).as_ref().is_some_and(|held| held.is(&content));
        if let Some(same) = held.iter().find(same) {
            return Arc::clone(same);
        }
        if held.len() >= MAX_HELD
            && let Some(stillest) = held.iter().min_by_key(|held| *lock(&held.moved))
        {
            sent.held.retain(|other| other.as_ptr() != Arc::as_ptr(stillest));
            drop(lock(&stillest.content).take());
            // Without the one that is held here.
            let clients = Arc::strong_count(stillest) - 1;
            if let Some(clients) = sent.cut_off.count(clients as u64) {
                tracing::warn!(
                    clients,
                    answers = MAX_HELD,
                    "Clients that read too slowly were cut off, since too many different answers were being sent."
                );
            }
        }
        let new = Arc::new(Held { content: Mutex::new(Some(content)), moved: Mutex::new(Instant::now()) });
        sent.held.push(Arc::downgrade(&new));
        new
    }
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Gzip,
}

/// A content on its way to one client.
///
/// It holds no more than pieces: if it had the whole, whoever stopped reading would keep that until the connection is
/// closed, and giving it up would free nothing. Packed pieces are shared, all others are made or copied.
#[derive(Debug)]
pub(super) struct Sending {
    held: Arc<Held>,
    form: Form,
    /// Whether it is sent in large pieces.
    large: Option<OwnedSemaphorePermit>,
    progress: Progress,
    /// Bytes of a page, or parts of a status.
    taken: usize,
    /// What comes behind it.
    rest: Bytes,
    /// The largest number where it is not known.
    left: u64,
}

/// The rest of an answer is gone.
#[derive(Debug, thiserror::Error)]
#[error("the answer was given up, since the client read it too slowly")]
pub(super) struct CutOff;

impl Sending {
    fn piece(&mut self) -> Result<Bytes, CutOff> {
        let content = lock(&self.held.content).clone().ok_or(CutOff)?;
        *lock(&self.held.moved) = Instant::now();
        let room = if self.large.is_some() { LARGE_PIECE } else { PIECE };
        let piece: Bytes = match (content, self.form) {
            (Content::Exposition(exposition), Form::Text) => exposition.text(&mut self.progress, room).into(),
            (Content::Exposition(exposition), Form::Gzip) => exposition.gzip(&mut self.progress).unwrap_or_default(),
            (Content::Page(page), _) => {
                let left = page.get(self.taken..).unwrap_or_default();
                let piece = Bytes::copy_from_slice(&left[..left.len().min(room)]);
                self.taken += piece.len();
                piece
            }
            (Content::Status(status), _) => {
                self.taken += 1;
                status.part(self.taken - 1).unwrap_or_default().into()
            }
        };
        Ok(if piece.is_empty() { take(&mut self.rest) } else { piece })
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.piece();
        let length = piece.as_ref().map_or(0, Bytes::len) as u64;
        // A piece is never empty while something is left, or the length that was promised was wrong.
        self.left = match self.left {
            _ if length == 0 => 0,
            u64::MAX => u64::MAX,
            left => left.saturating_sub(length),
        };
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.left == u64::MAX { SizeHint::default() } else { SizeHint::with_exact(self.left) }
    }
}

/// What is locked here is whole at all times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::advance;

    use super::*;

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

    fn page(length: usize) -> Arc<[u8]> {
        (b'a'..=b'z').cycle().take(length).collect()
    }

    fn exposition() -> Arc<Exposition> {
        Arc::new(Exposition::new(crate::exposition::SeriesSettings {
            statuses: Vec::new(),
            max_certificates_per_zone: 0,
            expiring_within_days: Vec::new(),
            forget_expired_after: Duration::ZERO,
        }))
    }

    #[tokio::test]
    async fn pieces_are_the_whole_and_their_sum_is_told() {
        let answers = Responses::default();
        for length in [0, 1, PIECE, LARGE_PIECE - 1, LARGE_PIECE, LARGE_PIECE + 1, 3 * LARGE_PIECE] {
            let page = page(length);
            let mut sending = answers.page(Arc::clone(&page));
            assert_eq!(sending.size_hint().exact(), Some(length as u64));
            assert_eq!(sending.is_end_stream(), length == 0);
            assert_eq!(read(&mut sending).await.unwrap(), *page);
            assert!(sending.is_end_stream());
        }
        for rest in ["", "the rest\n"] {
            let exposition = exposition();
            let forms = [answers.text(exposition.clone(), rest.into()), answers.gzip(exposition.clone(), rest)];
            for mut sending in forms {
                let promised = sending.size_hint().exact().unwrap();
                assert_eq!(read(&mut sending).await.unwrap().len() as u64, promised);
            }
        }
    }

    #[tokio::test]
    async fn few_get_large_pieces_and_a_crowd_small_ones() {
        let answers = Responses::default();
        let page = page(LARGE_PIECE);
        let mut few: Vec<_> = (0..MAX_LARGE).map(|_| answers.page(Arc::clone(&page))).collect();
        let mut crowded = answers.page(Arc::clone(&page));
        assert_eq!(piece(&mut crowded).await.unwrap().unwrap().len(), PIECE);
        for sending in &mut few {
            assert_eq!(piece(sending).await.unwrap().unwrap().len(), LARGE_PIECE);
        }
        drop(few);
        assert_eq!(piece(&mut answers.page(page)).await.unwrap().unwrap().len(), LARGE_PIECE);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_clients_lose_the_content_of_which_nothing_was_taken_for_longest() {
        let answers = Responses::default();
        let mut sent = Vec::new();
        for _ in 0..MAX_HELD {
            sent.push(answers.page(page(3 * LARGE_PIECE)));
            advance(Duration::from_secs(1)).await;
        }
        // Of the first, the client takes something; the second is the stillest now.
        assert!(piece(&mut sent[0]).await.unwrap().is_ok());
        sent.push(answers.page(page(3 * LARGE_PIECE)));
        assert!(lock(&sent[1].held.content).is_none());
        for (number, sending) in sent.iter_mut().enumerate() {
            assert_eq!(read(sending).await.is_ok(), number != 1, "{number}");
        }
        // What nobody is being sent is not held.
        drop(sent);
        drop(answers.page(page(1)));
        assert!(lock(&answers.sent).held.iter().all(|held| held.strong_count() == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_clients_share_one_content_and_what_was_given_up_is_sent_anew() {
        let answers = Responses::default();
        let shared = exposition();
        let mut slow: Vec<_> = (0..3 * MAX_HELD).map(|_| answers.text(shared.clone(), String::new())).collect();
        advance(Duration::from_secs(1)).await;
        let mut others: Vec<_> = (0..MAX_HELD - 1).map(|_| answers.page(page(1))).collect();
        assert!(read(&mut slow[0]).await.is_ok());
        advance(Duration::from_secs(1)).await;
        for other in &mut others {
            *lock(&other.held.moved) = Instant::now();
        }
        others.push(answers.page(page(1)));
        assert!(read(&mut slow[1]).await.is_err());
        // It is still what is shown, and who comes now gets it.
        assert!(read(&mut answers.gzip(shared, "")).await.is_ok());
    }
}
