//! From SMTP delivery to the webhook, over two databases.

use super::{Arrivals, ArrivalsParts};
use crate::inbound::{AcceptAll, Inbound, Incoming, RcptTo};
use crate::reports::DeadAddresses;
use crate::spool::Spool;
use mox_base::{Address, Clock as _, Host, Path, QueueId};
use mox_message::Structure;
use mox_store::directory::{
    AccountSettings, Destination, DestinationKey, Directory, DomainSettings, MailboxOf, OutgoingWebhook, Settings, SharedDirectory,
    WebhookTarget,
};
use mox_store::dmarc::DmarcStore;
use mox_store::queue::{self, Body, NewEntry, NewMessage, Page, Queue, ReportKind};
use mox_store::tls::TlsStore;
use mox_store::webhook::{Event, Filter, Sort, Webhook};
use mox_store::{Settings as StoreSettings, Store};
use mox_testkit::{SeededRandom, VirtualClock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

struct Fixture {
    store: Store,
    queue: Queue,
    directory: Arc<Directory>,
    clock: VirtualClock,
    arrivals: Arrivals,
    inbound: Inbound,
    dmarc: DmarcStore,
    tls: TlsStore,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(folder, VirtualClock::default()).await
    }

    async fn at(folder: tempfile::TempDir, clock: VirtualClock) -> Self {
        let store =
            Store::open(StoreSettings::sqlite(folder.path()), Arc::new(clock.clone()), Arc::new(SeededRandom::new(1))).await.unwrap();
        store.ensure_account("ann", &[]).await.unwrap();
        let queue = store.queue().await.unwrap();
        let target = |url: &str| WebhookTarget { url: url.to_owned(), authorization: None, secret: None };
        let account = AccountSettings {
            keep_retired_messages: Duration::from_secs(3600),
            incoming_webhook: Some(target("http://in.example")),
            outgoing_webhook: Some(OutgoingWebhook { target: target("http://out.example"), events: Vec::new() }),
            ..AccountSettings::new("ann")
        };
        let key = DestinationKey::Address("ann@a.example".parse().unwrap());
        let domain = DomainSettings { separators: vec!["+".to_owned()], ..DomainSettings::new("a.example".parse().unwrap()) };
        let new = || {
            Directory::new(Settings {
                hostname: "mx.a.example".parse().unwrap(),
                listener_hostnames: Vec::new(),
                postmaster: MailboxOf { account: "ann".to_owned(), mailbox: "Inbox".to_owned() },
                host_tls_reports: None,
                domains: vec![domain.clone()],
                accounts: vec![(account.clone(), vec![(key.clone(), Destination::default())])],
                everything: None,
            })
            .unwrap()
        };
        let directory = Arc::new(new());
        let shared = SharedDirectory::new(new());
        let dmarc = DmarcStore::open(&store).await.unwrap();
        let tls = TlsStore::open(&store).await.unwrap();
        let dead_addresses = Some(DeadAddresses::new(&dmarc, &tls, Arc::new(clock.clone())));
        let clock_of = Arc::new(clock.clone());
        let parts = ArrivalsParts { store: store.clone(), queue: queue.clone(), directory: shared, clock: clock_of, dead_addresses };
        let arrivals = Arrivals::new(parts);
        let inbound = Inbound::new(store.clone(), Arc::new(AcceptAll)).with_arrivals(arrivals.clone());
        Self { store, queue, directory, clock, arrivals, inbound, dmarc, tls, folder }
    }

    async fn reopened(self) -> Self {
        self.queue.close().await;
        self.store.close().await;
        Self::at(self.folder, self.clock).await
    }

    async fn deliver(&self, from: &str, to: &str, message: &str) {
        let message = message.replace('\n', "\r\n").into_bytes();
        let path = Path::from(to.parse::<Address>().unwrap());
        let incoming = Incoming {
            directory: Arc::clone(&self.directory),
            mail_from: (!from.is_empty()).then(|| Path::from(from.parse::<Address>().unwrap())),
            ehlo: Host::Domain("mx.remote.example".parse().unwrap()),
            remote_ip: "192.0.2.1".parse().unwrap(),
            received: self.clock.now(),
            smtputf8: false,
            requiretls: false,
            tls: None,
            msg_from: from.parse().ok(),
            verified_domains: vec![],
            authentication: crate::inbound::Authentication::default(),
            trace: b"Received: from somewhere\r\n".to_vec(),
            header: message.as_slice().into(),
            structure: Some(Structure::of(&message)),
            read: None,
            blocklists: Arc::from([]),
            message: Spool::from(message),
            patience: crate::inbound::Patience::default(),
        };
        let rcpt = RcptTo { found: self.directory.recipient(&path), path };
        assert_eq!(self.inbound.deliver(&incoming, &[rcpt]).await, [Ok(())]);
    }

    /// Tells, and gives what is to be called, oldest first.
    async fn told(&self) -> Vec<Webhook> {
        self.arrivals.tell("ann").await.unwrap();
        let sort = Sort { ascending: true, ..Sort::default() };
        let listed = self.queue.webhooks().list(Filter::default(), sort, Page::default()).await.unwrap();
        listed.into_iter().map(|l| l.row).collect()
    }

    async fn sent(&self, from_id: &str, recipient: &str) -> QueueId {
        self.sent_as(ReportKind::None, from_id, recipient).await
    }

    async fn sent_as(&self, report: ReportKind, from_id: &str, recipient: &str) -> QueueId {
        let message = NewMessage {
            message_id: "<orig@a.example>".to_owned(),
            subject: "hello".to_owned(),
            report,
            extra: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            ..NewMessage::new("ann".to_owned(), Body::Memory(b"x".as_slice().into()), self.clock.now())
        };
        let path = |text: &str| Path::from(text.parse::<Address>().unwrap());
        let entry = NewEntry {
            from_id: Some(from_id.to_owned()),
            ..NewEntry::new(Some(path(&format!("ann+{from_id}@a.example"))), path(recipient), self.clock.now())
        };
        self.queue.add(message, vec![entry]).await.unwrap()[0]
    }
}

