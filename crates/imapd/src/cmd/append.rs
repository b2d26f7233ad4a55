//! APPEND and MULTIAPPEND, RFC 9051 §6.3.12, RFC 3502: all messages of a command or none.
//!
//! Messages are taken in as they come and made ready (parsed, compressed, large ones durably in a file) one by one; what is
//! left for the transaction is adding rows. A message that needn't be asked for is read to its end even if the command has failed
//! already, so that its bytes can't become commands.

use super::{Done, store};
use crate::conn::End;
use crate::error::{Failure, or_try_create};
use crate::session::Session;
use mox_base::{MailboxId, UidValidity};
use mox_imap::RangeSet;
use mox_imap::cmd::append::{Append, Message};
use mox_imap::reader::{Bad, Event, Reason};
use mox_imap::response::{self, Code};
use mox_message::decode::CrlfText;
use mox_store::blob::BLOCK;
use mox_store::{Account, Content, Error, MailboxName, Prepared, UidSet, WriteTx};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// Bytes of a message kept in memory; more go to a temporary file.
const IN_MEMORY: usize = 512 * 1024;

pub(crate) async fn run(s: &mut Session, append: Append) -> Done {
    let mut failure = check(s, &append.mailbox).err();
    let account = s.account()?;
    let mut ready: Vec<(Prepared, mox_store::Append)> = Vec::new();
    let mut message = append.message;
    loop {
        let options = match options(&message) {
            Ok(options) => options,
            Err(f) => {
                failure = failure.or(Some(f));
                mox_store::Append::default()
            }
        };
        failure = failure.or_else(|| check_message(s, &account, &message, &ready).err());
        let sink = if failure.is_none() { Some(Sink::default()) } else { None };
        let Some((content, next)) = read_message(s, &message, sink, &mut failure).await? else {
            // It asked, and may not.
            return Err(failure.unwrap_or_else(|| Failure::no("refused")));
        };
        if let Some(content) = content {
            let message = mox_store::Message { prefix: Vec::new(), content, structure: None, hash: None };
            if next.is_none() && ready.is_empty() {
                return add_only(s, &account, &append.mailbox, message, options).await;
            }
            match account.prepare(message).await {
                Ok(prepared) => ready.push((prepared, options)),
                Err(error) => failure = Some(error.into()),
            }
        }
        match next {
            Some(next) => message = next,
            None => break,
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => add(s, &account, &append.mailbox, ready).await,
    }
}

/// Takes in and drops the messages of a command that may not come now.
pub(crate) async fn refuse(s: &mut Session, first: Message, failure: Failure) -> Done {
    let mut failure = Some(failure);
    let mut message = first;
    while let Some((_, next)) = read_message(s, &message, None, &mut failure).await? {
        match next {
            Some(next) => message = next,
            None => break,
        }
    }
    Err(failure.unwrap_or_else(|| Failure::no("refused")))
}

/// What can be said before there is a message.
fn check(s: &Session, mailbox: &str) -> Result<(), Failure> {
    let name = MailboxName::parse(mailbox).map_err(Error::from)?;
    let known = s.login()?.account.mailboxes().by_name(name.as_str()).is_some();
    if known { Ok(()) } else { Err(or_try_create(Error::NoMailbox)) }
}

fn check_message(s: &Session, account: &Account, message: &Message, ready: &[(Prepared, mox_store::Append)]) -> Result<(), Failure> {
    // RFC 3502 §3: an empty message cancels the command.
    if message.literal.size == 0 {
        return Err(Failure::no("cancelled by an empty message"));
    }
    let inline = |size: u64| if size <= BLOCK as u64 { size } else { 0 };
    let waiting: u64 = ready.iter().map(|(p, _)| inline(p.size().0)).sum();
    let limits = &s.service.limits;
    if ready.len() >= limits.append_messages || waiting.saturating_add(inline(message.literal.size)) > limits.append_waiting {
        return Err(Failure::code(Code::Limit, "too many messages in one command"));
    }
    let used = account.mailboxes().used().0;
    match account.quota() {
        Some(quota) if used.saturating_add(message.literal.size) > quota.0 => Err(Error::OverQuota.into()),
        _ => Ok(()),
    }
}

fn options(message: &Message) -> Result<mox_store::Append, Failure> {
    let (flags, keywords) = store::split(&message.flags)?;
    // RFC 9051 §6.3.12: the date, and with it the zone, that the client gave.
    let (received, zone) = message.date.map(|d| (d.at, d.offset_minutes)).unzip();
    Ok(mox_store::Append { flags, keywords, received, zone, ..mox_store::Append::default() })
}

/// Reads a message into the sink, if there is one, and the line behind it. None if the client asked and was refused.
async fn read_message(
    s: &mut Session,
    message: &Message,
    mut sink: Option<Sink>,
    failure: &mut Option<Failure>,
) -> Result<Option<(Option<Content>, Option<Message>)>, Failure> {
    if message.literal.sync {
        if failure.is_some() {
            s.conn.reader.refuse();
            return Ok(None);
        }
        response::continuation(&mut s.conn.out, "go ahead");
        s.conn.flush().await?;
    }
    s.conn.reader.proceed();
    let context = s.context();
    let wait = s.service.limits.read;
    let next = loop {
        match s.conn.reader.next(&context) {
            Event::Read => s.conn.read(wait).await?,
            Event::Bytes(bytes) => {
                if let Some(open) = &mut sink
                    && let Err(error) = open.push(&bytes).await
                {
                    // Ours: a full disk, most likely.
                    *failure = Some(Failure::Server(error.into()));
                    sink = None;
                }
            }
            Event::Message(next) => break Some(next),
            Event::AppendEnd => break None,
            Event::Bad(bad) => return Err(bad_append(s, bad).await),
            Event::TooLong | Event::Literal(_) | Event::Command(..) => return Err(End::Closed.into()),
        }
    };
    let content = match sink {
        Some(sink) => match sink.finish().await {
            Ok(content) => Some(content),
            Err(error) => {
                *failure = Some(Failure::Server(error.into()));
                None
            }
        },
        None => None,
    };
    Ok(Some((content, next)))
}

/// What stands behind a message is wrong.
async fn bad_append(s: &mut Session, bad: Bad) -> Failure {
    let text = match bad.reason {
        Reason::Syntax { expected, .. } => format!("expected {expected}"),
        _ => "syntax error".to_owned(),
    };
    if !bad.fatal {
        return Failure::bad(text);
    }
    let text = format!("append: {text}");
    response::status(&mut s.conn.out, bad.tag.as_deref(), response::Status::Bad, None, &text);
    match s.conn.flush().await {
        Ok(()) => End::Closed.into(),
        Err(end) => end.into(),
    }
}

/// Adds the only message of a command: made ready and added in one go.
async fn add_only(s: &mut Session, account: &Account, mailbox: &str, message: mox_store::Message, options: mox_store::Append) -> Done {
    let name = MailboxName::parse(mailbox).map_err(Error::from)?;
    let origin = s.id;
    let placed = account.write_message(message, move |w, prepared| place(w, origin, &name, &[(prepared.clone(), options.clone())])).await;
    conclude(s, account, placed).await
}

async fn add(s: &mut Session, account: &Account, mailbox: &str, ready: Vec<(Prepared, mox_store::Append)>) -> Done {
    let name = MailboxName::parse(mailbox).map_err(Error::from)?;
    let origin = s.id;
    let placed = account.write(move |w| place(w, origin, &name, &ready)).await;
    conclude(s, account, placed).await
}

/// Where messages are now.
struct Placed {
    mailbox: MailboxId,
    uidvalidity: UidValidity,
    uids: UidSet,
}

fn place(w: &mut WriteTx<'_>, origin: u64, name: &MailboxName, ready: &[(Prepared, mox_store::Append)]) -> Result<Placed, Error> {
    w.set_origin(origin);
    let mailbox = Arc::clone(w.mailboxes().by_name(name.as_str()).ok_or(Error::NoMailbox)?);
    let mut uids = UidSet::new();
    for (message, options) in ready {
        uids.insert(w.add(mailbox.id, message, options)?.uid);
    }
    Ok(Placed { mailbox: mailbox.id, uidvalidity: mailbox.uidvalidity, uids })
}

async fn conclude(s: &mut Session, account: &Account, placed: Result<Placed, Error>) -> Done {
    let Placed { mailbox: id, uidvalidity, uids } = placed.map_err(or_try_create)?;
    if let Some(selected) = s.selected.as_mut().filter(|selected| selected.id == id) {
        // Ours are counted, not described; others' that came before are described, too.
        let new = account.view(id).await?;
        let old = std::mem::replace(&mut selected.view, Arc::clone(&new));
        s.tell(account, &old, &new, &uids).await?;
    }
    Ok(Some(Code::AppendUid(uidvalidity, uids.ranges().collect::<RangeSet>())))
}

/// Takes in a message, making its line ends CRLF.
#[derive(Debug, Default)]
struct Sink {
    crlf: CrlfText,
    memory: Vec<u8>,
    file: Option<File>,
}

impl Sink {
    async fn push(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.crlf.push(bytes, &mut self.memory);
        if self.memory.len() >= IN_MEMORY { self.spill().await } else { Ok(()) }
    }

    /// Writes what is in memory to the file.
    async fn spill(&mut self) -> std::io::Result<()> {
        let memory = std::mem::take(&mut self.memory);
        let file = self.file.take();
        let write = move || {
            let mut file = match file {
                Some(file) => file,
                None => tempfile::tempfile()?,
            };
            file.write_all(&memory)?;
            Ok::<_, std::io::Error>((file, memory))
        };
        let (file, mut memory) = tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)??;
        memory.clear();
        (self.file, self.memory) = (Some(file), memory);
        Ok(())
    }

    async fn finish(mut self) -> std::io::Result<Content> {
        if self.file.is_some() && !self.memory.is_empty() {
            self.spill().await?;
        }
        Ok(match self.file {
            Some(file) => Content::File(file),
            None => Content::Bytes(self.memory),
        })
    }
}
