//! HTTP/1.1 on one connection, written by hand because faults happen below what a server library
//! lets one touch. Whatever can be read and written will do, so that TLS can be put around it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::Mutex,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};

use super::{
    answer::{Answer, Delivery, Ending},
    lock,
    router::{RecordedRequest, State},
    world::SimulatedCertificate,
};

/// Answers requests until one side ends it, and tells how the connection is to be ended.
/// An error is a peer that is gone or does not speak HTTP.
pub(super) async fn serve<S>(stream: &mut S, state: &Mutex<State>) -> io::Result<Ending>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = Vec::new();
    while let Some(request) = read_request(stream, &mut received).await? {
        let keep = request.method == "GET" && !has_token(&request, "connection", "close");
        let gzip = has_token(&request, "accept-encoding", "gzip");
        let arrived = request.at;
        let mut answer = lock(state).answer(request);
        // Made while the latency passes, so that it does not add to it.
        let body = answer.body(gzip);
        sleep_until(arrived + answer.delay).await;
        if let Some(ending) = send(stream, &answer, &body).await? {
            if ending == Ending::Hang {
                until_peer_leaves(stream).await?;
            }
            return Ok(ending);
        }
        if !keep {
            break;
        }
    }
    stream.shutdown().await?;
    Ok(Ending::Close)
}

/// Sends an answer, and tells how the connection ends if it cannot go on.
async fn send<S>(stream: &mut S, answer: &Answer, body: &[u8]) -> io::Result<Option<Ending>>
where
    S: AsyncWrite + Unpin,
{
    let half = body.len() / 2;
    match answer.delivery {
        Delivery::Whole => {
            stream.write_all(&[head(answer, Some(body.len())).as_slice(), body].concat()).await?;
            stream.flush().await?;
            Ok(None)
        }
        Delivery::Unanswered(ending) => Ok(Some(ending)),
        Delivery::Half(ending) => {
            stream.write_all(&[&head(answer, Some(body.len())), &body[..half]].concat()).await?;
            stream.flush().await?;
            if ending == Ending::Reset {
                // A reset discards what the peer has not read yet, and this is about the middle.
                sleep(Duration::from_millis(20)).await;
            }
            Ok(Some(ending))
        }
        Delivery::Understated => {
            stream.write_all(&[&head(answer, Some(half)), body].concat()).await?;
            stream.flush().await?;
            Ok(Some(Ending::Close))
        }
        Delivery::ByteByByte(pause) => {
            for byte in [head(answer, Some(body.len())).as_slice(), body].concat() {
                // The timer's grain is a millisecond, so no pause must not become one.
                if pause.is_zero() {
                    yield_now().await;
                } else {
                    sleep(pause).await;
                }
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
            }
            Ok(None)
        }
        Delivery::Endless => {
            stream.write_all(&head(answer, None)).await?;
            write_chunk(stream, br#"{"success":true,"errors":[],"messages":[],"result":["#).await?;
            let date = "2036-01-01T00:00:00Z";
            let entry = SimulatedCertificate::new("endless", "endless", "active", date, date);
            // Many at once, so that the peer's limit is met before its patience ends.
            let entries = format!("{},", json!(entry.fields())).repeat(64);
            loop {
                write_chunk(stream, entries.as_bytes()).await?;
            }
        }
        Delivery::GzipBomb(size) => {
            static BLANKS: [u8; 64 * 1024] = [b' '; 64 * 1024];
            stream.write_all(&head(answer, None)).await?;
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            let mut left = size;
            while left > 0 {
                let blanks = &BLANKS[..usize::try_from(left).unwrap_or(usize::MAX).min(BLANKS.len())];
                encoder.write_all(blanks)?;
                left -= blanks.len() as u64;
                write_chunk(stream, encoder.get_ref()).await?;
                encoder.get_mut().clear();
            }
            write_chunk(stream, &encoder.finish()?).await?;
            stream.write_all(b"0\r\n\r\n").await?;
            stream.flush().await?;
            Ok(None)
        }
    }
}

fn head(answer: &Answer, length: Option<usize>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} \r\n", answer.status);
    let mut line = |name: &str, value: &str| write!(head, "{name}: {value}\r\n").expect("a String takes every write");
    for (name, value) in &answer.headers {
        line(name, value);
    }
    match length {
        Some(length) => line("content-length", &length.to_string()),
        None => line("transfer-encoding", "chunked"),
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// An empty chunk would be the last one, so nothing is written for it.
async fn write_chunk<S: AsyncWrite + Unpin>(stream: &mut S, chunk: &[u8]) -> io::Result<()> {
    if chunk.is_empty() {
        return Ok(());
    }
    let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
    stream.write_all(&framed).await
}

/// The next request, or nothing if the peer is done.
async fn read_request<S>(stream: &mut S, received: &mut Vec<u8>) -> io::Result<Option<RecordedRequest>>
where
    S: AsyncRead + Unpin,
{
    const MAX_HEAD: usize = 64 * 1024;
    let end = loop {
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if received.len() > MAX_HEAD || stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    };
    let at = Instant::now();
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    received.drain(..end + 4);

    let not_http = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP request");
    let mut lines = head.split("\r\n");
    let [method, target, _version] =
        lines.next().and_then(|line| line.split(' ').collect::<Vec<_>>().try_into().ok()).ok_or_else(not_http)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(not_http)?;
    Ok(Some(RecordedRequest { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), headers, at }))
}

fn has_token(request: &RecordedRequest, header: &str, token: &str) -> bool {
    let tokens = request.header(header).unwrap_or_default().split([',', ';']);
    tokens.map(str::trim).any(|other| other.eq_ignore_ascii_case(token))
}

async fn until_peer_leaves<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
