//! FETCH and UID FETCH, RFC 9051 §6.4.5.
//!
//! What the view knows (UID, FLAGS) is printed from it alone. Everything else is printed by [`Job::run`] within a read of the store,
//! from ready-made columns where there are any, until its buffer is full; then the read ends and the buffer is written. The
//! next read goes on where the last one ended, in the middle of a message's bytes if need be.

use super::{Done, enable};
use crate::binary::Decoded;
use crate::conn::End;
use crate::error::Failure;
use crate::render::{self, Dates};
use crate::section::{FieldsOf, Source, append_fields, source, window};
use crate::session::Session;
use mox_base::{MailboxId, Uid};
use mox_imap::cmd::fetch::{Fetch, FetchItem, Partial, SectionItem, SectionText, print_part};
use mox_imap::put::{self, Charset};
use mox_imap::response::Code;
use mox_message::decode::Encoding;
use mox_store::{Account, Columns, Error, FlagChange, FlagOp, Flags, MessageRow, ReadTx, UidSet, View, wire};
use std::ops::Range;
use std::sync::Arc;

/// Output after which a read ends.
const CHUNK: usize = 256 * 1024;

/// Messages whose places and flags are looked up at once.
const BATCH: usize = 8192;

pub(crate) async fn run(s: &mut Session, fetch: Fetch) -> Done {
    let selected = s.selected()?;
    let uids = selected.uids(&fetch.set, fetch.uid)?;
    let (id, old, read_only) = (selected.id, Arc::clone(&selected.view), selected.read_only);
    let with_modseq = fetch.changed_since.is_some() || fetch.items.contains(&FetchItem::ModSeq);
    if with_modseq {
        enable::condstore(s);
    }
    let account = s.account()?;
    let new = account.view(id).await?;
    let (gone, changed) = if Arc::ptr_eq(&old, &new) {
        (UidSet::new(), UidSet::new())
    } else {
        let diff = new.diff(&old);
        (&diff.removed & &uids, diff.flags.clone())
    };
    let mut rest = uids;
    if let Some(since) = fetch.changed_since.filter(|n| *n > 0) {
        rest = changed_since(&account, id, rest, since).await?;
    }
    let mut job = Box::new(Job::new(fetch, id, (old, new), changed, read_only, s.charset()));
    if job.columns.is_none() && !with_modseq {
        from_view(s, &job, &rest).await?;
    } else {
        job.rest = rest;
        job = from_store(s, &account, job).await?;
        // A failing command marks nothing.
        if let Some(refused) = job.refused {
            return Err(refused);
        }
        if !job.marked.is_empty() {
            mark_seen(s, &account, id, job.marked).await?;
        }
    }
    // RFC 9051 §7.1: others removed some of these.
    Ok((!gone.is_empty()).then_some(Code::ExpungeIssued))
}

/// Those that changed after a mod-sequence; all, where history doesn't reach back: rows are compared again later.
async fn changed_since(account: &Account, id: MailboxId, uids: UidSet, since: u64) -> Result<UidSet, Failure> {
    let found = account.read(move |r| r.changed_since(id, since)).await?;
    Ok(match found {
        Some((changed, _)) => &uids & &changed,
        None => uids,
    })
}

/// UID and FLAGS, without the store.
async fn from_view(s: &mut Session, job: &Job, uids: &UidSet) -> Result<(), Failure> {
    let mut next = uids.first();
    while let Some(from) = next {
        next = None;
        let rest = uids.starting_at(from);
        let out = &mut s.conn.out;
        job.old.for_each_while(&rest, |entry| {
            render::head(out, entry.seq, entry.uid);
            if job.with_flags {
                out.push(b' ');
                match job.changed.contains(entry.uid).then(|| job.new.flags(entry.uid)).flatten() {
                    Some((flags, keywords)) => render::flags(out, flags, &keywords, job.new.mailbox()),
                    None => render::flags(out, entry.flags, entry.keywords, job.new.mailbox()),
                }
            }
            out.extend_from_slice(b")\r\n");
            if out.len() >= 2 * CHUNK {
                next = entry.uid.next();
                return false;
            }
            true
        });
        s.conn.relieve().await?;
    }
    Ok(())
}

