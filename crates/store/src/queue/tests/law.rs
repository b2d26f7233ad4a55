//! The conservation law, whatever happens in whatever order: each entry that was ever queued is queued, or ended in one way, which was told once.
//!
//! A model follows random operations of administrators, of servers that deliver, crash and come too late, and of time. After each, what
//! is stored is compared with it, and checked from scratch. What comes by chance comes from fixed seeds.

use super::*;
use crate::queue::hold::HoldRule;
use mox_base::{DeliverBy, WhenLate};
use std::collections::BTreeSet;

/// How long entries of accounts are remembered, and what of them is announced.
#[derive(Debug)]
struct Accounts;

impl Aftermath for Accounts {
    fn keep_until(&self, account: &str, now: Timestamp) -> Option<Timestamp> {
        (account == "ann").then(|| now.after(HOUR * 5))
    }

    fn suppressed_until(&self, _account: &str, now: Timestamp) -> Option<Timestamp> {
        Some(now.after(HOUR))
    }

    fn is_announced(&self, _account: &str, _kind: EventKind) -> bool {
        true
    }

    fn webhook(&self, event: &Event<'_>) -> Option<NewWebhook> {
        Keep(None).webhook(event)
    }
}

/// A claim that somebody has.
struct Held {
    claim: Claim,
    owner: Owner,
    until: Timestamp,
}

/// What became of an entry, and until when that is remembered.
type End = (EventKind, Option<Timestamp>);

struct Law {
    f: Fixture,
    random: SeededRandom,
    /// Every entry there ever was, with its account and how it ended.
    entries: BTreeMap<QueueId, (&'static str, Option<End>)>,
    claims: Vec<Held>,
    rules: Vec<i64>,
    owners: i64,
    /// What happened, for who reads of a failure.
    story: Vec<String>,
}

impl Law {
    fn new(f: Fixture, seed: u64) -> Self {
        Self { f, random: SeededRandom::new(seed), entries: BTreeMap::new(), claims: vec![], rules: vec![], owners: 0, story: vec![] }
    }

    fn below(&self, n: u64) -> u64 {
        self.random.below(n)
    }

    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn one_of<T: Copy>(&self, all: &[T]) -> T {
        all[usize::try_from(self.below(u64::try_from(all.len()).unwrap())).unwrap()]
    }

    fn now(&self) -> Timestamp {
        self.f.clock.now()
    }

    fn tell(&mut self, what: String) {
        self.story.push(what);
    }

    /// Some of the entries, or those of a domain or an account.
    fn some(&self) -> Filter {
        let waiting: Vec<QueueId> = self.waiting().into_iter().collect();
        match self.below(5) {
            0 => Filter { account: Some(self.one_of(&["ann", "bob"]).to_owned()), ..Filter::default() },
            1 => Filter { recipient_domain: self.one_of(&["b.example", "c.example"]).parse().ok(), ..Filter::default() },
            2 => Filter { max: Some(1 + self.below(3)), ..Filter::default() },
            // None at all would mean all.
            _ if waiting.is_empty() => Filter { ids: vec![QueueId(i64::MAX)], ..Filter::default() },
            _ => Filter { ids: (0..=self.below(3)).map(|_| self.one_of(&waiting)).collect(), ..Filter::default() },
        }
    }

    fn waiting(&self) -> BTreeSet<QueueId> {
        self.entries.iter().filter(|(_, (_, end))| end.is_none()).map(|(id, _)| *id).collect()
    }

    fn ended(&mut self, id: QueueId, kind: EventKind) {
        let now = self.now();
        if let Some((account, end @ None)) = self.entries.get_mut(&id) {
            *end = Some((kind, Accounts.keep_until(account, now)));
        }
    }

    async fn add(&mut self) {
        let (now, account) = (self.now(), self.one_of(&["ann", "bob"]));
        let deliver_by = self.one_in(4).then(|| DeliverBy {
            at: now.after(HOUR * u32::try_from(1 + self.below(4)).unwrap()),
            late: self.one_of(&[WhenLate::Return, WhenLate::Notify]),
            trace: false,
        });
        let message = NewMessage {
            account: account.to_owned(),
            urgency: self.one_of(&[Urgency::Interactive, Urgency::Bulk]),
            deliver_by,
            ..self.f.message(&vec![b'x'; usize::try_from(self.below(100_000)).unwrap()])
        };
        let to = ["a@b.example", "b@b.example", "c@b.example", "a@c.example", "a@d.example", "b@d.example"];
        let recipients: BTreeSet<&str> = (0..=self.below(4)).map(|_| self.one_of(&to)).collect();
        let entry = |to: &&str| NewEntry {
            hold: self.one_in(10),
            next_attempt: if self.one_in(5) { now.after(HOUR) } else { now },
            ..NewEntry::new(Some(path("ann@a.example")), path(to), now)
        };
        let ids = self.f.queue.add(message, recipients.iter().map(entry).collect()).await.unwrap();
        self.tell(format!("{account} adds {ids:?}"));
        for id in ids {
            assert!(self.entries.insert(id, (account, None)).is_none(), "an id came again");
        }
    }

