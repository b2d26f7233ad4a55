//! The `Authentication-Results` field, RFC 8601: what we checked and what came of it.

use crate::fold::FoldedField;

/// An `Authentication-Results` field.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuthResults {
    /// The `authserv-id`: our host name.
    pub hostname: String,
    /// A comment for it: the ASCII form where the name is Unicode. May be empty.
    pub comment: String,
    /// The methods; none is written as `none`.
    pub methods: Vec<AuthMethod>,
}

/// The result of one method.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuthMethod {
    /// `dkim`, `spf`, `auth` …
    pub method: String,
    /// `pass`, `fail` …
    pub result: String,
    /// Only written if there is a reason or a property. May be empty.
    pub comment: String,
    /// May be empty.
    pub reason: String,
    /// What was checked.
    pub properties: Vec<AuthProperty>,
}

/// One `type.property=value`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuthProperty {
    /// `header`, `smtp`, `policy` …
    pub kind: String,
    /// `d`, `mailfrom` …
    pub name: String,
    /// The value.
    pub value: String,
    /// Whether the value is like an address, so that its `@` needs no quotes.
    pub address_like: bool,
    /// A comment for it. May be empty.
    pub comment: String,
}

impl AuthProperty {
    /// A property without comment.
    pub fn new(kind: &str, name: &str, value: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), value: value.to_owned(), ..Self::default() }
    }

    /// A property with a value like an address.
    pub fn address(kind: &str, name: &str, value: &str) -> Self {
        Self { address_like: true, ..Self::new(kind, name, value) }
    }
}

impl AuthResults {
    /// The field with its line break.
    pub fn to_field(&self) -> String {
        let mut f = FoldedField::new("Authentication-Results");
        f.token(&value(&self.hostname, false));
        if !self.comment.is_empty() {
            f.text(&comment(&self.comment));
        }
        f.glued(";");
        if self.methods.is_empty() {
            f.token("none");
        }
        let last = self.methods.len().saturating_sub(1);
        for (i, method) in self.methods.iter().enumerate() {
            f.line();
            let mut pieces = method.pieces();
            // On the last piece, so that no line begins with it.
            if let Some(piece) = pieces.last_mut().filter(|_| i < last) {
                piece.push(';');
            }
            // Comments may be long, and fold at their spaces.
            for piece in &pieces {
                if piece.starts_with('(') {
                    f.text(piece)
                } else {
                    f.token(piece)
                };
            }
        }
        f.finish()
    }
}

/// The `authserv-id` of an `Authentication-Results` field's value, RFC 8601 §2.2: who says that it did the checks. None if there is
/// none that can be read.
pub fn authserv_id(value: &str) -> Option<String> {
    let rest = skip_cfws(value)?;
    let id = match rest.strip_prefix('"') {
        Some(quoted) => {
            let mut id = String::new();
            let mut chars = quoted.chars();
            loop {
                match chars.next()? {
                    '"' => break id,
                    '\\' => id.push(chars.next()?),
                    c => id.push(c),
                }
            }
        }
        None => rest.split(|c: char| c.is_ascii_whitespace() || matches!(c, ';' | '(')).next()?.to_owned(),
    };
    (!id.is_empty()).then_some(id)
}

/// What follows white space and comments, RFC 5322 §3.2.2. None if a comment doesn't end.
fn skip_cfws(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' if depth > 0 => depth = depth.saturating_sub(1),
            '\\' if depth > 0 => {
                chars.next()?;
            }
            c if depth > 0 || c.is_ascii_whitespace() => {}
            _ => return text.get(at..),
        }
    }
    (depth == 0).then_some("")
}

