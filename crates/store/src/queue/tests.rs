mod durable;
mod law;
mod order;
mod plans;
mod suppressed;

use super::*;
use crate::db::NoFaults;
use crate::testing::{self, on_both};
use crate::webhook::NewWebhook;
use durable::{
    a_check_finds_what_is_wrong, a_rule_waits_for_who_adds_an_entry, copies_wait_until_they_are_filed, pauses_outlive_a_restart,
    what_ends_by_two_servers_ends_once,
};
use law::every_entry_ends_once;
use mox_base::{Path, QueueId};
use mox_testkit::{SeededRandom, VirtualClock};
use order::{
    accounts_have_so_much_room_in_the_queue, bulk_mail_yields_to_urgent_mail_for_others, held_for_a_reason_until_it_is_gone,
    late_entries_are_due_at_that_time, several_claims_at_once_take_turns_too, signatures_are_kept_for_further_attempts,
    the_urgent_goes_first_and_the_rest_goes_on, within_a_domain_as_well,
};
use plans::rows_are_found_by_indexes;
use std::collections::BTreeMap;
use std::time::Duration;
use suppressed::{
    automatic_entries_end, failures_suppress_by_the_rules, refusals_for_other_reasons_say_nothing_of_the_recipient,
    suppression_lists_page_and_change, three_failures_in_a_row_suppress,
};
use tempfile::TempDir;

const OWNER: Owner = Owner(7);
const HOUR: Duration = Duration::from_secs(3600);

/// The queue of a fixture. Names of bodies must not come again.
pub(crate) async fn opened(env: &Env, location: &Location, folder: &std::path::Path) -> Result<Queue, Error> {
    static SEED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let seed = SEED.fetch_add(1, Ordering::Relaxed);
    std::fs::create_dir_all(folder.join("queue")).unwrap();
    let blobs = Arc::new(crate::blob::Folder::flat(folder.join("queue"), Arc::clone(&env.faults)));
    Queue::open(env.clone(), location.clone(), blobs, Arc::new(SeededRandom::new(seed))).await
}

/// Where the queue of a fixture is.
pub(crate) fn location(folder: &TempDir, postgres: Option<String>) -> Location {
    match postgres {
        Some(url) => Location::Postgres(crate::db::PgPool::new(&url, tokio::runtime::Handle::current()).unwrap()),
        None => Location::Sqlite(folder.path().join("queue.db")),
    }
}

struct Fixture {
    queue: Queue,
    clock: VirtualClock,
    location: Location,
    env: Env,
    folder: TempDir,
}

impl testing::Fixture for Fixture {
    async fn on(folder: TempDir, postgres: Option<String>) -> Self {
        let location = location(&folder, postgres);
        let clock = VirtualClock::default();
        let env = Env {
            runtime: tokio::runtime::Handle::current(),
            clock: Arc::new(clock.clone()),
            faults: Arc::new(NoFaults),
            readers: Arc::new(tokio::sync::Semaphore::new(4)),
            scans: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        let queue = opened(&env, &location, folder.path()).await.unwrap();
        Self { queue, clock, location, env, folder }
    }
}

/// On SQLite.
async fn sqlite() -> Fixture {
    <Fixture as testing::Fixture>::on(tempfile::tempdir().unwrap(), None).await
}

impl Fixture {
    /// As after a crash: another handle to what is on disk.
    async fn reopened(self) -> Self {
        self.queue.close().await;
        let queue = opened(&self.env, &self.location, self.folder.path()).await.unwrap();
        Self { queue, ..self }
    }

    async fn add(&self, recipients: &[&str]) -> Vec<QueueId> {
        let entries = recipients.iter().map(|r| NewEntry::new(Some(path("ann@a.example")), path(r), self.clock.now())).collect();
        self.queue.add(self.message(b"body\r\n"), entries).await.unwrap()
    }

    fn message(&self, body: &[u8]) -> NewMessage {
        NewMessage {
            prefix: b"Received: here\r\n".to_vec(),
            message_id: "<1@a.example>".to_owned(),
            subject: "NUL\0 in it".to_owned(),
            extra: BTreeMap::from([("Key".to_owned(), "value".to_owned())]),
            envelope_id: Some("env".to_owned()),
            ..NewMessage::new("ann".to_owned(), Body::Memory(body.into()), self.clock.now())
        }
    }

    async fn claim(&self, domains: usize) -> Vec<Claim> {
        let claiming = Claiming { owner: OWNER, now: self.clock.now(), domains, lease: HOUR, turn: 0 };
        self.queue.claim(claiming, |_, attempts| HOUR * (attempts + 1)).await.unwrap()
    }

    fn outcome(&self, entry: &Entry, error: &str, ending: Ending) -> Outcome {
        let result = AttemptResult {
            start: self.clock.now(),
            duration: Duration::from_millis(3),
            success: error.is_empty(),
            code: if error.is_empty() { 250 } else { 451 },
            secode: String::new(),
            error: error.to_owned(),
            via: Via { host: "mx.example".to_owned(), ip: "192.0.2.1".parse().ok(), ..Via::default() },
        };
        Outcome { id: entry.id, result, dialed: DialedIps::default(), ending, told_late: false }
    }

    async fn finish(&self, claim: &Claim, error: &str, ending: Ending) {
        self.finish_and(claim, error, ending, forget()).await;
    }

    async fn finish_and(&self, claim: &Claim, error: &str, ending: Ending, aftermath: Arc<dyn Aftermath>) {
        let outcomes = claim.entries.iter().map(|e| self.outcome(e, error, ending)).collect();
        let finished = self.queue.finish(claim.domain(), OWNER, outcomes, aftermath).await.unwrap();
        assert_eq!(finished, Finished::default());
    }

