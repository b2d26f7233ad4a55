//! Which webhooks, in which order: what lists and actions of administrators are told.

use super::row::{Event, WebhookId};
use crate::db::Param;
use crate::queue::TimeBound;
use mox_base::Timestamp;

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

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub field: SortField,
    /// Upwards.
    pub ascending: bool,
    /// The last row of the page before: the list goes on strictly after it.
    pub after: Option<(Timestamp, WebhookId)>,
}

/// By what lists are sorted; the id decides between equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortField {
    /// When it is due; of retired webhooks, when it was done.
    Time,
    /// When it was added.
    Submitted,
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
    Waiting,
    Retired,
}

/// The text after `FROM <table> w`, and its parameters.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) sql: String,
    values: Vec<Value>,
}

#[derive(Debug)]
enum Value {
    Int(i64),
    Text(String),
}

impl Selection {
    /// `limit` further bounds the filter's own maximum.
    pub(super) fn new(filter: &Filter, sort: &Sort, limit: Option<u64>, of: Of) -> Self {
        let mut s = Self { sql: String::from("WHERE 1 = 1"), values: Vec::new() };
        s.conditions(filter, of);
        let time = match of {
            Of::Waiting => "next_attempt",
            Of::Retired => "last_activity",
        };
        let column = if sort.field == SortField::Submitted { "submitted" } else { time };
        let (than, direction) = if sort.ascending { (">", "ASC") } else { ("<", "DESC") };
        if let Some((time, id)) = sort.after {
            let (t, i) = (s.int(time.micros()), s.int(id.0));
            s.sql.push_str(&format!(" AND (w.{column}, w.id) {than} (${t}, ${i})"));
        }
        s.sql.push_str(&format!(" ORDER BY w.{column} {direction}, w.id {direction}"));
        if let Some(max) = [filter.max, limit].into_iter().flatten().min() {
            let n = s.int(i64::try_from(max).unwrap_or(i64::MAX));
            s.sql.push_str(&format!(" LIMIT ${n}"));
        }
        s
    }

    fn conditions(&mut self, filter: &Filter, of: Of) {
        if !filter.ids.is_empty() {
            let numbers: Vec<String> = filter.ids.iter().map(|id| format!("${}", self.int(id.0))).collect();
            self.sql.push_str(&format!(" AND w.id IN ({})", numbers.join(", ")));
        }
        let event = filter.event.map(|event| event.name().to_owned());
        for (column, value) in [("account", &filter.account), ("event", &event)] {
            if let Some(value) = value {
                let n = self.text(value);
                self.sql.push_str(&format!(" AND w.{column} = ${n}"));
            }
        }
        let of_table = match of {
            Of::Waiting => ("next_attempt", filter.next_attempt),
            Of::Retired => ("last_activity", filter.last_activity),
        };
        for (column, bound) in [("submitted", filter.submitted), of_table] {
            let Some(bound) = bound else { continue };
            let (than, time) = match bound {
                TimeBound::Before(t) => ("<", t),
                TimeBound::After(t) => (">", t),
            };
            let n = self.int(time.micros());
            self.sql.push_str(&format!(" AND w.{column} {than} ${n}"));
        }
    }

    fn int(&mut self, n: i64) -> usize {
        self.values.push(Value::Int(n));
        self.values.len()
    }

    fn text(&mut self, text: &str) -> usize {
        // A NUL matches nothing, and PostgreSQL refuses it.
        self.values.push(Value::Text(text.replace('\0', "\u{fffd}")));
        self.values.len()
    }

    /// The number of the next parameter.
    pub(super) fn next_param(&self) -> usize {
        self.values.len() + 1
    }

    pub(super) fn params(&self) -> Vec<Param<'_>> {
        self.values
            .iter()
            .map(|value| match value {
                Value::Int(n) => Param::from(*n),
                Value::Text(text) => Param::from(text.as_str()),
            })
            .collect()
    }
}
