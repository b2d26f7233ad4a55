//! Points in time, and the ways in which mail writes them.

use std::fmt;
use std::time::Duration;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// A point in time: microseconds since 1970-01-01 UTC. Years 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const MIN: i64 = -62_135_596_800_000_000;
const MAX: i64 = 253_402_300_799_999_999;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Timestamp {
    /// 1970-01-01 00:00:00 UTC.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since the epoch, moved into the range of years 1 to 9999.
    pub const fn from_micros(micros: i64) -> Self {
        if micros < MIN {
            Self(MIN)
        } else if micros > MAX {
            Self(MAX)
        } else {
            Self(micros)
        }
    }

    /// From seconds since the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_micros(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This much later.
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This much earlier.
    #[must_use]
    pub fn before(self, d: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time passed since `earlier`, zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// From date and time in a zone `offset_minutes` east of UTC; none when there is no such date or time.
    /// A leap second (60) counts as the second before it.
    pub fn from_civil(date: (i32, u8, u8), time_of_day: (u8, u8, u8), offset_minutes: i32) -> Option<Self> {
        let month = Month::try_from(date.1).ok()?;
        let date = Date::from_calendar_date(date.0, month, date.2).ok()?;
        let time = Time::from_hms(time_of_day.0, time_of_day.1, time_of_day.2.min(59)).ok()?;
        if time_of_day.2 > 60 || !(1..=9999).contains(&date.year()) {
            return None;
        }
        let secs = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
        Some(Self::from_secs(secs.checked_sub(i64::from(offset_minutes).checked_mul(60)?)?))
    }

    fn utc(self) -> OffsetDateTime {
        // In range by construction; the epoch would only show if that were broken.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH).to_offset(UtcOffset::UTC)
    }

    /// What a clock in a zone shows, as if it were UTC.
    fn shown_at(self, offset_minutes: i16) -> Self {
        Self::from_micros(self.0.saturating_add(i64::from(offset_minutes).saturating_mul(60_000_000)))
    }

    /// Year, month, day in UTC.
    pub fn date(self) -> (i32, u8, u8) {
        self.date_at(0)
    }

    /// Year, month, day in a zone so many minutes east of UTC.
    pub fn date_at(self, offset_minutes: i16) -> (i32, u8, u8) {
        let t = self.shown_at(offset_minutes).utc();
        (t.year(), t.month().into(), t.day())
    }

    /// `2 Jan 2006 15:04:05 +0000`, as in `Date:` and `Received:`, RFC 5322 §3.3.
    pub fn rfc5322(self) -> String {
        let t = self.utc();
        format!("{} {} {:04} {:02}:{:02}:{:02} +0000", t.day(), month(t), t.year(), t.hour(), t.minute(), t.second())
    }

    /// `02-Jan-2006 15:04:05 +0000`, the `date-time` of INTERNALDATE without its quotes, RFC 9051 §9.
    pub fn imap(self) -> String {
        self.imap_at(0)
    }

    /// [`Timestamp::imap`] in a zone so many minutes east of UTC.
    pub fn imap_at(self, offset_minutes: i16) -> String {
        let t = self.shown_at(offset_minutes).utc();
        let (sign, zone) = (if offset_minutes < 0 { '-' } else { '+' }, offset_minutes.unsigned_abs());
        let (day, month, year) = (t.day(), month(t), t.year());
        format!("{day:>2}-{month}-{year:04} {:02}:{:02}:{:02} {sign}{:02}{:02}", t.hour(), t.minute(), t.second(), zone / 60, zone % 60)
    }

    /// `Mon Jan  2 15:04:05 2006`, as in mbox files.
    pub fn asctime(self) -> String {
        let t = self.utc();
        let day = DAYS.get(usize::from(t.weekday().number_days_from_monday())).copied().unwrap_or("Mon");
        format!("{day} {} {:>2} {:02}:{:02}:{:02} {:04}", month(t), t.day(), t.hour(), t.minute(), t.second(), t.year())
    }

    /// `2006-01-02T15:04:05Z`, with a fraction only where there is one, RFC 3339 §5.6.
    pub fn rfc3339(self) -> String {
        let t = self.utc();
        let mut s =
            format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", t.year(), u8::from(t.month()), t.day(), t.hour(), t.minute(), t.second());
        if t.microsecond() != 0 {
            let fraction = format!(".{:06}", t.microsecond());
            s.push_str(fraction.trim_end_matches('0'));
        }
        s.push('Z');
        s
    }

    /// Parses `2006-01-02T15:04:05[.fraction](Z|±hh:mm)`, RFC 3339 §5.6; none when malformed.
    pub fn parse_rfc3339(s: &str) -> Option<Self> {
        let b = s.as_bytes();
        let digits = |from: usize, to: usize| -> Option<u32> {
            let d = b.get(from..to)?;
            if !d.iter().all(u8::is_ascii_digit) {
                return None;
            }
            std::str::from_utf8(d).ok()?.parse().ok()
        };
        let byte = |i: usize, want: &[u8]| b.get(i).filter(|c| want.contains(c)).map(|_| ());
        let (year, mon, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
        let (h, m, sec) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
        for (i, want) in [(4, b"-".as_slice()), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")] {
            byte(i, want)?;
        }
        let mut at = 19;
        let mut fraction = 0;
        if b.get(at) == Some(&b'.') {
            let end = b.iter().skip(20).position(|c| !c.is_ascii_digit())?.checked_add(20)?;
            let frac = s.get(20..end).filter(|f| !f.is_empty())?;
            let six: String = frac.chars().chain(std::iter::repeat('0')).take(6).collect();
            fraction = six.parse::<i64>().ok()?;
            at = end;
        }
        let offset = match b.get(at)? {
            b'Z' | b'z' if b.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if b.len() == at + 6 && b.get(at + 3) == Some(&b':') => {
                let (oh, om) = (digits(at + 1, at + 3)?, digits(at + 4, at + 6)?);
                if oh > 23 || om > 59 {
                    return None;
                }
                let minutes = i32::try_from(oh * 60 + om).ok()?;
                if *sign == b'-' { -minutes } else { minutes }
            }
            _ => return None,
        };
        let byte_of = |n: u32| u8::try_from(n).ok();
        let t =
            Self::from_civil((i32::try_from(year).ok()?, byte_of(mon)?, byte_of(day)?), (byte_of(h)?, byte_of(m)?, byte_of(sec)?), offset)?;
        Some(Self::from_micros(t.0.checked_add(fraction)?))
    }
}

fn month(t: OffsetDateTime) -> &'static str {
    MONTHS.get(usize::from(u8::from(t.month())).saturating_sub(1)).copied().unwrap_or("Jan")
}

/// The number, 1 to 12, of a month's English three-letter name in any case.
pub fn month_number(name: &[u8]) -> Option<u8> {
    let i = MONTHS.iter().position(|m| m.as_bytes().eq_ignore_ascii_case(name))?;
    u8::try_from(i + 1).ok()
}

/// As [`Timestamp::rfc3339`].
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let t = Timestamp::from_secs(1_136_214_245);
        assert_eq!(t.rfc5322(), "2 Jan 2006 15:04:05 +0000");
        assert_eq!(t.imap(), " 2-Jan-2006 15:04:05 +0000");
        assert_eq!((t.imap_at(120), t.imap_at(-930)), (" 2-Jan-2006 17:04:05 +0200".into(), " 1-Jan-2006 23:34:05 -1530".into()));
        assert_eq!((t.date(), t.date_at(-930)), ((2006, 1, 2), (2006, 1, 1)));
        assert_eq!(t.asctime(), "Mon Jan  2 15:04:05 2006");
        assert_eq!(t.rfc3339(), "2006-01-02T15:04:05Z");
        assert_eq!(Timestamp::from_micros(1_500_000).rfc3339(), "1970-01-01T00:00:01.5Z");
        assert_eq!(Timestamp::from_micros(-1).secs(), -1);
    }

    #[test]
    fn parses_rfc3339() {
        for (text, want) in [
            ("2006-01-02T15:04:05Z", Some(1_136_214_245_000_000)),
            ("2006-01-02T15:04:05.25Z", Some(1_136_214_245_250_000)),
            ("2006-01-02T16:04:05+01:00", Some(1_136_214_245_000_000)),
            ("2006-01-02T15:04:05", None),
            ("2006-01-02T15:04:05.Z", None),
            ("2006-13-02T15:04:05Z", None),
            ("2006-02-30T15:04:05Z", None),
            ("+006-01-02T15:04:05Z", None),
            ("", None),
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text).map(Timestamp::micros), want, "{text}");
        }
    }

    #[test]
    fn far_dates_stay_in_range() {
        assert_eq!(Timestamp::from_secs(i64::MAX).date().0, 9999);
        assert_eq!(Timestamp::from_secs(i64::MIN).date().0, 1);
        assert_eq!(Timestamp::EPOCH.before(Duration::MAX).date().0, 1);
    }
}