    /// All entries, after a look whether everything is as it must be.
    async fn listed(&self) -> Vec<Listed<Entry>> {
        assert_eq!(self.queue.check().await.unwrap().problems, Vec::<String>::new());
        self.queue.list(Filter::default(), Sort { ascending: true, ..Sort::default() }, Page::default()).await.unwrap()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("queue")).unwrap().count()
    }
}

fn path(text: &str) -> Path {
    let (localpart, host) = text.rsplit_once('@').unwrap();
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(ip) => mox_base::Host::Ip(ip.parse().unwrap()),
        None => mox_base::Host::Domain(host.parse().unwrap()),
    };
    Path { localpart: localpart.parse().unwrap(), host }
}

/// Remembers finished entries until then.
#[derive(Debug)]
struct Keep(Option<Timestamp>);

impl Aftermath for Keep {
    fn keep_until(&self, _account: &str, _now: Timestamp) -> Option<Timestamp> {
        self.0
    }

    fn suppressed_until(&self, _account: &str, now: Timestamp) -> Option<Timestamp> {
        Some(now.after(HOUR * 10))
    }

    fn is_announced(&self, _account: &str, kind: EventKind) -> bool {
        kind != EventKind::Delivered
    }

    fn webhook(&self, event: &Event<'_>) -> Option<NewWebhook> {
        let entry = event.entry;
        Some(NewWebhook {
            queue_id: Some(entry.id),
            from_id: entry.from_id.clone().unwrap_or_default(),
            message_id: entry.message_id.clone(),
            subject: entry.subject.clone(),
            extra: entry.extra.clone(),
            account: entry.account.clone(),
            url: "http://127.0.0.1/".to_owned(),
            authorization: None,
            secret: None,
            event: event.kind,
            payload: format!("{} {} {} {}", entry.recipient, event.result.code, event.result.error, event.suppressing),
            submitted: event.at,
            keep_replaced: None,
        })
    }
}

fn forget() -> Arc<dyn Aftermath> {
    Arc::new(NoAftermath)
}

fn domains(claims: &[Claim]) -> Vec<String> {
    claims.iter().map(Claim::domain).collect()
}

fn ids(claim: &Claim) -> Vec<QueueId> {
    claim.entries.iter().map(|e| e.id).collect()
}

on_both!(
    delivers_and_forgets,
    one_claim_per_domain_earliest_first,
    groups_share_an_attempt,
    crash_keeps_entries,
    from_ids_are_unique,
    large_messages_are_files,
    administrators_change_entries,
    lists_page_and_filter,
    retired_are_kept_and_forgotten,
    a_removed_entry_loses_its_outcome,
    held_entries_wait,
    our_faults_cost_no_attempt,
    failures_suppress_by_the_rules,
    three_failures_in_a_row_suppress,
    suppression_lists_page_and_change,
    hold_rules_match_new_and_old_alike,
    returned_messages_find_their_entries,
    steps_share_the_transaction,
    requests_with_a_key_are_done_once,
    who_is_named_twice_counts_twice,
    mass_actions_go_in_batches,
    results_say_how_it_went_out,
    events_are_announced_in_the_transaction,
    copies_wait_until_they_are_filed,
    pauses_outlive_a_restart,
    a_rule_waits_for_who_adds_an_entry,
    what_ends_by_two_servers_ends_once,
    a_check_finds_what_is_wrong,
    the_urgent_goes_first_and_the_rest_goes_on,
    several_claims_at_once_take_turns_too,
    within_a_domain_as_well,
    bulk_mail_yields_to_urgent_mail_for_others,
    accounts_have_so_much_room_in_the_queue,
    signatures_are_kept_for_further_attempts,
    held_for_a_reason_until_it_is_gone,
    late_entries_are_due_at_that_time,
    refusals_for_other_reasons_say_nothing_of_the_recipient,
    automatic_entries_end,
    rows_are_found_by_indexes,
    every_entry_ends_once,
);

async fn delivers_and_forgets(f: Fixture) {
    let added = f.add(&["bob@b.example"]).await;
    assert_eq!(f.queue.next_due(f.clock.now()).await.unwrap(), Some(f.clock.now()));
    let claims = f.claim(10).await;
    assert_eq!(ids(&claims[0]), added);
    let claim = &claims[0];
    assert_eq!((claim.entries[0].attempts, claim.entries[0].unfinished), (1, false));
    assert_eq!(claim.entries[0].base, None);
    assert_eq!(claim.message.subject, "NUL\u{fffd} in it");
    assert_eq!(claim.message.extra.get("Key").map(String::as_str), Some("value"));
    assert_eq!(claim.message.size.0, 22);
    let mut body = f.queue.open_body(claim.message.id).await.unwrap().unwrap();
    assert_eq!(body.read_up_to(100).await.unwrap(), b"body\r\n");
    assert!(body.next_chunk().await.unwrap().is_empty());
    assert!(f.listed().await[0].results[0].is_delivering());
    // Nobody else gets it, and nothing is due, while it is being delivered.
    assert!(f.claim(10).await.is_empty());
    assert_eq!(f.queue.next_due(f.clock.now()).await.unwrap(), None);
    f.finish(claim, "", Ending::Delivered).await;
    assert!(f.listed().await.is_empty());
    assert!(f.queue.open_body(claim.message.id).await.unwrap().is_none());
    assert_eq!(f.queue.counts().await.unwrap(), (0, 0));
    assert_eq!(f.queue.next_due(f.clock.now()).await.unwrap(), None);
}

