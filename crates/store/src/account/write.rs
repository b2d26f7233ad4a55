//! The write transaction of an account: the operations that every protocol shares.
//!
//! What it means to create a mailbox, add, copy, move, remove or flag messages is decided here and nowhere else; the
//! operations themselves are in this module's children, one file each. All that one closure does shares one mod-sequence.

mod add;
mod arrival;
mod author;
mod copy;
mod expunge;
mod file_once;
mod flag;
mod junk;
mod mailboxes;
mod template;
mod thread;

pub use add::{Added, Append, Delivery};
pub use copy::Copied;
pub use expunge::Expunged;
pub use flag::{FlagChange, FlagOp, Flagged};
pub use mailboxes::{Created, Renamed};
pub use template::{MAX_TEMPLATES, Template};

pub(crate) use add::hash as message_key;

use super::core::{AccountScope, Core};
use super::read::ReadTx;
use crate::change::{Change, ChangeKind, Origin};
use crate::db::{Sql, Tx};
use crate::error::Error;
use crate::flags::{Flags, Keyword};
use crate::index::Index;
use crate::mailbox::{Mailbox, Mailboxes, modseq};
use crate::params;
use crate::uidset::UidSet;
use mox_base::{AccountId, ByteSize, Clock, MailboxId, ModSeq, Timestamp};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Keywords of a mailbox at most.
pub const MAX_KEYWORDS: usize = 1000;

/// Ranges of UIDs handed to PostgreSQL in one statement.
const RANGES: usize = 1000;

/// A write transaction on an account.
pub struct WriteTx<'a> {
    tx: &'a Tx<'a>,
    scope: &'a AccountScope,
    core: &'a mut Core,
    clock: &'a dyn Clock,
    now: Timestamp,
    modseq: Option<ModSeq>,
    origin: Origin,
}

impl fmt::Debug for WriteTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTx").field("account", &self.scope.id).field("modseq", &self.modseq).finish_non_exhaustive()
    }
}

impl<'a> WriteTx<'a> {
    pub(crate) fn new(tx: &'a Tx<'a>, scope: &'a AccountScope, core: &'a mut Core, clock: &'a dyn Clock) -> Self {
        Self { tx, scope, core, clock, now: clock.now(), modseq: None, origin: 0 }
    }

    /// Says who makes the changes of this closure.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// The account's mailboxes, with what this transaction changed so far.
    pub fn mailboxes(&self) -> &Mailboxes {
        &self.core.now
    }

    /// A mailbox by id.
    ///
    /// # Errors
    /// There is none.
    pub fn mailbox(&self, id: MailboxId) -> Result<Arc<Mailbox>, Error> {
        self.core.now.by_id(id).cloned().ok_or(Error::NoMailbox)
    }