/// Everything else: reads and writes in turn.
async fn from_store(s: &mut Session, account: &Account, mut job: Box<Job>) -> Result<Box<Job>, Failure> {
    while job.refused.is_none() && (job.next < job.batch.len() || job.refill()) {
        let within = job.item > 0 || job.sent > 0;
        job.out = std::mem::take(&mut s.conn.out);
        let had_output = !job.out.is_empty();
        let result = account
            .read(move |r| {
                job.run(r)?;
                Ok::<_, Error>(job)
            })
            .await;
        job = match result {
            Ok(job) => job,
            // What was printed is lost with the job. If a response is open or was lost, there is no way on.
            Err(error) if within || had_output => {
                tracing::error!(cid = s.id, %error, "fetch failed within a response");
                return Err(End::Closed.into());
            }
            Err(error) => return Err(error.into()),
        };
        s.conn.out = std::mem::take(&mut job.out);
        s.conn.relieve().await?;
    }
    Ok(job)
}

/// After all was read, RFC 9051 §6.4.5; this session hears of it with its next update.
async fn mark_seen(s: &Session, account: &Account, id: MailboxId, marked: UidSet) -> Result<(), Failure> {
    let origin = s.id;
    let change = FlagChange { op: FlagOp::Add, flags: Flags::SEEN, keywords: Vec::new() };
    account
        .write(move |w| {
            w.set_origin(origin);
            w.store_flags(id, &marked, &change, None)
        })
        .await?;
    Ok(())
}

/// A message of the batch, as the view has it.
#[derive(Clone, Copy, Debug)]
struct Meta {
    uid: Uid,
    seq: u32,
    flags: Flags,
    /// Range in [`Job::keywords`].
    keywords: (usize, usize),
}

/// A BINARY item that is partly printed.
#[derive(Debug)]
struct Binary {
    decoded: Decoded,
    /// Decoded bytes to leave out before.
    skip: u64,
    /// Decoded bytes still to print.
    left: u64,
}