    async fn claim(&mut self) {
        self.owners += 1;
        let owner = Owner(self.owners);
        let claiming =
            Claiming { owner, now: self.now(), domains: 1 + usize::try_from(self.below(3)).unwrap(), lease: HOUR, turn: self.below(4) };
        for claim in self.f.queue.claim(claiming, |_, before| HOUR / 2 * (before + 1)).await.unwrap() {
            self.tell(format!("{owner:?} claims {:?} of {}", ids(&claim), claim.domain()));
            let others = self.claims.iter().filter(|held| held.until > self.now() && held.claim.domain() == claim.domain());
            assert_eq!(others.count(), 0, "a domain has two owners: {:#?}", self.story);
            assert!(ids(&claim).iter().all(|id| self.waiting().contains(id)), "what ended is claimed: {:#?}", self.story);
            self.claims.push(Held { claim, owner, until: self.now().after(HOUR) });
        }
    }

    /// One of those who have a claim is done, perhaps too late.
    async fn finish(&mut self) {
        let n = u64::try_from(self.claims.len()).unwrap();
        if n == 0 {
            return;
        }
        let Held { claim, owner, .. } = self.claims.remove(usize::try_from(self.below(n)).unwrap());
        if self.one_in(10) {
            self.tell(format!("{owner:?} gives up"));
            return self.f.queue.release(claim.domain(), owner).await.unwrap();
        }
        let next = self.now().after(HOUR);
        let endings = [
            Ending::Delivered,
            Ending::Delivered,
            Ending::Failed,
            Ending::Suppressed,
            Ending::Retry,
            Ending::Retry,
            Ending::Uncounted { next },
            Ending::Held { reason: HoldReason::Transport },
        ];
        let mut outcomes = Vec::new();
        for entry in &claim.entries {
            let ending = self.one_of(&endings);
            let error = if ending == Ending::Delivered { "" } else { "no" };
            let told_late = entry.by_due.is_some_and(|by| by <= self.now()) && self.one_in(2);
            outcomes.push(Outcome { told_late, ..self.f.outcome(entry, error, ending) });
            self.tell(format!("{owner:?} finishes {:?}: {ending:?}", entry.id));
        }
        let ended: Vec<(QueueId, Ending)> = outcomes.iter().map(|o| (o.id, o.ending)).collect();
        let finished = self.f.queue.finish(claim.domain(), owner, outcomes, Arc::new(Accounts)).await.unwrap();
        for (id, ending) in ended {
            let gone = !self.waiting().contains(&id);
            assert_eq!(finished.gone.contains(&id), gone, "{id:?}: {:#?}", self.story);
            match ending {
                Ending::Delivered => self.ended(id, EventKind::Delivered),
                Ending::Failed => self.ended(id, EventKind::Failed),
                Ending::Suppressed => self.ended(id, EventKind::Suppressed),
                Ending::Retry | Ending::Uncounted { .. } | Ending::Held { .. } => {}
            }
        }
    }

    async fn cancel(&mut self) {
        let how = self.one_of(&[Cancel::Fail, Cancel::Drop]);
        let filter = self.some();
        self.tell(format!("an administrator: {how:?} {filter:?}"));
        let before = self.stored("queue_entry").await;
        let count = self.f.queue.cancel(filter, how, self.now(), Arc::new(Accounts)).await.unwrap();
        let after = self.stored("queue_entry").await;
        let gone: Vec<QueueId> = before.difference(&after).copied().collect();
        assert_eq!(u64::try_from(gone.len()), Ok(count));
        for id in gone {
            self.ended(id, if how == Cancel::Fail { EventKind::Failed } else { EventKind::Canceled });
        }
    }

    /// Changes that end nothing.
    async fn change(&mut self) {
        let filter = self.some();
        let queue = &self.f.queue;
        let kind = self.below(6);
        match kind {
            0 => queue.set_hold(filter, true).await.unwrap(),
            1 | 2 => queue.set_hold(filter, false).await.unwrap(),
            3 => queue.reschedule(filter, Reschedule::At(self.now())).await.unwrap(),
            4 => queue.reschedule(filter, Reschedule::Add(60_000_000)).await.unwrap(),
            _ => queue.set_require_tls(filter, self.one_of(&[None, Some(true)])).await.unwrap(),
        };
        self.tell(format!("an administrator makes change {kind}"));
    }

