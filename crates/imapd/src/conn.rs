//! A connection's input and output, with their timeouts and buffers.
//!
//! Output is collected in one buffer that is reused, and written in large pieces: by [`Conn::flush`] at the end of a command,
//! before a continuation request and while updates come in, and by [`Conn::relieve`] within long responses, so that a slow
//! reader holds back the work that is done for it. A connection that waits has no buffers: [`Conn::read`] waits for the
//! socket first and allocates then.

use crate::settings::Limits;
use mox_imap::reader::Reader;
use mox_imap::response::{self, Status};
use mox_net::Stream;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Why there is no more input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The connection failed or the client closed it.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The client was silent for too long.
    #[error("inactive")]
    Inactive,
    /// The server shuts down.
    #[error("shutting down")]
    Stopping,
    /// The account is no longer served: it was removed.
    #[error("account was closed")]
    Gone,
    /// Input that can't be read on, or a connection that is to be closed for another reason; what there was to say is in the output.
    #[error("closed")]
    Closed,
}

/// Output that is worth writing in the middle of a response.
const LARGE: usize = 128 * 1024;

/// Input that is read while a command is at work.
const AHEAD: usize = 16 * 1024;

/// Between questions to a client that sends nothing more.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) stream: Stream,
    pub(crate) reader: Reader,
    /// What is to be written.
    pub(crate) out: Vec<u8>,
    /// After failed logins, everything takes its time.
    pub(crate) slow: bool,
    limits: Limits,
    stop: CancellationToken,
    /// The client has ended its output; when it was last asked whether it is there.
    ended: Option<Instant>,
}

impl Conn {
    pub(crate) fn new(stream: Stream, limits: Limits, stop: CancellationToken) -> Self {
        Self { stream, reader: Reader::new(limits.before_login), out: Vec::new(), slow: false, limits, stop, ended: None }
    }

    /// Writes all output.
    pub(crate) async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        tracing::trace!(bytes = self.out.len(), "S");
        if self.slow {
            return self.flush_slowly().await;
        }
        let mut at = 0;
        while let Some(rest) = self.out.get(at..).filter(|r| !r.is_empty()) {
            let n = timeout(self.limits.write, self.stream.write(rest)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if n == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            at = at.saturating_add(n);
        }
        self.out.clear();
        timeout(self.limits.write, self.stream.flush()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(())
    }

    /// A byte at a time, for those who guess passwords.
    async fn flush_slowly(&mut self) -> Result<(), End> {
        for byte in std::mem::take(&mut self.out) {
            timeout(self.limits.write, self.stream.write_all(&[byte])).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            timeout(self.limits.write, self.stream.flush()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            sleep(self.limits.penalty).await;
        }
        Ok(())
    }

    /// Writes the output if there is much of it.
    pub(crate) async fn relieve(&mut self) -> Result<(), End> {
        if self.out.len() >= LARGE { self.flush().await } else { Ok(()) }
    }

    /// Frees the buffers before a wait.
    pub(crate) fn shrink(&mut self) {
        self.reader.shrink();
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Reads some input, at most `wait` from now.
    pub(crate) async fn read(&mut self, wait: Duration) -> Result<(), End> {
        let stop = self.stop.clone();
        let read = async {
            if self.reader.input.capacity() == 0 {
                self.stream.readable().await?;
            }
            self.read_now().await
        };
        tokio::select! {
            biased;
            result = timeout(wait, read) => result.map_err(|_| End::Inactive)?,
            () = stop.cancelled() => Err(End::Stopping),
        }
    }

    /// Reads some input, for which there is a buffer or the stream is known to be readable.
    async fn read_now(&mut self) -> Result<(), End> {
        // A literal in progress is read in large pieces, a command in small ones.
        let size = usize::try_from(self.reader.wanted()).unwrap_or(usize::MAX).clamp(2048, 128 * 1024);
        self.reader.input.reserve(size);
        match self.stream.read_buf(&mut self.reader.input).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Within long work: whether the client sends nothing more, and it is time to ask whether it is there. Waits for nothing. What the
    /// client has sent meanwhile is kept, as much as a command may have in a line; beyond that its end is noticed later.
    pub(crate) async fn has_fallen_silent(&mut self) -> Result<bool, End> {
        if self.stop.is_cancelled() {
            return Err(End::Stopping);
        }
        if let Some(asked) = self.ended {
            return Ok(asked.elapsed() >= ASK_AGAIN);
        }
        if self.reader.input.len() >= AHEAD {
            return Ok(false);
        }
        let read = tokio::select! {
            biased;
            read = self.read_now() => read,
            () = std::future::ready(()) => Ok(()),
        };
        self.shrink();
        match read {
            Err(End::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            read => read.map(|()| false),
        }
    }

    /// A client that sends nothing more may still wait for answers, as those do whose commands are a file. One that is gone refuses
    /// what it is sent. Waits until there is room for the question: whoever has something that others wait for gives it up before.
    pub(crate) async fn ask_if_there(&mut self) -> Result<(), End> {
        self.ended = Some(Instant::now());
        response::status(&mut self.out, None, Status::Ok, None, "still at work");
        self.flush().await
    }

    /// Reads a line that isn't a command.
    pub(crate) async fn line(&mut self, wait: Duration) -> Result<Vec<u8>, End> {
        loop {
            match self.reader.line() {
                Ok(Some(line)) => return Ok(line),
                Ok(None) => self.read(wait).await?,
                Err(_) => return Err(End::Closed),
            }
        }
    }

    /// Waits before a line is read, after failed logins.
    pub(crate) async fn hesitate(&self) {
        if self.slow {
            sleep(self.limits.penalty).await;
        }
    }
}
