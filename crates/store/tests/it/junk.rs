//! Junk flags that come with a mailbox.

use crate::fixture::{Fixture, for_each_engine, id, inbox, mail, name, uids};
use mox_base::{MailboxId, Uid};
use mox_store::directory::{AccountSettings, AutomaticJunkFlags};
use mox_store::{Account, Append, Flags, Message, SpecialUse};
use std::sync::Arc;

async fn flags(account: &Account, mailbox: MailboxId, uid: Uid) -> Flags {
    let view = account.view(mailbox).await.unwrap();
    assert!(view.contains(uid));
    Flags::EACH.into_iter().filter(|flag| view.with_flag(*flag).contains(uid)).fold(Flags::NONE, |all, flag| all | flag)
}

for_each_engine! {
    async fn arriving_messages_get_the_flags_of_the_mailbox(f: Fixture) {
        let pattern = |p: &str| Some(regex::Regex::new(p).unwrap());
        let rules = AutomaticJunkFlags { junk: pattern("^spam"), neutral: pattern("^inbox"), not_junk: None };
        let settings = AccountSettings { automatic_junk_flags: Some(rules), ..AccountSettings::new("ann") };
        let mailboxes = [(name("Unwanted"), SpecialUse::JUNK), (name("Spam"), SpecialUse::NONE), (name("Archive"), SpecialUse::ARCHIVE)];
        let account = f.store.ensure_account("ann", &mailboxes).await.unwrap();
        let inbox = inbox(&account);
        let append = |flags| Append { flags, ..Append::default() };
        let message = || Message::new(mail("m", 300));
        let both = Flags::JUNK | Flags::NOTJUNK;

        // The role says so also without settings.
        let unwanted = id(&account, "Unwanted");
        let added = account.add(unwanted, message(), append(Flags::NOTJUNK | Flags::SEEN)).await.unwrap();
        assert_eq!(flags(&account, unwanted, added.uid).await, Flags::JUNK | Flags::SEEN);
        let added = account.add(inbox, message(), append(both)).await.unwrap();
        assert_eq!(flags(&account, inbox, added.uid).await, both);

        account.configure(&Arc::new(settings));
        let added = account.add(inbox, message(), append(both | Flags::FLAGGED)).await.unwrap();
        assert_eq!(flags(&account, inbox, added.uid).await, Flags::FLAGGED);
        let one = uids(&[(added.uid.get(), added.uid.get())]);
        for (to, want) in [("Spam", Flags::JUNK), ("Archive", Flags::NOTJUNK), ("Unwanted", Flags::JUNK), ("Inbox", Flags::NONE)] {
            let (to, one) = (id(&account, to), one.clone());
            let copied = account.write(move |tx| tx.copy_messages(inbox, &one, to)).await.unwrap();
            assert_eq!(flags(&account, to, copied.to[0]).await, want | Flags::FLAGGED);
        }
        let archive = id(&account, "Archive");
        let moved = account.write(move |tx| tx.move_messages(inbox, &one, archive)).await.unwrap();
        assert_eq!(flags(&account, archive, moved.to[0]).await, Flags::NOTJUNK | Flags::FLAGGED);
        f.finish().await;
    }
}
