//! What domains and lists say of senders: `mox spf …`, `mox dmarc lookup`, `mox dmarc verify`, `mox dnsbl …`.

use super::dkim::{crlf, signatures};
use super::dns::{dnssec, with_resolver};
use crate::cli::{Command, Failure, Invocation, Outcome, print};
use crate::ports::{SystemClock, SystemRandom};
use mox_base::{Clock as _, Domain, Host, Lookup, Path, Random, Timestamp};
use mox_mailauth::dmarc::{self, Findings};
use mox_mailauth::dnsbl::{self, DnsblStatus};
use mox_mailauth::spf::{self, SpfOutcome, SpfRecord, SpfSession};
use mox_message::{Headers, envelope};
use std::io::Read as _;
use std::net::IpAddr;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "dmarc lookup",
        params: &["domain"],
        listed: true,
        help: "Look up the DMARC record that applies to mail from a domain: its own, or one of a domain above.",
        flags: &[],
        args: 1..=1,
        run: dmarc_lookup,
    },
    Command {
        words: "dmarc verify",
        params: &["remoteip mailfromaddress helodomain < message"],
        listed: true,
        help: "Check the message on standard input as if it had come from an address.\n\n\
            SPF is evaluated for mailfromaddress, or for helodomain if that is empty; if both are, it is left out. Then come the \
            message's DKIM signatures, and what DMARC makes of both for the domain in From.",
        flags: &[],
        args: 3..=3,
        run: dmarc_verify,
    },
    Command {
        words: "dnsbl check",
        params: &["zone ip"],
        listed: true,
        help: "Ask a DNS block list about an IP address, and print what it says.",
        flags: &[],
        args: 2..=2,
        run: dnsbl_check,
    },
    Command {
        words: "dnsbl checkhealth",
        params: &["zone"],
        listed: true,
        help: "Check whether a DNS block list works.\n\nOne that works lists 127.0.0.2, and doesn't list 127.0.0.1.",
        flags: &[],
        args: 1..=1,
        run: dnsbl_health,
    },
    Command {
        words: "spf check",
        params: &["domain ip"],
        listed: true,
        help: "Check with SPF whether an IP address may send mail for a domain.",
        flags: &[],
        args: 2..=2,
        run: spf_check,
    },
    Command {
        words: "spf lookup",
        params: &["domain"],
        listed: true,
        help: "Look up the SPF record of a domain and print it.",
        flags: &[],
        args: 1..=1,
        run: spf_lookup,
    },
    Command {
        words: "spf parse",
        params: &["txtrecord"],
        listed: true,
        help: "Check the syntax of an SPF record. Nothing is printed if it is right.",
        flags: &[],
        args: 1..=1,
        run: |invocation| SpfRecord::parse(invocation.arg(0).as_bytes()).map(|_| ()).map_err(|e| Failure::new("parsing spf record", e)),
    },
];

fn domain(text: &str) -> Result<Domain, Failure> {
    text.parse().map_err(|e| Failure::new("parsing domain", e))
}

fn ip(text: &str) -> Result<IpAddr, Failure> {
    text.parse().map_err(|e| Failure::new("parsing ip", e))
}

fn dmarc_lookup(invocation: &Invocation) -> Outcome {
    let domain = domain(invocation.arg(0))?;
    let text = with_resolver(|resolver| async move { dmarc_record(&resolver, &domain).await })?;
    print(&text)
}

async fn dmarc_record(lookup: &dyn Lookup, domain: &Domain) -> Result<String, Failure> {
    let found = dmarc::lookup(lookup, domain).await;
    let authentic = dnssec(found.authentic);
    match found.record {
        Ok((_, text)) => Ok(format!("dmarc record at domain {}: {text}\n({authentic})\n", found.domain)),
        Err(e) => Err(Failure::new(format!("dmarc lookup for {domain}"), format!("{e} ({authentic})"))),
    }
}

fn dmarc_verify(invocation: &Invocation) -> Outcome {
    let remote_ip = ip(invocation.arg(0))?;
    let mail_from = match invocation.arg(1) {
        "" => None,
        text => Some(text.parse::<mox_base::Address>().map(Path::from).map_err(|e| Failure::new("parsing mailfrom address", e))?),
    };
    let helo = match invocation.arg(2) {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_or_else(|_| domain(text).map(Host::Domain), |ip| Ok(Host::Ip(ip)))?),
    };
    let mut message = Vec::new();
    std::io::stdin().read_to_end(&mut message).map_err(|e| Failure::new("reading message", e))?;
    let message = crlf(message);
    let now = SystemClock::new().now();
    let envelope = (mail_from.is_some() || helo.is_some()).then(|| {
        let helo = helo.unwrap_or(Host::Ip(remote_ip));
        (mail_from, helo)
    });
    let text = with_resolver(|resolver| async move {
        verdict(&resolver, remote_ip, envelope.as_ref().map(|(from, helo)| (from.as_ref(), helo)), &message, now, &SystemRandom).await
    })?;
    print(&text)
}

