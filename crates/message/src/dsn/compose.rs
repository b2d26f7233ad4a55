//! Writing a DSN.

use super::Action;
use crate::compose::{Composed, Composer, Entity, NamedAddress};
use crate::date::DateTime;
use crate::fold::FoldedField;
use crate::header::{HeaderName, HeaderValue, Headers};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::{Address, Domain, Host, Path, Random, Timestamp};
use std::net::IpAddr;

/// A delivery status notification to be written. Only the header of the original is returned, never its body.
#[derive(Clone, Debug)]
pub struct Dsn {
    /// Whether the original was SMTPUTF8. If not, or with [`Dsn::compose_ascii`], everything is ASCII.
    pub smtputf8: bool,
    /// Who sends it.
    pub from: Address,
    /// The reverse-path of the original.
    pub to: Path,
    /// The subject.
    pub subject: String,
    /// The new message's id, without brackets.
    pub message_id: String,
    /// The `Message-ID` value of the original.
    pub references: Option<String>,
    /// When it is written.
    pub date: DateTime,
    /// The text for people.
    pub text: String,
    /// Who reports.
    pub reporting_mta: Domain,
    /// From whom the original came: EHLO name and address.
    pub received_from: Option<(Host, IpAddr)>,
    /// When the original came.
    pub arrival: Option<Timestamp>,
    /// ENVID of the original, RFC 3461.
    pub envelope_id: Option<String>,
    /// What was asked for with HOLDFOR or HOLDUNTIL, RFC 4865 §7.
    pub future_release: Option<String>,
    /// By when the sender wanted it delivered, RFC 2852 §5.
    pub deliver_by: Option<Timestamp>,
    /// The recipients reported on.
    pub recipients: Vec<DsnRecipient>,
    /// The original message, or at least its header section.
    pub original: Vec<u8>,
    /// Whether `original` is the whole message, and returned as such.
    pub full: bool,
}

/// One recipient of a [`Dsn`].
#[derive(Clone, Debug)]
pub struct DsnRecipient {
    /// The address that delivery was tried to.
    pub address: Path,
    /// What the sender said, where that differs.
    pub original: Option<Path>,
    /// What became of it.
    pub action: Action,
    /// The enhanced status code, RFC 3463, as `5.1.1`.
    pub status: String,
    /// The error in words; may be empty.
    pub status_comment: String,
    /// The server we tried.
    pub remote: Option<RemoteMta>,
    /// Its reply, by lines; empty if the error isn't its.
    pub diagnostic: Vec<String>,
    /// When it was last tried.
    pub last_attempt: Option<Timestamp>,
    /// For delays: when we'll give up.
    pub will_retry_until: Option<Timestamp>,
}

/// A server that mail was to be handed to.
#[derive(Clone, Debug)]
pub struct RemoteMta {
    /// Its name.
    pub name: String,
    /// Its address, if there was a connection.
    pub ip: Option<IpAddr>,
}

impl Dsn {
    /// The message.
    pub fn compose(&self, random: &dyn Random) -> Composed {
        self.write(self.smtputf8, random)
    }

    /// The message for a server without SMTPUTF8: the same in ASCII, RFC 6533 §3.
    pub fn compose_ascii(&self, random: &dyn Random) -> Composed {
        self.write(false, random)
    }

    fn write(&self, utf8: bool, random: &dyn Random) -> Composed {
        let name = HeaderName::from_static;
        let mut c = Composer::new(utf8);
        c.addresses(&name("From"), &[NamedAddress::from(self.from.clone())]);
        let to = if utf8 || !self.to.needs_smtputf8() { self.to.for_smtputf8(utf8) } else { dsn_address(&self.to) };
        c.field(&name("To"), &HeaderValue::cleaned(&format!("<{to}>")));
        c.subject(&self.subject);
        c.field(&name("Message-Id"), &HeaderValue::cleaned(&format!("<{}>", self.message_id)));
        if let Some(references) = &self.references {
            c.field(&name("References"), &HeaderValue::cleaned(references));
        }
        c.date(self.date);
        // RFC 3834 §2 and §5.
        c.field(&name("Auto-Submitted"), &HeaderValue::cleaned("auto-replied"));
        let parts = vec![self.text_part(utf8), self.status_part(utf8), self.original_part(utf8)];
        // RFC 6522 §3.
        c.body(&Entity::Multipart { subtype: HeaderValue::cleaned("report; report-type=\"delivery-status\""), parts }, random);
        // Without a maximum size, composing can't fail; the parts are bounded by the header sections that are accepted.
        c.finish().unwrap_or_else(|_| Composed { bytes: Vec::new(), eight_bit: false, smtputf8: utf8 })
    }

    fn text_part(&self, utf8: bool) -> Entity {
        if utf8 || self.text.is_ascii() {
            return Entity::plain(&self.text);
        }
        // Without SMTPUTF8 the receiver may lack 8BITMIME too.
        raw("text/plain; charset=utf-8", "base64", base64_lines(self.text.replace("\r\n", "\n").replace('\n', "\r\n").as_bytes()))
    }

