//! Adding a message.

use super::junk::with_junk;
use super::{Tally, WriteTx};
use crate::change::ChangeKind;
use crate::error::Error;
use crate::flags::{Flags, Keyword};
use crate::mailbox::SpecialUse;
use crate::params;
use crate::prepare::{Blob, Parts, Prepared};
use crate::uidset::UidSet;
use mox_base::{BlobId, MailboxId, MessageId, ModSeq, Timestamp, Uid};
use std::net::IpAddr;

/// How a message is added.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// Its flags.
    pub flags: Flags,
    /// Its keywords.
    pub keywords: Vec<Keyword>,
    /// INTERNALDATE; now if none.
    pub received: Option<Timestamp>,
    /// The zone that INTERNALDATE is given in, in minutes east of UTC; the server's if none.
    pub zone: Option<i16>,
    /// What was known of it at delivery over SMTP.
    pub delivery: Option<Box<Delivery>>,
    /// Whether the account's quota may be exceeded.
    pub ignore_quota: bool,
}

/// What is known of a message that came by SMTP. Empty values are none.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// The peer.
    pub remote_ip: Option<IpAddr>,
    /// What it called itself, in Unicode; none for an address literal.
    pub ehlo: Option<String>,
    /// The reverse-path.
    pub mail_from: Option<String>,
    /// The recipient for whom it was delivered.
    pub rcpt_to: Option<String>,
    /// Results of checks: 1 strict, 2 DMARC, 3 relaxed, 4 pass, 5 neutral, 6 temperror, 7 permerror, 8 fail, 9 softfail, 10 none.
    pub ehlo_validation: Option<u8>,
    /// As above, of the reverse-path.
    pub mail_from_validation: Option<u8>,
    /// As above, of the From header.
    pub msg_from_validation: Option<u8>,
    /// Domains of verified DKIM signatures, in Unicode.
    pub dkim_domains: Vec<String>,
    /// IANA number of the TLS version, 1 for plain text.
    pub tls_version: Option<u16>,
    /// IANA number of the TLS cipher suite.
    pub tls_cipher: Option<u16>,
    /// Whether REQUIRETLS was used.
    pub requiretls: bool,
    /// Stored as a reject.
    pub is_reject: bool,
    /// Forwarded, by a ruleset.
    pub is_forward: bool,
    /// From a mailing list, by a ruleset.
    pub is_list: bool,
    /// The mailbox it was meant for, if it is kept elsewhere.
    pub destined: Option<MailboxId>,
}

/// A message that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its row.
    pub id: MessageId,
    /// Its UID.
    pub uid: Uid,
    /// The change that added it.
    pub modseq: ModSeq,
}

