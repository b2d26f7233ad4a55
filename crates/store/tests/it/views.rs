//! Views, notices and history.

use crate::fixture::{Fixture, add, for_each_engine, id, inbox, name, numbers, uid, uids};
use mox_store::{ChangeKind, Error, FlagChange, FlagOp, Flags, Keyword, MailboxWatch, Notice, SpecialUse, UidSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn kinds(notice: Notice) -> Vec<ChangeKind> {
    match notice {
        Notice::Changes(changes) => changes.iter().map(|c| c.kind.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

/// Which watches have something to tell now.
fn woken<const N: usize>(watches: &mut [MailboxWatch; N]) -> [bool; N] {
    watches.each_mut().map(|w| pin!(w.changed()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(true))
}

for_each_engine! {
    async fn sequence_numbers_and_uids(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::SEEN, Flags::NONE, Flags::SEEN, Flags::NONE, Flags::SEEN]).await;
        account.write(move |tx| tx.expunge(inbox, &uids(&[(2, 2)]))).await.unwrap();
        let view = account.view(inbox).await.unwrap();
        assert_eq!(view.exists(), 4);
        assert_eq!((0..6).map(|n| view.uid(n).map(|u| u.get())).collect::<Vec<_>>(), [None, Some(1), Some(3), Some(4), Some(5), None]);
        assert_eq!((1..7).map(|n| view.seq(uid(n))).collect::<Vec<_>>(), [Some(1), None, Some(2), Some(3), Some(4), None]);
        assert_eq!(view.first_unseen(), Some((3, uid(4))));
        assert_eq!(view.last_uid(), Some(uid(5)));
        assert_eq!(numbers(&view.uids_of_seqs([(2, 3), (9, 9)])), [3, 4]);
        assert_eq!(numbers(&view.with_flag(Flags::SEEN)), [1, 3, 5]);
        assert_eq!(view.flags(uid(3)), Some((Flags::SEEN, Vec::new())));
        assert_eq!((view.flags(uid(2)), view.mailbox().uidnext), (None, uid(6)));
        f.finish().await;
    }

    async fn many_messages_are_listed_as_few_are(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        let flags: Vec<Flags> = (0..900).map(|n| if n % 3 == 0 { Flags::SEEN } else { Flags::NONE }).collect();
        add(&account, inbox, &flags).await;
        account.write(move |tx| tx.expunge(inbox, &uids(&[(5, 9), (400, 410)]))).await.unwrap();
        let view = account.view(inbox).await.unwrap();
        // With gaps, from the first on and from the middle: more than are looked up one by one.
        for wanted in [uids(&[(1, 900)]), uids(&[(100, 390), (405, 800)]), &uids(&[(600, 900)]) - &uids(&[(700, 710)])] {
            let (mut listed, mut single) = (Vec::new(), Vec::new());
            view.for_each(&wanted, |e| listed.push((e.seq, e.uid, e.flags)));
            for uid in view.existing(&wanted).iter() {
                view.for_each(&UidSet::from(uid), |e| single.push((e.seq, e.uid, e.flags)));
            }
            assert!(listed.len() > 256);
            assert_eq!(listed, single);
            assert!(listed.iter().all(|(seq, uid, flags)| view.seq(*uid) == Some(*seq) && view.flags(*uid).map(|f| f.0) == Some(*flags)));
        }
        f.finish().await;
    }

    async fn sessions_share_the_newest_view_and_keep_older_ones(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE; 3]).await;
        let old = account.view(inbox).await.unwrap();
        assert!(Arc::ptr_eq(&old, &account.view(inbox).await.unwrap()));
        add(&account, inbox, &[Flags::NONE]).await;
        account.write(move |tx| {
            tx.expunge(inbox, &uids(&[(1, 1)]))?;
            let seen = FlagChange { op: FlagOp::Add, flags: Flags::SEEN, keywords: Vec::new() };
            tx.store_flags(inbox, &uids(&[(3, 4)]), &seen, None)
        }).await.unwrap();
        let new = account.view(inbox).await.unwrap();
        let diff = new.diff(&old);
        assert_eq!((numbers(&diff.added), numbers(&diff.removed), numbers(&diff.flags)), (vec![4], vec![1], vec![3]));
        assert_eq!(numbers(&old.uids()), [1, 2, 3]);
        assert_eq!(*new.diff(&new), mox_store::Diff::default());
        // Asked again, and from another view.
        assert_eq!((new.diff(&old), new.diff(&old).added.len()), (diff, 1));
        f.finish().await;
    }

    async fn changes_are_told_and_kept(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        let before = account.mailboxes().modseq();
        let mut watch = account.watch();
        add(&account, inbox, &[Flags::NONE]).await;
        let flagged = FlagChange { op: FlagOp::Add, flags: Flags::FLAGGED, keywords: Vec::new() };
        account.write(move |tx| { tx.set_origin(7); tx.store_flags(inbox, &uids(&[(1, 1)]), &flagged, None) }).await.unwrap();
        account.write(move |tx| tx.create_mailbox(&name("new"), SpecialUse::NONE)).await.unwrap();
        let new = id(&account, "new");
        account.write(move |tx| tx.rename_mailbox(new, &name("newer"))).await.unwrap();
        account.write(move |tx| tx.move_messages(inbox, &uids(&[(1, 1)]), new)).await.unwrap();
        let want = vec![
            ChangeKind::Added(inbox, uids(&[(1, 1)])),
            ChangeKind::Flags(inbox, uids(&[(1, 1)])),
            ChangeKind::MailboxCreated(new, name("new")),
            ChangeKind::Subscribed(name("new")),
            ChangeKind::MailboxRenamed(new, name("new"), name("newer")),
            ChangeKind::Added(new, uids(&[(1, 1)])),
            ChangeKind::Expunged(inbox, uids(&[(1, 1)])),
        ];
        let mut told = Vec::new();
        let mut origins = Vec::new();
        while let Some(notice) = watch.try_next() {
            if let Notice::Changes(changes) = &notice {
                origins.extend(changes.iter().map(|c| c.origin));
            }
            told.extend(kinds(notice));
        }
        assert_eq!((told, origins), (want.clone(), vec![0, 7, 0, 0, 0, 0, 0]));
        let kept = account.read(move |tx| tx.changes_since(before)).await.unwrap().unwrap();
        assert_eq!(kept.into_iter().map(|c| c.kind).collect::<Vec<_>>(), want);
        let (changed, removed) = account.read(move |tx| tx.changed_since(inbox, before.get())).await.unwrap().unwrap();
        assert_eq!((numbers(&changed), numbers(&removed)), (vec![1], vec![1]));
        f.finish().await;
    }

    async fn a_slow_session_is_told_to_look_again(f: Fixture) {
        let account = f.account().await;
        let mut watch = account.watch();
        for n in 0..100 {
            account.write(move |tx| tx.subscribe(&name(&format!("s{n}")))).await.unwrap();
        }
        assert!(matches!(watch.next().await, Notice::Overflow));
        assert!(matches!(watch.next().await, Notice::Changes(_)));
        f.finish().await;
    }

    async fn a_session_sleeps_through_what_doesnt_concern_it(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        account.write(move |tx| tx.create_mailbox(&name("other"), SpecialUse::NONE)).await.unwrap();
        let other = id(&account, "other");
        let mut watches = [account.watch_mailbox(Some(inbox)), account.watch_mailbox(Some(other)), account.watch_mailbox(None)];
        assert_eq!(woken(&mut watches), [false, false, false]);
        add(&account, inbox, &[Flags::NONE]).await;
        assert_eq!(woken(&mut watches), [true, false, false]);
        let keyword = FlagChange { op: FlagOp::Add, flags: Flags::NONE, keywords: vec![Keyword::parse("k").unwrap()] };
        account.write(move |tx| tx.store_flags(inbox, &uids(&[(1, 1)]), &keyword, None)).await.unwrap();
        assert_eq!(woken(&mut watches), [true, false, false]);
        account.write(move |tx| tx.move_messages(inbox, &uids(&[(1, 1)]), other)).await.unwrap();
        assert_eq!(woken(&mut watches), [true, true, false]);
        account.write(move |tx| tx.subscribe(&name("list"))).await.unwrap();
        assert_eq!(woken(&mut watches), [true, true, true]);
        assert_eq!(woken(&mut watches), [false, false, false]);
        f.finish().await;
    }

    async fn each_of_many_sessions_is_woken(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        let mut watches: Vec<_> = (0..300).map(|_| account.watch_mailbox(Some(inbox))).collect();
        for _ in 0..3 {
            add(&account, inbox, &[Flags::NONE]).await;
            for watch in &mut watches {
                assert!(watch.changed().await);
            }
        }
        // Those who leave are forgotten, those who come are heard.
        watches.truncate(10);
        watches.push(account.watch_mailbox(Some(inbox)));
        add(&account, inbox, &[Flags::NONE]).await;
        for watch in &mut watches {
            assert!(watch.changed().await);
        }
        drop(watches);
        f.finish().await;
    }

    async fn uids_beyond_a_chunk(f: Fixture) {
        let account = f.account().await;
        let inbox = inbox(&account);
        add(&account, inbox, &[Flags::NONE; 2]).await;
        account.write(move |tx| tx.skip_uids(inbox, uid(65_535))).await.unwrap();
        add(&account, inbox, &[Flags::SEEN; 3]).await;
        account.write(move |tx| tx.skip_uids(inbox, uid(4_000_000_000))).await.unwrap();
        add(&account, inbox, &[Flags::SEEN]).await;
        let view = account.view(inbox).await.unwrap();
        assert_eq!(numbers(&view.uids()), [1, 2, 65_535, 65_536, 65_537, 4_000_000_000]);
        assert_eq!((1..=6).map(|n| view.seq(view.uid(n).unwrap()).unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(numbers(&view.uids_of_seqs([(2, 5)])), [2, 65_535, 65_536, 65_537]);
        let mut seqs = Vec::new();
        view.for_each(&uids(&[(65_000, u32::MAX)]), |e| seqs.push((e.seq, e.flags.bits())));
        assert_eq!(seqs, [(3, 1), (4, 1), (5, 1), (6, 1)]);
        account.write(move |tx| tx.skip_uids(inbox, mox_base::Uid::MAX)).await.unwrap();
        let full = account.add(inbox, mox_store::Message::new(b"\r\n".to_vec()), mox_store::Append::default()).await;
        assert!(matches!(full, Err(Error::NoUids)));
        f.finish().await;
    }
}
