//! A next hop in memory that does what a test tells it, at each step.

use mox_base::MailboxId;
use mox_net::memory::World;
use mox_net::{ServerTls, Stream};
use mox_store::{Columns, Error, ReadTx, UidSet};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// Where a peer can misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// While the message comes.
    Message,
    End,
}

impl Step {
    pub(super) const ALL: [Self; 7] = [Self::Greeting, Self::Ehlo, Self::Mail, Self::Rcpt, Self::Data, Self::Message, Self::End];
}

/// What a peer does at a step.
#[derive(Clone, Debug)]
pub(super) enum Does {
    /// Answers this.
    Says(String),
    /// Closes the connection.
    Closes,
    /// Says nothing for ever.
    Hangs,
}

#[derive(Debug, Default)]
struct State {
    steps: BTreeMap<Step, Does>,
    /// Replies to RCPT, by a part of the line.
    rcpts: Vec<(String, String)>,
    rcpts_once: Vec<(String, String)>,
    slow_end: Duration,
    closes_after_message: bool,
    extensions: Vec<String>,
    tls: Option<ServerTls>,
    connections: usize,
    open: usize,
    most_open: usize,
    /// Whom connections came from.
    clients: Vec<IpAddr>,
    /// Addresses of clients that hear this in answer to MAIL.
    unwanted: Option<(IpAddr, String)>,
    /// The replies to chunks that aren't normal, by their number.
    chunks: BTreeMap<usize, Does>,
    /// Commands, as received.
    lines: Vec<String>,
    /// Messages that were acknowledged, with the recipients that were.
    messages: Vec<(Vec<String>, String)>,
}

/// A peer that is listening. It speaks SMTP as far as the client needs it.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Mutex<State>>);