const HELLO: &str = "From: Jo <jo@remote.example>\nTo: ann@a.example\nSubject: hi\nMessage-ID: <a@remote.example>\nDate: Mon, 23 Nov 2026 05:03:16 +0100\nContent-Type: text/plain; charset=utf-8\n\nhi\n";

fn dsn(recipient: &str, fields: &str) -> String {
    format!(
        "From: mailer-daemon@remote.example\nTo: ann@a.example\nSubject: Undelivered\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nIt failed.\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; remote.example\nArrival-Date: Mon, 23 Nov 2026 04:04:23 +0000 (UTC)\n\nFinal-Recipient: rfc822; {recipient}\n{fields}\n--b\nContent-Type: text/rfc822-headers\n\nMessage-Id: <orig@a.example>\nSubject: hello\n\n--b--\n"
    )
}

#[tokio::test]
async fn a_message_is_told_of() {
    let f = Fixture::new().await;
    f.deliver("jo@remote.example", "ann@a.example", HELLO).await;
    let told = f.told().await;
    let [webhook] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((webhook.event, webhook.url.as_str(), webhook.queue_id), (Event::Incoming, "http://in.example", None));
    let received = f.clock.now().rfc3339();
    assert_eq!(
        webhook.payload,
        format!(
            r#"{{"Version":0,"From":[{{"Name":"Jo","Address":"jo@remote.example"}}],"To":[{{"Name":"","Address":"ann@a.example"}}],"CC":[],"BCC":[],"ReplyTo":[],"Subject":"hi","MessageID":"<a@remote.example>","InReplyTo":"","References":[],"Date":"2026-11-23T05:03:16+01:00","Text":"hi\n","HTML":"","Structure":{{"ContentType":"text/plain","ContentTypeParams":{{"charset":"utf-8"}},"ContentID":"","ContentDisposition":"","Filename":"","DecodedSize":4,"Parts":[]}},"Meta":{{"MsgID":1,"MailFrom":"jo@remote.example","MailFromValidated":false,"MsgFromValidated":false,"RcptTo":"ann@a.example","DKIMVerifiedDomains":[],"RemoteIP":"192.0.2.1","Received":"{received}","MailboxName":"Inbox","Automated":false}}}}"#
        )
    );
    // Once, also when asked again.
    assert_eq!(f.told().await.len(), 1);
}

#[tokio::test]
async fn a_crash_before_telling_loses_nothing_and_after_it_doubles_nothing() {
    let f = Fixture::new().await;
    f.deliver("jo@remote.example", "ann@a.example", HELLO).await;
    let f = f.reopened().await;
    assert_eq!(f.told().await.len(), 1);
    // As if the note hadn't gone: it was told of already.
    f.deliver("jo@remote.example", "ann@a.example", HELLO).await;
    let account = f.store.account("ann").await.unwrap();
    let note = account.arrivals().await.unwrap().remove(0);
    assert_eq!(f.told().await.len(), 2);
    account.write(move |tx| tx.note_arrival(note.0, &note.1)).await.unwrap();
    assert_eq!(f.told().await.len(), 2);
    assert!(account.arrivals().await.unwrap().is_empty());
}

