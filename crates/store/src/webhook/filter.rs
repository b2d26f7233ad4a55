//! Which webhooks, in which order: what lists and actions of administrators are told.

use super::row::{Event, WebhookId};
use crate::selection::{Of, Selection, TimeBound};

pub use crate::selection::SortField;

/// The order of a list of webhooks.
pub type Sort = crate::selection::Sort<WebhookId>;

/// Conditions, all of which must hold. The default matches everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At most so many, after sorting; none for no limit. Also limits actions.
    pub max: Option<u64>,
    /// One of these, if there are any.
    pub ids: Vec<WebhookId>,
    /// Whose they are.
    pub account: Option<String>,
    /// When it was added.
    pub submitted: Option<TimeBound>,
    /// When it is due. Not of retired webhooks.
    pub next_attempt: Option<TimeBound>,
    /// When it was done. Only of retired webhooks.
    pub last_activity: Option<TimeBound>,
    /// What it tells of.
    pub event: Option<Event>,
}

/// What a list or an action is about. `limit` further bounds the filter's own maximum.
pub(super) fn selected(filter: &Filter, sort: &Sort, limit: Option<u64>, of: Of) -> Selection {
    let mut s = Selection::all("w");
    s.one_of(filter.ids.iter().map(|id| id.0));
    s.equal("account", filter.account.as_deref());
    s.equal("event", filter.event.map(Event::name));
    s.within("submitted", filter.submitted);
    let time = match of {
        Of::Waiting => "next_attempt",
        Of::Retired => "last_activity",
    };
    s.within(time, if of == Of::Waiting { filter.next_attempt } else { filter.last_activity });
    let column = if sort.field == SortField::Added { "submitted" } else { time };
    let max = [filter.max, limit].into_iter().flatten().min();
    s.ordered(column, sort.ascending, sort.after.map(|(time, id)| (time, id.0)), max);
    s
}
