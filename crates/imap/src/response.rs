//! Responses, RFC 9051 §7: status lines with their codes, and the lines of data that aren't about single messages.
//!
//! All is printed into a buffer that the caller keeps. Data of messages (FETCH) is put together by the server from [`crate::put`]
//! and stored bytes.

use crate::cmd::mailbox::StatusItem;
use crate::flag::NAMED;
use crate::put::{self, Charset};
use crate::set::RangeSet;
use mox_base::{ModSeq, UidValidity};

/// The kinds of status responses, RFC 9051 §7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It worked.
    Ok,
    /// It didn't.
    No,
    /// It wasn't understood.
    Bad,
    /// The connection ends.
    Bye,
    /// The connection begins authenticated.
    PreAuth,
}

/// Response codes, RFC 9051 §7.1 and the extensions.
#[derive(Clone, Debug, PartialEq)]
pub enum Code {
    /// To be shown to the user.
    Alert,
    /// The mailbox exists.
    AlreadyExists,
    /// UIDs of appended messages, RFC 4315.
    AppendUid(UidValidity, RangeSet),
    /// Bad credentials.
    AuthenticationFailed,
    /// No right to act for someone else.
    AuthorizationFailed,
    /// Unknown charset in SEARCH.
    BadCharset,
    /// Never possible, such as a bad name.
    Cannot,
    /// Capabilities.
    Capability(String),
    /// The former mailbox isn't selected any more.
    Closed,
    /// UIDs of copied messages: source and destination, RFC 4315.
    CopyUid(UidValidity, RangeSet, RangeSet),
    /// Some of the messages were expunged meanwhile.
    ExpungeIssued,
    /// The mailbox has children.
    HasChildren,
    /// RFC 7162 §3.1.2.1.
    HighestModSeq(ModSeq),
    /// Over a limit.
    Limit,
    /// Messages that weren't changed, RFC 7162 §3.1.3.
    Modified(RangeSet),
    /// There is no such mailbox.
    NonExistent,
    /// Too many changes to tell, RFC 5465 §5.8.
    NotificationOverflow,
    /// RFC 9208.
    OverQuota,
    /// Flags that can be changed: the printed list, with parentheses.
    PermanentFlags(String),
    /// TLS first.
    PrivacyRequired,
    /// Nothing can be changed.
    ReadOnly,
    /// Things can be changed.
    ReadWrite,
    /// Our fault.
    ServerBug,
    /// A literal over its limit.
    TooBig,
    /// The mailbox could be created.
    TryCreate,
    /// The next UID.
    UidNext(u32),
    /// The epoch of UIDs.
    UidValidity(UidValidity),
    /// Not now.
    Unavailable,
    /// A transfer encoding that can't be decoded, RFC 3516.
    UnknownCte,
    /// The first message without `\Seen`.
    Unseen(u32),
    /// A special use that there isn't, RFC 6154.
    UseAttr,
}

impl Code {
    fn print(&self, out: &mut Vec<u8>) {
        let word = match self {
            Self::Alert => "ALERT",
            Self::AlreadyExists => "ALREADYEXISTS",
            Self::AuthenticationFailed => "AUTHENTICATIONFAILED",
            Self::AuthorizationFailed => "AUTHORIZATIONFAILED",
            Self::BadCharset => "BADCHARSET (US-ASCII UTF-8)",
            Self::Cannot => "CANNOT",
            Self::Closed => "CLOSED",
            Self::ExpungeIssued => "EXPUNGEISSUED",
            Self::HasChildren => "HASCHILDREN",
            Self::Limit => "LIMIT",
            Self::NonExistent => "NONEXISTENT",
            Self::NotificationOverflow => "NOTIFICATIONOVERFLOW",
            Self::OverQuota => "OVERQUOTA",
            Self::PrivacyRequired => "PRIVACYREQUIRED",
            Self::ReadOnly => "READ-ONLY",
            Self::ReadWrite => "READ-WRITE",
            Self::ServerBug => "SERVERBUG",
            Self::TooBig => "TOOBIG",
            Self::TryCreate => "TRYCREATE",
            Self::Unavailable => "UNAVAILABLE",
            Self::UnknownCte => "UNKNOWN-CTE",
            Self::UseAttr => "USEATTR",
            Self::AppendUid(..) => "APPENDUID ",
            Self::Capability(_) => "CAPABILITY ",
            Self::CopyUid(..) => "COPYUID ",
            Self::HighestModSeq(_) => "HIGHESTMODSEQ ",
            Self::Modified(_) => "MODIFIED ",
            Self::PermanentFlags(_) => "PERMANENTFLAGS ",
            Self::UidNext(_) => "UIDNEXT ",
            Self::UidValidity(_) => "UIDVALIDITY ",
            Self::Unseen(_) => "UNSEEN ",
        };
        out.extend_from_slice(word.as_bytes());
        match self {
            Self::AppendUid(validity, uids) => {
                put::number(out, u64::from(validity.get()));
                out.push(b' ');
                uids.print(out);
            }
            Self::CopyUid(validity, from, to) => {
                put::number(out, u64::from(validity.get()));
                out.push(b' ');
                from.print(out);
                out.push(b' ');
                to.print(out);
            }
            Self::Capability(text) | Self::PermanentFlags(text) => out.extend_from_slice(text.as_bytes()),
            Self::HighestModSeq(n) => put::number(out, n.get()),
            Self::Modified(set) => set.print(out),
            Self::UidNext(n) | Self::Unseen(n) => put::number(out, u64::from(*n)),
            Self::UidValidity(n) => put::number(out, u64::from(n.get())),
            _ => {}
        }
    }
}

