//! Queue commands as they cross the control socket: flags as given, read where the time is known.

use mox_base::{Clock, QueueId};
use mox_store::queue::{Filter, Sort, SortField, TimeBound};
use serde::{Deserialize, Serialize};

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueFilter {
    /// At most so many; 0 for no limit.
    pub(crate) max: u64,
    /// These ids; empty for all.
    pub(crate) ids: Vec<i64>,
    /// The sender's account.
    pub(crate) account: Option<String>,
    /// Part of the sender's address.
    pub(crate) from: Option<String>,
    /// Part of the recipient's address.
    pub(crate) to: Option<String>,
    /// `<` or `>` and a duration from now.
    pub(crate) submitted: Option<String>,
    /// `<` or `>` and a duration from now.
    pub(crate) next_attempt: Option<String>,
    /// The forced transport; empty for none.
    pub(crate) transport: Option<String>,
    /// Held or not.
    pub(crate) hold: Option<bool>,
}

impl QueueFilter {
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
        Ok(Filter {
            max: Some(self.max).filter(|n| *n > 0),
            ids: self.ids.iter().copied().map(QueueId).collect(),
            account: given(&self.account),
            from: given(&self.from),
            to: given(&self.to),
            hold: self.hold,
            submitted: bound("submitted", &self.submitted)?,
            next_attempt: bound("nextattempt", &self.next_attempt)?,
            last_activity: None,
            transport: self.transport.clone(),
            success: None,
        })
    }
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueSort {
    /// By when it was queued instead of when it is due.
    pub(crate) queued: bool,
    /// Upwards.
    pub(crate) ascending: bool,
}

impl QueueSort {
    /// For the store.
    pub(crate) const fn sort(self) -> Sort {
        let field = if self.queued { SortField::Queued } else { SortField::Time };
        Sort { field, ascending: self.ascending, after: None }
    }
}

/// What to do with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QueueAction {
    /// Print them.
    List(QueueSort),
    /// Hold them, or let them go.
    Hold(bool),
    /// Change when they are due.
    Schedule {
        /// From now, instead of from when they are due.
        from_now: bool,
        /// Microseconds, may be negative.
        micros: i64,
    },
    /// Require TLS policies, or not, or leave it to recipients.
    RequireTls(Option<bool>),
    /// End them without telling anybody.
    Drop,
}
