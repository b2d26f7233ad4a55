//! Mailboxes as an account has them at one moment.

use crate::flags::Keyword;
use crate::name::MailboxName;
use mox_base::{ByteSize, MailboxId, ModSeq, Uid, UidValidity};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{BitAnd, BitOr, Bound, Not};
use std::sync::Arc;

/// A set of the roles that a mailbox can have, RFC 6154 §2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SpecialUse(u8);

impl SpecialUse {
    /// No role.
    pub const NONE: Self = Self(0);
    /// `\Archive`.
    pub const ARCHIVE: Self = Self(1);
    /// `\Drafts`.
    pub const DRAFTS: Self = Self(2);
    /// `\Junk`.
    pub const JUNK: Self = Self(4);
    /// `\Sent`.
    pub const SENT: Self = Self(8);
    /// `\Trash`.
    pub const TRASH: Self = Self(16);

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits & 31)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// Whether it has all of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for SpecialUse {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for SpecialUse {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for SpecialUse {
    type Output = Self;

    fn not(self) -> Self {
        Self::from_bits(!self.0)
    }
}

/// What is in a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All messages.
    pub messages: u32,
    /// Those with `\Deleted`.
    pub deleted: u32,
    /// Those without `\Seen`.
    pub unseen: u32,
    /// Those with neither `\Seen` nor `\Deleted`.
    pub unread: u32,
    /// Sum of their sizes.
    pub size: ByteSize,
}

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// Its row; stays the same when it is renamed.
    pub id: MailboxId,
    /// The mailbox one level up.
    pub parent: Option<MailboxId>,
    /// Its full name.
    pub name: MailboxName,
    /// UIDVALIDITY.
    pub uidvalidity: UidValidity,
    /// The UID that the next message will get.
    pub uidnext: Uid,
    /// The last change of it or of a message in it: HIGHESTMODSEQ.
    pub modseq: ModSeq,
    /// The change that made it.
    pub create_seq: ModSeq,
    /// Its roles.
    pub special_use: SpecialUse,
    /// What is in it.
    pub counts: Counts,
    /// All keywords ever used in it, in the order of first use. It only grows; a keyword's place is its index.
    pub keywords: Arc<[Keyword]>,
}

impl Mailbox {
    /// The index of a keyword, in lower case.
    pub fn keyword(&self, name: &str) -> Option<u16> {
        let i = self.keywords.iter().position(|k| k.as_str() == name)?;
        u16::try_from(i).ok()
    }
}

/// The account's own counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) version: i64,
    pub(crate) modseq: i64,
    /// Changes up to this one may have been forgotten.
    pub(crate) forgotten: i64,
    pub(crate) next_uidvalidity: i64,
    pub(crate) next_mailbox: i64,
    pub(crate) next_message: i64,
    pub(crate) next_blob: i64,
    pub(crate) used: i64,
}

/// An account's mailboxes and subscriptions at one moment. Immutable, shared, cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailboxes {
    pub(crate) state: State,
    /// Ascending by id.
    pub(crate) all: Arc<Vec<Arc<Mailbox>>>,
    pub(crate) names: Arc<BTreeMap<MailboxName, MailboxId>>,
    pub(crate) subscriptions: Arc<BTreeSet<MailboxName>>,
}

impl Mailboxes {
    /// Before anything was read.
    pub(crate) fn none() -> Self {
        let state =
            State { version: -1, modseq: 1, forgotten: 0, next_uidvalidity: 0, next_mailbox: 0, next_message: 0, next_blob: 0, used: 0 };
        Self { state, all: Arc::default(), names: Arc::default(), subscriptions: Arc::default() }
    }

    /// A mailbox by its id.
    pub fn by_id(&self, id: MailboxId) -> Option<&Arc<Mailbox>> {
        self.all.get(self.position(id).ok()?)
    }

    /// A mailbox by its name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Mailbox>> {
        self.by_id(*self.names.get(name)?)
    }

    /// The mailbox with a role.
    pub fn by_use(&self, role: SpecialUse) -> Option<&Arc<Mailbox>> {
        self.all.iter().find(|m| !role.is_empty() && m.special_use.has(role))
    }

    /// All mailboxes, by name, bytewise.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.names.values().filter_map(|id| self.by_id(*id))
    }

    /// How many mailboxes there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is no mailbox, not even Inbox.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a mailbox is below this one.
    pub fn has_children(&self, name: &MailboxName) -> bool {
        // What is below `a` sorts directly after `a/`, but names such as `a!` come between it and `a`.
        let below = format!("{name}/");
        self.names
            .range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded))
            .next()
            .is_some_and(|(n, _)| n.as_str().starts_with(&below))
    }

    /// Subscribed names, bytewise. A mailbox of that name need not exist.
    pub fn subscriptions(&self) -> impl Iterator<Item = &MailboxName> {
        self.subscriptions.iter()
    }

    /// Whether a name is subscribed.
    pub fn is_subscribed(&self, name: &str) -> bool {
        self.subscriptions.contains(name)
    }

    /// Whether names and subscriptions are known to be the same as in an earlier or later version, without comparing them.
    pub fn is_same_list(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.names, &other.names) && Arc::ptr_eq(&self.subscriptions, &other.subscriptions)
    }

    /// Sum of the sizes of the account's messages, including removed ones that aren't erased yet.
    pub fn used(&self) -> ByteSize {
        ByteSize(u64::try_from(self.state.used).unwrap_or(0))
    }

    /// The account's last change.
    pub fn modseq(&self) -> ModSeq {
        modseq(self.state.modseq)
    }

    /// History may be incomplete for those who last looked before this change, RFC 7162 §3.2.5.2.
    pub fn forgotten(&self) -> u64 {
        u64::try_from(self.state.forgotten).unwrap_or(0)
    }

    pub(crate) fn position(&self, id: MailboxId) -> Result<usize, usize> {
        self.all.binary_search_by_key(&id, |m| m.id)
    }
}

pub(crate) fn modseq(n: i64) -> ModSeq {
    u64::try_from(n).ok().and_then(ModSeq::new).unwrap_or(ModSeq::FIRST)
}
