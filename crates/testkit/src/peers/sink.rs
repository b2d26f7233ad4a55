//! An SMTP server that behaves as badly as a test wants: slow, failing, disappearing, or just keeping what it gets.
//!
//! A script decides at each turn (a new connection, a command, the end of a message) how to react; whatever it doesn't
//! care for is answered as a plain server would. What was accepted is kept, with its envelope, for counting.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where a session is when the script is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A connection was accepted; the greeting is due. The first connection is number 1.
    Connect(u64),
    /// A command line, without CR LF.
    Command(String),
    /// A whole message was received, the reply to its last dot is due.
    Message(Received),
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// What a plain server does.
    Normal,
    /// This reply line, without CR LF, and nothing else; a message is kept only with a reply that starts with `2`.
    Reply(String),
    /// Wait, then what a plain server does.
    Slow(Duration),
    /// Close the connection without a word.
    Drop,
    /// For a message: keep it, then close the connection without a reply.
    KeepAndDrop,
    /// Say nothing until the client gives up or the sink is dropped.
    Hang,
}

/// A message with its envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Argument of MAIL, such as `FROM:<a@b.example> SIZE=10`.
    pub from: String,
    /// Arguments of the accepted RCPTs.
    pub to: Vec<String>,
    /// The message, with dots unstuffed and CR LF line ends.
    pub data: Vec<u8>,
}

/// Any port.
const LOOPBACK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);

type Script = dyn Fn(&Turn) -> Reaction + Send + Sync;

/// The running server; ends when dropped.
pub struct Sink {
    address: SocketAddrV4,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    lmtp: bool,
    connections: AtomicU64,
    received: Mutex<Vec<Received>>,
    open: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts an SMTP server with a script.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start(script: impl Fn(&Turn) -> Reaction + Send + Sync + 'static) -> io::Result<Self> {
        Self::launch(Box::new(script), false, LOOPBACK)
    }

    /// The same, on an address of choice, such as one with the port of mail.
    ///
    /// # Errors
    /// If it is taken, or not to be had by this user.
    pub fn start_at(address: SocketAddrV4, script: impl Fn(&Turn) -> Reaction + Send + Sync + 'static) -> io::Result<Self> {
        Self::launch(Box::new(script), false, address)
    }

    /// Starts an LMTP server with a script: `LHLO`, and a reply for each recipient.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start_lmtp(script: impl Fn(&Turn) -> Reaction + Send + Sync + 'static) -> io::Result<Self> {
        Self::launch(Box::new(script), true, LOOPBACK)
    }

    fn launch(script: Box<Script>, lmtp: bool, address: SocketAddrV4) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            script,
            lmtp,
            connections: AtomicU64::new(0),
            received: Mutex::default(),
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let mut sink = Self { address, shared, listening: None };
        sink.resume()?;
        Ok(sink)
    }

    /// The port it listens, or listened, on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything accepted so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many connections came so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Disappears: closes the port and all connections.
    pub fn pause(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.open).drain(..) {
            // Already closed is as good.
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
        // Wakes `accept`.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.listening.take() {
            drop(thread.join());
        }
    }

    /// Comes back, on the same port.
    ///
    /// # Errors
    /// If the port was taken by somebody else.
    pub fn resume(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address)?;
        self.address.set_port(listener.local_addr()?.port());
        self.shared.stopping.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.listening = Some(std::thread::spawn(move || shared.listen(&listener)));
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.pause();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn listen(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if let Ok(copy) = stream.try_clone() {
                lock(&self.open).push(copy);
            }
            let shared = Arc::clone(&self);
            std::thread::spawn(move || {
                // A client that goes away ends its session; there is nobody to tell.
                drop(shared.session(stream));
            });
        }
    }

    fn session(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let mut session = Session { out: stream.try_clone()?, input: BufReader::new(stream), envelope: Received::default() };
        if !session.react((self.script)(&Turn::Connect(number)), "220 sink.test ready")? {
            return Ok(());
        }
        while let Some(line) = session.line()? {
            let verb = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            let reaction = (self.script)(&Turn::Command(line.clone()));
            let argument = line.split_once(' ').map_or("", |(_, a)| a).to_owned();
            let accepted = matches!(reaction, Reaction::Normal | Reaction::Slow(_));
            match verb.as_str() {
                "EHLO" | "LHLO" => {
                    let extensions = "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SMTPUTF8";
                    if !session.react(reaction, extensions)? {
                        return Ok(());
                    }
                    continue;
                }
                "MAIL" if accepted => session.envelope = Received { from: argument, ..Received::default() },
                "RCPT" if accepted => session.envelope.to.push(argument),
                "RSET" => session.envelope = Received::default(),
                "DATA" if accepted && !session.envelope.to.is_empty() => {
                    if !(session.react(reaction, "354 go on")? && self.message(&mut session)?) {
                        return Ok(());
                    }
                    continue;
                }
                _ => {}
            }
            let answer = match verb.as_str() {
                "QUIT" => "221 2.0.0 bye",
                "DATA" => "503 5.5.1 no recipients",
                "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => "250 2.0.0 ok",
                _ => "500 5.5.1 what?",
            };
            if !session.react(reaction, answer)? || verb == "QUIT" {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Receives a message and answers it; false if the session is over.
    fn message(&self, session: &mut Session) -> io::Result<bool> {
        session.data()?;
        let message = std::mem::take(&mut session.envelope);
        let reaction = (self.script)(&Turn::Message(message.clone()));
        let kept = match &reaction {
            Reaction::Normal | Reaction::Slow(_) | Reaction::KeepAndDrop => true,
            Reaction::Reply(reply) => reply.starts_with('2'),
            Reaction::Drop | Reaction::Hang => false,
        };
        let recipients = message.to.len();
        if kept {
            lock(&self.received).push(message);
        }
        let replies = if self.lmtp { recipients } else { 1 };
        for _ in 0..replies {
            if !session.react(reaction.clone(), "250 2.0.0 kept")? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

struct Session {
    out: TcpStream,
    input: BufReader<TcpStream>,
    envelope: Received,
}

impl Session {
    /// False if the session is over.
    fn react(&mut self, reaction: Reaction, normally: &str) -> io::Result<bool> {
        match reaction {
            Reaction::Normal => self.say(normally)?,
            Reaction::Reply(reply) => self.say(&reply)?,
            Reaction::Slow(delay) => {
                std::thread::sleep(delay);
                self.say(normally)?;
            }
            Reaction::Drop | Reaction::KeepAndDrop => {
                drop(self.out.shutdown(std::net::Shutdown::Both));
                return Ok(false);
            }
            Reaction::Hang => {
                // Until the client closes, or `pause` does.
                while self.line()?.is_some() {}
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn say(&mut self, reply: &str) -> io::Result<()> {
        self.out.write_all(format!("{reply}\r\n").as_bytes())
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.input.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn data(&mut self) -> io::Result<()> {
        loop {
            let mut line = Vec::new();
            if self.input.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == b".\r\n" {
                return Ok(());
            }
            self.envelope.data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }
}
