//! Reading an account's messages on a snapshot.

use super::core::AccountScope;
use crate::blob::{BLOCK, decode_block};
use crate::change::{Change, ChangeKind};
use crate::db::{self, Param, Row, Sql, Tx};
use crate::error::{Error, corrupt};
use crate::flags::{Flags, flags_of};
use crate::mailbox::modseq;
use crate::params;
use crate::uidset::UidSet;
use mox_base::{AccountId, BlobId, ByteSize, MailboxId, MessageId, ModSeq, Timestamp, Uid};
use mox_message::Structure;
use std::fmt;
use std::io::Read;
use std::ops::{BitOr, Range};

/// Rows that PostgreSQL hands over at a time.
const BATCH: i64 = 500;

/// Changes read from history at most; who is further behind has to look at everything again.
const MAX_CHANGES: i64 = 10_000;

/// Columns of a message beyond its state, to be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns(u8);

impl Columns {
    /// Only what [`MessageRow`] always has.
    pub const STATE: Self = Self(0);
    /// [`MessageRow::envelope`].
    pub const ENVELOPE: Self = Self(1);
    /// [`MessageRow::bodystructure`].
    pub const BODYSTRUCTURE: Self = Self(2);
    /// [`MessageRow::headers`].
    pub const HEADERS: Self = Self(4);
    /// [`MessageRow::structure`].
    pub const STRUCTURE: Self = Self(8);
    /// [`MessageRow::preview`].
    pub const PREVIEW: Self = Self(16);
    /// [`MessageRow::thread_id`].
    pub const THREAD: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::ENVELOPE, "envelope"),
        (Self::BODYSTRUCTURE, "bodystructure"),
        (Self::HEADERS, "headers"),
        (Self::STRUCTURE, "structure"),
        (Self::PREVIEW, "preview"),
        (Self::THREAD, "thread_id"),
    ];

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Columns {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A message's row. Texts and bytes are borrowed from the database.
#[derive(Debug)]
pub struct MessageRow<'r> {
    row: &'r Row<'r>,
    columns: Columns,
    uid: Uid,
}

/// Columns that every row has.
const STATE: &str = "s.uid, s.id, s.flags, s.modseq, s.size, s.received, s.saved";
const STATE_COLUMNS: usize = 7;

impl MessageRow<'_> {
    /// Its UID.
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// Its id.
    ///
    /// # Errors
    /// The column isn't what it should be; so below.
    pub fn id(&self) -> Result<MessageId, db::Error> {
        self.row.int(1).map(MessageId)
    }

    /// Its flags. A session shows those of its view instead, except together with [`MessageRow::modseq`].
    ///
    /// # Errors
    /// As above.
    pub fn flags(&self) -> Result<Flags, db::Error> {
        self.row.int(2).map(flags_of)
    }

    /// Its last change.
    ///
    /// # Errors
    /// As above.
    pub fn modseq(&self) -> Result<ModSeq, db::Error> {
        self.row.int(3).map(modseq)
    }

    /// RFC822.SIZE.
    ///
    /// # Errors
    /// As above.
    pub fn size(&self) -> Result<ByteSize, db::Error> {
        Ok(ByteSize(u64::try_from(self.row.int(4)?).unwrap_or(0)))
    }

    /// INTERNALDATE.
    ///
    /// # Errors
    /// As above.
    pub fn received(&self) -> Result<Timestamp, db::Error> {
        self.row.int(5).map(Timestamp::from_micros)
    }

    /// When it came into this mailbox, RFC 8514.
    ///
    /// # Errors
    /// As above.
    pub fn saved(&self) -> Result<Option<Timestamp>, db::Error> {
        Ok(self.row.opt_int(6)?.map(Timestamp::from_micros))
    }

    fn at(&self, column: Columns) -> Result<usize, db::Error> {
        if !self.columns.has(column) {
            return Err(corrupt("a column that wasn't asked for"));
        }
        let before = Columns::NAMES.iter().take_while(|(c, _)| *c != column).filter(|(c, _)| self.columns.has(*c)).count();
        Ok(STATE_COLUMNS.saturating_add(before))
    }

    /// ENVELOPE as IMAP sends it.
    ///
    /// # Errors
    /// As above, or the column wasn't asked for; so below.
    pub fn envelope(&self) -> Result<&[u8], db::Error> {
        self.row.blob(self.at(Columns::ENVELOPE)?)
    }

    /// BODYSTRUCTURE as IMAP sends it.
    ///
    /// # Errors
    /// As above.
    pub fn bodystructure(&self) -> Result<&[u8], db::Error> {
        self.row.blob(self.at(Columns::BODYSTRUCTURE)?)
    }

    /// The fields of [`crate::wire::COMMON_HEADERS`], in order and as they are, without an empty line; none if they were too large.
    ///
    /// # Errors
    /// As above.
    pub fn headers(&self) -> Result<Option<&[u8]>, db::Error> {
        self.row.opt_blob(self.at(Columns::HEADERS)?)
    }

    /// Its structure.
    ///
    /// # Errors
    /// As above.
    pub fn structure(&self) -> Result<Structure, db::Error> {
        Structure::decode(self.row.blob(self.at(Columns::STRUCTURE)?)?).map_err(|_| corrupt("structure"))
    }

    /// Its preview text, if it was made.
    ///
    /// # Errors
    /// As above.
    pub fn preview(&self) -> Result<Option<&str>, db::Error> {
        self.row.opt_text(self.at(Columns::PREVIEW)?)
    }

    /// Its thread: the id of the first message in it.
    ///
    /// # Errors
    /// As above.
    pub fn thread_id(&self) -> Result<MessageId, db::Error> {
        self.row.int(self.at(Columns::THREAD)?).map(MessageId)
    }
}

