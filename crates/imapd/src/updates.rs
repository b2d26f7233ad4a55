//! Telling the client what changed, where IMAP allows it, RFC 9051 §5.2 and §7.
//!
//! The client knows the mailbox as one [`View`], and the list of mailboxes as one [`Mailboxes`]. Updating compares these with the
//! newest ones and prints the difference, so however many changes there were meanwhile, the work and the memory depend on the
//! difference only, and nothing can overflow. Our own changes never show up here: the command that made them has put them into the
//! session's view ([`Session::absorb`]).

use crate::error::Failure;
use crate::render;
use crate::session::Session;
use mox_base::{ModSeq, Uid};
use mox_imap::response::{self, ListLine};
use mox_store::{Account, Columns, Error, Mailbox, Mailboxes, UidSet, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages told of between two writes to the client.
const CHUNK: u64 = 4096;

impl Session {
    /// Prints all changes since the last time.
    pub(crate) async fn updates(&mut self) -> Result<(), Failure> {
        self.mailbox_updates();
        self.message_updates().await
    }

    /// Prints changes of the list of mailboxes and of subscriptions.
    pub(crate) fn mailbox_updates(&mut self) {
        let charset = self.charset();
        let rev2 = self.enabled.rev2;
        let Some(login) = &mut self.login else { return };
        let new = login.account.mailboxes();
        let old = std::mem::replace(&mut login.mailboxes, new);
        let new = Arc::clone(&login.mailboxes);
        if !old.is_same_list(&new) {
            for line in list_changes(&old, &new, rev2) {
                line.print(&mut self.conn.out, "LIST", charset);
            }
        }
    }

    /// Takes over the list of mailboxes after a change of our own, without telling.
    pub(crate) fn absorb_mailboxes(&mut self) {
        if let Some(login) = &mut self.login {
            login.mailboxes = login.account.mailboxes();
        }
    }

    /// Prints changes of the selected mailbox.
    pub(crate) async fn message_updates(&mut self) -> Result<(), Failure> {
        let (Some(login), Some(selected)) = (&self.login, &mut self.selected) else { return Ok(()) };
        let new = match login.account.view(selected.id).await {
            Ok(view) => view,
            Err(Error::NoMailbox) => {
                selected.deleted = true;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let old = std::mem::replace(&mut selected.view, Arc::clone(&new));
        if Arc::ptr_eq(&old, &new) {
            return Ok(());
        }
        let account = login.account.clone();
        self.tell(&account, &old, &new, &UidSet::new()).await
    }

    /// Prints how `new` differs from `old`. Messages of `quiet` are counted, but not described.
    pub(crate) async fn tell(&mut self, account: &Account, old: &Arc<View>, new: &Arc<View>, quiet: &UidSet) -> Result<(), Failure> {
        let diff = new.diff(old);
        let out = &mut self.conn.out;
        // Ascending, so each removal moves the following ones down.
        for (gone, uid) in (0u32..).zip(diff.removed.iter()) {
            if let Some(seq) = old.seq(uid) {
                response::counted(out, seq.saturating_sub(gone), "EXPUNGE");
            }
        }
        if !diff.added.is_empty() {
            response::counted(out, new.exists(), "EXISTS");
        }
        if new.mailbox().keywords.len() > old.mailbox().keywords.len() {
            response::untagged(out, &format!("FLAGS {}", flag_names(new.mailbox())));
        }
        let described = &(&diff.added | &diff.flags) - quiet;
        self.describe(account, new, &described).await
    }

    /// Prints `* seq FETCH (UID u FLAGS (…)[ MODSEQ (m)])` for messages of a view.
    pub(crate) async fn describe(&mut self, account: &Account, view: &Arc<View>, uids: &UidSet) -> Result<(), Failure> {
        let mut rest = uids.clone();
        while !rest.is_empty() {
            let chunk: UidSet = rest.iter().take(usize::try_from(CHUNK).unwrap_or(usize::MAX)).collect();
            let modseqs = if self.enabled.condstore { Some(modseqs(account, view, &chunk).await?) } else { None };
            let out = &mut self.conn.out;
            view.for_each(&chunk, |entry| {
                render::head(out, entry.seq, entry.uid);
                out.push(b' ');
                render::flags(out, entry.flags, entry.keywords, view.mailbox());
                if let Some(modseq) = modseqs.as_ref().and_then(|m| m.get(&entry.uid)) {
                    render::modseq(out, *modseq);
                }
                out.extend_from_slice(b")\r\n");
            });
            self.conn.relieve().await?;
            rest = match chunk.last().and_then(Uid::next) {
                Some(next) => rest.starting_at(next),
                None => UidSet::new(),
            };
        }
        Ok(())
    }
}

/// The mod-sequences of messages.
pub(crate) async fn modseqs(account: &Account, view: &View, uids: &UidSet) -> Result<BTreeMap<Uid, ModSeq>, Failure> {
    let (mailbox, uids) = (view.mailbox().id, uids.clone());
    let found = account
        .read(move |r| {
            let mut found = BTreeMap::new();
            r.fetch_rows(mailbox, &uids, Columns::MODSEQ, |row| {
                found.insert(row.uid(), row.modseq()?);
                Ok::<_, Error>(true)
            })?;
            Ok::<_, Error>(found)
        })
        .await?;
    Ok(found)
}

/// The flags of a mailbox, in parentheses.
pub(crate) fn flag_names(mailbox: &Mailbox) -> String {
    let mut keywords: Vec<&str> = mailbox.keywords.iter().map(|k| k.as_str()).collect();
    keywords.sort_unstable();
    response::flag_names(keywords, None)
}

/// The changes from `old` to `new` as LIST responses.
fn list_changes<'a>(old: &'a Mailboxes, new: &'a Mailboxes, rev2: bool) -> Vec<ListLine<'a>> {
    let mut lines = Vec::new();
    let subscribed = |name: &str| if new.is_subscribed(name) { vec!["\\Subscribed"] } else { vec![] };
    for mailbox in old.iter().filter(|m| new.by_id(m.id).is_none()) {
        // Others would take it for a new mailbox.
        if rev2 && new.by_name(mailbox.name.as_str()).is_none() {
            lines.push(ListLine { attributes: vec!["\\NonExistent"], name: mailbox.name.as_str(), ..ListLine::default() });
        }
    }
    for mailbox in new.iter() {
        let name = mailbox.name.as_str();
        match old.by_id(mailbox.id) {
            None => lines.push(ListLine { attributes: subscribed(name), name, ..ListLine::default() }),
            Some(before) if before.name != mailbox.name => {
                let old_name = rev2.then(|| before.name.as_str());
                lines.push(ListLine { attributes: subscribed(name), name, old_name, ..ListLine::default() });
            }
            Some(_) => {}
        }
    }
    let nonexistent = |name: &str| if new.by_name(name).is_none() { Some("\\NonExistent") } else { None };
    // What was just created tells of its subscription already.
    let created = |name: &str| new.by_name(name).is_some_and(|m| old.by_id(m.id).is_none());
    for name in new.subscriptions().filter(|n| !old.is_subscribed(n.as_str()) && !created(n.as_str())) {
        let attributes = std::iter::once("\\Subscribed").chain(nonexistent(name.as_str())).collect();
        lines.push(ListLine { attributes, name: name.as_str(), ..ListLine::default() });
    }
    for name in old.subscriptions().filter(|n| !new.is_subscribed(n.as_str())) {
        lines.push(ListLine { attributes: nonexistent(name.as_str()).into_iter().collect(), name: name.as_str(), ..ListLine::default() });
    }
    lines
}
