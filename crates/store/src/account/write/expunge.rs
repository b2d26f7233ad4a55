//! Removing messages.

use super::WriteTx;
use crate::change::ChangeKind;
use crate::error::Error;
use crate::flag_modseqs;
use crate::flags::Flags;
use crate::params;
use crate::uidset::UidSet;
use mox_base::{ByteSize, MailboxId, ModSeq};
use std::sync::atomic::Ordering;

/// What removing messages did.
#[derive(Clone, Debug, PartialEq)]
pub struct Expunged {
    /// Messages that were removed.
    pub uids: UidSet,
    /// The change, if any was.
    pub modseq: Option<ModSeq>,
}

impl WriteTx<'_> {
    /// Removes those of these messages that are there and have `\Deleted`.
    ///
    /// # Errors
    /// [`Error::NoMailbox`].
    pub fn expunge_deleted(&mut self, mailbox: MailboxId, uids: &UidSet) -> Result<Expunged, Error> {
        let deleted = self.index(mailbox)?.flagged(uids, Flags::DELETED);
        self.expunge(mailbox, &deleted)
    }

    /// Removes those of these messages that are there. Sessions that still show them can still read them.
    ///
    /// # Errors
    /// [`Error::NoMailbox`].
    pub fn expunge(&mut self, mailbox: MailboxId, uids: &UidSet) -> Result<Expunged, Error> {
        let there = self.index(mailbox)?.existing(uids);
        if there.is_empty() {
            return Ok(Expunged { uids: there, modseq: None });
        }
        let modseq = self.modseq();
        self.take_out(mailbox, &there, false)?;
        self.changed(ChangeKind::Expunged(mailbox, there.clone()));
        Ok(Expunged { uids: there, modseq: Some(modseq) })
    }

    /// Takes messages out of a mailbox: rows, index, counters.
    pub(super) fn take_out(&mut self, mailbox: MailboxId, set: &UidSet, moved: bool) -> Result<(), Error> {
        let modseq = self.modseq();
        let size = self.size_of(mailbox, set)?;
        self.for_ranges(
            mailbox,
            set,
            "INSERT INTO expunged (account_id, mailbox_id, uid, id, modseq, size, received, saved, zone, blob_id, moved) \
             SELECT account_id, mailbox_id, uid, id, $5, size, received, saved, zone, blob_id, $6 FROM message_state \
             WHERE account_id = $1 AND mailbox_id = $2 AND uid BETWEEN $3 AND $4",
            "INSERT INTO expunged (account_id, mailbox_id, uid, id, modseq, size, received, saved, zone, blob_id, moved) \
             SELECT s.account_id, s.mailbox_id, s.uid, s.id, $5::bigint, s.size, s.received, s.saved, s.zone, s.blob_id, $6::bigint \
             FROM message_state s, unnest($3::bigint[], $4::bigint[]) AS r(a, b) \
             WHERE s.account_id = $1 AND s.mailbox_id = $2 AND s.uid BETWEEN r.a AND r.b",
            params![modseq, moved],
        )?;
        self.for_ranges(
            mailbox,
            set,
            "DELETE FROM message_state WHERE account_id = $1 AND mailbox_id = $2 AND uid BETWEEN $3 AND $4",
            "DELETE FROM message_state s USING unnest($3::bigint[], $4::bigint[]) AS r(a, b) \
             WHERE s.account_id = $1 AND s.mailbox_id = $2 AND s.uid BETWEEN r.a AND r.b",
            &[],
        )?;
        flag_modseqs::forget(self.tx, self.account(), mailbox, set)?;
        let tally = self.tally(mailbox, set)?;
        self.index(mailbox)?.remove(set);
        tally.take_from(self.mailbox_mut(mailbox)?, size);
        self.scope.erasable.store(true, Ordering::Release);
        Ok(())
    }

    /// Sum of the sizes of messages.
    pub(super) fn size_of(&self, mailbox: MailboxId, set: &UidSet) -> Result<ByteSize, Error> {
        let mut sum = 0i64;
        for (first, last) in set.ranges() {
            let size = self.tx.query_row(
                "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM message_state WHERE account_id = $1 AND mailbox_id = $2 AND uid BETWEEN $3 AND $4",
                params![self.account(), mailbox, first, last],
                |r| Ok::<_, Error>(r.int(0)?),
            )?;
            sum = sum.saturating_add(size);
        }
        Ok(ByteSize(u64::try_from(sum).unwrap_or(0)))
    }
}
