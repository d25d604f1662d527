//! Large responses: each client reads at its own speed, and slow ones keep only so much in memory.
//!
//! A client gets its content piece by piece. If its connection had the whole, a client that stopped reading would hold
//! that until the connection is closed. What a response says is up to others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::{
    body::{Body, Bytes},
    http::header::CONTENT_LENGTH,
    response::Response,
};
use futures_util::stream;
use tokio::time::Instant;

use crate::{
    exposition::{Exposition, json::StatusParts},
    log_throttle::LogThrottle,
};

/// Contents in memory at once because clients have not read them to the end. Most of an exposition is shared with the
/// next one, but all of a large target is new once it was polled.
const MAX_CONTENTS: usize = 16;

/// Bytes of a page in a piece, and up to which smaller pieces are sent as one: each write has its price.
const PIECE: usize = 16 * 1024;

/// The same of a compressed exposition, whose pieces are the smallest.
const COMPRESSED_PIECE: usize = 64 * 1024;

/// What is sent.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Text(Arc<Exposition>),
    Gzip(Arc<Exposition>),
    /// Plain or compressed.
    Page(Arc<[u8]>),
    Status(Arc<StatusParts>),
}

impl Content {
    /// Bytes in all; `None` where that is not known before all pieces are rendered.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Text(exposition) => Some(exposition.text_length()),
            Self::Gzip(exposition) => Some(exposition.gzip_length()),
            Self::Page(page) => Some(page.len() as u64),
            Self::Status(_) => None,
        }
    }

    /// A piece, which can be empty; `None` behind the last one.
    fn piece(&self, number: usize) -> Option<Bytes> {
        match self {
            Self::Text(exposition) => exposition.text(number).map(Bytes::from),
            Self::Gzip(exposition) => exposition.gzip(number),
            Self::Page(page) => page.chunks(PIECE).nth(number).map(Bytes::copy_from_slice),
            Self::Status(parts) => parts.part(number).map(Bytes::from),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) | (Self::Gzip(one), Self::Gzip(other)) => Arc::ptr_eq(one, other),
            (Self::Page(one), Self::Page(other)) => Arc::ptr_eq(one, other),
            (Self::Status(one), Self::Status(other)) => one.is_same(other),
            _ => false,
        }
    }
}

/// A content that clients read; `None` once they are cut off.
type Shared = Mutex<Option<ContentInUse>>;

#[derive(Debug)]
struct ContentInUse {
    content: Content,
    /// When a client last took a piece.
    last_read: Instant,
}

/// The contents that are being sent.
#[derive(Debug, Default)]
pub(super) struct Responses {
    contents: Mutex<Vec<Weak<Shared>>>,
    cut_off: Mutex<LogThrottle>,
}

impl Responses {
    /// A response with this content and `end` behind it.
    pub(super) fn response(&self, content: Content, end: Bytes) -> Response {
        let length = content.length().map(|length| length + end.len() as u64);
        let pieces = Pieces { shared: self.share(content), next: 0, end: Some(end) };
        let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
        if let Some(length) = length {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        response
    }

    /// Holds the content for one client more. Of too many contents, the one that was not read for longest is given up:
    /// a client that reads is not cut off because of those that do not.
    fn share(&self, content: Content) -> Arc<Shared> {
        let mut contents = lock(&self.contents);
        contents.retain(|shared| shared.upgrade().is_some_and(|shared| lock(&shared).is_some()));
        let held: Vec<_> = contents.iter().filter_map(Weak::upgrade).collect();
        let is_same = |shared: &&Arc<Shared>| lock(shared).as_ref().is_some_and(|reading| reading.content.is(&content));
        if let Some(shared) = held.iter().find(is_same) {
            return Arc::clone(shared);
        }
        if held.len() >= MAX_CONTENTS
            && let Some(least_recently_read) =
                held.iter().min_by_key(|shared| lock(shared).as_ref().map(|it| it.last_read))
        {
            *lock(least_recently_read) = None;
            // Without the reference that is held here.
            let clients = Arc::strong_count(least_recently_read) as u64 - 1;
            let to_report = lock(&self.cut_off).count(clients);
            if let Some(clients) = to_report {
                tracing::warn!(
                    clients,
                    responses = MAX_CONTENTS,
                    "Clients that read too slowly were cut off, since too many different responses were being sent."
                );
            }
        }
        let shared = Arc::new(Mutex::new(Some(ContentInUse { content, last_read: Instant::now() })));
        contents.push(Arc::downgrade(&shared));
        shared
    }
}

/// The pieces of a content on its way to one client, and what comes behind it.
#[derive(Debug)]
struct Pieces {
    shared: Arc<Shared>,
    next: usize,
    end: Option<Bytes>,
}

/// The rest of a response is gone.
#[derive(Debug, thiserror::Error)]
#[error("the response was given up, since the client read it too slowly")]
struct CutOff;

impl Iterator for Pieces {
    type Item = Result<Bytes, CutOff>;

