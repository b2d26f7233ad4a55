//! One connection: drives the session, owns the socket and the clock. What the session asks is answered by `policy`,
//! `login`, `incoming` and `submission`.

use crate::dns::Iprev;
use crate::pace::{self, Pace, pause};
use crate::service::{Listener, Service};
use crate::spool::Receiver;
use bytes::BytesMut;
use mox_base::{Host, Path};
use mox_logins::Login;
use mox_mailauth::spf::SpfOutcome;
use mox_net::Stream;
use mox_sasl::Bindings;
use mox_smtp::Reply;
use mox_smtp::grammar::Verb;
use mox_smtp::server::{Action, Answer, Event, Kind, Phase, Question, Session, Tls};
use mox_store::directory::{Alias, Directory, LocalRecipient};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};

/// Bytes read at a time: of commands, of message data at first, as most messages are small, and of more data.
const READ_COMMANDS: usize = 4 << 10;
const READ_DATA: usize = 8 << 10;
const READ_MORE_DATA: usize = 32 << 10;

/// The state of a connection beside the protocol's.
pub(crate) struct Connection {
    pub(crate) service: Arc<Service>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) stream: Stream,
    pub(crate) cid: i64,
    /// The id as shown outside.
    pub(crate) id: String,
    pub(crate) pace: Pace,
    pub(crate) auth_failures: u32,
    pub(crate) login: Option<Login>,
    /// Whom the client's certificate stands for.
    pub(crate) certificate: Option<Login>,
    pub(crate) transaction: Transaction,
    /// Looked up once, when it is first needed.
    pub(crate) iprev: Option<Iprev>,
    /// Closed without another word, as localserve simulates it.
    pub(crate) dropped: bool,
    /// When the message being received must be dealt with.
    deadline: Option<Instant>,
    /// When the command being handled came.
    since: Duration,
}

/// The transaction in progress.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) recipients: Vec<Accepted>,
    pub(crate) receiver: Receiver,
    /// The addresses as they were when the transaction began.
    pub(crate) directory: Option<Arc<Directory>>,
    /// The client's name.
    pub(crate) helo: Option<Host>,
    pub(crate) mail_from: Option<Path>,
    /// SPF, if it was checked for a further recipient.
    pub(crate) spf: Option<SpfOutcome>,
}

/// An accepted recipient.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// The address given; none for `<postmaster>`.
    pub(crate) path: Option<Path>,
    pub(crate) target: Target,
}

/// What an accepted recipient stands for.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Account(LocalRecipient),
    Alias(Arc<Alias>),
    /// An unknown address of ours, refused when the message is there: then guessing takes longer.
    Unknown,
    /// Someone elsewhere, on submission.
    Remote,
}

impl Connection {
    pub(crate) fn new(service: Arc<Service>, listener: Arc<Listener>, stream: Stream, cid: i64) -> Self {
        let id = service.ids.shown(cid);
        let since = service.clock.monotonic();
        Self {
            service,
            listener,
            stream,
            cid,
            id,
            pace: Pace::Normal,
            auth_failures: 0,
            login: None,
            certificate: None,
            transaction: Transaction::default(),
            iprev: None,
            dropped: false,
            deadline: None,
            since,
        }
    }

    pub(crate) fn remote_ip(&self) -> IpAddr {
        self.stream.remote_addr().ip()
    }

    pub(crate) fn is_submission(&self) -> bool {
        self.listener.settings.kind == Kind::Submission
    }