#[tokio::test]
async fn dsns_are_matched_by_the_address_they_come_to() {
    let f = Fixture::new().await;
    let id = f.sent("FromID1", "bob@b.example").await;
    let failed = dsn("bob@b.example", "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n");
    // Systems on the way may have changed the case.
    f.deliver("", "ann+fromid1@a.example", &failed).await;
    let told = f.told().await;
    let [webhook] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((webhook.event, webhook.queue_id, webhook.from_id.as_str()), (Event::Failed, Some(id), "FromID1"));
    for part in [
        r#""Event":"failed","DSN":true,"Suppressing":true"#,
        r#""MessageID":"<orig@a.example>","Subject":"hello""#,
        r#""SMTPCode":550,"SMTPEnhancedCode":"5.1.1","Error":"550 5.1.1 no such user","Extra":{"k":"v"}"#,
    ] {
        assert!(webhook.payload.contains(part), "{part}\n{}", webhook.payload);
    }
    let suppressed = f.queue.suppression(Some("ann".to_owned()), Path::from("bob@b.example".parse::<Address>().unwrap())).await.unwrap();
    assert!(suppressed.unwrap().reason.contains("DSN"));
    // Somebody answers to that address.
    f.deliver("bob@b.example", "ann+FromID1@a.example", HELLO).await;
    let told = f.told().await;
    assert_eq!(told.last().map(|w| (w.event, w.payload.contains(r#""DSN":false"#))), Some((Event::Unrecognized, true)));
    let entry = f.queue.list(queue::Filter::default(), queue::Sort::default(), Page::default()).await.unwrap().remove(0);
    let errors: Vec<&str> = entry.results.iter().map(|r| r.error.as_str()).collect();
    assert_eq!(errors, ["550 5.1.1 no such user", "incoming message not a dsn"]);
}

#[tokio::test]
async fn dsns_are_matched_by_the_message_they_return() {
    let f = Fixture::new().await;
    let id = f.sent("fid", "bob@b.example").await;
    let delayed = dsn("bob@b.example", "Action: delayed\nStatus: 4.4.1\n");
    f.deliver("", "ann@a.example", &delayed).await;
    let told = f.told().await;
    assert_eq!(told.iter().map(|w| (w.event, w.queue_id)).collect::<Vec<_>>(), [(Event::Delayed, Some(id))]);
    // Of somebody else's message, of another recipient, or with a sender: it is mail as any other.
    for (from, message) in
        [("", delayed.replace("orig@", "other@")), ("", delayed.replace("bob@", "eve@")), ("jo@remote.example", delayed.clone())]
    {
        f.deliver(from, "ann@a.example", &message).await;
        assert_eq!(f.told().await.last().map(|w| w.event), Some(Event::Incoming), "{message}");
    }
}

/// A complaint about the message that [`Fixture::sent`] makes. `about`: further fields of the report.
fn complaint(about: &str, original: &str) -> String {
    format!(
        "From: fbl@remote.example\nTo: ann@a.example\nSubject: complaint\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nSomebody complained.\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: Remote/1\nVersion: 1\n{about}\n--b\nContent-Type: message/rfc822\n\nMessage-Id: <orig@a.example>\n{original}Subject: hello\n\nhi\n--b--\n"
    )
}

#[tokio::test]
async fn complaints_suppress_who_complains() {
    let f = Fixture::new().await;
    let bob = || Path::from("bob@b.example".parse::<Address>().unwrap());
    // By the id in the reverse-path, as the report has it or as the message was delivered with.
    for (about, original) in [("Original-Mail-From: <ann+FromID1@a.example>\n", ""), ("", "Return-Path: <ann+fromid1@a.example>\n")] {
        let id = f.sent("FromID1", "bob@b.example").await;
        f.deliver("fbl@remote.example", "ann@a.example", &complaint(about, original)).await;
        let told = f.told().await;
        assert_eq!(told.last().map(|w| (w.event, w.queue_id)), Some((Event::Unrecognized, Some(id))));
        let reason = "complaint of type abuse from recipient, reported by Remote/1";
        let payload = &told.last().unwrap().payload;
        assert!(payload.contains(r#""Suppressing":true"#) && payload.contains(&format!(r#""Error":"{reason}""#)), "{payload}");
        let suppressed = f.queue.suppression(Some("ann".to_owned()), bob()).await.unwrap().unwrap();
        assert_eq!((suppressed.manual, suppressed.reason.as_str()), (false, reason));
        f.queue.unsuppress("ann".to_owned(), bob()).await.unwrap();
        f.queue.cancel(queue::Filter::default(), queue::Cancel::Drop, f.clock.now(), Arc::new(queue::NoAftermath)).await.unwrap();
    }
    assert_eq!(f.queue.check().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn complaints_that_anybody_can_write_are_mail_as_any_other() {
    let f = Fixture::new().await;
    f.sent("fid", "bob@b.example").await;
    let suppressed = async || f.queue.suppressions(None, None, 10).await.unwrap().len();
    let by_id = complaint("Original-Rcpt-To: <bob@b.example>\n", "");
    let not_spam = complaint("Original-Mail-From: <ann+fid@a.example>\n", "").replace("abuse", "not-spam");
    let unknown = complaint("Original-Mail-From: <ann+other@a.example>\n", "");
    for message in [&by_id, &not_spam, &unknown] {
        f.deliver("fbl@remote.example", "ann@a.example", message).await;
        assert_eq!(f.told().await.last().map(|w| w.event), Some(Event::Incoming), "{message}");
        assert_eq!(suppressed().await, 0);
    }
    // With a signature of the recipient's organization, the Message-ID is enough; who complained may be left out when only one can be meant.
    let eve = by_id.replace("bob@", "eve@");
    let nobody = complaint("", "");
    for (message, signer, want) in [
        (&by_id, "remote.example", 0),
        (&nobody, "remote.example", 0),
        (&eve, "b.example", 0),
        (&nobody, "fbl.b.example", 1),
        (&by_id, "b.example", 1),
    ] {
        f.deliver("fbl@remote.example", "ann@a.example", message).await;
        let account = f.store.account("ann").await.unwrap();
        let (id, note) = account.arrivals().await.unwrap().remove(0);
        let signed = note.replace(r#""dkim_domains":[]"#, &format!(r#""dkim_domains":["{signer}"]"#));
        assert_ne!(signed, note);
        account.forget_arrivals(id).await.unwrap();
        account.write(move |tx| tx.note_arrival(id, &signed)).await.unwrap();
        f.told().await;
        assert_eq!(suppressed().await, want, "{signer}: {message}");
    }
}

/// A report that was accepted, and bounced later.
#[tokio::test]
async fn reports_that_bounce_are_remembered() {
    let f = Fixture::new().await;
    f.sent_as(ReportKind::Dmarc, "fid", "bob@b.example").await;
    let failed = dsn("bob@b.example", "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n");
    f.deliver("", "ann@a.example", &failed).await;
    f.told().await;
    let dead = f.dmarc.suppressions().list(f.clock.now(), "", 10).await.unwrap();
    let [dead] = dead.as_slice() else { panic!("{dead:?}") };
    assert_eq!((dead.address.as_str(), dead.comment.as_str()), ("bob@b.example", "report not delivered: 550 5.1.1 no such user"));
    let path = Path::from("bob@b.example".parse::<Address>().unwrap());
    assert!(f.queue.suppression(Some("ann".to_owned()), path).await.unwrap().is_none(), "other mail goes there");
}

/// By a host that says neither what it was about nor to whom.
#[tokio::test]
async fn reports_that_bounce_are_known_by_their_sender() {
    let f = Fixture::new().await;
    let id = "AbCdEfGhIjKlMnOpQrStUv";
    f.sent_as(ReportKind::Tls, id, "bob@b.example").await;
    let failed = dsn("eve@elsewhere.example", "Action: failed\nStatus: 5.1.1\n").replace("orig@", "other@");
    f.deliver("", &format!("postmaster+{id}@mx.a.example"), &failed).await;
    f.told().await;
    let dead = f.tls.suppressions().list(f.clock.now(), "", 10).await.unwrap();
    assert_eq!(dead.iter().map(|dead| dead.address.as_str()).collect::<Vec<_>>(), ["bob@b.example"]);
}

#[tokio::test]
async fn another_accounts_ids_are_nobodys_business() {
    let f = Fixture::new().await;
    f.deliver("", "ann+unknown@a.example", &dsn("bob@b.example", "Action: failed\nStatus: 5.1.1\n")).await;
    assert_eq!(f.told().await.iter().map(|w| w.event).collect::<Vec<_>>(), [Event::Incoming]);
}
