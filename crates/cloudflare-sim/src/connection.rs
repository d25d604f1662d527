//! HTTP/1.1 on one connection, written by hand because faults happen below what a server library
//! lets one touch.

use std::{
    fmt::Write as _,
    io,
    ops::ControlFlow::{self, Continue},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{
    answer::Answer,
    lock,
    router::{RecordedRequest, RouterState},
};

/// Answers requests until one side ends it.
/// An error is a peer that is gone or does not speak HTTP.
pub(super) async fn serve(mut stream: TcpStream, state: Arc<Mutex<RouterState>>) -> io::Result<()> {
    // Without it one byte at a time would be gathered by the kernel.
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut received).await? {
        let keep = request.method == "GET" && !has_token(&request, "connection", "close");
        let (answer, body) = answer(request, &state).await;
        if send(&mut stream, &answer, &body).await?.is_break() {
            return Ok(());
        }
        if !keep {
            break;
        }
    }
    stream.shutdown().await
}

/// The answer to a request and its body, once the latency has passed.
pub(super) async fn answer(request: RecordedRequest, state: &Mutex<RouterState>) -> (Answer, Vec<u8>) {
    let gzip = has_token(&request, "accept-encoding", "gzip");
    let arrived = request.at;
    let mut answer = lock(state).answer(request);
    // Made while the latency passes, so that it does not add to it.
    let body = answer.body(gzip);
    sleep_until(arrived + answer.delay).await;
    (answer, body)
}

/// Sends an answer. After a break the connection cannot go on.
async fn send(stream: &mut TcpStream, answer: &Answer, body: &[u8]) -> io::Result<ControlFlow<()>> {
    if let Some(delivery) = answer.delivery {
        return delivery.send(stream, answer, body).await;
    }
    stream.write_all(&[head(answer, Some(body.len())).as_slice(), body].concat()).await?;
    stream.flush().await?;
    Ok(Continue(()))
}

/// The head of an answer whose body has this length, or comes in chunks.
pub(super) fn head(answer: &Answer, length: Option<usize>) -> Vec<u8> {
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

/// The next request, or nothing if the peer is done.
async fn read_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<RecordedRequest>> {
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