    /// For reading what is in the database, with what this transaction changed so far.
    pub fn reader(&self) -> ReadTx<'_> {
        ReadTx::new(self.tx, self.scope)
    }

    /// The mod-sequence of this closure's changes.
    pub fn modseq(&mut self) -> ModSeq {
        if let Some(m) = self.modseq {
            return m;
        }
        self.core.now.state.modseq = self.core.now.state.modseq.saturating_add(1);
        let m = modseq(self.core.now.state.modseq);
        self.modseq = Some(m);
        m
    }

    /// Loads a mailbox, so that its view is published with this transaction.
    pub(crate) fn touch_view(&mut self, id: MailboxId) -> Result<(), Error> {
        self.index(id).map(|_| ())
    }

    pub(crate) fn account(&self) -> AccountId {
        self.scope.id
    }

    fn changed(&mut self, kind: ChangeKind) {
        let change = Change { modseq: self.modseq(), origin: self.origin, kind };
        self.core.changes.push(Arc::new(change));
    }

    /// A mailbox for changing; its mod-sequence becomes this closure's.
    fn mailbox_mut(&mut self, id: MailboxId) -> Result<&mut Mailbox, Error> {
        let modseq = self.modseq();
        let mailbox = self.core.mailbox_mut(id)?;
        mailbox.modseq = modseq;
        Ok(mailbox)
    }

    fn index(&mut self, id: MailboxId) -> Result<&mut Index, Error> {
        self.core.now.by_id(id).ok_or(Error::NoMailbox)?;
        self.core.index(self.tx, self.scope, id)
    }

    /// Takes from the account's quota.
    fn take_space(&mut self, size: ByteSize, check: bool) -> Result<(), Error> {
        let used = self.core.now.used().0.saturating_add(size.0);
        if check && used > self.scope.quota.load(Ordering::Acquire) {
            return Err(Error::OverQuota);
        }
        self.core.now.state.used = i64::try_from(used).unwrap_or(i64::MAX);
        Ok(())
    }

    /// The indexes of keywords in a mailbox, which learns those that it doesn't know.
    fn keyword_indexes(&mut self, id: MailboxId, keywords: &[Keyword]) -> Result<Vec<u16>, Error> {
        let mailbox = self.mailbox(id)?;
        let mut indexes = Vec::with_capacity(keywords.len());
        let mut all = mailbox.keywords.to_vec();
        for keyword in keywords {
            let at = match all.iter().position(|k| k == keyword) {
                Some(at) => at,
                None => {
                    all.push(keyword.clone());
                    all.len().saturating_sub(1)
                }
            };
            indexes.push(u16::try_from(at).map_err(|_| Error::TooManyKeywords)?);
        }
        if all.len() > mailbox.keywords.len() {
            if all.len() > MAX_KEYWORDS {
                return Err(Error::TooManyKeywords);
            }
            self.mailbox_mut(id)?.keywords = all.into();
            self.changed(ChangeKind::Keywords(id));
        }
        indexes.sort_unstable();
        indexes.dedup();
        Ok(indexes)
    }

    /// Runs a statement for each range of a set. `sqlite` has `$3` and `$4` as the ends of a range; `postgres` has arrays of
    /// ends there, usually as `unnest($3::bigint[], $4::bigint[]) AS r(a, b)`. `$1` is the account, `$2` the mailbox, and
    /// further parameters follow from `$5`.
    fn for_ranges(
        &self,
        mailbox: MailboxId,
        set: &UidSet,
        sqlite: &str,
        postgres: &str,
        more: &[crate::db::Param<'_>],
    ) -> Result<u64, Error> {
        let mut rows = 0u64;
        if !self.tx.is_postgres() {
            for (first, last) in set.ranges() {
                let mut all = params![self.account(), mailbox, first, last].to_vec();
                all.extend_from_slice(more);
                rows = rows.saturating_add(self.tx.exec(Sql { sqlite, postgres }, &all)?);
            }
            return Ok(rows);
        }
        let ranges: Vec<(u32, u32)> = set.ranges().collect();
        for some in ranges.chunks(RANGES) {
            let first: Vec<i64> = some.iter().map(|r| r.0.into()).collect();
            let last: Vec<i64> = some.iter().map(|r| r.1.into()).collect();
            let mut all = params![self.account(), mailbox, first.as_slice(), last.as_slice()].to_vec();
            all.extend_from_slice(more);
            rows = rows.saturating_add(self.tx.exec(Sql { sqlite, postgres }, &all)?);
        }
        Ok(rows)
    }

    /// Counts messages of `set` with these flags into or out of a mailbox.
    fn tally(&mut self, id: MailboxId, set: &UidSet) -> Result<Tally, Error> {
        let index = self.index(id)?;
        let seen = index.flagged(set, Flags::SEEN);
        let deleted = index.flagged(set, Flags::DELETED);
        let either = &seen | &deleted;
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let all = index.existing(set).len();
        Ok(Tally {
            messages: number(all),
            deleted: number(deleted.len()),
            unseen: number(all.saturating_sub(seen.len())),
            unread: number(all.saturating_sub(either.len())),
        })
    }
}

/// Numbers of messages, as in a mailbox' counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    messages: u32,
    deleted: u32,
    unseen: u32,
    unread: u32,
}

impl Tally {
    fn of(flags: Flags) -> Self {
        let (seen, deleted) = (flags.has(Flags::SEEN), flags.has(Flags::DELETED));
        Self { messages: 1, deleted: deleted.into(), unseen: (!seen).into(), unread: (!seen && !deleted).into() }
    }

    fn add_to(self, mailbox: &mut Mailbox, size: ByteSize) {
        let c = &mut mailbox.counts;
        c.messages = c.messages.saturating_add(self.messages);
        c.deleted = c.deleted.saturating_add(self.deleted);
        c.unseen = c.unseen.saturating_add(self.unseen);
        c.unread = c.unread.saturating_add(self.unread);
        c.size = ByteSize(c.size.0.saturating_add(size.0));
    }

    fn take_from(self, mailbox: &mut Mailbox, size: ByteSize) {
        let c = &mut mailbox.counts;
        c.messages = c.messages.saturating_sub(self.messages);
        c.deleted = c.deleted.saturating_sub(self.deleted);
        c.unseen = c.unseen.saturating_sub(self.unseen);
        c.unread = c.unread.saturating_sub(self.unread);
        c.size = ByteSize(c.size.0.saturating_sub(size.0));
    }
}
