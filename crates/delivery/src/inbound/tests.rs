use super::*;
use mox_base::Clock as _;
use mox_store::Settings as StoreSettings;
use mox_store::db::{Faults, Step};
use mox_store::directory::{
    AccountSettings, AliasSettings, Destination, DestinationKey, DomainSettings, HeaderPattern, MailboxOf, Ruleset, Settings,
};
use mox_testkit::{SeededRandom, VirtualClock};
use std::sync::Mutex;
use tempfile::TempDir;

const MESSAGE: &[u8] = b"From: <Bob@remote.example>\r\nSubject: hi\r\nList-ID: The List <L.remote.example>\r\n\r\nbody\r\n";

struct Fixture {
    store: Store,
    directory: Arc<Directory>,
    clock: VirtualClock,
    plan: Plan,
    folder: TempDir,
}

/// What shall fail, if anything.
#[derive(Clone, Debug, Default)]
struct Plan(Arc<Mutex<Option<mox_testkit::Faults>>>);

impl Faults for Plan {
    fn check(&self, step: Step) -> std::io::Result<()> {
        self.0.lock().unwrap().as_ref().map_or(Ok(()), |plan| plan.step(&format!("{step:?}")))
    }
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = VirtualClock::default();
    let plan = Plan::default();
    let store = open(&folder, &clock, &plan).await;
    for name in ["ann", "cas", "dot", "eve", "full"] {
        store.ensure_account(name, &[]).await.unwrap();
    }
    let ruleset = Ruleset {
        headers: vec![HeaderPattern { name: regex("^list-id$"), value: regex("<l\\.remote\\.example>$") }],
        smtp_mail_from: Some(regex("^bounces")),
        mailbox: "Lists/L".to_owned(),
        ..Ruleset::default()
    };
    let with_rules = Destination {
        rulesets: vec![Ruleset { verified_domain: Some("x.example".parse().unwrap()), ..ruleset.clone() }, ruleset],
        ..Destination::default()
    };
    let key = |a: &str| DestinationKey::Address(a.parse().unwrap());
    let alias = |localpart: &str, post_public, allow_msg_from| AliasSettings {
        localpart: localpart.parse().unwrap(),
        members: ["ann@a.example", "cas@a.example"].map(|m| m.parse().unwrap()).to_vec(),
        post_public,
        list_members: false,
        allow_msg_from,
    };
    let team = AliasSettings {
        members: ["ann@a.example", "cas@a.example", "dot@a.example", "eve@a.example"].map(|m| m.parse().unwrap()).to_vec(),
        ..alias("team", true, false)
    };
    let domain = DomainSettings {
        separators: vec!["+".to_owned()],
        aliases: vec![alias("public", true, false), alias("members", false, true), alias("closed", false, false), team],
        ..DomainSettings::new("a.example".parse().unwrap())
    };
    let settings = Settings {
        hostname: "mail.a.example".parse().unwrap(),
        listener_hostnames: vec![],
        postmaster: MailboxOf { account: "ann".to_owned(), mailbox: "Postmaster".to_owned() },
        host_tls_reports: None,
        domains: vec![domain],
        accounts: vec![
            (AccountSettings::new("ann"), vec![(key("ann@a.example"), with_rules)]),
            (AccountSettings::new("cas"), vec![(key("cas@a.example"), Destination::default())]),
            (AccountSettings::new("dot"), vec![(key("dot@a.example"), Destination::default())]),
            (AccountSettings::new("eve"), vec![(key("eve@a.example"), Destination::default())]),
            (
                AccountSettings { quota: Some(mox_base::ByteSize(10)), ..AccountSettings::new("full") },
                vec![(key("full@a.example"), Destination::default())],
            ),
            (AccountSettings::new("missing"), vec![(key("missing@a.example"), Destination::default())]),
        ],
        everything: None,
    };
    Fixture { store, directory: Arc::new(Directory::new(settings).unwrap()), clock, plan, folder }
}

