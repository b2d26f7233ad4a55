//! SEARCH and UID SEARCH, RFC 9051 §6.4.4.
//!
//! A program is first worked out on sets: flags, UIDs and sequence numbers are bitmaps of the view, and so is what NOT, OR and AND
//! make of them. That leaves messages about which more has to be known; these are read, cheap facts first, and only they. A
//! program of flags reads nothing. Reading headers and texts is done a few milliseconds at a time, in turn with other sessions, so
//! that nobody waits long who wants less; it ends when the client has gone.

use super::{Done, enable};
use crate::error::Failure;
use crate::session::{Selected, Session};
use crate::text;
use mox_base::{ModSeq, Timestamp, Uid};
use mox_imap::cmd::Head;
use mox_imap::cmd::search::{Returns, Search, SearchKey, When};
use mox_imap::response::{self, Code, Esearch};
use mox_imap::token::Date;
use mox_imap::{Flag, RangeSet, SequenceSet};
use mox_message::{DateTime, Headers, Structure};
use mox_store::{Account, Columns, Error, Flags, MessageRow, ReadTx, UidSet, View, wire};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Messages looked into in one read of the store.
const READ: usize = 500;

/// Time for one read of headers or texts, after which no further message is begun.
const SLICE: Duration = Duration::from_millis(10);

pub(crate) async fn run(s: &mut Session, head: &Head, search: Search) -> Done {
    // RFC 6855 §3 wants no charset with UTF-8 enabled, but it does no harm.
    let save = search.returns.is_some_and(|r| r.save);
    if search.charset.as_ref().is_some_and(|c| !matches!(c.as_str(), "US-ASCII" | "UTF-8")) {
        // RFC 5182 §2.1: a search that fails leaves an empty result.
        if save && let Some(selected) = &mut s.selected {
            selected.saved = UidSet::new();
        }
        return Err(Failure::code(Code::BadCharset, "unsupported charset"));
    }
    let asks_modseq = search.keys.iter().any(has_modseq);
    if asks_modseq {
        enable::condstore(s);
    }
    let selected = s.selected()?;
    let (account, view) = (s.account()?, Arc::clone(&selected.view));
    // The client's numbers, but flags as they are: its own changes may not be in its view yet, while removals by others wait there.
    let newest = match account.view(selected.id).await {
        Ok(newest) => newest,
        Err(Error::NoMailbox) => Arc::clone(&view),
        Err(error) => return Err(error.into()),
    };
    let plan = {
        let planner = Planner { selected, newest: &newest, universe: view.uids(), now: s.service.clock.now() };
        planner.all(search.keys)?
    };
    if save && let Some(selected) = &mut s.selected {
        selected.saved = UidSet::new();
    }
    let found = find(s, &account, &view, plan).await?;
    let highest = if asks_modseq { highest_modseq(&account, &view, &found).await? } else { None };
    if save && let Some(selected) = &mut s.selected {
        selected.saved = saved(&found, search.returns.unwrap_or_default());
    }
    let numbers = if search.uid { found.ranges().collect() } else { sequence_numbers(&view, &found) };
    if search.returns.is_none() && !s.enabled.rev2 {
        response::search(&mut s.conn.out, &numbers, highest);
        return Ok(None);
    }
    let returns = search.returns.unwrap_or(Returns { all: true, ..Returns::default() });
    if returns == (Returns { save: true, ..Returns::default() }) {
        return Ok(None);
    }
    let answer = Esearch {
        uid: search.uid,
        min: numbers.first().filter(|_| returns.min),
        max: numbers.last().filter(|_| returns.max),
        count: returns.count.then(|| numbers.count()),
        all: if returns.all { numbers } else { RangeSet::new() },
        modseq: highest,
    };
    answer.print(&mut s.conn.out, &head.tag);
    Ok(None)
}

fn has_modseq(key: &SearchKey) -> bool {
    match key {
        SearchKey::ModSeq(_) => true,
        SearchKey::Not(key) => has_modseq(key),
        SearchKey::Or(a, b) => has_modseq(a) || has_modseq(b),
        SearchKey::And(keys) => keys.iter().any(has_modseq),
        _ => false,
    }
}

/// With only MIN and MAX, only these are saved, RFC 5182 §2.4.
fn saved(found: &UidSet, returns: Returns) -> UidSet {
    if returns.all || returns.count || !(returns.min || returns.max) {
        return found.clone();
    }
    let min = found.first().filter(|_| returns.min);
    let max = found.last().filter(|_| returns.max);
    min.into_iter().chain(max).collect()
}

