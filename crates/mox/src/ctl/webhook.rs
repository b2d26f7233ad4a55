//! Webhook commands as they cross the control socket: flags as given, read where the time is known.

use mox_base::Clock;
use mox_store::queue::TimeBound;
use mox_store::webhook::{Event, Filter, Sort, SortField, WebhookId};
use serde::{Deserialize, Serialize};

/// Which webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookFilter {
    /// At most so many; 0 for no limit.
    pub(crate) max: u64,
    /// These ids; empty for all.
    pub(crate) ids: Vec<i64>,
    /// Whose they are.
    pub(crate) account: Option<String>,
    /// `<` or `>` and a duration from now.
    pub(crate) submitted: Option<String>,
    /// `<` or `>` and a duration from now.
    pub(crate) next_attempt: Option<String>,
    /// `<` or `>` and a duration from now.
    pub(crate) last_activity: Option<String>,
    /// What they tell of, by name.
    pub(crate) event: Option<String>,
}

impl WebhookFilter {
    /// For the store.
    ///
    /// # Errors
    /// A text for the operator.
    pub(crate) fn filter(&self, clock: &dyn Clock) -> Result<Filter, String> {
        let bound = |name: &str, text: &Option<String>| {
            let text = text.as_deref().filter(|t| !t.is_empty());
            text.map(|t| TimeBound::parse(t, clock.now()).map_err(|e| format!("bad {name}: {e}"))).transpose()
        };
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let event = given(&self.event);
        Ok(Filter {
            max: Some(self.max).filter(|n| *n > 0),
            ids: self.ids.iter().copied().map(WebhookId).collect(),
            account: given(&self.account),
            submitted: bound("submitted", &self.submitted)?,
            next_attempt: bound("nextattempt", &self.next_attempt)?,
            last_activity: bound("lastactivity", &self.last_activity)?,
            event: event.map(|name| name.parse::<Event>().map_err(|e| format!("bad event {name:?}: {e}"))).transpose()?,
        })
    }
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSort {
    /// By when it was added instead of when it is due or was done.
    pub(crate) submitted: bool,
    /// Upwards.
    pub(crate) ascending: bool,
}

impl WebhookSort {
    /// For the store.
    pub(crate) const fn sort(self) -> Sort {
        let field = if self.submitted { SortField::Added } else { SortField::Time };
        Sort { field, ascending: self.ascending, after: None }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WebhookTask {
    /// Print those that wait.
    List(WebhookFilter, WebhookSort),
    /// Change when they are due.
    Schedule {
        /// Which.
        filter: WebhookFilter,
        /// From now, instead of from when they are due.
        from_now: bool,
        /// Microseconds, may be negative.
        micros: i64,
    },
    /// End them as failed.
    Cancel(WebhookFilter),
    /// Print one as JSON.
    Print(i64),
    /// Print those that are done.
    RetiredList(WebhookFilter, WebhookSort),
    /// Print one that is done as JSON.
    RetiredPrint(i64),
}

impl WebhookTask {
    /// Its name, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::List(..) => "queuehooklist",
            Self::Schedule { .. } => "queuehookschedule",
            Self::Cancel(_) => "queuehookcancel",
            Self::Print(_) => "queuehookprint",
            Self::RetiredList(..) => "queuehookretiredlist",
            Self::RetiredPrint(_) => "queuehookretiredprint",
        }
    }
}