async fn one_claim_per_domain_earliest_first(f: Fixture) {
    let later = f.clock.now().after(HOUR);
    let late = vec![NewEntry { next_attempt: later, ..NewEntry::new(None, path("x@late.example"), later) }];
    f.queue.add(f.message(b"x"), late).await.unwrap();
    f.add(&["a@one.example"]).await;
    f.clock.advance(Duration::from_secs(1));
    f.add(&["b@two.example"]).await;
    f.add(&["c@one.example"]).await;
    f.clock.advance(Duration::from_secs(1));
    f.add(&["d@[192.0.2.1]"]).await;
    let claims = f.claim(2).await;
    assert_eq!(domains(&claims), ["one.example", "two.example"]);
    assert_eq!(claims[0].entries[0].recipient, path("a@one.example"));
    let more = f.claim(10).await;
    assert_eq!(domains(&more), ["[192.0.2.1]"]);
    // The end of one lets the next of the same domain go.
    f.finish(&claims[0], "", Ending::Delivered).await;
    assert_eq!(domains(&f.claim(10).await), ["one.example"]);
    assert_eq!(f.queue.next_due(f.clock.now()).await.unwrap(), Some(later));
    // A lease that isn't renewed ends, one that is doesn't.
    f.queue.renew("two.example".to_owned(), OWNER, f.clock.now().after(HOUR * 3)).await.unwrap();
    f.clock.advance(HOUR * 2);
    // Retried: one.example's entry after its lease ended; late.example for the first time.
    assert_eq!(domains(&f.claim(10).await), ["late.example", "[192.0.2.1]", "one.example"]);
    assert!(f.claim(10).await.is_empty());
}

async fn groups_share_an_attempt(f: Fixture) {
    let added = f.add(&["a@b.example", "c@b.example", "d@other.example", "e@b.example"]).await;
    f.add(&["z@b.example"]).await;
    let claims = f.claim(1).await;
    assert_eq!(ids(&claims[0]), [added[0], added[1], added[3]]);
    assert!(claims[0].entries.iter().all(|e| e.base == Some(added[0]) && e.attempts == 1 && e.next_attempt == f.clock.now().after(HOUR)));
    // One is delivered, the others are tried again together; the message stays for them.
    let outcomes = vec![
        f.outcome(&claims[0].entries[0], "", Ending::Delivered),
        f.outcome(&claims[0].entries[1], "busy", Ending::Retry),
        f.outcome(&claims[0].entries[2], "busy", Ending::Retry),
    ];
    f.queue.finish("b.example".to_owned(), OWNER, outcomes, forget()).await.unwrap();
    assert_eq!(domains(&f.claim(10).await), ["b.example", "other.example"]);
    f.queue.release("b.example".to_owned(), OWNER).await.unwrap();
    f.clock.advance(HOUR);
    let claims = f.claim(10).await;
    let claim = claims.iter().find(|c| c.domain() == "b.example").unwrap();
    assert_eq!(ids(claim), [added[1], added[3]]);
    let results = f.listed().await.into_iter().find(|l| l.row.id == added[1]).unwrap().results;
    assert_eq!(results.iter().map(|r| r.error.as_str()).collect::<Vec<_>>(), ["busy", AttemptResult::DELIVERING]);
}

async fn crash_keeps_entries(f: Fixture) {
    f.add(&["a@b.example"]).await;
    let postgres = matches!(f.location, Location::Postgres(_));
    assert_eq!(f.claim(1).await.len(), 1);
    let f = f.reopened().await;
    // The attempt counts, and the next is when it was scheduled to be.
    assert!(f.claim(1).await.is_empty());
    f.clock.advance(HOUR);
    let claims = f.claim(1).await;
    assert_eq!((claims[0].entries[0].attempts, claims[0].entries[0].unfinished), (2, true));
    let results = &f.listed().await[0].results;
    assert_eq!(results.len(), 2, "{results:?}");
    // On PostgreSQL the crashed server's lease had to end first, which it did after the hour.
    assert!(postgres || f.queue.next_due(f.clock.now()).await.unwrap().is_none());
}

async fn from_ids_are_unique(f: Fixture) {
    let with = |id: &str| NewEntry {
        from_id: Some(id.to_owned()),
        ..NewEntry::new(Some(path("ann+x@a.example")), path("a@b.example"), f.clock.now())
    };
    let twice = f.queue.add(f.message(b"x"), vec![with("1"), with("1")]).await;
    assert!(matches!(twice, Err(AddError::FromIdNotUnique)), "{twice:?}");
    f.queue.add(f.message(b"x"), vec![with("1")]).await.unwrap();
    assert!(matches!(f.queue.add(f.message(b"x"), vec![with("2"), with("1")]).await, Err(AddError::FromIdNotUnique)));
    assert_eq!(f.queue.counts().await.unwrap(), (1, 0));
    // A retired entry's id stays taken.
    let claims = f.claim(1).await;
    f.finish_and(&claims[0], "", Ending::Delivered, Arc::new(Keep(Some(f.clock.now().after(HOUR))))).await;
    assert!(matches!(f.queue.add(f.message(b"x"), vec![with("1")]).await, Err(AddError::FromIdNotUnique)));
    assert!(matches!(f.queue.add(f.message(b"x"), vec![]).await, Err(AddError::NoRecipients)));
}

