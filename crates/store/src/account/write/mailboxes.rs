//! Creating, renaming, deleting and subscribing mailboxes.

use super::WriteTx;
use crate::change::ChangeKind;
use crate::error::Error;
use crate::mailbox::{Counts, Mailbox, SpecialUse, modseq};
use crate::name::MailboxName;
use crate::uidset::UidSet;
use mox_base::{MailboxId, Uid, UidValidity};
use std::sync::Arc;

/// What creating a mailbox did.
#[derive(Clone, Debug)]
pub struct Created {
    /// The mailbox.
    pub mailbox: Arc<Mailbox>,
    /// All that were created, parents first, the mailbox last; empty if it was there.
    pub created: Vec<Arc<Mailbox>>,
}

/// What renaming a mailbox did.
#[derive(Clone, Debug)]
pub struct Renamed {
    /// Parents of the new name that were created, outermost first. When Inbox was renamed, also the new mailbox, last.
    pub created: Vec<Arc<Mailbox>>,
    /// Mailboxes that have a new name, with their old one; the renamed one first, then those below it by name.
    pub renamed: Vec<(MailboxName, Arc<Mailbox>)>,
}

impl WriteTx<'_> {
    /// Creates a mailbox, with missing parents. All that are created are subscribed. Roles go to the mailbox, and are taken
    /// from those that had them.
    ///
    /// # Errors
    /// [`Error::MailboxExists`]; [`Error::TooManyMailboxes`].
    pub fn create_mailbox(&mut self, name: &MailboxName, special_use: SpecialUse) -> Result<Created, Error> {
        if self.core.now.by_name(name.as_str()).is_some() {
            return Err(Error::MailboxExists);
        }
        self.ensure_mailbox(name, special_use)
    }

    /// The mailbox of a name, created like [`WriteTx::create_mailbox`] does if there is none. Roles only go to a new one.
    ///
    /// # Errors
    /// [`Error::TooManyMailboxes`].
    pub fn ensure_mailbox(&mut self, name: &MailboxName, special_use: SpecialUse) -> Result<Created, Error> {
        if let Some(mailbox) = self.core.now.by_name(name.as_str()) {
            return Ok(Created { mailbox: Arc::clone(mailbox), created: Vec::new() });
        }
        let mut created = self.create_missing(name)?;
        for id in created.clone() {
            let name = self.mailbox(id)?.name.clone();
            self.subscribe(&name)?;
        }
        let Some(leaf) = created.pop() else { return Err(Error::NoMailbox) };
        if !special_use.is_empty() {
            self.set_special_use(leaf, special_use)?;
        }
        let mut all = created.into_iter().map(|id| self.mailbox(id)).collect::<Result<Vec<_>, _>>()?;
        let mailbox = self.mailbox(leaf)?;
        all.push(Arc::clone(&mailbox));
        Ok(Created { mailbox, created: all })
    }

    /// Creates a mailbox and its missing parents; their ids, outermost first.
    fn create_missing(&mut self, name: &MailboxName) -> Result<Vec<MailboxId>, Error> {
        let mut missing = vec![name.clone()];
        let mut parent = None;
        let mut above = name.parent();
        while let Some(name) = above {
            if let Some(found) = self.core.now.by_name(name.as_str()) {
                parent = Some(found.id);
                break;
            }
            above = name.parent();
            missing.push(name);
        }
        let mut created = Vec::new();
        for name in missing.into_iter().rev() {
            let id = self.create_one(name, parent)?;
            parent = Some(id);
            created.push(id);
        }
        Ok(created)
    }

    fn create_one(&mut self, name: MailboxName, parent: Option<MailboxId>) -> Result<MailboxId, Error> {
        let uidvalidity = self.new_uidvalidity()?;
        self.create_with(name, parent, uidvalidity)
    }

    fn new_uidvalidity(&mut self) -> Result<UidValidity, Error> {
        let state = &mut self.core.now.state;
        let value = u32::try_from(state.next_uidvalidity).ok().and_then(UidValidity::new).ok_or(Error::NoUids)?;
        state.next_uidvalidity = state.next_uidvalidity.saturating_add(1);
        Ok(value)
    }

    fn create_with(&mut self, name: MailboxName, parent: Option<MailboxId>, uidvalidity: UidValidity) -> Result<MailboxId, Error> {
        if self.core.now.all.len() >= self.scope.max_mailboxes {
            return Err(Error::TooManyMailboxes);
        }
        let at = self.modseq();
        let state = &mut self.core.now.state;
        let id = MailboxId(state.next_mailbox);
        state.next_mailbox = state.next_mailbox.saturating_add(1);
        let mailbox = Mailbox {
            id,
            parent,
            name: name.clone(),
            uidvalidity,
            uidnext: Uid::FIRST,
            modseq: at,
            create_seq: at,
            special_use: SpecialUse::NONE,
            counts: Counts::default(),
            keywords: Arc::default(),
        };
        // Ids ascend, so the end is its place.
        Arc::make_mut(&mut self.core.now.all).push(Arc::new(mailbox));
        Arc::make_mut(&mut self.core.now.names).insert(name.clone(), id);
        self.core.new_index(id);
        self.changed(ChangeKind::MailboxCreated(id, name));
        Ok(id)
    }

    /// The mailboxes of a new account, all subscribed, in this order and with one UIDVALIDITY.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) fn create_initial(&mut self, names: &[(MailboxName, SpecialUse)]) -> Result<(), Error> {
        let uidvalidity = self.new_uidvalidity()?;
        for (name, special_use) in names {
            let mut levels = vec![name.clone()];
            while let Some(above) = levels.last().and_then(MailboxName::parent) {
                levels.push(above);
            }
            for name in levels.into_iter().rev() {
                if self.core.now.by_name(name.as_str()).is_none() {
                    let parent = name.parent().and_then(|p| self.core.now.by_name(p.as_str()).map(|m| m.id));
                    self.create_with(name.clone(), parent, uidvalidity)?;
                    self.subscribe(&name)?;
                }
            }
            if let Some(id) = self.core.now.by_name(name.as_str()).map(|m| m.id)
                && !special_use.is_empty()
            {
                self.set_special_use(id, *special_use)?;
            }
        }
        Ok(())
    }

    /// Gives a mailbox these roles and no others. They are taken from other mailboxes that have them.
    ///
    /// # Errors
    /// [`Error::NoMailbox`].
    pub fn set_special_use(&mut self, id: MailboxId, special_use: SpecialUse) -> Result<(), Error> {
        let holders: Vec<MailboxId> =
            self.core.now.all.iter().filter(|m| m.id != id && !(m.special_use & special_use).is_empty()).map(|m| m.id).collect();
        for holder in holders {
            let mailbox = self.mailbox_mut(holder)?;
            mailbox.special_use = mailbox.special_use & !special_use;
            self.changed(ChangeKind::SpecialUse(holder));
        }
        if self.mailbox(id)?.special_use != special_use {
            self.mailbox_mut(id)?.special_use = special_use;
            self.changed(ChangeKind::SpecialUse(id));
        }
        Ok(())
    }

    /// Subscribes a name; a mailbox of that name need not exist. True if it wasn't subscribed.
    ///
    /// # Errors
    /// [`Error::TooManyMailboxes`].
    pub fn subscribe(&mut self, name: &MailboxName) -> Result<bool, Error> {
        if self.core.now.subscriptions.contains(name) {
            return Ok(false);
        }
        if self.core.now.subscriptions.len() >= self.scope.max_mailboxes {
            return Err(Error::TooManyMailboxes);
        }
        Arc::make_mut(&mut self.core.now.subscriptions).insert(name.clone());
        self.changed(ChangeKind::Subscribed(name.clone()));
        Ok(true)
    }

    /// Unsubscribes a name. True if it was subscribed.
    ///
    /// # Errors
    /// [`Error::NotSubscribed`] if it wasn't and there is no mailbox of that name either.
    pub fn unsubscribe(&mut self, name: &MailboxName) -> Result<bool, Error> {
        if !self.core.now.subscriptions.contains(name) {
            return if self.core.now.by_name(name.as_str()).is_some() { Ok(false) } else { Err(Error::NotSubscribed) };
        }
        Arc::make_mut(&mut self.core.now.subscriptions).remove(name);
        self.changed(ChangeKind::Unsubscribed(name.clone()));
        Ok(true)
    }

    /// Deletes a mailbox with its messages. Its subscription stays.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; [`Error::Inbox`]; [`Error::HasChildren`].
    pub fn delete_mailbox(&mut self, id: MailboxId) -> Result<(), Error> {
        let mailbox = self.mailbox(id)?;
        if mailbox.name.is_inbox() {
            return Err(Error::Inbox);
        }
        if self.core.now.has_children(&mailbox.name) {
            return Err(Error::HasChildren);
        }
        let all = self.all_uids(id)?;
        if !all.is_empty() {
            self.expunge(id, &all)?;
        }
        let at = self.core.now.position(id).map_err(|_| Error::NoMailbox)?;
        Arc::make_mut(&mut self.core.now.all).remove(at);
        Arc::make_mut(&mut self.core.now.names).remove(&mailbox.name);
        self.changed(ChangeKind::MailboxDeleted(id, mailbox.name.clone()));
        Ok(())
    }

    fn all_uids(&mut self, id: MailboxId) -> Result<UidSet, Error> {
        Ok(self.index(id)?.existing(&UidSet::from_ranges([(1, u32::MAX)])))
    }

    /// Renames a mailbox and those below it; missing parents of the new name are created, not subscribed. UIDs stay.
    ///
    /// Inbox isn't renamed: its messages move to a new mailbox, and those below it stay, RFC 9051 §6.3.6.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; [`Error::MailboxExists`]; [`Error::Inbox`] if that is the new name.
    pub fn rename_mailbox(&mut self, id: MailboxId, to: &MailboxName) -> Result<Renamed, Error> {
        let mailbox = self.mailbox(id)?;
        if to.is_inbox() {
            return Err(Error::Inbox);
        }
        if self.core.now.by_name(to.as_str()).is_some() {
            return Err(Error::MailboxExists);
        }
        if mailbox.name.is_inbox() {
            return self.rename_inbox(id, to);
        }
        let from = mailbox.name.clone();
        // First out of the way: renaming `a` to `a/b` makes a new `a`.
        let moved: Vec<(MailboxId, MailboxName, MailboxName)> =
            self.core.now.iter().filter_map(|m| m.name.moved(&from, to).map(|new| (m.id, m.name.clone(), new))).collect();
        if moved.iter().any(|(_, _, new)| self.core.now.by_name(new.as_str()).is_some_and(|m| !moved.iter().any(|(id, ..)| *id == m.id))) {
            return Err(Error::MailboxExists);
        }
        let names = Arc::make_mut(&mut self.core.now.names);
        for (_, old, _) in &moved {
            names.remove(old);
        }
        for (id, _, new) in &moved {
            names.insert(new.clone(), *id);
        }
        for (id, old, new) in &moved {
            self.mailbox_mut(*id)?.name = new.clone();
            self.changed(ChangeKind::MailboxRenamed(*id, old.clone(), new.clone()));
        }
        let mut created = Vec::new();
        let parent = match to.parent() {
            None => None,
            Some(parent) => match self.core.now.by_name(parent.as_str()) {
                Some(parent) => Some(parent.id),
                None => {
                    created = self.create_missing(&parent)?;
                    created.last().copied()
                }
            },
        };
        self.mailbox_mut(id)?.parent = parent;
        Ok(Renamed {
            created: created.into_iter().map(|id| self.mailbox(id)).collect::<Result<_, _>>()?,
            renamed: moved.into_iter().map(|(id, old, _)| Ok((old, self.mailbox(id)?))).collect::<Result<_, Error>>()?,
        })
    }

    fn rename_inbox(&mut self, id: MailboxId, to: &MailboxName) -> Result<Renamed, Error> {
        let created = self.create_missing(to)?;
        let Some(destination) = created.last().copied() else { return Err(Error::NoMailbox) };
        let all = self.all_uids(id)?;
        if !all.is_empty() {
            self.move_messages(id, &all, destination)?;
        }
        Ok(Renamed { created: created.into_iter().map(|id| self.mailbox(id)).collect::<Result<_, _>>()?, renamed: Vec::new() })
    }

    /// Raises the counter from which UIDVALIDITYs come, and gives a mailbox a new one: for repairs.
    ///
    /// # Errors
    /// [`Error::NoMailbox`].
    pub fn bump_uidvalidity(&mut self, id: MailboxId) -> Result<UidValidity, Error> {
        let value = self.new_uidvalidity()?;
        self.mailbox_mut(id)?.uidvalidity = value;
        Ok(value)
    }

    /// Makes UIDNEXT at least this: for imports that keep UIDs, and repairs.
    ///
    /// # Errors
    /// [`Error::NoMailbox`].
    pub fn skip_uids(&mut self, id: MailboxId, next: Uid) -> Result<(), Error> {
        let mailbox = self.mailbox_mut(id)?;
        mailbox.uidnext = mailbox.uidnext.max(next);
        Ok(())
    }

    /// The account's last change so far.
    pub fn last_modseq(&self) -> mox_base::ModSeq {
        modseq(self.core.now.state.modseq)
    }
}