    fn status_part(&self, utf8: bool) -> Entity {
        let mut out = String::new();
        if let Some(id) = &self.envelope_id {
            field(&mut out, "Original-Envelope-ID", id);
        }
        field(&mut out, "Reporting-MTA", &format!("dns; {}", self.reporting_mta.for_smtputf8(utf8)));
        if let Some((helo, ip)) = &self.received_from {
            field(&mut out, "Received-From-MTA", &format!("dns;{} ({})", helo.for_smtputf8(utf8), Host::Ip(*ip)));
        }
        if let Some(arrival) = self.arrival {
            field(&mut out, "Arrival-Date", &arrival.rfc5322());
        }
        if let Some(time) = self.deliver_by {
            field(&mut out, "Deliver-By-Date", &time.rfc5322());
        }
        if let Some(request) = &self.future_release {
            field(&mut out, "Future-Release-Request", request);
        }
        for r in &self.recipients {
            out.push_str("\r\n");
            if let Some(original) = &r.original {
                field(&mut out, "Original-Recipient", &typed(original, utf8));
            }
            field(&mut out, "Final-Recipient", &typed(&r.address, utf8));
            field(&mut out, "Action", r.action.as_str());
            let comment = ascii_unless(utf8, &r.status_comment);
            let comment = if comment.is_empty() { String::new() } else { format!(" ({})", comment.replace(['(', ')', '\\'], " ")) };
            field(&mut out, "Status", &format!("{}{comment}", r.status));
            if let Some(remote) = &r.remote {
                let ip = remote.ip.map(|ip| format!(" ({})", Host::Ip(ip))).unwrap_or_default();
                field(&mut out, "Remote-MTA", &format!("dns;{}{ip}", ascii_unless(utf8, &remote.name)));
            }
            if !r.diagnostic.is_empty() {
                field(&mut out, "Diagnostic-Code", &format!("smtp; {}", ascii_unless(utf8, &r.diagnostic.join(" "))));
            }
            if let Some(t) = r.last_attempt {
                field(&mut out, "Last-Attempt-Date", &t.rfc5322());
            }
            if let Some(t) = r.will_retry_until {
                field(&mut out, "Will-Retry-Until", &t.rfc5322());
            }
        }
        if utf8 {
            raw("message/global-delivery-status", "8bit", out.into_bytes())
        } else {
            raw("message/delivery-status", "7bit", out.into_bytes())
        }
    }

    fn original_part(&self, utf8: bool) -> Entity {
        if self.full {
            // RFC 6522 §3, RFC 6533 §3.
            let encoding = if self.original.is_ascii() { "7bit" } else { "8bit" };
            return raw(if utf8 { "message/global" } else { "message/rfc822" }, encoding, self.original.clone());
        }
        let section = Headers::new(&self.original).section();
        if utf8 {
            return raw("message/global-headers", "8bit", section.to_vec());
        }
        let short = section.split(|b| *b == b'\n').all(|line| line.len() <= 998);
        if section.is_ascii() && short {
            raw("text/rfc822-headers", "7bit", section.to_vec())
        } else {
            raw("text/rfc822-headers; charset=utf-8", "base64", base64_lines(section))
        }
    }
}

fn raw(content_type: &str, encoding: &str, body: Vec<u8>) -> Entity {
    let field = |name, value| (HeaderName::from_static(name), HeaderValue::cleaned(value));
    Entity::Raw { fields: vec![field("Content-Type", content_type), field("Content-Transfer-Encoding", encoding)], body }
}

fn base64_lines(data: &[u8]) -> Vec<u8> {
    data.chunks(57).flat_map(|piece| format!("{}\r\n", STANDARD.encode(piece)).into_bytes()).collect()
}

fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(&FoldedField::new(name).text(value).finish());
}

fn ascii_unless(utf8: bool, text: &str) -> String {
    if utf8 { text.to_owned() } else { text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect() }
}

/// `address-type ";" address`. Without UTF-8, what isn't printable ASCII is escaped, RFC 6533 §3.
fn typed(path: &Path, utf8: bool) -> String {
    if utf8 {
        format!("utf-8;{}", path.for_smtputf8(true))
    } else if path.needs_smtputf8() {
        format!("utf-8;{}", dsn_address(path))
    } else {
        format!("rfc822;{}", path.for_smtputf8(false))
    }
}