async fn verdict(
    lookup: &dyn Lookup,
    remote_ip: IpAddr,
    sender: Option<(Option<&Path>, &Host)>,
    message: &[u8],
    now: Timestamp,
    random: &dyn Random,
) -> Result<String, Failure> {
    let mut text = String::new();
    let author = envelope::author(&Headers::new(message)).map_err(|e| Failure::new("from header", e))?;
    let spf = match sender {
        Some((mail_from, helo)) => {
            let session = SpfSession { remote_ip, mail_from, helo, receiver: &author.domain, now };
            Some(spf::verify(lookup, &session).await)
        }
        None => None,
    };
    match &spf {
        Some(spf) => {
            let domain = spf.domain.as_ref().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("spf result: {domain}: {} ({})\n", spf.result, dnssec(spf.authentic)));
        }
        None => text.push_str("spf result: skipped\n"),
    }
    let signatures = signatures(lookup, message, now).await?;
    if signatures.is_empty() {
        text.push_str("dkim result: none\n");
    }
    for (outcome, _) in &signatures {
        let domain = outcome.signature.as_ref().map(|s| s.domain.to_string()).unwrap_or_default();
        let problem = outcome.problem.as_ref().map(|problem| format!(", {problem}")).unwrap_or_default();
        text.push_str(&format!("dkim result: {domain}: {} ({}){problem}\n", outcome.status, dnssec(outcome.authentic)));
    }
    let dkim: Vec<_> = signatures.into_iter().map(|(outcome, _)| outcome).collect();
    let outcome = dmarc::verify(lookup, &Findings { from: &author.domain, spf: spf.as_ref(), dkim: &dkim }, random).await;
    let problem = outcome.problem.as_ref().map(|problem| format!(", {problem}")).unwrap_or_default();
    let record = outcome.record.as_ref().map(|record| format!("dmarc record at domain {}: {record}\n", outcome.domain)).unwrap_or_default();
    let (status, disposition) = (outcome.result, outcome.disposition());
    text.push_str(&format!("dmarc from: {}\n{record}dmarc status: {status} ({}){problem}\n", author.domain, dnssec(outcome.authentic)));
    text.push_str(&format!("dmarc reject: {}\n", if disposition == dmarc::Policy::Reject { "yes" } else { "no" }));
    if disposition == dmarc::Policy::Quarantine {
        text.push_str("dmarc quarantine: yes\n");
    }
    Ok(text)
}

fn dnsbl_check(invocation: &Invocation) -> Outcome {
    let (zone, ip) = (domain(invocation.arg(0))?, ip(invocation.arg(1))?);
    let status = with_resolver(|resolver| async move { Ok(dnsbl::check(&resolver, &zone, ip).await) })?;
    print(&listing(&status))
}

fn listing(status: &DnsblStatus) -> String {
    let more = match status {
        DnsblStatus::Pass => String::new(),
        DnsblStatus::Fail(explanation) => format!("explanation: {explanation:?}\n"),
        DnsblStatus::Temperror(error) => format!("error: {error}\n"),
    };
    format!("{status}\n{more}")
}

fn dnsbl_health(invocation: &Invocation) -> Outcome {
    let zone = domain(invocation.arg(0))?;
    with_resolver(|resolver| async move { dnsbl::check_health(&resolver, &zone).await.map_err(|e| Failure::new("unhealthy", e)) })?;
    print("healthy\n")
}

fn spf_check(invocation: &Invocation) -> Outcome {
    let (domain, ip) = (domain(invocation.arg(0))?, ip(invocation.arg(1))?);
    let now = SystemClock::new().now();
    let text = with_resolver(|resolver| async move { Ok(checked(&resolver, &domain, ip, now).await) })?;
    print(&text)
}

async fn checked(lookup: &dyn Lookup, domain: &Domain, ip: IpAddr, now: Timestamp) -> String {
    let (helo, postmaster) = (Host::Domain(domain.clone()), format!("postmaster@{}", domain.ascii()).parse::<mox_base::Address>());
    let mail_from = postmaster.ok().map(Path::from);
    let session = SpfSession { remote_ip: ip, mail_from: mail_from.as_ref(), helo: &helo, receiver: domain, now };
    let SpfOutcome { result, mechanism, problem, explanation, authentic, .. } = spf::verify(lookup, &session).await;
    let line = |name: &str, value: Option<String>| value.map(|value| format!("{name}: {value}\n")).unwrap_or_default();
    format!(
        "{}{}status: {result} ({})\n{}",
        line("error", problem),
        line("explanation", explanation),
        dnssec(authentic),
        line("mechanism", mechanism)
    )
}

fn spf_lookup(invocation: &Invocation) -> Outcome {
    let domain = domain(invocation.arg(0))?;
    let text = with_resolver(|resolver| async move { spf_record(&resolver, &domain).await })?;
    print(&text)
}