async fn large_messages_are_files(f: Fixture) {
    let body: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let spool = f.folder.path().join("spool");
    std::fs::write(&spool, &body).unwrap();
    let message = NewMessage { body: Body::File { file: Arc::new(std::fs::File::open(&spool).unwrap()), len: 200_000 }, ..f.message(b"") };
    let entries = ["a@b.example", "a@c.example"].map(|r| NewEntry::new(None, path(r), f.clock.now())).to_vec();
    f.queue.add(message, entries).await.unwrap();
    assert_eq!(f.files(), 1);
    let claims = f.claim(2).await;
    assert_eq!(claims[0].message.size.0, 200_016);
    let mut open = f.queue.open_body(claims[0].message.id).await.unwrap().unwrap();
    f.finish(&claims[0], "", Ending::Delivered).await;
    assert_eq!(f.files(), 1, "another recipient still needs it");
    f.finish(&claims[1], "", Ending::Delivered).await;
    assert_eq!(f.files(), 0);
    // Whoever is reading it isn't disturbed.
    assert_eq!(open.read_up_to(1 << 20).await.unwrap(), body);
    // Files that no row knows are swept when there is no other server.
    std::fs::write(f.folder.path().join("queue/orphan"), b"x").unwrap();
    let sqlite = matches!(f.location, Location::Sqlite(_));
    let f = f.reopened().await;
    assert_eq!(f.files(), usize::from(!sqlite));
}

async fn administrators_change_entries(f: Fixture) {
    let added = f.add(&["a@b.example", "c@d.example"]).await;
    let only = |id| Filter { ids: vec![id], ..Filter::default() };
    let now = f.clock.now();
    assert_eq!(f.queue.reschedule(Filter::default(), Reschedule::Add(60_000_000)).await.unwrap(), 2);
    assert!(f.claim(10).await.is_empty());
    assert_eq!(f.queue.reschedule(only(added[1]), Reschedule::At(now)).await.unwrap(), 1);
    assert_eq!(domains(&f.claim(10).await), ["d.example"]);
    assert_eq!(f.queue.set_transport(only(added[0]), "smart".to_owned()).await.unwrap(), 1);
    assert_eq!(f.queue.set_require_tls(only(added[0]), Some(true)).await.unwrap(), 1);
    let (entry, message) = f.queue.entry(added[0]).await.unwrap().unwrap();
    assert_eq!((entry.transport.as_str(), entry.require_tls, message.envelope_id.as_deref()), ("smart", Some(true), Some("env")));
    assert_eq!(f.queue.set_require_tls(only(added[0]), None).await.unwrap(), 1);
    assert_eq!(f.queue.entry(added[0]).await.unwrap().unwrap().0.require_tls, None);
    let filter = Filter { transport: Some("smart".to_owned()), ..Filter::default() };
    let keep = now.after(HOUR);
    assert_eq!(f.queue.cancel(filter, Cancel::Drop, now, Arc::new(Keep(Some(keep)))).await.unwrap(), 1);
    assert_eq!(f.queue.counts().await.unwrap(), (1, 0));
    let retired = f.queue.list_retired(Filter::default(), Sort::default(), Page::default()).await.unwrap();
    assert_eq!(retired[0].row.id, added[0]);
    assert!(!retired[0].row.success);
    assert_eq!(retired[0].results.last().unwrap().error, "delivery canceled by admin");
    assert_eq!(retired[0].row.last_attempt, Some(now));
    assert_eq!(f.queue.cancel(Filter { max: Some(5), ..Filter::default() }, Cancel::Drop, now, forget()).await.unwrap(), 1);
    assert_eq!(f.queue.cancel(Filter::default(), Cancel::Drop, now, forget()).await.unwrap(), 0);
}

async fn lists_page_and_filter(f: Fixture) {
    let start = f.clock.now();
    for n in 0..5 {
        f.add(&[&format!("r{n}@b{}.example", n % 2)]).await;
        f.clock.advance(Duration::from_secs(10));
    }
    let show = |rows: Vec<Listed<Entry>>| rows.iter().map(|l| l.row.recipient.localpart.as_str().to_owned()).collect::<Vec<_>>();
    let list = |filter: Filter, sort: Sort, limit: u64| {
        let queue = f.queue.clone();
        async move { queue.list(filter, sort, Page { limit }).await.unwrap() }
    };
    assert_eq!(show(list(Filter::default(), Sort::default(), 2).await), ["r4", "r3"]);
    let first = list(Filter::default(), Sort { field: SortField::Added, ascending: true, after: None }, 2).await;
    let last = &first[1].row;
    let sort = Sort { field: SortField::Added, ascending: true, after: Some((last.queued, last.id)) };
    assert_eq!(show(list(Filter::default(), sort, 10).await), ["r2", "r3", "r4"]);
    let down = Sort { field: SortField::Time, ascending: false, after: Some((last.next_attempt, last.id)) };
    assert_eq!(show(list(Filter::default(), down, 10).await), ["r0"]);
    for (filter, want) in [
        (Filter { to: Some("@b1.".to_owned()), ..Filter::default() }, vec!["r3", "r1"]),
        (Filter { from: Some("nobody".to_owned()), ..Filter::default() }, vec![]),
        (Filter { from: Some("ann@".to_owned()), to: Some("r2".to_owned()), ..Filter::default() }, vec!["r2"]),
        (Filter { account: Some("bob".to_owned()), ..Filter::default() }, vec![]),
        (Filter { submitted: Some(TimeBound::After(start.after(Duration::from_secs(15)))), ..Filter::default() }, vec!["r4", "r3", "r2"]),
        (Filter { next_attempt: Some(TimeBound::Before(start.after(Duration::from_secs(5)))), ..Filter::default() }, vec!["r0"]),
        (Filter { hold: Some(true), ..Filter::default() }, vec![]),
        (Filter { transport: Some(String::new()), max: Some(1), ..Filter::default() }, vec!["r4"]),
        (Filter { ids: vec![last.id, QueueId(999)], ..Filter::default() }, vec!["r1"]),
    ] {
        assert_eq!(show(list(filter.clone(), Sort::default(), 10).await), want, "{filter:?}");
    }
}

