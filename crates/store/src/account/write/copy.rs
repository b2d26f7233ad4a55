//! Copying and moving messages.

use super::junk::with_junk;
use super::{Tally, WriteTx};
use crate::change::ChangeKind;
use crate::db;
use crate::error::Error;
use crate::flags::Flags;
use crate::mailbox::SpecialUse;
use crate::params;
use crate::uidset::UidSet;
use mox_base::{ByteSize, MailboxId, MessageId, ModSeq, Uid, UidValidity};

/// Messages that were copied or moved: what COPYUID says, RFC 4315 §3.
#[derive(Clone, Debug, PartialEq)]
pub struct Copied {
    /// UIDVALIDITY of the destination.
    pub uidvalidity: UidValidity,
    /// UIDs in the source, ascending …
    pub from: Vec<Uid>,
    /// … and in the destination, in the same order: ascending and without gaps.
    pub to: Vec<Uid>,
    /// The change, if there was anything to copy.
    pub modseq: Option<ModSeq>,
}

/// A message's row.
struct State {
    uid: Uid,
    id: MessageId,
    size: i64,
    received: i64,
    zone: Option<i64>,
    blob: Option<i64>,
}

/// What a message has where it arrives.
#[derive(Clone, Copy)]
struct Arriving {
    modseq: ModSeq,
    /// Junk flags instead of its own.
    junk: Option<Flags>,
    /// Flags that it loses.
    clear: Flags,
}

/// Columns of `message` that a copy takes over; what is the place of the message is set anew.
const COPIED: &str = "blob_id, prefix_size, envelope, bodystructure, message_id, message_key, subject, \
                      subject_key, thread_id, thread_parents, thread_flags, dsn, content_hash, remote_ip, ehlo, mail_from, rcpt_to, msg_from, \
                      ehlo_validation, mail_from_validation, msg_from_validation, dkim_domains, tls_version, tls_cipher, requiretls";

/// Rejects that are copied or moved elsewhere become ordinary messages of the mailbox they were meant for.
const REJECT: i64 = 1;

