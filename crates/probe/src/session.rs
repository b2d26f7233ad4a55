//! An SMTP session up to the point where somebody types on: greeting, EHLO, and STARTTLS as wanted.
//!
//! [`mox_smtp::client::Session`] knows the protocol; this drives it over a [`Stream`] and gives the stream back. Each step has
//! the same time limit.

use mox_base::{Host, Random};
use mox_net::{ClientTls, Stream};
use mox_sasl::Bindings;
use mox_smtp::client::{Action, Session, Settings, Timeouts, TlsMode};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How to say hello.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Our name.
    pub ehlo: Host,
    /// Whether STARTTLS is used. [`TlsMode::Immediate`] isn't for here.
    pub mode: TlsMode,
    /// How TLS judges.
    pub tls: ClientTls,
    /// The server's name, for SNI and certificates.
    pub name: String,
    /// For each step.
    pub patience: Duration,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// TLS failed, or isn't offered though required.
    #[error("starttls: {0}")]
    Tls(String),
    /// Anything else, with the command it happened at.
    #[error("{stage}: {detail}")]
    Smtp {
        /// The command.
        stage: &'static str,
        /// What happened.
        detail: String,
    },
}

/// Greets a server; the stream is then ready for MAIL FROM.
///
/// # Errors
/// See [`SessionError`].
pub async fn open(mut stream: Stream, hello: &Hello, random: Arc<dyn Random>) -> Result<Stream, SessionError> {
    let timeouts = Timeouts { command: hello.patience, ..Timeouts::default() };
    let settings = Settings { ehlo: hello.ehlo.clone(), tls: hello.mode, auth: None, chunking: false, timeouts };
    let mut session = Session::new(settings, random, None);
    // Why the handshake failed, in more words than the session keeps.
    let mut handshake = None;
    loop {
        match session.next() {
            Action::Send(bytes) => {
                if let Err(why) = within(hello.patience, write(&mut stream, &bytes)).await {
                    session.lost(&format!("writing: {why}"));
                }
            }
            Action::Read(patience) => {
                let mut buffer = [0; 4096];
                match within(patience, stream.read(&mut buffer)).await {
                    Ok(n) => session.receive(buffer.get(..n).unwrap_or_default()),
                    Err(why) => session.lost(&format!("reading: {why}")),
                }
            }
            Action::StartTls => {
                let started = tokio::time::timeout(hello.patience, stream.connect_tls(&hello.tls, &hello.name)).await;
                match started.map_err(|_| "timeout".to_owned()).and_then(|started| started.map_err(|e| e.describe())) {
                    Ok(()) => session.tls_started(Bindings::default()),
                    Err(why) => {
                        session.tls_failed(&why);
                        handshake = Some(why);
                    }
                }
            }
            Action::Ready => return Ok(stream),
            Action::Failed(e) => {
                if let Some(why) = handshake {
                    return Err(SessionError::Tls(why));
                }
                let reply = e.reply.as_ref().map(|reply| format!("{} {}", reply.code, reply.lines.join(" "))).unwrap_or_default();
                let detail = [e.detail.as_str(), reply.as_str()].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(": ");
                return Err(SessionError::Smtp { stage: e.stage.name(), detail });
            }
            // These need a transaction.
            Action::Body | Action::Done(_) | Action::Close => {
                return Err(SessionError::Smtp { stage: "session", detail: "connection closed".to_owned() });
            }
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(patience, work).await {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err("timeout".to_owned()),
    }
}
