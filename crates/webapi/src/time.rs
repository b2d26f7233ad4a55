//! Times as the API writes them.

use crate::object::Type;
use crate::wire::{Unknown, Wire};
use mox_base::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// A point in time with the offset from UTC in which it was given, which headers keep. Its zero is the year 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// When.
    pub at: Timestamp,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

/// As RFC 3339 text says it, with offsets of less than a day.
const MAX_OFFSET: i32 = 24 * 60 - 1;

impl Time {
    /// In UTC.
    pub const fn utc(at: Timestamp) -> Self {
        Self { at, offset_minutes: 0 }
    }

    /// Parses RFC 3339, with optional fraction and any offset; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // RFC 3339 §5.6: a space instead of the T is for people.
        if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
            return None;
        }
        let at = Timestamp::parse_rfc3339(text)?;
        let zone = text.get(text.len().saturating_sub(6)..).filter(|zone| zone.starts_with(['+', '-']));
        let offset_minutes = match zone {
            None => 0,
            Some(zone) => {
                let minutes = zone.get(1..3)?.parse::<i32>().ok()?.checked_mul(60)?.checked_add(zone.get(4..6)?.parse().ok()?)?;
                if zone.starts_with('-') { minutes.checked_neg()? } else { minutes }
            }
        };
        Some(Self { at, offset_minutes })
    }
}

impl Default for Time {
    fn default() -> Self {
        // The smallest there is: the start of the year 1.
        Self::utc(Timestamp::from_micros(i64::MIN))
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self::utc(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset_minutes.clamp(-MAX_OFFSET, MAX_OFFSET);
        let (minutes, distance) = (offset.unsigned_abs(), Duration::from_secs(u64::from(offset.unsigned_abs()) * 60));
        let local = if offset < 0 { self.at.before(distance) } else { self.at.after(distance) };
        // At the very edges of the calendar there is no such local time.
        if offset == 0 || local.since(self.at).max(self.at.since(local)) != distance {
            return f.write_str(&self.at.rfc3339());
        }
        let sign = if offset < 0 { '-' } else { '+' };
        write!(f, "{}{sign}{:02}:{:02}", local.rfc3339().trim_end_matches('Z'), minutes / 60, minutes % 60)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Wire for Time {
    fn schema() -> Type {
        Type::Time
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D, _: Unknown) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(Self::default()) };
        Self::parse(&text).ok_or_else(|| D::Error::custom(format_args!("{text:?} is no time as in RFC 3339, such as 2006-01-02T15:04:05Z")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_as_given() {
        for text in [
            "2026-11-23T05:03:16+01:00",
            "2026-11-23T04:03:16.377Z",
            "2026-11-23T00:33:16-03:30",
            "0001-01-01T00:00:00Z",
            "2026-11-23T04:04:24.138001+14:00",
        ] {
            assert_eq!(Time::parse(text).map(|t| t.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Time::default().to_string(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn other_forms_are_none() {
        for text in
            ["", "2026-11-23", "2026-11-23 05:03:16Z", "2026-11-23T05:03:16", "23 Nov 2026 05:03:16 +0100", "2026-11-23T05:03:16+1:00"]
        {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }
}