async fn retired_are_kept_and_forgotten(f: Fixture) {
    let added = f.add(&["a@b.example"]).await;
    let claims = f.claim(1).await;
    let until = f.clock.now().after(HOUR);
    f.finish_and(&claims[0], "", Ending::Delivered, Arc::new(Keep(Some(until)))).await;
    let retired =
        f.queue.list_retired(Filter { success: Some(true), ..Filter::default() }, Sort::default(), Page::default()).await.unwrap();
    let row = &retired[0].row;
    assert_eq!((row.id, row.recipient.as_str(), row.sender.as_str(), row.keep_until), (added[0], "a@b.example", "ann@a.example", until));
    assert_eq!(retired[0].results.len(), 1);
    assert_eq!(f.queue.remove_expired(f.clock.now()).await.unwrap(), 0);
    assert_eq!(f.queue.remove_expired(until.after(HOUR)).await.unwrap(), 1);
    assert!(f.queue.list_retired(Filter::default(), Sort::default(), Page::default()).await.unwrap().is_empty());
    // Ids are never used again.
    assert!(f.add(&["a@b.example"]).await[0] > added[0]);
}

async fn a_removed_entry_loses_its_outcome(f: Fixture) {
    let added = f.add(&["a@b.example"]).await;
    let claims = f.claim(1).await;
    assert_eq!(f.queue.cancel(Filter::default(), Cancel::Drop, f.clock.now(), forget()).await.unwrap(), 1);
    let outcomes = vec![f.outcome(&claims[0].entries[0], "", Ending::Delivered)];
    let finished = f.queue.finish("b.example".to_owned(), OWNER, outcomes, forget()).await.unwrap();
    assert_eq!(finished.gone, added);
    f.add(&["c@b.example"]).await;
    assert_eq!(f.claim(1).await.len(), 1, "the domain is free again");
}

async fn held_entries_wait(f: Fixture) {
    let added = f.add(&["a@b.example", "c@b.example"]).await;
    let only = Filter { ids: vec![added[0]], ..Filter::default() };
    assert_eq!(f.queue.set_hold(only.clone(), true).await.unwrap(), 1);
    assert_eq!(f.queue.counts().await.unwrap(), (2, 1));
    let claims = f.claim(10).await;
    assert_eq!(ids(&claims[0]), [added[1]]);
    f.finish(&claims[0], "", Ending::Delivered).await;
    assert_eq!(f.queue.next_due(f.clock.now()).await.unwrap(), None);
    assert!(f.claim(10).await.is_empty());
    f.queue.set_hold(only, false).await.unwrap();
    assert_eq!(ids(&f.claim(10).await[0]), [added[0]]);
}

async fn our_faults_cost_no_attempt(f: Fixture) {
    f.add(&["a@b.example"]).await;
    let claims = f.claim(1).await;
    f.finish(&claims[0], "disk full", Ending::Uncounted { next: f.clock.now() }).await;
    let claims = f.claim(1).await;
    assert_eq!(claims[0].entries[0].attempts, 1);
    assert_eq!(f.listed().await[0].results.len(), 2);
}

/// Fails one step, in the store's words.
#[derive(Debug)]
struct FailAt(mox_testkit::Faults);

impl crate::db::Faults for FailAt {
    fn check(&self, step: crate::db::Step) -> std::io::Result<()> {
        self.0.step(&format!("{step:?}"))
    }
}

