//! `mox dns lookup`: what the server's resolver finds, and whether DNSSEC vouches for it.

use crate::cli::{Command, Failure, Invocation, Outcome, print};
use mox_base::{Answer, Lookup, LookupError, Record, RecordKind};
use mox_mailauth::dane;
use mox_net::Resolver;
use mox_net::resolver::ResolverLimits;
use std::future::Future;
use std::net::IpAddr;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "dns lookup",
    params: &["[ptr | mx | cname | ips | a | aaaa | ns | txt | srv | tlsa] name"],
    listed: true,
    help: "Look up DNS records as the server does.\n\n\
        The answer is validated with DNSSEC, and the output says whether it is protected by it. Aliases are followed, except \
        for cname. For ptr, the name is an IP address; ips are the addresses of both families.\n\n\
        Where DNSSEC validation fails, or the resolver says why it has no answer, the reason is shown with its code of RFC 8914.",
    flags: &[],
    args: 2..=2,
    run: lookup,
}];

/// Runs something that asks DNS.
pub(super) fn with_resolver<T, F: Future<Output = Result<T, Failure>>>(ask: impl FnOnce(Resolver) -> F) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Failure::new("starting", e))?;
    runtime.block_on(async {
        let resolver = Resolver::system(ResolverLimits::default()).map_err(|e| Failure::new("setting up DNS", e))?;
        ask(resolver).await
    })
}

/// `with dnssec` or `without dnssec`.
pub(super) const fn dnssec(authentic: bool) -> &'static str {
    if authentic { "with dnssec" } else { "without dnssec" }
}

fn lookup(invocation: &Invocation) -> Outcome {
    let (kind, name) = (invocation.arg(0), invocation.arg(1));
    let kinds = [
        ("mx", RecordKind::Mx),
        ("cname", RecordKind::Cname),
        ("a", RecordKind::A),
        ("aaaa", RecordKind::Aaaa),
        ("ns", RecordKind::Ns),
        ("txt", RecordKind::Txt),
        ("srv", RecordKind::Srv),
        ("tlsa", RecordKind::Tlsa),
    ];
    let known = kinds.iter().find(|(word, _)| *word == kind).map(|(_, kind)| *kind);
    if known.is_none() && !matches!(kind, "ptr" | "ips") {
        return Err(Failure::Usage);
    }
    let text = with_resolver(|resolver| async move {
        let resolver: &dyn Lookup = &resolver;
        let answer = match (known, kind) {
            (Some(known), _) => resolver.query(name, known).await,
            (None, "ptr") => {
                let ip: IpAddr = name.parse().map_err(|e| Failure::new("parsing ip", e))?;
                resolver.ptr(ip).await.map(|a| of(a, Record::Ptr))
            }
            (None, _) => resolver.ips(name).await.map(|a| {
                of(a, |ip| match ip {
                    IpAddr::V4(ip) => Record::A(ip),
                    IpAddr::V6(ip) => Record::Aaaa(ip),
                })
            }),
        };
        answer.map(|answer| shown(kind, &answer)).map_err(|e| failed(kind, &e))
    })?;
    print(&text)
}

fn of<T>(answer: Answer<Vec<T>>, record: impl Fn(T) -> Record) -> Answer<Vec<Record>> {
    Answer { records: answer.records.into_iter().map(record).collect(), authentic: answer.authentic, ttl: answer.ttl }
}

fn failed(kind: &str, e: &LookupError) -> Failure {
    let note = match e {
        LookupError::NotFound { authentic } => format!(" ({})", dnssec(*authentic)),
        _ => String::new(),
    };
    Failure::Error(format!("dns {kind} lookup: {e}{note}"))
}

fn shown(kind: &str, answer: &Answer<Vec<Record>>) -> String {
    let items: Vec<String> = answer.records.iter().map(item).collect();
    match (kind, items.as_slice()) {
        ("cname", [only]) => format!("{only} ({})\n", dnssec(answer.authentic)),
        _ => {
            let lines: String = items.iter().map(|item| format!("- {item}\n")).collect();
            format!("{kind} records ({}, {}):\n{lines}", items.len(), dnssec(answer.authentic))
        }
    }
}

fn item(record: &Record) -> String {
    match record {
        Record::A(ip) => ip.to_string(),
        Record::Aaaa(ip) => ip.to_string(),
        Record::Cname(name) | Record::Ns(name) | Record::Ptr(name) => absolute(name),
        Record::Mx(mx) => format!("{}, preference {}", absolute(&mx.host), mx.preference),
        Record::Txt(text) => format!("{:?}", String::from_utf8_lossy(text)),
        Record::Srv(srv) => {
            format!("host {}, port {}, priority {}, weight {}", absolute(&srv.target), srv.port, srv.priority, srv.weight)
        }
        Record::Tlsa(tlsa) => {
            let named = |names: &[&str], n: u8| names.get(usize::from(n)).copied().unwrap_or("unknown").to_owned();
            format!(
                "usage {} ({}), selector {} ({}), matchtype {} ({}), data {}",
                named(USAGES, tlsa.usage),
                tlsa.usage,
                named(SELECTORS, tlsa.selector),
                tlsa.selector,
                named(MATCHINGS, tlsa.matching),
                tlsa.matching,
                dane::text(tlsa).rsplit(' ').next().unwrap_or_default()
            )
        }
    }
}

/// Names of the fields of TLSA records, RFC 7218 §2; the place is the number.
pub(super) const USAGES: &[&str] = &["pkix-ta", "pkix-ee", "dane-ta", "dane-ee"];
pub(super) const SELECTORS: &[&str] = &["cert", "spki"];
pub(super) const MATCHINGS: &[&str] = &["full", "sha2-256", "sha2-512"];

fn absolute(name: &str) -> String {
    format!("{name}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_base::{Mx, Srv, Tlsa};
    use std::time::Duration;

    #[test]
    fn as_printed() {
        let show = |kind: &str, records: Vec<Record>| shown(kind, &Answer { records, authentic: true, ttl: Duration::ZERO });
        let mx = |preference, host: &str| Record::Mx(Mx { preference, host: host.to_owned() });
        assert_eq!(
            show("mx", vec![mx(10, "mx.a.example"), mx(0, "")]),
            "mx records (2, with dnssec):\n- mx.a.example., preference 10\n- ., preference 0\n"
        );
        assert_eq!(show("cname", vec![Record::Cname("b.example".to_owned())]), "b.example. (with dnssec)\n");
        assert_eq!(show("txt", vec![Record::Txt(b"a\"b".to_vec())]), "txt records (1, with dnssec):\n- \"a\\\"b\"\n");
        let srv = Srv { priority: 1, weight: 2, port: 993, target: "imap.a.example".to_owned() };
        assert!(show("srv", vec![Record::Srv(srv)]).ends_with("- host imap.a.example., port 993, priority 1, weight 2\n"));
        let tlsa = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![0xab, 1] };
        assert!(
            show("tlsa", vec![Record::Tlsa(tlsa)]).ends_with("- usage dane-ee (3), selector spki (1), matchtype sha2-256 (1), data ab01\n")
        );
    }
}
