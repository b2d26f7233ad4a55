//! Which entries, in which order: what lists and actions of administrators are told.

use crate::selection::{Selection, TimeBound};
use mox_base::{Domain, QueueId, Timestamp};

/// Conditions, all of which must hold. The default matches everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At most so many, after sorting; none for no limit. Also limits actions.
    pub max: Option<u64>,
    /// One of these, if there are any.
    pub ids: Vec<QueueId>,
    /// The sender's account.
    pub account: Option<String>,
    /// Part of the sender's address, in Unicode.
    pub from: Option<String>,
    /// Part of the recipient's address, in Unicode.
    pub to: Option<String>,
    /// The domain of MAIL FROM.
    pub sender_domain: Option<Domain>,
    /// The domain of RCPT TO.
    pub recipient_domain: Option<Domain>,
    /// Held or not. Not of retired entries.
    pub hold: Option<bool>,
    /// When it was queued.
    pub submitted: Option<TimeBound>,
    /// When it is due. Not of retired entries.
    pub next_attempt: Option<TimeBound>,
    /// When something last happened to it. Only of retired entries.
    pub last_activity: Option<TimeBound>,
    /// The forced transport; empty for none.
    pub transport: Option<String>,
    /// Whether it was delivered. Only of retired entries.
    pub success: Option<bool>,
}

/// Why a text is no relative time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want < or >, followed by a duration such as -1h30m or by now")]
pub struct TimeBoundError;

impl TimeBound {
    /// From `<` or `>`, followed by `now` or a duration that counts from now: `<-1h` is more than an hour ago.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, TimeBoundError> {
        let (before, rest) = match text.strip_prefix('<') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('>').ok_or(TimeBoundError)?),
        };
        let micros = if rest.trim() == "now" { 0 } else { parse_duration(rest.trim()).ok_or(TimeBoundError)? };
        let at = Timestamp::from_micros(now.micros().saturating_add(micros));
        Ok(if before { Self::Before(at) } else { Self::After(at) })
    }
}

/// Microseconds of a duration as Go writes it: `1h30m`, `-10s`, `1.5h`, `0`. None when malformed.
#[must_use]
pub fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: f64 = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_end)?;
        let micros = match unit {
            "ns" => 0.001,
            "us" | "µs" | "μs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 60e6,
            "h" => 3600e6,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * micros;
        rest = next;
    }
    #[expect(clippy::cast_possible_truncation, reason = "floats saturate, and such durations mean for ever")]
    let micros = total as i64;
    Some(sign * micros)
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub field: SortField,
    /// Upwards.
    pub ascending: bool,
    /// The last row of the page before: the list goes on strictly after it.
    pub after: Option<(Timestamp, QueueId)>,
}

/// By what lists are sorted; the id decides between equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortField {
    /// When it is due; of retired entries, when something last happened.
    Time,
    /// When it was queued.
    Queued,
}

/// By time, downwards.
impl Default for Sort {
    fn default() -> Self {
        Self { field: SortField::Time, ascending: false, after: None }
    }
}

/// Of which table rows are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Entries,
    Retired,
}

/// What a list or an action is about. `limit` further bounds the filter's own maximum.
pub(super) fn selected(filter: &Filter, sort: &Sort, limit: Option<u64>, of: Of) -> Selection {
    let mut s = matching(filter, of);
    let column = match (sort.field, of) {
        (SortField::Queued, _) => "queued",
        (SortField::Time, Of::Entries) => "next_attempt",
        (SortField::Time, Of::Retired) => "last_activity",
    };
    let max = [filter.max, limit].into_iter().flatten().min();
    s.ordered(column, sort.ascending, sort.after.map(|(time, id)| (time, id.0)), max);
    s
}

/// Entries that match, without the filter's maximum, with ids beyond `last`, the lowest `limit` of them.
pub(super) fn by_id(filter: &Filter, last: QueueId, limit: usize) -> Selection {
    let mut s = matching(filter, Of::Entries);
    let n = s.int(last.0);
    s.both(&format!(" AND e.id > ${n} ORDER BY e.id LIMIT {limit}"));
    s
}

/// All that match, in no order and without the filter's maximum.
fn matching(filter: &Filter, of: Of) -> Selection {
    let mut s = Selection::all("e");
    s.one_of(filter.ids.iter().map(|id| id.0));
    s.equal("account", filter.account.as_deref());
    s.equal("transport", filter.transport.as_deref());
    for (column, part) in [("sender", &filter.from), ("recipient", &filter.to)] {
        if let Some(part) = part {
            let n = s.text(part);
            s.each(&format!(" AND instr(e.{column}, ${n}) > 0"), &format!(" AND strpos(e.{column}, ${n}) > 0"));
        }
    }
    if let Some(domain) = &filter.sender_domain {
        // What follows the last @ of a sender is its host: no domain holds an @.
        let n = s.text(&format!("@{domain}"));
        s.each(&format!(" AND substr(e.sender, -length(${n})) = ${n}"), &format!(" AND right(e.sender, length(${n})) = ${n}"));
    }
    s.equal("domain", filter.recipient_domain.as_ref().map(ToString::to_string).as_deref());
    let (hold, success) = if of == Of::Entries { (filter.hold, None) } else { (None, filter.success) };
    for (column, want) in [("hold", hold), ("success", success)] {
        if let Some(want) = want {
            s.both(&format!(" AND e.{column} = {}", i64::from(want)));
        }
    }
    s.within("queued", filter.submitted);
    match of {
        Of::Entries => s.within("next_attempt", filter.next_attempt),
        Of::Retired => s.within("last_activity", filter.last_activity),
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("0", Some(0)),
            ("1h30m", Some(5_400_000_000)),
            ("-10s", Some(-10_000_000)),
            ("+1.5s", Some(1_500_000)),
            ("2ms", Some(2000)),
            ("1us", Some(1)),
            ("", None),
            ("-", None),
            ("1", None),
            ("h", None),
            ("1d", None),
            ("1h 2m", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(parse_duration(text), want, "{text}");
        }
    }

    #[test]
    fn time_bounds() {
        let now = Timestamp::from_secs(1000);
        for (text, want) in [
            ("<-1m", Ok(TimeBound::Before(Timestamp::from_secs(940)))),
            (">10s", Ok(TimeBound::After(Timestamp::from_secs(1010)))),
            (">now", Ok(TimeBound::After(now))),
            ("10s", Err(TimeBoundError)),
            ("<", Err(TimeBoundError)),
            ("<yesterday", Err(TimeBoundError)),
        ] {
            assert_eq!(TimeBound::parse(text, now), want, "{text}");
        }
    }
}
