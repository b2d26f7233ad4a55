//! Everything that must always hold for an account, verified from scratch.
//!
//! Counters are recounted, bitmaps compared with rows, blobs decompressed. It reads the whole account on one snapshot; tests run it
//! whenever they are done with a store, `verifydata` for administrators.

use crate::account::{Account, ReadTx, load_mailboxes, load_state};
use crate::db::{self, Tx};
use crate::error::Error;
use crate::flag_modseqs::FlagModSeqs;
use crate::index::Index;
use crate::mailbox::{Counts, Mailbox, Mailboxes, SpecialUse, State};
use crate::params;
use crate::uidset::UidSet;
use crate::{Flags, blob::BlobStore};
use mox_base::{AccountId, BlobId, ByteSize, MailboxId, Uid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Problems listed at most.
const MAX_PROBLEMS: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Live messages.
    pub messages: u64,
    /// Removed messages that aren't erased yet.
    pub removed: u64,
    /// Changes that history has.
    pub changes: u64,
    /// Deliveries into several accounts that are noted here.
    pub filed: u64,
    /// Messages that somebody is still to be told of.
    pub arrivals: u64,
    /// What doesn't hold; empty if all is well.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Account {
    /// Verifies that everything holds that must. Files of messages that are just being added count as orphans: nothing else should
    /// be going on.
    ///
    /// # Errors
    /// The database failed. What is wrong with the data is in the report.
    pub async fn check(&self) -> Result<Report, Error> {
        let scope = Arc::clone(self.database().scope());
        let published = self.mailboxes();
        self.database()
            .read(move |tx| {
                let reader = ReadTx::new(tx, &scope);
                let mut check = Check { tx, reader: &reader, account: scope.id, report: Report::default() };
                check.all(&published, &*scope.blobs)?;
                Ok(check.report)
            })
            .await
    }
}

struct Check<'a> {
    tx: &'a Tx<'a>,
    reader: &'a ReadTx<'a>,
    account: AccountId,
    report: Report,
}

/// Where a message's row says it is: mailbox, UID, blob.
type Place = (i64, i64, i64);