/// Whatever step fails: what was answered to be queued is there, once, until its outcome is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    for large in [false, true] {
        for n in 0.. {
            let faults = mox_testkit::Faults::at(n);
            let mut f = sqlite().await;
            f.queue.close().await;
            f.env.faults = Arc::new(FailAt(faults.clone()));
            let body = if large { vec![b'x'; 100_000] } else { b"small".to_vec() };
            let (mut added, mut finished) = (None, None);
            if let Ok(queue) = opened(&f.env, &f.location, f.folder.path()).await {
                f.queue = queue;
                let entry = NewEntry::new(None, path("a@b.example"), f.clock.now());
                added = Some(f.queue.add(f.message(&body), vec![entry]).await);
                let claiming = Claiming { owner: OWNER, now: f.clock.now(), domains: 1, lease: HOUR, turn: 0 };
                let claims = f.queue.claim(claiming, |_, _| HOUR).await.unwrap_or_default();
                if let [claim] = claims.as_slice() {
                    let outcomes = vec![f.outcome(&claim.entries[0], "", Ending::Delivered)];
                    finished = Some(f.queue.finish(claim.domain(), OWNER, outcomes, forget()).await);
                }
            }
            f.env.faults = Arc::new(NoFaults);
            let f = f.reopened().await;
            let entries = f.listed().await.len();
            let step = format!("large {large}, step {n}: {added:?} {finished:?}");
            match (&added, &finished) {
                (Some(Ok(_)), None) => assert_eq!(entries, 1, "{step}"),
                (Some(Ok(_)), Some(Ok(_))) => assert_eq!(entries, 0, "{step}"),
                // The outcome may be recorded although the commit's answer was lost.
                (Some(Ok(_)), Some(Err(_))) => assert!(entries <= 1, "{step}"),
                (Some(Err(AddError::Store(Error::Commit(_)))), _) => assert!(entries <= 1, "{step}"),
                (None | Some(Err(_)), _) => assert_eq!(entries, 0, "{step}"),
            }
            assert_eq!(f.files(), if large { entries } else { 0 }, "{step}");
            if let [listed] = f.listed().await.as_slice() {
                let mut open = f.queue.open_body(listed.row.message).await.unwrap().unwrap();
                assert_eq!(open.read_up_to(1 << 20).await.unwrap(), body, "{step}");
            }
            if !faults.fired() {
                assert!(n > 10, "steps are counted");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_on_keeps_the_domain() {
    let f = sqlite().await;
    let added = [f.add(&["a@b.example"]).await, f.add(&["c@b.example"]).await];
    let claims = f.claim(1).await;
    let next = |claim: &Claim| {
        let outcomes = claim.entries.iter().map(|e| f.outcome(e, "", Ending::Delivered)).collect();
        let claiming = Claiming { owner: OWNER, now: f.clock.now(), domains: 1, lease: HOUR, turn: 0 };
        f.queue.finish_and_claim(claim.domain(), claiming, |_, _| HOUR, outcomes, forget())
    };
    let (_, second) = next(&claims[0]).await.unwrap();
    let second = second.unwrap();
    assert_eq!(ids(&second), added[1]);
    assert!(f.claim(1).await.is_empty());
    let (_, none) = next(&second).await.unwrap();
    assert!(none.is_none());
    f.add(&["d@b.example"]).await;
    assert_eq!(f.claim(1).await.len(), 1, "the domain is free");
}

async fn hold_rules_match_new_and_old_alike(f: Fixture) {
    let rule = |account: &str, sender: &str, recipient: &str| HoldRule {
        id: 0,
        account: Some(account.to_owned()).filter(|a| !a.is_empty()),
        sender_domain: sender.parse().ok(),
        recipient_domain: recipient.parse().ok(),
    };
    let mails = [
        ("ann", "ann@a.example", "x@b.example"),
        ("ann", "ann@bücher.example", "x@b.example"),
        ("ann", "", "x@b.example"),
        ("bob", "\"b@a.example\"@z.example", "x@c.example"),
        ("bob", "bob@sub.a.example", "x@[192.0.2.1]"),
    ];
    let add_all = async || {
        for (account, sender, recipient) in mails {
            let message = NewMessage { account: account.to_owned(), ..f.message(b"x") };
            let sender = Some(sender).filter(|s| !s.is_empty()).map(path);
            f.queue.add(message, vec![NewEntry::new(sender, path(recipient), f.clock.now())]).await.unwrap();
        }
    };
    for (rule, want) in [
        (rule("", "", ""), vec![0, 1, 2, 3, 4]),
        (rule("ann", "", ""), vec![0, 1, 2]),
        (rule("", "a.example", ""), vec![0]),
        (rule("", "bücher.example", ""), vec![1]),
        (rule("", "", "b.example"), vec![0, 1, 2]),
        (rule("ann", "a.example", "c.example"), vec![]),
        (rule("bob", "", "c.example"), vec![3]),
    ] {
        add_all().await;
        let (id, held) = f.queue.add_hold_rule(rule.clone()).await.unwrap();
        assert_eq!(held, u64::try_from(want.len()).unwrap(), "{rule:?}");
        let listed = f.queue.hold_rules().await.unwrap();
        assert_eq!(listed, [HoldRule { id, ..rule.clone() }]);
        add_all().await;
        let all =
            f.queue.list(Filter::default(), Sort { field: SortField::Added, ascending: true, after: None }, Page::default()).await.unwrap();
        let held: Vec<usize> = all.iter().enumerate().filter(|(_, l)| l.row.hold).map(|(i, _)| i).collect();
        let both: Vec<usize> = want.iter().copied().chain(want.iter().map(|i| i + 5)).collect();
        assert_eq!(held, both, "{rule:?}");
        assert!(f.queue.remove_hold_rule(id).await.unwrap());
        assert!(!f.queue.remove_hold_rule(id).await.unwrap());
        assert_eq!(f.queue.held().await.unwrap(), u64::try_from(both.len()).unwrap(), "they stay held");
        f.queue.cancel(Filter::default(), Cancel::Drop, f.clock.now(), forget()).await.unwrap();
    }
}

async fn returned_messages_find_their_entries(f: Fixture) {
    let with = |id: &str, to: &str| NewEntry {
        from_id: Some(id.to_owned()),
        ..NewEntry::new(Some(path("ann@a.example")), path(to), f.clock.now())
    };
    let first = f.queue.add(f.message(b"x"), vec![with("AbC", "a@b.example")]).await.unwrap()[0];
    let second = f.queue.add(f.message(b"x"), vec![with("aBc", "c@d.example")]).await.unwrap()[0];
    let find = |by: &'static str, key: &'static str, to: &'static str| {
        let queue = f.queue.clone();
        async move {
            let find = move |tx: &Tx<'_>| match by {
                "from_id" => by_from_id(tx, key),
                "envid" => by_envelope_id(tx, "ann", key, &path(to)),
                _ => by_message_id(tx, Some("ann"), key, &path(to)),
            };
            queue.db.read(find).await.unwrap().map(|e| (e.id, e.retired))
        }
    };
    for retired in [false, true] {
        assert_eq!(find("from_id", "AbC", "").await, Some((first, retired)));
        assert_eq!(find("from_id", "aBc", "").await, Some((second, false)));
        assert_eq!(find("from_id", "abc", "").await, Some((second, false)), "the case was lost: the newest");
        assert_eq!(find("from_id", "other", "").await, None);
        assert_eq!(find("envid", "env", "a@b.example").await, Some((first, retired)));
        assert_eq!(find("envid", "env", "c@d.example").await, Some((second, false)));
        assert_eq!(find("envid", "env", "x@d.example").await, None);
        assert_eq!(find("message", "<1@a.example>", "a@b.example").await, Some((first, retired)));
        assert_eq!(find("message", "", "a@b.example").await, None);
        if !retired {
            let claims = f.claim(1).await;
            f.finish_and(&claims[0], "", Ending::Delivered, Arc::new(Keep(Some(f.clock.now().after(HOUR))))).await;
        }
    }
    f.clock.advance(HOUR / 2);
    let now = f.clock.now();
    f.queue.write(move |tx| note_returned(tx, first, &AttemptResult::failed(now, "incoming message"), now)).await.unwrap();
    let retired = f.queue.retired(first).await.unwrap().unwrap();
    assert_eq!((retired.row.last_activity, retired.row.success, retired.results.len()), (now, true, 2));
    assert_eq!((retired.row.event, retired.row.envelope_id.as_deref()), (Some(EventKind::Delivered), Some("env")));
    // While it is being delivered, the attempt's result still takes the place that was kept for it.
    let claims = f.claim(1).await;
    f.queue.write(move |tx| note_returned(tx, second, &AttemptResult::failed(now, "incoming message"), now)).await.unwrap();
    f.finish(&claims[0], "busy", Ending::Retry).await;
    let errors: Vec<String> = f.listed().await[0].results.iter().map(|r| r.error.clone()).collect();
    assert_eq!(errors, ["busy", "incoming message"]);
}