async fn open(folder: &TempDir, clock: &VirtualClock, plan: &Plan) -> Store {
    let settings = StoreSettings { faults: Arc::new(plan.clone()), ..StoreSettings::sqlite(folder.path()) };
    Store::open(settings, Arc::new(clock.clone()), Arc::new(SeededRandom::default())).await.unwrap()
}

fn regex(pattern: &str) -> regex::Regex {
    regex::Regex::new(pattern).unwrap()
}

impl Fixture {
    fn incoming(&self, mail_from: &str, msg_from: &str) -> Incoming {
        let path = |s: &str| Path::from(s.parse::<Address>().unwrap());
        Incoming {
            directory: Arc::clone(&self.directory),
            mail_from: (!mail_from.is_empty()).then(|| path(mail_from)),
            ehlo: Host::Domain("mx.remote.example".parse().unwrap()),
            remote_ip: "192.0.2.1".parse().unwrap(),
            received: self.clock.now(),
            smtputf8: false,
            requiretls: false,
            tls: Some((0x304, 0x1301)),
            msg_from: msg_from.parse().ok(),
            verified_domains: vec![],
            authentication: Authentication::default(),
            trace: b"Received: from somewhere\r\n".to_vec(),
            header: MESSAGE.into(),
            message: Spool::from(MESSAGE.to_vec()),
            structure: None,
            read: None,
            patience: Patience::default(),
            blocklists: Arc::from([]),
        }
    }

    async fn deliver(&self, incoming: &Incoming, rcpts: &[&str]) -> Vec<String> {
        let rcpts: Vec<RcptTo> = rcpts
            .iter()
            .map(|r| {
                let path = Path::from(r.parse::<Address>().unwrap());
                RcptTo { found: self.directory.recipient(&path), path }
            })
            .collect();
        let outcomes = Inbound::new(self.store.clone(), Arc::new(Decide)).deliver(incoming, &rcpts).await;
        outcomes
            .into_iter()
            .map(|o| o.map_or_else(|r| format!("{} {}", r.reply.code, r.reply.lines.join("/")), |()| "ok".to_owned()))
            .collect()
    }

    /// Delivers with these faults.
    async fn deliver_with(&self, plan: &mox_testkit::Faults, incoming: &Incoming, rcpts: &[&str]) -> Vec<String> {
        *self.plan.0.lock().unwrap() = Some(plan.clone());
        let outcomes = self.deliver(incoming, rcpts).await;
        *self.plan.0.lock().unwrap() = None;
        outcomes
    }

    /// How many messages each member of the team has.
    async fn team(&self) -> [u32; 4] {
        let mut counts = [0; 4];
        for (count, member) in counts.iter_mut().zip(["ann", "cas", "dot", "eve"]) {
            *count = self.count(member, "Inbox").await;
        }
        counts
    }

    /// Everything holds in the team's accounts that must.
    async fn check(&self) {
        for member in ["ann", "cas", "dot", "eve"] {
            let report = self.store.account(member).await.unwrap().check().await.unwrap();
            assert_eq!(report.problems, Vec::<String>::new());
        }
    }

    /// How many messages are in a mailbox.
    async fn count(&self, account: &str, mailbox: &str) -> u32 {
        let account = self.store.account(account).await.unwrap();
        account.mailboxes().by_name(mailbox).map_or(0, |m| m.counts.messages)
    }
}

/// Refuses mail for `cas` from `spam`, and takes the rest.
#[derive(Debug)]
struct Decide;