    async fn rule(&mut self) {
        match self.rules.pop() {
            Some(id) => assert!(self.f.queue.remove_hold_rule(id).await.unwrap()),
            None => {
                let rule = HoldRule { recipient_domain: "d.example".parse().ok(), ..HoldRule::default() };
                self.rules.push(self.f.queue.add_hold_rule(rule).await.unwrap().0);
            }
        }
        self.tell(format!("rules are now {:?}", self.rules));
    }

    /// Who had claims is forgotten.
    async fn crash(mut self) -> Self {
        self.claims.clear();
        self.f = self.f.reopened().await;
        self.f.clock.advance(HOUR);
        self.tell("crash".to_owned());
        self
    }

    async fn cleanup(&mut self) {
        let now = self.now();
        self.f.queue.remove_expired(now).await.unwrap();
        for (_, end) in self.entries.values_mut() {
            if let Some((_, keep)) = end {
                *keep = keep.filter(|until| *until >= now);
            }
        }
        self.tell("cleanup".to_owned());
    }

    async fn stored(&self, table: &'static str) -> BTreeSet<QueueId> {
        let read = self.f.queue.db.read(move |tx| {
            let mut ids = BTreeSet::new();
            tx.query(&format!("SELECT id FROM {table}"), &[], |row| {
                ids.insert(QueueId(row.int(0)?));
                Ok::<_, Error>(())
            })?;
            Ok::<_, Error>(ids)
        });
        read.await.unwrap()
    }

    /// What was told of how entries ended.
    async fn told(&self) -> Vec<(QueueId, String)> {
        let read = self.f.queue.db.read(|tx| {
            let mut told = Vec::new();
            tx.query("SELECT queue_id, event FROM webhook WHERE event <> 'delayed' ORDER BY queue_id, event", &[], |row| {
                told.push((QueueId(row.int(0)?), row.text(1)?.to_owned()));
                Ok::<_, Error>(())
            })?;
            Ok::<_, Error>(told)
        });
        read.await.unwrap()
    }

    async fn compare(&self) {
        assert_eq!(self.stored("queue_entry").await, self.waiting(), "queued: {:#?}", self.story);
        let kept: BTreeSet<QueueId> =
            self.entries.iter().filter(|(_, (_, end))| end.is_some_and(|(_, keep)| keep.is_some())).map(|(id, _)| *id).collect();
        assert_eq!(self.stored("queue_retired").await, kept, "remembered: {:#?}", self.story);
        let ended: Vec<(QueueId, String)> =
            self.entries.iter().filter_map(|(id, (_, end))| end.map(|(kind, _)| (*id, kind.name().to_owned()))).collect();
        assert_eq!(self.told().await, ended, "told: {:#?}", self.story);
        assert_eq!(self.f.queue.check().await.unwrap().problems, Vec::<String>::new(), "{:#?}", self.story);
    }

    async fn step(mut self) -> Self {
        match self.below(24) {
            0..5 => self.add().await,
            5..10 => self.claim().await,
            10..15 => self.finish().await,
            15..17 => self.change().await,
            17 => self.cancel().await,
            18 => self.rule().await,
            19 => self = self.crash().await,
            20 => self.cleanup().await,
            _ => self.f.clock.advance(HOUR / 4 * u32::try_from(self.below(8)).unwrap()),
        }
        self
    }
}

pub(super) async fn every_entry_ends_once(f: Fixture) {
    let postgres = matches!(f.location, Location::Postgres(_));
    let mut law = Law::new(f, 1);
    for seed in 0..if postgres { 2 } else { 8 } {
        law.random = SeededRandom::new(seed);
        law.tell(format!("seed {seed}"));
        for _ in 0..if postgres { 40 } else { 60 } {
            law = law.step().await;
            law.compare().await;
        }
    }
    // In the end, all that is left can be delivered.
    law.f.queue.set_hold(Filter::default(), false).await.unwrap();
    for _ in 0..1000 {
        law.f.clock.advance(HOUR * 2);
        law.claims.clear();
        law.claim().await;
        for Held { claim, owner, .. } in std::mem::take(&mut law.claims) {
            let outcomes: Vec<Outcome> = claim.entries.iter().map(|e| law.f.outcome(e, "", Ending::Delivered)).collect();
            law.f.queue.finish(claim.domain(), owner, outcomes, Arc::new(Accounts)).await.unwrap();
            ids(&claim).into_iter().for_each(|id| law.ended(id, EventKind::Delivered));
        }
        if law.waiting().is_empty() {
            break;
        }
    }
    law.compare().await;
    assert!(law.waiting().is_empty() && law.entries.len() > 10);
}
