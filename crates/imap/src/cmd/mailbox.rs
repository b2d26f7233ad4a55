//! Commands about whole mailboxes: SELECT, EXAMINE, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS.

use super::{Command, Context, mailbox_name};
use crate::cursor::{Cursor, Parsed};
use crate::token::{atom, keyword, list1};

/// `SELECT` or `EXAMINE`, RFC 9051 §6.3.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// Which mailbox.
    pub mailbox: String,
    /// `EXAMINE`: nothing may be changed.
    pub read_only: bool,
    /// `(CONDSTORE)`, RFC 7162 §3.1.8.
    pub condstore: bool,
}

/// `CREATE`, RFC 9051 §6.3.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The new name, perhaps with a slash at its end.
    pub mailbox: String,
    /// `(USE (…))`, RFC 6154 §3: attributes as sent, with their backslash.
    pub uses: Vec<String>,
}

/// What STATUS tells, RFC 9051 §6.3.11 and the extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    /// Number of messages.
    Messages,
    /// The next UID.
    UidNext,
    /// The epoch of UIDs.
    UidValidity,
    /// Number of messages without `\Seen`.
    Unseen,
    /// Number of messages with `\Deleted`.
    Deleted,
    /// Total size, RFC 8438.
    Size,
    /// Always 0, RFC 3501.
    Recent,
    /// No limit of a mailbox' own, RFC 7889.
    AppendLimit,
    /// RFC 7162 §3.1.2.1.
    HighestModSeq,
}

impl StatusItem {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Messages, "MESSAGES"),
        (Self::UidNext, "UIDNEXT"),
        (Self::UidValidity, "UIDVALIDITY"),
        (Self::Unseen, "UNSEEN"),
        (Self::Deleted, "DELETED"),
        (Self::Size, "SIZE"),
        (Self::Recent, "RECENT"),
        (Self::AppendLimit, "APPENDLIMIT"),
        (Self::HighestModSeq, "HIGHESTMODSEQ"),
    ];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(item, _)| *item == self).map_or("", |(_, name)| name)
    }
}

/// `status-att`, RFC 9051 §9.
fn status_att(c: &mut Cursor<'_>) -> Parsed<StatusItem> {
    let start = c.clone();
    let name = keyword(c)?;
    let found = StatusItem::ALL.iter().find(|(_, n)| *n == name);
    found.map_or_else(|| start.bad("status item"), |(item, _)| Ok(*item))
}

/// `"(" status-att *(SP status-att) ")"`, RFC 9051 §9.
pub(super) fn status_items(c: &mut Cursor<'_>) -> Parsed<Vec<StatusItem>> {
    list1(c, status_att)
}

/// `status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"`, RFC 9051 §9.
pub(super) fn status(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    c.sp()?;
    let mailbox = mailbox_name(c, context)?;
    c.sp()?;
    Ok(Command::Status { mailbox, items: status_items(c)? })
}

pub(super) fn select(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    select_or_examine(c, context, false)
}

pub(super) fn examine(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    select_or_examine(c, context, true)
}

/// `select = "SELECT" SP mailbox [SP "(" select-param *(SP select-param) ")"]`, RFC 9051 §9, RFC 7162 §7.
fn select_or_examine(c: &mut Cursor<'_>, context: &Context, read_only: bool) -> Parsed<Command> {
    c.sp()?;
    let mailbox = mailbox_name(c, context)?;
    let mut condstore = false;
    if c.eat(b' ') {
        list1(c, |c| {
            let start = c.clone();
            let name = keyword(c)?;
            if name != "CONDSTORE" || condstore {
                return start.bad("CONDSTORE, once");
            }
            condstore = true;
            Ok(())
        })?;
    }
    Ok(Command::Select(Select { mailbox, read_only, condstore }))
}

/// `create = "CREATE" SP mailbox [SP "(" create-param *(SP create-param) ")"]`, RFC 9051 §9;
/// `create-param =/ "USE" SP "(" [use-attr *(SP use-attr)] ")"`, RFC 6154 §6.
pub(super) fn create(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    c.sp()?;
    let mailbox = mailbox_name(c, context)?;
    let mut uses = Vec::new();
    if c.eat(b' ') {
        list1(c, |c| {
            if !c.eat_text(b"USE ") {
                return c.bad("USE");
            }
            uses.extend(crate::token::list0(c, |c| {
                c.expect(b'\\', "\\")?;
                atom(c).map(|name| format!("\\{name}"))
            })?);
            Ok(())
        })?;
    }
    Ok(Command::Create(Create { mailbox, uses }))
}

pub(super) fn delete(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    c.sp()?;
    mailbox_name(c, context).map(Command::Delete)
}

/// `rename = "RENAME" SP mailbox SP mailbox`, RFC 9051 §9.
pub(super) fn rename(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    c.sp()?;
    let from = mailbox_name(c, context)?;
    c.sp()?;
    Ok(Command::Rename { from, to: mailbox_name(c, context)? })
}

pub(super) fn subscribe(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    c.sp()?;
    mailbox_name(c, context).map(Command::Subscribe)
}

pub(super) fn unsubscribe(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    c.sp()?;
    mailbox_name(c, context).map(Command::Unsubscribe)
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn selects() {
        let select = |mailbox: &str, read_only, condstore| Some(Command::Select(Select { mailbox: mailbox.into(), read_only, condstore }));
        for (text, want) in [
            ("select inbox", select("inbox", false, false)),
            ("examine \"a b\" (condstore)", select("a b", true, true)),
            ("select &AOk-", select("é", false, false)),
            ("select &AOk", None),
            ("select a (condstore condstore)", None),
            ("select a ()", None),
            ("select a (other)", None),
            ("select", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn creates() {
        let create = |mailbox: &str, uses: &[&str]| {
            Some(Command::Create(Create { mailbox: mailbox.into(), uses: uses.iter().map(|u| (*u).to_owned()).collect() }))
        };
        for (text, want) in [
            ("create a/b/", create("a/b/", &[])),
            ("create a (use (\\Sent \\trash))", create("a", &["\\Sent", "\\trash"])),
            ("create a (use (\\Sent) use (\\Junk))", create("a", &["\\Sent", "\\Junk"])),
            ("create a (use ())", create("a", &[])),
            ("create a (use)", None),
            ("create a ()", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn statuses() {
        let want = Command::Status { mailbox: "a".into(), items: vec![StatusItem::UidNext, StatusItem::Size] };
        assert_eq!(parse("status a (uidnext SIZE)").ok(), Some(want));
        assert!(parse("status a ()").is_err());
        assert!(parse("status a (x)").is_err());
        assert_eq!(parse("rename a b").ok(), Some(Command::Rename { from: "a".into(), to: "b".into() }));
    }
}
