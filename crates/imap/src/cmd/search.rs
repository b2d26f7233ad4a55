//! SEARCH: programs of keys, RFC 9051 §6.4.4, with ESEARCH (RFC 4731), SEARCHRES (RFC 5182), CONDSTORE and WITHIN (RFC 5032).

use super::{Command, Context};
use crate::cursor::{Cursor, Parsed};
use crate::flag::Flag;
use crate::set::{SequenceSet, sequence_set};
use crate::token::{Date, astring, atom, date, keyword, list0, number64, nz_number, quoted};

/// `SEARCH` or `UID SEARCH`.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// `UID SEARCH`: answers with UIDs.
    pub uid: bool,
    /// `RETURN (…)`, none without.
    pub returns: Option<Returns>,
    /// `CHARSET`, in upper case.
    pub charset: Option<String>,
    /// All have to match.
    pub keys: Vec<SearchKey>,
}

/// What an extended search returns, RFC 4731 §3.1; `RETURN ()` asks for ALL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// `MIN`.
    pub min: bool,
    /// `MAX`.
    pub max: bool,
    /// `ALL`.
    pub all: bool,
    /// `COUNT`.
    pub count: bool,
    /// `SAVE`, RFC 5182.
    pub save: bool,
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchKey {
    /// Every message.
    All,
    /// No message: NEW, RECENT.
    Nothing,
    /// Sequence numbers, or `$`.
    Sequence(SequenceSet),
    /// UIDs.
    Uid(SequenceSet),
    /// Not this.
    Not(Box<Self>),
    /// One of two.
    Or(Box<Self>, Box<Self>),
    /// All of these.
    And(Vec<Self>),
    /// Has the flag.
    Flag(Flag),
    /// INTERNALDATE, without time and zone.
    Received(When, Date),
    /// The `Date` header, without time and zone.
    Sent(When, Date),
    /// INTERNALDATE at least so many seconds ago.
    Older(u32),
    /// INTERNALDATE at most so many seconds ago.
    Younger(u32),
    /// Size above.
    Larger(u64),
    /// Size below.
    Smaller(u64),
    /// Mod-sequence at least.
    ModSeq(u64),
    /// A header field's value has this in it; any value when empty.
    Header(String, String),
    /// The text has this in it.
    Body(String),
    /// Header or text have this in it.
    Text(String),
}

/// How a day is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Earlier.
    Before,
    /// That day.
    On,
    /// That day or later.
    Since,
}

impl When {
    /// Whether `day` relates so to `to`.
    pub fn holds(self, day: Date, to: Date) -> bool {
        match self {
            Self::Before => day < to,
            Self::On => day == to,
            Self::Since => day >= to,
        }
    }
}

/// How deep NOT, OR and parentheses may nest.
const DEPTH: u32 = 50;

pub(super) fn search(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    search_or_uid(c, false)
}

pub(super) fn uid_search(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    search_or_uid(c, true)
}

/// `search = "SEARCH" [search-return-opts] SP search-program`, RFC 9051 §9.
fn search_or_uid(c: &mut Cursor<'_>, uid: bool) -> Parsed<Command> {
    c.sp()?;
    let mut returns = None;
    if c.eat_text(b"RETURN ") {
        returns = Some(return_opts(c)?);
        c.sp()?;
    }
    let mut charset = None;
    if c.eat_text(b"CHARSET ") {
        charset = Some(astring(c)?.to_ascii_uppercase());
        c.sp()?;
    }
    let keys = crate::token::spaced(c, |c| search_key(c, DEPTH))?;
    Ok(Command::Search(Search { uid, returns, charset, keys }))
}

/// `search-return-opts`, RFC 9051 §9.
fn return_opts(c: &mut Cursor<'_>) -> Parsed<Returns> {
    let mut r = Returns::default();
    list0(c, |c| {
        let start = c.clone();
        match keyword(c)?.as_str() {
            "MIN" => r.min = true,
            "MAX" => r.max = true,
            "ALL" => r.all = true,
            "COUNT" => r.count = true,
            "SAVE" => r.save = true,
            _ => return start.bad("MIN, MAX, ALL, COUNT or SAVE"),
        }
        Ok(())
    })?;
    if r == Returns::default() {
        r.all = true;
    }
    Ok(r)
}

/// `search-key`, RFC 9051 §9.
fn search_key(c: &mut Cursor<'_>, depth: u32) -> Parsed<SearchKey> {
    let Some(depth) = depth.checked_sub(1) else { return c.bad("fewer levels") };
    match c.peek() {
        Some(b'(') => return crate::token::list1(c, |c| search_key(c, depth)).map(SearchKey::And),
        Some(b'*' | b'$' | b'0'..=b'9') => return sequence_set(c).map(SearchKey::Sequence),
        _ => {}
    }
    let start = c.clone();
    let name = keyword(c)?;
    if let Some(key) = flag_key(&name) {
        return Ok(key);
    }
    Ok(match name.as_str() {
        "ALL" | "OLD" => SearchKey::All,
        // There is no \Recent, RFC 9051 appendix E.
        "NEW" | "RECENT" => SearchKey::Nothing,
        "KEYWORD" => SearchKey::Flag(flag_keyword(c)?),
        "UNKEYWORD" => not(SearchKey::Flag(flag_keyword(c)?)),
        "BEFORE" => SearchKey::Received(When::Before, sp_date(c)?),
        "ON" => SearchKey::Received(When::On, sp_date(c)?),
        "SINCE" => SearchKey::Received(When::Since, sp_date(c)?),
        "SENTBEFORE" => SearchKey::Sent(When::Before, sp_date(c)?),
        "SENTON" => SearchKey::Sent(When::On, sp_date(c)?),
        "SENTSINCE" => SearchKey::Sent(When::Since, sp_date(c)?),
        "LARGER" => SearchKey::Larger(sp(c, number64)?),
        "SMALLER" => SearchKey::Smaller(sp(c, number64)?),
        "OLDER" => SearchKey::Older(sp(c, nz_number)?),
        "YOUNGER" => SearchKey::Younger(sp(c, nz_number)?),
        "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => SearchKey::Header(name, sp(c, astring)?),
        "HEADER" => {
            let field = sp(c, astring)?;
            SearchKey::Header(field, sp(c, astring)?)
        }
        "BODY" => SearchKey::Body(sp(c, astring)?),
        "TEXT" => SearchKey::Text(sp(c, astring)?),
        "UID" => SearchKey::Uid(sp(c, sequence_set)?),
        "MODSEQ" => SearchKey::ModSeq(modseq(c)?),
        "NOT" => not(sp(c, |c| search_key(c, depth))?),
        "OR" => {
            let one = sp(c, |c| search_key(c, depth))?;
            SearchKey::Or(Box::new(one), Box::new(sp(c, |c| search_key(c, depth))?))
        }
        _ => return start.bad("search key"),
    })
}

