//! The server's end of the control socket.

use super::{Frame, GREETING, MAX_FRAME, MAX_REQUEST, Request, socket_path};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What carries requests out.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Does what is asked, or says why not.
    fn handle<'a>(&'a self, request: Request, out: &'a mut Output) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
}

/// Takes a command's output.
#[derive(Debug)]
pub(crate) struct Output {
    stream: UnixStream,
}

impl Output {
    /// Sends bytes to the client's standard output.
    ///
    /// # Errors
    /// A text for the log when the client has gone.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        for chunk in bytes.chunks(MAX_FRAME) {
            self.frame(Frame::Output, chunk).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Waits until the client closes its end, or we end.
    pub(crate) async fn closed(&mut self) {
        drop(self.stream.read_u8().await);
    }

    async fn frame(&mut self, kind: Frame, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.stream.write_u8(kind.byte()).await?;
        self.stream.write_u32(length).await?;
        self.stream.write_all(bytes).await
    }
}

/// Listens at the socket of a data folder, replacing what an earlier server left there, until stopped.
pub(crate) async fn serve(data_dir: &Path, handler: Arc<dyn Handler>, tracker: TaskTracker, stop: CancellationToken) -> io::Result<()> {
    let path = socket_path(data_dir);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Nobody waits for these: who asked us to stop hears of it by the connection's end, and that is the process' end.
    let connections = TaskTracker::new();
    tracker.spawn(async move {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "accepting control connection");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let handler = Arc::clone(&handler);
            connections.spawn(async move {
                if let Err(error) = converse(Output { stream }, handler.as_ref()).await {
                    tracing::debug!(%error, "control connection");
                }
            });
        }
        drop(std::fs::remove_file(&path));
    });
    Ok(())
}

async fn converse(mut out: Output, handler: &dyn Handler) -> io::Result<()> {
    out.stream.write_all(GREETING).await?;
    loop {
        let length = match out.stream.read_u32().await {
            Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        };
        if length > MAX_REQUEST {
            return out.frame(Frame::Error, b"request too large").await;
        }
        let mut json = vec![0; length];
        out.stream.read_exact(&mut json).await?;
        let request: Request = match serde_json::from_slice(&json) {
            Ok(request) => request,
            // Its text would repeat what was sent, which can be a password.
            Err(_) => return out.frame(Frame::Error, b"request not understood").await,
        };
        tracing::info!(command = request.name(), "control command");
        match handler.handle(request, &mut out).await {
            Ok(()) => out.frame(Frame::Done, b"").await?,
            Err(text) => {
                let text = text.as_bytes();
                out.frame(Frame::Error, text.get(..MAX_FRAME).unwrap_or(text)).await?;
            }
        }
    }
}
