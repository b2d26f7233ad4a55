//! A connection's life: greeting, commands, end.

use crate::capability::{Announced, capabilities};
use crate::cmd;
use crate::conn::{Conn, End};
use crate::error::Failure;
use crate::metrics::CommandResult;
use crate::settings::{Listener, Service};
use mox_base::{MailboxId, Uid};
use mox_imap::cmd::{Allowed, Command, Context, Head, Name};
use mox_imap::put::Charset;
use mox_imap::reader::{Bad, Event, Reason};
use mox_imap::response::{self, Code, Status};
use mox_imap::{SequenceSet, reader};
use mox_logins::{Attempt, CertificateOwner};
use mox_net::Stream;
use mox_sasl::Bindings;
use mox_store::{Account, Mailboxes, UidSet, View};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the client enabled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Enabled {
    pub(crate) rev2: bool,
    pub(crate) utf8: bool,
    pub(crate) condstore: bool,
}

/// Who is logged in.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) account: Account,
    /// Capabilities withheld from it, in upper case.
    pub(crate) disabled: Vec<String>,
    /// The mailboxes as the client knows them.
    pub(crate) mailboxes: Arc<Mailboxes>,
}

/// The selected mailbox.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) id: MailboxId,
    pub(crate) read_only: bool,
    /// The mailbox as the client knows it.
    pub(crate) view: Arc<View>,
    /// The saved search result, RFC 5182.
    pub(crate) saved: UidSet,
    /// The mailbox was deleted meanwhile.
    pub(crate) deleted: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) service: Arc<Service>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) conn: Conn,
    pub(crate) remote: IpAddr,
    pub(crate) local: IpAddr,
    /// Tells our changes from others'.
    pub(crate) id: u64,
    pub(crate) enabled: Enabled,
    pub(crate) login: Option<Login>,
    pub(crate) selected: Option<Selected>,
    /// Failed logins on this connection.
    pub(crate) failed: u32,
    /// The client's ID, for records of logins.
    pub(crate) user_agent: String,
    /// An attempt to log in that isn't recorded yet, and when it was.
    pub(crate) attempt: Option<(Duration, Box<Attempt>)>,
    /// Whom the client's certificate stands for.
    pub(crate) certificate: Option<Box<CertificateOwner>>,
    /// An IMAP client: it has sent a known command.
    known: bool,
    /// Wrong commands in a row.
    bad: u32,
}

/// A connection whose client is known already: from the control socket.
#[derive(Clone, Debug)]
pub struct Preauthenticated {
    /// The account's name.
    pub account: String,
    /// The address it is known by.
    pub address: String,
}

/// Counts panics: what unwinds this task ends this connection, and no other.
struct PanicGuard(Arc<Service>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.metrics.panic();
        }
    }
}

/// Serves one connection to its end.
pub async fn serve(stream: Stream, service: Arc<Service>, listener: Arc<Listener>, preauthenticated: Option<Preauthenticated>) {
    let _guard = PanicGuard(Arc::clone(&service));
    let remote = stream.remote_addr().ip();
    let now = service.clock.now();
    let mut conn = Conn::new(stream, service.limits, service.stop.clone());
    // Limits first: a handshake costs us more than the client.
    let refused = if service.stop.is_cancelled() {
        Some("shutting down")
    } else if !service.new_connections.add(remote, now) {
        Some("too many new connections from your address or network")
    } else if service.logins.is_limited("imap", remote) {
        Some("too many failed logins from your address or network")
    } else {
        None
    };
    let open = service.open_connections.open(remote);
    let refused = refused.or(if open.is_none() { Some("too many open connections from your address or network") } else { None });
    if listener.implicit_tls {
        // Whoever is refused isn't worth a handshake, and hears nothing but the end.
        let (None, Some(tls)) = (refused, &listener.tls) else { return };
        if let Err(error) = Box::pin(conn.stream.start_tls(tls, &[])).await {
            tracing::info!(%remote, %error, "tls handshake failed");
            return;
        }
    }
    service.metrics.connection(if conn.stream.tls().is_some() { "imaps" } else { "imap" });
    if let Some(text) = refused {
        response::status(&mut conn.out, None, Status::Bye, None, text);
        // Nothing depends on whether the client reads it.
        drop(conn.flush().await);
        conn.stream.close().await;
        return;
    }
    let local = conn.stream.local_addr().ip();
    let id = service.random.u64() | 1;
    let mut session = Session {
        service,
        listener,
        conn,
        remote,
        local,
        id,
        enabled: Enabled::default(),
        login: None,
        selected: None,
        failed: 0,
        user_agent: String::new(),
        attempt: None,
        certificate: None,
        known: false,
        bad: 0,
    };
    tracing::debug!(%remote, listener = session.listener.name, tls = session.conn.stream.tls().is_some(), cid = id, "imap connection");
    let end = match Box::pin(session.greet(preauthenticated)).await {
        Ok(()) => session.run().await,
        Err(end) => end,
    };
    tracing::debug!(cid = id, %end, "imap connection closed");
    Box::pin(session.finish(end)).await;
}