/// Where a message's bytes are.
#[derive(Clone, Debug)]
struct Stored {
    size: u64,
    name: Option<String>,
    blocks: Vec<u8>,
    data: Vec<u8>,
}

/// Reading an account.
pub struct ReadTx<'a> {
    tx: &'a Tx<'a>,
    scope: &'a AccountScope,
}

impl fmt::Debug for ReadTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadTx").field("account", &self.scope.id).finish_non_exhaustive()
    }
}

impl<'a> ReadTx<'a> {
    pub(crate) fn new(tx: &'a Tx<'a>, scope: &'a AccountScope) -> Self {
        Self { tx, scope }
    }

    fn account(&self) -> AccountId {
        self.scope.id
    }

    /// Hands over the rows of messages, ascending, until `each` returns false; then the result is the UID of its last row.
    ///
    /// Messages that were removed but are still shown by sessions are found, too. Nothing is allocated for a message.
    ///
    /// # Errors
    /// The database failed, or `each` did.
    pub fn fetch_rows<E: From<db::Error>>(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        columns: Columns,
        mut each: impl FnMut(&MessageRow<'_>) -> Result<bool, E>,
    ) -> Result<Option<Uid>, E> {
        let mut removed = self.removed(mailbox, uids)?;
        let mut rest = uids - &removed;
        // Live messages up to the next removed one, that one, and so on.
        while let Some(gone) = removed.first() {
            let before = UidSet(rest.within(0..=gone.get()));
            rest = &rest - &before;
            removed.0.remove(gone.get());
            if let Some(stopped) = self.fetch_from("message_state", mailbox, before, columns, &mut each)? {
                return Ok(Some(stopped));
            }
            if let Some(stopped) = self.fetch_from("expunged", mailbox, UidSet::from(gone), columns, &mut each)? {
                return Ok(Some(stopped));
            }
        }
        self.fetch_from("message_state", mailbox, rest, columns, &mut each)
    }

    /// Those of `uids` that were removed and not yet erased.
    fn removed(&self, mailbox: MailboxId, uids: &UidSet) -> Result<UidSet, db::Error> {
        let mut removed = UidSet::new();
        let (Some(first), Some(last)) = (uids.first(), uids.last()) else { return Ok(removed) };
        self.tx.query(
            "SELECT uid FROM expunged WHERE account_id = $1 AND mailbox_id = $2 AND uid BETWEEN $3 AND $4",
            params![self.account(), mailbox, first, last],
            |r| {
                let uid = uid_of(r.int(0)?)?;
                if uids.contains(uid) {
                    removed.insert(uid);
                }
                Ok::<_, db::Error>(())
            },
        )?;
        Ok(removed)
    }

    fn fetch_from<E: From<db::Error>>(
        &self,
        table: &str,
        mailbox: MailboxId,
        uids: UidSet,
        columns: Columns,
        each: &mut impl FnMut(&MessageRow<'_>) -> Result<bool, E>,
    ) -> Result<Option<Uid>, E> {
        if uids.is_empty() {
            return Ok(None);
        }
        let wanted: String = Columns::NAMES.iter().filter(|(c, _)| columns.has(*c)).map(|(_, name)| format!(", m.{name}")).collect();
        let join = if columns == Columns::STATE { "" } else { "JOIN message m ON m.account_id = s.account_id AND m.id = s.id" };
        let sqlite = format!(
            "SELECT {STATE}{wanted} FROM {table} s {join} WHERE s.account_id = $1 AND s.mailbox_id = $2 AND s.uid BETWEEN $3 AND $4 ORDER BY s.uid"
        );
        let mut stopped = None;
        let mut last = None;
        let mut row = |r: &Row<'_>| {
            let uid = uid_of(r.int(0)?)?;
            last = Some(uid);
            let more = each(&MessageRow { row: r, columns, uid })?;
            if !more {
                stopped = Some(uid);
            }
            Ok::<_, E>(more)
        };
        if !self.tx.is_postgres() {
            for (first, last) in uids.ranges() {
                let mut more = true;
                self.tx.query_while(&sqlite, params![self.account(), mailbox, first, last], |r| {
                    more = row(r)?;
                    Ok::<_, E>(more)
                })?;
                if !more {
                    break;
                }
            }
            return Ok(stopped);
        }
        let postgres = format!(
            "SELECT {STATE}{wanted} FROM unnest($3::bigint[], $4::bigint[]) AS r(a, b) JOIN {table} s ON s.account_id = $1 AND s.mailbox_id = $2 \
             AND s.uid BETWEEN r.a AND r.b {join} ORDER BY s.uid LIMIT $5"
        );
        let sql = Sql { sqlite: &sqlite, postgres: &postgres };
        let mut rest = uids;
        loop {
            let some: Vec<(u32, u32)> = rest.ranges().take(usize::try_from(BATCH).unwrap_or(0)).collect();
            let Some(end) = some.last().map(|r| r.1) else { return Ok(stopped) };
            let first: Vec<i64> = some.iter().map(|r| r.0.into()).collect();
            let to: Vec<i64> = some.iter().map(|r| r.1.into()).collect();
            let (mut rows, mut more, mut reached) = (0i64, true, 0u32);
            self.tx.query_while(sql, params![self.account(), mailbox, first.as_slice(), to.as_slice(), BATCH], |r| {
                rows = rows.saturating_add(1);
                reached = u32::try_from(r.int(0)?).unwrap_or(u32::MAX);
                more = row(r)?;
                Ok::<_, E>(more)
            })?;
            if !more {
                return Ok(stopped);
            }
            let done = if rows < BATCH { end } else { reached };
            let Some(next) = done.checked_add(1).and_then(Uid::new) else { return Ok(stopped) };
            rest = rest.starting_at(next);
        }
    }

    /// Appends a range of a message's bytes to `out`; what is beyond its end is left out. The size of the whole message.
    ///
    /// # Errors
    /// [`Error::NoMessage`]; [`Error::Blob`] if the bytes aren't what was stored.
    pub fn message_bytes(&self, id: MessageId, range: Range<u64>, out: &mut Vec<u8>) -> Result<ByteSize, Error> {
        let stored = self
            .tx
            .query_opt(
                "SELECT b.size, b.name, b.blocks, b.data FROM message m JOIN blob b ON b.account_id = m.account_id AND b.id = m.blob_id \
                 WHERE m.account_id = $1 AND m.id = $2",
                params![self.account(), id],
                stored,
            )?
            .ok_or(Error::NoMessage)?;
        self.read_stored(&stored, range, out)?;
        Ok(ByteSize(stored.size))
    }

    /// As [`ReadTx::message_bytes`], of all bytes of a blob; for checks.
    pub(crate) fn blob_bytes(&self, id: BlobId, out: &mut Vec<u8>) -> Result<(), Error> {
        let sql = "SELECT size, name, blocks, data FROM blob WHERE account_id = $1 AND id = $2";
        let stored = self.tx.query_row(sql, params![self.account(), id], stored)?;
        self.read_stored(&stored, 0..stored.size, out)
    }

    fn read_stored(&self, stored: &Stored, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), Error> {
        let end = range.end.min(stored.size);
        let start = range.start.min(end);
        let block = u64::try_from(BLOCK).unwrap_or(u64::MAX);
        let mut decoded = Vec::new();
        let mut frame = Vec::new();
        let Some(name) = &stored.name else {
            decode_block(&stored.data, usize::try_from(stored.size).unwrap_or(usize::MAX), &mut decoded)?;
            out.extend_from_slice(slice(&decoded, start, end));
            return Ok(());
        };
        let sizes: Vec<u64> = stored.blocks.chunks_exact(4).filter_map(|c| c.first_chunk().map(|b| u32::from_le_bytes(*b).into())).collect();
        let first = start.checked_div(block).unwrap_or(0);
        let skipped = sizes.iter().take(usize::try_from(first).unwrap_or(usize::MAX)).sum();
        if start == end {
            return Ok(());
        }
        let mut file = self.scope.blobs.open(name, skipped)?;
        let mut at = first.saturating_mul(block);
        for size in sizes.iter().skip(usize::try_from(first).unwrap_or(usize::MAX)) {
            if at >= end {
                break;
            }
            frame.clear();
            file.by_ref().take(*size).read_to_end(&mut frame)?;
            let length = stored.size.saturating_sub(at).min(block);
            decode_block(&frame, usize::try_from(length).unwrap_or(usize::MAX), &mut decoded)
                .map_err(|_| Error::Blob(name.clone(), "checksum doesn't match"))?;
            out.extend_from_slice(slice(&decoded, start.saturating_sub(at), end.saturating_sub(at)));
            at = at.saturating_add(length);
        }
        if at < end { Err(Error::Blob(name.clone(), "too short")) } else { Ok(()) }
    }

    /// The structure of a message.
    ///
    /// # Errors
    /// [`Error::NoMessage`].
    pub fn structure(&self, id: MessageId) -> Result<Structure, Error> {
        let sql = "SELECT structure FROM message WHERE account_id = $1 AND id = $2";
        self.tx
            .query_opt(sql, params![self.account(), id], |r| Structure::decode(r.blob(0)?).map_err(|_| Error::Db(corrupt("structure"))))?
            .ok_or(Error::NoMessage)
    }

    /// What changed after a mod-sequence, in order. None if history doesn't reach back that far, or too much changed.
    ///
    /// # Errors
    /// The database failed.
    pub fn changes_since(&self, since: ModSeq) -> Result<Option<Vec<Change>>, Error> {
        let forgotten = super::core::load_state(self.tx, self.account(), false)?.forgotten;
        if since.as_i64() < forgotten {
            return Ok(None);
        }
        let mut rows = Vec::new();
        let select = "SELECT modseq, n, mailbox_id, kind, data FROM change WHERE account_id = $1";
        let mut read = |sql: &str, args: &[Param<'_>]| {
            self.tx.query(sql, args, |r| {
                let change = Change::from_row(r.int(2)?, r.int(0)?, r.int(3)?, r.blob(4)?)?;
                rows.push((r.int(0)?, r.int(1)?, change));
                Ok::<_, db::Error>(())
            })
        };
        read(&format!("{select} AND mailbox_id = 0 AND modseq > $2 ORDER BY modseq, n LIMIT $3"), params![self.account(), since, MAX_CHANGES])?;
        // Only mailboxes that changed; the history of deleted ones is of no use to anyone.
        let mut mailboxes = Vec::new();
        self.tx.query(
            "SELECT id FROM mailbox WHERE account_id = $1 AND expunged = 0 AND modseq > $2",
            params![self.account(), since],
            |r| {
                mailboxes.push(r.int(0)?);
                Ok::<_, db::Error>(())
            },
        )?;
        let sql = format!("{select} AND mailbox_id = $2 AND modseq > $3 ORDER BY modseq, n LIMIT $4");
        for id in mailboxes {
            read(&sql, params![self.account(), id, since, MAX_CHANGES])?;
        }
        if rows.len() >= usize::try_from(MAX_CHANGES).unwrap_or(0) {
            return Ok(None);
        }
        rows.sort_by_key(|r| (r.0, r.1));
        Ok(Some(rows.into_iter().map(|r| r.2).collect()))
    }

    /// The messages of a mailbox that were added or changed after a mod-sequence, whether or not they are still there, and those that
    /// were removed. None if history doesn't reach back that far.
    ///
    /// # Errors
    /// The database failed.
    pub fn changed_since(&self, mailbox: MailboxId, since: u64) -> Result<Option<(UidSet, UidSet)>, Error> {
        let forgotten = super::core::load_state(self.tx, self.account(), false)?.forgotten;
        if i64::try_from(since).unwrap_or(i64::MAX) < forgotten {
            return Ok(None);
        }
        let (mut changed, mut removed) = (UidSet::new(), UidSet::new());
        self.tx.query(
            "SELECT mailbox_id, modseq, kind, data FROM change WHERE account_id = $1 AND mailbox_id = $2 AND modseq > $3",
            params![self.account(), mailbox, since],
            |r| {
                match Change::from_row(r.int(0)?, r.int(1)?, r.int(2)?, r.blob(3)?)?.kind {
                    ChangeKind::Added(_, uids) | ChangeKind::Flags(_, uids) => changed.0 |= uids.0,
                    ChangeKind::Expunged(_, uids) => removed.0 |= uids.0,
                    ChangeKind::MailboxCreated(..)
                    | ChangeKind::MailboxRenamed(..)
                    | ChangeKind::MailboxDeleted(..)
                    | ChangeKind::SpecialUse(_)
                    | ChangeKind::Keywords(_)
                    | ChangeKind::Subscribed(_)
                    | ChangeKind::Unsubscribed(_) => {}
                }
                Ok::<_, db::Error>(())
            },
        )?;
        Ok(Some((changed, removed)))
    }

    /// Live messages of a mailbox with a canonical Message-ID.
    ///
    /// # Errors
    /// The database failed.
    pub fn by_message_id(&self, mailbox: MailboxId, message_id: &str) -> Result<UidSet, Error> {
        let mut found = UidSet::new();
        self.tx.query(
            "SELECT m.uid, m.message_id FROM message m JOIN message_state s ON s.account_id = m.account_id AND s.mailbox_id = m.mailbox_id \
             AND s.uid = m.uid WHERE m.account_id = $1 AND m.message_key = $2 AND m.mailbox_id = $3 LIMIT 1000",
            params![self.account(), super::write::message_key(message_id), mailbox],
            |r| {
                if r.opt_text(1)? == Some(message_id) {
                    found.insert(uid_of(r.int(0)?)?);
                }
                Ok::<_, db::Error>(())
            },
        )?;
        Ok(found)
    }

    /// Whether mail was sent to an address: localpart and Unicode domain.
    ///
    /// # Errors
    /// The database failed.
    pub fn has_written_to(&self, localpart: &str, domain: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM recipient WHERE account_id = $1 AND domain = $2 AND localpart = $3 LIMIT 1";
        Ok(self.tx.query_opt(sql, params![self.account(), domain, localpart], |_| Ok::<_, db::Error>(()))?.is_some())
    }
}

fn stored(r: &Row<'_>) -> Result<Stored, db::Error> {
    Ok(Stored {
        size: u64::try_from(r.int(0)?).map_err(|_| corrupt("blob"))?,
        name: r.opt_text(1)?.map(str::to_owned),
        blocks: r.opt_blob(2)?.unwrap_or_default().to_vec(),
        data: r.opt_blob(3)?.unwrap_or_default().to_vec(),
    })
}

fn slice(data: &[u8], start: u64, end: u64) -> &[u8] {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(data.len());
    data.get(at(start)..at(end)).unwrap_or_default()
}

fn uid_of(n: i64) -> Result<Uid, db::Error> {
    u32::try_from(n).ok().and_then(Uid::new).ok_or_else(|| corrupt("uid"))
}
