//! DMARC reports, from mail that came in to reports that arrive. RFC 7489 §7.2, RFC 9990.

use super::reports::reporter;
use super::*;
use crate::dmarc::{DmarcReportSender, DmarcSenderMetrics, Evaluations};
use crate::inbound::{Authentication, ByPolicy, Inbound, Incoming, RcptTo, ReceivedReports, ReportMetrics};
use mox_base::{Clock as _, Host};
use mox_mailauth::dkim::{DkimOutcome, DkimStatus, KeyRecord, Signature};
use mox_mailauth::dmarc::report::{self, Disposition, Feedback};
use mox_mailauth::dmarc::{DmarcOutcome, DmarcRecord, DmarcResult, Policy, timed_out};
use mox_mailauth::tlsrpt::{self, FailureDetail, PolicyKind, PolicyResult, ResultType};
use mox_store::directory::ReportAddress;
use mox_store::reports::{ReportFilter, SuppressedAddress};

const RECORD: &str = "v=DMARC1;p=reject;rua=mailto:dmarc@c.example!10m,mailto:d@b.example;ri=3600";

fn world() -> Zone {
    zone().txt("_dmarc.b.example", RECORD).txt("b.example._report._dmarc.c.example", "v=DMARC1")
}

struct Reporting {
    f: Fixture,
    peer: Peer,
    evaluations: Arc<Evaluations>,
    sender: DmarcReportSender,
}

impl Reporting {
    async fn new(zone: Zone) -> Self {
        let lookup = Arc::new(zone.clone());
        let f = Fixture::with(zone, |_| {}, Routing::default()).await;
        let evaluations = Arc::new(Evaluations::new(f.dmarc.clone(), Arc::new(f.clock.clone()), true));
        let sender = DmarcReportSender::new(Arc::clone(&evaluations), reporter(&f), lookup, DmarcSenderMetrics::default());
        let peer = f.peer();
        Self { f, peer, evaluations, sender }
    }

    /// A message that claims to be from `b.example` comes in, and DMARC says this of it; whether it is accepted.
    async fn comes_in(&self, result: DmarcResult, to: &[&str]) -> Vec<bool> {
        let from = "bob@b.example".parse::<Address>().unwrap();
        let policy = if result == DmarcResult::Fail { Policy::Reject } else { Policy::None };
        let record = Some(DmarcRecord::parse(RECORD).unwrap());
        let dmarc =
            DmarcOutcome { result, policy, apply: true, record, spf_aligned: result == DmarcResult::Pass, ..timed_out(&from.domain) };
        let authentication = Authentication { dmarc: Some(dmarc), ..Authentication::default() };
        let incoming = incoming(&self.f, Arc::new(directory()), &from, authentication, format!("{HEADER}\r\n{BODY}").into_bytes());
        let inbound = Inbound::new(self.f.store.clone(), Arc::new(ByPolicy::new(self.f.store.clone())))
            .with_evaluations(Arc::clone(&self.evaluations));
        deliver(&inbound, &incoming, to).await
    }

    /// The reports that arrived, with their recipients.
    fn arrived(&self) -> Vec<(Vec<String>, Feedback, String)> {
        let messages = self.peer.messages().into_iter();
        messages.filter_map(|(to, text)| report::read(text.as_bytes()).ok().map(|report| (to, report, text))).collect()
    }

    async fn left(&self) -> usize {
        self.f.dmarc.evaluations("b.example", self.f.clock.now().after(HOUR), 0, 100).await.unwrap().len()
    }
}

fn incoming(f: &Fixture, directory: Arc<Directory>, from: &Address, authentication: Authentication, message: Vec<u8>) -> Incoming {
    Incoming {
        directory,
        mail_from: Some(Path::from(from.clone())),
        ehlo: Host::Domain("mx.b.example".parse().unwrap()),
        remote_ip: "192.0.2.1".parse().unwrap(),
        received: f.clock.now(),
        smtputf8: false,
        requiretls: false,
        tls: None,
        msg_from: Some(from.clone()),
        verified_domains: vec![],
        blocklists: Arc::default(),
        authentication,
        trace: Vec::new(),
        header: message.as_slice().into(),
        structure: None,
        read: None,
        message: Spool::from(message),
        patience: crate::inbound::Patience::default(),
    }
}

async fn deliver(inbound: &Inbound, incoming: &Incoming, to: &[&str]) -> Vec<bool> {
    let path = |to: &&str| Path::from(to.parse::<Address>().unwrap());
    let rcpts: Vec<RcptTo> = to.iter().map(|to| RcptTo { found: incoming.directory.recipient(&path(to)), path: path(to) }).collect();
    inbound.deliver(incoming, &rcpts).await.iter().map(Result::is_ok).collect()
}