fn dsn_address(path: &Path) -> String {
    format!("{}@{}", path.localpart.dsn_form(), path.host.for_smtputf8(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsn::{DeliveryStatus, report_of};
    use crate::structure::Structure;
    use expect_test::expect;

    #[derive(Debug)]
    struct Zeros;
    impl Random for Zeros {
        fn fill(&self, buf: &mut [u8]) {
            buf.fill(0);
        }
    }

    fn dsn(to: &str, original: &[u8]) -> Dsn {
        let path = |a: &str| Path::from(a.parse::<Address>().unwrap());
        Dsn {
            smtputf8: true,
            from: "postmaster@host.example".parse().unwrap(),
            to: path(to),
            subject: "mail delivery failed".to_owned(),
            message_id: "id@host.example".to_owned(),
            references: Some("<original@x.example>".to_owned()),
            date: DateTime::utc(Timestamp::from_secs(1_136_214_245)),
            text: "Delivery has failed permanently.\n".to_owned(),
            reporting_mta: "host.example".parse().unwrap(),
            received_from: None,
            arrival: Some(Timestamp::from_secs(1_136_214_200)),
            envelope_id: None,
            future_release: None,
            deliver_by: None,
            recipients: vec![DsnRecipient {
                address: path("b@y.example"),
                original: None,
                action: Action::Failed,
                status: "5.1.1".to_owned(),
                status_comment: "no (such) user".to_owned(),
                remote: Some(RemoteMta { name: "mx.y.example".to_owned(), ip: Some("192.0.2.1".parse().unwrap()) }),
                diagnostic: vec!["550 5.1.1 no such user".to_owned()],
                last_attempt: Some(Timestamp::from_secs(1_136_214_240)),
                will_retry_until: None,
            }],
            original: original.to_vec(),
            full: false,
        }
    }

    #[test]
    fn ascii() {
        let composed = dsn("a@x.example", b"Subject: x\r\nTo: b\r\n\r\nbody\r\n").compose_ascii(&Zeros);
        assert!(!composed.eight_bit);
        expect![[r#"
            From: <postmaster@host.example>
            To: <a@x.example>
            Subject: mail delivery failed
            Message-Id: <id@host.example>
            References: <original@x.example>
            Date: 2 Jan 2006 15:04:05 +0000
            Auto-Submitted: auto-replied
            MIME-Version: 1.0
            Content-Type: multipart/report; report-type="delivery-status";
            	boundary="AAAAAAAAAAAAAAAAAAAA"

            --AAAAAAAAAAAAAAAAAAAA
            Content-Type: text/plain; charset=us-ascii
            Content-Transfer-Encoding: 7bit

            Delivery has failed permanently.
            --AAAAAAAAAAAAAAAAAAAA
            Content-Type: message/delivery-status
            Content-Transfer-Encoding: 7bit

            Reporting-MTA: dns; host.example
            Arrival-Date: 2 Jan 2006 15:03:20 +0000

            Final-Recipient: rfc822;b@y.example
            Action: failed
            Status: 5.1.1 (no such user)
            Remote-MTA: dns;mx.y.example ([192.0.2.1])
            Diagnostic-Code: smtp; 550 5.1.1 no such user
            Last-Attempt-Date: 2 Jan 2006 15:04:00 +0000
            --AAAAAAAAAAAAAAAAAAAA
            Content-Type: text/rfc822-headers
            Content-Transfer-Encoding: 7bit

            Subject: x
            To: b

            --AAAAAAAAAAAAAAAAAAAA--
        "#]]
        .assert_eq(&String::from_utf8(composed.bytes.clone()).unwrap().replace("\r\n", "\n"));
        let status = report_of(&Structure::of(&composed.bytes), &composed.bytes).unwrap().unwrap();
        assert_eq!((status.recipients[0].action, status.recipients[0].status.as_str()), (Action::Failed, "5.1.1"));
        assert_eq!(status.recipients[0].final_recipient.as_deref(), Some("b@y.example"));
    }

    #[test]
    fn whole_messages_are_returned_as_they_are() {
        let original = "Subject: ü\r\n\r\n--x\r\nbödy\r\n".as_bytes();
        let composed = Dsn { full: true, ..dsn("a@x.example", original) }.compose_ascii(&Zeros);
        let structure = Structure::of(&composed.bytes);
        let part = structure.parts().iter().find(|p| p.subtype == "rfc822").unwrap();
        assert_eq!(part.media_type, "message");
        assert!(composed.bytes.windows(original.len()).any(|w| w == original));
        assert!(composed.eight_bit);
    }

    #[test]
    fn utf8_and_its_ascii_form() {
        let mut d = dsn("ö@bücher.example", "Subject: ü\r\n\r\nbody\r\n".as_bytes());
        d.recipients[0].address = Path::from("ü+x@y.example".parse::<Address>().unwrap());
        let composed = d.compose(&Zeros);
        let s = Structure::of(&composed.bytes);
        let types: Vec<String> = s.parts().iter().map(|p| format!("{}/{}", p.media_type, p.subtype)).collect();
        assert_eq!(types, ["multipart/report", "text/plain", "message/global-delivery-status", "message/global-headers"]);
        let status = |c: &Composed| -> DeliveryStatus { report_of(&Structure::of(&c.bytes), &c.bytes).unwrap().unwrap() };
        assert_eq!(status(&composed).recipients[0].final_recipient.as_deref(), Some("ü+x@y.example"));
        let ascii = d.compose_ascii(&Zeros);
        assert!(!ascii.eight_bit);
        assert!(String::from_utf8(ascii.bytes.clone()).unwrap().contains("Final-Recipient: utf-8;\\x{fc}\\x{2b}x@y.example"));
        assert_eq!(status(&ascii).recipients[0].final_recipient.as_deref(), Some("ü+x@y.example"));
    }
}
