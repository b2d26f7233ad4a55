//! Databases of earlier versions open, with all that is in them: today's database, taken back to what the version had.

use crate::fixture::{Fixture, add, clean, for_each_engine, inbox, uids};
use mox_base::{Address, ByteSize, Clock as _, MailboxId};
use mox_store::db::schema::Schema;
use mox_store::db::{Error as DbError, NoFaults};
use mox_store::queue::{AddError, Body, NewEntry, NewMessage, QueueRoom};
use mox_store::{Account, Columns, Error, FlagChange, FlagOp, Flags};
use std::sync::Arc;

/// Only what is there.
const NOTHING: Schema = Schema { name: "nothing", migrations: &[] };

impl Fixture {
    /// Runs statements on a database, and opens the store again.
    async fn taken_back(&mut self, database: &str, statements: &'static [&'static str]) {
        self.store.close().await;
        self.reopen(Arc::new(NoFaults)).await.unwrap();
        let db = self.store.database(database, &NOTHING).await.unwrap();
        db.write(|tx| statements.iter().try_for_each(|sql| tx.exec(*sql, &[]).map(|_| ())))
            .await
            .unwrap_or_else(|e: DbError| panic!("{e}"));
        db.close().await;
        self.reopen(Arc::new(NoFaults)).await.unwrap();
    }
}

/// The flags of all messages, in their order.
async fn flags(account: &Account, mailbox: MailboxId) -> Vec<Flags> {
    let mut all = Vec::new();
    let view = account.view(mailbox).await.unwrap();
    view.for_each(&view.uids(), |e| all.push(e.flags));
    all
}

fn queued(f: &Fixture) -> (NewMessage, Vec<NewEntry>) {
    let now = f.clock.now();
    let message = NewMessage::new("ann".to_owned(), Body::Memory(vec![b'x'; 100_000].into()), now);
    let recipient: Address = "bob@b.example".parse().unwrap();
    (message, vec![NewEntry::new(None, recipient.into(), now)])
}

/// What takes a queue back to before it had classes and room.
const BEFORE_CLASSES: &[&str] = &[
    "ALTER TABLE queue_message DROP COLUMN priority",
    "ALTER TABLE queue_message DROP COLUMN deliver_by",
    "ALTER TABLE queue_message DROP COLUMN by_mode",
    "ALTER TABLE queue_entry DROP COLUMN by_due",
    "DROP TABLE queue_room",
    "DROP INDEX queue_entry_account",
    "DROP INDEX queue_retired_account",
    "DROP INDEX queue_suppression_expires",
    "ALTER TABLE queue_suppression DROP COLUMN expires",
    "ALTER TABLE queue_entry DROP COLUMN hold_reason",
    "DROP INDEX queue_domain_urgent",
    "ALTER TABLE queue_domain DROP COLUMN next_urgent",
    "DROP INDEX queue_entry_due_of_class",
    "ALTER TABLE queue_entry DROP COLUMN bulk",
    "CREATE INDEX queue_entry_due ON queue_entry (domain, hold, next_attempt, id)",
    "ALTER TABLE queue_message DROP COLUMN sign_domain",
    "ALTER TABLE queue_message DROP COLUMN signature",
    "ALTER TABLE queue_message DROP COLUMN signed_by",
    "ALTER TABLE queue_message DROP COLUMN sign_again",
    "UPDATE schema_version SET version = 7 WHERE name = 'queue'",
];