impl WriteTx<'_> {
    /// Adds a message to a mailbox, with the junk flags that come with that.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; [`Error::OverQuota`]; [`Error::NoUids`].
    pub fn add(&mut self, mailbox: MailboxId, message: &Prepared, append: &Append) -> Result<Added, Error> {
        let to = self.mailbox(mailbox)?;
        let role = to.special_use;
        let junk = self.junk_flags(&to);
        let parts = &*message.0;
        self.take_space(parts.size, !append.ignore_quota)?;
        let keywords = self.keyword_indexes(mailbox, &append.keywords)?;
        let modseq = self.modseq();
        let uid = self.next_uid(mailbox)?;
        let id = self.next_message();
        let received = append.received.unwrap_or(self.now);
        let zone = append.zone.unwrap_or_else(|| self.clock.offset_minutes(received));
        let thread = self.thread_of(parts, id, mailbox, received)?;
        let flags = with_junk(append.flags, junk);
        let flags = if thread.muted() { flags | Flags::SEEN } else { flags };
        let blob = self.insert_blob(parts)?;
        self.insert_message(parts, append.delivery.as_deref(), &Row { id, uid, mailbox, blob, modseq, thread: &thread })?;
        self.tx.exec(
            "INSERT INTO message_state (account_id, mailbox_id, uid, id, modseq, size, received, saved, zone, blob_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            params![self.account(), mailbox, uid, id, modseq, parts.size, received, self.now, stored_zone(zone), blob],
        )?;
        if role.has(SpecialUse::SENT) {
            self.insert_recipients(parts, id)?;
        }
        self.index(mailbox)?.insert(uid.get(), flags, &keywords);
        Tally::of(flags).add_to(self.mailbox_mut(mailbox)?, parts.size);
        self.core.added.push(message.clone());
        self.changed(ChangeKind::Added(mailbox, UidSet::from(uid)));
        Ok(Added { id, uid, modseq })
    }

    /// The next UID of a mailbox. The last of all is never given: there would be no UIDNEXT after it.
    pub(super) fn next_uid(&mut self, mailbox: MailboxId) -> Result<Uid, Error> {
        let mailbox = self.mailbox_mut(mailbox)?;
        let uid = mailbox.uidnext;
        mailbox.uidnext = uid.next().ok_or(Error::NoUids)?;
        Ok(uid)
    }

    pub(super) fn next_message(&mut self) -> MessageId {
        let state = &mut self.core.now.state;
        let id = MessageId(state.next_message);
        state.next_message = state.next_message.saturating_add(1);
        id
    }

    fn insert_blob(&mut self, parts: &Parts) -> Result<BlobId, Error> {
        let state = &mut self.core.now.state;
        let id = BlobId(state.next_blob);
        state.next_blob = state.next_blob.saturating_add(1);
        let (name, blocks, data) = match &parts.blob {
            Blob::Inline(data) => (None, None, Some(data)),
            Blob::File { name, blocks, .. } => (Some(name), Some(blocks), None),
        };
        self.tx.exec(
            "INSERT INTO blob (account_id, id, refs, size, name, blocks, data) VALUES ($1, $2, 1, $3, $4, $5, $6)",
            params![self.account(), id, parts.size, name, blocks, data],
        )?;
        Ok(id)
    }

    fn insert_message(&self, parts: &Parts, delivery: Option<&Delivery>, row: &Row<'_>) -> Result<(), Error> {
        let (base, _) = &parts.subject;
        let subject = Some(base).filter(|s| !s.is_empty());
        let none = Delivery::default();
        let d = delivery.unwrap_or(&none);
        let text = |s: &Option<String>| s.as_deref().map(|s| s.replace('\0', "")).filter(|s| !s.is_empty());
        let (ehlo, mail_from, rcpt_to) = (text(&d.ehlo), text(&d.mail_from), text(&d.rcpt_to));
        let dkim = Some(d.dkim_domains.join(" ")).filter(|s| !s.is_empty());
        let kind = i64::from(d.is_reject) | i64::from(d.is_forward) << 1 | i64::from(d.is_list) << 2;
        self.tx.exec(
            "INSERT INTO message (account_id, id, mailbox_id, uid, blob_id, create_seq, prefix_size, envelope, bodystructure, message_id, message_key, subject, subject_key, thread_id, thread_parents, thread_flags, dsn, orig_mailbox_id, \
             destined_mailbox_id, kind, content_hash, remote_ip, ehlo, mail_from, rcpt_to, msg_from, ehlo_validation, \
             mail_from_validation, msg_from_validation, dkim_domains, tls_version, tls_cipher, requiretls) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, \
             $26, $27, $28, $29, $30, $31, $32, $33)",
            params![
                self.account(),
                row.id,
                row.mailbox,
                row.uid,
                row.blob,
                row.modseq,
                parts.prefix_size,
                &parts.envelope,
                &parts.bodystructure,
                parts.message_id.as_ref(),
                parts.message_id.as_deref().map(hash),
                subject,
                subject.map(|s| hash(s)),
                row.thread.id,
                row.thread.parents().as_ref(),
                row.thread.flags,
                parts.dsn,
                row.mailbox,
                d.destined.filter(|m| *m != row.mailbox),
                kind,
                parts.hash.as_ref(),
                d.remote_ip.map(|ip| ip.to_string()).as_ref(),
                ehlo.as_ref(),
                mail_from.as_ref(),
                rcpt_to.as_ref(),
                parts.msg_from.as_ref(),
                d.ehlo_validation,
                d.mail_from_validation,
                d.msg_from_validation,
                dkim.as_ref(),
                d.tls_version,
                d.tls_cipher,
                Some(d.requiretls).filter(|r| *r),
            ],
        )?;
        self.tx.exec(
            "INSERT INTO message_content (account_id, id, headers, structure, preview) VALUES ($1, $2, $3, $4, $5)",
            params![self.account(), row.id, parts.headers.as_ref(), &parts.encoded, parts.preview.as_ref()],
        )?;
        Ok(())
    }

    fn insert_recipients(&self, parts: &Parts, id: MessageId) -> Result<(), Error> {
        let sent = parts.sent.unwrap_or_else(|| self.now.micros());
        for (n, (localpart, domain)) in parts.recipients.iter().enumerate() {
            self.tx.exec(
                "INSERT INTO recipient (account_id, message_id, n, localpart, domain, sent) VALUES ($1, $2, $3, $4, $5, $6)",
                params![self.account(), id, n, localpart, domain, sent],
            )?;
        }
        Ok(())
    }
}

/// Where a new message goes.
struct Row<'t> {
    id: MessageId,
    uid: Uid,
    mailbox: MailboxId,
    blob: BlobId,
    modseq: ModSeq,
    thread: &'t super::thread::Thread,
}

/// UTC, the most common zone, takes no space.
fn stored_zone(minutes: i16) -> Option<i16> {
    Some(minutes).filter(|m| *m != 0)
}

/// A key for an index on texts, FNV-1a: smaller than the text, which is compared afterwards.
pub(crate) fn hash(text: &str) -> i64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for b in text.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h.cast_signed()
}
