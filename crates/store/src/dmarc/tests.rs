use super::*;
use crate::reports::{ReportFilter, SuppressedAddress};
use crate::testing::{self, on_both};
use mox_base::Timestamp;
use std::time::Duration;
use tempfile::TempDir;

struct Fixture {
    dmarc: DmarcStore,
    _store: Store,
    _folder: TempDir,
}

impl testing::Fixture for Fixture {
    async fn on(folder: TempDir, postgres: Option<String>) -> Self {
        let (store, _) = testing::store(&folder, postgres).await;
        let dmarc = DmarcStore::open(&store).await.unwrap();
        Self { dmarc, _store: store, _folder: folder }
    }
}

on_both!(evaluations, reports, suppressions);

/// Minutes after the beginning of an hour.
fn at(minutes: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 / 3600 * 3600).after(Duration::from_secs(minutes * 60))
}

fn evaluation(domain: &str, record: &str, minutes: u64) -> NewEvaluation {
    let row = EvaluationRow {
        policy_domain: domain.to_owned(),
        optional: false,
        interval_hours: 24,
        addresses: vec!["mailto:a@x.example!10m".to_owned(), "mailto:b@x.example".to_owned()],
        published: "<p/>".to_owned(),
        record: record.to_owned(),
    };
    NewEvaluation { row, at: at(minutes), count: 1 }
}

async fn evaluations(f: Fixture) {
    let dmarc = &f.dmarc;
    let optional = |mut new: NewEvaluation| {
        new.row.optional = true;
        new
    };
    let new = vec![
        evaluation("a.example", "one", 1),
        evaluation("a.example", "one", 59),
        evaluation("a.example", "two", 1),
        optional(evaluation("b.example", "one", 1)),
    ];
    dmarc.add_evaluations(new).await.unwrap();
    dmarc.add_evaluations(vec![evaluation("a.example", "one", 30), evaluation("a.example", "one", 60)]).await.unwrap();
    let all = dmarc.evaluations("a.example", at(600), 0, 100).await.unwrap();
    let show = |e: &Evaluation| format!("{} {} {}..{}", e.row.record, e.count, e.first.secs() % 3600 / 60, e.last.secs() % 3600 / 60);
    assert_eq!(all.iter().map(show).collect::<Vec<_>>(), ["one 3 1..59", "two 1 1..1", "one 1 0..0"]);
    assert_eq!(all[0].row, evaluation("a.example", "one", 1).row);
    assert_eq!(dmarc.evaluations("a.example", at(60), 0, 1).await.unwrap().len(), 1);
    assert_eq!(dmarc.evaluations("a.example", at(60), all[0].id, 100).await.unwrap(), [all[1].clone()]);

    let domains = dmarc.evaluated_domains("", 100).await.unwrap();
    let show = |d: &DomainEvaluations| format!("{} {} {}", d.domain, d.count, d.send_report);
    assert_eq!(domains.iter().map(show).collect::<Vec<_>>(), ["a.example 5 true", "b.example 1 false"]);
    assert_eq!((domains[0].first, domains[0].last), (at(1), at(60)));
    assert_eq!(dmarc.evaluated_domains("a.example", 1).await.unwrap()[0].domain, "b.example");

    // What changed since it was read stays, and what one took no other has.
    dmarc.add_evaluations(vec![evaluation("a.example", "two", 2)]).await.unwrap();
    let taken = dmarc.take_evaluations(all.clone()).await.unwrap();
    assert_eq!(taken.iter().map(|e| e.id).collect::<Vec<_>>(), [all[0].id, all[2].id]);
    assert!(dmarc.take_evaluations(all).await.unwrap().is_empty());
    assert_eq!(dmarc.evaluations("a.example", at(600), 0, 100).await.unwrap()[0].count, 2);
    assert_eq!(dmarc.remove_evaluations("a.example", at(60)).await.unwrap(), 1);
    assert_eq!(dmarc.remove_evaluations_before(at(0)).await.unwrap(), 0);
    assert_eq!(dmarc.remove_evaluations_before(at(1)).await.unwrap(), 1);
    assert!(dmarc.evaluated_domains("", 100).await.unwrap().is_empty());
}

