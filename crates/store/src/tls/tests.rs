use super::*;
use crate::reports::ReportFilter;
use crate::testing::{self, on_both};
use mox_base::Timestamp;
use std::time::Duration;
use tempfile::TempDir;

struct Fixture {
    tls: TlsStore,
    _store: Store,
    _folder: TempDir,
}

impl testing::Fixture for Fixture {
    async fn on(folder: TempDir, postgres: Option<String>) -> Self {
        let (store, _) = testing::store(&folder, postgres).await;
        let tls = TlsStore::open(&store).await.unwrap();
        Self { tls, _store: store, _folder: folder }
    }
}

on_both!(policies, results, reports_and_seen, ticket_keys);

fn at(hours: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000).after(Duration::from_secs(hours * 3600))
}

fn kept(domain: &str, updated: u64, text: &str) -> KeptPolicy {
    KeptPolicy {
        domain: domain.to_owned(),
        inserted: at(0),
        valid_end: at(100),
        updated: at(updated),
        used: at(updated),
        backoff: false,
        record_id: "1".to_owned(),
        policy: text.to_owned(),
    }
}

async fn policies(f: Fixture) {
    let tls = &f.tls;
    assert_eq!(tls.policy("a.example", at(0)).await.unwrap(), None);
    tls.keep_policy(kept("a.example", 1, "one"), None).await.unwrap();
    assert_eq!(tls.policy("a.example", at(99)).await.unwrap(), Some(kept("a.example", 1, "one")));
    assert_eq!(tls.policy("a.example", at(100)).await.unwrap(), None, "no longer valid");
    // Who saw an older one doesn't overwrite a newer one.
    tls.keep_policy(kept("a.example", 5, "two"), Some(at(1))).await.unwrap();
    tls.keep_policy(kept("a.example", 3, "late"), Some(at(1))).await.unwrap();
    assert_eq!(tls.policy("a.example", at(1)).await.unwrap().unwrap().policy, "two");
    tls.remove_policy("a.example", at(1)).await.unwrap();
    assert!(tls.policy("a.example", at(1)).await.unwrap().is_some());

    tls.keep_policy(kept("b.example", 2, "b"), None).await.unwrap();
    let domains = |policies: Vec<KeptPolicy>| policies.into_iter().map(|p| p.domain).collect::<Vec<_>>();
    assert_eq!(domains(tls.policies_to_refresh(at(10), at(3)).await.unwrap()), ["b.example"]);
    tls.policy_used("a.example", at(24 * 190)).await.unwrap();
    assert_eq!(domains(tls.policies_to_refresh(at(24 * 200), at(24 * 200)).await.unwrap()), ["a.example"]);
    assert_eq!(domains(tls.policies().await.unwrap()), ["a.example"], "not used for half a year");
    tls.remove_policy("a.example", at(5)).await.unwrap();
    assert!(tls.policies().await.unwrap().is_empty());
}

async fn results(f: Fixture) {
    let tls = &f.tls;
    let key = |policy: &str, day| ResultKey { policy_domain: policy.to_owned(), day, recipient_domain: "r.example".to_owned() };
    let add = |more: &'static str| move |there: &str| format!("{there}{more}");
    tls.add_results(key("r.example", 20_240_101), (false, true), at(0), add("x")).await.unwrap();
    tls.add_results(key("r.example", 20_240_101), (false, false), at(1), add("y")).await.unwrap();
    tls.add_results(key("mx.example", 20_240_101), (true, false), at(1), add("z")).await.unwrap();
    tls.add_results(key("r.example", 20_240_102), (false, false), at(1), add("w")).await.unwrap();
    let day = tls.results(20_240_101).await.unwrap();
    let show = |r: &DayResults| format!("{} {} {} {}", r.key.policy_domain, r.is_host, r.send_report, r.results);
    assert_eq!(day.iter().map(show).collect::<Vec<_>>(), ["mx.example true false z", "r.example false true xy"]);

    assert!(tls.mark_sent(vec![key("r.example", 20_240_101)], true).await.unwrap());
    assert!(!tls.mark_sent(vec![key("r.example", 20_240_101)], true).await.unwrap(), "sent once");
    assert!(tls.mark_sent(vec![key("r.example", 20_240_101)], false).await.unwrap());
    tls.remove_results(vec![key("mx.example", 20_240_101)]).await.unwrap();
    assert_eq!(tls.results(20_240_101).await.unwrap().len(), 1);
    assert_eq!(tls.remove_results_before(20_240_102).await.unwrap(), 1);
    assert_eq!(tls.results(20_240_102).await.unwrap().len(), 1);

    tls.add_results(key("a.example", 20_240_102), (false, false), at(1), add("v")).await.unwrap();
    let shown = |found: Vec<DayResults>| found.into_iter().map(|r| r.results).collect::<Vec<_>>().join(" ");
    assert_eq!(shown(tls.list_results(None, 10).await.unwrap()), "v w");
    assert_eq!(shown(tls.list_results(Some(key("a.example", 20_240_102)), 10).await.unwrap()), "w");
    assert_eq!(shown(tls.list_results(None, 1).await.unwrap()), "v");
}

