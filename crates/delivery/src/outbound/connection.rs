//! One connection to a next hop: drives [`mox_smtp::client::Session`] over a [`Stream`].
//!
//! Every wait ends: by the session's own time limits, or when the queue shuts down. Only the reply to a complete
//! message is waited for a little longer then, because without it the message would be sent again.

use crate::metrics::{self, Commands};
use mox_base::Random;
use mox_net::tls::Fault;
use mox_net::{ClientTls, Stream};
use mox_sasl::Bindings;
use mox_smtp::Reply;
use mox_smtp::client::{Action, Error, ErrorKind, Session, Settings, Stage, TlsMode, Transaction};
use mox_smtp::extensions::Extensions;
use mox_store::queue::OpenBody;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a shutdown waits for the reply to a complete message.
const LAST_REPLY: Duration = Duration::from_secs(2);

/// Writing may take this long; a peer that reads nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(180);

const READ_BUFFER: usize = 4096;

/// The queue shuts down; what was being done has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cancelled;

/// How TLS is done, and with whom.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) config: ClientTls,
    /// The name for SNI and verification.
    pub(super) name: String,
    /// Takes why the handshake failed.
    pub(super) fault: TlsFault,
}

/// Why a handshake failed, and what the server had called itself, for reports. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFault(Arc<Mutex<(Option<Fault>, String)>>);

impl TlsFault {
    fn set(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(fault);
    }