fn sequence_numbers(view: &View, found: &UidSet) -> RangeSet {
    if found.len() == u64::from(view.exists()) {
        return [(1, view.exists())].into_iter().filter(|_| view.exists() > 0).collect();
    }
    let mut numbers = RangeSet::new();
    view.for_each(found, |entry| numbers.push(entry.seq));
    numbers
}

async fn highest_modseq(account: &Account, view: &View, found: &UidSet) -> Result<Option<ModSeq>, Failure> {
    let (mailbox, found) = (view.mailbox().id, found.clone());
    let highest = account
        .read(move |r| {
            let mut highest = None;
            r.fetch_rows(mailbox, &found, Columns::MODSEQ, |row| {
                highest = highest.max(Some(row.modseq()?));
                Ok::<_, Error>(true)
            })?;
            Ok::<_, Error>(highest)
        })
        .await?;
    Ok(highest)
}

/// A program, with all that is known from the view worked out.
#[derive(Clone, Debug)]
enum Plan {
    /// Exactly these.
    Known(UidSet),
    /// Depends on the message.
    Fact(Fact),
    Not(Box<Self>),
    Any(Vec<Self>),
    All(Vec<Self>),
}

/// What has to be known of a message, in the order of what it costs to find out.
#[derive(Clone, Debug, PartialEq)]
enum Fact {
    Received(When, Date),
    /// Received at this time or before.
    ReceivedUntil(Timestamp),
    /// Received at this time or later.
    ReceivedFrom(Timestamp),
    Larger(u64),
    Smaller(u64),
    ModSeq(u64),
    Sent(When, Date),
    /// Field and text, both in lower case.
    Header(String, String),
    Body(String),
    Text(String),
}

struct Planner<'a> {
    selected: &'a Selected,
    newest: &'a View,
    universe: UidSet,
    now: Timestamp,
}

impl Planner<'_> {
    fn all(&self, keys: Vec<SearchKey>) -> Result<Plan, Failure> {
        let plans = keys.into_iter().map(|k| self.plan(k)).collect::<Result<Vec<_>, _>>()?;
        let mut known = self.universe.clone();
        let mut rest = Vec::new();
        for plan in plans {
            match plan {
                Plan::Known(set) => known = &known & &set,
                other => rest.push(other),
            }
        }
        if rest.is_empty() || known.is_empty() {
            return Ok(Plan::Known(known));
        }
        rest.sort_by_key(cost);
        rest.insert(0, Plan::Known(known));
        Ok(Plan::All(rest))
    }

    fn plan(&self, key: SearchKey) -> Result<Plan, Failure> {
        Ok(match key {
            SearchKey::All => Plan::Known(self.universe.clone()),
            SearchKey::Nothing => Plan::Known(UidSet::new()),
            SearchKey::Sequence(set) => Plan::Known(self.sequence(&set)),
            SearchKey::Uid(set) => Plan::Known(self.selected.uids(&set, true)?),
            SearchKey::Flag(flag) => Plan::Known(&with_flag(self.newest, &flag) & &self.universe),
            SearchKey::Not(key) => match self.plan(*key)? {
                Plan::Known(set) => Plan::Known(&self.universe - &set),
                other => Plan::Not(Box::new(other)),
            },
            SearchKey::And(keys) => self.all(keys)?,
            SearchKey::Or(a, b) => match (self.plan(*a)?, self.plan(*b)?) {
                (Plan::Known(a), Plan::Known(b)) => Plan::Known(&a | &b),
                (a, b) => {
                    let mut both = vec![a, b];
                    both.sort_by_key(cost);
                    Plan::Any(both)
                }
            },
            SearchKey::Received(when, date) => Plan::Fact(Fact::Received(when, date)),
            SearchKey::Sent(when, date) => Plan::Fact(Fact::Sent(when, date)),
            SearchKey::Older(secs) => Plan::Fact(Fact::ReceivedUntil(self.ago(secs))),
            SearchKey::Younger(secs) => Plan::Fact(Fact::ReceivedFrom(self.ago(secs))),
            SearchKey::Larger(n) => Plan::Fact(Fact::Larger(n)),
            SearchKey::Smaller(n) => Plan::Fact(Fact::Smaller(n)),
            // Every message has a mod-sequence of at least 1.
            SearchKey::ModSeq(n) if n <= 1 => Plan::Known(self.universe.clone()),
            SearchKey::ModSeq(n) => Plan::Fact(Fact::ModSeq(n)),
            SearchKey::Header(field, text) => Plan::Fact(Fact::Header(field.to_ascii_lowercase(), text.to_lowercase())),
            // Every text has the empty one in it.
            SearchKey::Body(text) | SearchKey::Text(text) if text.is_empty() => Plan::Known(self.universe.clone()),
            SearchKey::Body(text) => Plan::Fact(Fact::Body(text.to_lowercase())),
            SearchKey::Text(text) => Plan::Fact(Fact::Text(text.to_lowercase())),
        })
    }

    fn ago(&self, secs: u32) -> Timestamp {
        self.now.before(std::time::Duration::from_secs(u64::from(secs)))
    }

    /// Numbers beyond the last message count as the last; in a search they are no error.
    fn sequence(&self, set: &SequenceSet) -> UidSet {
        let exists = self.selected.view.exists();
        match set.resolve(exists) {
            None => self.selected.view.existing(&self.selected.saved),
            Some(_) if exists == 0 => UidSet::new(),
            Some(ranges) => self.selected.view.uids_of_seqs(ranges.ranges().iter().map(|(a, b)| ((*a).min(exists), (*b).min(exists)))),
        }
    }
}

