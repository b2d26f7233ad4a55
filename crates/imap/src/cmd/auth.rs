//! AUTHENTICATE, LOGIN, ENABLE and ID.

use super::{Command, Context};
use crate::cursor::{Cursor, Parsed};
use crate::token::{astring, atom, keyword, list0, nstring, spaced, string};
use mox_base::Secret;

/// `AUTHENTICATE`, RFC 9051 §6.2.2, with the initial response of RFC 4959.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    /// The mechanism, in upper case.
    pub mechanism: String,
    /// Still in base64; `=` stands for an empty one.
    pub initial_response: Option<Secret<String>>,
}

/// `LOGIN`, RFC 9051 §6.2.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The login address.
    pub user: String,
    /// The password.
    pub password: Secret<String>,
}

/// `authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp]`, RFC 9051 §9.
pub(super) fn authenticate(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    c.sp()?;
    let mechanism = keyword(c)?;
    let initial_response = if c.eat(b' ') {
        let text = c.take_while1(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='), "base64")?;
        Some(Secret::new(String::from_utf8_lossy(text).into_owned()))
    } else {
        None
    };
    Ok(Command::Authenticate(Authenticate { mechanism, initial_response }))
}

/// `login = "LOGIN" SP userid SP password`, RFC 9051 §9.
pub(super) fn login(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    c.sp()?;
    let user = astring(c)?;
    c.sp()?;
    let password = Secret::new(astring(c)?);
    Ok(Command::Login(Login { user, password }))
}

/// `enable = "ENABLE" 1*(SP capability)`, RFC 9051 §9.
pub(super) fn enable(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    c.sp()?;
    spaced(c, atom).map(Command::Enable)
}

/// The most parameters that ID may have, RFC 2971 §3.3.
const ID_PARAMETERS: usize = 30;

/// `id = "ID" SP id-params-list`, RFC 2971 §4, with its limits: 30 fields, names of 30 and values of 1024 octets.
pub(super) fn id(c: &mut Cursor<'_>, _: &Context) -> Parsed<Command> {
    c.sp()?;
    if c.eat_text(b"NIL") {
        return Ok(Command::Id(Vec::new()));
    }
    let pairs = list0(c, |c| {
        let field = string(c)?;
        c.sp()?;
        let value = nstring(c)?;
        if field.len() > 30 || value.as_ref().is_some_and(|v| v.len() > 1024) {
            return c.bad("shorter ID parameter");
        }
        Ok((field, value))
    })?;
    for (i, (field, _)) in pairs.iter().enumerate() {
        if i >= ID_PARAMETERS || pairs.iter().take(i).any(|(other, _)| other.eq_ignore_ascii_case(field)) {
            return c.bad("fewer and different ID parameters");
        }
    }
    Ok(Command::Id(pairs))
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn logins() {
        let login = |user: &str, password: &str| Some(Command::Login(Login { user: user.into(), password: Secret::new(password.into()) }));
        for (text, want) in [
            ("login a@b c", login("a@b", "c")),
            (r#"LOGIN "a" "p \"q\"""#, login("a", "p \"q\"")),
            ("login a {3}\r\nx y", login("a", "x y")),
            ("login {1+}\r\na {1}\r\nb", login("a", "b")),
            ("login a", None),
            ("login a b c", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn authentications() {
        let auth = |mechanism: &str, ir: Option<&str>| {
            Some(Command::Authenticate(Authenticate { mechanism: mechanism.into(), initial_response: ir.map(|s| Secret::new(s.into())) }))
        };
        for (text, want) in [
            ("authenticate plain", auth("PLAIN", None)),
            ("authenticate scram-sha-256 bixhPQ==", auth("SCRAM-SHA-256", Some("bixhPQ=="))),
            ("authenticate external =", auth("EXTERNAL", Some("="))),
            ("authenticate plain *", None),
            ("authenticate", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn ids() {
        assert_eq!(parse("id nil").ok(), Some(Command::Id(vec![])));
        assert_eq!(parse("id ()").ok(), Some(Command::Id(vec![])));
        let want = vec![("name".into(), Some("x y".into())), ("version".into(), None)];
        assert_eq!(parse(r#"id ("name" "x y" "version" nil)"#).ok(), Some(Command::Id(want)));
        assert!(parse(r#"id ("a" "1" "A" "2")"#).is_err());
        assert!(parse(r#"id ("a")"#).is_err());
        // RFC 2971 §3.3: 30 fields, names of 30 and values of 1024 octets.
        let many = |n: usize| format!("id ({})", (0..n).map(|i| format!(r#""f{i}" nil"#)).collect::<Vec<_>>().join(" "));
        assert!(parse(&many(30)).is_ok() && parse(&many(31)).is_err());
        let one = |name: usize, value: usize| format!(r#"id ("{}" "{}")"#, "n".repeat(name), "v".repeat(value));
        assert!(parse(&one(30, 1024)).is_ok() && parse(&one(31, 1)).is_err() && parse(&one(1, 1025)).is_err());
    }
}
