//! Paths: `<localpart@domain>` with its quoting, source routes and address literals. RFC 5321 §4.1.2, RFC 6531 §3.3.

use super::cursor::{Bad, Cursor, text};
use super::{CommandError, Dialect};
use mox_base::localpart::is_atext;
use mox_base::{Domain, Host, Localpart, Path};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a path with its brackets, RFC 5321 §4.5.3.1.3, and of a domain, §4.5.3.1.2.
const MAX_PATH: usize = 256;
const MAX_DOMAIN: usize = 255;

/// The text between `<` and `>`; a `>` in a quoted string doesn't end it. Parsed later, when it is known whether SMTPUTF8
/// applies.
pub(super) fn bracketed<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8], Bad> {
    c.expect(b'<', "<")?;
    let rest = c.rest();
    let (mut quoted, mut escaped) = (false, false);
    for (i, &b) in rest.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => {
                c.skip(i.saturating_add(1));
                return rest.get(..i).ok_or_else(|| c.bad(">"));
            }
            _ => {}
        }
    }
    c.skip(rest.len());
    Err(c.bad(">"))
}

/// What stands between the brackets, source route included. `Mailbox = Local-part "@" ( Domain / address-literal )`.
pub(super) fn path(bytes: &[u8], dialect: &Dialect, smtputf8: bool) -> Result<Path, CommandError> {
    let mut c = Cursor::new(bytes);
    if bytes.len().saturating_add(2) > MAX_PATH {
        return Err(c.bad("path of at most 256 octets").into());
    }
    source_route(&mut c, smtputf8)?;
    let localpart = localpart(&mut c, dialect, smtputf8)?;
    c.expect(b'@', "@")?;
    let host = match c.peek() {
        Some(b'[') => Host::Ip(address_literal(&mut c)?),
        _ => Host::Domain(domain(&mut c, smtputf8)?),
    };
    c.end(false)?;
    Ok(Path { localpart, host })
}

/// `A-d-l ":"`, RFC 5321 appendix C: accepted and dropped.
fn source_route(c: &mut Cursor<'_>, smtputf8: bool) -> Result<(), Bad> {
    if c.peek() != Some(b'@') {
        return Ok(());
    }
    loop {
        c.expect(b'@', "@ of a source route")?;
        domain(c, smtputf8)?;
        if !c.take(b',') {
            return c.expect(b':', ": after a source route");
        }
    }
}

fn localpart(c: &mut Cursor<'_>, dialect: &Dialect, smtputf8: bool) -> Result<Localpart, CommandError> {
    let start = c.clone();
    let bytes = if c.peek() == Some(b'"') {
        quoted_string(c)?
    } else {
        c.take_some(|b| !b.is_ascii() || b == b'.' || is_atext(char::from(b)), "localpart")?
    };
    if !bytes.is_ascii() && !smtputf8 {
        return Err(CommandError::NeedsSmtputf8);
    }
    let max = if dialect.strict { Localpart::MAX_STRICT } else { Localpart::MAX };
    let localpart: Localpart = text(bytes, &start)?.parse().map_err(|_| start.bad("localpart"))?;
    if localpart.as_str().len() > max {
        return Err(start.bad("shorter localpart").into());
    }
    Ok(localpart)
}

/// The quoted string as it stands, quotes and escapes included.
fn quoted_string<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8], Bad> {
    let rest = c.rest();
    let mut escaped = false;
    for (i, &b) in rest.iter().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let end = i.saturating_add(1);
                c.skip(end);
                return rest.get(..end).ok_or_else(|| c.bad("quoted string"));
            }
            _ => {}
        }
    }
    Err(c.bad("closing quote"))
}

/// `Domain`, canonicalized.
pub(super) fn domain(c: &mut Cursor<'_>, smtputf8: bool) -> Result<Domain, Bad> {
    let start = c.clone();
    let accept = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.') || (smtputf8 && !b.is_ascii());
    let bytes = c.take_some(accept, "domain name")?;
    if bytes.len() > MAX_DOMAIN {
        return Err(start.bad("shorter domain name"));
    }
    text(bytes, &start)?.parse().map_err(|_| start.bad("domain name"))
}

/// `address-literal`, RFC 5321 §4.1.3. The closing bracket may be missing, and IPv6 untagged: clients do that.
pub(super) fn address_literal(c: &mut Cursor<'_>) -> Result<IpAddr, Bad> {
    c.expect(b'[', "[")?;
    let start = c.clone();
    let tagged = c.take_text("IPv6:");
    let bytes = c.take_some(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'), "IP address")?;
    let address = text(bytes, &start)?;
    let ip = match (tagged, address.parse::<Ipv4Addr>()) {
        (true, Ok(_)) => return Err(start.bad("IPv6 address")),
        (false, Ok(v4)) => IpAddr::V4(v4),
        (_, Err(_)) => IpAddr::V6(address.parse::<Ipv6Addr>().map_err(|_| start.bad("IP address"))?),
    };
    c.take(b']');
    Ok(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &str, smtputf8: bool) -> Result<String, CommandError> {
        let mut c = Cursor::new(input.as_bytes());
        let bytes = bracketed(&mut c)?;
        c.end(false)?;
        path(bytes, &Dialect::default(), smtputf8).map(|p| p.to_string())
    }

    #[test]
    fn accepts() {
        for (input, want) in [
            ("<ann@mox.example>", "ann@mox.example"),
            ("<Ann.B+c@MOX.example>", "Ann.B+c@mox.example"),
            ("<\"a>b@c\"@mox.example>", "\"a>b@c\"@mox.example"),
            ("<\"\"@mox.example>", "\"\"@mox.example"),
            ("<@a.example,@b.example:ann@mox.example>", "ann@mox.example"),
            ("<ann@[192.0.2.1]>", "ann@[192.0.2.1]"),
            ("<ann@[192.0.2.1>", "ann@[192.0.2.1]"),
            ("<ann@[ipv6:2001:db8::1]>", "ann@[IPv6:2001:db8::1]"),
        ] {
            assert_eq!(parse(input, false).as_deref(), Ok(want), "{input}");
        }
        assert_eq!(parse("<m\u{f8}x@b\u{fc}cher.example>", true).as_deref(), Ok("m\u{f8}x@b\u{fc}cher.example"));
    }

    #[test]
    fn refuses() {
        let long = format!("<{}@x.example>", "a".repeat(129));
        let longer = format!("<a@{}example>", "x.".repeat(130));
        for input in [
            "ann@mox.example",
            "<ann@mox.example",
            "<ann>",
            "<ann@>",
            "<@mox.example>",
            "<a..b@mox.example>",
            "<.a@mox.example>",
            "<a b@mox.example>",
            "<ann@mox.example.>",
            "<ann@-mox.example>",
            "<ann@192.0.2.1>",
            "<ann@[IPv6:192.0.2.1]>",
            "<ann@[x]>",
            "<\"a@mox.example>",
            "<ann@mox.example>x",
            "<@a.example ann@mox.example>",
            "<ann@b\u{fc}cher.example>",
            &long,
            &longer,
        ] {
            assert!(matches!(parse(input, false), Err(CommandError::Syntax(_))), "{input}");
        }
        assert_eq!(parse("<m\u{f8}x@mox.example>", false), Err(CommandError::NeedsSmtputf8));
    }

    #[test]
    fn strictness_shortens_localparts() {
        let strict = Dialect { strict: true, ..Dialect::default() };
        let long = format!("{}@mox.example", "a".repeat(65));
        assert!(path(long.as_bytes(), &Dialect::default(), false).is_ok());
        assert!(path(long.as_bytes(), &strict, false).is_err());
    }
}