    fn next(&mut self) -> Option<Result<Bytes, CutOff>> {
        let content = match lock(&self.shared).as_mut() {
            Some(reading) => {
                reading.last_read = Instant::now();
                reading.content.clone()
            }
            None => return Some(Err(CutOff)),
        };
        let length = if let Content::Gzip(_) = content { COMPRESSED_PIECE } else { PIECE };
        let mut joined = Vec::with_capacity(length + length / 4);
        while joined.len() < length
            && let Some(piece) = content.piece(self.next)
        {
            self.next += 1;
            if joined.is_empty() && piece.len() >= length {
                return Some(Ok(piece));
            }
            joined.extend_from_slice(&piece);
        }
        if joined.is_empty() { self.end.take().map(Ok) } else { Some(Ok(joined.into())) }
    }
}

/// What is locked here is whole at all times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt as _;
    use tokio::time::advance;

    use super::*;

    async fn read(response: Response) -> Result<Vec<u8>, axum::Error> {
        let length: usize = response.headers()[CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
        let mut all = Vec::new();
        let mut pieces = response.into_body().into_data_stream();
        while let Some(piece) = pieces.next().await {
            all.extend_from_slice(&piece?);
        }
        assert_eq!(all.len(), length);
        Ok(all)
    }

    fn page(length: usize) -> Content {
        Content::Page((b'a'..=b'z').cycle().take(length).collect())
    }

    fn exposition() -> Arc<Exposition> {
        Arc::new(Exposition::new(crate::exposition::SeriesSettings {
            statuses: Vec::new(),
            max_certificates_per_zone: 0,
            expiring_within_days: Vec::new(),
            forget_expired_after: Duration::ZERO,
            labels: Default::default(),
        }))
    }

    #[tokio::test]
    async fn the_pieces_are_the_whole_of_the_promised_length() {
        let responses = Responses::default();
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let Content::Page(expected) = page(length) else { unreachable!() };
            let response = responses.response(Content::Page(Arc::clone(&expected)), Bytes::new());
            assert_eq!(read(response).await.unwrap(), *expected);
        }
        for end in ["", "the end\n"] {
            for content in [Content::Text(exposition()), Content::Gzip(exposition())] {
                assert!(read(responses.response(content, end.into())).await.unwrap().ends_with(end.as_bytes()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_contents_the_one_that_was_not_read_for_longest_is_given_up() {
        let responses = Responses::default();
        let mut sent = Vec::new();
        for _ in 0..MAX_CONTENTS {
            sent.push(responses.response(page(3 * PIECE), Bytes::new()).into_body().into_data_stream());
            advance(Duration::from_secs(1)).await;
        }
        // A client reads some of the first, so the second has not been read for longest.
        assert!(sent[0].next().await.unwrap().is_ok());
        let another = responses.response(page(3 * PIECE), Bytes::new());
        for (number, pieces) in sent.iter_mut().enumerate() {
            assert_eq!(pieces.next().await.unwrap().is_ok(), number != 1, "{number}");
        }
        assert!(read(another).await.is_ok());
        // What no client is being sent is not held.
        drop(sent);
        drop(responses.response(page(1), Bytes::new()));
        assert!(lock(&responses.contents).iter().all(|shared| shared.strong_count() == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_clients_share_a_content_and_new_clients_get_it_after_it_was_given_up() {
        let responses = Responses::default();
        let shared = exposition();
        let respond = || responses.response(Content::Text(Arc::clone(&shared)), Bytes::new());
        let mut slow: Vec<_> = (0..3 * MAX_CONTENTS).map(|_| respond()).collect();
        assert!(read(slow.pop().unwrap()).await.is_ok());
        advance(Duration::from_secs(1)).await;
        let others: Vec<_> = (0..MAX_CONTENTS).map(|_| responses.response(page(1), Bytes::new())).collect();
        assert!(read(slow.pop().unwrap()).await.is_err());
        drop(others);
        assert!(read(respond()).await.is_ok());
    }
}
