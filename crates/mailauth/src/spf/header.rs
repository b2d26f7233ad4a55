//! `Received-SPF`, RFC 7208 §9.1: what was checked and what came of it, for whoever reads the message later.

use super::evaluate::{Identity, SpfOutcome, SpfSession};
use mox_base::{Domain, Path};
use mox_message::fold::FoldedField;

/// The most of a problem that is shown.
const MAX_PROBLEM: usize = 67;

/// The field with its line break. Domains are in Unicode where the message may be.
pub fn received_spf(outcome: &SpfOutcome, session: &SpfSession<'_>, smtputf8: bool) -> String {
    let mut f = FoldedField::new("Received-SPF");
    f.token(outcome.result.name());
    let domain = outcome
        .domain
        .as_ref()
        .map_or_else(|| session.mail_from.map_or(session.helo, |p| &p.host).for_smtputf8(smtputf8), |domain| domain_text(domain, smtputf8));
    let why = if outcome.identity == Identity::Helo { ", from ehlo because mailfrom is empty" } else { "" };
    f.text(&format!("(domain {domain}{why})"));
    let envelope_from = session.mail_from.map(|path: &Path| path.for_smtputf8(smtputf8)).unwrap_or_default();
    let identity = match outcome.identity {
        Identity::MailFrom => "mailfrom",
        Identity::Helo => "helo",
    };
    let helo = session.helo.for_smtputf8(smtputf8);
    let problem = outcome.problem.as_deref().map(|p| cut(p, MAX_PROBLEM));
    let pairs = [
        ("client-ip", Some(session.remote_ip.to_string())),
        ("envelope-from", Some(envelope_from)),
        ("helo", Some(helo.trim_matches(['[', ']']).to_owned())),
        ("problem", problem.map(str::to_owned)),
        ("mechanism", outcome.mechanism.clone()),
        ("receiver", Some(session.receiver.for_smtputf8(smtputf8).to_owned())),
    ];
    for (key, value) in pairs {
        if let Some(value) = value {
            f.token(&format!("{key}={};", quoted(&value)));
        }
    }
    f.token(&format!("identity={identity}"));
    f.finish()
}

fn domain_text(domain: &Domain, smtputf8: bool) -> String {
    let text = domain.for_smtputf8(smtputf8);
    if text == domain.ascii() { text.to_owned() } else { format!("{text}, {}", domain.ascii()) }
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// `dot-atom / quoted-string`, RFC 7208 §9.1.
fn quoted(text: &str) -> String {
    let is_atom = |part: &str| !part.is_empty() && part.chars().all(mox_base::localpart::is_atext);
    if text.split('.').all(is_atom) { text.to_owned() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::super::{SpfResult, verify};
    use super::*;
    use expect_test::expect;
    use mox_base::{Address, Host, Timestamp};
    use mox_testkit::Zone;

    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("a zone answers at once"),
        }
    }

    fn field(mail_from: &str, ip: &str, zone: Zone) -> (SpfOutcome, String) {
        let mail_from = mail_from.parse::<Address>().ok().map(Path::from);
        let (helo, receiver) = (Host::Domain("mail.a.example".parse().unwrap()), "host.example".parse().unwrap());
        let session = SpfSession {
            remote_ip: ip.parse().unwrap(),
            mail_from: mail_from.as_ref(),
            helo: &helo,
            receiver: &receiver,
            now: Timestamp::from_secs(0),
        };
        let outcome = ready(verify(&zone, &session));
        let field = received_spf(&outcome, &session, false).replace("\r\n", "\n");
        (outcome, field)
    }

    #[test]
    fn fields() {
        let (outcome, text) = field("x@a.example", "192.0.2.1", Zone::new().txt("a.example", "v=spf1 ip4:192.0.2.0/24 -all").signed());
        assert_eq!((outcome.result, outcome.authentic), (SpfResult::Pass, true));
        expect![[r#"
            Received-SPF: pass (domain a.example) client-ip=192.0.2.1;
            	envelope-from="x@a.example"; helo=mail.a.example;
            	mechanism="ip4:192.0.2.0/24"; receiver=host.example; identity=mailfrom
        "#]]
        .assert_eq(&text);
        let (outcome, text) = field("", "2001:db8::1", Zone::new().txt("mail.a.example", "v=spf1 include:b.example"));
        assert_eq!((outcome.result, outcome.authentic), (SpfResult::Permerror, false));
        expect![[r#"
            Received-SPF: permerror (domain mail.a.example, from ehlo because mailfrom
            	is empty) client-ip="2001:db8::1"; envelope-from=""; helo=mail.a.example;
            	problem="no spf record at included b.example"; receiver=host.example;
            	identity=helo
        "#]]
        .assert_eq(&text);
    }
}
