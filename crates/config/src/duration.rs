//! Durations as the files write them: `1h30m`, `15s`, `100ms`, `72h0m0s`.

use std::fmt::Write as _;
use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Neither `0` nor numbers with units.
    #[error("expected a duration like 1h30m or 15s (units ns, us, ms, s, m, h)")]
    Syntax,
    /// Below zero, which no setting can be.
    #[error("duration is negative")]
    Negative,
    /// Beyond 292 years.
    #[error("duration too long")]
    TooLong,
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads an optional sign and one or more of `<decimal><unit>`, or `0`.
///
/// # Errors
/// See [`DurationError`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Syntax);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationError::Syntax)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Syntax)?.1;
        total = total.saturating_add(nanoseconds(number, unit)?);
        rest = tail;
    }
    // The signed 64-bit nanoseconds of the format's other readers.
    let nanoseconds = u64::try_from(total).ok().filter(|n| *n <= i64::MAX.unsigned_abs()).ok_or(DurationError::TooLong)?;
    if negative && nanoseconds > 0 {
        return Err(DurationError::Negative);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn nanoseconds(number: &str, unit: u64) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(DurationError::Syntax);
    }
    let unit = u128::from(unit);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::TooLong)? };
    let mut total = whole.saturating_mul(unit);
    let mut scale = unit;
    for digit in fraction.bytes() {
        // Digits beyond a nanosecond don't count.
        total = total.saturating_add(u128::from(digit.saturating_sub(b'0')) * scale / 10);
        scale /= 10;
    }
    Ok(total)
}

/// Writes hours, minutes and seconds from the largest that is needed (`72h0m0s`), or below a second one unit (`1.5ms`).
pub fn format(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => decimal(nanoseconds, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(nanoseconds, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanoseconds / 60_000_000_000, nanoseconds % 60_000_000_000);
            let mut out = String::new();
            // Writing to a String can't fail.
            if minutes >= 60 {
                let _written = write!(out, "{}h", minutes / 60);
            }
            if minutes > 0 {
                let _written = write!(out, "{}m", minutes % 60);
            }
            out + &decimal(rest, 1_000_000_000, "s")
        }
    }
}

fn decimal(value: u128, unit: u128, name: &str) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % unit);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}{name}", value / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, nanoseconds, written) in [
            ("0", 0, "0s"),
            ("+0s", 0, "0s"),
            ("72h", 259_200_000_000_000, "72h0m0s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("15s", 15_000_000_000, "15s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5s", 500_000_000, "500ms"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("100ms", 100_000_000, "100ms"),
            ("1500us", 1_500_000, "1.5ms"),
            ("7ns", 7, "7ns"),
            ("1h0.25s", 3_600_250_000_000, "1h0m0.25s"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!((duration.as_nanos(), format(duration).as_str()), (nanoseconds, written), "{text}");
            assert_eq!(parse(written), Ok(duration));
        }
    }

    #[test]
    fn refuses() {
        for text in ["", "1", "1d", "1 s", "s", ".s", "1.2.3s", "1h-2m", "+", "1w"] {
            assert_eq!(parse(text), Err(DurationError::Syntax), "{text}");
        }
        assert_eq!(parse("-1s"), Err(DurationError::Negative));
        assert_eq!(parse("9999999h"), Err(DurationError::TooLong));
    }
}
