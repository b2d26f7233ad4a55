//! Reading what changed.

use super::read::ReadTx;
use super::rows::load_state;
use crate::change::{Change, ChangeKind};
use crate::db::{self, Param};
use crate::error::Error;
use crate::params;
use crate::uidset::UidSet;
use mox_base::{MailboxId, ModSeq};

/// Changes read from history at most; who is further behind has to look at everything again.
const MAX_CHANGES: i64 = 10_000;

impl ReadTx<'_> {
    /// What changed after a mod-sequence, in order. None if history doesn't reach back that far, or too much changed.
    ///
    /// # Errors
    /// The database failed.
    pub fn changes_since(&self, since: ModSeq) -> Result<Option<Vec<Change>>, Error> {
        let forgotten = load_state(self.tx, self.account(), false)?.forgotten;
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
        read(
            &format!("{select} AND mailbox_id = 0 AND modseq > $2 ORDER BY modseq, n LIMIT {MAX_CHANGES}"),
            params![self.account(), since],
        )?;
        // Only mailboxes that changed; the history of deleted ones is of no use to anyone.
        let mailboxes = self.tx.query_all(
            "SELECT id FROM mailbox WHERE account_id = $1 AND expunged = 0 AND modseq > $2",
            params![self.account(), since],
            |r| r.int(0),
        )?;
        let sql = format!("{select} AND mailbox_id = $2 AND modseq > $3 ORDER BY modseq, n LIMIT {MAX_CHANGES}");
        for id in mailboxes {
            read(&sql, params![self.account(), id, since])?;
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
        let forgotten = load_state(self.tx, self.account(), false)?.forgotten;
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
}
