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
    /// `<` or `>` and a duration from now; of retired entries.
    pub(crate) last_activity: Option<String>,
    /// Delivered or not; of retired entries.
    pub(crate) success: Option<bool>,
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
            last_activity: bound("lastactivity", &self.last_activity)?,
            transport: self.transport.clone(),
            success: self.success,
            ..Filter::default()
        })
    }
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueSort {
    /// By when it was queued instead of when it is due, or something last happened to it.
    pub(crate) queued: bool,
    /// Upwards.
    pub(crate) ascending: bool,
}

impl QueueSort {
    /// For the store.
    pub(crate) const fn sort(self) -> Sort {
        let field = if self.queued { SortField::Added } else { SortField::Time };
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
    /// Force a transport; empty for none.
    Transport(String),
    /// End them, and tell their senders.
    Fail,
    /// End them without telling anybody.
    Drop,
    /// Print those that were retired.
    RetiredList(QueueSort),
}

impl QueueAction {
    /// Its name, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "queuelist",
            Self::Hold(_) => "queueholdset",
            Self::Schedule { .. } => "queueschedule",
            Self::RequireTls(_) => "queuerequiretls",
            Self::Transport(_) => "queuetransport",
            Self::Fail => "queuefail",
            Self::Drop => "queuedrop",
            Self::RetiredList(_) => "queueretiredlist",
        }
    }
}

/// What else there is to do with the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QueueTask {
    /// Print a retired entry.
    RetiredPrint(i64),
    /// Print the hold rules.
    HoldRulesList,
    /// Add one; empty parts match everything.
    HoldRulesAdd {
        /// The sender's account.
        account: String,
        /// The domain of MAIL FROM.
        sender_domain: String,
        /// The domain of RCPT TO.
        recipient_domain: String,
    },
    /// Remove one.
    HoldRulesRemove(i64),
    /// Print suppression lists.
    SuppressList {
        /// Of one account; empty for all.
        account: String,
    },
    /// Add an address to one.
    SuppressAdd {
        /// The account.
        account: String,
        /// The address.
        address: String,
    },
    /// Remove an address from one.
    SuppressRemove {
        /// The account.
        account: String,
        /// The address.
        address: String,
    },
    /// Look for an address.
    SuppressLookup {
        /// In one account's list; empty for any.
        account: String,
        /// The address.
        address: String,
    },
}

impl QueueTask {
    /// Its name, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::RetiredPrint(_) => "queueretiredprint",
            Self::HoldRulesList => "queueholdruleslist",
            Self::HoldRulesAdd { .. } => "queueholdrulesadd",
            Self::HoldRulesRemove(_) => "queueholdrulesremove",
            Self::SuppressList { .. } => "queuesuppresslist",
            Self::SuppressAdd { .. } => "queuesuppressadd",
            Self::SuppressRemove { .. } => "queuesuppressremove",
            Self::SuppressLookup { .. } => "queuesuppresslookup",
        }
    }
}
