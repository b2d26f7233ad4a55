//! The words that all commands are made of, RFC 9051 §9: atoms, strings, numbers, dates.
//!
//! Strings are UTF-8 throughout: RFC 9051 §4.3 allows it in quoted strings and literals, and clients send it whatever
//! they enabled. A string that isn't UTF-8 is bad.

use crate::cursor::{Cursor, Error, LiteralHead, Parsed};
use mox_base::Timestamp;
use mox_base::time::month_number;

/// `ATOM-CHAR = <any CHAR except atom-specials>`, RFC 9051 §9.
pub const fn is_atom_char(b: u8) -> bool {
    b > 0x20 && b < 0x7f && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// `ASTRING-CHAR = ATOM-CHAR / resp-specials`, RFC 9051 §9.
pub const fn is_astring_char(b: u8) -> bool {
    is_atom_char(b) || b == b']'
}

/// `tag = 1*<any ASTRING-CHAR except "+">`, RFC 9051 §9.
pub fn tag(c: &mut Cursor<'_>) -> Parsed<String> {
    c.take_while1(|b| is_astring_char(b) && b != b'+', "tag").map(ascii)
}

/// `atom = 1*ATOM-CHAR`, RFC 9051 §9.
pub fn atom(c: &mut Cursor<'_>) -> Parsed<String> {
    c.take_while1(is_atom_char, "atom").map(ascii)
}

/// An atom, in upper case, for keywords of the grammar.
pub fn keyword(c: &mut Cursor<'_>) -> Parsed<String> {
    atom(c).map(|a| a.to_ascii_uppercase())
}

fn ascii(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `astring = 1*ASTRING-CHAR / string`, RFC 9051 §9.
pub fn astring(c: &mut Cursor<'_>) -> Parsed<String> {
    match c.peek() {
        Some(b'"' | b'{') => string(c),
        _ => c.take_while1(is_astring_char, "astring").map(ascii),
    }
}

/// `string = quoted / literal`, RFC 9051 §9.
pub fn string(c: &mut Cursor<'_>) -> Parsed<String> {
    match c.peek() {
        Some(b'"') => quoted(c),
        Some(b'{') => literal(c),
        _ => c.bad("string"),
    }
}

/// `nstring = string / nil`, RFC 9051 §9.
pub fn nstring(c: &mut Cursor<'_>) -> Parsed<Option<String>> {
    if c.eat_text(b"NIL") { Ok(None) } else { string(c).map(Some) }
}

/// `quoted = DQUOTE *QUOTED-CHAR DQUOTE`, RFC 9051 §9.
pub fn quoted(c: &mut Cursor<'_>) -> Parsed<String> {
    c.expect(b'"', "quoted string")?;
    let start = c.at();
    let mut bytes = Vec::new();
    loop {
        match c.peek() {
            Some(b'"') => {
                c.skip(1);
                return utf8(bytes, start);
            }
            Some(b'\\') => {
                c.skip(1);
                match c.peek() {
                    Some(b @ (b'"' | b'\\')) => bytes.push(b),
                    _ => return c.bad("\\\" or \\\\"),
                }
            }
            None | Some(0 | b'\r' | b'\n') => return c.bad("closing quote"),
            Some(b) => bytes.push(b),
        }
        c.skip(1);
    }
}

fn utf8(bytes: Vec<u8>, at: usize) -> Parsed<String> {
    String::from_utf8(bytes).map_err(|_| Error::Bad { at, expected: "UTF-8" })
}

/// `"{" number64 ["+"] "}"`, with `~` before it a literal8; RFC 9051 §9, RFC 7888 §8.
pub fn literal_head(c: &mut Cursor<'_>) -> Parsed<LiteralHead> {
    let binary = c.eat(b'~');
    c.expect(b'{', "literal")?;
    let size = number64(c)?;
    let sync = !c.eat(b'+');
    c.expect(b'}', "}")?;
    Ok(LiteralHead { size, sync, binary })
}

/// `literal = "{" number64 ["+"] "}" CRLF *CHAR8`, RFC 9051 §9: no NUL inside.
fn literal(c: &mut Cursor<'_>) -> Parsed<String> {
    let head = literal_head(c)?;
    if c.is_end() {
        return Err(Error::NeedMore(head));
    }
    c.expect(b'\r', "CRLF")?;
    c.expect(b'\n', "CRLF")?;
    let start = c.at();
    let size = usize::try_from(head.size).unwrap_or(usize::MAX);
    let bytes = c.take(size, "literal")?;
    match bytes.iter().position(|b| *b == 0) {
        Some(nul) => Err(Error::Bad { at: start.saturating_add(nul), expected: "no NUL" }),
        None => utf8(bytes.to_vec(), start),
    }
}

/// `number = 1*DIGIT`, below 2^32, RFC 9051 §9.
pub fn number(c: &mut Cursor<'_>) -> Parsed<u32> {
    let at = c.at();
    number64(c).and_then(|n| u32::try_from(n).map_err(|_| Error::Bad { at, expected: "32-bit number" }))
}

/// `nz-number = digit-nz *DIGIT`, RFC 9051 §9.
pub fn nz_number(c: &mut Cursor<'_>) -> Parsed<u32> {
    let at = c.at();
    match number(c)? {
        0 => Err(Error::Bad { at, expected: "number above zero" }),
        n => Ok(n),
    }
}

/// `number64 = 1*DIGIT`, below 2^63, RFC 9051 §9.
pub fn number64(c: &mut Cursor<'_>) -> Parsed<u64> {
    let at = c.at();
    let digits = c.take_while1(|b| b.is_ascii_digit(), "number")?;
    let mut n: u64 = 0;
    for d in digits {
        n = n
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(d.wrapping_sub(b'0'))))
            .filter(|n| *n <= i64::MAX.cast_unsigned())
            .ok_or(Error::Bad { at, expected: "63-bit number" })?;
    }
    Ok(n)
}