impl InboundDecision for Decide {
    fn decide<'a>(&'a self, incoming: &'a Incoming, rcpt_to: &'a Path, recipient: &'a LocalRecipient) -> DecisionFuture<'a> {
        let spam = incoming.mail_from.as_ref().is_some_and(|m| m.localpart.as_str() == "spam");
        if recipient.account.name == "cas" && spam {
            return Box::pin(std::future::ready(Verdict::Reject(Refusal::new(Reply::new(451, (4, 3, 0), "refused")))));
        }
        AcceptAll.decide(incoming, rcpt_to, recipient)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_recipient_has_its_outcome() {
    let f = fixture().await;
    let incoming = f.incoming("bob@remote.example", "bob@remote.example");
    let outcomes =
        f.deliver(&incoming, &["nobody@a.example", "ann+x@a.example", "full@a.example", "missing@a.example", "x@elsewhere.example"]).await;
    assert_eq!(outcomes, ["550 no such user(s)", "ok", "452 account storage full", "451 error processing", "550 no such user(s)"]);
    assert_eq!(f.count("ann", "Inbox").await, 1);
    assert_eq!(f.count("full", "Inbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_fields_are_in_front() {
    let f = fixture().await;
    let incoming = f.incoming("bob@remote.example", "bob@remote.example");
    assert_eq!(f.deliver(&incoming, &["ann+x@a.example"]).await, ["ok"]);
    let null = f.incoming("", "bob@remote.example");
    let rcpt: Path = "ann@a.example".parse::<Address>().unwrap().into();
    let acceptance = Acceptance {
        mailbox: "Inbox".to_owned(),
        reason: b"X-Mox-Reason: none\r\n".to_vec(),
        is_forward: false,
        is_list: false,
        seen: false,
    };
    assert_eq!(
        String::from_utf8(prefix(&null, &rcpt, &acceptance, "")).unwrap(),
        "X-Mox-Reason: none\r\nDelivered-To: ann@a.example\r\nReturn-Path: <>\r\nReceived: from somewhere\r\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rulesets_choose_the_mailbox() {
    let f = fixture().await;
    assert_eq!(f.deliver(&f.incoming("bounces+1@remote.example", "bob@remote.example"), &["ann@a.example"]).await, ["ok"]);
    assert_eq!(f.count("ann", "Lists/L").await, 1);
    // Not all conditions hold.
    assert_eq!(f.deliver(&f.incoming("bob@remote.example", "bob@remote.example"), &["ann@a.example"]).await, ["ok"]);
    assert_eq!(f.count("ann", "Inbox").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_are_open_to_whom_they_say() {
    let f = fixture().await;
    for (alias, from, want) in [
        ("public", "bob@remote.example", "ok"),
        ("members", "bob@remote.example", "550 not allowed to send to destination"),
        ("members", "", "550 not allowed to send to destination"),
        ("members", "Ann+x@a.example", "ok"),
        ("members", "members@a.example", "ok"),
        ("closed", "closed@a.example", "550 not allowed to send to destination"),
    ] {
        let outcomes = f.deliver(&f.incoming("bob@remote.example", from), &[&format!("{alias}@a.example")]).await;
        assert_eq!(outcomes, [want], "{alias} {from}");
    }
    // Public and members@ as sender reached both; Ann's own message only the other.
    assert_eq!((f.count("ann", "Inbox").await, f.count("cas", "Inbox").await), (2, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alias_members_who_are_recipients_get_one_copy() {
    let f = fixture().await;
    let incoming = f.incoming("bob@remote.example", "bob@remote.example");
    assert_eq!(f.deliver(&incoming, &["public@a.example", "Ann+y@a.example"]).await, ["ok", "ok"]);
    assert_eq!((f.count("ann", "Inbox").await, f.count("cas", "Inbox").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_one_member_accepts_all_get_it() {
    let f = fixture().await;
    let spam = f.incoming("spam@remote.example", "bob@remote.example");
    assert_eq!(f.deliver(&spam, &["cas@a.example"]).await, ["451 refused"]);
    assert_eq!(f.deliver(&spam, &["public@a.example"]).await, ["ok"]);
    assert_eq!((f.count("ann", "Inbox").await, f.count("cas", "Inbox").await), (1, 1));
}

/// A crash at any step of a delivery to a list: whoever has the message doesn't get it again when its sender tries again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_halfway_through_a_list_doubles_nothing() {
    let mut f = fixture().await;
    let mut halfway = 0;
    let mut before = f.team().await;
    for n in 0.. {
        let incoming = Incoming {
            message: Spool::from(format!("Subject: {n}\r\n\r\n").into_bytes()),
            ..f.incoming("bob@remote.example", "bob@remote.example")
        };
        let plan = mox_testkit::Faults::from(n);
        let outcomes = f.deliver_with(&plan, &incoming, &["team@a.example"]).await;
        f.store.close().await;
        f.store = open(&f.folder, &f.clock, &f.plan).await;
        if !plan.fired() {
            assert_eq!(outcomes, ["ok"]);
            break;
        }
        let filed = f.team().await.iter().zip(before).map(|(now, before)| now - before).sum::<u32>();
        assert!(filed <= 4 && (filed == 4 || outcomes != ["ok"]), "step {n}: {outcomes:?} with {filed} copies");
        halfway += u32::from((1..4).contains(&filed));
        if outcomes != ["ok"] {
            assert_eq!(f.deliver(&incoming, &["team@a.example"]).await, ["ok"], "step {n}");
        }
        before = before.map(|n| n + 1);
        assert_eq!(f.team().await, before, "step {n}");
    }
    f.check().await;
    assert!(halfway > 10, "only {halfway} of the crashes were halfway");
}

/// One failure of ours at any step: who has the message has it once, and who lacks it gets it when the sender tries again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_halfway_through_a_list_is_made_good() {
    let f = fixture().await;
    for n in 0.. {
        let incoming = Incoming {
            message: Spool::from(format!("Subject: {n}\r\n\r\n").into_bytes()),
            ..f.incoming("bob@remote.example", "bob@remote.example")
        };
        let before = f.team().await;
        let plan = mox_testkit::Faults::at(n);
        let mut outcomes = f.deliver_with(&plan, &incoming, &["team@a.example"]).await;
        for _ in 0..2 {
            if outcomes != ["ok"] {
                outcomes = f.deliver(&incoming, &["team@a.example"]).await;
            }
        }
        assert_eq!(outcomes, ["ok"], "step {n}");
        assert_eq!(f.team().await, before.map(|n| n + 1), "step {n}");
        if !plan.fired() {
            break;
        }
    }
    f.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_the_same_to_a_list_twice_is_taken_at_their_word() {
    let f = fixture().await;
    let incoming = f.incoming("bob@remote.example", "bob@remote.example");
    let (one, two) = tokio::join!(f.deliver(&incoming, &["team@a.example"]), f.deliver(&incoming, &["team@a.example"]));
    assert_eq!((one, two), (vec!["ok".to_owned()], vec!["ok".to_owned()]));
    assert_eq!(f.deliver(&incoming, &["team@a.example"]).await, ["ok"]);
    f.store.close_idle(std::time::Duration::ZERO).await;
    assert_eq!(f.deliver(&incoming, &["team@a.example"]).await, ["ok"]);
    assert_eq!(f.count("cas", "Inbox").await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_forwarder_vouches_by_its_seal() {
    use mox_mailauth::arc::{ArcOutcome, ArcStatus};
    let f = fixture().await;
    let forward = Ruleset {
        smtp_mail_from: Some(regex("@remote")),
        verified_domain: Some("forwarder.example".parse().unwrap()),
        is_forward: true,
        mailbox: "Forwarded".to_owned(),
        ..Ruleset::default()
    };
    let destination = |is_forward| Destination { rulesets: vec![Ruleset { is_forward, ..forward.clone() }], ..Destination::default() };
    let mut incoming = f.incoming("bob@remote.example", "bob@remote.example");
    for (status, sealers, is_forward, want) in [
        (ArcStatus::Pass, ["a.example", "mx.forwarder.example"], true, "Forwarded"),
        (ArcStatus::Fail, ["a.example", "mx.forwarder.example"], true, "Inbox"),
        // Only who had it last is known to have handed on this.
        (ArcStatus::Pass, ["forwarder.example", "a.example"], true, "Inbox"),
        (ArcStatus::Pass, ["a.example", "forwarder.example"], false, "Inbox"),
    ] {
        let sealers = sealers.map(|s| s.parse().unwrap()).to_vec();
        incoming.authentication.arc = Some(ArcOutcome { status, sealers, ..ArcOutcome::none() });
        assert_eq!(choose(&destination(is_forward), &incoming).mailbox, want, "{status} {is_forward}");
    }
}
