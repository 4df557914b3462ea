//! A stream whose reads and writes each end within a time limit. Limits per command or per message are the protocol's
//! business and not set here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Wraps a stream so that a peer that has gone silent shows as an error instead of a wait without end.
///
/// A read that has waited `limit` without a single byte, and a write, flush or shutdown that made no progress for
/// `limit`, fail with [`io::ErrorKind::TimedOut`]. The clock runs only while somebody is waiting.
#[derive(Debug)]
pub struct Deadline<S> {
    inner: S,
    limit: Duration,
    reading: Timer,
    writing: Timer,
}

impl<S> Deadline<S> {
    /// Guards `inner` with one limit for both directions. Must be called within a tokio runtime.
    pub fn new(inner: S, limit: Duration) -> Self {
        Deadline {
            inner,
            limit,
            reading: Timer::new(),
            writing: Timer::new(),
        }
    }

    /// Changes the limit for the waits that begin after this call.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The guarded stream.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

/// One reusable timer: armed at the first `Pending`, disarmed at the first progress.
#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: bool,
}

impl Timer {
    fn new() -> Self {
        Timer {
            sleep: Box::pin(sleep(Duration::ZERO)),
            armed: false,
        }
    }

    /// Passes `result` on, unless it is pending and has been so for `limit`.
    fn guard<T>(
        &mut self,
        context: &mut Context<'_>,
        limit: Duration,
        what: &str,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.armed = false;
            return result;
        }
        if !self.armed {
            self.armed = true;
            self.sleep.as_mut().reset(Instant::now() + limit);
        }
        ready!(self.sleep.as_mut().poll(context));
        self.armed = false;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "{what} made no progress for {} ms: the peer is silent",
                limit.as_millis()
            ),
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadline<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.reading.guard(cx, this.limit, "a read", result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadline<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.writing.guard(cx, this.limit, "a write", result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_flush(cx);
        this.writing.guard(cx, this.limit, "a flush", result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.writing.guard(cx, this.limit, "a shutdown", result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_read_from_a_silent_peer_times_out_after_the_limit() {
        let (near, _far) = duplex(64);
        let mut guarded = Deadline::new(near, LIMIT);
        let begin = Instant::now();
        let error = guarded.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_times_out_after_the_limit() {
        let (near, _far) = duplex(4);
        let mut guarded = Deadline::new(near, LIMIT);
        let error = guarded.write_all(b"more than four bytes").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn each_byte_gets_the_whole_limit() {
        let (near, mut far) = duplex(64);
        let mut guarded = Deadline::new(near, LIMIT);
        let peer = tokio::spawn(async move {
            for byte in 0..5 {
                sleep(Duration::from_secs(29)).await;
                far.write_u8(byte).await.unwrap();
            }
            far
        });
        for expected in 0..5 {
            assert_eq!(guarded.read_u8().await.unwrap(), expected);
        }
        drop(peer.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn time_between_reads_does_not_count() {
        let (near, mut far) = duplex(64);
        let mut guarded = Deadline::new(near, LIMIT);
        sleep(Duration::from_secs(3600)).await;
        far.write_u8(1).await.unwrap();
        assert_eq!(guarded.read_u8().await.unwrap(), 1);
    }
}