impl WriteTx<'_> {
    /// Copies messages; those that are gone are skipped. Also within a mailbox, RFC 9051 §6.4.7.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; [`Error::OverQuota`]; [`Error::NoUids`].
    pub fn copy_messages(&mut self, from: MailboxId, uids: &UidSet, to: MailboxId) -> Result<Copied, Error> {
        let states = self.states(from, uids)?;
        let destination = self.mailbox(to)?;
        let uidvalidity = destination.uidvalidity;
        if states.is_empty() {
            return Ok(Copied { uidvalidity, from: Vec::new(), to: Vec::new(), modseq: None });
        }
        let total: i64 = states.iter().map(|s| s.size).sum();
        self.take_space(ByteSize(u64::try_from(total).unwrap_or(0)), true)?;
        let modseq = self.modseq();
        let sent = destination.special_use.has(SpecialUse::SENT);
        let arriving = Arriving { modseq, junk: self.junk_flags(&destination), clear: Flags::NONE };
        let mut new = Vec::with_capacity(states.len());
        for state in &states {
            let id = self.next_message();
            let uid = self.place(from, state, to, id, arriving)?;
            let sql = format!(
                "INSERT INTO message (account_id, id, mailbox_id, uid, create_seq, orig_mailbox_id, destined_mailbox_id, kind, {COPIED}) \
                 SELECT account_id, $3, $4, $5, $6, CASE WHEN kind & {REJECT} <> 0 THEN COALESCE(destined_mailbox_id, orig_mailbox_id) ELSE orig_mailbox_id END, \
                 CASE WHEN kind & {REJECT} <> 0 THEN NULL ELSE destined_mailbox_id END, \
                 CASE WHEN destined_mailbox_id IS NULL THEN kind ELSE kind & ~{REJECT} END, {COPIED} FROM message WHERE account_id = $1 AND id = $2"
            );
            let n = self.tx.exec(&sql, params![self.account(), state.id, id, to, uid, modseq])?;
            if n != 1 {
                return Err(Error::NoMessage);
            }
            self.tx.exec(
                "UPDATE blob SET refs = refs + 1 WHERE account_id = $1 AND id = (SELECT blob_id FROM message WHERE account_id = $1 AND id = $2)",
                params![self.account(), id],
            )?;
            self.tx.exec(
                "INSERT INTO message_content (account_id, id, headers, structure, preview) \
                 SELECT account_id, $3, headers, structure, preview FROM message_content WHERE account_id = $1 AND id = $2",
                params![self.account(), state.id, id],
            )?;
            if sent {
                self.tx.exec(
                    "INSERT INTO recipient (account_id, message_id, n, localpart, domain, sent) \
                     SELECT account_id, $3, n, localpart, domain, sent FROM recipient WHERE account_id = $1 AND message_id = $2",
                    params![self.account(), state.id, id],
                )?;
            }
            new.push(uid);
        }
        self.changed(ChangeKind::Added(to, new.iter().copied().collect()));
        Ok(Copied { uidvalidity, from: states.iter().map(|s| s.uid).collect(), to: new, modseq: Some(modseq) })
    }

    /// Moves messages; those that are gone are skipped. They keep their ids. Quota isn't checked: nothing is added to it.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; [`Error::SameMailbox`]; [`Error::NoUids`].
    pub fn move_messages(&mut self, from: MailboxId, uids: &UidSet, to: MailboxId) -> Result<Copied, Error> {
        if from == to {
            return Err(Error::SameMailbox);
        }
        let states = self.states(from, uids)?;
        let destination = self.mailbox(to)?;
        let uidvalidity = destination.uidvalidity;
        if states.is_empty() {
            return Ok(Copied { uidvalidity, from: Vec::new(), to: Vec::new(), modseq: None });
        }
        let modseq = self.modseq();
        let junk = self.junk_flags(&destination);
        let mut new = Vec::with_capacity(states.len());
        for state in &states {
            let reject = self.tx.query_row(
                "SELECT kind, destined_mailbox_id FROM message WHERE account_id = $1 AND id = $2",
                params![self.account(), state.id],
                |r| Ok::<_, db::Error>(r.int(0)? & REJECT != 0 && r.opt_int(1)?.is_some()),
            )?;
            // A reject was stored as seen; once its owner moves it, it is mail to be read.
            let clear = if reject { Flags::SEEN } else { Flags::NONE };
            let uid = self.place(from, state, to, state.id, Arriving { modseq, junk, clear })?;
            let sql = if reject {
                "UPDATE message SET mailbox_id = $3, uid = $4, create_seq = $5, orig_mailbox_id = destined_mailbox_id, destined_mailbox_id = NULL, \
                 kind = kind - 1 WHERE account_id = $1 AND id = $2"
            } else {
                "UPDATE message SET mailbox_id = $3, uid = $4, create_seq = $5 WHERE account_id = $1 AND id = $2"
            };
            self.tx.exec(sql, params![self.account(), state.id, to, uid, modseq])?;
            new.push(uid);
        }
        let gone: UidSet = states.iter().map(|s| s.uid).collect();
        self.take_out(from, &gone, true)?;
        self.changed(ChangeKind::Added(to, new.iter().copied().collect()));
        self.changed(ChangeKind::Expunged(from, gone));
        Ok(Copied { uidvalidity, from: states.iter().map(|s| s.uid).collect(), to: new, modseq: Some(modseq) })
    }

    /// The rows of those messages that are there, ascending.
    fn states(&mut self, mailbox: MailboxId, uids: &UidSet) -> Result<Vec<State>, Error> {
        let there = self.index(mailbox)?.existing(uids);
        let mut states = Vec::new();
        for (first, last) in there.ranges() {
            self.tx.query(
                "SELECT uid, id, size, received, zone, blob_id FROM message_state WHERE account_id = $1 AND mailbox_id = $2 AND uid BETWEEN $3 AND $4 ORDER BY uid",
                params![self.account(), mailbox, first, last],
                |r| {
                    let uid = u32::try_from(r.int(0)?).ok().and_then(Uid::new).ok_or_else(|| crate::error::corrupt("uid"))?;
                    let (zone, blob) = (r.opt_int(4)?, r.opt_int(5)?);
                    states.push(State { uid, id: MessageId(r.int(1)?), size: r.int(2)?, received: r.int(3)?, zone, blob });
                    Ok::<_, db::Error>(())
                },
            )?;
        }
        Ok(states)
    }

    /// Gives a message a place in another mailbox, with its flags and keywords, and the junk flags that come with that.
    fn place(&mut self, from: MailboxId, state: &State, to: MailboxId, id: MessageId, arriving: Arriving) -> Result<Uid, Error> {
        let (flags, keywords) = self.index(from)?.flags(state.uid.get());
        let Arriving { modseq, junk, clear } = arriving;
        let flags = with_junk(flags & !clear, junk);
        let keywords = if from == to || keywords.is_empty() {
            keywords
        } else {
            let source = self.mailbox(from)?;
            let names: Vec<_> = crate::index::names(&source.keywords, &keywords).cloned().collect();
            self.keyword_indexes(to, &names)?
        };
        let uid = self.next_uid(to)?;
        self.tx.exec(
            "INSERT INTO message_state (account_id, mailbox_id, uid, id, modseq, size, received, saved, zone, blob_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            params![self.account(), to, uid, id, modseq, state.size, state.received, self.now, state.zone, state.blob],
        )?;
        self.index(to)?.insert(uid.get(), flags, &keywords);
        Tally::of(flags).add_to(self.mailbox_mut(to)?, ByteSize(u64::try_from(state.size).unwrap_or(0)));
        Ok(uid)
    }
}
