//! Copies of sent mail in the sender's mailbox for it: each exactly once, whatever happens in between.
//!
//! The queue notes a wanted copy in the transaction that queues the message ([`mox_store::queue::WithCopy`]). Who submits files it at once, with [`file`];
//! what a crash or a failing account left is filed later by [`file_waiting`], which the queue's runner calls.

use crate::spool::{SpoolSettings, SpoolWriter};
use mox_store::directory::Directory;
use mox_store::queue::{CopyId, Queue};
use mox_store::{Append, Error, Flags, Message, SpecialUse, Store};

/// Copies looked at at a time.
const PAGE: u64 = 50;

/// Files a copy into the account's mailbox for sent mail, unless it is there already. Without such a mailbox, or without account, there is none.
///
/// # Errors
/// [`Error::OverQuota`]: then the copy isn't wanted any more. After other errors, it is filed later.
pub async fn file(queue: &Queue, store: &Store, account: &str, id: CopyId, message: Message) -> Result<(), Error> {
    let account = match store.account(account).await {
        Err(Error::NoAccount) => {
            queue.copy_filed(id);
            return Ok(());
        }
        account => account?,
    };
    if let Some(mailbox) = account.mailboxes().by_use(SpecialUse::SENT).map(|m| m.id) {
        let append = Append { flags: Flags::SEEN | Flags::NOTJUNK, ..Append::default() };
        let filed = account
            .write_message(message, move |tx, prepared| {
                if tx.copy_once(id)? {
                    tx.add(mailbox, prepared, &append)?;
                }
                Ok::<_, Error>(())
            })
            .await;
        match filed {
            Err(Error::OverQuota) => {
                queue.copy_filed(id);
                return Err(Error::OverQuota);
            }
            filed => filed?,
        }
    }
    queue.copy_filed(id);
    Ok(())
}

