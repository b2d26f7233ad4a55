//! The `Received` field that each server adds, RFC 5321 §4.4.

use crate::fold::FoldedField;
use mox_base::{Domain, Host, Path, Priority, Timestamp};
use std::net::IpAddr;

/// What a `Received` field says.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// Whom the message is from.
    pub from: ReceivedFrom<'a>,
    /// Our host name.
    pub by: &'a Domain,
    /// The address the client connected to.
    pub by_ip: Option<IpAddr>,
    /// How the message came.
    pub protocol: ReceivedProtocol,
    /// Whether the transaction had REQUIRETLS.
    pub require_tls: bool,
    /// The transaction's id.
    pub id: &'a str,
    /// TLS, if the connection was encrypted.
    pub tls: Option<ReceivedTls<'a>>,
    /// The recipient, if it is the only one to see this.
    pub recipient: Option<&'a Path>,
    /// The priority that was asked for.
    pub priority: Option<Priority>,
    /// When.
    pub date: Timestamp,
}

/// The TLS of a `Received` field, RFC 8314 §4.3.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedTls<'a> {
    /// As `TLS1.3`.
    pub version: &'a str,
    /// The cipher suite's IANA name.
    pub suite: &'a str,
    /// The key exchange's IANA name; empty if it isn't known.
    pub group: &'a str,
}

/// The client of a `Received` field.
#[derive(Clone, Debug)]
pub enum ReceivedFrom<'a> {
    /// Another server.
    Client {
        /// What it said in EHLO or HELO.
        helo: &'a Host,
        /// Its address.
        ip: IpAddr,
        /// Its verified name, or the first name its address has; without trailing dot.
        reverse: Option<&'a str>,
    },
    /// A user, whose address is nobody's business.
    Submission,
}

/// What makes up the protocol name, RFC 3848 and RFC 6531 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedProtocol {
    /// Whether the client said EHLO.
    pub extended: bool,
    /// Whether the message needs SMTPUTF8.
    pub smtputf8: bool,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Whether the client authenticated.
    pub authenticated: bool,
}

impl ReceivedProtocol {
    /// `ESMTPSA` and the like.
    pub fn name(self) -> String {
        let base = match (self.smtputf8, self.extended) {
            (true, _) => "UTF8SMTP",
            (false, true) => "ESMTP",
            (false, false) => "SMTP",
        };
        format!("{base}{}{}", if self.tls { "S" } else { "" }, if self.authenticated { "A" } else { "" })
    }
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
fn literal(ip: IpAddr) -> String {
    Host::Ip(ip).to_string()
}

impl Received<'_> {
    /// The field with its line break.
    pub fn to_field(&self) -> String {
        let utf8 = self.protocol.smtputf8;
        let mut f = FoldedField::new("Received");
        f.token("from");
        match &self.from {
            ReceivedFrom::Client { helo, ip, reverse } => {
                f.token(&helo.for_smtputf8(utf8));
                // The EHLO name said again would tell nothing.
                match reverse.filter(|name| helo.domain().is_none_or(|d| !d.ascii().eq_ignore_ascii_case(name) && d.unicode() != *name)) {
                    Some(name) => f.token(&format!("({name}")).token(&format!("{})", literal(*ip))),
                    None => f.token(&format!("({})", literal(*ip))),
                };
                if let Some(domain) = helo.domain() {
                    ascii_comment(&mut f, domain, utf8);
                }
            }
            ReceivedFrom::Submission => {
                f.token(self.by.for_smtputf8(utf8));
                ascii_comment(&mut f, self.by, utf8);
            }
        }
        f.token("by").token(self.by.for_smtputf8(utf8));
        if let Some(ip) = self.by_ip {
            f.token(&format!("({})", literal(ip)));
        }
        ascii_comment(&mut f, self.by, utf8);
        f.text("via tcp with").token(&self.protocol.name());
        if self.require_tls {
            // RFC 8689 §4.2.1 leaves the form to us.
            f.token("(requiretls)");
        }
        f.token("id").token(self.id);
        if let Some(ReceivedTls { version, suite, group }) = self.tls {
            f.token(&format!("({version}"));
            match group {
                "" => f.token(&format!("{suite})")),
                group => f.token(suite).token(&format!("{group})")),
            };
        }
        if let Some(path) = self.recipient {
            f.token("for").token(&format!("<{}>", path.for_smtputf8(utf8)));
        }
        if let Some(priority) = self.priority {
            // RFC 6710 §6.
            f.token("PRIORITY").token(&priority.get().to_string());
        }
        // RFC 5321 §4.4: the semicolon isn't part of the `for` clause, it always stands before the date.
        f.glued(";");
        f.text(&self.date.rfc5322());
        f.finish()
    }
}

fn ascii_comment(f: &mut FoldedField, domain: &Domain, utf8: bool) {
    if utf8 && domain.is_internationalized() {
        f.token(&format!("({})", domain.ascii()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn fields() {
        let by: Domain = "host.example".parse().unwrap();
        let helo = Host::Domain("mail.bücher.example".parse().unwrap());
        let rcpt: Path = "u@b.example".parse::<mox_base::Address>().unwrap().into();
        let mut r = Received {
            from: ReceivedFrom::Client { helo: &helo, ip: "192.0.2.1".parse().unwrap(), reverse: Some("other.example") },
            by: &by,
            by_ip: Some("2001:db8::1".parse().unwrap()),
            protocol: ReceivedProtocol { extended: true, smtputf8: true, tls: true, authenticated: false },
            require_tls: true,
            id: "yg7stJIwxJhuCm7D1KSgXA",
            tls: Some(ReceivedTls { version: "TLS1.3", suite: "TLS_AES_128_GCM_SHA256", group: "" }),
            recipient: Some(&rcpt),
            priority: None,
            date: Timestamp::from_secs(1_136_214_245),
        };
        expect![[r#"
            Received: from mail.bücher.example (other.example [192.0.2.1])
            	(mail.xn--bcher-kva.example) by host.example ([IPv6:2001:db8::1]) via tcp
            	with UTF8SMTPS (requiretls) id yg7stJIwxJhuCm7D1KSgXA (TLS1.3
            	TLS_AES_128_GCM_SHA256) for <u@b.example>; 2 Jan 2006 15:04:05 +0000
        "#]]
        .assert_eq(&r.to_field().replace("\r\n", "\n"));
        r.from = ReceivedFrom::Submission;
        (r.protocol.smtputf8, r.protocol.authenticated, r.require_tls, r.recipient, r.by_ip) = (false, true, false, None, None);
        expect![[r#"
            Received: from host.example by host.example via tcp with ESMTPSA id
            	yg7stJIwxJhuCm7D1KSgXA (TLS1.3 TLS_AES_128_GCM_SHA256); 2 Jan 2006 15:04:05
            	+0000
        "#]]
        .assert_eq(&r.to_field().replace("\r\n", "\n"));
        r.priority = Priority::new(-3);
        assert!(r.to_field().replace("\r\n\t", " ").contains(" TLS_AES_128_GCM_SHA256) PRIORITY -3; 2 Jan"));
        (r.priority, r.tls) = (None, Some(ReceivedTls { version: "TLS1.3", suite: "TLS_AES_128_GCM_SHA256", group: "X25519MLKEM768" }));
        assert!(r.to_field().replace("\r\n\t", " ").contains(" (TLS1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768); "));
    }
}