impl Peer {
    pub(super) fn listen(world: &World, address: &str) -> Self {
        let mut listener = world.listen(address.parse().unwrap());
        let peer = Self(Arc::new(Mutex::new(State {
            extensions: vec!["PIPELINING".into(), "ENHANCEDSTATUSCODES".into(), "8BITMIME".into()],
            ..State::default()
        })));
        let serving = peer.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tokio::runtime::Handle::current().spawn(async move {
            while let Ok(stream) = listener.accept().await {
                let peer = serving.clone();
                tasks.spawn(async move { peer.serve(stream).await });
            }
        });
        peer
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn at(&self, step: Step, does: Does) {
        self.state().steps.insert(step, does);
    }

    pub(super) fn says(&self, step: Step, reply: &str) {
        self.at(step, Does::Says(reply.to_owned()));
    }

    pub(super) fn rcpt(&self, part: &str, reply: &str) {
        self.state().rcpts.push((part.to_owned(), reply.to_owned()));
    }

    /// For the next matching RCPT only.
    pub(super) fn rcpt_once(&self, part: &str, reply: &str) {
        self.state().rcpts_once.push((part.to_owned(), reply.to_owned()));
    }

    /// Takes its time before it acknowledges a message.
    pub(super) fn slow_end(&self, time: Duration) {
        self.state().slow_end = time;
    }

    /// Takes one message per connection, without saying so.
    pub(super) fn closes_after_message(&self) {
        self.state().closes_after_message = true;
    }

    pub(super) fn lacks(&self, extension: &str) {
        self.state().extensions.retain(|e| e != extension);
    }

    pub(super) fn offers(&self, extension: &str) {
        self.state().extensions.push(extension.to_owned());
    }

    /// Offers STARTTLS, and means it.
    pub(super) fn speaks_tls(&self, tls: ServerTls) {
        self.offers("STARTTLS");
        self.state().tls = Some(tls);
    }

    /// Says this to MAIL from a client at an address.
    pub(super) fn unwanted(&self, ip: &str, reply: &str) {
        self.state().unwanted = Some((ip.parse().unwrap(), reply.to_owned()));
    }

    /// Does this when it has read a chunk.
    pub(super) fn at_chunk(&self, number: usize, does: Does) {
        self.state().chunks.insert(number, does);
    }

    /// Whom connections came from, in order.
    pub(super) fn clients(&self) -> Vec<IpAddr> {
        self.state().clients.clone()
    }

    pub(super) fn well_behaved(&self) {
        let mut state = self.state();
        state.steps.clear();
        state.rcpts.clear();
        state.chunks.clear();
    }

    pub(super) fn connections(&self) -> usize {
        self.state().connections
    }

    /// The most connections that were open at once.
    pub(super) fn most_at_once(&self) -> usize {
        self.state().most_open
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    pub(super) fn messages(&self) -> Vec<(Vec<String>, String)> {
        self.state().messages.clone()
    }

    /// How many recipients got a message.
    pub(super) fn delivered(&self) -> usize {
        self.messages().iter().map(|(to, _)| to.len()).sum()
    }

    fn rcpt_reply(&self, line: &str) -> Option<String> {
        self.state().rcpts.iter().find(|(part, _)| line.contains(part.as_str())).map(|(_, reply)| reply.clone())
    }

    /// The reply that was sent; none when the connection is over.
    async fn step(&self, step: Step, stream: &mut BufReader<Stream>, normally: &str) -> Option<String> {
        let does = self.state().steps.get(&step).cloned();
        let reply = match does {
            Some(Does::Closes) => return None,
            Some(Does::Hangs) => std::future::pending().await,
            Some(Does::Says(reply)) => reply,
            None => normally.to_owned(),
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        Some(reply)
    }

    async fn serve(&self, stream: Stream) {
        {
            let mut state = self.state();
            state.connections += 1;
            state.clients.push(stream.remote_addr().ip());
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
        }
        self.converse(stream).await;
        self.state().open -= 1;
    }

    async fn converse(&self, stream: Stream) -> Option<()> {
        let client = stream.remote_addr().ip();
        let mut stream = BufReader::new(stream);
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        let mut refused = false;
        self.step(Step::Greeting, &mut stream, "220 peer ready").await?;
        let mut accepted: Vec<String> = Vec::new();
        let mut mail = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            self.state().lines.push(line.clone());
            match line.split(' ').next().unwrap_or_default() {
                "EHLO" => {
                    let extensions = self.state().extensions.clone();
                    let lines = extensions.iter().map(|e| format!("\r\n250-{e}")).collect::<String>();
                    self.step(Step::Ehlo, &mut stream, &format!("250-peer{lines}\r\n250 HELP")).await?;
                }
                "MAIL" => {
                    accepted.clear();
                    chunks.clear();
                    refused = false;
                    let unwanted = self.state().unwanted.clone().filter(|(ip, _)| *ip == client).map(|(_, reply)| reply);
                    let normally = unwanted.as_deref().unwrap_or("250 2.1.0 ok");
                    mail = self.step(Step::Mail, &mut stream, normally).await?.starts_with("250");
                }
                "RCPT" if !mail => stream.write_all(b"503 5.5.1 no MAIL\r\n").await.ok()?,
                "RCPT" => {
                    let once = {
                        let mut state = self.state();
                        let place = state.rcpts_once.iter().position(|(part, _)| line.contains(part.as_str()));
                        place.map(|i| state.rcpts_once.remove(i).1)
                    };
                    let reply = once.or_else(|| self.rcpt_reply(&line));
                    let reply = self.step(Step::Rcpt, &mut stream, reply.as_deref().unwrap_or("250 2.1.5 ok")).await?;
                    if reply.starts_with("25") {
                        accepted.push(line.trim_start_matches("RCPT TO:<").split('>').next().unwrap().to_owned());
                    }
                }
                "DATA" => {
                    let normally = if accepted.is_empty() { "554 5.5.1 no valid recipients" } else { "354 go ahead" };
                    if self.step(Step::Data, &mut stream, normally).await?.starts_with("354") {
                        self.message(&mut stream, &accepted).await?;
                    }
                }
                "BDAT" => {
                    let mut chunk = vec![0; line.split(' ').nth(1)?.parse().ok()?];
                    stream.read_exact(&mut chunk).await.ok()?;
                    let does = self.state().chunks.get(&chunks.len()).cloned();
                    chunks.push(chunk);
                    let last = line.ends_with(" LAST");
                    let reply = match does {
                        Some(Does::Closes) => return None,
                        Some(Does::Hangs) => std::future::pending().await,
                        Some(Does::Says(reply)) => reply,
                        None if refused => "503 5.5.1 a chunk before was refused".to_owned(),
                        None => "250 2.0.0 taken".to_owned(),
                    };
                    refused |= !reply.starts_with("250");
                    stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
                    stream.flush().await.ok()?;
                    if last && reply.starts_with("250") {
                        self.state().messages.push((accepted.clone(), String::from_utf8(chunks.concat()).ok()?));
                    }
                }
                "QUIT" => {
                    stream.write_all(b"221 2.0.0 bye\r\n").await.ok()?;
                    return Some(());
                }
                "RSET" => {
                    accepted.clear();
                    chunks.clear();
                    refused = false;
                    stream.write_all(b"250 2.0.0 ok\r\n").await.ok()?;
                }
                "STARTTLS" if !self.state().extensions.iter().any(|e| e == "STARTTLS") => {
                    stream.write_all(b"502 5.5.1 not here\r\n").await.ok()?;
                }
                "STARTTLS" if self.state().tls.is_some() => {
                    stream.write_all(b"220 2.0.0 go\r\n").await.ok()?;
                    stream.flush().await.ok()?;
                    let tls = self.state().tls.clone()?;
                    let mut inner = stream.into_inner();
                    inner.start_tls(&tls, &[]).await.ok()?;
                    self.state().lines.push("(TLS)".to_owned());
                    stream = BufReader::new(inner);
                }
                "STARTTLS" => {
                    // What follows isn't TLS.
                    stream.write_all(b"220 2.0.0 go\r\nnonsense nonsense nonsense\r\n").await.ok()?;
                    return None;
                }
                _ => stream.write_all(b"500 5.5.1 what\r\n").await.ok()?,
            }
        }
    }

    async fn message(&self, stream: &mut BufReader<Stream>, accepted: &[String]) -> Option<()> {
        let mut message = String::new();
        if self.state().steps.contains_key(&Step::Message) {
            let mut some = [0; 10];
            stream.read_exact(&mut some).await.ok()?;
            return self.step(Step::Message, stream, "").await.map(|_| ());
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if line == ".\r\n" {
                break;
            }
            message.push_str(line.strip_prefix('.').unwrap_or(&line));
        }
        let slow = self.state().slow_end;
        tokio::time::sleep(slow).await;
        let reply = self.step(Step::End, stream, "250 2.0.0 taken").await?;
        if reply.starts_with("250") {
            self.state().messages.push((accepted.to_vec(), message));
        }
        if self.state().closes_after_message { None } else { Some(()) }
    }
}

/// The bytes of messages, prefixes included.
pub(super) fn whole_messages(tx: &ReadTx<'_>, mailbox: MailboxId, uids: &UidSet) -> Result<Vec<Vec<u8>>, Error> {
    let mut ids = Vec::new();
    tx.fetch_rows(mailbox, uids, Columns::default(), |row| {
        ids.push(row.id()?);
        Ok::<_, Error>(true)
    })?;
    ids.into_iter()
        .map(|id| {
            let mut bytes = Vec::new();
            tx.message_bytes(id, 0..u64::MAX, &mut bytes)?;
            Ok(bytes)
        })
        .collect()
}
