//! STORE, COPY, MOVE and UID EXPUNGE.

use super::{Command, Context, mailbox_name};
use crate::cursor::{Cursor, Parsed};
use crate::flag::{Flag, store_flags};
use crate::set::{SequenceSet, sequence_set};
use crate::token::{keyword, list1, number64};

/// How STORE changes flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// `FLAGS`.
    Replace,
    /// `+FLAGS`.
    Add,
    /// `-FLAGS`.
    Remove,
}

/// `STORE` or `UID STORE`, RFC 9051 §6.4.6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// `UID STORE`: the set holds UIDs.
    pub uid: bool,
    /// Which messages.
    pub set: SequenceSet,
    /// Only those not changed since, RFC 7162 §3.1.3.
    pub unchanged_since: Option<u64>,
    /// How.
    pub mode: StoreMode,
    /// `.SILENT`: without telling the new flags.
    pub silent: bool,
    /// Which flags.
    pub flags: Vec<Flag>,
}

/// `COPY` or `MOVE`, or their `UID` forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The set holds UIDs.
    pub uid: bool,
    /// Which messages.
    pub set: SequenceSet,
    /// Where to.
    pub mailbox: String,
}

pub(super) fn store(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    store_or_uid(c, false)
}

pub(super) fn uid_store(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    store_or_uid(c, true)
}

/// `store = "STORE" SP sequence-set [SP store-modifiers] SP store-att-flags`, RFC 9051 §9, RFC 4466 §6.
fn store_or_uid(c: &mut Cursor<'_>, uid: bool) -> Parsed<Command> {
    c.sp()?;
    let set = sequence_set(c)?;
    c.sp()?;
    let mut unchanged_since = None;
    if c.peek() == Some(b'(') {
        list1(c, |c| {
            let start = c.clone();
            if keyword(c)? != "UNCHANGEDSINCE" || unchanged_since.is_some() {
                return start.bad("UNCHANGEDSINCE, once");
            }
            c.sp()?;
            unchanged_since = Some(number64(c)?);
            Ok(())
        })?;
        c.sp()?;
    }
    let mode = match c.peek() {
        Some(b'+') => StoreMode::Add,
        Some(b'-') => StoreMode::Remove,
        _ => StoreMode::Replace,
    };
    if mode != StoreMode::Replace {
        c.skip(1);
    }
    if !c.eat_text(b"FLAGS") {
        return c.bad("FLAGS");
    }
    let silent = c.eat_text(b".SILENT");
    c.sp()?;
    let flags = store_flags(c)?;
    Ok(Command::Store(Store { uid, set, unchanged_since, mode, silent, flags }))
}

/// `copy = "COPY" SP sequence-set SP mailbox`, RFC 9051 §9.
fn transfer(c: &mut Cursor<'_>, context: &Context, uid: bool) -> Parsed<Transfer> {
    c.sp()?;
    let set = sequence_set(c)?;
    c.sp()?;
    Ok(Transfer { uid, set, mailbox: mailbox_name(c, context)? })
}

pub(super) fn copy(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    transfer(c, context, false).map(Command::Copy)
}

pub(super) fn uid_copy(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    transfer(c, context, true).map(Command::Copy)
}

pub(super) fn mov(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    transfer(c, context, false).map(Command::Move)
}

pub(super) fn uid_mov(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    transfer(c, context, true).map(Command::Move)
}

/// `uid-expunge = "EXPUNGE" SP sequence-set`, RFC 9051 §9.
pub(super) fn uid_expunge(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    c.sp()?;
    sequence_set(c).map(|set| Command::Expunge(Some(set)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;
    use crate::set::SeqNumber;

    #[test]
    fn stores() {
        let one = SequenceSet::Ranges(vec![(SeqNumber::Number(1), SeqNumber::Number(1))]);
        let store = Store { uid: false, set: one, unchanged_since: None, mode: StoreMode::Replace, silent: false, flags: vec![] };
        for (text, want) in [
            ("store 1 flags ()", Some(store.clone())),
            (
                "uid store 1 +flags.silent \\seen",
                Some(Store { uid: true, mode: StoreMode::Add, silent: true, flags: vec![Flag::Seen], ..store.clone() }),
            ),
            (
                "store 1 (unchangedsince 0) -FLAGS (a)",
                Some(Store { unchanged_since: Some(0), mode: StoreMode::Remove, flags: vec![Flag::Keyword("a".into())], ..store.clone() }),
            ),
            ("store 1 (unchangedsince 1 unchangedsince 1) flags ()", None),
            ("store 1 flags", None),
            ("store 1 + flags ()", None),
            ("store x flags ()", None),
        ] {
            assert_eq!(parse(text).ok(), want.map(Command::Store), "{text}");
        }
    }

    #[test]
    fn transfers() {
        let want = Transfer { uid: true, set: SequenceSet::Saved, mailbox: "a b".into() };
        assert_eq!(parse("uid move $ \"a b\"").ok(), Some(Command::Move(want)));
        assert!(parse("copy 1").is_err());
    }
}