/// A day, without time or zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// 0 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl Date {
    /// Midnight in UTC at its beginning; none when there is no such day.
    pub fn midnight(self) -> Option<Timestamp> {
        Timestamp::from_civil((i32::from(self.year), self.month, self.day), (0, 0, 0), 0)
    }
}

/// A point in time with the zone it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// The point in time.
    pub at: Timestamp,
    /// Minutes east of UTC.
    pub offset_minutes: i16,
}

fn digits(c: &mut Cursor<'_>, n: usize) -> Parsed<u16> {
    let at = c.at();
    let mut value: u16 = 0;
    for d in c.take(n, "digits")? {
        if !d.is_ascii_digit() {
            return Err(Error::Bad { at, expected: "digits" });
        }
        value = value.saturating_mul(10).saturating_add(u16::from(d.wrapping_sub(b'0')));
    }
    Ok(value)
}

fn two_digits(c: &mut Cursor<'_>) -> Parsed<u8> {
    digits(c, 2).map(|n| u8::try_from(n).unwrap_or(0))
}

/// `date-month "-" date-year`, RFC 9051 §9.
fn month_year(c: &mut Cursor<'_>) -> Parsed<(u8, u16)> {
    let at = c.at();
    let month = month_number(c.take(3, "month")?).ok_or(Error::Bad { at, expected: "month" })?;
    c.expect(b'-', "-")?;
    Ok((month, digits(c, 4)?))
}

/// `date = date-text / DQUOTE date-text DQUOTE`, RFC 9051 §9.
pub fn date(c: &mut Cursor<'_>) -> Parsed<Date> {
    let quoted = c.eat(b'"');
    let at = c.at();
    let day = c.take_while1(|b| b.is_ascii_digit(), "day")?;
    let day = match day {
        [a] => a.wrapping_sub(b'0'),
        [a, b] => a.wrapping_sub(b'0').wrapping_mul(10).wrapping_add(b.wrapping_sub(b'0')),
        _ => 0,
    };
    c.expect(b'-', "-")?;
    let (month, year) = month_year(c)?;
    if quoted {
        c.expect(b'"', "closing quote")?;
    }
    let date = Date { year, month, day };
    if date.midnight().is_none() {
        return Err(Error::Bad { at, expected: "date" });
    }
    Ok(date)
}

