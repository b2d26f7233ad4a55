//! An account's counters and mailboxes as rows.

use crate::db::{self, Tx};
use crate::error::{Error, corrupt};
use crate::flags::Keyword;
use crate::index::Index;
use crate::mailbox::{Counts, Mailbox, Mailboxes, SpecialUse, State, modseq};
use crate::name::MailboxName;
use crate::params;
use mox_base::{AccountId, ByteSize, MailboxId, Uid, UidValidity};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The account's counters; an account that isn't there yet is [`db::Error::NoRow`].
pub(crate) fn load_state(tx: &Tx<'_>, account: AccountId, lock: bool) -> Result<State, db::Error> {
    const SELECT: &str = "SELECT version, modseq, forgotten, next_uidvalidity, next_mailbox, next_message, next_blob, used \
                          FROM account_state WHERE account_id = $1";
    const LOCKING: &str = "SELECT version, modseq, forgotten, next_uidvalidity, next_mailbox, next_message, next_blob, used \
                           FROM account_state WHERE account_id = $1 FOR UPDATE";
    // The row lock is what makes an account's writers on several nodes take turns.
    let sql = db::Sql { sqlite: SELECT, postgres: if lock { LOCKING } else { SELECT } };
    tx.query_row(sql, params![account], |r| {
        Ok(State {
            version: r.int(0)?,
            modseq: r.int(1)?,
            forgotten: r.int(2)?,
            next_uidvalidity: r.int(3)?,
            next_mailbox: r.int(4)?,
            next_message: r.int(5)?,
            next_blob: r.int(6)?,
            used: r.int(7)?,
        })
    })
}

pub(super) fn save_state(tx: &Tx<'_>, account: AccountId, s: &State) -> Result<(), db::Error> {
    tx.exec(
        "UPDATE account_state SET version = $2, modseq = $3, forgotten = $4, next_uidvalidity = $5, next_mailbox = $6, next_message = $7, \
         next_blob = $8, used = $9 WHERE account_id = $1",
        params![account, s.version, s.modseq, s.forgotten, s.next_uidvalidity, s.next_mailbox, s.next_message, s.next_blob, s.used],
    )?;
    Ok(())
}

/// Columns of [`mailbox_of`].
const MAILBOX_COLUMNS: &str =
    "id, parent_id, name, uidvalidity, uidnext, modseq, create_seq, special_use, messages, deleted, unseen, unread, size";

fn mailbox_of(r: &db::Row<'_>, keywords: Arc<[Keyword]>) -> Result<Mailbox, db::Error> {
    let bad = || corrupt("mailbox");
    let count = |i| r.int(i).and_then(|n| u32::try_from(n).map_err(|_| bad()));
    Ok(Mailbox {
        id: MailboxId(r.int(0)?),
        parent: r.opt_int(1)?.map(MailboxId),
        name: MailboxName::stored(r.text(2)?),
        uidvalidity: UidValidity::new(count(3)?).ok_or_else(bad)?,
        uidnext: Uid::new(count(4)?).ok_or_else(bad)?,
        modseq: modseq(r.int(5)?),
        create_seq: modseq(r.int(6)?),
        special_use: SpecialUse::from_bits(u8::try_from(r.int(7)?).map_err(|_| bad())?),
        counts: Counts {
            messages: count(8)?,
            deleted: count(9)?,
            unseen: count(10)?,
            unread: count(11)?,
            size: ByteSize(u64::try_from(r.int(12)?).map_err(|_| bad())?),
        },
        keywords,
    })
}

pub(crate) fn load_mailboxes(tx: &Tx<'_>, account: AccountId, state: State) -> Result<Mailboxes, db::Error> {
    let mut keywords: BTreeMap<i64, Vec<Keyword>> = BTreeMap::new();
    tx.query("SELECT mailbox_id, name FROM keyword WHERE account_id = $1 ORDER BY mailbox_id, idx", params![account], |r| {
        keywords.entry(r.int(0)?).or_default().push(Keyword::stored(r.text(1)?));
        Ok::<_, db::Error>(())
    })?;
    let mut all = Vec::new();
    let mut names = BTreeMap::new();
    let sql = format!("SELECT {MAILBOX_COLUMNS} FROM mailbox WHERE account_id = $1 AND expunged = 0 ORDER BY id");
    tx.query(&sql, params![account], |r| {
        let mailbox = mailbox_of(r, keywords.remove(&r.int(0)?).unwrap_or_default().into())?;
        names.insert(mailbox.name.clone(), mailbox.id);
        all.push(Arc::new(mailbox));
        Ok::<_, db::Error>(())
    })?;
    let mut subscriptions = BTreeSet::new();
    tx.query("SELECT name FROM subscription WHERE account_id = $1", params![account], |r| {
        subscriptions.insert(MailboxName::stored(r.text(0)?));
        Ok::<_, db::Error>(())
    })?;
    Ok(Mailboxes { state, all: Arc::new(all), names: Arc::new(names), subscriptions: Arc::new(subscriptions) })
}

