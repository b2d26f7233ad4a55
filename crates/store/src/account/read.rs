//! Reading an account's messages on a snapshot.

use super::bytes::Stored;
use super::core::AccountScope;
use crate::db::{self, Row, Sql, Tx};
use crate::error::{Error, corrupt};
use crate::flag_modseqs::FlagModSeqs;
use crate::mailbox::modseq;
use crate::params;
use crate::uidset::UidSet;
use mox_base::{AccountId, ByteSize, MailboxId, MessageId, ModSeq, Timestamp, Uid};
use mox_message::Structure;
use std::fmt;
use std::ops::BitOr;

/// Rows that PostgreSQL hands over at a time, and how many of them with messages' bytes.
const BATCH: i64 = 500;
const BATCH_BYTES: i64 = 16;

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
    /// [`MessageRow::append_bytes`].
    pub const BYTES: Self = Self(64);
    /// [`MessageRow::modseq`].
    pub const MODSEQ: Self = Self(128);

    // BYTES last: it is more than one column.
    const NAMES: [(Self, &'static str); 7] = [
        (Self::ENVELOPE, "m.envelope"),
        (Self::BODYSTRUCTURE, "m.bodystructure"),
        (Self::HEADERS, "c.headers"),
        (Self::STRUCTURE, "c.structure"),
        (Self::PREVIEW, "c.preview"),
        (Self::THREAD, "m.thread_id"),
        (Self::BYTES, "b.size, b.name, b.blocks, b.data"),
    ];
    /// Those of `message`, of `message_content`, and of `blob`. Of that the state knows the id, so that the large row of the message isn't
    /// read for it; but not in rows of earlier versions.
    const TABLES: [(Self, &'static str); 3] = [
        (Self(1 | 2 | 32), " JOIN message m ON m.account_id = s.account_id AND m.id = s.id"),
        (Self(4 | 8 | 16), " JOIN message_content c ON c.account_id = s.account_id AND c.id = s.id"),
        (
            Self::BYTES,
            " JOIN blob b ON b.account_id = s.account_id AND b.id = COALESCE(s.blob_id, \
             (SELECT o.blob_id FROM message o WHERE o.account_id = s.account_id AND o.id = s.id))",
        ),
    ];

    /// Whether these are among them.
    pub const fn has(self, other: Self) -> bool {
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
    flagged: &'r FlagModSeqs,
}

/// Columns that every row has.
const STATE: &str = "s.uid, s.id, s.modseq, s.size, s.received, s.saved, s.zone";
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

    /// Its last change.
    ///
    /// # Errors
    /// As above, or the column wasn't asked for.
    pub fn modseq(&self) -> Result<ModSeq, db::Error> {
        if !self.columns.has(Columns::MODSEQ) {
            return Err(corrupt("a column that wasn't asked for"));
        }
        // Where flags were changed, the row has when the message came.
        let came = self.row.int(2)?;
        Ok(modseq(self.flagged.modseq(self.uid).unwrap_or(came)))
    }

    /// RFC822.SIZE.
    ///
    /// # Errors
    /// As above.
    pub fn size(&self) -> Result<ByteSize, db::Error> {
        Ok(ByteSize(u64::try_from(self.row.int(3)?).unwrap_or(0)))
    }

    /// INTERNALDATE.
    ///
    /// # Errors
    /// As above.
    pub fn received(&self) -> Result<Timestamp, db::Error> {
        self.row.int(4).map(Timestamp::from_micros)
    }

    /// The zone that INTERNALDATE was given in, in minutes east of UTC.
    ///
    /// # Errors
    /// As above.
    pub fn zone(&self) -> Result<i16, db::Error> {
        Ok(self.row.opt_int(6)?.and_then(|m| i16::try_from(m).ok()).unwrap_or(0))
    }

    /// When it came into this mailbox, RFC 8514.
    ///
    /// # Errors
    /// As above.
    pub fn saved(&self) -> Result<Option<Timestamp>, db::Error> {
        Ok(self.row.opt_int(5)?.map(Timestamp::from_micros))
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

    pub(super) fn stored(&self) -> Result<Stored<'_>, db::Error> {
        Stored::of(self.row, self.at(Columns::BYTES)?)
    }

    /// Its thread: the id of the first message in it.
    ///
    /// # Errors
    /// As above.
    pub fn thread_id(&self) -> Result<MessageId, db::Error> {
        self.row.int(self.at(Columns::THREAD)?).map(MessageId)
    }
}

/// Reading an account.
pub struct ReadTx<'a> {
    pub(super) tx: &'a Tx<'a>,
    pub(super) scope: &'a AccountScope,
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

    pub(super) fn account(&self) -> AccountId {
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
        if !columns.has(Columns::MODSEQ) {
            return self.fetch_with(mailbox, uids, columns, &FlagModSeqs::default(), &mut each);
        }
        // A part at a time, for which it is known when flags changed.
        let mut rest = uids.clone();
        while let Some(first) = rest.first() {
            let Some(last) = rest.last() else { break };
            let (flagged, end) = FlagModSeqs::load(self.tx, self.account(), mailbox, first, last)?;
            let part = UidSet(rest.within(first.get()..=end.get()));
            rest = &rest - &part;
            if let Some(stopped) = self.fetch_with(mailbox, &part, columns, &flagged, &mut each)? {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    fn fetch_with<E: From<db::Error>>(
        &self,
        mailbox: MailboxId,
        uids: &UidSet,
        columns: Columns,
        flagged: &FlagModSeqs,
        each: &mut impl FnMut(&MessageRow<'_>) -> Result<bool, E>,
    ) -> Result<Option<Uid>, E> {
        let mut each = |row: &Row<'_>, uid| each(&MessageRow { row, columns, uid, flagged });
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
        each: &mut impl FnMut(&Row<'_>, Uid) -> Result<bool, E>,
    ) -> Result<Option<Uid>, E> {
        if uids.is_empty() {
            return Ok(None);
        }
        let wanted: String = Columns::NAMES.iter().filter(|(c, _)| columns.has(*c)).map(|(_, name)| format!(", {name}")).collect();
        let join: String = Columns::TABLES.iter().filter(|(c, _)| columns.0 & c.0 != 0).map(|(_, join)| *join).collect();
        let sqlite = format!(
            "SELECT {STATE}{wanted} FROM {table} s{join} WHERE s.account_id = $1 AND s.mailbox_id = $2 AND s.uid BETWEEN $3 AND $4 ORDER BY s.uid"
        );
        let mut stopped = None;
        let mut last = None;
        let mut row = |r: &Row<'_>| {
            let uid = uid_of(r.int(0)?)?;
            last = Some(uid);
            let more = each(r, uid)?;
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
        let batch = if columns.has(Columns::BYTES) { BATCH_BYTES } else { BATCH };
        let postgres = format!(
            "SELECT {STATE}{wanted} FROM unnest($3::bigint[], $4::bigint[]) AS r(a, b) JOIN {table} s ON s.account_id = $1 AND s.mailbox_id = $2 \
             AND s.uid BETWEEN r.a AND r.b{join} ORDER BY s.uid LIMIT {batch}"
        );
        let sql = Sql { sqlite: &sqlite, postgres: &postgres };
        let mut rest = uids;
        loop {
            let some: Vec<(u32, u32)> = rest.ranges().take(usize::try_from(batch).unwrap_or(0)).collect();
            let Some(end) = some.last().map(|r| r.1) else { return Ok(stopped) };
            let first: Vec<i64> = some.iter().map(|r| r.0.into()).collect();
            let to: Vec<i64> = some.iter().map(|r| r.1.into()).collect();
            let (mut rows, mut more, mut reached) = (0i64, true, 0u32);
            self.tx.query_while(sql, params![self.account(), mailbox, first.as_slice(), to.as_slice()], |r| {
                rows = rows.saturating_add(1);
                reached = u32::try_from(r.int(0)?).unwrap_or(u32::MAX);
                more = row(r)?;
                Ok::<_, E>(more)
            })?;
            if !more {
                return Ok(stopped);
            }
            let done = if rows < batch { end } else { reached };
            let Some(next) = done.checked_add(1).and_then(Uid::new) else { return Ok(stopped) };
            rest = rest.starting_at(next);
        }
    }

    /// The structure of a message.
    ///
    /// # Errors
    /// [`Error::NoMessage`].
    pub fn structure(&self, id: MessageId) -> Result<Structure, Error> {
        let sql = "SELECT structure FROM message_content WHERE account_id = $1 AND id = $2";
        self.tx
            .query_opt(sql, params![self.account(), id], |r| Structure::decode(r.blob(0)?).map_err(|_| Error::Db(corrupt("structure"))))?
            .ok_or(Error::NoMessage)
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

fn uid_of(n: i64) -> Result<Uid, db::Error> {
    u32::try_from(n).ok().and_then(Uid::new).ok_or_else(|| corrupt("uid"))
}
