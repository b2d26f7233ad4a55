//! Finding the thread of a new message.

use super::WriteTx;
use super::add::hash;
use crate::db::{self, Row};
use crate::error::Error;
use crate::params;
use crate::prepare::Parts;
use mox_base::{MailboxId, MessageId, Timestamp};
use std::time::Duration;

const MISSING_LINK: i64 = 1;
const MUTED: i64 = 2;
const COLLAPSED: i64 = 4;

const DAY: Duration = Duration::from_secs(24 * 3600);
const FOUR_WEEKS: Duration = Duration::from_secs(28 * 24 * 3600);

/// Messages of one Message-ID or subject that are looked at: an attacker may send many.
const CANDIDATES: i64 = 50;

/// Ancestors kept of a message.
const MAX_PARENTS: usize = 1000;

/// The place of a message among others. Its thread's id is that of the first message in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) id: MessageId,
    /// From parent to root.
    parents: Vec<i64>,
    pub(super) flags: i64,
}

impl Thread {
    pub(super) fn muted(&self) -> bool {
        self.flags & MUTED != 0
    }

    /// As in the column; none for the first of a thread.
    pub(super) fn parents(&self) -> Option<Vec<u8>> {
        (!self.parents.is_empty()).then(|| self.parents.iter().flat_map(|id| id.to_le_bytes()).collect())
    }
}

/// A message that may be the parent.
struct Parent {
    id: i64,
    thread: i64,
    parents: Vec<i64>,
    flags: i64,
}

const COLUMNS: &str = "m.id, m.thread_id, m.thread_parents, m.thread_flags, m.message_id, m.subject";

/// Messages are live if their place in a mailbox is theirs.
const LIVE: &str =
    "EXISTS (SELECT 1 FROM message_state s WHERE s.account_id = m.account_id AND s.mailbox_id = m.mailbox_id AND s.uid = m.uid)";

fn parent(r: &Row<'_>) -> Result<Parent, db::Error> {
    let parents = r.opt_blob(2)?.unwrap_or_default();
    Ok(Parent {
        id: r.int(0)?,
        thread: r.int(1)?,
        parents: parents.chunks_exact(8).filter_map(|c| c.first_chunk().map(|b| i64::from_le_bytes(*b))).collect(),
        flags: r.int(3)?,
    })
}

impl WriteTx<'_> {
    /// The thread of a message that is about to be added with this id.
    pub(super) fn thread_of(&self, parts: &Parts, id: MessageId, mailbox: MailboxId, received: Timestamp) -> Result<Thread, Error> {
        let own = parts.message_id.as_deref();
        if let Some(own) = own
            && let Some(twin) = self.by_message_id(own, None)?
        {
            return Ok(attach(id, &twin, true));
        }
        let (subject, response) = &parts.subject;
        let mut missing = false;
        for reference in parts.references.iter().rev().filter(|r| Some(r.as_str()) != own) {
            // A DSN has a subject of its own.
            let same_subject = (!parts.dsn).then_some(subject.as_str());
            if let Some(parent) = self.by_message_id(reference, same_subject)? {
                return Ok(attach(id, &parent, missing));
            }
            missing = true;
        }
        let alone = |flags| Thread { id, parents: Vec::new(), flags };
        if !parts.references.is_empty() {
            return Ok(alone(if missing { MISSING_LINK } else { 0 }));
        }
        if *response
            && !subject.is_empty()
            && let Some(parent) = self.by_subject(subject, mailbox, received)?
        {
            return Ok(attach(id, &parent, true));
        }
        Ok(alone(0))
    }

    /// The oldest live message with a Message-ID, and, if given, with this base subject.
    fn by_message_id(&self, message_id: &str, subject: Option<&str>) -> Result<Option<Parent>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM message m WHERE m.account_id = $1 AND m.message_key = $2 AND {LIVE} ORDER BY m.id LIMIT {CANDIDATES}"
        );
        let mut found = None;
        self.tx.query_while(&sql, params![self.account(), hash(message_id)], |r| {
            let matches =
                r.opt_text(4)? == Some(message_id) && subject.is_none_or(|s| r.opt_text(5).is_ok_and(|t| t.unwrap_or_default() == s));
            if matches {
                found = Some(parent(r)?);
            }
            Ok::<_, db::Error>(!matches)
        })?;
        Ok(found)
    }

    /// The newest live message with a base subject in a mailbox, not much older or newer than this one.
    fn by_subject(&self, subject: &str, mailbox: MailboxId, received: Timestamp) -> Result<Option<Parent>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM message m JOIN message_state s ON s.account_id = m.account_id AND s.mailbox_id = m.mailbox_id AND s.uid = m.uid \
             WHERE m.account_id = $1 AND m.subject_key = $2 AND m.orig_mailbox_id = $3 AND s.received > $4 AND s.received < $5 \
             ORDER BY s.received DESC LIMIT {CANDIDATES}"
        );
        let mut found = None;
        let args = params![self.account(), hash(subject), mailbox, received.before(FOUR_WEEKS), received.after(DAY)];
        self.tx.query_while(&sql, args, |r| {
            let matches = r.opt_text(5)? == Some(subject);
            if matches {
                found = Some(parent(r)?);
            }
            Ok::<_, db::Error>(!matches)
        })?;
        Ok(found)
    }
}

fn attach(id: MessageId, parent: &Parent, missing: bool) -> Thread {
    let mut parents = vec![parent.id];
    if !parent.parents.contains(&id.0) {
        parents.extend(&parent.parents);
    }
    parents.truncate(MAX_PARENTS);
    let flags = parent.flags & (MUTED | COLLAPSED) | if missing { MISSING_LINK } else { 0 };
    Thread { id: MessageId(parent.thread), parents, flags }
}