impl Session {
    async fn greet(&mut self, preauthenticated: Option<Preauthenticated>) -> Result<(), End> {
        self.look_up_certificate().await;
        let preauthenticated = preauthenticated.or_else(|| self.certificate_login());
        if let Some(p) = preauthenticated {
            if let Err(error) = self.log_in(&p.account).await {
                tracing::error!(account = p.account, %error, "opening account");
                response::status(&mut self.conn.out, None, Status::Bye, Some(&Code::Unavailable), "cannot open account");
                self.conn.flush().await?;
                return Err(End::Closed);
            }
            let code = Code::Capability(self.capabilities());
            response::status(&mut self.conn.out, None, Status::PreAuth, Some(&code), &format!("mox imap welcomes {}", p.address));
        } else {
            let code = Code::Capability(self.capabilities());
            response::status(&mut self.conn.out, None, Status::Ok, Some(&code), "mox imap");
        }
        self.conn.flush().await
    }

    /// Reads and executes commands until there are no more.
    async fn run(&mut self) -> End {
        loop {
            let context = self.context();
            let step = match self.conn.reader.next(&context) {
                Event::Read => self.read().await,
                Event::Literal(head) => self.literal(&head).await,
                // Boxed, so that a connection that waits doesn't hold the memory of the largest command.
                Event::Command(head, command) => Box::pin(self.command(&head, command)).await,
                Event::Bad(bad) => Box::pin(self.bad_input(bad)).await,
                Event::TooLong => Err(End::Closed),
                // These come within APPEND, which reads them itself.
                Event::Message(_) | Event::Bytes(_) | Event::AppendEnd => Ok(()),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        let limits = &self.service.limits;
        let wait = if self.conn.reader.wanted() > 0 {
            limits.read_literal
        } else if self.login.is_some() {
            limits.read
        } else {
            limits.read_before_login
        };
        if !self.conn.reader.in_command() {
            self.conn.shrink();
            self.conn.hesitate().await;
        }
        self.conn.read(wait).await
    }

    async fn finish(mut self, end: End) {
        self.flush_attempt();
        let text = match end {
            End::Inactive => Some("inactive"),
            End::Stopping => Some("shutting down"),
            End::Gone => Some("account was closed"),
            End::Closed => None,
            // Gone, or not reading: it may have had a part of the output, and what follows would make no sense.
            End::Io(_) => return self.conn.stream.close().await,
        };
        self.conn.slow = false;
        if let Some(text) = text {
            response::status(&mut self.conn.out, None, Status::Bye, None, text);
        }
        let flush = tokio::time::timeout(Duration::from_secs(10), self.conn.flush());
        // It has been said, or can't be.
        drop(flush.await);
        self.conn.stream.close().await;
    }

    pub(crate) const fn charset(&self) -> Charset {
        if self.enabled.rev2 || self.enabled.utf8 { Charset::Utf8 } else { Charset::Rev1 }
    }

    pub(crate) const fn context(&self) -> Context {
        Context { charset: self.charset() }
    }

    pub(crate) fn announced(&self) -> Announced {
        let tls = self.conn.stream.tls();
        Announced {
            bindings: !self.bindings().is_empty(),
            starttls: tls.is_none() && self.listener.tls.is_some(),
            passwords: tls.is_some() || self.listener.no_require_starttls,
            external: tls.is_some_and(|t| t.client.is_some()) && !self.listener.no_client_certificates,
        }
    }

    /// What SCRAM can bind to.
    pub(crate) fn bindings(&self) -> Bindings {
        let stream = &self.conn.stream;
        Bindings { exporter: stream.channel_binding().map(Vec::from), server_end_point: stream.server_end_point().map(<[u8]>::to_vec) }
    }

    pub(crate) fn capabilities(&self) -> String {
        let disabled = self.login.as_ref().map_or(&[][..], |l| &l.disabled);
        capabilities(self.announced(), disabled)
    }

    /// Whether a command may come in this state.
    fn allowed(&self, name: &Name) -> Result<(), Failure> {
        match (name.allowed, &self.login, &self.selected) {
            (Allowed::Always, ..)
            | (Allowed::NotAuthenticated, None, _)
            | (Allowed::Authenticated, Some(_), _)
            | (Allowed::Selected, Some(_), Some(_)) => Ok(()),
            (Allowed::NotAuthenticated, Some(_), _) => Err(Failure::no("already authenticated")),
            (_, None, _) => Err(Failure::no("not authenticated")),
            (Allowed::Selected, Some(_), None) => Err(Failure::no("no mailbox selected")),
        }
    }

    /// A command wants to send a literal.
    async fn literal(&mut self, head: &Head) -> Result<(), End> {
        let allowed = head.name.as_ref().map_or(Ok(()), |name| self.allowed(name));
        if let Err(failure) = allowed {
            self.conn.reader.refuse();
            self.tagged(head, &failure);
        } else {
            self.conn.reader.proceed();
            response::continuation(&mut self.conn.out, "go ahead");
        }
        self.conn.flush().await
    }

    /// Prints the tagged response of a failure.
    fn tagged(&mut self, head: &Head, failure: &Failure) {
        if let Some((status, code, text)) = failure.response() {
            let text = format!("{}: {text}", head.spelling);
            response::status(&mut self.conn.out, Some(&head.tag), status, code.as_ref(), &text);
        }
    }

    async fn command(&mut self, head: &Head, command: Command) -> Result<(), End> {
        let Some(name) = head.name else { return Ok(()) };
        (self.known, self.bad) = (true, 0);
        // Parsed, so passwords are hidden and messages not in it.
        tracing::trace!(cid = self.id, tag = head.tag, ?command, "C");
        let started = self.service.clock.monotonic();
        let updates = tells_updates(&command);
        let logout = matches!(command, Command::Logout);
        let mut result = match self.allowed(&name) {
            Ok(()) => self.dispatch(head, command).await,
            Err(failure) => {
                // The message of an APPEND may be on its way without having been asked for.
                if let Command::Append(append) = command { cmd::append::refuse(self, append.message, failure).await } else { Err(failure) }
            }
        };
        // Also after NO and BAD, but never where sequence numbers mustn't change, RFC 9051 §7.5.1.
        if updates
            && !matches!(result, Err(Failure::End(_)))
            && self.login.is_some()
            && let Err(failure) = Box::pin(self.updates()).await
        {
            match failure {
                Failure::End(end) => result = Err(Failure::End(end)),
                other => tracing::error!(cid = self.id, error = %other, "telling of changes"),
            }
        }
        self.flush_old_attempt();
        let duration = self.service.clock.monotonic().saturating_sub(started);
        let label = result.as_ref().map_or_else(Failure::result, |_| CommandResult::Ok);
        self.service.metrics.command(name.text, label, duration);
        tracing::debug!(cid = self.id, cmd = name.text, result = label.label(), ?duration, "imap command");
        match result {
            Ok(code) => {
                let text = format!("{} done", head.spelling);
                response::status(&mut self.conn.out, Some(&head.tag), Status::Ok, code.as_ref(), &text);
            }
            Err(Failure::End(end)) => return Err(end),
            Err(Failure::Answered) => {}
            Err(failure) => {
                if let Failure::Server(error) = &failure {
                    tracing::error!(cid = self.id, cmd = name.text, %error, "imap command failed");
                }
                self.tagged(head, &failure);
            }
        }
        self.conn.flush().await?;
        if logout { Err(End::Closed) } else { Ok(()) }
    }

    /// Each in a box of its own, so that a connection in IDLE doesn't hold the memory of the largest.
    async fn dispatch(&mut self, head: &Head, command: Command) -> Result<Option<Code>, Failure> {
        match command {
            Command::Capability => cmd::simple::capability(self),
            Command::Noop => Ok(None),
            Command::Logout => cmd::simple::logout(self),
            Command::Namespace => cmd::simple::namespace(self),
            Command::Check => cmd::simple::check(self),
            Command::Id(parameters) => cmd::simple::id(self, &parameters),
            Command::Enable(names) => cmd::enable::run(self, &names),
            Command::StartTls => Box::pin(cmd::starttls::run(self, head)).await,
            Command::Authenticate(a) => Box::pin(cmd::authenticate::run(self, a)).await,
            Command::Login(l) => Box::pin(cmd::login::run(self, l)).await,
            Command::Select(s) => Box::pin(cmd::select::run(self, s)).await,
            Command::Close => Box::pin(cmd::close::close(self)).await,
            Command::Unselect => cmd::close::unselect(self),
            Command::Create(c) => Box::pin(cmd::create::run(self, c)).await,
            Command::Delete(name) => Box::pin(cmd::delete::run(self, &name)).await,
            Command::Rename { from, to } => Box::pin(cmd::rename::run(self, &from, &to)).await,
            Command::Subscribe(name) => Box::pin(cmd::subscribe::subscribe(self, &name)).await,
            Command::Unsubscribe(name) => Box::pin(cmd::subscribe::unsubscribe(self, &name)).await,
            Command::List(l) => Box::pin(cmd::list::list(self, &l)).await,
            Command::Lsub { reference, pattern } => Box::pin(cmd::list::lsub(self, &reference, &pattern)).await,
            Command::Status { mailbox, items } => Box::pin(cmd::status::run(self, &mailbox, &items)).await,
            Command::Append(a) => Box::pin(cmd::append::run(self, a)).await,
            Command::Idle => Box::pin(cmd::idle::run(self)).await,
            Command::Expunge(uids) => Box::pin(cmd::expunge::run(self, uids.as_ref())).await,
            Command::Search(s) => Box::pin(cmd::search::run(self, head, s)).await,
            Command::Fetch(f) => Box::pin(cmd::fetch::run(self, f)).await,
            Command::Store(s) => Box::pin(cmd::store::run(self, s)).await,
            Command::Copy(t) => Box::pin(cmd::transfer::copy(self, &t)).await,
            Command::Move(t) => Box::pin(cmd::transfer::mov(self, &t)).await,
        }
    }

    async fn bad_input(&mut self, bad: Bad) -> Result<(), End> {
        let unknown = matches!(bad.reason, Reason::NoCommand | Reason::UnknownCommand);
        self.service.metrics.command(
            bad.head.as_ref().and_then(|h| h.name).map_or("(unrecognized)", |n| n.text),
            CommandResult::BadSyntax,
            Duration::ZERO,
        );
        if unknown && !self.known {
            // Not an IMAP client: it could go on with lines that happen to be commands.
            response::status(&mut self.conn.out, None, Status::Bye, None, "please try again speaking imap");
            self.conn.flush().await?;
            return Err(End::Closed);
        }
        if bad.head.as_ref().is_some_and(|h| h.name.is_some()) {
            self.known = true;
        }
        self.bad = self.bad.saturating_add(1);
        let spelling = bad.head.as_ref().map_or(String::new(), |h| format!("{}: ", h.spelling));
        let (code, text) = match bad.reason {
            Reason::NoCommand => (None, "no command found".to_owned()),
            Reason::UnknownCommand => (None, "unknown command".to_owned()),
            // Never echo what may be a password.
            Reason::Syntax { expected, rest } if self.login.is_some() => (None, format!("expected {expected}, found {rest:?}")),
            Reason::Syntax { expected, .. } => (None, format!("expected {expected}")),
            Reason::TooBig => (Some(Code::TooBig), "literal too big".to_owned()),
        };
        if bad.fatal && code.is_some() {
            response::status(&mut self.conn.out, None, Status::Bye, Some(&Code::Alert), "literal too big");
        }
        response::status(&mut self.conn.out, bad.tag.as_deref(), Status::Bad, code.as_ref(), &format!("{spelling}{text}"));
        let (before, after) = self.service.limits.bad_commands;
        let too_many = self.bad > if self.login.is_some() { after } else { before };
        if too_many {
            response::status(&mut self.conn.out, None, Status::Bye, None, "too many wrong commands");
        }
        self.conn.flush().await?;
        if bad.fatal || too_many { Err(End::Closed) } else { Ok(()) }
    }

    /// Limits of the reader after login.
    pub(crate) fn reader_limits(&self) -> reader::Limits {
        self.service.limits.after_login
    }

    /// Who is logged in.
    pub(crate) fn login(&self) -> Result<&Login, Failure> {
        self.login.as_ref().ok_or_else(|| Failure::no("not authenticated"))
    }

    /// The account that is logged in.
    pub(crate) fn account(&self) -> Result<Account, Failure> {
        self.login().map(|l| l.account.clone())
    }

    /// The selected mailbox, if it still exists.
    pub(crate) fn selected(&self) -> Result<&Selected, Failure> {
        match &self.selected {
            Some(s) if s.deleted => Err(Failure::code(Code::NonExistent, "mailbox was deleted")),
            Some(s) => Ok(s),
            None => Err(Failure::no("no mailbox selected")),
        }
    }

    /// The selected mailbox, if it may be changed.
    pub(crate) fn writable(&self) -> Result<&Selected, Failure> {
        match self.selected()? {
            s if s.read_only => Err(Failure::no("mailbox is read-only")),
            s => Ok(s),
        }
    }
}

/// FETCH, STORE and SEARCH don't tell of changes: the client may have sent further commands with sequence numbers, RFC 9051
/// §7.5.1. SELECT does so itself, before the new mailbox.
fn tells_updates(command: &Command) -> bool {
    match command {
        Command::Fetch(f) => f.uid,
        Command::Store(s) => s.uid,
        Command::Search(s) => s.uid,
        Command::Select(_) | Command::Logout => false,
        _ => true,
    }
}

impl Selected {
    /// The UIDs a command means, of those that the client knows.
    pub(crate) fn uids(&self, set: &SequenceSet, uid: bool) -> Result<UidSet, Failure> {
        let Some(ranges) = set.resolve(if uid { self.view.last_uid().map_or(0, Uid::get) } else { self.view.exists() }) else {
            return Ok(self.view.existing(&self.saved));
        };
        if uid {
            if self.view.exists() == 0 {
                return Ok(UidSet::new());
            }
            return Ok(self.view.existing(&UidSet::from_ranges(ranges.ranges().iter().copied())));
        }
        if set.exceeds(self.view.exists()) {
            return Err(Failure::bad("message sequence number out of range"));
        }
        Ok(self.view.uids_of_seqs(ranges.ranges().iter().copied()))
    }
}
