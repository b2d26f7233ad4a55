//! What an account's write transaction works on, and what is published after it.
//!
//! [`Core`] is the working state: mailboxes and the indexes of those that were touched. Closures change it and message rows;
//! everything else is written once, before the commit, by comparing it with the state that the transaction began with.
//! After the commit it becomes the published state. Undoing a closure is going back to a clone from before it.

use crate::blob::BlobStore;
use crate::change::Change;
use crate::db::{self, Scope, Tx};
use crate::error::{Error, corrupt};
use crate::flags::Keyword;
use crate::index::Index;
use crate::mailbox::{Counts, Mailbox, Mailboxes, SpecialUse, State, modseq};
use crate::name::MailboxName;
use crate::params;
use crate::prepare::{Blob, Prepared};
use crate::view::View;
use mox_base::{AccountId, ByteSize, MailboxId, Uid, UidValidity};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::broadcast;

/// Groups of changes that wait for a slow session; one that falls further behind re-reads.
const NOTICES: usize = 64;

/// Views kept although nobody looks, so that the next delivery or SELECT finds them.
const VIEWS_KEPT: usize = 64;

/// Removed messages erased in one transaction at most.
const ERASE: i64 = 500;

/// Changes that were committed together.
pub(crate) type Notice = Arc<[Change]>;

/// The part of an account that outlives its transactions.
pub(crate) struct AccountScope {
    pub(crate) id: AccountId,
    pub(crate) blobs: Arc<dyn BlobStore>,
    /// Bytes the account may use, `u64::MAX` for no limit.
    pub(crate) quota: AtomicU64,
    /// There may be removed messages to be erased.
    pub(crate) erasable: AtomicBool,
    notices: broadcast::Sender<Notice>,
    published: Mutex<Published>,
}

impl fmt::Debug for AccountScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountScope").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Published {
    mailboxes: Arc<Mailboxes>,
    /// Nothing was read yet, or a commit failed: the next transaction reads everything.
    stale: bool,
    views: BTreeMap<MailboxId, Views>,
}