impl AuthMethod {
    /// What its line is made of.
    fn pieces(&self) -> Vec<String> {
        let mut pieces = vec![format!("{}={}", self.method, self.result)];
        if !(self.comment.is_empty() || self.reason.is_empty() && self.properties.is_empty()) {
            pieces.push(comment(&self.comment));
        }
        if !self.reason.is_empty() {
            pieces.push(format!("reason={}", value(&self.reason, false)));
        }
        for p in &self.properties {
            pieces.push(format!("{}.{}={}", p.kind, p.name, value(&p.value, p.address_like)));
            if !p.comment.is_empty() {
                pieces.push(comment(&p.comment));
            }
        }
        pieces
    }
}

fn comment(text: &str) -> String {
    format!("({})", text.replace('\\', "\\\\").replace('(', "\\(").replace(')', "\\)"))
}

/// `value`, RFC 2045 §5.1: quoted where it must be.
fn value(text: &str, address_like: bool) -> String {
    let special = |c: char| c.is_control() || c == ' ' || "()<>,;:\\\"/[]?=".contains(c) || (c == '@' && !address_like);
    if text.is_empty() || text.contains(special) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn no_line_begins_with_the_separator() {
        for n in 1..80 {
            let spf = AuthMethod {
                method: "spf".to_owned(),
                result: "pass".to_owned(),
                properties: vec![AuthProperty::new("smtp", "mailfrom", &"x".repeat(n))],
                ..AuthMethod::default()
            };
            let r = AuthResults { hostname: "host.example".to_owned(), methods: vec![spf.clone(), spf], ..AuthResults::default() };
            assert!(!r.to_field().lines().any(|line| line.trim_start().starts_with(';')), "{}", r.to_field());
        }
    }

    #[test]
    fn who_checked() {
        for (value, want) in [
            (" host.example; none", Some("host.example")),
            ("\r\n\thost.example 1; none", Some("host.example")),
            (" (a (nested\\) one) c) \"host.example\" ; x=y", Some("host.example")),
            ("host.example(c)", Some("host.example")),
            ("host.example", Some("host.example")),
            ("\"a\\\"b\";", Some("a\"b")),
            ("; none", None),
            ("", None),
            ("(open host.example", None),
            ("\"open", None),
        ] {
            assert_eq!(authserv_id(value).as_deref(), want, "{value}");
        }
    }

    #[test]
    fn fields() {
        let r = AuthResults {
            hostname: "host.example".to_owned(),
            methods: vec![
                AuthMethod {
                    method: "dkim".to_owned(),
                    result: "pass".to_owned(),
                    comment: "2048 bit rsa, without dnssec".to_owned(),
                    properties: vec![
                        AuthProperty::new("header", "d", "a.example"),
                        AuthProperty::new("header", "s", "sel"),
                        AuthProperty::new("header", "a", "rsa-sha256"),
                        AuthProperty::new("header", "b", "SZZZ3K2mgb8k"),
                    ],
                    ..AuthMethod::default()
                },
                AuthMethod {
                    method: "spf".to_owned(),
                    result: "none".to_owned(),
                    comment: "not shown".to_owned(),
                    ..AuthMethod::default()
                },
                AuthMethod {
                    method: "auth".to_owned(),
                    result: "pass".to_owned(),
                    reason: "a \"b\"\r\nBcc: x".to_owned(),
                    properties: vec![AuthProperty::address("smtp", "mailfrom", "x@a.example"), AuthProperty::new("policy", "x", "a@b")],
                    ..AuthMethod::default()
                },
            ],
            ..AuthResults::default()
        };
        expect![[r#"
            Authentication-Results: host.example;
            	dkim=pass (2048 bit rsa, without dnssec) header.d=a.example header.s=sel
            	header.a=rsa-sha256 header.b=SZZZ3K2mgb8k;
            	spf=none;
            	auth=pass reason="a \"b\"  Bcc: x" smtp.mailfrom=x@a.example policy.x="a@b"
        "#]]
        .assert_eq(&r.to_field().replace("\r\n", "\n"));
        assert_eq!(AuthResults { hostname: "h".to_owned(), ..AuthResults::default() }.to_field(), "Authentication-Results: h; none\r\n");
    }
}
