//! `Date:` and its relatives: read leniently, written strictly, RFC 5322 §3.3 and §4.3.

use mox_base::Timestamp;
use mox_base::time::month_number;
use std::time::Duration;

/// A point in time with the zone it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime {
    /// The point in time.
    pub timestamp: Timestamp,
    /// Minutes east of UTC, less than a day either way.
    pub offset_minutes: i16,
}

const DAY_MINUTES: i32 = 24 * 60;

impl DateTime {
    /// A time in UTC.
    pub const fn utc(timestamp: Timestamp) -> Self {
        Self { timestamp, offset_minutes: 0 }
    }

    /// Parses an unfolded `date-time`. Day names, seconds and zones may be absent, years short, months first (as `asctime`
    /// writes), zones names, comments anywhere. None if no date can be made out.
    pub fn parse(text: &str) -> Option<Self> {
        // The longest sensible date with comments; more can only be nonsense.
        let text = without_comments(text.get(..200).unwrap_or(text));
        let mut words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty()).peekable();
        if let Some(first) = words.peek()
            && first.chars().all(|c| c.is_alphabetic() || c == '.')
            && month_number(first.get(..3)?.as_bytes()).is_none()
        {
            words.next();
        }
        // `23-Nov-2026` as some write it.
        let first = words.next()?;
        let dashed: Vec<&str> = first.split('-').collect();
        let (day, month, mut year) = if let [day, month, year] = dashed.as_slice() {
            (*day, *month, Some(*year))
        } else {
            let second = words.next()?;
            if first.starts_with(|c: char| c.is_ascii_digit()) { (first, second, None) } else { (second, first, None) }
        };
        let month = month_number(month.get(..3)?.as_bytes())?;
        let day: u8 = day.parse().ok()?;
        let mut time = None;
        let mut offset = 0;
        for word in words {
            if time.is_none() && word.contains(':') {
                time = Some(time_of_day(word)?);
            } else if year.is_none() && word.starts_with(|c: char| c.is_ascii_digit()) {
                year = Some(word);
            } else if time.is_some() {
                offset = zone(word).unwrap_or(offset);
            }
        }
        let timestamp = Timestamp::from_civil((full_year(year?)?, month, day), time.unwrap_or((0, 0, 0)), offset)?;
        // A zone of a day or more can't be written again: the same instant in UTC.
        let offset = if offset.abs() < DAY_MINUTES { offset } else { 0 };
        Some(Self { timestamp, offset_minutes: i16::try_from(offset).ok()? })
    }

    fn shifted(self) -> Timestamp {
        let shift = Duration::from_secs(u64::from(self.offset_minutes.unsigned_abs()) * 60);
        if self.offset_minutes < 0 { self.timestamp.before(shift) } else { self.timestamp.after(shift) }
    }

    /// Year, month and day in the zone it was written in, as SEARCH SENTON compares them.
    pub fn date(self) -> (i32, u8, u8) {
        self.shifted().date()
    }

    /// `+hhmm` or `-hhmm`.
    fn zone(self) -> String {
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.unsigned_abs();
        format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
    }

    /// `2 Jan 2006 15:04:05 -0700`.
    pub fn rfc5322(self) -> String {
        let utc = self.shifted().rfc5322();
        format!("{} {}", utc.strip_suffix(" +0000").unwrap_or(&utc), self.zone())
    }

    /// `Mon, 2 Jan 2006 15:04:05 -0700`.
    pub fn rfc5322_with_day(self) -> String {
        let asctime = self.shifted().asctime();
        format!("{}, {}", asctime.get(..3).unwrap_or("Mon"), self.rfc5322())
    }
}

/// A text without its comments, RFC 5322 §3.2.2; nesting is counted, not recursed into.
pub(crate) fn without_comments(text: &str) -> String {
    let mut depth = 0_u32;
    let mut escaped = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if depth > 0 && escaped => escaped = false,
            '\\' if depth > 0 => escaped = true,
            '(' => {
                depth = depth.saturating_add(1);
                out.push(' ');
            }
            ')' if depth > 0 => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

fn time_of_day(word: &str) -> Option<(u8, u8, u8)> {
    let mut parts = word.split(':');
    let mut number = |required: bool| match parts.next() {
        Some(p) => p.split('.').next()?.parse::<u8>().ok(),
        None if required => None,
        None => Some(0),
    };
    Some((number(true)?, number(true)?, number(false)?))
}

/// Years of two or three digits, RFC 5322 §4.3.
fn full_year(year: &str) -> Option<i32> {
    let n: i32 = year.parse().ok().filter(|n| (0..=9999).contains(n))?;
    Some(match year.len() {
        1 | 2 if n < 50 => n + 2000,
        1..=3 => n + 1900,
        _ => n,
    })
}

/// Minutes east of UTC; unknown names are -0000, RFC 5322 §4.3.
fn zone(word: &str) -> Option<i32> {
    if let Some(digits) = word.strip_prefix(['+', '-']) {
        let digits = digits.replace(':', "");
        if !(1..=4).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let n: i32 = digits.parse().ok()?;
        let minutes = if digits.len() <= 2 { n * 60 } else { n / 100 * 60 + n % 100 };
        return Some(if word.starts_with('-') { -minutes } else { minutes });
    }
    let hours = match word.to_ascii_uppercase().as_str() {
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        "CET" | "MET" => 1,
        "CEST" | "MEST" => 2,
        name if name.bytes().all(|b| b.is_ascii_alphabetic()) => 0,
        _ => return None,
    };
    Some(hours * 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads() {
        for (text, want) in [
            ("Mon, 23 Nov 2026 04:04:23 +0000", "Mon, 23 Nov 2026 04:04:23 +0000"),
            ("23 Nov 2026 04:04 -0730 (PST (really))", "Mon, 23 Nov 2026 04:04:00 -0730"),
            ("21 Nov 97 09:55:06 GMT", "Fri, 21 Nov 1997 09:55:06 +0000"),
            ("Mon Nov 23 04:04:23 2026", "Mon, 23 Nov 2026 04:04:23 +0000"),
            ("Thu, 13 Feb 1969 23:32 -0330", "Thu, 13 Feb 1969 23:32:00 -0330"),
            ("1 Jan 2020 00:00:00 +9900", "Fri, 27 Dec 2019 21:00:00 +0000"),
            ("23-Nov-2026 04:04:23 EST", "Mon, 23 Nov 2026 04:04:23 -0500"),
            ("Monday, 23 November 2026 04:04:23", "Mon, 23 Nov 2026 04:04:23 +0000"),
        ] {
            let got = DateTime::parse(text);
            assert_eq!(got.map(DateTime::rfc5322_with_day).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "x",
            "Mon",
            "32 Jan 2020 00:00:00 +0000",
            "1 Foo 2020 00:00",
            "1 Jan 12020 00:00:00 +0000",
            "1 Jan 2020 25:00:00 +0000",
            "é é é é",
        ] {
            assert_eq!(DateTime::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text(text: String) {
            DateTime::parse(&text);
        }

        #[test]
        fn round_trip(secs in -2_000_000_000_i64..9_000_000_000, offset in -1439_i16..1440) {
            let t = DateTime { timestamp: Timestamp::from_secs(secs), offset_minutes: offset };
            prop_assert_eq!(DateTime::parse(&t.rfc5322_with_day()), Some(t));
            prop_assert_eq!(DateTime::parse(&t.rfc5322()), Some(t));
        }
    }
}
