//! What the reply to EHLO announces: read by clients.

use crate::reply::Reply;
use mox_sasl::Mechanism;

/// The extensions of a server, as a client understands them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 8689.
    pub requiretls: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 1870: the largest message; `Some(0)` says nothing about a limit.
    pub size: Option<u64>,
    /// RFC 4954: mechanism names in upper case.
    pub auth: Vec<String>,
    /// RFC 9422.
    pub limits: Limits,
    /// RFC 6710.
    pub mt_priority: bool,
    /// RFC 2852: the least time to deliver within that may be asked for, in seconds; 0 says nothing about one.
    pub deliver_by: Option<u32>,
}

/// LIMITS, RFC 9422 §4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// MAIL commands in a session.
    pub mail_max: Option<u32>,
    /// RCPT commands in a transaction.
    pub rcpt_max: Option<u32>,
    /// Different recipient domains in a transaction.
    pub rcpt_domain_max: Option<u32>,
}

impl Extensions {
    /// From the reply to EHLO, whose first line is the greeting. Lines that don't parse are ignored.
    pub fn parse(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines.iter().skip(1) {
            let (keyword, parameters) = line.split_once(' ').unwrap_or((line, ""));
            match keyword.to_ascii_uppercase().as_str() {
                "STARTTLS" => extensions.starttls = true,
                "ENHANCEDSTATUSCODES" => extensions.enhanced_status_codes = true,
                "8BITMIME" => extensions.eight_bit_mime = true,
                "PIPELINING" => extensions.pipelining = true,
                "REQUIRETLS" => extensions.requiretls = true,
                "SMTPUTF8" => extensions.smtputf8 = true,
                "CHUNKING" => extensions.chunking = true,
                "DSN" => extensions.dsn = true,
                "SIZE" => extensions.size = Some(parameters.trim().parse().unwrap_or(0)),
                "AUTH" => {
                    extensions.auth = parameters.split_ascii_whitespace().map(str::to_ascii_uppercase).collect();
                }
                "MT-PRIORITY" => extensions.mt_priority = true,
                "DELIVERBY" => {
                    // Other words may follow the time after a comma.
                    let least = parameters.split(',').next().unwrap_or_default().trim();
                    extensions.deliver_by = Some(least.parse().unwrap_or(0));
                }
                "LIMITS" => extensions.limits = Limits::parse(parameters).unwrap_or_default(),
                _ => {}
            }
        }
        extensions
    }

    /// The mechanisms that we know too.
    pub fn mechanisms(&self) -> Vec<Mechanism> {
        self.auth.iter().filter_map(|name| Mechanism::from_name(name)).collect()
    }
}

impl Limits {
    /// `name=value` separated by spaces; none, and thus no limits, on any syntax error or duplicate.
    fn parse(parameters: &str) -> Option<Self> {
        let mut limits = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for item in parameters.split_ascii_whitespace() {
            let (name, value) = item.split_once('=')?;
            let name = name.to_ascii_uppercase();
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            let is_value = !value.is_empty() && value.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b';');
            if !is_name || !is_value || seen.contains(&name) {
                return None;
            }
            // RFC 9422 §4: 1 to 6 digits, not zero.
            let digits = value.len() <= 6 && value.bytes().all(|b| b.is_ascii_digit());
            let number = value.parse::<u32>().ok().filter(|n| digits && *n > 0);
            match name.as_str() {
                "MAILMAX" => limits.mail_max = number,
                "RCPTMAX" => limits.rcpt_max = number,
                "RCPTDOMAINMAX" => limits.rcpt_domain_max = number,
                _ => {}
            }
            seen.push(name);
        }
        Some(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let text = "mx.example hi\nstarttls\nSIZE 1000\nAUTH plain SCRAM-SHA-256 X-OAUTH\nLIMITS RCPTMAX=20 MAILMAX=5\nSMTPUTF8 ext\n8BITMIME\nFOO";
        let extensions = Extensions::parse(&Reply::bare(250, text));
        assert!(extensions.starttls && extensions.smtputf8 && extensions.eight_bit_mime && !extensions.pipelining);
        assert_eq!(extensions.size, Some(1000));
        assert_eq!(extensions.mechanisms().len(), 2);
        assert_eq!((extensions.mt_priority, extensions.deliver_by), (false, None));
        let extensions = Extensions::parse(&Reply::bare(250, "mx.example\nMT-PRIORITY MIXER\nDELIVERBY 60,x\nLIMITS RCPTMAX=20 MAILMAX=5"));
        assert_eq!((extensions.mt_priority, extensions.deliver_by), (true, Some(60)));
        assert_eq!(Extensions::parse(&Reply::bare(250, "mx.example\ndeliverby")).deliver_by, Some(0));
        assert_eq!(extensions.limits, Limits { mail_max: Some(5), rcpt_max: Some(20), rcpt_domain_max: None });
    }

    #[test]
    fn limits_are_dropped_whole_when_malformed() {
        for text in ["RCPTMAX", "RCPTMAX=5 RCPTMAX=5", "RCPTMAX=5 =1", "RCPTMAX=5 X="] {
            assert_eq!(Limits::parse(text), None, "{text}");
        }
        for text in ["RCPTMAX=0", "RCPTMAX=1000000", "RCPTMAX=x", "OTHER=1"] {
            assert_eq!(Limits::parse(text), Some(Limits::default()), "{text}");
        }
    }
}
