//! How an answer gets onto the wire when it does not go as it should.

use std::{
    io::{self, Write as _},
    ops::ControlFlow::{self, Break, Continue},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::yield_now,
    time::sleep,
};

use crate::{answer::Answer, connection::head, world::SimulatedCertificate};

/// How an answer gets onto the wire, other than as it should.
#[derive(Debug, Clone, Copy)]
pub enum Delivery {
    /// The request is read, and nothing is answered.
    Unanswered(Ending),
    /// The head and half of the body, whose whole length was promised.
    Half(Ending),
    /// The whole body, of which `Content-Length` admits half.
    Understated,
    /// Head and body byte by byte, with this pause before each; without a pause, in as many writes.
    ByteByByte(Duration),
    /// A listing whose entries never end.
    Endless,
    /// So many blanks, compressed a thousandfold; made as they are read.
    GzipBomb(u64),
}

/// What happens to a connection after its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing, until the peer goes away.
    Hang,
    /// It is closed in order.
    Close,
    /// It is reset.
    Reset,
}

impl Delivery {
    /// Whether the body is made while it is sent, and not before.
    pub(super) const fn makes_its_body(self) -> bool {
        matches!(self, Self::Endless | Self::GzipBomb(_))
    }

    /// Sends an answer. After a break the connection cannot go on.
    pub(crate) async fn send(
        self,
        stream: &mut TcpStream,
        answer: &Answer,
        body: &[u8],
    ) -> io::Result<ControlFlow<()>> {
        let half = body.len() / 2;
        match self {
            Self::Unanswered(ending) => end(stream, ending).await,
            Self::Half(ending) => {
                stream.write_all(&[&head(answer, Some(body.len())), &body[..half]].concat()).await?;
                stream.flush().await?;
                if ending == Ending::Reset {
                    // A reset discards what the peer has not read yet, and this is about the middle.
                    sleep(Duration::from_millis(20)).await;
                }
                end(stream, ending).await
            }
            Self::Understated => {
                stream.write_all(&[&head(answer, Some(half)), body].concat()).await?;
                stream.flush().await?;
                Ok(Break(()))
            }
            Self::ByteByByte(pause) => {
                send_byte_by_byte(stream, &[head(answer, Some(body.len())).as_slice(), body].concat(), pause).await?;
                Ok(Continue(()))
            }
            Self::Endless => {
                stream.write_all(&head(answer, None)).await?;
                send_endless(stream).await
            }
            Self::GzipBomb(size) => {
                stream.write_all(&head(answer, None)).await?;
                send_gzip_bomb(stream, size).await?;
                Ok(Continue(()))
            }
        }
    }
}

async fn end(stream: &mut TcpStream, ending: Ending) -> io::Result<ControlFlow<()>> {
    match ending {
        Ending::Close => {}
        Ending::Hang => until_peer_leaves(stream).await?,
        Ending::Reset => stream.set_zero_linger()?,
    }
    Ok(Break(()))
}

async fn send_byte_by_byte(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
    for byte in bytes {
        // The timer's grain is a millisecond, so no pause must not become one.
        if pause.is_zero() {
            yield_now().await;
        } else {
            sleep(pause).await;
        }
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// Goes on until the peer has enough.
async fn send_endless<T>(stream: &mut TcpStream) -> io::Result<T> {
    write_chunk(stream, br#"{"success":true,"errors":[],"messages":[],"result":["#).await?;
    let date = "2036-01-01T00:00:00Z";
    let entry = SimulatedCertificate::new("endless", "endless", "active", date, date);
    // Many at once, so that the peer's limit is met before its patience ends.
    let entries = format!("{},", entry.fields()).repeat(64);
    loop {
        write_chunk(stream, entries.as_bytes()).await?;
    }
}

async fn send_gzip_bomb(stream: &mut TcpStream, size: u64) -> io::Result<()> {
    static BLANKS: [u8; 64 * 1024] = [b' '; 64 * 1024];
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
    stream.flush().await
}

/// An empty chunk would be the last one, so nothing is written for it.
async fn write_chunk(stream: &mut TcpStream, chunk: &[u8]) -> io::Result<()> {
    if chunk.is_empty() {
        return Ok(());
    }
    let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
    stream.write_all(&framed).await
}

async fn until_peer_leaves(stream: &mut TcpStream) -> io::Result<()> {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
