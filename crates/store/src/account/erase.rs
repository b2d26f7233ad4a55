//! Erasing removed messages, once no session shows them any more.
//!
//! A removed message stays readable for sessions whose view still has it (RFC 2180 §4.1). Each write transaction ends by erasing
//! some of those that no view has: rows in its own commit, files after it.

use super::core::{AccountScope, Core};
use crate::db::{self, Tx};
use crate::params;
use mox_base::MailboxId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Removed messages erased in one transaction at most.
const ERASE: i64 = 500;

impl AccountScope {
    /// Erases removed messages that no session shows any more.
    pub(super) fn erase(&self, tx: &Tx<'_>, core: &mut Core) -> Result<(), db::Error> {
        let rows: Vec<(MailboxId, i64, i64, i64, i64, bool)> = tx.query_all(
            &format!(
                "SELECT mailbox_id, uid, id, modseq, size, moved FROM expunged WHERE account_id = $1 ORDER BY mailbox_id, uid LIMIT {ERASE}"
            ),
            params![self.id],
            |r| Ok::<_, db::Error>((MailboxId(r.int(0)?), r.int(1)?, r.int(2)?, r.int(3)?, r.int(4)?, r.bool(5)?)),
        )?;
        if rows.is_empty() {
            self.erasable.store(false, Ordering::Release);
            return Ok(());
        }
        let mut shown: BTreeMap<MailboxId, Option<i64>> = BTreeMap::new();
        for (mailbox, uid, id, at, size, moved) in rows {
            let oldest = *shown.entry(mailbox).or_insert_with(|| self.oldest_shown(mailbox));
            // The newest published view is older than what this transaction itself removed.
            let held = oldest.is_some_and(|v| v < at) || self.is_newest_shown(mailbox, at);
            if held {
                continue;
            }
            tx.exec("DELETE FROM expunged WHERE account_id = $1 AND mailbox_id = $2 AND uid = $3", params![self.id, mailbox, uid])?;
            if moved {
                continue;
            }
            core.now.state.used = core.now.state.used.saturating_sub(size);
            self.erase_message(tx, core, id)?;
        }
        Ok(())
    }

    fn erase_message(&self, tx: &Tx<'_>, core: &mut Core, id: i64) -> Result<(), db::Error> {
        let blob = tx.query_opt("SELECT blob_id FROM message WHERE account_id = $1 AND id = $2", params![self.id, id], |r| r.int(0))?;
        tx.exec("DELETE FROM message WHERE account_id = $1 AND id = $2", params![self.id, id])?;
        tx.exec("DELETE FROM message_content WHERE account_id = $1 AND id = $2", params![self.id, id])?;
        tx.exec("DELETE FROM recipient WHERE account_id = $1 AND message_id = $2", params![self.id, id])?;
        let Some(blob) = blob else { return Ok(()) };
        let (refs, name) = tx.query_row("SELECT refs, name FROM blob WHERE account_id = $1 AND id = $2", params![self.id, blob], |r| {
            Ok::<_, db::Error>((r.int(0)?, r.opt_text(1)?.map(str::to_owned)))
        })?;
        if refs > 1 {
            tx.exec("UPDATE blob SET refs = refs - 1 WHERE account_id = $1 AND id = $2", params![self.id, blob])?;
            return Ok(());
        }
        tx.exec("DELETE FROM blob WHERE account_id = $1 AND id = $2", params![self.id, blob])?;
        core.unused.extend(name);
        Ok(())
    }
}