async fn ticket_keys(f: Fixture) {
    let day = |n: u64| at(24 * n);
    let keys = async |n: u64| f.tls.ticket_keys(day(n)).await.unwrap();
    let first = keys(0).await;
    assert_eq!(first.len(), 1);
    assert!(keys(0).await == first, "one for each day");
    for n in 1..=7 {
        let now = keys(n).await;
        assert_eq!(now.len() as u64, n + 1, "those of seven days before still count");
        assert!(now.last() == first.last() && now.first() != first.first());
    }
    let eighth = keys(8).await;
    assert!(eighth.len() == 8 && !eighth.contains(&first[0]), "the first is forgotten");
    // A clock that was far ahead leaves nothing behind; one that is set back finds the key of its day.
    assert_eq!(keys(1000).await.len(), 1);
    assert_eq!(keys(9).await.len(), 1);
    let tomorrow = keys(10).await;
    assert_eq!(tomorrow.len(), 2);
    assert!(keys(9).await == tomorrow[1..]);
}

async fn reports_and_seen(f: Fixture) {
    let tls = &f.tls;
    let report = |domain: &str, hours: u64| NewReport {
        domain: domain.to_owned(),
        from_domain: "from.example".to_owned(),
        mail_from: "x@from.example".to_owned(),
        host_report: false,
        begin: at(hours),
        end: at(hours + 24),
        success: 2,
        failure: u64::MAX,
        report: format!("{{{hours}}}"),
    };
    assert_eq!(tls.add_reports(vec![report("a.example", 0), report("b.example", 0)], at(0)).await.unwrap(), 2);
    assert_eq!(tls.add_reports(vec![report("a.example", 24), report("a.example", 0)], at(1)).await.unwrap(), 1, "each once");
    assert_eq!(tls.reports(ReportFilter::default()).await.unwrap().len(), 3);
    let filter = ReportFilter { domain: Some("a.example".to_owned()), ..ReportFilter::default() };
    let of_a = tls.reports(filter.clone()).await.unwrap();
    assert_eq!(of_a.iter().map(|r| r.received).collect::<Vec<_>>(), [at(1), at(0)]);
    assert_eq!(tls.report(of_a[1].id).await.unwrap().unwrap().report.report, "{0}");
    assert_eq!(tls.reports(ReportFilter { end: Some(at(24)), ..filter.clone() }).await.unwrap(), of_a[1..]);
    assert_eq!(tls.reports(ReportFilter { limit: 1, ..filter.clone() }).await.unwrap(), of_a[..1]);
    assert_eq!(tls.reports(ReportFilter { before: Some(of_a[0].id), ..filter.clone() }).await.unwrap(), of_a[1..]);
    let sums = tls.report_summaries(filter).await.unwrap();
    assert_eq!((sums.len(), sums[0].reports, sums[0].success, sums[0].failure), (1, 2, 4, 2 << 40));
    assert_eq!(tls.remove_reports_before(at(1)).await.unwrap(), 2);

    assert_eq!(tls.seen("ann", "b.example").await.unwrap(), None);
    for starttls in [false, true] {
        let seen = SeenTls { updated: at(1), starttls, requiretls: false };
        tls.note_seen("ann", "b.example", seen).await.unwrap();
        assert_eq!(tls.seen("ann", "b.example").await.unwrap(), Some(seen));
    }
    assert_eq!(tls.seen("bob", "b.example").await.unwrap(), None);
}
