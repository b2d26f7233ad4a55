//! `RCPT TO:<forward-path> [parameters]`, RFC 5321 §4.1.1.3.

use super::cursor::Cursor;
use super::mail::{once, parameter};
use super::{CommandError, Dialect, path, xtext};
use mox_base::Path;
use std::fmt;

/// The command, without its verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    /// The forward-path; none for `<postmaster>` without a domain.
    pub to: Option<Path>,
    /// The parameters.
    pub parameters: RcptParameters,
}

/// The parameters of DSN, RFC 3461.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// §4.1: when to send a DSN.
    pub notify: Option<Notify>,
    /// §4.2: the recipient as first given.
    pub orcpt: Option<OriginalRecipient>,
}

/// When to send a DSN, RFC 3461 §4.1. None of the three: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// When it was delivered.
    pub success: bool,
    /// When it failed.
    pub failure: bool,
    /// When it takes long.
    pub delay: bool,
}

/// `ORCPT`, RFC 3461 §4.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// The kind of address, mostly `rfc822`.
    pub address_type: String,
    /// The address, decoded.
    pub address: String,
}

impl Rcpt {
    /// The arguments after `RCPT`. `smtputf8`: whether MAIL had it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn parse(arguments: &[u8], dialect: &Dialect, smtputf8: bool) -> Result<Self, CommandError> {
        let mut c = Cursor::new(arguments);
        c.expect(b' ', "space")?;
        if !c.take_text("TO:") {
            return Err(c.bad("TO:").into());
        }
        if !dialect.strict {
            c.take(b' ');
        }
        let raw = path::bracketed(&mut c)?;
        // RFC 5321 §4.1.1.3: postmaster without a domain, in any case.
        let to = if raw.eq_ignore_ascii_case(b"postmaster") { None } else { Some(path::path(raw, dialect, smtputf8)?) };
        let mut parameters = RcptParameters::default();
        while let Some((keyword, value)) = parameter(&mut c, dialect)? {
            let value = || value.ok_or_else(|| c.bad("value"));
            match keyword.as_str() {
                "NOTIFY" if dialect.dsn => {
                    let notify = notify(value()?).ok_or_else(|| c.bad("NEVER or a list of SUCCESS, FAILURE, DELAY"))?;
                    once(&mut parameters.notify, "NOTIFY", notify)?;
                }
                "ORCPT" if dialect.dsn => {
                    let orcpt = original(value()?).ok_or_else(|| c.bad("address type ; xtext"))?;
                    once(&mut parameters.orcpt, "ORCPT", orcpt)?;
                }
                _ => return Err(CommandError::UnknownParameter),
            }
        }
        Ok(Self { to, parameters })
    }
}

fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::default());
    }
    let mut notify = Notify::default();
    for item in value.split(',') {
        match item.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return None,
        }
    }
    Some(notify)
}

fn original(value: &str) -> Option<OriginalRecipient> {
    let (address_type, address) = value.split_once(';')?;
    let is_atom = !address_type.is_empty() && address_type.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    // RFC 3461 §4.2: at most 500 characters. RFC 6533 §3 lets utf-8 addresses stand as they are.
    let decoded = if address.is_ascii() { xtext::decode(address)? } else { address.as_bytes().to_vec() };
    let address = String::from_utf8(decoded).ok()?;
    let good = is_atom && value.len() <= 500 && !address.is_empty() && !address.chars().any(char::is_control);
    good.then(|| OriginalRecipient { address_type: address_type.to_owned(), address })
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let names: Vec<&str> = names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
        f.write_str(if names.is_empty() { "NEVER".to_owned() } else { names.join(",") }.as_str())
    }
}

impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.address_type, xtext::encode(self.address.as_bytes()))
    }
}

/// As on the wire, with the verb, without CRLF. Addresses that need SMTPUTF8 are written in UTF-8.
impl fmt::Display for Rcpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Some(path) => write!(f, "RCPT TO:<{}>", path.for_smtputf8(path.needs_smtputf8()))?,
            None => f.write_str("RCPT TO:<postmaster>")?,
        }
        if let Some(notify) = self.parameters.notify {
            write!(f, " NOTIFY={notify}")?;
        }
        if let Some(orcpt) = &self.parameters.orcpt {
            write!(f, " ORCPT={orcpt}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DSN: Dialect = Dialect { strict: false, trailing_space: true, dsn: true, future_release: true, priority: true };

    #[test]
    fn printing_what_was_parsed_gives_the_same() {
        for line in [
            "RCPT TO:<ann@mox.example>",
            "RCPT TO:<postmaster>",
            "RCPT TO:<ann@mox.example> NOTIFY=NEVER",
            "RCPT TO:<ann@[IPv6:2001:db8::1]> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Ann+2Bx@mox.example",
        ] {
            assert_eq!(Rcpt::parse(line.strip_prefix("RCPT").unwrap().as_bytes(), &DSN, false).unwrap().to_string(), line);
        }
    }

    #[test]
    fn errors() {
        let parse = |text: &str, dialect: &Dialect| Rcpt::parse(text.as_bytes(), dialect, false);
        let none = Dialect::default();
        assert_eq!(parse(" TO:<ann@mox.example> NOTIFY=NEVER", &none), Err(CommandError::UnknownParameter));
        assert_eq!(parse(" TO:<ann@mox.example> X=1", &DSN), Err(CommandError::UnknownParameter));
        for text in [
            " TO:<>",
            " TO:<ann>",
            " TO:<ann@mox.example> NOTIFY=NEVER,DELAY",
            " TO:<ann@mox.example> NOTIFY",
            " TO:<ann@mox.example> ORCPT=x",
            " TO:<ann@mox.example> ORCPT=;x",
            " FROM:<ann@mox.example>",
            "TO:<ann@mox.example>",
            "",
        ] {
            assert!(matches!(parse(text, &DSN), Err(CommandError::Syntax(_))), "{text}");
        }
        assert_eq!(parse(" TO:<m\u{f8}x@mox.example>", &none), Err(CommandError::NeedsSmtputf8));
        assert_eq!(parse(" to: <PostMaster>", &none).unwrap().to, None);
    }
}