/// A FETCH in progress.
#[derive(Debug)]
struct Job {
    items: Arc<[FetchItem]>,
    mailbox: MailboxId,
    old: Arc<View>,
    new: Arc<View>,
    /// Messages whose flags are different in `new`.
    changed: UidSet,
    read_only: bool,
    charset: Charset,
    with_flags: bool,
    with_modseq: bool,
    since: u64,
    /// What to ask of the store; none if nothing.
    columns: Option<Columns>,
    dates: Dates,
    /// Messages not yet in a batch.
    rest: UidSet,
    batch: Vec<Meta>,
    batch_uids: UidSet,
    keywords: Vec<u16>,
    /// The next message of the batch; the next item of it; how many of the item's bytes are printed.
    next: usize,
    item: usize,
    sent: u64,
    /// A BINARY item in progress.
    binary: Option<Binary>,
    /// Messages that get `\Seen`.
    marked: UidSet,
    /// Ends the command.
    refused: Option<Failure>,
    /// For putting fields together.
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl Job {
    fn new(fetch: Fetch, mailbox: MailboxId, views: (Arc<View>, Arc<View>), changed: UidSet, read_only: bool, charset: Charset) -> Self {
        Self {
            mailbox,
            old: views.0,
            new: views.1,
            changed,
            read_only,
            charset,
            with_flags: fetch.items.contains(&FetchItem::Flags),
            with_modseq: fetch.changed_since.is_some() || fetch.items.contains(&FetchItem::ModSeq),
            since: fetch.changed_since.unwrap_or(0),
            columns: columns(&fetch.items),
            items: fetch.items.into(),
            dates: Dates::default(),
            rest: UidSet::new(),
            batch: Vec::new(),
            batch_uids: UidSet::new(),
            keywords: Vec::new(),
            next: 0,
            item: 0,
            sent: 0,
            binary: None,
            marked: UidSet::new(),
            refused: None,
            scratch: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Takes the next messages into the batch; false when there are none.
    fn refill(&mut self) -> bool {
        let Self { old, new, rest, batch, keywords, changed, .. } = self;
        batch.clear();
        keywords.clear();
        self.next = 0;
        old.for_each_while(rest, |entry| {
            let newer = changed.contains(entry.uid).then(|| new.flags(entry.uid)).flatten();
            let from = keywords.len();
            let flags = match &newer {
                Some((flags, own)) => {
                    keywords.extend_from_slice(own);
                    *flags
                }
                None => {
                    keywords.extend_from_slice(entry.keywords);
                    entry.flags
                }
            };
            batch.push(Meta { uid: entry.uid, seq: entry.seq, flags, keywords: (from, keywords.len()) });
            batch.len() < BATCH
        });
        let Some(last) = batch.last() else { return false };
        self.batch_uids = batch.iter().map(|m| m.uid).collect();
        *rest = last.uid.next().map_or_else(UidSet::new, |next| rest.starting_at(next));
        true
    }

    /// Prints messages of the batch until there is enough output.
    fn run(&mut self, r: &ReadTx<'_>) -> Result<(), Error> {
        let Some(from) = self.batch.get(self.next).map(|m| m.uid) else { return Ok(()) };
        let uids = self.batch_uids.starting_at(from);
        let mut columns = self.columns.unwrap_or_default();
        if self.with_modseq {
            columns = columns | Columns::MODSEQ;
        }
        let mailbox = self.mailbox;
        let stopped = r.fetch_rows(mailbox, &uids, columns, |row| {
            // Those without a row were erased meanwhile.
            while self.batch.get(self.next).is_some_and(|m| m.uid < row.uid()) {
                self.next = self.next.saturating_add(1);
            }
            let Some(meta) = self.batch.get(self.next).copied().filter(|m| m.uid == row.uid()) else { return Ok(true) };
            if self.print(r, row, meta)? {
                (self.next, self.item, self.sent) = (self.next.saturating_add(1), 0, 0);
            }
            Ok::<_, Error>(self.refused.is_none() && self.item == 0 && self.sent == 0 && self.out.len() < CHUNK)
        })?;
        if stopped.is_none() {
            self.next = self.batch.len();
        }
        Ok(())
    }

    /// Prints a message, or as much of it as there is room for; true when it is complete.
    fn print(&mut self, r: &ReadTx<'_>, row: &MessageRow<'_>, meta: Meta) -> Result<bool, Error> {
        if self.item == 0 && self.sent == 0 {
            if self.since > 0 && row.modseq()?.get() <= self.since {
                return Ok(true);
            }
            if let Some(refused) = self.unknown_encoding(row)? {
                self.refused = Some(refused);
                return Ok(false);
            }
            render::head(&mut self.out, meta.seq, meta.uid);
        }
        let items = Arc::clone(&self.items);
        while let Some(item) = items.get(self.item) {
            if !self.print_item(r, row, item)? {
                return Ok(false);
            }
            (self.item, self.sent) = (self.item.saturating_add(1), 0);
        }
        let marks = !self.read_only && !meta.flags.has(Flags::SEEN) && self.items.iter().any(FetchItem::marks_seen);
        if marks {
            self.marked.insert(meta.uid);
        }
        if self.with_flags || marks {
            self.out.push(b' ');
            let keywords = self.keywords.get(meta.keywords.0..meta.keywords.1).unwrap_or_default();
            render::flags(&mut self.out, meta.flags, keywords, self.new.mailbox());
        }
        if self.with_modseq {
            render::modseq(&mut self.out, row.modseq()?);
        }
        self.out.extend_from_slice(b")\r\n");
        Ok(true)
    }

    /// Prints an item, or as much of it as there is room for; true when it is complete.
    fn print_item(&mut self, r: &ReadTx<'_>, row: &MessageRow<'_>, item: &FetchItem) -> Result<bool, Error> {
        let out = &mut self.out;
        match item {
            // In their places already.
            FetchItem::Uid | FetchItem::Flags | FetchItem::ModSeq => {}
            FetchItem::InternalDate => {
                out.extend_from_slice(b" INTERNALDATE ");
                self.dates.print(out, row.received()?, row.zone()?);
            }
            FetchItem::Size => {
                out.extend_from_slice(b" RFC822.SIZE ");
                put::number(out, row.size()?.0);
            }
            FetchItem::Envelope => {
                out.extend_from_slice(b" ENVELOPE ");
                out.extend_from_slice(row.envelope()?);
            }
            FetchItem::BodyStructure => {
                out.extend_from_slice(b" BODYSTRUCTURE ");
                out.extend_from_slice(row.bodystructure()?);
            }
            FetchItem::Body => {
                out.extend_from_slice(b" BODY ");
                wire::body(out, &row.structure()?, wire::Form::Basic);
            }
            FetchItem::Preview => {
                out.extend_from_slice(b" PREVIEW ");
                put::nstring(out, row.preview()?.map(str::as_bytes), self.charset);
            }
            FetchItem::Section(section) => return self.print_section(r, row, section),
            FetchItem::Binary { part, partial, .. } => return self.print_binary(r, row, part, *partial),
            FetchItem::BinarySize(part) => {
                let size = match Decoded::open(r, row.id()?, &row.structure()?, part)? {
                    Some(decoded) => decoded.measure(r)?.length,
                    None => 0,
                };
                out.extend_from_slice(b" BINARY.SIZE[");
                print_part(out, part);
                out.extend_from_slice(b"] ");
                put::number(out, size);
            }
        }
        Ok(true)
    }

    fn print_section(&mut self, r: &ReadTx<'_>, row: &MessageRow<'_>, item: &SectionItem) -> Result<bool, Error> {
        let common = common_fields(item);
        if let Some(wanted) = common
            && let Some(headers) = row.headers()?
        {
            let mut bytes = std::mem::take(&mut self.scratch);
            bytes.clear();
            append_fields(&mut bytes, headers, FieldsOf::Named(wanted));
            self.print_bytes(item, &bytes);
            self.scratch = bytes;
            return Ok(true);
        }
        let found = if is_whole(item) {
            Some(Source::Range(0..row.size()?.0))
        } else if common.is_some() {
            // Too many header bytes to be kept: rare, so the structure isn't asked for with every row.
            source(&r.structure(row.id()?)?, &item.section)
        } else {
            source(&row.structure()?, &item.section)
        };
        match found {
            None => {
                self.out.push(b' ');
                item.print_name(&mut self.out);
                self.out.extend_from_slice(b" NIL");
                Ok(true)
            }
            Some(Source::Fields(range, wanted)) => {
                let mut header = Vec::new();
                append_bytes(r, row, self.columns, range, &mut header)?;
                let mut bytes = Vec::new();
                append_fields(&mut bytes, &header, wanted);
                self.print_bytes(item, &bytes);
                Ok(true)
            }
            Some(Source::Range(range)) => {
                let part = window(range.end.saturating_sub(range.start), item.partial);
                let bytes = range.start.saturating_add(part.start)..range.start.saturating_add(part.end);
                self.print_range(r, row, item, bytes)
            }
        }
    }

    fn print_bytes(&mut self, item: &SectionItem, bytes: &[u8]) {
        let part = window(bytes.len() as u64, item.partial);
        self.out.push(b' ');
        item.print_name(&mut self.out);
        self.out.push(b' ');
        put::literal_head(&mut self.out, part.end.saturating_sub(part.start));
        self.out.extend_from_slice(slice(bytes, part));
    }

    /// Prints a slice of the message, as much as there is room for.
    fn print_range(&mut self, r: &ReadTx<'_>, row: &MessageRow<'_>, item: &SectionItem, bytes: Range<u64>) -> Result<bool, Error> {
        if self.sent == 0 {
            self.out.push(b' ');
            item.print_name(&mut self.out);
            self.out.push(b' ');
            put::literal_head(&mut self.out, bytes.end.saturating_sub(bytes.start));
        }
        let from = bytes.start.saturating_add(self.sent);
        let to = from.saturating_add(self.room()).min(bytes.end);
        if from < to {
            append_bytes(r, row, self.columns, from..to, &mut self.out)?;
        }
        self.sent = to.saturating_sub(bytes.start);
        Ok(to >= bytes.end)
    }

    /// How many bytes may be printed before the read ends; some always, to get on.
    fn room(&self) -> u64 {
        CHUNK.saturating_sub(self.out.len()).max(CHUNK / 4) as u64
    }

    fn print_binary(&mut self, r: &ReadTx<'_>, row: &MessageRow<'_>, part: &[u32], partial: Option<Partial>) -> Result<bool, Error> {
        let mut binary = match self.binary.take() {
            Some(binary) => binary,
            None => {
                self.out.extend_from_slice(b" BINARY[");
                print_part(&mut self.out, part);
                self.out.extend_from_slice(b"] ");
                let (structure, id) = (row.structure()?, row.id()?);
                let open = || Decoded::open(r, id, &structure, part);
                let (Some(measured), Some(decoded)) = (open()?, open()?) else {
                    self.out.extend_from_slice(b"NIL");
                    return Ok(true);
                };
                let measure = measured.measure(r)?;
                // RFC 3516 §4.2: a NUL needs a literal8.
                if measure.nul {
                    self.out.push(b'~');
                }
                let part = window(measure.length, partial);
                let left = part.end.saturating_sub(part.start);
                put::literal_head(&mut self.out, left);
                Binary { decoded, skip: part.start, left }
            }
        };
        let room = self.out.len().saturating_add(usize::try_from(self.room()).unwrap_or(usize::MAX));
        while binary.left > 0 && self.out.len() < room {
            let Some(piece) = binary.decoded.next(r)? else { return Err(Error::NoMessage) };
            let length = piece.len() as u64;
            let from = binary.skip.min(length);
            let to = from.saturating_add(binary.left).min(length);
            self.out.extend_from_slice(slice(&piece, from..to));
            binary.skip = binary.skip.saturating_sub(from);
            binary.left = binary.left.saturating_sub(to.saturating_sub(from));
        }
        if binary.left == 0 {
            return Ok(true);
        }
        self.sent = self.sent.saturating_add(1);
        self.binary = Some(binary);
        Ok(false)
    }

    /// Whether a BINARY item of this message can't be decoded, RFC 3516 §4.3. Asked before anything of it is printed.
    fn unknown_encoding(&self, row: &MessageRow<'_>) -> Result<Option<Failure>, Error> {
        for item in self.items.iter() {
            let (FetchItem::Binary { part, .. } | FetchItem::BinarySize(part)) = item else { continue };
            let structure = row.structure()?;
            let Some(found) = structure.section(part) else { continue };
            if found.is_leaf() && found.transfer_encoding() == Encoding::Unknown {
                return Ok(Some(Failure::code(Code::UnknownCte, "unknown content-transfer-encoding")));
            }
        }
        Ok(None)
    }
}

/// What has to be asked of the store for these items; none if nothing.
fn columns(items: &[FetchItem]) -> Option<Columns> {
    let mut columns = None;
    for item in items {
        let more = match item {
            FetchItem::Uid | FetchItem::Flags => continue,
            FetchItem::InternalDate | FetchItem::Size => Columns::STATE,
            FetchItem::ModSeq => Columns::MODSEQ,
            FetchItem::Envelope => Columns::ENVELOPE,
            FetchItem::BodyStructure => Columns::BODYSTRUCTURE,
            FetchItem::Body | FetchItem::Binary { .. } | FetchItem::BinarySize(_) => Columns::STRUCTURE,
            FetchItem::Preview => Columns::PREVIEW,
            FetchItem::Section(section) if common_fields(section).is_some() => Columns::HEADERS,
            FetchItem::Section(section) if is_whole(section) => Columns::BYTES,
            FetchItem::Section(_) => Columns::STRUCTURE | Columns::BYTES,
        };
        columns = Some(columns.unwrap_or_default() | more);
    }
    columns
}

/// Appends bytes of a message: from its row, or, where they weren't expected to be needed, from the store.
fn append_bytes(r: &ReadTx<'_>, row: &MessageRow<'_>, columns: Option<Columns>, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), Error> {
    if columns.is_some_and(|c| c.has(Columns::BYTES)) {
        return row.append_bytes(r, range, out);
    }
    r.message_bytes(row.id()?, range, out).map(drop)
}

/// The whole message, which needs no structure.
fn is_whole(item: &SectionItem) -> bool {
    item.section.part.is_empty() && item.section.text == SectionText::Whole
}

/// The fields a section asks for, if all are among those that are kept with the message.
fn common_fields(item: &SectionItem) -> Option<&[String]> {
    match &item.section.text {
        SectionText::Fields(names) if item.section.part.is_empty() => {
            let common = |name: &String| wire::COMMON_HEADERS.iter().any(|c| c.eq_ignore_ascii_case(name));
            names.iter().all(common).then_some(names.as_slice())
        }
        _ => None,
    }
}

fn slice(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
}