fn with_flag(view: &View, flag: &Flag) -> UidSet {
    view.with_flag(match flag {
        Flag::Seen => Flags::SEEN,
        Flag::Answered => Flags::ANSWERED,
        Flag::Flagged => Flags::FLAGGED,
        Flag::Deleted => Flags::DELETED,
        Flag::Draft => Flags::DRAFT,
        Flag::Forwarded => Flags::FORWARDED,
        Flag::Junk => Flags::JUNK,
        Flag::NotJunk => Flags::NOTJUNK,
        Flag::Phishing => Flags::PHISHING,
        Flag::MdnSent => Flags::MDNSENT,
        Flag::Keyword(name) => return view.with_keyword(name),
    })
}

/// What a plan costs for a message: 0 nothing, 1 its row, 2 its header, 3 its text.
fn cost(plan: &Plan) -> u8 {
    match plan {
        Plan::Known(_) => 0,
        Plan::Fact(Fact::Sent(..) | Fact::Header(..)) => 2,
        Plan::Fact(Fact::Body(_) | Fact::Text(_)) => 3,
        Plan::Fact(_) => 1,
        Plan::Not(plan) => cost(plan),
        Plan::Any(plans) | Plan::All(plans) => plans.iter().map(cost).max().unwrap_or(0),
    }
}

fn asks_modseq(plan: &Plan) -> bool {
    match plan {
        Plan::Known(_) => false,
        Plan::Fact(fact) => matches!(fact, Fact::ModSeq(_)),
        Plan::Not(plan) => asks_modseq(plan),
        Plan::Any(plans) | Plan::All(plans) => plans.iter().any(asks_modseq),
    }
}

/// Messages that match in any case, and those that may.
fn bounds(plan: &Plan, universe: &UidSet) -> (UidSet, UidSet) {
    match plan {
        Plan::Known(set) => (set.clone(), set.clone()),
        Plan::Fact(_) => (UidSet::new(), universe.clone()),
        Plan::Not(plan) => {
            let (lower, upper) = bounds(plan, universe);
            (universe - &upper, universe - &lower)
        }
        Plan::Any(plans) => plans.iter().fold((UidSet::new(), UidSet::new()), |(lower, upper), plan| {
            let (l, u) = bounds(plan, universe);
            (&lower | &l, &upper | &u)
        }),
        Plan::All(plans) => plans.iter().fold((universe.clone(), universe.clone()), |(lower, upper), plan| {
            let (l, u) = bounds(plan, universe);
            (&lower & &l, &upper & &u)
        }),
    }
}

async fn find(s: &mut Session, account: &Account, view: &Arc<View>, plan: Plan) -> Result<UidSet, Failure> {
    let (mut found, upper) = match plan {
        Plan::Known(set) => return Ok(set),
        ref plan => bounds(plan, &view.uids()),
    };
    let mut rest = &upper - &found;
    let plan = Arc::new(plan);
    let mailbox = view.mailbox().id;
    let mut columns = if cost(&plan) >= 2 { Columns::HEADERS } else { Columns::STATE };
    if asks_modseq(&plan) {
        columns = columns | Columns::MODSEQ;
    }
    let at_once = if cost(&plan) >= 3 {
        READ / 10
    } else if cost(&plan) >= 2 {
        READ * 4
    } else {
        READ * 100
    };
    while !rest.is_empty() {
        let (plan, uids, clock) = (Arc::clone(&plan), rest.clone(), Arc::clone(&s.service.clock));
        let heavy = cost(&plan) >= 2;
        let look = move |r: &ReadTx<'_>| {
            let mut matching = UidSet::new();
            let mut looked = 0usize;
            let begun = clock.monotonic();
            let last = r.fetch_rows(mailbox, &uids, columns, |row| {
                let mut candidate = Candidate { r, row, header: None, structure: None };
                if candidate.matches(&plan)? {
                    matching.insert(row.uid());
                }
                looked = looked.saturating_add(1);
                Ok::<_, Error>(looked < at_once && !(heavy && clock.monotonic().saturating_sub(begun) >= SLICE))
            })?;
            Ok::<_, Error>((matching, last))
        };
        let (matching, last) = if heavy {
            let mut turn = account.scan().await?;
            if s.conn.has_fallen_silent().await? {
                // Others aren't to wait until it reads.
                drop(turn);
                s.conn.ask_if_there().await?;
                turn = account.scan().await?;
            }
            turn.read(look).await?
        } else {
            account.read(look).await?
        };
        found = &found | &matching;
        rest = match last.and_then(Uid::next) {
            Some(next) => rest.starting_at(next),
            None => UidSet::new(),
        };
    }
    Ok(found)
}