/// The newest view of a mailbox, and those that sessions still hold.
#[derive(Debug)]
struct Views {
    newest: Arc<View>,
    older: Vec<Weak<View>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AccountScope {
    pub(crate) fn new(id: AccountId, blobs: Arc<dyn BlobStore>) -> Self {
        Self {
            id,
            blobs,
            quota: AtomicU64::new(u64::MAX),
            erasable: AtomicBool::new(true),
            notices: broadcast::channel(NOTICES).0,
            published: Mutex::new(Published { mailboxes: Arc::new(Mailboxes::none()), stale: true, views: BTreeMap::new() }),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    pub(crate) fn mailboxes(&self) -> Arc<Mailboxes> {
        Arc::clone(&lock(&self.published).mailboxes)
    }

    /// What is published, if it is what the database has.
    fn current(&self, state: &State) -> Option<Arc<Mailboxes>> {
        let published = lock(&self.published);
        (!published.stale && published.mailboxes.state == *state).then(|| Arc::clone(&published.mailboxes))
    }

    /// The newest view, if it is at hand.
    pub(crate) fn view(&self, id: MailboxId) -> Option<Arc<View>> {
        lock(&self.published).views.get(&id).map(|v| Arc::clone(&v.newest))
    }

    /// Offers a view that was loaded from a snapshot; none if the mailbox has changed meanwhile.
    pub(crate) fn offer(&self, mailbox: &Mailbox, index: Index) -> Option<Arc<View>> {
        let mut published = lock(&self.published);
        let current = Arc::clone(published.mailboxes.by_id(mailbox.id)?);
        if *current != *mailbox {
            return None;
        }
        if let Some(views) = published.views.get(&mailbox.id) {
            return Some(Arc::clone(&views.newest));
        }
        let view = Arc::new(View::new(current, index));
        published.views.insert(mailbox.id, Views { newest: Arc::clone(&view), older: Vec::new() });
        Some(view)
    }

    /// The oldest version of a mailbox that a session still shows.
    fn oldest_shown(&self, id: MailboxId) -> Option<i64> {
        let published = lock(&self.published);
        let older = published.views.get(&id)?.older.iter().filter_map(Weak::upgrade);
        older.map(|v| v.modseq().as_i64()).min()
    }

    /// Forgets views that nobody holds, beyond the number that is kept.
    fn trim(published: &mut Published) {
        let over = published.views.len().saturating_sub(VIEWS_KEPT);
        if over > 0 {
            let unused: Vec<MailboxId> = published
                .views
                .iter()
                .filter(|(_, v)| Arc::strong_count(&v.newest) == 1 && v.older.is_empty())
                .map(|(id, _)| *id)
                .take(over)
                .collect();
            for id in unused {
                published.views.remove(&id);
            }
        }
    }
}

/// The working state of a write transaction.
#[derive(Clone, Debug)]
pub struct Core {
    /// As it was when the transaction began.
    base: Arc<Mailboxes>,
    pub(crate) now: Mailboxes,
    indexes: BTreeMap<MailboxId, Touched>,
    pub(crate) changes: Vec<Arc<Change>>,
    /// Messages whose files now belong to rows.
    pub(crate) added: Vec<Prepared>,
    /// Blobs' files that no row refers to any more.
    pub(crate) unused: Vec<String>,
    /// The state was read from the database again, for it had been changed by another process, or a commit had failed.
    reloaded: bool,
}

#[derive(Clone, Debug)]
struct Touched {
    base: Index,
    now: Index,
}

impl Core {
    /// The index of a mailbox, loaded when first touched.
    pub(crate) fn index(&mut self, tx: &Tx<'_>, scope: &AccountScope, id: MailboxId) -> Result<&mut Index, Error> {
        if !self.indexes.contains_key(&id) {
            let base = match scope.view(id).filter(|_| !self.reloaded) {
                Some(view) => view.index().clone(),
                None => Index::load(tx, scope.id, id)?,
            };
            self.indexes.insert(id, Touched { now: base.clone(), base });
        }
        self.indexes.get_mut(&id).map(|t| &mut t.now).ok_or(Error::NoMailbox)
    }

    pub(crate) fn new_index(&mut self, id: MailboxId) {
        self.indexes.insert(id, Touched { base: Index::default(), now: Index::default() });
    }

    /// A mailbox for changing.
    pub(crate) fn mailbox_mut(&mut self, id: MailboxId) -> Result<&mut Mailbox, Error> {
        let at = self.now.position(id).map_err(|_| Error::NoMailbox)?;
        Arc::make_mut(&mut self.now.all).get_mut(at).map(Arc::make_mut).ok_or(Error::NoMailbox)
    }
}

impl Scope for AccountScope {
    type Ctx = Core;

    fn begin(&self, tx: &Tx<'_>) -> Result<Core, db::Error> {
        let state = load_state(tx, self.id, true)?;
        let published = self.current(&state);
        let reloaded = published.is_none();
        let base = match published {
            Some(mailboxes) => mailboxes,
            None => Arc::new(load_mailboxes(tx, self.id, state)?),
        };
        Ok(Core {
            now: (*base).clone(),
            base,
            indexes: BTreeMap::new(),
            changes: Vec::new(),
            added: Vec::new(),
            unused: Vec::new(),
            reloaded,
        })
    }

    fn flush(&self, tx: &Tx<'_>, core: &mut Core) -> Result<(), db::Error> {
        if self.erasable.load(Ordering::Acquire) {
            self.erase(tx, core)?;
        }
        for (id, touched) in &mut core.indexes {
            if core.now.by_id(*id).is_some() {
                touched.now.save(tx, self.id, *id, &touched.base)?;
            }
        }
        save_mailboxes(tx, self.id, &core.base, &core.now)?;
        let mut n = 0i64;
        for change in &core.changes {
            let (mailbox, kind, data) = change.kind.row();
            n = n.saturating_add(1);
            tx.exec(
                "INSERT INTO change (account_id, mailbox_id, modseq, n, kind, data) VALUES ($1, $2, $3, $4, $5, $6)",
                params![self.id, mailbox, change.modseq, n, kind, &data],
            )?;
        }
        if core.now.state != core.base.state || !core.changes.is_empty() {
            core.now.state.version = core.base.state.version.saturating_add(1);
            save_state(tx, self.id, &core.now.state)?;
        }
        // From here on the files of new messages stay: should the commit fail, it may have happened all the same.
        for prepared in &core.added {
            if let Blob::File { pending, .. } = &prepared.0.blob {
                pending.keep();
            }
        }
        Ok(())
    }

    fn publish(&self, core: Core) {
        let mailboxes = Arc::new(core.now);
        let mut published = lock(&self.published);
        if core.reloaded {
            // Views may be out of date; sessions keep theirs until they ask for the newest.
            published.views.retain(|id, views| {
                let old = Arc::clone(&views.newest);
                mailboxes.by_id(*id).is_some_and(|m| **m == **old.mailbox())
            });
        }
        published.views.retain(|id, _| mailboxes.by_id(*id).is_some());
        let changed: Vec<MailboxId> = published
            .views
            .iter()
            .filter(|(id, v)| mailboxes.by_id(**id).is_some_and(|m| !Arc::ptr_eq(m, v.newest.mailbox())))
            .map(|(id, _)| *id)
            .collect();
        for id in core.indexes.keys().copied().chain(changed) {
            let Some(mailbox) = mailboxes.by_id(id) else { continue };
            let index = match (core.indexes.get(&id), published.views.get(&id)) {
                (Some(touched), _) => touched.now.clone(),
                (None, Some(views)) => views.newest.index().clone(),
                (None, None) => continue,
            };
            if published.views.get(&id).is_some_and(|v| Arc::ptr_eq(v.newest.mailbox(), mailbox)) {
                continue;
            }
            let newest = Arc::new(View::new(Arc::clone(mailbox), index));
            match published.views.get_mut(&id) {
                Some(views) => {
                    views.older.retain(|v| v.strong_count() > 0);
                    let old = std::mem::replace(&mut views.newest, newest);
                    if Arc::strong_count(&old) > 1 {
                        views.older.push(Arc::downgrade(&old));
                    }
                }
                None => {
                    published.views.insert(id, Views { newest, older: Vec::new() });
                }
            }
        }
        Self::trim(&mut published);
        published.mailboxes = mailboxes;
        published.stale = false;
        drop(published);
        if !core.changes.is_empty() || core.reloaded {
            let notice: Notice = core.changes.iter().map(|c| (**c).clone()).collect();
            // Nobody may be listening.
            _ = self.notices.send(notice);
        }
        for name in core.unused {
            if let Err(e) = self.blobs.delete(&name) {
                tracing::warn!(error = %e, name, "unused blob not deleted; it goes when the account is opened again");
            }
        }
    }

    fn forget(&self) {
        lock(&self.published).stale = true;
    }
}

impl AccountScope {
    /// Erases removed messages that no session shows any more.
    fn erase(&self, tx: &Tx<'_>, core: &mut Core) -> Result<(), db::Error> {
        let mut rows: Vec<(MailboxId, i64, i64, i64, i64, bool)> = Vec::new();
        tx.query(
            "SELECT mailbox_id, uid, id, modseq, size, moved FROM expunged WHERE account_id = $1 ORDER BY mailbox_id, uid LIMIT $2",
            params![self.id, ERASE],
            |r| {
                rows.push((MailboxId(r.int(0)?), r.int(1)?, r.int(2)?, r.int(3)?, r.int(4)?, r.bool(5)?));
                Ok::<_, db::Error>(())
            },
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

    /// Whether a session holds the newest published view, and that still shows what was removed at `at`.
    fn is_newest_shown(&self, id: MailboxId, at: i64) -> bool {
        let published = lock(&self.published);
        published.views.get(&id).is_some_and(|v| Arc::strong_count(&v.newest) > 1 && v.newest.modseq().as_i64() < at)
    }

    fn erase_message(&self, tx: &Tx<'_>, core: &mut Core, id: i64) -> Result<(), db::Error> {
        let blob = tx.query_opt("SELECT blob_id FROM message WHERE account_id = $1 AND id = $2", params![self.id, id], |r| r.int(0))?;
        tx.exec("DELETE FROM message WHERE account_id = $1 AND id = $2", params![self.id, id])?;
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

/// The account's counters; an account that isn't there yet is [`db::Error::NoRow`].
pub(crate) fn load_state(tx: &Tx<'_>, account: AccountId, lock: bool) -> Result<State, db::Error> {
    const SELECT: &str = "SELECT version, modseq, forgotten, next_uidvalidity, next_mailbox, next_message, next_blob, used \
                          FROM account_state WHERE account_id = $1";
    const LOCKING: &str = "SELECT version, modseq, forgotten, next_uidvalidity, next_mailbox, next_message, next_blob, used \
                           FROM account_state WHERE account_id = $1 FOR UPDATE";
    // The row lock is what makes an account's writers on several nodes take turns.
    let sql = db::Sql { sqlite: SELECT, postgres: if lock { LOCKING } else { SELECT } };
    tx.query_row(sql, params![account], |r| {
        Ok(State {
            version: r.int(0)?,
            modseq: r.int(1)?,
            forgotten: r.int(2)?,
            next_uidvalidity: r.int(3)?,
            next_mailbox: r.int(4)?,
            next_message: r.int(5)?,
            next_blob: r.int(6)?,
            used: r.int(7)?,
        })
    })
}

fn save_state(tx: &Tx<'_>, account: AccountId, s: &State) -> Result<(), db::Error> {
    tx.exec(
        "UPDATE account_state SET version = $2, modseq = $3, forgotten = $4, next_uidvalidity = $5, next_mailbox = $6, next_message = $7, \
         next_blob = $8, used = $9 WHERE account_id = $1",
        params![account, s.version, s.modseq, s.forgotten, s.next_uidvalidity, s.next_mailbox, s.next_message, s.next_blob, s.used],
    )?;
    Ok(())
}

/// Columns of [`mailbox_of`].
const MAILBOX_COLUMNS: &str =
    "id, parent_id, name, uidvalidity, uidnext, modseq, create_seq, special_use, messages, deleted, unseen, unread, size";

fn mailbox_of(r: &db::Row<'_>, keywords: Arc<[Keyword]>) -> Result<Mailbox, db::Error> {
    let bad = || corrupt("mailbox");
    let count = |i| r.int(i).and_then(|n| u32::try_from(n).map_err(|_| bad()));
    Ok(Mailbox {
        id: MailboxId(r.int(0)?),
        parent: r.opt_int(1)?.map(MailboxId),
        name: MailboxName::stored(r.text(2)?),
        uidvalidity: UidValidity::new(count(3)?).ok_or_else(bad)?,
        uidnext: Uid::new(count(4)?).ok_or_else(bad)?,
        modseq: modseq(r.int(5)?),
        create_seq: modseq(r.int(6)?),
        special_use: SpecialUse::from_bits(u8::try_from(r.int(7)?).map_err(|_| bad())?),
        counts: Counts {
            messages: count(8)?,
            deleted: count(9)?,
            unseen: count(10)?,
            unread: count(11)?,
            size: ByteSize(u64::try_from(r.int(12)?).map_err(|_| bad())?),
        },
        keywords,
    })
}

pub(crate) fn load_mailboxes(tx: &Tx<'_>, account: AccountId, state: State) -> Result<Mailboxes, db::Error> {
    let mut keywords: BTreeMap<i64, Vec<Keyword>> = BTreeMap::new();
    tx.query("SELECT mailbox_id, name FROM keyword WHERE account_id = $1 ORDER BY mailbox_id, idx", params![account], |r| {
        keywords.entry(r.int(0)?).or_default().push(Keyword::stored(r.text(1)?));
        Ok::<_, db::Error>(())
    })?;
    let mut all = Vec::new();
    let mut names = BTreeMap::new();
    let sql = format!("SELECT {MAILBOX_COLUMNS} FROM mailbox WHERE account_id = $1 AND expunged = 0 ORDER BY id");
    tx.query(&sql, params![account], |r| {
        let mailbox = mailbox_of(r, keywords.remove(&r.int(0)?).unwrap_or_default().into())?;
        names.insert(mailbox.name.clone(), mailbox.id);
        all.push(Arc::new(mailbox));
        Ok::<_, db::Error>(())
    })?;
    let mut subscriptions = BTreeSet::new();
    tx.query("SELECT name FROM subscription WHERE account_id = $1", params![account], |r| {
        subscriptions.insert(MailboxName::stored(r.text(0)?));
        Ok::<_, db::Error>(())
    })?;
    Ok(Mailboxes { state, all: Arc::new(all), names: Arc::new(names), subscriptions: Arc::new(subscriptions) })
}

/// A mailbox and its index from one snapshot.
pub(crate) fn load_mailbox(tx: &Tx<'_>, account: AccountId, id: MailboxId) -> Result<(Mailbox, Index), Error> {
    let mut keywords = Vec::new();
    tx.query("SELECT name FROM keyword WHERE account_id = $1 AND mailbox_id = $2 ORDER BY idx", params![account, id], |r| {
        keywords.push(Keyword::stored(r.text(0)?));
        Ok::<_, db::Error>(())
    })?;
    let sql = format!("SELECT {MAILBOX_COLUMNS} FROM mailbox WHERE account_id = $1 AND id = $2 AND expunged = 0");
    let mailbox = tx.query_opt(&sql, params![account, id], |r| mailbox_of(r, keywords.into()))?.ok_or(Error::NoMailbox)?;
    Ok((mailbox, Index::load(tx, account, id)?))
}

fn save_mailboxes(tx: &Tx<'_>, account: AccountId, base: &Mailboxes, now: &Mailboxes) -> Result<(), db::Error> {
    if !Arc::ptr_eq(&base.all, &now.all) {
        for mailbox in &*now.all {
            let old = base.by_id(mailbox.id);
            if !old.is_some_and(|old| Arc::ptr_eq(old, mailbox)) {
                save_mailbox(tx, account, mailbox, old.map(|m| &**m))?;
            }
        }
        for gone in base.all.iter().filter(|m| now.by_id(m.id).is_none()) {
            tx.exec(
                "UPDATE mailbox SET expunged = 1, modseq = $3, special_use = 0, messages = 0, deleted = 0, unseen = 0, unread = 0, size = 0 \
                 WHERE account_id = $1 AND id = $2",
                params![account, gone.id, now.state.modseq],
            )?;
            tx.exec("DELETE FROM mailbox_bitmap WHERE account_id = $1 AND mailbox_id = $2", params![account, gone.id])?;
        }
    }
    if !Arc::ptr_eq(&base.subscriptions, &now.subscriptions) {
        for name in now.subscriptions.difference(&base.subscriptions) {
            tx.exec("INSERT INTO subscription (account_id, name) VALUES ($1, $2)", params![account, name.as_str()])?;
        }
        for name in base.subscriptions.difference(&now.subscriptions) {
            tx.exec("DELETE FROM subscription WHERE account_id = $1 AND name = $2", params![account, name.as_str()])?;
        }
    }
    Ok(())
}

fn save_mailbox(tx: &Tx<'_>, account: AccountId, m: &Mailbox, old: Option<&Mailbox>) -> Result<(), db::Error> {
    const INSERT: &str = "INSERT INTO mailbox (account_id, id, parent_id, name, uidvalidity, uidnext, modseq, create_seq, special_use, \
                          messages, deleted, unseen, unread, size, expunged) \
                          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 0)";
    const UPDATE: &str = "UPDATE mailbox SET parent_id = $3, name = $4, uidvalidity = $5, uidnext = $6, modseq = $7, create_seq = $8, \
                          special_use = $9, messages = $10, deleted = $11, unseen = $12, unread = $13, size = $14 \
                          WHERE account_id = $1 AND id = $2";
    let c = &m.counts;
    let row = params![
        account,
        m.id,
        m.parent,
        m.name.as_str(),
        m.uidvalidity,
        m.uidnext,
        m.modseq,
        m.create_seq,
        m.special_use.bits(),
        c.messages,
        c.deleted,
        c.unseen,
        c.unread,
        c.size
    ];
    tx.exec(if old.is_some() { UPDATE } else { INSERT }, row)?;
    let known = old.map_or(0, |o| o.keywords.len());
    for (idx, keyword) in m.keywords.iter().enumerate().skip(known) {
        tx.exec(
            "INSERT INTO keyword (account_id, mailbox_id, idx, name) VALUES ($1, $2, $3, $4)",
            params![account, m.id, idx, keyword.as_str()],
        )?;
    }
    Ok(())
}