/// Answers from its second time on what it noted the first.
#[derive(Debug, Default)]
struct Once(std::sync::Mutex<Vec<u8>>);

impl AddStep for Once {
    fn before(&self, _tx: &Tx<'_>) -> Result<Option<Vec<u8>>, Error> {
        Ok(Some(self.0.lock().unwrap().clone()).filter(|answer| !answer.is_empty()))
    }

    fn after(&self, _tx: &Tx<'_>, entries: &[NewEntry], ids: &[QueueId]) -> Result<(), Error> {
        *self.0.lock().unwrap() = format!("{} {}", entries[0].recipient, ids[0].0).into_bytes();
        Ok(())
    }
}

async fn steps_share_the_transaction(f: Fixture) {
    let step: Arc<dyn AddStep> = Arc::new(Once::default());
    let message = || NewMessage { step: Some(Arc::clone(&step)), body: Body::Memory(vec![b'x'; 100_000].into()), ..f.message(b"") };
    let entry = || vec![NewEntry::new(None, path("a@b.example"), f.clock.now())];
    let id = f.queue.add(message(), entry()).await.unwrap()[0];
    let again = f.queue.add(message(), entry()).await;
    assert!(matches!(&again, Err(AddError::Answered(answer)) if *answer == format!("a@b.example {}", id.0).into_bytes()), "{again:?}");
    assert_eq!((f.queue.counts().await.unwrap().0, f.files()), (1, 1));
}

async fn mass_actions_go_in_batches(f: Fixture) {
    let entries = (0..1200).map(|n| NewEntry::new(None, path(&format!("r{n}@b{}.example", n % 3)), f.clock.now())).collect();
    let ids = f.queue.add(f.message(b"x"), entries).await.unwrap();
    assert_eq!(f.queue.reschedule(Filter::default(), Reschedule::Add(60_000_000)).await.unwrap(), 1200);
    let all = f.queue.list(Filter::default(), Sort::default(), Page { limit: 2000 }).await.unwrap();
    assert!(all.iter().all(|l| l.row.next_attempt == f.clock.now().after(Duration::from_secs(60))), "each once");
    // With a maximum, the first of the order: next attempt, then id, downwards.
    let filter = Filter { max: Some(700), to: Some("@b".to_owned()), ..Filter::default() };
    assert_eq!(f.queue.set_hold(filter, true).await.unwrap(), 700);
    let held = f.queue.list(Filter { hold: Some(true), ..Filter::default() }, Sort::default(), Page { limit: 2000 }).await.unwrap();
    assert_eq!((held.len(), held[699].row.id), (700, ids[500]));
    assert_eq!(f.queue.counts().await.unwrap(), (1200, 700));
    let by_id = Filter { ids: ids[..1000].to_vec(), ..Filter::default() };
    let until = f.clock.now().after(HOUR);
    assert_eq!(f.queue.cancel(by_id, Cancel::Fail, f.clock.now(), Arc::new(Keep(Some(until)))).await.unwrap(), 1000);
    assert_eq!(f.queue.counts().await.unwrap(), (200, 200));
    let retired = f.queue.list_retired(Filter::default(), Sort::default(), Page { limit: 1 }).await.unwrap();
    assert_eq!((retired[0].row.event, retired[0].results[0].error.as_str()), (Some(EventKind::Failed), "delivery canceled by admin"));
    assert_eq!(f.queue.remove_expired(until.after(HOUR)).await.unwrap(), 1000);
    // All that is left is held, so nothing is due.
    f.clock.advance(HOUR);
    assert_eq!(f.queue.next_due(f.clock.now()).await.unwrap(), None);
}

async fn results_say_how_it_went_out(f: Fixture) {
    f.add(&["a@b.example"]).await;
    let claims = f.claim(1).await;
    f.finish(&claims[0], "busy", Ending::Retry).await;
    let via = f.listed().await[0].results[0].via.clone();
    assert_eq!((via.host.as_str(), via.ip, via.tls.as_str()), ("mx.example", "192.0.2.1".parse().ok(), ""));
}

