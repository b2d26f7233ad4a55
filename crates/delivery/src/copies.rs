//! Copies of sent mail in the sender's mailbox for it: each exactly once, whatever happens in between.
//!
//! The queue notes a wanted copy in the transaction that queues the message ([`mox_store::queue::WithCopy`]). Who submits files it at once, with [`file`];
//! what a crash or a failing account left is filed later by [`file_waiting`], which the queue's runner calls.

use mox_store::queue::{CopyId, Queue};
use mox_store::{Append, Content, Error, Flags, Message, SpecialUse, Store};

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

/// Files the copies that wait. Failures are logged; those copies go on waiting.
pub(crate) async fn file_waiting(queue: &Queue, store: &Store) {
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
                let mut bytes = Vec::new();
                loop {
                    let chunk = body.next_chunk().await?;
                    if chunk.is_empty() {
                        break;
                    }
                    bytes.extend_from_slice(&chunk);
                }
                let message = Message { prefix: copy.prefix.clone(), content: Content::Bytes(bytes), structure: None, hash: None };
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
    use mox_store::queue::{Body, NewEntry, NewMessage, ReportKind, WithCopy};
    use mox_store::{Columns, MailboxName, Settings, UidSet};
    use mox_testkit::{SeededRandom, VirtualClock};
    use std::collections::BTreeMap;
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
                account: account.to_owned(),
                queued: self.clock.now(),
                prefix: b"Received: here\r\n".to_vec(),
                body: Body::Memory(body.into()),
                has_8bit: false,
                smtputf8: false,
                message_id: String::new(),
                subject: String::new(),
                body_utf8: None,
                report: ReportKind::None,
                future_release: String::new(),
                extra: BTreeMap::new(),
                envelope_id: None,
                return_full: false,
                limits: None,
                step: Some(step),
            };
            self.queue.add(message, vec![NewEntry::new(None, Path::from(recipient), self.clock.now())]).await.unwrap();
            id
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
        file_waiting(&f.queue, &f.store).await;
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
        file_waiting(&f.queue, &f.store).await;
        assert_eq!((f.sent().await.len(), f.waiting().await), (2, 0));
        // Filed at once, as usual.
        let id = f.add("ann", b"x").await;
        file(&f.queue, &f.store, "ann", id, Message::new(b"x".to_vec())).await.unwrap();
        file_waiting(&f.queue, &f.store).await;
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
        f.store.account("ann").await.unwrap().set_quota(Some(mox_base::ByteSize(1)));
        file_waiting(&f.queue, &f.store).await;
        assert_eq!((f.sent().await.len(), f.waiting().await), (0, 0));
        let id = f.add("ann", b"x").await;
        let filed = file(&f.queue, &f.store, "ann", id, Message::new(b"long".to_vec())).await;
        assert!(matches!(filed, Err(Error::OverQuota)));
        assert_eq!(f.waiting().await, 0);
    }
}
