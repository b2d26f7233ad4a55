//! Changes of an account, as sessions hear of them and as its history keeps them.

use crate::db;
use crate::error::corrupt;
use crate::mailbox::modseq;
use crate::name::MailboxName;
use crate::uidset::UidSet;
use mox_base::{MailboxId, ModSeq};
use roaring::RoaringBitmap;

/// Who makes changes, so that a session can tell its own: any number of the caller's choice, 0 for nobody in particular.
pub type Origin = u64;

/// A change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its place in history. All changes of one operation share one.
    pub modseq: ModSeq,
    /// Who made it; 0 when read from history.
    pub origin: Origin,
    /// What changed.
    pub kind: ChangeKind,
}

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// Messages were added to a mailbox.
    Added(MailboxId, UidSet),
    /// Messages were removed from a mailbox.
    Expunged(MailboxId, UidSet),
    /// Flags or keywords of messages were changed.
    Flags(MailboxId, UidSet),
    /// A mailbox was created.
    MailboxCreated(MailboxId, MailboxName),
    /// A mailbox was renamed, from and to.
    MailboxRenamed(MailboxId, MailboxName, MailboxName),
    /// A mailbox was deleted.
    MailboxDeleted(MailboxId, MailboxName),
    /// The roles of a mailbox were changed.
    SpecialUse(MailboxId),
    /// A mailbox has new keywords.
    Keywords(MailboxId),
    /// A name was subscribed.
    Subscribed(MailboxName),
    /// A name was unsubscribed.
    Unsubscribed(MailboxName),
}

impl ChangeKind {
    /// The mailbox whose messages changed, none for changes of the list of mailboxes.
    pub fn messages_of(&self) -> Option<MailboxId> {
        match self {
            Self::Added(m, _) | Self::Expunged(m, _) | Self::Flags(m, _) => Some(*m),
            Self::MailboxCreated(..)
            | Self::MailboxRenamed(..)
            | Self::MailboxDeleted(..)
            | Self::SpecialUse(_)
            | Self::Keywords(_)
            | Self::Subscribed(_)
            | Self::Unsubscribed(_) => None,
        }
    }

    /// As kept in the table `change`: mailbox (0 for the list of mailboxes), kind, data.
    pub(crate) fn row(&self) -> (i64, i64, Vec<u8>) {
        let named = |id: &MailboxId, names: &[&MailboxName]| {
            let mut data = id.0.to_le_bytes().to_vec();
            for (i, name) in names.iter().enumerate() {
                if i > 0 {
                    data.push(0);
                }
                data.extend_from_slice(name.as_str().as_bytes());
            }
            data
        };
        match self {
            Self::Added(m, uids) => (m.0, 1, uids.to_bytes()),
            Self::Expunged(m, uids) => (m.0, 2, uids.to_bytes()),
            Self::Flags(m, uids) => (m.0, 3, uids.to_bytes()),
            Self::MailboxCreated(m, name) => (0, 4, named(m, &[name])),
            Self::MailboxRenamed(m, from, to) => (0, 5, named(m, &[from, to])),
            Self::MailboxDeleted(m, name) => (0, 6, named(m, &[name])),
            Self::SpecialUse(m) => (0, 7, named(m, &[])),
            Self::Keywords(m) => (0, 8, named(m, &[])),
            Self::Subscribed(name) => (0, 9, named(&MailboxId(0), &[name])),
            Self::Unsubscribed(name) => (0, 10, named(&MailboxId(0), &[name])),
        }
    }
}

impl Change {
    /// A change from its row: mailbox, modseq, kind, data.
    pub(crate) fn from_row(mailbox: i64, at: i64, kind: i64, data: &[u8]) -> Result<Self, db::Error> {
        let bad = || corrupt("change");
        let uids = || RoaringBitmap::deserialize_from(data).map(UidSet).map_err(|_| bad());
        let id = || {
            let bytes = data.first_chunk::<8>().ok_or_else(bad)?;
            Ok::<_, db::Error>(MailboxId(i64::from_le_bytes(*bytes)))
        };
        let names = || std::str::from_utf8(data.get(8..).unwrap_or_default()).map_err(|_| bad());
        let name = || names().map(MailboxName::stored);
        let of = MailboxId(mailbox);
        let kind = match kind {
            1 => ChangeKind::Added(of, uids()?),
            2 => ChangeKind::Expunged(of, uids()?),
            3 => ChangeKind::Flags(of, uids()?),
            4 => ChangeKind::MailboxCreated(id()?, name()?),
            5 => {
                let (from, to) = names()?.split_once('\0').ok_or_else(bad)?;
                ChangeKind::MailboxRenamed(id()?, MailboxName::stored(from), MailboxName::stored(to))
            }
            6 => ChangeKind::MailboxDeleted(id()?, name()?),
            7 => ChangeKind::SpecialUse(id()?),
            8 => ChangeKind::Keywords(id()?),
            9 => ChangeKind::Subscribed(name()?),
            10 => ChangeKind::Unsubscribed(name()?),
            _ => return Err(bad()),
        };
        Ok(Self { modseq: modseq(at), origin: 0, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let name = |s: &str| MailboxName::parse(s).unwrap();
        let m = MailboxId(7);
        let uids = UidSet::from_ranges([(1, 5), (70_000, 70_001)]);
        for kind in [
            ChangeKind::Added(m, uids.clone()),
            ChangeKind::Expunged(m, uids.clone()),
            ChangeKind::Flags(m, uids),
            ChangeKind::MailboxCreated(m, name("a")),
            ChangeKind::MailboxRenamed(m, name("a"), name("b/c")),
            ChangeKind::MailboxDeleted(m, name("a")),
            ChangeKind::SpecialUse(m),
            ChangeKind::Keywords(m),
            ChangeKind::Subscribed(name("x")),
            ChangeKind::Unsubscribed(name("x")),
        ] {
            let (mailbox, number, data) = kind.row();
            assert_eq!(Change::from_row(mailbox, 9, number, &data).unwrap(), Change { modseq: ModSeq::new(9).unwrap(), origin: 0, kind });
        }
        assert!(Change::from_row(1, 1, 99, &[]).is_err() && Change::from_row(0, 1, 7, &[1]).is_err());
    }
}