impl Check<'_> {
    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds && self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(problem());
        }
    }

    fn all(&mut self, published: &Mailboxes, blobs: &dyn BlobStore) -> Result<(), Error> {
        let state = load_state(self.tx, self.account, false)?;
        let mailboxes = load_mailboxes(self.tx, self.account, state)?;
        self.published(&mailboxes, published);
        self.tree(&mailboxes);
        let mut places = self.places()?;
        let sizes = self.blobs(blobs, &places)?;
        let mut used = 0i64;
        for mailbox in &*mailboxes.all {
            used = used.saturating_add(self.mailbox(mailbox, &state, &mut places, &sizes)?);
        }
        used = used.saturating_add(self.removed(&mut places)?);
        for id in places.keys().take(MAX_PROBLEMS).copied().collect::<Vec<_>>() {
            self.expect(false, || format!("message {id} is in no mailbox"));
        }
        self.expect(used == state.used, || format!("{} bytes used, but counted {used}", state.used));
        self.strays(&mailboxes)?;
        let contents =
            "SELECT COUNT(*) FROM message_content c JOIN message m ON m.account_id = c.account_id AND m.id = c.id WHERE c.account_id = $1";
        let [messages, contents_all, both] = [
            self.number("SELECT COUNT(*) FROM message WHERE account_id = $1")?,
            self.number("SELECT COUNT(*) FROM message_content WHERE account_id = $1")?,
            self.number(contents)?,
        ];
        self.expect(messages == contents_all && messages == both, || {
            format!("{messages} messages, {contents_all} contents, {both} together")
        });
        self.history(&state)?;
        self.notes(&state)
    }

    /// History ends with the last change, and what was forgotten of it is old.
    fn history(&mut self, state: &State) -> Result<(), Error> {
        let last = self.number("SELECT COALESCE(MAX(modseq), 0) FROM change WHERE account_id = $1")?;
        self.expect(last <= state.modseq, || format!("a change at {last}, after the last at {}", state.modseq));
        self.expect(state.forgotten <= state.modseq, || {
            format!("history forgotten up to {}, but it ends at {}", state.forgotten, state.modseq)
        });
        let strays = "SELECT COUNT(*) FROM change c WHERE c.account_id = $1 AND c.mailbox_id <> 0 AND NOT EXISTS \
                      (SELECT 1 FROM mailbox m WHERE m.account_id = c.account_id AND m.id = c.mailbox_id)";
        let strays = self.number(strays)?;
        self.expect(strays == 0, || format!("{strays} changes of mailboxes that never were"));
        let notes =
            self.tx.query_all("SELECT modseq FROM history_note WHERE account_id = $1 ORDER BY day", params![self.account], |r| r.int(0))?;
        self.expect(notes.is_sorted() && notes.last().is_none_or(|n| *n <= state.modseq), || format!("notes of history at {notes:?}"));
        self.report.changes = self.count("SELECT COUNT(*) FROM change WHERE account_id = $1")?;
        Ok(())
    }

    /// What is noted beside messages belongs to them.
    fn notes(&mut self, state: &State) -> Result<(), Error> {
        let recipients = "SELECT COUNT(*) FROM recipient r WHERE r.account_id = $1 AND NOT EXISTS \
                          (SELECT 1 FROM message m WHERE m.account_id = r.account_id AND m.id = r.message_id)";
        let recipients = self.number(recipients)?;
        self.expect(recipients == 0, || format!("{recipients} recipients of messages that aren't there"));
        let mut gaps = Vec::new();
        let keywords =
            "SELECT mailbox_id FROM keyword WHERE account_id = $1 GROUP BY mailbox_id HAVING COUNT(*) <> MAX(idx) + 1 OR MIN(idx) <> 0";
        self.tx.query(keywords, params![self.account], |r| {
            gaps.push(r.int(0)?);
            Ok::<_, db::Error>(())
        })?;
        self.expect(gaps.is_empty(), || format!("keywords of mailboxes {gaps:?} have gaps"));
        let filed = self.number("SELECT COUNT(*) FROM filed WHERE account_id = $1 AND (filing <= 0 OR recipient = '')")?;
        self.expect(filed == 0, || format!("{filed} notes of deliveries without number or recipient"));
        let newest = self.number("SELECT COALESCE(MAX(message_id), 0) FROM arrival WHERE account_id = $1")?;
        self.expect(newest < state.next_message, || format!("an arrival of message {newest}, which wasn't given out"));
        self.report.filed = self.count("SELECT COUNT(*) FROM filed WHERE account_id = $1")?;
        self.report.arrivals = self.count("SELECT COUNT(*) FROM arrival WHERE account_id = $1")?;
        Ok(())
    }

    fn count(&self, sql: &str) -> Result<u64, Error> {
        Ok(u64::try_from(self.number(sql)?).unwrap_or(0))
    }

    fn number(&self, sql: &str) -> Result<i64, Error> {
        self.tx.query_row(sql, params![self.account], |r| Ok(r.int(0)?))
    }

    /// What sessions see is what is stored.
    fn published(&mut self, stored: &Mailboxes, published: &Mailboxes) {
        if stored.state != published.state {
            // A commit whose outcome wasn't known; the next write reads everything again.
            return;
        }
        self.expect(stored.all == published.all, || "published mailboxes aren't the stored ones".to_owned());
        self.expect(stored.names == published.names, || "published names aren't the stored ones".to_owned());
        self.expect(stored.subscriptions == published.subscriptions, || "published subscriptions aren't the stored ones".to_owned());
    }

    fn tree(&mut self, mailboxes: &Mailboxes) {
        self.expect(mailboxes.names.len() == mailboxes.all.len(), || "two mailboxes have one name".to_owned());
        self.expect(mailboxes.by_name("Inbox").is_some(), || "no Inbox".to_owned());
        let mut roles = SpecialUse::NONE;
        for m in &*mailboxes.all {
            let parent = m.name.parent().map(|p| mailboxes.by_name(p.as_str()).map(|p| p.id));
            self.expect(parent.is_none_or(|p| p.is_some()) && parent.flatten() == m.parent, || format!("{}: wrong parent", m.name));
            self.expect((roles & m.special_use).is_empty(), || format!("{}: role given twice", m.name));
            roles = roles | m.special_use;
            let next = mailboxes.state.next_uidvalidity;
            self.expect(i64::from(m.uidvalidity.get()) < next, || format!("{}: UIDVALIDITY {} not below {next}", m.name, m.uidvalidity));
            self.expect(m.create_seq <= m.modseq && m.modseq <= mailboxes.modseq(), || format!("{}: modseq out of order", m.name));
            self.expect(m.id.0 < mailboxes.state.next_mailbox, || format!("{}: id {} not given out", m.name, m.id));
        }
    }

    fn places(&mut self) -> Result<BTreeMap<i64, Place>, Error> {
        let mut places = BTreeMap::new();
        let mut lost = 0u32;
        self.tx.query("SELECT id, mailbox_id, uid, blob_id, thread_id FROM message WHERE account_id = $1", params![self.account], |r| {
            places.insert(r.int(0)?, (r.int(1)?, r.int(2)?, r.int(3)?));
            lost = lost.saturating_add(u32::from(r.int(4)? <= 0));
            Ok::<_, db::Error>(())
        })?;
        self.expect(lost == 0, || format!("{lost} messages without thread"));
        Ok(places)
    }

    /// Each blob is whole and counts its messages; there are no other files. The blobs' sizes.
    fn blobs(&mut self, blobs: &dyn BlobStore, places: &BTreeMap<i64, Place>) -> Result<BTreeMap<i64, i64>, Error> {
        let mut users: BTreeMap<i64, i64> = BTreeMap::new();
        for (_, _, blob) in places.values() {
            let n = users.entry(*blob).or_default();
            *n = n.saturating_add(1);
        }
        let rows = self.tx.query_all("SELECT id, refs, size, name FROM blob WHERE account_id = $1", params![self.account], |r| {
            Ok::<_, db::Error>((r.int(0)?, r.int(1)?, r.int(2)?, r.opt_text(3)?.map(str::to_owned)))
        })?;
        let mut sizes = BTreeMap::new();
        let mut files = BTreeSet::new();
        let mut bytes = Vec::new();
        for (id, refs, size, name) in rows {
            let counted = users.remove(&id).unwrap_or(0);
            self.expect(refs == counted, || format!("blob {id} has {refs} references, but {counted} messages"));
            bytes.clear();
            match self.reader.blob_bytes(BlobId(id), &mut bytes) {
                Ok(()) => self.expect(i64::try_from(bytes.len()) == Ok(size), || format!("blob {id} isn't {size} bytes")),
                Err(e) => self.expect(false, || format!("blob {id}: {e}")),
            }
            files.extend(name);
            sizes.insert(id, size);
        }
        for id in users.keys().copied().collect::<Vec<_>>() {
            self.expect(false, || format!("blob {id} is missing"));
        }
        for (file, _) in blobs.list()? {
            self.expect(files.contains(&file), || format!("file {file} belongs to no blob"));
        }
        Ok(sizes)
    }

    /// One mailbox: its rows, in order, against its index and counters. The sum of sizes.
    fn mailbox(&mut self, m: &Mailbox, state: &State, places: &mut BTreeMap<i64, Place>, sizes: &BTreeMap<i64, i64>) -> Result<i64, Error> {
        let index = Index::load(self.tx, self.account, m.id)?;
        let rows = self.tx.query_all(
            "SELECT uid, id, modseq, size, blob_id FROM message_state WHERE account_id = $1 AND mailbox_id = $2 ORDER BY uid",
            params![self.account, m.id],
            |r| Ok::<_, db::Error>((r.int(0)?, r.int(1)?, r.int(2)?, r.int(3)?, r.opt_int(4)?)),
        )?;
        let mut counts = Counts::default();
        let mut total = 0i64;
        let mut uids = UidSet::new();
        for (uid, id, modseq, size, bytes) in rows {
            let name = &m.name;
            self.expect(uid >= 1 && uid < i64::from(m.uidnext.get()), || format!("{name}: UID {uid} not below {}", m.uidnext));
            self.expect(modseq <= m.modseq.as_i64(), || format!("{name}: UID {uid} changed after its mailbox"));
            self.expect(id < state.next_message, || format!("{name}: UID {uid} has id {id}, which wasn't given out"));
            let place = places.remove(&id);
            let blob = place.and_then(|p| sizes.get(&p.2).copied());
            self.expect(place.is_some_and(|p| (p.0, p.1) == (m.id.0, uid)), || format!("{name}: UID {uid} isn't where message {id} is"));
            // Rows of earlier versions don't know.
            let same = bytes.is_none() || bytes == place.map(|p| p.2);
            self.expect(same, || format!("{name}: UID {uid} has its bytes in blob {bytes:?}, the message {place:?}"));
            self.expect(blob == Some(size), || format!("{name}: UID {uid} has {size} bytes, its blob {blob:?}"));
            let number = u32::try_from(uid).unwrap_or(0);
            uids.0.insert(number);
            let (flags, keywords) = index.flags(number);
            self.expect(keywords.iter().all(|k| usize::from(*k) < m.keywords.len()), || format!("{name}: UID {uid} has unknown keywords"));
            let (seen, deleted) = (flags.has(Flags::SEEN), flags.has(Flags::DELETED));
            counts.messages = counts.messages.saturating_add(1);
            counts.deleted = counts.deleted.saturating_add(deleted.into());
            counts.unseen = counts.unseen.saturating_add((!seen).into());
            counts.unread = counts.unread.saturating_add((!seen && !deleted).into());
            counts.size = ByteSize(counts.size.0.saturating_add(u64::try_from(size).unwrap_or(0)));
            total = total.saturating_add(size);
        }
        let all = UidSet::from_ranges([(1, u32::MAX)]);
        self.expect(index.existing(&all) == uids, || format!("{}: the index has other UIDs", m.name));
        let strays = index.strays();
        self.expect(strays.is_empty(), || format!("{}: flags in the index of {strays:?}, which aren't there", m.name));
        let mut next = Some(Uid::FIRST);
        while let Some(from) = next {
            let (flagged, end) = FlagModSeqs::load(self.tx, self.account, m.id, from, Uid::MAX)?;
            let (changed, last) = flagged.all();
            self.expect((&changed - &uids).is_empty(), || format!("{}: flags changed of messages that aren't there", m.name));
            self.expect(last <= m.modseq.as_i64(), || format!("{}: flags changed after their mailbox", m.name));
            next = end.next();
        }
        self.expect(counts == m.counts, || format!("{}: counters are {:?}, counted {counts:?}", m.name, m.counts));
        self.report.messages = self.report.messages.saturating_add(counts.messages.into());
        Ok(total)
    }

    /// Removed messages: those that weren't moved are still there. The sum of their sizes.
    fn removed(&mut self, places: &mut BTreeMap<i64, Place>) -> Result<i64, Error> {
        let rows =
            self.tx.query_all("SELECT id, size, moved, blob_id FROM expunged WHERE account_id = $1", params![self.account], |r| {
                Ok::<_, db::Error>((r.int(0)?, r.int(1)?, r.bool(2)?, r.opt_int(3)?))
            })?;
        let mut total = 0i64;
        for (id, size, moved, bytes) in rows {
            if !moved {
                let place = places.remove(&id);
                self.expect(bytes.is_none() || bytes == place.map(|p| p.2), || format!("removed message {id} has other bytes"));
                self.expect(place.is_some(), || format!("removed message {id} is gone before it was erased"));
                total = total.saturating_add(size);
                self.report.removed = self.report.removed.saturating_add(1);
            }
        }
        Ok(total)
    }

    /// Rows of mailboxes that aren't there.
    fn strays(&mut self, mailboxes: &Mailboxes) -> Result<(), Error> {
        for table in ["message_state", "mailbox_bitmap", "flag_modseqs"] {
            let mut ids = Vec::new();
            let sql = format!("SELECT DISTINCT mailbox_id FROM {table} WHERE account_id = $1");
            self.tx.query(&sql, params![self.account], |r| {
                ids.push(MailboxId(r.int(0)?));
                Ok::<_, db::Error>(())
            })?;
            for id in ids {
                self.expect(mailboxes.by_id(id).is_some(), || format!("{table} has rows of mailbox {id}, which isn't there"));
            }
        }
        Ok(())
    }
}