/// `tag SP resp-cond-state CRLF`, untagged without a tag. The text is free, but never empty, RFC 9051 §9 `resp-text`.
pub fn status(out: &mut Vec<u8>, tag: Option<&str>, status: Status, code: Option<&Code>, text: &str) {
    out.extend_from_slice(tag.unwrap_or("*").as_bytes());
    out.extend_from_slice(match status {
        Status::Ok => b" OK ".as_slice(),
        Status::No => b" NO ",
        Status::Bad => b" BAD ",
        Status::Bye => b" BYE ",
        Status::PreAuth => b" PREAUTH ",
    });
    if let Some(code) = code {
        out.push(b'[');
        code.print(out);
        out.extend_from_slice(b"] ");
    }
    let start = out.len();
    // One line, in ASCII: clients that enabled nothing read it too.
    out.extend(text.bytes().map(|b| if (0x20..0x7f).contains(&b) { b } else { b'?' }));
    if out.len() == start {
        out.push(b'-');
    }
    out.extend_from_slice(b"\r\n");
}

/// `"+" SP (resp-text / base64) CRLF`.
pub fn continuation(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"+ ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `"*" SP text CRLF`.
pub fn untagged(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"* ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `* n EXISTS` and `* n EXPUNGE`.
pub fn counted(out: &mut Vec<u8>, n: u32, word: &str) {
    out.extend_from_slice(b"* ");
    put::number(out, u64::from(n));
    out.push(b' ');
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The names of all flags, for FLAGS and PERMANENTFLAGS: the ten with names, then the keywords, then `more`.
pub fn flag_names<'a>(keywords: impl IntoIterator<Item = &'a str>, more: Option<&str>) -> String {
    let names = NAMED.iter().map(|(_, name)| *name).chain(keywords).map(str::to_owned);
    let names: Vec<String> = names.chain(more.map(str::to_owned)).collect();
    format!("({})", names.join(" "))
}

/// A `LIST` or `LSUB` line.
#[derive(Clone, Debug, Default)]
pub struct ListLine<'a> {
    /// Attributes, with their backslash.
    pub attributes: Vec<&'a str>,
    /// The mailbox.
    pub name: &'a str,
    /// The name before RENAME, or as it was sent, RFC 9051 §6.3.9.7.
    pub old_name: Option<&'a str>,
    /// Has a subscribed descendant, RFC 5258 §3.5.
    pub child_subscribed: bool,
}

impl ListLine<'_> {
    /// Prints it as a response called `word`.
    pub fn print(&self, out: &mut Vec<u8>, word: &str, charset: Charset) {
        out.extend_from_slice(b"* ");
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(b" (");
        out.extend_from_slice(self.attributes.join(" ").as_bytes());
        out.extend_from_slice(b") \"/\" ");
        put::mailbox(out, self.name, charset);
        if self.child_subscribed {
            out.extend_from_slice(b" (CHILDINFO (\"SUBSCRIBED\"))");
        }
        if let Some(old) = self.old_name {
            out.extend_from_slice(b" (\"OLDNAME\" (");
            put::mailbox(out, old, charset);
            out.extend_from_slice(b"))");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// `* STATUS mailbox (…)`; an item without a value is NIL.
pub fn mailbox_status(out: &mut Vec<u8>, name: &str, items: &[(StatusItem, Option<u64>)], charset: Charset) {
    out.extend_from_slice(b"* STATUS ");
    put::mailbox(out, name, charset);
    out.extend_from_slice(b" (");
    for (i, (item, value)) in items.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(item.name().as_bytes());
        out.push(b' ');
        match value {
            Some(n) => put::number(out, *n),
            None => out.extend_from_slice(b"NIL"),
        }
    }
    out.extend_from_slice(b")\r\n");
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Esearch {
    /// Numbers are UIDs.
    pub uid: bool,
    /// `MIN`.
    pub min: Option<u32>,
    /// `MAX`.
    pub max: Option<u32>,
    /// `COUNT`.
    pub count: Option<u64>,
    /// `ALL`, not printed when empty.
    pub all: RangeSet,
    /// `MODSEQ`.
    pub modseq: Option<ModSeq>,
}

impl Esearch {
    /// `esearch-response`, RFC 9051 §9.
    pub fn print(&self, out: &mut Vec<u8>, tag: &str) {
        out.extend_from_slice(b"* ESEARCH (TAG ");
        put::quoted(out, tag.as_bytes());
        out.push(b')');
        if self.uid {
            out.extend_from_slice(b" UID");
        }
        let numbers = [("MIN", self.min.map(u64::from)), ("MAX", self.max.map(u64::from)), ("COUNT", self.count)];
        for (name, value) in numbers {
            if let Some(value) = value {
                word_number(out, name, value);
            }
        }
        if !self.all.is_empty() {
            out.extend_from_slice(b" ALL ");
            self.all.print(out);
        }
        if let Some(modseq) = self.modseq {
            word_number(out, "MODSEQ", modseq.get());
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn word_number(out: &mut Vec<u8>, word: &str, n: u64) {
    out.push(b' ');
    out.extend_from_slice(word.as_bytes());
    out.push(b' ');
    put::number(out, n);
}

/// Numbers on one line of an old `SEARCH` response.
const SEARCH_LINE: usize = 100;

/// `mailbox-data = "SEARCH" *(SP nz-number)`, RFC 3501 §9, in lines of at most 100 numbers; the mod-sequence on the last.
pub fn search(out: &mut Vec<u8>, numbers: &RangeSet, modseq: Option<ModSeq>) {
    out.extend_from_slice(b"* SEARCH");
    for (i, n) in numbers.iter().enumerate() {
        if i > 0 && i % SEARCH_LINE == 0 {
            out.extend_from_slice(b"\r\n* SEARCH");
        }
        out.push(b' ');
        put::number(out, u64::from(n));
    }
    if let Some(modseq) = modseq {
        out.extend_from_slice(b" (MODSEQ ");
        put::number(out, modseq.get());
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(print: impl Fn(&mut Vec<u8>), want: &str) {
        let mut out = Vec::new();
        print(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    #[test]
    fn statuses() {
        let uids = || [3, 4, 5, 9].into_iter().collect();
        let validity = UidValidity::new(7).unwrap();
        check(|o| status(o, Some("a"), Status::Ok, None, "done"), "a OK done\r\n");
        check(|o| status(o, None, Status::Bye, Some(&Code::Alert), "bye\r\nx"), "* BYE [ALERT] bye??x\r\n");
        check(|o| status(o, Some("a"), Status::Ok, Some(&Code::AppendUid(validity, uids())), ""), "a OK [APPENDUID 7 3:5,9] -\r\n");
        check(
            |o| status(o, None, Status::Ok, Some(&Code::CopyUid(validity, uids(), [1, 2, 3, 4].into_iter().collect())), "x"),
            "* OK [COPYUID 7 3:5,9 1:4] x\r\n",
        );
    }

    #[test]
    fn lists() {
        let line = ListLine { attributes: vec!["\\Subscribed", "\\Sent"], name: "é", old_name: Some("x y"), child_subscribed: true };
        check(
            |o| line.print(o, "LIST", Charset::Rev1),
            "* LIST (\\Subscribed \\Sent) \"/\" \"&AOk-\" (CHILDINFO (\"SUBSCRIBED\")) (\"OLDNAME\" (\"x y\"))\r\n"
                .replace("\"&AOk-\"", "&AOk-")
                .as_str(),
        );
        check(
            |o| mailbox_status(o, "a", &[(StatusItem::Messages, Some(3)), (StatusItem::AppendLimit, None)], Charset::Utf8),
            "* STATUS a (MESSAGES 3 APPENDLIMIT NIL)\r\n",
        );
    }

    #[test]
    fn searches() {
        let found = Esearch {
            uid: true,
            min: Some(1),
            count: Some(3),
            all: [1, 2, 3].into_iter().collect(),
            modseq: ModSeq::new(9),
            ..Esearch::default()
        };
        check(|o| found.print(o, "a\\"), "* ESEARCH (TAG \"a\\\\\") UID MIN 1 COUNT 3 ALL 1:3 MODSEQ 9\r\n");
        check(|o| search(o, &RangeSet::new(), None), "* SEARCH\r\n");
        check(|o| search(o, &[4, 6].into_iter().collect(), ModSeq::new(2)), "* SEARCH 4 6 (MODSEQ 2)\r\n");
        let mut out = Vec::new();
        search(&mut out, &[(1, 250)].into_iter().collect(), None);
        assert_eq!(out.split(|b| *b == b'\n').count(), 4);
    }
}