for_each_engine! {
    async fn queues_before_totals_and_copies(f: Fixture) {
        let mut f = f;
        let queue = f.store.queue().await.unwrap();
        let (message, entries) = queued(&f);
        queue.add(message, entries).await.unwrap();
        queue.close().await;
        f.taken_back("queue", BEFORE_CLASSES).await;
        f.taken_back("queue", &[
            "DROP TABLE queue_pause",
            "DROP TABLE queue_copy",
            "DROP TABLE queue_tally",
            "UPDATE schema_version SET version = 6 WHERE name = 'queue'",
        ]).await;
        let queue = f.store.queue().await.unwrap();
        let (message, entries) = queued(&f);
        queue.add(message, entries).await.unwrap();
        let report = queue.check().await.unwrap();
        assert_eq!((report.messages, report.entries, report.queued, report.problems), (2, 2, 2, Vec::new()));
        queue.close().await;
        f.finish().await;
    }

    async fn queues_before_classes_and_room(f: Fixture) {
        let mut f = f;
        let queue = f.store.queue().await.unwrap();
        let (message, entries) = queued(&f);
        queue.add(message, entries).await.unwrap();
        queue.close().await;
        f.taken_back("queue", BEFORE_CLASSES).await;
        let queue = f.store.queue().await.unwrap();
        let (message, entries) = queued(&f);
        let room = Some(QueueRoom { messages: 2, bytes: 0 });
        queue.add(NewMessage { room, ..message }, entries).await.unwrap();
        let (message, entries) = queued(&f);
        assert!(matches!(queue.add(NewMessage { room, ..message }, entries).await, Err(AddError::QueuedMessages)));
        assert_eq!(queue.check().await.unwrap().problems, Vec::<String>::new());
        queue.close().await;
        f.finish().await;
    }

    async fn accounts_before_zones_and_notes_of_history(f: Fixture) {
        let mut f = f;
        let account = f.account().await;
        let mailbox = inbox(&account);
        add(&account, mailbox, &[Flags::NONE, Flags::SEEN]).await;
        let before: Vec<Flags> = flags(&account, mailbox).await;
        drop(account);
        f.taken_back("accounts/ann/account", &[
            "ALTER TABLE message_state DROP COLUMN zone",
            "ALTER TABLE expunged DROP COLUMN zone",
            "ALTER TABLE message_state DROP COLUMN blob_id",
            "ALTER TABLE expunged DROP COLUMN blob_id",
            "DROP TABLE history_note",
            "DROP TABLE flag_modseqs",
            "DROP TABLE author",
            "DROP TABLE copied",
            // Flags, as they were when the message came.
            "ALTER TABLE message_state ADD COLUMN flags INTEGER NOT NULL DEFAULT 65537",
            "ALTER TABLE expunged ADD COLUMN flags INTEGER NOT NULL DEFAULT 1",
            "DROP TABLE template",
            "UPDATE schema_version SET version = 3 WHERE name = 'account'",
        ]).await;
        let account = f.account().await;
        assert_eq!(clean(&account).await, 2);
        assert_eq!(flags(&account, mailbox).await, before);
        f.clock.set_zone(60);
        add(&account, mailbox, &[Flags::NONE]).await;
        account.read(move |tx| {
            let mut zones = Vec::new();
            tx.fetch_rows(mailbox, &uids(&[(1, 9)]), Columns::STATE, |row| {
                zones.push(row.zone()?);
                Ok::<_, Error>(true)
            })?;
            assert_eq!(zones, [0, 0, 60]);
            // Where the bytes are, rows of the earlier version don't say.
            let mut sizes = Vec::new();
            tx.fetch_rows(mailbox, &uids(&[(1, 9)]), Columns::BYTES, |row| {
                let mut bytes = Vec::new();
                row.append_bytes(tx, 0..u64::MAX, &mut bytes)?;
                sizes.push((row.size()?, ByteSize(bytes.len() as u64)));
                Ok::<_, Error>(true)
            })?;
            assert!(sizes.len() == 3 && sizes.iter().all(|(size, bytes)| size == bytes), "{sizes:?}");
            Ok::<_, Error>(())
        }).await.unwrap();
        // Rows have the mod-sequences that the earlier version gave them, until flags change again.
        let change = FlagChange { op: FlagOp::Add, flags: Flags::FLAGGED, keywords: Vec::new() };
        let flagged = account.write(move |tx| tx.store_flags(mailbox, &uids(&[(2, 2)]), &change, None)).await.unwrap().modseq;
        account.read(move |tx| {
            let mut modseqs = Vec::new();
            tx.fetch_rows(mailbox, &uids(&[(1, 9)]), Columns::MODSEQ, |row| {
                modseqs.push(row.modseq()?);
                Ok::<_, Error>(true)
            })?;
            assert!(modseqs[0] < modseqs[2] && modseqs[2] < modseqs[1] && Some(modseqs[1]) == flagged, "{modseqs:?}");
            Ok::<_, Error>(())
        }).await.unwrap();
        // They stay readable where they go.
        account.write(move |tx| tx.copy_messages(mailbox, &uids(&[(1, 1)]), mailbox)).await.unwrap();
        account.write(move |tx| tx.expunge(mailbox, &uids(&[(1, 1)]))).await.unwrap();
        account.read(move |tx| {
            let mut found = 0;
            tx.fetch_rows(mailbox, &uids(&[(4, 4)]), Columns::BYTES, |row| {
                row.append_bytes(tx, 0..u64::MAX, &mut Vec::new())?;
                found += 1;
                Ok::<_, Error>(true)
            })?;
            assert_eq!(found, 1);
            Ok::<_, Error>(())
        }).await.unwrap();
        f.finish().await;
    }
}