fn flag_key(name: &str) -> Option<SearchKey> {
    let (positive, un) = name.strip_prefix("UN").map_or((name, false), |rest| (rest, true));
    let flag = match positive {
        "SEEN" => Flag::Seen,
        "ANSWERED" => Flag::Answered,
        "FLAGGED" => Flag::Flagged,
        "DELETED" => Flag::Deleted,
        "DRAFT" => Flag::Draft,
        _ => return None,
    };
    Some(if un { not(SearchKey::Flag(flag)) } else { SearchKey::Flag(flag) })
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

fn sp<T>(c: &mut Cursor<'_>, rule: impl FnOnce(&mut Cursor<'_>) -> Parsed<T>) -> Parsed<T> {
    c.sp()?;
    rule(c)
}

fn sp_date(c: &mut Cursor<'_>) -> Parsed<Date> {
    sp(c, date)
}

fn flag_keyword(c: &mut Cursor<'_>) -> Parsed<Flag> {
    sp(c, |c| atom(c).map(|k| Flag::keyword(&k)))
}

/// `"MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer`, RFC 7162 §7. The entry makes no difference, as there is one
/// mod-sequence per message.
fn modseq(c: &mut Cursor<'_>) -> Parsed<u64> {
    c.sp()?;
    if c.peek() == Some(b'"') {
        quoted(c)?;
        c.sp()?;
        let start = c.clone();
        if !matches!(keyword(c)?.as_str(), "PRIV" | "SHARED" | "ALL") {
            return start.bad("priv, shared or all");
        }
        c.sp()?;
    }
    number64(c)
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;
    use crate::set::SeqNumber;

    fn keys(text: &str) -> Option<Vec<SearchKey>> {
        match parse(&format!("search {text}")) {
            Ok(Command::Search(s)) => Some(s.keys),
            _ => None,
        }
    }

    #[test]
    fn programs() {
        use SearchKey::*;
        let day = Date { year: 2020, month: 2, day: 1 };
        let one = || Sequence(SequenceSet::Ranges(vec![(SeqNumber::Number(1), SeqNumber::Last)]));
        for (text, want) in [
            ("all", Some(vec![All])),
            ("unseen 1:*", Some(vec![not(Flag(crate::Flag::Seen)), one()])),
            (
                "or not deleted (draft flagged)",
                Some(vec![Or(
                    Box::new(not(Flag(crate::Flag::Deleted))),
                    Box::new(And(vec![Flag(crate::Flag::Draft), Flag(crate::Flag::Flagged)])),
                )]),
            ),
            ("keyword $JUNK unkeyword X", Some(vec![Flag(crate::Flag::Junk), not(Flag(crate::Flag::Keyword("x".into())))])),
            ("sentsince 1-Feb-2020", Some(vec![Sent(When::Since, day)])),
            ("subject {3}\r\na b header x \"\"", Some(vec![Header("SUBJECT".into(), "a b".into()), Header("x".into(), String::new())])),
            ("modseq \"/flags/\\\\Draft\" all 5", Some(vec![ModSeq(5)])),
            ("uid $", Some(vec![Uid(SequenceSet::Saved)])),
            ("new", Some(vec![Nothing])),
            ("undraft unflagged", Some(vec![not(Flag(crate::Flag::Draft)), not(Flag(crate::Flag::Flagged))])),
            ("older 0", None),
            ("()", None),
            ("not", None),
            ("or all", None),
            ("unall", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(keys(text), want, "{text}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |n: usize| format!("{}all{}", "(".repeat(n), ")".repeat(n));
        assert!(keys(&nested(40)).is_some());
        assert!(keys(&nested(60)).is_none());
        assert!(keys(&format!("{}all", "not ".repeat(10_000))).is_none());
    }

    #[test]
    fn returns() {
        let parse = |text: &str| match parse(text) {
            Ok(Command::Search(s)) => Some((s.uid, s.returns, s.charset)),
            _ => None,
        };
        let all = Returns { all: true, ..Returns::default() };
        assert_eq!(parse("uid search return () charset utf-8 all"), Some((true, Some(all), Some("UTF-8".into()))));
        let got = parse("search return (min save) all");
        assert_eq!(got, Some((false, Some(Returns { min: true, save: true, ..Returns::default() }), None)));
        assert_eq!(parse("search return (x) all"), None);
    }
}