    pub(crate) fn kind(&self) -> &'static str {
        if self.is_submission() { "submission" } else { "smtp" }
    }

    /// What the session has to know of the TLS connection.
    fn tls(&self) -> Option<Tls> {
        self.stream.tls().map(|_| Tls {
            bindings: Bindings {
                exporter: self.stream.channel_binding().map(Vec::from),
                server_end_point: self.stream.server_end_point().map(<[u8]>::to_vec),
            },
            certificate: self.certificate.is_some(),
        })
    }

    /// Serves the connection to its end. `refusal`: what the client hears instead of a greeting.
    pub(crate) async fn run(mut self, refusal: Option<Reply>) {
        let (settings, random) = (Arc::clone(&self.listener.session), Arc::clone(&self.service.random));
        let by_certificate = self.look_at_certificate().await;
        let mut session = Session::new(settings, random, self.id.clone(), self.remote_ip(), self.tls());
        if let Some(reply) = refusal {
            session.refuse_connection(reply);
        } else if by_certificate {
            session.authenticated_by_certificate();
        }
        if tracing::enabled!(target: "smtpserver", tracing::Level::TRACE) {
            session.trace();
        }
        loop {
            match session.next(self.service.clock.now()) {
                Action::Send(bytes) => {
                    self.trace_sent(&bytes);
                    let written = pace::write(&mut self.stream, &bytes, self.pace, &self.service.stop).await;
                    if let Err(error) = written {
                        tracing::debug!(cid = self.cid, %error, "writing to client");
                        return;
                    }
                }
                Action::Ask(question) => {
                    let begins = matches!(*question, Question::Mail(_));
                    let answer = self.answer(*question).await;
                    if self.dropped {
                        return;
                    }
                    if begins {
                        self.transaction.helo = session.hello().map(|hello| hello.name.clone());
                    }
                    session.answer(answer);
                }
                Action::Tell(event) => self.event(event),
                Action::Chunk(piece) => {
                    tracing::trace!(target: "smtpserver:data", cid = self.cid, data = %String::from_utf8_lossy(&piece), "C");
                    self.transaction.receiver.push(&piece, &self.service.settings.spool).await;
                }
                Action::StartTls => {
                    if !self.start_tls().await {
                        return;
                    }
                    let by_certificate = self.look_at_certificate().await;
                    session.tls_started(self.tls().unwrap_or_default());
                    if by_certificate {
                        session.authenticated_by_certificate();
                    }
                }
                Action::Read(phase) => {
                    if !self.read(&mut session, phase).await {
                        return;
                    }
                }
                Action::Close => return self.stream.close().await,
            }
        }
    }

    fn trace_sent(&self, bytes: &[u8]) {
        // Challenges tell part of an exchange of credentials.
        if bytes.starts_with(b"334") {
            tracing::trace!(target: "smtpserver:auth", cid = self.cid, line = %String::from_utf8_lossy(bytes).trim_end(), "S");
        } else {
            tracing::trace!(target: "smtpserver", cid = self.cid, line = %String::from_utf8_lossy(bytes).trim_end(), "S");
        }
    }

    async fn start_tls(&mut self) -> bool {
        let Some(tls) = &self.listener.settings.tls else { return false };
        let started = self.stream.start_tls(tls, &[]).await;
        if !self.is_submission() {
            let reason = started.as_ref().err().map(mox_net::HandshakeError::reason);
            self.service.metrics.starttls(reason);
        }
        if let Err(error) = &started {
            tracing::debug!(cid = self.cid, %error, "starttls");
        }
        started.is_ok()
    }

    /// Reads once into the session's buffer; gives whether the connection is still there.
    async fn read(&mut self, session: &mut Session, phase: Phase) -> bool {
        let stop = &self.service.stop;
        if self.pace == Pace::Slow {
            pause(Duration::from_secs(1), stop).await;
        }
        let limits = &self.listener.settings.limits;
        let now = Instant::now();
        let mut until = now + limits.timeout(phase);
        let size = if phase == Phase::Data {
            until = until.min(*self.deadline.get_or_insert(now + limits.message_timeout));
            if self.transaction.receiver.has_begun() { READ_MORE_DATA } else { READ_DATA }
        } else {
            self.deadline = None;
            READ_COMMANDS
        };
        // While a client is idle, it has no buffer.
        if session.buffer().is_empty() && phase != Phase::Data {
            *session.buffer() = BytesMut::new();
        }
        let readable = async {
            self.stream.readable().await?;
            let buffer = session.buffer();
            buffer.reserve(size);
            self.stream.read_buf(buffer).await
        };
        let got = tokio::select! {
            biased;
            got = timeout_at(until, readable) => got,
            () = stop.cancelled() => {
                session.shutdown();
                return true;
            }
        };
        self.since = self.service.clock.monotonic();
        match got {
            Ok(Ok(0)) => {
                tracing::debug!(cid = self.cid, "client closed connection");
                false
            }
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::debug!(cid = self.cid, %error, "reading from client");
                false
            }
            Err(_) => {
                session.timeout();
                true
            }
        }
    }

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Helo(name) => {
                if crate::dns::helo_exists(&*self.service.lookup, &name).await {
                    Answer::Ok
                } else {
                    Answer::Refuse(Reply::new(550, (5, 5, 0), "your ehlo domain does not resolve to an IP address"))
                }
            }
            Question::AuthStart(_) => {
                self.delay_guesser().await;
                Answer::Ok
            }
            Question::Sasl(mox_sasl::Ask::External { user }) => Answer::Sasl(self.verify_external(user.as_deref())),
            Question::Sasl(ask) => Answer::Sasl(self.service.logins.verify(ask).await),
            Question::Login { user, mechanism } => self.log_in(user, mechanism),
            Question::Mail(mail) => self.mail(&mail).await,
            Question::Rcpt { rcpt, .. } => self.rcpt(&rcpt).await,
            Question::Message(envelope) => {
                let transaction = std::mem::take(&mut self.transaction);
                let limit = self.deadline.take().unwrap_or_else(|| Instant::now() + self.listener.settings.limits.message_timeout);
                let answer = if self.is_submission() {
                    self.submission(envelope, transaction).await
                } else {
                    self.incoming(envelope, transaction).await
                };
                // Dealt with, however long it took: a message that is stored must not be sent again. But a client that
                // waits longer than it can has gone.
                if Instant::now() > limit {
                    tracing::info!(cid = self.cid, "dealing with a message took longer than its limit");
                }
                answer
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Replied { verb, code, enhanced } => {
                let now = self.service.clock.monotonic();
                let took = now.saturating_sub(self.since);
                self.since = now;
                let cmd = verb.map_or_else(|| "(unknown)".to_owned(), |v: Verb| v.name().to_lowercase());
                let ecode = enhanced.map(|e| e.to_string()).unwrap_or_default();
                tracing::debug!(cid = self.cid, %cmd, code, %ecode, "smtp command");
                self.service.metrics.command(self.kind(), cmd, code, ecode, took);
            }
            Event::AuthFailed { user, mechanism, failure } => self.auth_failed(user, mechanism, &failure),
            Event::Reset => self.transaction = Transaction::default(),
            Event::Line { line, secret: false } => {
                tracing::trace!(target: "smtpserver", cid = self.cid, line = %String::from_utf8_lossy(&line), "C");
            }
            Event::Line { line, secret: true } => {
                tracing::trace!(target: "smtpserver:auth", cid = self.cid, line = %String::from_utf8_lossy(&line), "C");
            }
        }
    }
}