#[tokio::test(start_paused = true)]
async fn told_once_when_the_interval_is_over() {
    let r = Reporting::new(world()).await;
    assert_eq!(r.comes_in(DmarcResult::Pass, &["ann@a.example", "hooked@a.example"]).await, [true, true]);
    assert_eq!(r.comes_in(DmarcResult::Pass, &["ann@a.example"]).await, [true]);
    assert_eq!(r.comes_in(DmarcResult::Fail, &["ann@a.example"]).await, [false]);
    assert_eq!(r.sender.send_due(false).await.unwrap(), 0, "the hour isn't over");
    assert_eq!(r.left().await, 2);
    r.f.clock.advance(HOUR);
    assert_eq!(r.sender.send_due(false).await.unwrap(), 1);
    assert_eq!(r.sender.send_due(false).await.unwrap(), 0, "sent already");
    assert_eq!(r.left().await, 0);
    r.f.run().await;
    let arrived = r.arrived();
    let (to, report, text): (Vec<_>, _, _) = (arrived.iter().flat_map(|a| a.0.clone()).collect(), &arrived[0].1, &arrived[0].2);
    assert_eq!(to.len(), 2, "{to:?}");
    assert!(to.contains(&"dmarc@c.example".to_owned()) && to.contains(&"d@b.example".to_owned()), "{to:?}");
    assert_eq!((report.metadata.organization.as_str(), report.metadata.email.as_str()), ("mail.a.example", "postmaster@mail.a.example"));
    assert_eq!(report.metadata.end.secs() - report.metadata.begin.secs(), 3599);
    assert_eq!((report.metadata.end.secs() + 1) % 3600, 0);
    assert_eq!((report.published.domain.as_str(), report.published.policy), ("b.example", Policy::Reject));
    let mut rows: Vec<_> = report.rows.iter().map(|row| (row.count, row.disposition, row.spf_aligned)).collect();
    rows.sort();
    // A message to two of one domain is one message.
    assert_eq!(rows, [(1, Disposition::Reject, false), (2, Disposition::None, true)]);
    assert_eq!((report.rows[0].header_from.as_str(), report.rows[0].envelope_to.as_str()), ("b.example", "a.example"));
    assert!(text.starts_with("DKIM-Signature: ") && text.contains("d=a.example;"), "{text}");
    let (begin, end) = (report.metadata.begin.secs(), report.metadata.end.secs());
    assert!(text.contains(&format!("mail.a.example!b.example!{begin}!{end}.xml.gz")), "{text}");
    let subject = format!("Subject: Report Domain: b.example Submitter: mail.a.example Report-ID: <{}>", report.metadata.id);
    assert!(text.replace("\r\n ", " ").contains(&subject), "{text}");
    let entries = r.f.retired().await;
    assert!(entries.iter().all(|e| e.row.report == mox_store::queue::ReportKind::Dmarc));
}

