//! Words that came from outside: whatever is taken for one is printed as what it is read as again, and fits into a line.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use mox_base::{Address, ByteSize, Domain, IpPrefix, Localpart, Timestamp};
use mox_testkit::Mutator;
use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

/// Goes through broken forms of some texts; gives those that are taken.
fn taken<T: FromStr + Display + PartialEq + Debug>(texts: &[&str]) -> Vec<(String, T)> {
    let mut all = Vec::new();
    for seed in 0..5000 {
        let mutator = Mutator::new(seed);
        let text = String::from_utf8_lossy(&mutator.bytes(mutator.one_of(texts).as_bytes())).into_owned();
        let Ok(value) = text.parse::<T>() else { continue };
        let printed = value.to_string();
        assert!(!printed.contains(char::is_control), "seed {seed}: {text:?} became {printed:?}");
        assert_eq!(printed.parse::<T>().ok().as_ref(), Some(&value), "seed {seed}: {text:?} became {printed:?}");
        all.push((text, value));
    }
    assert!(all.len() > 300, "{} of {texts:?}", all.len());
    all
}

#[test]
fn domains() {
    for (text, domain) in taken::<Domain>(&["mail.example.org", "Bücher.example", "xn--bcher-kva.example", "a--b.c-d.例え.jp"]) {
        let ascii = domain.ascii();
        let clean = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        assert!(ascii.len() <= 253 && ascii.bytes().all(clean) && !ascii.ends_with('.'), "{text:?}: {ascii:?}");
        assert_eq!(Domain::parse(ascii).unwrap(), domain, "{text:?}");
        assert_eq!(Domain::parse(domain.unicode()).unwrap(), domain, "{text:?}");
        assert_eq!(Domain::parse_lax(ascii).unwrap(), domain, "{text:?}");
        assert!(domain.is_within(&domain) && !domain.log_form().contains(char::is_whitespace), "{text:?}");
    }
}

#[test]
fn addresses_in_other_digits_are_no_domains() {
    for text in ["192.0.2.1", "１９２.0.2.1", "192。0。2。1"] {
        assert!(Domain::parse(text).is_err() && Domain::parse_lax(text).is_err(), "{text}");
    }
}

#[test]
fn localparts() {
    for (text, localpart) in taken::<Localpart>(&["ann", "\"a \\\"b\\\\ c\"", "a.b+c_d=e", "jürgen", "\"@..@\""]) {
        assert!(!localpart.as_str().contains(char::is_control), "{text:?}");
        assert_eq!(Localpart::from_decoded(localpart.as_str()).ok().as_ref(), Some(&localpart), "{text:?}");
        let dsn = localpart.dsn_form();
        assert!(dsn.is_ascii() && !dsn.contains(|c: char| c.is_control()), "{text:?}: {dsn:?}");
    }
}

#[test]
fn addresses() {
    for (text, address) in taken::<Address>(&["ann+x@mail.example.org", "\"a@b \\\"\"@xn--bcher-kva.example", "jürgen@bücher.example"]) {
        for smtputf8 in [true, false] {
            assert_eq!(address.for_smtputf8(smtputf8).parse::<Address>().ok().as_ref(), Some(&address), "{text:?}");
        }
        assert!(address.for_smtputf8(false).is_ascii() || address.needs_smtputf8(), "{text:?}");
        assert!(!address.log_form().contains(char::is_control), "{text:?}");
    }
}

#[test]
fn ranges_of_addresses() {
    let mapped: IpPrefix = "::ffff:192.0.2.0/120".parse().unwrap();
    assert_eq!(mapped, "192.0.2.0/24".parse().unwrap());
    for (text, range) in taken::<IpPrefix>(&["192.0.2.1/24", "2001:db8::/32", "::ffff:192.0.2.1", "10.0.0.1"]) {
        let ip = range.to_string().split('/').next().unwrap().parse().unwrap();
        assert!(range.contains(ip), "{text:?}");
    }
}

#[test]
fn sizes() {
    for (text, size) in taken::<ByteSize>(&["1024", "18446744073709551615", "25m", "3T", " 17k "]) {
        assert!(size.0 == 0 || text.contains(|c: char| c.is_ascii_digit()), "{text:?}");
    }
}

#[test]
fn times() {
    let texts = ["1985-04-12T23:20:50.52Z", "1996-12-19T16:39:57-08:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"];
    let mut read = 0;
    for seed in 0..20_000 {
        let mutator = Mutator::new(seed);
        let text = String::from_utf8_lossy(&mutator.bytes(mutator.one_of(&texts).as_bytes())).into_owned();
        let Some(time) = Timestamp::parse_rfc3339(&text) else { continue };
        read += 1;
        assert_eq!(Timestamp::parse_rfc3339(&time.rfc3339()), Some(time), "seed {seed}: {text:?} became {}", time.rfc3339());
    }
    assert!(read > 300, "{read}");
    // Nor do others' numbers of seconds lead beyond what a calendar has.
    for secs in [i64::MIN, i64::MIN / 2, -62_135_596_801, -1, 0, 253_402_300_800, i64::MAX / 2, i64::MAX] {
        for time in
            [Timestamp::from_secs(secs), Timestamp::from_secs(secs).after(Duration::MAX), Timestamp::from_secs(secs).before(Duration::MAX)]
        {
            for zone in [i16::MIN, -840, 0, 840, i16::MAX] {
                let _shown = (time.imap_at(zone), time.date_at(zone));
            }
            let _shown = (time.rfc5322(), time.rfc3339(), time.asctime(), time.since(Timestamp::EPOCH));
        }
    }
}