/// A message that is looked into; what is read of it is kept for the next question.
struct Candidate<'c> {
    r: &'c ReadTx<'c>,
    row: &'c MessageRow<'c>,
    header: Option<Vec<u8>>,
    structure: Option<Structure>,
}

impl Candidate<'_> {
    fn matches(&mut self, plan: &Plan) -> Result<bool, Error> {
        match plan {
            Plan::Known(set) => Ok(set.contains(self.row.uid())),
            Plan::Fact(fact) => self.holds(fact),
            Plan::Not(plan) => Ok(!self.matches(plan)?),
            Plan::Any(plans) => {
                for plan in plans {
                    if self.matches(plan)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Plan::All(plans) => {
                for plan in plans {
                    if !self.matches(plan)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    fn holds(&mut self, fact: &Fact) -> Result<bool, Error> {
        Ok(match fact {
            Fact::Received(when, date) => day(self.row.received()?.date_at(self.row.zone()?)).is_some_and(|d| when.holds(d, *date)),
            Fact::ReceivedUntil(time) => self.row.received()? <= *time,
            Fact::ReceivedFrom(time) => self.row.received()? >= *time,
            Fact::Larger(n) => self.row.size()?.0 > *n,
            Fact::Smaller(n) => self.row.size()?.0 < *n,
            Fact::ModSeq(n) => self.row.modseq()?.get() >= *n,
            Fact::Sent(when, date) => {
                let text = self.in_header("date", |section| Headers::new(section).text("date"))?;
                let sent = text.and_then(|t| DateTime::parse(&t)).and_then(|t| day(t.date()));
                sent.is_some_and(|d| when.holds(d, *date))
            }
            Fact::Header(field, needle) => self.in_header(field, |section| text::in_field(section, field, needle))?,
            Fact::Body(needle) => self.in_text(needle)?,
            Fact::Text(needle) => self.in_headers(needle)? || self.in_text(needle)?,
        })
    }

    /// Asks the header section; its common fields are at hand.
    fn in_header<T>(&mut self, field: &str, ask: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
        if wire::COMMON_HEADERS.contains(&field)
            && let Some(common) = self.row.headers()?
        {
            return Ok(ask(common));
        }
        if self.header.is_none() {
            let range = self.structure()?.root().header.clone();
            self.header = Some(self.bytes(range)?);
        }
        Ok(ask(self.header.as_deref().unwrap_or_default()))
    }

    fn structure(&mut self) -> Result<&Structure, Error> {
        if self.structure.is_none() {
            self.structure = Some(self.r.structure(self.row.id()?)?);
        }
        // Just put there.
        self.structure.as_ref().ok_or(Error::NoMessage)
    }

    fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        self.r.message_bytes(self.row.id()?, range, &mut out)?;
        Ok(out)
    }

    /// Header sections of all parts.
    fn in_headers(&mut self, needle: &str) -> Result<bool, Error> {
        let ranges: Vec<Range<u64>> = self.structure()?.parts().iter().map(|p| p.header.clone()).collect();
        for range in ranges {
            if text::in_section(&self.bytes(range)?, needle) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Text parts, also of embedded messages.
    fn in_text(&mut self, needle: &str) -> Result<bool, Error> {
        let parts: Vec<_> = self.structure()?.parts().iter().filter(|p| p.is_leaf() && p.is_text()).cloned().collect();
        for part in parts {
            if text::in_part(&part, needle, |range| self.bytes(range))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn day((year, month, day): (i32, u8, u8)) -> Option<Date> {
    Some(Date { year: u16::try_from(year).ok()?, month, day })
}
