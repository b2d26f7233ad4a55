//! Which rows, in which order: the part of a query that all lists and actions of administrators have in common.
//!
//! It is the text after `FROM <table> <alias>`, with numbered parameters. Each kind of rows says in its own filter which
//! conditions it has.

use crate::db::Param;
use mox_base::Timestamp;

/// Before or after a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBound {
    /// Earlier.
    Before(Timestamp),
    /// Later.
    After(Timestamp),
}

/// The text, and its parameters.
#[derive(Debug)]
pub(crate) struct Selection {
    alias: &'static str,
    sqlite: String,
    postgres: String,
    values: Vec<Value>,
}

#[derive(Debug)]
enum Value {
    Int(i64),
    Text(String),
}

impl Selection {
    /// All rows of the table of this alias, in no order.
    pub(crate) fn all(alias: &'static str) -> Self {
        Self { alias, sqlite: String::from("WHERE 1 = 1"), postgres: String::from("WHERE 1 = 1"), values: Vec::new() }
    }

    /// Only these, if there are any.
    pub(crate) fn one_of(&mut self, ids: impl Iterator<Item = i64>) {
        // In the text, because there may be more than a statement has parameters.
        let numbers: Vec<String> = ids.map(|id| id.to_string()).collect();
        if !numbers.is_empty() {
            self.both(&format!(" AND {}.id IN ({})", self.alias, numbers.join(", ")));
        }
    }

    /// Only those with this text in a column.
    pub(crate) fn equal(&mut self, column: &str, value: Option<&str>) {
        if let Some(value) = value {
            let n = self.text(value);
            self.both(&format!(" AND {}.{column} = ${n}", self.alias));
        }
    }

    /// Only those before or after a time.
    pub(crate) fn within(&mut self, column: &str, bound: Option<TimeBound>) {
        let (than, time) = match bound {
            Some(TimeBound::Before(time)) => ("<", time),
            Some(TimeBound::After(time)) => (">", time),
            None => return,
        };
        let n = self.int(time.micros());
        self.both(&format!(" AND {}.{column} {than} ${n}", self.alias));
    }

    /// In the order of a time, the id deciding between equals, strictly after a row, and at most so many.
    pub(crate) fn ordered(&mut self, column: &str, ascending: bool, after: Option<(Timestamp, i64)>, max: Option<u64>) {
        let (than, direction) = if ascending { (">", "ASC") } else { ("<", "DESC") };
        let a = self.alias;
        if let Some((time, id)) = after {
            let (t, i) = (self.int(time.micros()), self.int(id));
            self.both(&format!(" AND ({a}.{column}, {a}.id) {than} (${t}, ${i})"));
        }
        self.both(&format!(" ORDER BY {a}.{column} {direction}, {a}.id {direction}"));
        if let Some(max) = max {
            // In the text: SQLite would plan again for each value of a parameter here.
            self.both(&format!(" LIMIT {}", max.min(i64::MAX.unsigned_abs())));
        }
    }

    pub(crate) fn both(&mut self, text: &str) {
        self.each(text, text);
    }

    /// A text for each engine.
    pub(crate) fn each(&mut self, sqlite: &str, postgres: &str) {
        self.sqlite.push_str(sqlite);
        self.postgres.push_str(postgres);
    }

    /// A parameter's number.
    pub(crate) fn int(&mut self, n: i64) -> usize {
        self.values.push(Value::Int(n));
        self.values.len()
    }

    /// A parameter's number.
    pub(crate) fn text(&mut self, text: &str) -> usize {
        // A NUL matches nothing, and PostgreSQL refuses it.
        self.values.push(Value::Text(text.replace('\0', "\u{fffd}")));
        self.values.len()
    }

    /// The number of the next parameter.
    pub(crate) fn next_param(&self) -> usize {
        self.values.len() + 1
    }

    pub(crate) fn sqlite(&self) -> &str {
        &self.sqlite
    }

    pub(crate) fn postgres(&self) -> &str {
        &self.postgres
    }

    pub(crate) fn params(&self) -> Vec<Param<'_>> {
        self.values
            .iter()
            .map(|value| match value {
                Value::Int(n) => Param::from(*n),
                Value::Text(text) => Param::from(text.as_str()),
            })
            .collect()
    }
}
