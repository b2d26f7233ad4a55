//! APPEND and MULTIAPPEND, RFC 9051 §6.3.12 and RFC 3502, whose messages are streamed.
//!
//! The bytes of a message never become part of a parsed command. [`append`] reads up to the announcement of the first
//! message; after its bytes went by, [`more`] reads the line behind them: another message, or the end.

use super::{Command, Context, mailbox_name};
use crate::cursor::{Cursor, LiteralHead, Parsed};
use crate::flag::{Flag, flag_list};
use crate::token::{DateTime, date_time, literal_head};

/// The beginning of an APPEND.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Where to.
    pub mailbox: String,
    /// The first message.
    pub message: Message,
}

/// One message of an APPEND, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Flags to set.
    pub flags: Vec<Flag>,
    /// INTERNALDATE to set.
    pub date: Option<DateTime>,
    /// In `UTF8 (…)`, RFC 6855 §4: a parenthesis is to follow the bytes.
    pub utf8: bool,
    /// Announcement of the bytes.
    pub literal: LiteralHead,
}

/// `append = "APPEND" SP mailbox 1*append-message`, RFC 3502 §7.
pub(super) fn append(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    c.sp()?;
    let mailbox = mailbox_name(c, context)?;
    Ok(Command::Append(Append { mailbox, message: append_message(c)? }))
}

/// `append-message = append-opts SP append-data`, RFC 3502 §7.
fn append_message(c: &mut Cursor<'_>) -> Parsed<Message> {
    c.sp()?;
    let mut flags = Vec::new();
    if c.peek() == Some(b'(') {
        flags = flag_list(c)?;
        c.sp()?;
    }
    let mut date = None;
    if c.peek() == Some(b'"') {
        date = Some(date_time(c)?);
        c.sp()?;
    }
    let utf8 = c.eat_text(b"UTF8 (");
    let start = c.clone();
    let literal = literal_head(c)?;
    if utf8 && !literal.binary {
        return start.bad("literal8");
    }
    // The announcement is the end of its line, and the bytes aren't in the input.
    c.end()?;
    Ok(Message { flags, date, utf8, literal })
}

/// What stands behind a message's bytes: the next message, or the end of the command.
pub fn more(line: &[u8], after: &Message) -> Parsed<Option<Message>> {
    let mut c = Cursor::new(line);
    if after.utf8 {
        c.expect(b')', ")")?;
    }
    if c.is_end() { Ok(None) } else { append_message(&mut c).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;
    use mox_base::Timestamp;

    fn message(size: u64, sync: bool) -> Message {
        Message { flags: vec![], date: None, utf8: false, literal: LiteralHead { size, sync, binary: false } }
    }

    #[test]
    fn appends() {
        let binary = |mut m: Message| {
            m.literal.binary = true;
            m
        };
        let date = DateTime { at: Timestamp::from_secs(1_577_866_272), offset_minutes: 120 };
        for (text, want) in [
            ("append inbox {12}", Some(message(12, true))),
            ("append inbox {12+}", Some(message(12, false))),
            ("append inbox ~{12}", Some(binary(message(12, true)))),
            ("append {5}\r\ninbox () {1}", Some(message(1, true))),
            ("append inbox utf8 (~{12}", Some(Message { utf8: true, ..binary(message(12, true)) })),
            ("append inbox utf8 ({12}", None),
            (
                "append inbox (\\Seen x) \"01-Jan-2020 10:11:12 +0200\" {3}",
                Some(Message { flags: vec![Flag::Seen, Flag::Keyword("x".into())], date: Some(date), ..message(3, true) }),
            ),
            ("append inbox (\\Recent) {3}", None),
            ("append inbox", None),
            ("append inbox text", None),
            ("append inbox {3}\r\nabc", None),
        ] {
            let want = want.map(|message| Command::Append(Append { mailbox: "inbox".into(), message }));
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn behind_a_message() {
        let plain = message(1, true);
        let utf8 = Message { utf8: true, ..message(1, true) };
        assert_eq!(more(b"", &plain), Ok(None));
        assert_eq!(more(b")", &utf8), Ok(None));
        assert_eq!(more(b" {4+}", &plain), Ok(Some(message(4, false))));
        assert!(more(b")", &plain).is_err());
        assert!(more(b"", &utf8).is_err());
        assert!(more(b"x", &plain).is_err());
    }
}