#[tokio::test(start_paused = true)]
async fn who_gets_none() {
    for (what, zone, queued, left) in [
        ("all want it", world(), 1, 0),
        ("no record any more", zone(), 0, 0),
        ("the record can't be looked up", zone().temporary("_dmarc.b.example", None), 0, 1),
        ("nobody is named any more", zone().txt("_dmarc.b.example", "v=DMARC1;p=reject"), 0, 0),
        ("only somebody else, who doesn't take it", zone().txt("_dmarc.b.example", "v=DMARC1;p=reject;rua=mailto:x@c.example"), 0, 0),
        (
            "somebody else, of whom nothing is known now",
            zone()
                .txt("_dmarc.b.example", "v=DMARC1;p=reject;rua=mailto:x@c.example")
                .temporary("b.example._report._dmarc.c.example", None),
            0,
            1,
        ),
        ("one of two takes it", zone().txt("_dmarc.b.example", RECORD), 1, 0),
        ("by another way", zone().txt("_dmarc.b.example", "v=DMARC1;p=reject;rua=https://b.example/"), 0, 0),
    ] {
        let r = Reporting::new(zone).await;
        r.comes_in(DmarcResult::Pass, &["ann@a.example"]).await;
        r.f.clock.advance(HOUR);
        assert_eq!(r.sender.send_due(false).await.unwrap(), queued, "{what}");
        assert_eq!(r.left().await, left, "{what}");
        if what == "one of two takes it" {
            r.f.run().await;
            let errors = &r.arrived()[0].1.metadata.errors;
            assert_eq!(errors, &["mailto:dmarc@c.example: c.example does not accept reports about the domain: no dmarc record"]);
        }
        r.f.clock.advance(49 * HOUR);
        assert_eq!(r.sender.send_due(false).await.unwrap(), 0, "{what}");
        assert_eq!(r.left().await, 0, "{what}: too old");
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_only_small_ones_hears_of_the_size() {
    let r = Reporting::new(zone().txt("_dmarc.b.example", "v=DMARC1;p=reject;rua=mailto:d@b.example!10")).await;
    r.comes_in(DmarcResult::Pass, &["ann@a.example"]).await;
    r.f.clock.advance(HOUR);
    assert_eq!(r.sender.send_due(false).await.unwrap(), 1);
    r.f.run().await;
    let (to, text) = r.peer.messages().remove(0);
    assert_eq!(to, ["d@b.example"]);
    assert!(text.contains("\r\nReport-Domain: b.example\r\n") && text.contains("\r\nSubmitting-URI: mailto:d@b.example!10\r\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn dead_addresses_are_left_alone() {
    let r = Reporting::new(world()).await;
    r.comes_in(DmarcResult::Pass, &["ann@a.example"]).await;
    r.f.clock.advance(HOUR);
    assert_eq!(r.sender.send_due(false).await.unwrap(), 1);
    r.peer.rcpt("c.example", "550 5.1.1 no such user");
    r.f.run().await;
    assert_eq!(r.f.metrics.dmarc_report_failure.get(), 1);
    assert!(r.f.dsns("root", "Inbox").await.is_empty() && r.f.dsns("root", "Postmaster").await.is_empty(), "nobody hears of it");
    let dead = r.f.dmarc.suppressions().list(r.f.clock.now(), "", 10).await.unwrap();
    assert_eq!(dead.iter().map(|s| s.address.as_str()).collect::<Vec<_>>(), ["dmarc@c.example"]);
    // The other address still gets its own; without it nobody does.
    for (suppress, want) in [(false, 1), (true, 0)] {
        if suppress {
            let address = "d@b.example".to_owned();
            let now = r.f.clock.now();
            let until = now.after(100 * HOUR);
            r.f.dmarc.suppressions().add(SuppressedAddress { address, inserted: now, until, comment: String::new() }).await.unwrap();
        }
        r.comes_in(DmarcResult::Pass, &["ann@a.example"]).await;
        r.f.clock.advance(HOUR);
        assert_eq!(r.sender.send_due(false).await.unwrap(), want);
        r.f.run().await;
    }
    assert!(r.peer.messages().iter().skip(1).all(|(to, _)| to == &["d@b.example"]));
    // Failing reports are no reason not to send other mail there.
    let path = Path::from("dmarc@c.example".parse::<Address>().unwrap());
    assert!(r.f.queue.suppression(Some("root".to_owned()), path).await.unwrap().is_none());
}

/// The other server: `b.example` is its domain.
fn other_directory() -> Directory {
    let to = MailboxOf { account: "ann".to_owned(), mailbox: "Reports".to_owned() };
    let address =
        |localpart: &str| ReportAddress { localpart: localpart.parse().unwrap(), domain: "b.example".parse().unwrap(), to: to.clone() };
    Directory::new(DirectorySettings {
        hostname: "mx.b.example".parse().unwrap(),
        listener_hostnames: vec![],
        postmaster: MailboxOf { account: "ann".to_owned(), mailbox: "Inbox".to_owned() },
        host_tls_reports: None,
        domains: vec![DomainSettings {
            dmarc_reports: Some(address("d")),
            tls_reports: Some(address("t")),
            ..DomainSettings::new("b.example".parse().unwrap())
        }],
        accounts: vec![(AccountSettings::new("ann"), vec![])],
        everything: None,
    })
    .unwrap()
}

fn signature(of: &str, services: &[&str], length: Option<u64>) -> DkimOutcome {
    let signature = Signature {
        algorithm: "rsa-sha256".to_owned(),
        signature: vec![1],
        body_hash: vec![1],
        canonicalization: None,
        domain: of.parse().unwrap(),
        selector: "s".parse().unwrap(),
        identity: None,
        headers: vec!["From".to_owned()],
        length,
        query_methods: vec![],
        signed_at: None,
        expires: None,
    };
    let key = KeyRecord {
        hashes: vec![],
        key_type: "rsa".to_owned(),
        notes: String::new(),
        key: vec![1],
        services: services.iter().map(|s| (*s).to_owned()).collect(),
        flags: vec![],
    };
    DkimOutcome {
        status: DkimStatus::Pass,
        signature: Some(signature),
        record: Some((key, String::new())),
        authentic: false,
        problem: None,
    }
}

/// A report of ours at a server of ours: kept once, read, counted, and no reason for another.
#[tokio::test(start_paused = true)]
async fn reports_that_arrive_are_kept() {
    let r = Reporting::new(world()).await;
    r.comes_in(DmarcResult::Pass, &["ann@a.example"]).await;
    r.f.clock.advance(HOUR);
    r.sender.send_due(false).await.unwrap();
    r.f.run().await;
    let (_, report, text) = r.arrived().remove(0);

    let f = &r.f;
    let metrics = ReportMetrics::default();
    let received = ReceivedReports::new(f.dmarc.clone(), f.policies.store().clone(), Arc::new(f.clock.clone()), metrics.clone());
    let theirs = Arc::new(Evaluations::new(f.dmarc.clone(), Arc::new(f.clock.clone()), true));
    let inbound = Inbound::new(f.store.clone(), Arc::new(ByPolicy::new(f.store.clone())))
        .with_reports(received)
        .with_evaluations(Arc::clone(&theirs));
    let from: Address = "postmaster@mail.a.example".parse().unwrap();
    let dmarc = |result| {
        let record = Some(DmarcRecord::parse("v=DMARC1;p=none;rua=mailto:x@a.example;ri=3600").unwrap());
        DmarcOutcome { result, record, domain: "a.example".parse().unwrap(), ..timed_out(&from.domain) }
    };
    let other = Arc::new(other_directory());
    let arrives = |result, text: String| {
        let authentication = Authentication { dmarc: Some(dmarc(result)), ..Authentication::default() };
        let incoming = incoming(f, Arc::clone(&other), &from, authentication, text.into_bytes());
        let inbound = &inbound;
        async move { deliver(inbound, &incoming, &["d@b.example"]).await }
    };
    // Twice, as when a connection broke.
    for _ in 0..2 {
        assert_eq!(arrives(DmarcResult::Pass, text.clone()).await, [true]);
    }
    let listed = f.dmarc.reports(ReportFilter::default()).await.unwrap();
    let [kept] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((kept.report.domain.as_str(), kept.report.from_domain.as_str()), ("b.example", "mail.a.example"));
    assert_eq!((kept.report.counts.total, kept.report.counts.dkim_fail), (1, 1));
    let whole = f.dmarc.report(kept.id).await.unwrap().unwrap();
    assert_eq!(Feedback::from_gzip(&whole.report.report).unwrap(), report);
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
    let line = "mox_dmarcdb_policy_evaluated_total{domain=\"b.example\",disposition=\"none\",dkim=\"fail\",spf=\"pass\"} 1\n";
    assert!(shown.contains(line), "{shown}");

    // A report that nobody stands for is refused, for now if it may still be somebody's.
    for result in [DmarcResult::Fail, DmarcResult::None, DmarcResult::Permerror, DmarcResult::Temperror] {
        let forged = text.replace("Subject: Report", "Subject: Forged");
        assert_eq!(arrives(result, forged).await, [false], "{result}");
    }
    // What isn't verified and no report, isn't one, or is about others is mail as any other.
    arrives(DmarcResult::Fail, "From: <postmaster@mail.a.example>\r\n\r\nhello\r\n".to_owned()).await;
    arrives(DmarcResult::Pass, "From: <postmaster@mail.a.example>\r\n\r\nhello\r\n".to_owned()).await;
    let mut about_others = report.clone();
    about_others.published.domain = "elsewhere.example".to_owned();
    arrives(DmarcResult::Pass, format!("Content-Type: text/xml\r\n\r\n{}", about_others.to_xml())).await;
    let mut of_tomorrow = report.clone();
    of_tomorrow.metadata.end = f.clock.now().after(24 * HOUR);
    arrives(DmarcResult::Pass, format!("Content-Type: text/xml\r\n\r\n{}", of_tomorrow.to_xml())).await;
    assert_eq!(f.dmarc.reports(ReportFilter::default()).await.unwrap().len(), 1);
    let filed = f.dsns("ann", "Reports").await;
    let fields: Vec<&str> = filed.iter().map(|m| m.lines().next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "X-Mox-Reason: reporting;",
            "X-Mox-Reason: reporting;",
            "X-Mox-DMARCReport-Error: no dmarc pass",
            "X-Mox-DMARCReport-Error: no dmarc report in message",
            "X-Mox-DMARCReport-Error: unknown domain in report",
            "X-Mox-DMARCReport-Error: report is about the future",
        ]
    );
    let account = f.store.account("ann").await.unwrap();
    assert_eq!(account.mailboxes().by_name("Reports").unwrap().counts.unseen, 4, "a report that was read is seen");

    // A loop: all these messages were evaluated, too, but are no reason for a report.
    theirs.flush().await.unwrap();
    let domains = f.dmarc.evaluated_domains("", 10).await.unwrap();
    assert_eq!(domains.iter().map(|d| (d.domain.as_str(), d.send_report)).collect::<Vec<_>>(), [("a.example", false)]);
    f.clock.advance(HOUR);
    assert_eq!(r.sender.send_due(false).await.unwrap(), 0);
    assert!(f.dmarc.evaluated_domains("", 10).await.unwrap().is_empty());

    // However many are forged, they take nothing from whose name they bear.
    let forged = text.replace("Subject: Report", "Subject: Forged");
    let mut refused = 0;
    while arrives(DmarcResult::Fail, forged.clone()).await == [false] {
        refused += 1;
    }
    assert_eq!(refused, 1000, "then they aren't read any more");
    let mut next = report.clone();
    next.metadata.id = "next".to_owned();
    arrives(DmarcResult::Pass, format!("Content-Type: text/xml\r\n\r\n{}", next.to_xml())).await;
    assert_eq!(f.dmarc.reports(ReportFilter::default()).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn tls_reports_that_arrive_are_kept() {
    let f = Fixture::new().await;
    let received = ReceivedReports::new(f.dmarc.clone(), f.policies.store().clone(), Arc::new(f.clock.clone()), ReportMetrics::default());
    let inbound = Inbound::new(f.store.clone(), Arc::new(ByPolicy::new(f.store.clone()))).with_reports(received);
    let mut ours = PolicyResult { success: 2, failure: 1, ..PolicyResult::new(PolicyKind::Sts, "b.example") };
    ours.add(FailureDetail::new(ResultType::CertificateExpired, "", 1));
    let mut theirs = PolicyResult::new(PolicyKind::Sts, "elsewhere.example");
    theirs.success = 100;
    let of = |policies: &[PolicyResult]| {
        let report = tlsrpt::Report {
            organization: "a.example".to_owned(),
            begin: f.clock.now().before(24 * HOUR),
            end: f.clock.now(),
            contact: "c".to_owned(),
            id: "1".to_owned(),
            policies: policies.to_vec(),
        };
        format!("Content-Type: application/tlsrpt+json\r\n\r\n{}", String::from_utf8(report.to_json().unwrap()).unwrap())
    };
    let other = Arc::new(other_directory());
    let from: Address = "postmaster@mail.a.example".parse().unwrap();
    let good = || signature("a.example", &["email", "tlsrpt"], None);
    let of_ours = of(&[ours.clone(), theirs.clone()]);
    for (dkim, text) in [
        (vec![good()], &of_ours),
        (vec![signature("other.example", &[], None), signature("a.example", &["*"], None)], &of_ours),
        (vec![], &of_ours),
        (vec![signature("other.example", &[], None)], &of_ours),
        (vec![signature("deeper.mail.a.example", &[], None)], &of_ours),
        (vec![signature("a.example", &[], Some(100))], &of_ours),
        (vec![signature("a.example", &["email"], None)], &of_ours),
        (vec![DkimOutcome { status: DkimStatus::Fail, ..good() }], &of_ours),
        (vec![good()], &of(&[theirs])),
        (vec![good()], &"Subject: hi\r\n\r\nhello\r\n".to_owned()),
    ] {
        let authentication = Authentication { dkim, ..Authentication::default() };
        let incoming = incoming(&f, Arc::clone(&other), &from, authentication, text.clone().into_bytes());
        assert_eq!(deliver(&inbound, &incoming, &["t@b.example"]).await, [true]);
    }
    let no_signature = "X-Mox-TLSReport-Error: no acceptable dkim signature";
    let filed = f.dsns("ann", "Reports").await;
    let fields: Vec<&str> = filed.iter().map(|m| m.lines().next().unwrap()).collect();
    assert_eq!(fields[..2], ["X-Mox-Reason: reporting;"; 2]);
    assert_eq!(fields[2..8], [no_signature; 6]);
    assert_eq!(fields[8..], ["X-Mox-TLSReport-Error: unknown domains in report", "X-Mox-TLSReport-Error: no tls report in message"]);
    let kept = f.policies.store().reports(ReportFilter::default()).await.unwrap();
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((kept.report.domain.as_str(), kept.report.success, kept.report.failure), ("b.example", 2, 1));
    assert_eq!(tlsrpt::Report::from_json(kept.report.report.as_bytes()).unwrap().policies, [ours], "nothing of others is kept");
}