async fn spf_record(lookup: &dyn Lookup, domain: &Domain) -> Result<String, Failure> {
    let failed = |e: String| Failure::new(format!("spf lookup for {domain}"), e);
    let answer = lookup.txt(domain.ascii()).await.map_err(|e| failed(e.to_string()))?;
    let meant: Vec<&Vec<u8>> = answer.records.iter().filter(|text| SpfRecord::is_meant(text)).collect();
    match meant.as_slice() {
        [] => Err(failed(format!("no spf record ({})", dnssec(answer.authentic)))),
        [text] => {
            SpfRecord::parse(text).map_err(|e| failed(e.to_string()))?;
            Ok(format!("{}\n({})\n", String::from_utf8_lossy(text), dnssec(answer.authentic)))
        }
        _ => Err(failed("several spf records".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::{SeededRandom, Zone};

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn zone() -> Zone {
        Zone::new()
            .txt("x.example", "v=spf1 ip4:192.0.2.1 exp=why.x.example -all")
            .txt("why.x.example", "%{i} is not ours")
            .txt("_dmarc.x.example", "v=DMARC1;p=reject;sp=quarantine")
            .txt("two.example", "v=spf1 -all")
            .txt("two.example", "v=spf1 +all")
            .txt("broken.example", "v=spf1 nonsense")
            .signed()
            .insecure("two.example")
    }

    #[tokio::test]
    async fn spf() {
        let domain = |name: &str| name.parse::<Domain>().unwrap();
        let check = async |name: &str, ip: &str| checked(&zone(), &domain(name), ip.parse().unwrap(), NOW).await;
        assert_eq!(check("x.example", "192.0.2.1").await, "status: pass (with dnssec)\nmechanism: ip4:192.0.2.1\n");
        assert_eq!(
            check("x.example", "192.0.2.2").await,
            "explanation: 192.0.2.2 is not ours\nstatus: fail (with dnssec)\nmechanism: -all\n"
        );
        assert!(check("broken.example", "192.0.2.2").await.starts_with("error: bad spf record at broken.example: "));
        let record = async |name: &str| spf_record(&zone(), &domain(name)).await.ok();
        assert_eq!(record("x.example").await.unwrap(), "v=spf1 ip4:192.0.2.1 exp=why.x.example -all\n(with dnssec)\n");
        for name in ["two.example", "broken.example", "none.example", "why.x.example"] {
            assert!(record(name).await.is_none(), "{name}");
        }
    }

    #[tokio::test]
    async fn dmarc() {
        let from: Domain = "a.x.example".parse().unwrap();
        assert_eq!(
            dmarc_record(&zone(), &from).await.unwrap(),
            "dmarc record at domain x.example: v=DMARC1;p=reject;sp=quarantine\n(with dnssec)\n"
        );
        assert!(dmarc_record(&zone(), &"y.example".parse().unwrap()).await.is_err());
        let check = async |sender: Option<(&str, &str)>, message: &str| {
            let sender = sender.map(|(from, helo)| {
                let from = (!from.is_empty()).then(|| Path::from(from.parse::<mox_base::Address>().unwrap()));
                (from, Host::Domain(helo.parse().unwrap()))
            });
            let sender = sender.as_ref().map(|(from, helo)| (from.as_ref(), helo));
            verdict(&zone(), "192.0.2.1".parse().unwrap(), sender, message.as_bytes(), NOW, &SeededRandom::default()).await
        };
        assert_eq!(
            check(Some(("bob@x.example", "mx.example")), "From: bob@x.example\r\n\r\n").await.unwrap(),
            "spf result: x.example: pass (with dnssec)\ndkim result: none\ndmarc from: x.example\n\
             dmarc record at domain x.example: v=DMARC1;p=reject;sp=quarantine\ndmarc status: pass (with dnssec)\ndmarc reject: no\n"
        );
        let refused = check(None, "From: bob@x.example\r\n\r\n").await.unwrap();
        assert!(refused.starts_with("spf result: skipped\n") && refused.ends_with("dmarc reject: yes\n"), "{refused}");
        let suspicious = check(None, "From: bob@a.x.example\r\n\r\n").await.unwrap();
        assert!(suspicious.ends_with("dmarc reject: no\ndmarc quarantine: yes\n"), "{suspicious}");
        assert!(check(None, "Subject: nobody\r\n\r\n").await.is_err());
    }

    #[test]
    fn block_lists() {
        assert_eq!(listing(&DnsblStatus::Pass), "pass\n");
        assert_eq!(listing(&DnsblStatus::Fail("a \"b\"".to_owned())), "fail\nexplanation: \"a \\\"b\\\"\"\n");
        assert_eq!(listing(&DnsblStatus::Temperror("timeout".to_owned())), "temperror\nerror: timeout\n");
    }
}