/// Files the copies that wait, of accounts as they are configured now. Failures are logged; those copies go on waiting.
pub(crate) async fn file_waiting(queue: &Queue, store: &Store, directory: &Directory, spool: &SpoolSettings) {
    let mut last = None;
    loop {
        let copies = match queue.copies(last, PAGE).await {
            Ok(copies) => copies,
            Err(e) => {
                tracing::error!(error = %e, "looking for copies of sent mail");
                return;
            }
        };
        let Some(newest) = copies.last().map(|copy| copy.id) else { break };
        last = Some(newest);
        for copy in copies {
            let filed = async {
                let Some(mut body) = queue.open_body(copy.message).await? else { return Ok(()) };
                let mut writer = SpoolWriter::new(spool.clone());
                loop {
                    let chunk = body.next_chunk().await?;
                    if chunk.is_empty() {
                        break;
                    }
                    writer.write(&chunk).await?;
                }
                let content = writer.finish().await?.content()?;
                let message = Message { prefix: copy.prefix.clone(), content, structure: None, hash: None };
                // Nobody may have opened the account since the start.
                if let (Some(settings), Ok(account)) = (directory.account(&copy.account), store.account(&copy.account).await) {
                    account.configure(settings);
                }
                file(queue, store, &copy.account, copy.id, message).await
            };
            if let Err(e) = filed.await {
                tracing::error!(account = copy.account, error = %e, "filing a copy of sent mail");
            }
        }
    }
    if let Err(e) = queue.copies_forgotten().await {
        tracing::error!(error = %e, "forgetting copies of sent mail that were filed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_base::{Clock as _, Path};
    use mox_store::directory::{AccountSettings, MailboxOf, Settings as DirectorySettings};
    use mox_store::queue::{Body, NewEntry, NewMessage, WithCopy};
    use mox_store::{Columns, MailboxName, Settings, UidSet};
    use mox_testkit::{SeededRandom, VirtualClock};
    use std::sync::Arc;
    use tempfile::TempDir;

    struct Fixture {
        folder: TempDir,
        clock: VirtualClock,
        store: Store,
        queue: Queue,
        random: SeededRandom,
    }

    impl Fixture {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = VirtualClock::default();
            let (store, queue) = open(&folder, &clock).await;
            store.ensure_account("ann", &[(MailboxName::parse("Sent").unwrap(), SpecialUse::SENT)]).await.unwrap();
            store.ensure_account("bob", &[]).await.unwrap();
            Self { folder, clock, store, queue, random: SeededRandom::new(5) }
        }

        /// As after a crash.
        async fn restarted(self) -> Self {
            self.queue.close().await;
            self.store.close().await;
            let (store, queue) = open(&self.folder, &self.clock).await;
            Self { store, queue, ..self }
        }

        /// Queues a message with a copy, which isn't filed.
        async fn add(&self, account: &str, body: &[u8]) -> CopyId {
            let step = Arc::new(WithCopy::new(account.to_owned(), b"Bcc: <eve@x.example>\r\n".to_vec(), &self.random, None));
            let id = step.id();
            let recipient: mox_base::Address = "eve@x.example".parse().unwrap();
            let message = NewMessage {
                prefix: b"Received: here\r\n".to_vec(),
                step: Some(step),
                ..NewMessage::new(account.to_owned(), Body::Memory(body.into()), self.clock.now())
            };
            self.queue.add(message, vec![NewEntry::new(None, Path::from(recipient), self.clock.now())]).await.unwrap();
            id
        }

        /// With a limit for the account.
        async fn file_waiting(&self, quota: Option<mox_base::ByteSize>) {
            let settings = |name: &str| AccountSettings { quota, ..AccountSettings::new(name) };
            let directory = Directory::new(DirectorySettings {
                hostname: "mx.a.example".parse().unwrap(),
                listener_hostnames: Vec::new(),
                postmaster: MailboxOf { account: "ann".to_owned(), mailbox: "Inbox".to_owned() },
                host_tls_reports: None,
                domains: Vec::new(),
                accounts: vec![(settings("ann"), Vec::new())],
                everything: None,
            });
            let spool = SpoolSettings { in_memory: 8, folder: self.folder.path().to_owned() };
            file_waiting(&self.queue, &self.store, &directory.unwrap(), &spool).await;
        }

        async fn sent(&self) -> Vec<(Flags, String)> {
            let account = self.store.account("ann").await.unwrap();
            let mailbox = account.mailboxes().by_use(SpecialUse::SENT).unwrap().id;
            let view = account.view(mailbox).await.unwrap();
            account
                .read(move |tx| {
                    let mut sent = Vec::new();
                    tx.fetch_rows(mailbox, &UidSet::from_ranges([(1, 100)]), Columns::BYTES, |row| {
                        let mut bytes = Vec::new();
                        row.append_bytes(tx, 0..u64::MAX, &mut bytes)?;
                        let (flags, _) = view.flags(row.uid()).unwrap();
                        sent.push((flags, String::from_utf8(bytes).unwrap()));
                        Ok::<_, Error>(true)
                    })?;
                    Ok::<_, Error>(sent)
                })
                .await
                .unwrap()
        }

        async fn waiting(&self) -> usize {
            self.queue.copies(None, 100).await.unwrap().len()
        }
    }

    async fn open(folder: &TempDir, clock: &VirtualClock) -> (Store, Queue) {
        let random = Arc::new(SeededRandom::new(1));
        let store = Store::open(Settings::sqlite(folder.path()), Arc::new(clock.clone()), random).await.unwrap();
        let queue = store.queue().await.unwrap();
        (store, queue)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn copies_are_filed_once_whatever_happens_in_between() {
        let f = Fixture::new().await;
        f.add("ann", b"Subject: one\r\n\r\n1").await;
        // A crash between queueing and filing.
        let f = f.restarted().await;
        assert_eq!((f.sent().await.len(), f.waiting().await), (0, 1));
        f.file_waiting(None).await;
        let one = (Flags::SEEN | Flags::NOTJUNK, "Bcc: <eve@x.example>\r\nSubject: one\r\n\r\n1".to_owned());
        assert_eq!((f.sent().await, f.waiting().await), (vec![one.clone()], 0));
        // A crash between the account's commit and the queue's.
        let id = f.add("ann", b"Subject: two\r\n\r\n2").await;
        let account = f.store.account("ann").await.unwrap();
        let mailbox = account.mailboxes().by_use(SpecialUse::SENT).unwrap().id;
        let two = Message::new(b"Subject: two\r\n\r\n2".to_vec());
        account
            .write_message(two, move |tx, prepared| {
                assert!(tx.copy_once(id)?);
                tx.add(mailbox, prepared, &Append::default())
            })
            .await
            .unwrap();
        drop(account);
        let f = f.restarted().await;
        assert_eq!(f.waiting().await, 1);
        f.file_waiting(None).await;
        assert_eq!((f.sent().await.len(), f.waiting().await), (2, 0));
        // Filed at once, as usual.
        let id = f.add("ann", b"x").await;
        file(&f.queue, &f.store, "ann", id, Message::new(b"x".to_vec())).await.unwrap();
        f.file_waiting(None).await;
        assert_eq!((f.sent().await.len(), f.waiting().await), (3, 0));
        assert_eq!(f.queue.check().await.unwrap().problems, Vec::<String>::new());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn copies_without_a_place_are_not_waited_for() {
        let f = Fixture::new().await;
        // No mailbox for it; no account; no space.
        f.add("bob", b"x").await;
        f.add("gone", b"x").await;
        f.add("ann", b"x").await;
        // The account's limit counts, though nobody has opened the account.
        f.file_waiting(Some(mox_base::ByteSize(1))).await;
        assert_eq!((f.sent().await.len(), f.waiting().await), (0, 0));
        let id = f.add("ann", b"x").await;
        let filed = file(&f.queue, &f.store, "ann", id, Message::new(b"long".to_vec())).await;
        assert!(matches!(filed, Err(Error::OverQuota)));
        assert_eq!(f.waiting().await, 0);
    }
}