/// `date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE`, RFC 9051 §9.
pub fn date_time(c: &mut Cursor<'_>) -> Parsed<DateTime> {
    c.expect(b'"', "date-time")?;
    let at = c.at();
    let day = if c.eat(b' ') { digits(c, 1).map(|n| u8::try_from(n).unwrap_or(0))? } else { two_digits(c)? };
    c.expect(b'-', "-")?;
    let (month, year) = month_year(c)?;
    c.sp()?;
    let hour = two_digits(c)?;
    c.expect(b':', ":")?;
    let minute = two_digits(c)?;
    c.expect(b':', ":")?;
    let second = two_digits(c)?;
    c.sp()?;
    let west = match c.peek() {
        Some(b'+') => false,
        Some(b'-') => true,
        _ => return c.bad("zone"),
    };
    c.skip(1);
    let (zone_hours, zone_minutes) = (two_digits(c)?, two_digits(c)?);
    c.expect(b'"', "closing quote")?;
    let minutes = i16::from(zone_hours).saturating_mul(60).saturating_add(i16::from(zone_minutes));
    let offset_minutes = if west { minutes.saturating_neg() } else { minutes };
    let civil = Timestamp::from_civil((i32::from(year), month, day), (hour, minute, second), i32::from(offset_minutes));
    match civil {
        Some(time) if zone_hours < 24 && zone_minutes < 60 => Ok(DateTime { at: time, offset_minutes }),
        _ => Err(Error::Bad { at, expected: "date-time" }),
    }
}

/// One or more of `item`, separated by spaces.
pub fn spaced<T>(c: &mut Cursor<'_>, mut item: impl FnMut(&mut Cursor<'_>) -> Parsed<T>) -> Parsed<Vec<T>> {
    let mut all = vec![item(c)?];
    while c.eat(b' ') {
        all.push(item(c)?);
    }
    Ok(all)
}

/// `"(" item *(SP item) ")"`, at least one.
pub fn list1<T>(c: &mut Cursor<'_>, item: impl FnMut(&mut Cursor<'_>) -> Parsed<T>) -> Parsed<Vec<T>> {
    c.expect(b'(', "(")?;
    let all = spaced(c, item)?;
    c.expect(b')', ")")?;
    Ok(all)
}

/// `"(" [item *(SP item)] ")"`.
pub fn list0<T>(c: &mut Cursor<'_>, item: impl FnMut(&mut Cursor<'_>) -> Parsed<T>) -> Parsed<Vec<T>> {
    if c.eat_text(b"()") { Ok(Vec::new()) } else { list1(c, item) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug + PartialEq>(rule: impl Fn(&mut Cursor<'_>) -> Parsed<T>, input: &str, want: Option<T>) {
        let mut c = Cursor::new(input.as_bytes());
        let got = rule(&mut c).and_then(|v| c.end().map(|()| v)).ok();
        assert_eq!(got, want, "{input}");
    }

    #[test]
    fn strings() {
        check(astring, "a]b", Some("a]b".into()));
        check(astring, r#""a\\b\"c""#, Some("a\\b\"c".into()));
        check(astring, r#""a\b""#, None);
        check(astring, "\"é\"", Some("é".into()));
        check(astring, "{3}\r\na\"b", Some("a\"b".into()));
        check(astring, "{3+}\r\nabc", Some("abc".into()));
        check(astring, "{3}\r\na\0b", None);
        check(astring, "a\x7f", None);
        check(nstring, "nil", Some(None));
        check(tag, "a+", None);
    }

    #[test]
    fn a_missing_literal_is_asked_for() {
        let got = astring(&mut Cursor::new(b"{12+}"));
        assert_eq!(got, Err(Error::NeedMore(LiteralHead { size: 12, sync: false, binary: false })));
    }

    #[test]
    fn numbers() {
        check(number64, "9223372036854775807", Some(i64::MAX as u64));
        check(number64, "9223372036854775808", None);
        check(number, "4294967295", Some(u32::MAX));
        check(number, "4294967296", None);
        check(nz_number, "0", None);
    }

    #[test]
    fn dates() {
        check(date, "1-feb-2020", Some(Date { year: 2020, month: 2, day: 1 }));
        check(date, "\"01-Feb-2020\"", Some(Date { year: 2020, month: 2, day: 1 }));
        check(date, "31-Feb-2020", None);
        check(date, "001-Feb-2020", None);
        let want = DateTime { at: Timestamp::from_secs(1_577_866_272), offset_minutes: 120 };
        check(date_time, "\"01-Jan-2020 10:11:12 +0200\"", Some(want));
        check(date_time, "\" 1-Jan-2020 10:11:12 +0200\"", Some(want));
        check(date_time, "\"1-Jan-2020 10:11:12 +0200\"", None);
        check(date_time, "\"01-Jan-2020 10:11:12 +2400\"", None);
    }
}
