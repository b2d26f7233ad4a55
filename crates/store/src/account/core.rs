//! What an account's write transaction works on, and what is published after it.
//!
//! [`Core`] is the working state: mailboxes and the indexes of those that were touched. Closures change it and message rows;
//! everything else is written once, before the commit, by comparing it with the state that the transaction began with.
//! After the commit it becomes the published state. Undoing a closure is going back to a clone from before it.

use super::prune::{History, Pruning};
use super::rows::{load_mailboxes, load_state, save_mailboxes, save_state};
use super::watch::Bells;
use crate::blob::BlobStore;
use crate::change::Change;
use crate::db::{self, Env, Scope, Teller, Tx};
use crate::directory::AccountSettings;
use crate::error::Error;
use crate::index::Index;
use crate::mailbox::{Mailbox, Mailboxes, State};
use crate::params;
use crate::prepare::{Blob, Prepared};
use crate::view::View;
use mox_base::{AccountId, Clock, MailboxId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::broadcast;

/// Groups of changes that wait for a slow session; one that falls further behind re-reads.
const NOTICES: usize = 64;

/// Views kept although nobody looks, so that the next delivery or SELECT finds them.
const VIEWS_KEPT: usize = 64;

/// Changes that were committed together.
pub(crate) type Notice = Arc<[Change]>;

/// The part of an account that outlives its transactions.
pub(crate) struct AccountScope {
    pub(crate) id: AccountId,
    pub(crate) blobs: Arc<dyn BlobStore>,
    /// Bytes the account may use, `u64::MAX` for no limit.
    pub(crate) quota: AtomicU64,
    /// Mailboxes it may have, and subscriptions.
    pub(crate) max_mailboxes: usize,
    settings: Mutex<Option<Arc<AccountSettings>>>,
    /// Where other processes hear of changes.
    teller: Option<Teller>,
    /// There may be removed messages to be erased.
    pub(crate) erasable: AtomicBool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pruning: Pruning,
    notices: broadcast::Sender<Notice>,
    pub(super) bells: Bells,
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
    pub(crate) fn new(
        id: AccountId,
        blobs: Arc<dyn BlobStore>,
        teller: Option<Teller>,
        env: &Env,
        history: History,
        max_mailboxes: usize,
    ) -> Self {
        Self {
            id,
            blobs,
            quota: AtomicU64::new(u64::MAX),
            max_mailboxes,
            settings: Mutex::default(),
            teller,
            erasable: AtomicBool::new(true),
            clock: Arc::clone(&env.clock),
            pruning: Pruning::new(history),
            notices: broadcast::channel(NOTICES).0,
            bells: Bells::new(env.runtime.clone()),
            published: Mutex::new(Published { mailboxes: Arc::new(Mailboxes::none()), stale: true, views: BTreeMap::new() }),
        }
    }

    /// Its settings, once somebody told.
    pub(crate) fn settings(&self) -> Option<Arc<AccountSettings>> {
        lock(&self.settings).clone()
    }

    pub(super) fn set_settings(&self, settings: &Arc<AccountSettings>) {
        *lock(&self.settings) = Some(Arc::clone(settings));
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
    pub(super) fn oldest_shown(&self, id: MailboxId) -> Option<i64> {
        let published = lock(&self.published);
        let older = published.views.get(&id)?.older.iter().filter_map(Weak::upgrade);
        older.map(|v| v.modseq().as_i64()).min()
    }

    /// Whether a session holds the newest published view, and that still shows what was removed at `at`.
    pub(super) fn is_newest_shown(&self, id: MailboxId, at: i64) -> bool {
        let published = lock(&self.published);
        published.views.get(&id).is_some_and(|v| Arc::strong_count(&v.newest) > 1 && v.newest.modseq().as_i64() < at)
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
    pub(super) base: Arc<Mailboxes>,
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
        self.prune(tx, core)?;
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
        if let (Some(teller), false) = (&self.teller, core.changes.is_empty()) {
            teller.changed(self.id.0);
        }
        if !core.changes.is_empty() || core.reloaded {
            let notice: Notice = core.changes.iter().map(|c| (**c).clone()).collect();
            self.bells.ring(if core.reloaded { &[] } else { &notice });
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