async fn reports(f: Fixture) {
    let dmarc = &f.dmarc;
    let report = |domain: &str, hours: u64| NewDmarcReport {
        domain: domain.to_owned(),
        from_domain: "from.example".to_owned(),
        organization: "O\0rg".to_owned(),
        report_id: "1".to_owned(),
        begin: at(hours * 60),
        end: at(hours * 60 + 59),
        counts: DmarcCounts { total: 3, none: 2, reject: 1, spf_fail: u64::MAX, ..DmarcCounts::default() },
        report: format!("report {hours}").into_bytes(),
    };
    for (new, added) in
        [(report("a.example", 1), true), (report("a.example", 2), true), (report("b.example", 1), true), (report("a.example", 1), false)]
    {
        assert_eq!(dmarc.add_report(new, at(600)).await.unwrap(), added);
    }
    let about = |filter: ReportFilter| async {
        let found = dmarc.reports(filter).await.unwrap();
        found.iter().map(|r| format!("{} {}", r.report.domain, (r.report.begin.secs() - at(0).secs()) / 3600)).collect::<Vec<_>>()
    };
    assert_eq!(about(ReportFilter::default()).await, ["b.example 1", "a.example 2", "a.example 1"]);
    let of_a = ReportFilter { domain: Some("a.example".to_owned()), ..ReportFilter::default() };
    assert_eq!(about(of_a.clone()).await, ["a.example 2", "a.example 1"]);
    assert_eq!(about(ReportFilter { start: Some(at(121)), ..of_a.clone() }).await, ["a.example 2"]);
    assert_eq!(about(ReportFilter { end: Some(at(120)), ..of_a.clone() }).await, ["a.example 1"]);
    let first = dmarc.reports(ReportFilter { limit: 1, ..of_a.clone() }).await.unwrap();
    assert_eq!(about(ReportFilter { before: Some(first[0].id), ..of_a.clone() }).await, ["a.example 1"]);

    let whole = dmarc.report(first[0].id).await.unwrap().unwrap();
    assert_eq!((whole.report.report.as_slice(), whole.received), (b"report 2".as_slice(), at(600)));
    assert_eq!(whole.report.organization, "O\u{fffd}rg");
    assert!(dmarc.report(9999).await.unwrap().is_none());

    let sums = dmarc.report_summaries(ReportFilter::default()).await.unwrap();
    let show = |s: &DomainSummary| format!("{} {} {} {} {}", s.domain, s.reports, s.counts.total, s.counts.reject, s.counts.spf_fail);
    assert_eq!(sums.iter().map(show).collect::<Vec<_>>(), ["a.example 2 6 2 2199023255552", "b.example 1 3 1 1099511627776"]);
    assert_eq!(dmarc.report_summaries(ReportFilter { end: Some(at(120)), ..of_a }).await.unwrap()[0].reports, 1);
    assert_eq!(dmarc.remove_reports_before(at(601)).await.unwrap(), 3);
}

async fn suppressions(f: Fixture) {
    let list = f.dmarc.suppressions();
    let new = |address: &str, until: u64, comment: &str| SuppressedAddress {
        address: address.to_owned(),
        inserted: at(0),
        until: at(until),
        comment: comment.to_owned(),
    };
    list.add(new("a@x.example", 10, "one")).await.unwrap();
    list.add(new("a@x.example", 5, "two")).await.unwrap();
    list.add(new("b@x.example", 5, "")).await.unwrap();
    let addresses = |now| async move {
        let found = self::addresses(&f.dmarc.suppressions(), now).await;
        found.join(" ")
    };
    assert_eq!(list.list(at(4), "", 10).await.unwrap(), [new("a@x.example", 10, "two"), new("b@x.example", 5, "")]);
    assert_eq!(list.list(at(4), "a@x.example", 10).await.unwrap().len(), 1);
    assert_eq!(addresses(at(9)).await, "a@x.example");
    let asked = ["a@x.example", "b@x.example", "c@x.example"].map(str::to_owned).to_vec();
    assert_eq!(list.among(asked, at(9)).await.unwrap(), ["a@x.example"]);
    assert!(list.extend("b@x.example", at(20)).await.unwrap());
    assert!(!list.extend("c@x.example", at(20)).await.unwrap());
    assert_eq!(list.remove_expired(at(15)).await.unwrap(), 1);
    assert!(list.remove("b@x.example").await.unwrap());
    assert!(!list.remove("b@x.example").await.unwrap());
}

async fn addresses(list: &crate::reports::ReportSuppressions, now: Timestamp) -> Vec<String> {
    list.list(now, "", 10).await.unwrap().into_iter().map(|s| s.address).collect()
}
