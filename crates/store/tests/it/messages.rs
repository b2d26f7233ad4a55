//! Adding, reading, flagging, copying, moving and removing messages.

use crate::fixture::{Fixture, add, clean, for_each_engine, id, inbox, mail, name, numbers, uid, uids};
use mox_base::{ByteSize, MailboxId, MessageId, Timestamp};
use mox_store::{Account, Append, Columns, Content, Error, FlagChange, FlagOp, Flagged, Flags, Keyword, Message, SpecialUse};
use std::collections::BTreeMap;
use std::io::Write;

async fn bytes(account: &Account, id: MessageId, range: std::ops::Range<u64>) -> Vec<u8> {
    account
        .read(move |tx| {
            let mut out = Vec::new();
            tx.message_bytes(id, range, &mut out)?;
            Ok::<_, Error>(out)
        })
        .await
        .unwrap()
}

async fn flag(account: &Account, mailbox: MailboxId, set: &[(u32, u32)], op: FlagOp, flags: Flags, keywords: &[&str]) -> Flagged {
    let change = FlagChange { op, flags, keywords: keywords.iter().map(|k| Keyword::parse(k).unwrap()).collect() };
    let set = uids(set);
    account.write(move |tx| tx.store_flags(mailbox, &set, &change, None)).await.unwrap()
}

/// The mod-sequence of each message.
async fn modseqs(account: &Account, mailbox: MailboxId) -> BTreeMap<u32, u64> {
    account
        .read(move |tx| {
            let mut found = BTreeMap::new();
            tx.fetch_rows(mailbox, &uids(&[(1, u32::MAX)]), Columns::MODSEQ, |row| {
                found.insert(row.uid().get(), row.modseq()?.get());
                Ok::<_, Error>(true)
            })?;
            Ok::<_, Error>(found)
        })
        .await
        .unwrap()
}

/// Each message as `uid:flags keyword …`.
async fn shown(account: &Account, mailbox: MailboxId) -> Vec<String> {
    let view = account.view(mailbox).await.unwrap();
    let mut lines = Vec::new();
    view.for_each(&view.uids(), |e| {
        let keywords: String = view.keyword_names(e.keywords).map(|k| format!(" {k}")).collect();
        lines.push(format!("{}:{:x}{keywords}", e.uid, e.flags.bits()));
    });
    lines
}

