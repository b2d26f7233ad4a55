//! The policy itself, RFC 8461 §3.2.

use mox_base::Domain;
use std::fmt;
use std::time::Duration;

/// Larger policies are refused.
pub const MAX_POLICY: usize = 64 * 1024;

/// What senders do with hosts that break the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They don't deliver.
    Enforce,
    /// They deliver, and report.
    Testing,
    /// As if there were no policy.
    None,
}

impl Mode {
    /// The word in the policy.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// The names of allowed hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This one.
    Host(Domain),
    /// Those with exactly one more label.
    Below(Domain),
}

impl Pattern {
    /// RFC 8461 §4.1.
    pub fn matches(&self, host: &Domain) -> bool {
        match self {
            Self::Host(domain) => domain == host,
            Self::Below(domain) => host.ascii().split_once('.').is_some_and(|(_, parent)| parent == domain.ascii()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(domain) => f.write_str(domain.ascii()),
            Self::Below(domain) => write!(f, "*.{}", domain.ascii()),
        }
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What to do.
    pub mode: Mode,
    /// How long it may be kept.
    pub max_age: Duration,
    /// Allowed hosts.
    pub mx: Vec<Pattern>,
    /// Fields we don't know.
    pub extensions: Vec<(String, String)>,
}

/// Why a text is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed mta-sts policy: {0}")]
pub struct PolicyError(&'static str);

impl Policy {
    /// Understands a policy.
    ///
    /// ```abnf
    /// sts-policy-record = sts-policy-field *WSP *(sts-policy-term sts-policy-field *WSP) [sts-policy-term]
    /// ```
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError("too long"));
        }
        let text = std::str::from_utf8(text).map_err(|_| PolicyError("not UTF-8"))?;
        let (mut version, mut mode, mut max_age) = (None, None, None);
        let (mut mx, mut extensions) = (Vec::new(), Vec::new());
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']);
            if line.is_empty() {
                continue;
            }
            let (key, value) = line.split_once(':').ok_or(PolicyError("line without colon"))?;
            let (key, value) = (key.trim_end_matches([' ', '\t']), value.trim_matches([' ', '\t']));
            match key {
                "version" => drop(version.get_or_insert(value)),
                "mode" => drop(mode.get_or_insert(value)),
                "max_age" => drop(max_age.get_or_insert(value)),
                "mx" => mx.push(pattern(value)?),
                _ if is_key(key) && is_value(value) => extensions.push((key.to_owned(), value.to_owned())),
                _ => return Err(PolicyError("bad field")),
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyError("version isn't STSv1"));
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(PolicyError("missing or unknown mode")),
        };
        let max_age = max_age.filter(|s| (1..=10).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit()));
        let max_age: u32 = max_age.and_then(|s| s.parse().ok()).ok_or(PolicyError("missing or bad max_age"))?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError("no mx"));
        }
        Ok(Self { mode, max_age: Duration::from_secs(u64::from(max_age)), mx, extensions })
    }

    /// Whether mail may go to a host.
    pub fn allows(&self, host: &Domain) -> bool {
        self.mx.iter().any(|pattern| pattern.matches(host))
    }

    /// The lines of the policy, as TLS reports have them, RFC 8460 §4.4.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {}", self.mode.word())];
        lines.push(format!("max_age: {}", self.max_age.as_secs()));
        lines.extend(self.mx.iter().map(|mx| format!("mx: {mx}")));
        lines
    }
}

/// The policy as it is served.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

fn pattern(value: &str) -> Result<Pattern, PolicyError> {
    // RFC 8461 §3.2: A-labels only.
    let parse = |name: &str| Domain::parse(name).ok().filter(|_| name.is_ascii()).ok_or(PolicyError("bad mx"));
    match value.strip_prefix("*.") {
        Some(parent) => parse(parent).map(Pattern::Below),
        None => parse(value).map(Pattern::Host),
    }
}

fn is_key(key: &str) -> bool {
    (1..=32).contains(&key.len())
        && key.starts_with(|c: char| c.is_ascii_alphanumeric())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn is_value(value: &str) -> bool {
    !value.is_empty() && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n";

    #[test]
    fn the_example_of_the_rfc() {
        let policy = Policy::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age.as_secs(), policy.mx.len()), (Mode::Enforce, 604_800, 3));
        let d = |s: &str| s.parse::<Domain>().unwrap();
        for (host, want) in [
            ("mail.example.com", true),
            ("a.example.net", true),
            ("example.net", false),
            ("a.b.example.net", false),
            ("other.example.com", false),
            ("MAIL.example.com", true),
        ] {
            assert_eq!(policy.allows(&d(host)), want, "{host}");
        }
        assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
    }

    #[test]
    fn variants() {
        for (text, want) in [
            ("version: STSv1\nmode: none\nmax_age: 0", "ok"),
            ("version:STSv1 \nmode:testing\t\nmx:a.example\nmax_age:10", "ok"),
            ("version: STSv1\nmode: none\nmode: enforce\nmax_age: 5\nfuture: of mail\n", "ok"),
            ("mode: none\nmax_age: 5", "version isn't STSv1"),
            ("version: STSv2\nmode: none\nmax_age: 5", "version isn't STSv1"),
            ("version: STSv1\nmode: enforce\nmax_age: 5", "no mx"),
            ("version: STSv1\nmode: strict\nmx: a.example\nmax_age: 5", "missing or unknown mode"),
            ("version: STSv1\nmode: none", "missing or bad max_age"),
            ("version: STSv1\nmode: none\nmax_age: 12345678901", "missing or bad max_age"),
            ("version: STSv1\nmode: none\nmax_age: 9999999999", "missing or bad max_age"),
            ("version: STSv1\nmode: none\nmax_age: -1", "missing or bad max_age"),
            ("version: STSv1\nmode: enforce\nmx: bücher.example\nmax_age: 5", "bad mx"),
            ("version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 5", "bad mx"),
            ("<html>", "line without colon"),
            ("version: STSv1\nmode: none\nmax_age: 5\nbad key: x", "bad field"),
        ] {
            let got = Policy::parse(text.as_bytes()).map_or_else(|e| e.0, |_| "ok");
            assert_eq!(got, want, "{text}");
        }
        assert_eq!(Policy::parse(&vec![b'a'; MAX_POLICY + 1]), Err(PolicyError("too long")));
    }

    proptest! {
        #[test]
        fn never_panics(text in "((version: STSv1|mode: none|max_age: [0-9]{1,12}|mx: [*.a-z]{1,9}|[ -~]{0,12})\r?\n){0,8}") {
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()).map(|p| p.mx), Ok(policy.mx));
            }
        }
    }
}
