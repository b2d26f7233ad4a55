//! Hearing of an account's changes.

use super::core;
use crate::change::Change;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

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