    fn greeted(&self, greeting: &str) {
        greeting.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).1);
    }

    pub(super) fn take(&self) -> (Option<Fault>, String) {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A message as it is sent: prefix, then body.
#[derive(Debug)]
pub(super) struct Outgoing {
    prefix: Vec<u8>,
    body: OpenBody,
}

impl Outgoing {
    pub(super) const fn new(prefix: Vec<u8>, body: OpenBody) -> Self {
        Self { prefix, body }
    }

    /// The next bytes, empty at the end.
    async fn next_chunk(&mut self) -> io::Result<Vec<u8>> {
        if self.prefix.is_empty() { self.body.next_chunk().await } else { Ok(std::mem::take(&mut self.prefix)) }
    }
}

/// A connection that is ready for transactions.
#[derive(Debug)]
pub(super) struct Connection {
    session: Session,
    stream: Stream,
    tls: Tls,
    shutdown: CancellationToken,
    /// The message is complete, so its reply is worth waiting for.
    message_sent: bool,
    /// Its place among the connections to the host.
    place: Option<OwnedSemaphorePermit>,
    /// Counts commands with their replies.
    commands: Commands,
    /// When something was last sent.
    asked: Instant,
    /// When all has to be said. Only the reply to a complete message may come later.
    deadline: Option<Instant>,
}

enum Event {
    Ready,
    Done(Vec<Result<Reply, Error>>),
    Failed(Error),
    Closed,
}

impl Connection {
    /// Says hello, starts TLS and authenticates as the settings want.
    pub(super) async fn open(
        mut stream: Stream,
        settings: Settings,
        tls: Tls,
        random: Arc<dyn Random>,
        commands: Commands,
        shutdown: CancellationToken,
    ) -> Result<Result<Self, Error>, Cancelled> {
        let mut bindings = None;
        if settings.tls == TlsMode::Immediate {
            let started = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Cancelled),
                started = stream.connect_tls(&tls.config, &tls.name) => started,
            };
            if let Err(e) = started {
                return Ok(Err(error(ErrorKind::Tls, Stage::Greeting, e.describe())));
            }
            bindings = Some(bindings_of(&stream));
        }
        let session = Session::new(settings, random, bindings);
        let mut connection =
            Self { session, stream, tls, shutdown, message_sent: false, place: None, commands, asked: Instant::now(), deadline: None };
        Ok(match connection.drive(None).await? {
            Event::Ready => Ok(connection),
            Event::Failed(e) => {
                connection.tls.fault.greeted(connection.greeting());
                Err(e)
            }
            Event::Done(_) | Event::Closed => Err(error(ErrorKind::Protocol, Stage::Greeting, "no session".to_owned())),
        })
    }

    /// What the server offers.
    pub(super) const fn extensions(&self) -> &Extensions {
        self.session.extensions()
    }

    /// Keeps something as long as the connection lasts.
    pub(super) fn keep(&mut self, place: Option<OwnedSemaphorePermit>) {
        self.place = place;
    }

    /// Gives all that is said from now on so much time.
    pub(super) fn hurry(&mut self, patience: Duration) {
        self.deadline = Instant::now().checked_add(patience);
    }

    /// How long something may take of which so much is the limit.
    fn patience(&self, limit: Duration) -> Duration {
        match self.deadline {
            // RFC 5321 §4.5.3.2.6: who doesn't wait for this reply makes duplicates.
            Some(deadline) if !self.message_sent => limit.min(deadline.saturating_duration_since(Instant::now())),
            _ => limit,
        }
    }

    /// TLS version and cipher suite, and whether the certificate was verified; empty in the clear.
    pub(super) fn tls_in_words(&self, verified: bool) -> String {
        self.stream.tls().map(|tls| format!("{tls} {}", if verified { "verified" } else { "unverified" })).unwrap_or_default()
    }

    /// Whether TLS is in use.
    pub(super) const fn is_tls(&self) -> bool {
        self.session.is_tls()
    }

    /// What the server calls itself in its greeting.
    pub(super) fn greeting(&self) -> &str {
        self.session.greeting_text()
    }

    /// Whether another transaction can follow.
    pub(super) const fn is_usable(&self) -> bool {
        self.session.is_usable()
    }

    /// Sends a message; a result for each recipient, in order.
    pub(super) async fn transact(
        &mut self,
        transaction: Transaction,
        message: &mut Outgoing,
    ) -> Result<Vec<Result<Reply, Error>>, Cancelled> {
        let recipients = transaction.recipients.len();
        self.message_sent = false;
        self.session.begin(transaction);
        Ok(match self.drive(Some(message)).await? {
            Event::Done(results) => results,
            Event::Failed(e) => vec![Err(e); recipients],
            Event::Ready | Event::Closed => {
                vec![Err(error(ErrorKind::Connection, Stage::Data, "connection closed".to_owned())); recipients]
            }
        })
    }

    /// Says goodbye. Nothing depends on it.
    pub(super) async fn quit(mut self) {
        self.message_sent = false;
        self.deadline = None;
        self.session.quit();
        // Ready, Done and Failed don't come after QUIT; whatever comes, the connection ends here.
        if self.drive(None).await.is_ok() {
            self.stream.close().await;
        }
    }

    async fn drive(&mut self, mut message: Option<&mut Outgoing>) -> Result<Event, Cancelled> {
        loop {
            let action = self.session.next();
            metrics::answered(&self.commands, self.session.take_replies(), self.asked.elapsed());
            match action {
                Action::Send(bytes) => {
                    self.asked = Instant::now();
                    if let Err(why) = self.write(&bytes).await? {
                        self.session.lost(&why);
                    }
                }
                Action::Read(patience) => {
                    let mut buffer = [0; READ_BUFFER];
                    match self.read(&mut buffer, patience).await? {
                        Ok(n) => self.session.receive(buffer.get(..n).unwrap_or_default()),
                        Err(why) => self.session.lost(&why),
                    }
                }
                Action::StartTls => {
                    let started = tokio::select! {
                        biased;
                        () = self.shutdown.cancelled() => return Err(Cancelled),
                        started = self.stream.connect_tls(&self.tls.config, &self.tls.name) => started,
                    };
                    match started {
                        Ok(()) => self.session.tls_started(bindings_of(&self.stream)),
                        Err(e) => {
                            self.tls.fault.set(e.fault());
                            self.session.tls_failed(&e.describe());
                        }
                    }
                }
                Action::Body => match message.as_mut() {
                    Some(message) => match message.next_chunk().await {
                        Ok(chunk) if chunk.is_empty() => {
                            self.session.body_end();
                            self.message_sent = true;
                        }
                        Ok(chunk) => self.session.body(&chunk),
                        Err(e) => self.session.body_failed(&format!("reading message: {e}")),
                    },
                    None => self.session.body_failed("no message"),
                },
                Action::Ready => return Ok(Event::Ready),
                Action::Done(results) => return Ok(Event::Done(results)),
                Action::Failed(e) => return Ok(Event::Failed(e)),
                Action::Close => return Ok(Event::Closed),
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<Result<(), String>, Cancelled> {
        let patience = self.patience(WRITE_TIMEOUT);
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        tokio::select! {
            biased;
            () = patient_shutdown(&self.shutdown, self.message_sent) => Err(Cancelled),
            written = tokio::time::timeout(patience, writing) => Ok(match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(format!("writing: {e}")),
                Err(_) => Err("timeout writing".to_owned()),
            }),
        }
    }

    async fn read(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Result<usize, String>, Cancelled> {
        let patience = self.patience(patience);
        tokio::select! {
            biased;
            () = patient_shutdown(&self.shutdown, self.message_sent) => Err(Cancelled),
            read = tokio::time::timeout(patience, self.stream.read(buffer)) => Ok(match read {
                Ok(Ok(n)) => Ok(n),
                Ok(Err(e)) => Err(format!("reading: {e}")),
                Err(_) => Err("timeout waiting for reply".to_owned()),
            }),
        }
    }
}

async fn patient_shutdown(shutdown: &CancellationToken, message_sent: bool) {
    shutdown.cancelled().await;
    if message_sent {
        tokio::time::sleep(LAST_REPLY).await;
    }
}

fn bindings_of(stream: &Stream) -> Bindings {
    Bindings { exporter: stream.channel_binding().map(|b| b.to_vec()), server_end_point: None }
}

fn error(kind: ErrorKind, stage: Stage, detail: String) -> Error {
    Error { permanent: false, kind, stage, reply: None, detail }
}
