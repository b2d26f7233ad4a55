//! Hearing of an account's changes.
//!
//! A [`Watch`] is told all that changed, in order. Most sessions only want to know that there is something new in the mailbox that
//! they show: theirs is a [`MailboxWatch`], which sleeps through everything else. Many of them may wait for one mailbox. They are
//! woken some at a time, by a task of its own that lets others take their turn between, so that neither the one whose change it
//! is nor anybody else waits until thousands have been told.

use super::core;
use crate::change::{Change, ChangeKind};
use mox_base::MailboxId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;

/// Sessions woken without a pause.
const SOME: usize = 64;

/// What happened.
#[derive(Clone, Debug)]
pub enum Notice {
    /// These changes were committed together, in order. Views and lists of mailboxes already show them.
    Changes(Arc<[Change]>),
    /// Changes were missed: compare with the newest views and mailboxes, or read what changed since the last known ModSeq.
    Overflow,
    /// The account was closed.
    Closed,
}

/// A receiver of notices. A slow one loses notices, not changes: it is told to look for itself.
#[derive(Debug)]
pub struct Watch {
    receiver: Receiver<core::Notice>,
}

impl Watch {
    pub(super) fn new(receiver: Receiver<core::Notice>) -> Self {
        Self { receiver }
    }

    /// Waits for the next notice. May be dropped while waiting: nothing is lost.
    pub async fn next(&mut self) -> Notice {
        match self.receiver.recv().await {
            Ok(changes) => noticed(changes),
            Err(RecvError::Lagged(_)) => Notice::Overflow,
            Err(RecvError::Closed) => Notice::Closed,
        }
    }

    /// The next notice, if there is one now.
    pub fn try_next(&mut self) -> Option<Notice> {
        match self.receiver.try_recv() {
            Ok(changes) => Some(noticed(changes)),
            Err(TryRecvError::Lagged(_)) => Some(Notice::Overflow),
            Err(TryRecvError::Closed) => Some(Notice::Closed),
            Err(TryRecvError::Empty) => None,
        }
    }
}

/// Nothing in particular changed: the state was read again.
fn noticed(changes: core::Notice) -> Notice {
    if changes.is_empty() { Notice::Overflow } else { Notice::Changes(changes) }
}

/// Hears that the list of mailboxes changed, or one mailbox, but not what; views and lists of mailboxes already show it.
#[derive(Debug)]
pub struct MailboxWatch {
    receiver: watch::Receiver<()>,
}

impl MailboxWatch {
    /// Waits until there was a change since the watch began or this last returned; false if there will be none, as the account was
    /// closed. May be dropped while waiting: nothing is lost.
    pub async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All watches of mailboxes of an account.
#[derive(Debug)]
pub(super) struct Bells {
    runtime: Handle,
    /// By the mailbox that is watched; none for the list of mailboxes only.
    bells: Mutex<BTreeMap<Option<MailboxId>, Arc<Bell>>>,
}

impl Bells {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, bells: Mutex::default() }
    }

    pub(super) fn watch(&self, mailbox: Option<MailboxId>) -> MailboxWatch {
        let mut bells = lock(&self.bells);
        if !bells.contains_key(&mailbox) {
            bells.retain(|_, bell| bell.is_heard());
        }
        MailboxWatch { receiver: bells.entry(mailbox).or_default().subscribe() }
    }

    /// Wakes those whom changes concern; all, if it isn't known what changed.
    pub(super) fn ring(&self, changes: &[Change]) {
        let bells = lock(&self.bells);
        if bells.is_empty() {
            return;
        }
        let mut concerned: Vec<Option<MailboxId>> = changes.iter().map(|c| concerned(&c.kind)).collect();
        concerned.sort_unstable();
        concerned.dedup();
        // The list of mailboxes is everyone's.
        if concerned.first().is_none_or(Option::is_none) {
            bells.values().for_each(|bell| bell.ring(&self.runtime));
        } else {
            concerned.iter().filter_map(|mailbox| bells.get(mailbox)).for_each(|bell| bell.ring(&self.runtime));
        }
    }
}

/// The mailbox that a change concerns; none if it concerns the list of mailboxes.
fn concerned(kind: &ChangeKind) -> Option<MailboxId> {
    match kind {
        ChangeKind::Keywords(mailbox) => Some(*mailbox),
        other => other.messages_of(),
    }
}

/// The watches of one mailbox.
#[derive(Debug, Default)]
struct Bell {
    /// Each wakes about [`SOME`] sessions.
    parts: Mutex<Vec<watch::Sender<()>>>,
    /// How often it was to be rung since a task began to.
    rung: AtomicU32,
}

impl Bell {
    fn subscribe(&self) -> watch::Receiver<()> {
        let mut parts = lock(&self.parts);
        if let Some(part) = parts.iter().rev().find(|p| p.receiver_count() < SOME) {
            return part.subscribe();
        }
        let (part, receiver) = watch::channel(());
        parts.push(part);
        receiver
    }

    fn is_heard(&self) -> bool {
        lock(&self.parts).iter().any(|p| p.receiver_count() > 0)
    }

    fn ring(self: &Arc<Self>, runtime: &Handle) {
        let mut parts = lock(&self.parts);
        parts.retain(|p| p.receiver_count() > 0);
        if let [few] = parts.as_slice() {
            few.send_replace(());
        }
        if parts.len() <= 1 || self.rung.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        drop(parts);
        let bell = Arc::clone(self);
        runtime.spawn(async move {
            loop {
                let rung = bell.rung.load(Ordering::Acquire);
                let parts = lock(&bell.parts).clone();
                for part in parts {
                    part.send_replace(());
                    tokio::task::yield_now().await;
                }
                // What changed meanwhile wasn't told to those who were first.
                if bell.rung.compare_exchange(rung, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    return;
                }
            }
        });
    }
}
