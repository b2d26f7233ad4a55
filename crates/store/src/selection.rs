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

/// The order of a list of rows with such ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort<Id> {
    /// By what.
    pub field: SortField,
    /// Upwards.
    pub ascending: bool,
    /// The last row of the page before: the list goes on strictly after it.
    pub after: Option<(Timestamp, Id)>,
}

/// By what lists are sorted; the id decides between equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortField {
    /// When it is due; of retired rows, when something last happened.
    Time,
    /// When it was added.
    Added,
}

/// By time, downwards.
impl<Id> Default for Sort<Id> {
    fn default() -> Self {
        Self { field: SortField::Time, ascending: false, after: None }
    }
}

/// Of which table rows are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Waiting,
    Retired,
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