async fn events_are_announced_in_the_transaction(f: Fixture) {
    let keep: Arc<dyn Aftermath> = Arc::new(Keep(None));
    let payloads = async || {
        let list =
            f.queue.webhooks().list(crate::webhook::Filter::default(), crate::webhook::Sort::default(), Page::default()).await.unwrap();
        let mut shown: Vec<_> = list.iter().map(|l| (l.row.event, l.row.payload.clone())).collect();
        shown.sort();
        shown
    };
    f.add(&["a@b.example"]).await;
    f.add(&["c@d.example"]).await;
    f.add(&["e@f.example"]).await;
    let claims = f.claim(3).await;
    f.finish_and(&claims[0], "busy", Ending::Retry, Arc::clone(&keep)).await;
    assert_eq!(payloads().await, [(EventKind::Delayed, "a@b.example 451 busy false".to_owned())]);
    f.finish_and(&claims[1], "", Ending::Delivered, Arc::clone(&keep)).await;
    assert_eq!(payloads().await.len(), 1, "nobody wants to hear of it");
    let mut outcome = f.outcome(&claims[2].entries[0], "gone", Ending::Failed);
    outcome.result.code = 550;
    let finished = f.queue.finish(claims[2].domain(), OWNER, vec![outcome], Arc::clone(&keep)).await.unwrap();
    assert_eq!(finished.suppressing, ids(&claims[2]));
    f.queue.cancel(Filter::default(), Cancel::Drop, f.clock.now(), keep).await.unwrap();
    let failed = (EventKind::Failed, "e@f.example 550 gone true".to_owned());
    let canceled = (EventKind::Canceled, "a@b.example 0 delivery canceled by admin false".to_owned());
    // The newer event took the place of the one about a delay.
    assert_eq!(payloads().await, [failed, canceled]);
}

async fn requests_with_a_key_are_done_once(f: Fixture) {
    let now = f.clock.now();
    let request = |digest: u8| RequestKey { account: "ann".to_owned(), key: "k".to_owned(), digest: [digest; 32] };
    let add = |digest: u8, now: Timestamp| {
        let answer: Box<MakeAnswer> = Box::new(move |_, ids| format!("{digest} {ids:?}").into_bytes());
        let message = NewMessage { step: Some(Arc::new(OncePerKey::new(request(digest), now, answer))), ..f.message(b"body\r\n") };
        let queue = f.queue.clone();
        async move { queue.add(message, vec![NewEntry::new(Some(path("ann@a.example")), path("bob@b.example"), now)]).await }
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        tasks.spawn(add(1, now));
    }
    let many = tasks.join_all().await;
    let ids: Vec<QueueId> = many.iter().filter_map(|r| r.as_ref().ok()).flatten().copied().collect();
    assert_eq!(ids.len(), 1, "{many:?}");
    let answer = format!("1 {ids:?}").into_bytes();
    for other in many.iter().filter_map(|r| r.as_ref().err()) {
        let AddError::Answered(bytes) = other else { panic!("{other}") };
        assert_eq!(EarlierAnswer::from_bytes(bytes), Some(EarlierAnswer { digest: [1; 32], answer: answer.clone() }));
    }
    let Err(AddError::Answered(bytes)) = add(2, now).await else { panic!("the key was taken") };
    assert_eq!(EarlierAnswer::from_bytes(&bytes).unwrap().digest, [1; 32]);
    assert_eq!(f.listed().await.len(), 1);
    f.queue.replace_answer(request(1), b"other".to_vec()).await.unwrap();
    assert_eq!(f.queue.earlier_answer("ann", "k", now).await.unwrap().unwrap().answer, b"other");
    assert_eq!(f.queue.earlier_answer("bob", "k", now).await.unwrap(), None);
    let later = now.after(super::REQUEST_KEPT);
    assert_eq!(f.queue.earlier_answer("ann", "k", later).await.unwrap(), None);
    assert!(add(2, later).await.is_ok());
    // Taken without queueing anything.
    let batch = |digest: u8| RequestKey { key: "batch".to_owned(), ..request(digest) };
    let taken = |digest: u8| Some(EarlierAnswer { digest: [digest; 32], answer: Vec::new() });
    assert_eq!(f.queue.take_key(batch(3), later).await.unwrap(), None);
    assert_eq!(f.queue.take_key(batch(3), later).await.unwrap(), taken(3));
    assert_eq!(f.queue.take_key(batch(4), later).await.unwrap(), taken(3));
    assert_eq!(f.queue.take_key(request(4), later).await.unwrap().unwrap().digest, [2; 32]);
}

async fn who_is_named_twice_counts_twice(f: Fixture) {
    let add = |recipients: &[&str]| {
        let limits = Some(super::SendLimits { messages: 3, first_time: 1 });
        let entry = |to: &&str| NewEntry::new(Some(path("ann@a.example")), path(to), f.clock.now());
        let (message, entries) = (NewMessage { limits, ..f.message(b"body\r\n") }, recipients.iter().map(entry).collect());
        let queue = f.queue.clone();
        async move { queue.add(message, entries).await }
    };
    assert!(matches!(add(&["bob@b.example"; 4]).await, Err(AddError::MessageLimit)));
    assert_eq!(add(&["bob@b.example"; 2]).await.unwrap().len(), 2);
    assert!(matches!(add(&["bob@b.example"; 2]).await, Err(AddError::MessageLimit)));
    assert_eq!(add(&["bob@b.example"]).await.unwrap().len(), 1);
}