for_each_engine! {
    async fn what_goes_in_comes_out(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        for size in [0, 100, 4096, 65_536, 65_537, 200_000, 1_000_000] {
            let content = if size == 0 { b"\r\n".to_vec() } else { let mut m = mail("x", size); m.truncate(size); m };
            let prefix = b"Received: from here\r\n".to_vec();
            let whole = [prefix.clone(), content.clone()].concat();
            let message = Message { prefix, ..Message::new(content) };
            let added = account.add(inbox, message, Append::default()).await.unwrap();
            let n = u64::try_from(whole.len()).unwrap();
            assert_eq!(bytes(&account, added.id, 0..n).await, whole, "{size}");
            for (from, to) in [(0, 0), (5, 25), (n / 2, n / 2 + 100), (65_530, 65_550), (n - 1, n + 10), (n, n + 1), (n + 5, n + 9)] {
                let at = |i: u64| usize::try_from(i.min(n)).unwrap();
                assert_eq!(bytes(&account, added.id, from..to).await, whole[at(from)..at(to)], "{size} {from} {to}");
            }
        }
        f.finish().await;
    }

    async fn a_message_from_a_spool_file(f: Fixture) {
        let account = f.account().await;
        let content = mail("spooled", 300_000);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let message = Message { prefix: b"X: y\r\n".to_vec(), content: Content::File(file), structure: None, hash: None };
        let prepared = account.prepare(message).await.unwrap();
        assert_eq!(prepared.size().0, u64::try_from(content.len()).unwrap() + 6);
        let inbox = inbox(&account);
        let added = account.write(move |tx| tx.add(inbox, &prepared, &Append::default())).await.unwrap();
        assert_eq!(bytes(&account, added.id, 6..1_000_000).await, content);
        f.finish().await;
    }

    async fn a_prepared_message_that_is_not_added_leaves_no_file(f: Fixture) {
        let account = f.account().await;
        let prepared = account.prepare(Message::new(mail("x", 100_000))).await.unwrap();
        assert!(!account.check().await.unwrap().is_clean(), "the file is there");
        drop(prepared);
        clean(&account).await;
        let prepared = account.prepare(Message::new(mail("x", 100_000))).await.unwrap();
        let failed = account.write(move |tx| tx.add(MailboxId(99), &prepared, &Append::default())).await;
        assert!(matches!(failed, Err(Error::NoMailbox)));
        clean(&account).await;
        f.finish().await;
    }

    async fn rows_have_what_imap_sends(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        let append = Append { flags: Flags::SEEN, received: Some(Timestamp::from_secs(1000)), ..Append::default() };
        account.add(inbox, Message::new([mail("hello", 0), b"first words\r\n".to_vec()].concat()), append).await.unwrap();
        let all = Columns::MODSEQ | Columns::ENVELOPE | Columns::BODYSTRUCTURE | Columns::HEADERS | Columns::STRUCTURE | Columns::PREVIEW | Columns::THREAD;
        let now = f.clock.clone();
        account.read(move |tx| {
            let mut rows = 0;
            tx.fetch_rows(inbox, &uids(&[(1, 100)]), all, |row| {
                rows += 1;
                assert_eq!((row.uid(), row.id()?, row.modseq()?.get()), (uid(1), MessageId(1), 3));
                assert_eq!((row.received()?.secs(), row.saved()?), (1000, Some(mox_base::Clock::now(&now))));
                let envelope = String::from_utf8(row.envelope()?.to_vec()).unwrap();
                assert!(envelope.starts_with("(NIL \"hello\" ((\"Ann\" NIL \"ann\" \"mox.example\"))"), "{envelope}");
                assert!(row.bodystructure()?.starts_with(b"(\"TEXT\" \"PLAIN\""));
                assert_eq!(row.headers()?.map(|h| h.starts_with(b"From: Ann")), Some(true));
                assert_eq!(row.size()?.0, row.structure()?.len());
                assert_eq!((row.preview()?.map(str::trim), row.thread_id()?), (Some("first words"), MessageId(1)));
                Ok::<_, Error>(true)
            })?;
            assert_eq!(rows, 1);
            Ok::<_, Error>(())
        }).await.unwrap();
        f.finish().await;
    }

    async fn fetch_stops_and_goes_on(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE; 10]).await;
        account.write(move |tx| tx.expunge(inbox, &uids(&[(4, 4)]))).await.unwrap();
        account.read(move |tx| {
            let set = uids(&[(2, 3), (5, 8), (10, 20)]);
            let mut seen = Vec::new();
            let stopped = tx.fetch_rows(inbox, &set, Columns::STATE, |row| {
                seen.push(row.uid().get());
                Ok::<_, Error>(seen.len() < 4)
            })?;
            assert_eq!((seen.as_slice(), stopped), ([2, 3, 5, 6].as_slice(), Some(uid(6))));
            let rest = set.starting_at(uid(7));
            let end = tx.fetch_rows(inbox, &rest, Columns::ENVELOPE, |row| {
                seen.push(row.uid().get());
                Ok::<_, Error>(true)
            })?;
            assert_eq!((seen.as_slice(), end), ([2, 3, 5, 6, 7, 8, 10].as_slice(), None));
            Ok::<_, Error>(())
        }).await.unwrap();
        f.finish().await;
    }

    async fn flags_are_added_removed_replaced(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE, Flags::SEEN, Flags::DELETED, Flags::NONE]).await;
        let done = flag(&account, inbox, &[(1, 3), (9, 9)], FlagOp::Add, Flags::SEEN, &["Work"]).await;
        assert_eq!((numbers(&done.done), numbers(&done.changed)), (vec![1, 2, 3], vec![1, 2, 3]));
        assert_eq!(shown(&account, inbox).await, ["1:1 work", "2:1 work", "3:41 work", "4:0"]);
        let done = flag(&account, inbox, &[(1, 4)], FlagOp::Remove, Flags::SEEN, &["other"]).await;
        assert_eq!(numbers(&done.changed), [1, 2, 3]);
        let done = flag(&account, inbox, &[(1, 4)], FlagOp::Replace, Flags::FLAGGED, &["b"]).await;
        assert_eq!(numbers(&done.changed), [1, 2, 3, 4]);
        assert_eq!(shown(&account, inbox).await, ["1:4 b", "2:4 b", "3:4 b", "4:4 b"]);
        let again = flag(&account, inbox, &[(1, 4)], FlagOp::Replace, Flags::FLAGGED, &["b"]).await;
        assert_eq!((again.modseq, again.changed.is_empty(), again.done.len()), (None, true, 4));
        let counts = account.mailboxes().by_name("Inbox").unwrap().counts;
        assert_eq!((counts.messages, counts.deleted, counts.unseen, counts.unread), (4, 0, 4, 4));
        let keywords: Vec<String> = account.mailboxes().by_name("Inbox").unwrap().keywords.iter().map(ToString::to_string).collect();
        assert_eq!(keywords, ["work", "b"]);
        f.finish().await;
    }

    async fn more_keywords_than_bits(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE; 2]).await;
        let names: Vec<String> = (0..60).map(|n| format!("k{n:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        flag(&account, inbox, &[(1, 1)], FlagOp::Add, Flags::NONE, &names).await;
        flag(&account, inbox, &[(2, 2)], FlagOp::Add, Flags::NONE, &["k59", "k03"]).await;
        flag(&account, inbox, &[(1, 2)], FlagOp::Remove, Flags::NONE, &names[..58]).await;
        assert_eq!(shown(&account, inbox).await, ["1:0 k58 k59", "2:0 k59"]);
        assert_eq!(numbers(&account.view(inbox).await.unwrap().with_keyword("k59")), [1, 2]);
        let to = id(&account, "Trash");
        account.write(move |tx| tx.copy_messages(inbox, &uids(&[(1, 2)]), to)).await.unwrap();
        assert_eq!(shown(&account, to).await, ["1:0 k58 k59", "2:0 k59"]);
        let many = FlagChange { op: FlagOp::Add, flags: Flags::NONE, keywords: (0..1000).map(|n| Keyword::parse(&format!("x{n}")).unwrap()).collect() };
        let refused = account.write(move |tx| tx.store_flags(inbox, &uids(&[(1, 1)]), &many, None)).await;
        assert!(matches!(refused, Err(Error::TooManyKeywords)));
        f.finish().await;
    }

    async fn mod_sequences_of_messages_and_of_their_flags(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE; 600]).await;
        account.write(move |tx| tx.skip_uids(inbox, uid(65_535))).await.unwrap();
        add(&account, inbox, &[Flags::NONE; 3]).await;
        let came = modseqs(&account, inbox).await;
        assert_eq!((came.len(), came.keys().last()), (603, Some(&65_537)));
        let wide = flag(&account, inbox, &[(200, 300), (65_536, 65_537)], FlagOp::Add, Flags::SEEN, &[]).await.modseq.unwrap().get();
        let narrow = flag(&account, inbox, &[(255, 257)], FlagOp::Add, Flags::NONE, &["k"]).await.modseq.unwrap().get();
        // Nothing changes here, nor its mod-sequence.
        assert_eq!(flag(&account, inbox, &[(200, 202)], FlagOp::Add, Flags::SEEN, &[]).await.modseq, None);
        for (uid, modseq) in modseqs(&account, inbox).await {
            let want = match uid {
                255..=257 => narrow,
                200..=300 | 65_536.. => wide,
                _ => came[&uid],
            };
            assert_eq!(modseq, want, "{uid}");
        }
        // RFC 7162 §3.1.3.
        let change = FlagChange { op: FlagOp::Add, flags: Flags::FLAGGED, keywords: Vec::new() };
        let flagged = account.write(move |tx| tx.store_flags(inbox, &uids(&[(199, 258)]), &change, Some(wide))).await.unwrap();
        assert_eq!(numbers(&flagged.modified), [255, 256, 257]);
        // What was removed is forgotten; what is moved begins anew.
        account.write(move |tx| tx.create_mailbox(&name("to"), SpecialUse::NONE)).await.unwrap();
        let to = id(&account, "to");
        account.write(move |tx| tx.expunge(inbox, &uids(&[(1, 256)]))).await.unwrap();
        account.write(move |tx| tx.move_messages(inbox, &uids(&[(257, 257)]), to)).await.unwrap();
        let moved = account.mailboxes().modseq().get();
        assert_eq!(modseqs(&account, to).await.into_iter().collect::<Vec<_>>(), [(1, moved)]);
        flag(&account, to, &[(1, 1)], FlagOp::Add, Flags::DRAFT, &[]).await;
        account.write(move |tx| tx.delete_mailbox(to)).await.unwrap();
        assert_eq!(modseqs(&account, inbox).await.len(), 603 - 257);
        f.finish().await;
    }

    async fn unchanged_since_leaves_others_changes_alone(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE; 3]).await;
        let since = account.mailboxes().modseq().get();
        flag(&account, inbox, &[(2, 2)], FlagOp::Add, Flags::FLAGGED, &[]).await;
        let change = FlagChange { op: FlagOp::Add, flags: Flags::SEEN, keywords: Vec::new() };
        let done = account.write(move |tx| tx.store_flags(inbox, &uids(&[(1, 3)]), &change, Some(since))).await.unwrap();
        assert_eq!((numbers(&done.changed), numbers(&done.modified)), (vec![1, 3], vec![2]));
        assert_eq!(shown(&account, inbox).await, ["1:1", "2:4", "3:1"]);
        f.finish().await;
    }

    async fn copies_share_bytes_and_outlive_the_original(f: Fixture) {
        let account = f.account().await;
        let (from, to) = (inbox(&account), id(&account, "Trash"));
        let content = mail("copied", 100_000);
        account.add(from, Message::new(content.clone()), Append { flags: Flags::SEEN | Flags::FLAGGED, ..Append::default() }).await.unwrap();
        let copied = account.write(move |tx| tx.copy_messages(from, &uids(&[(1, 9)]), to)).await.unwrap();
        assert_eq!((copied.from, copied.to), (vec![uid(1)], vec![uid(1)]));
        let within = account.write(move |tx| tx.copy_messages(from, &uids(&[(1, 1)]), from)).await.unwrap();
        assert_eq!(within.to, [uid(2)]);
        assert_eq!(account.mailboxes().used().0, 3 * u64::try_from(content.len()).unwrap());
        account.write(move |tx| tx.expunge(from, &uids(&[(1, 2)]))).await.unwrap();
        account.write(|_| Ok::<_, Error>(())).await.unwrap();
        assert_eq!(account.mailboxes().used().0, u64::try_from(content.len()).unwrap());
        assert_eq!(bytes(&account, MessageId(2), 0..200_000).await, content);
        assert_eq!(shown(&account, to).await, ["1:5"]);
        account.write(move |tx| tx.expunge(to, &uids(&[(1, 1)]))).await.unwrap();
        account.write(|_| Ok::<_, Error>(())).await.unwrap();
        assert_eq!(account.mailboxes().used().0, 0);
        f.finish().await;
    }

    async fn moved_messages_keep_their_ids(f: Fixture) {
        let account = f.account().await;
        let (from, to) = (inbox(&account), id(&account, "Trash"));
        add(&account, from, &[Flags::SEEN, Flags::NONE, Flags::DELETED]).await;
        add(&account, to, &[Flags::NONE]).await;
        let moved = account.write(move |tx| tx.move_messages(from, &uids(&[(2, 3), (7, 7)]), to)).await.unwrap();
        assert_eq!((moved.from, moved.to), (vec![uid(2), uid(3)], vec![uid(2), uid(3)]));
        assert_eq!(shown(&account, from).await, ["1:1"]);
        assert_eq!(shown(&account, to).await, ["1:0", "2:0", "3:40"]);
        account.read(move |tx| {
            tx.fetch_rows(to, &uids(&[(3, 3)]), Columns::STATE, |row| {
                assert_eq!(row.id()?, MessageId(3));
                Ok::<_, Error>(true)
            })
        }).await.unwrap();
        let same = account.write(move |tx| tx.move_messages(to, &uids(&[(1, 1)]), to)).await;
        assert!(matches!(same, Err(Error::SameMailbox)));
        f.finish().await;
    }

    async fn a_removed_message_can_be_read_while_a_session_shows_it(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE; 3]).await;
        let session = account.view(inbox).await.unwrap();
        account.write(move |tx| tx.expunge(inbox, &uids(&[(2, 2)]))).await.unwrap();
        account.write(|_| Ok::<_, Error>(())).await.unwrap();
        let set = session.uids();
        let read = |account: Account| async move {
            account.read(move |tx| {
                let mut found = Vec::new();
                tx.fetch_rows(inbox, &uids(&[(1, 3)]), Columns::ENVELOPE, |row| {
                    found.push((row.uid().get(), row.id()?));
                    Ok::<_, Error>(true)
                })?;
                Ok::<_, Error>(found)
            }).await.unwrap()
        };
        let found = read(account.clone()).await;
        assert_eq!(found.iter().map(|r| r.0).collect::<Vec<_>>(), numbers(&set));
        assert!(!bytes(&account, found[1].1, 0..10).await.is_empty());
        assert_eq!(account.mailboxes().used().0, 900 + 3 * (account.mailboxes().by_name("Inbox").unwrap().counts.size.0 / 2 - 300));
        drop(session);
        account.write(|_| Ok::<_, Error>(())).await.unwrap();
        assert_eq!(read(account.clone()).await.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(account.mailboxes().used(), account.mailboxes().by_name("Inbox").unwrap().counts.size);
        f.finish().await;
    }

    async fn expunge_takes_only_deleted(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::DELETED, Flags::NONE, Flags::DELETED, Flags::DELETED]).await;
        let gone = account.write(move |tx| tx.expunge_deleted(inbox, &uids(&[(1, 3)]))).await.unwrap();
        assert_eq!(numbers(&gone.uids), [1, 3]);
        assert_eq!(shown(&account, inbox).await, ["2:0", "4:40"]);
        let none = account.write(move |tx| tx.expunge_deleted(inbox, &uids(&[(1, 3)]))).await.unwrap();
        assert_eq!(none.modseq, None);
        assert_eq!(add(&account, inbox, &[Flags::NONE]).await, [uid(5)]);
        f.finish().await;
    }

    async fn quota_holds_for_adding_and_copying(f: Fixture) {
        let account = f.account().await;
        let (inbox, trash) = (inbox(&account), id(&account, "Trash"));
        let content = mail("q", 1000);
        let size = u64::try_from(content.len()).unwrap();
        account.set_quota(Some(ByteSize(2 * size)));
        for _ in 0..2 {
            account.add(inbox, Message::new(content.clone()), Append::default()).await.unwrap();
        }
        let more = account.add(inbox, Message::new(content.clone()), Append::default()).await;
        assert!(matches!(more, Err(Error::OverQuota)));
        let copy = account.write(move |tx| tx.copy_messages(inbox, &uids(&[(1, 1)]), trash)).await;
        assert!(matches!(copy, Err(Error::OverQuota)));
        account.write(move |tx| tx.move_messages(inbox, &uids(&[(1, 1)]), trash)).await.unwrap();
        let forced = Append { ignore_quota: true, ..Append::default() };
        account.add(inbox, Message::new(content), forced).await.unwrap();
        f.finish().await;
    }

    async fn recipients_of_sent_mail_are_remembered(f: Fixture) {
        let account = f.account().await;
        let (inbox, sent) = (inbox(&account), id(&account, "Sent"));
        account.add(inbox, Message::new(mail("in", 0)), Append::default()).await.unwrap();
        let wrote = |account: Account| async move { account.read(|tx| tx.has_written_to("bob", "other.example")).await.unwrap() };
        assert!(!wrote(account.clone()).await);
        account.add(sent, Message::new(mail("out", 0)), Append::default()).await.unwrap();
        assert!(wrote(account.clone()).await);
        account.write(move |tx| tx.expunge(sent, &uids(&[(1, 1)]))).await.unwrap();
        account.write(|_| Ok::<_, Error>(())).await.unwrap();
        assert!(!wrote(account.clone()).await);
        f.finish().await;
    }

    async fn a_failed_closure_leaves_nothing_and_others_are_kept(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..60u32 {
            let account = account.clone();
            tasks.spawn(async move {
                let prepared = account.prepare(Message::new(mail(&format!("t{n}"), 200))).await.unwrap();
                let result = account.write(move |tx| {
                    let added = tx.add(inbox, &prepared, &Append::default())?;
                    tx.create_mailbox(&name(&format!("box{n}")), SpecialUse::NONE)?;
                    match n % 3 {
                        0 => Err(Error::NoMessage),
                        1 => Ok(added.uid),
                        _ => panic!("a bug in a closure"),
                    }
                }).await;
                (n, result)
            });
        }
        let mut kept = 0;
        while let Some(done) = tasks.join_next().await {
            let (n, result) = done.unwrap();
            assert_eq!(result.is_ok(), n % 3 == 1, "{n}");
            kept += u32::from(result.is_ok());
        }
        let view = account.view(inbox).await.unwrap();
        assert_eq!((view.exists(), kept, account.mailboxes().len()), (20, 20, 23));
        assert_eq!(numbers(&view.uids()), (1..=20).collect::<Vec<_>>());
        f.finish().await;
    }
}
