//! Which entries, in which order: what lists and actions of administrators are told.

use crate::selection::{Of, Selection, TimeBound};
use mox_base::{Domain, QueueId};

pub use crate::selection::{SortField, TimeBoundError, parse_duration};

/// The order of a list of entries.
pub type Sort = crate::selection::Sort<QueueId>;

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

/// What a list or an action is about. `limit` further bounds the filter's own maximum.
pub(super) fn selected(filter: &Filter, sort: &Sort, limit: Option<u64>, of: Of) -> Selection {
    let mut s = matching(filter, of);
    let column = match (sort.field, of) {
        (SortField::Added, _) => "queued",
        (SortField::Time, Of::Waiting) => "next_attempt",
        (SortField::Time, Of::Retired) => "last_activity",
    };
    let max = [filter.max, limit].into_iter().flatten().min();
    s.ordered(column, sort.ascending, sort.after.map(|(time, id)| (time, id.0)), max);
    s
}

/// Entries that match, without the filter's maximum, with ids beyond `last`, the lowest `limit` of them.
pub(super) fn by_id(filter: &Filter, last: QueueId, limit: usize) -> Selection {
    let mut s = matching(filter, Of::Waiting);
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
    let (hold, success) = if of == Of::Waiting { (filter.hold, None) } else { (None, filter.success) };
    for (column, want) in [("hold", hold), ("success", success)] {
        if let Some(want) = want {
            s.both(&format!(" AND e.{column} = {}", i64::from(want)));
        }
    }
    s.within("queued", filter.submitted);
    match of {
        Of::Waiting => s.within("next_attempt", filter.next_attempt),
        Of::Retired => s.within("last_activity", filter.last_activity),
    }
    s
}