/// A mailbox and its index from one snapshot.
pub(crate) fn load_mailbox(tx: &Tx<'_>, account: AccountId, id: MailboxId) -> Result<(Mailbox, Index), Error> {
    let keywords =
        tx.query_all("SELECT name FROM keyword WHERE account_id = $1 AND mailbox_id = $2 ORDER BY idx", params![account, id], |r| {
            Ok::<_, db::Error>(Keyword::stored(r.text(0)?))
        })?;
    let sql = format!("SELECT {MAILBOX_COLUMNS} FROM mailbox WHERE account_id = $1 AND id = $2 AND expunged = 0");
    let mailbox = tx.query_opt(&sql, params![account, id], |r| mailbox_of(r, keywords.into()))?.ok_or(Error::NoMailbox)?;
    Ok((mailbox, Index::load(tx, account, id)?))
}

pub(super) fn save_mailboxes(tx: &Tx<'_>, account: AccountId, base: &Mailboxes, now: &Mailboxes) -> Result<(), db::Error> {
    if !Arc::ptr_eq(&base.all, &now.all) {
        for mailbox in &*now.all {
            let old = base.by_id(mailbox.id);
            if !old.is_some_and(|old| Arc::ptr_eq(old, mailbox)) {
                save_mailbox(tx, account, mailbox, old.map(|m| &**m))?;
            }
        }
        for gone in base.all.iter().filter(|m| now.by_id(m.id).is_none()) {
            tx.exec(
                "UPDATE mailbox SET expunged = 1, modseq = $3, special_use = 0, messages = 0, deleted = 0, unseen = 0, unread = 0, size = 0 \
                 WHERE account_id = $1 AND id = $2",
                params![account, gone.id, now.state.modseq],
            )?;
            tx.exec("DELETE FROM mailbox_bitmap WHERE account_id = $1 AND mailbox_id = $2", params![account, gone.id])?;
            tx.exec("DELETE FROM flag_modseqs WHERE account_id = $1 AND mailbox_id = $2", params![account, gone.id])?;
        }
    }
    if !Arc::ptr_eq(&base.subscriptions, &now.subscriptions) {
        for name in now.subscriptions.difference(&base.subscriptions) {
            tx.exec("INSERT INTO subscription (account_id, name) VALUES ($1, $2)", params![account, name.as_str()])?;
        }
        for name in base.subscriptions.difference(&now.subscriptions) {
            tx.exec("DELETE FROM subscription WHERE account_id = $1 AND name = $2", params![account, name.as_str()])?;
        }
    }
    Ok(())
}

fn save_mailbox(tx: &Tx<'_>, account: AccountId, m: &Mailbox, old: Option<&Mailbox>) -> Result<(), db::Error> {
    const INSERT: &str = "INSERT INTO mailbox (account_id, id, parent_id, name, uidvalidity, uidnext, modseq, create_seq, special_use, \
                          messages, deleted, unseen, unread, size, expunged) \
                          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 0)";
    const UPDATE: &str = "UPDATE mailbox SET parent_id = $3, name = $4, uidvalidity = $5, uidnext = $6, modseq = $7, create_seq = $8, \
                          special_use = $9, messages = $10, deleted = $11, unseen = $12, unread = $13, size = $14 \
                          WHERE account_id = $1 AND id = $2";
    let c = &m.counts;
    let row = params![
        account,
        m.id,
        m.parent,
        m.name.as_str(),
        m.uidvalidity,
        m.uidnext,
        m.modseq,
        m.create_seq,
        m.special_use.bits(),
        c.messages,
        c.deleted,
        c.unseen,
        c.unread,
        c.size
    ];
    tx.exec(if old.is_some() { UPDATE } else { INSERT }, row)?;
    let known = old.map_or(0, |o| o.keywords.len());
    for (idx, keyword) in m.keywords.iter().enumerate().skip(known) {
        tx.exec(
            "INSERT INTO keyword (account_id, mailbox_id, idx, name) VALUES ($1, $2, $3, $4)",
            params![account, m.id, idx, keyword.as_str()],
        )?;
    }
    Ok(())
}
