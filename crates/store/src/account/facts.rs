//! What is known of a single message, found by its id wherever it is.

use super::read::ReadTx;
use crate::db;
use crate::error::{Error, corrupt};
use crate::params;
use mox_base::{ByteSize, MailboxId, MessageId, Timestamp, Uid};

/// Where a message is, and what was known of it when it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageFacts {
    /// Its mailbox.
    pub mailbox: MailboxId,
    /// Its UID there.
    pub uid: Uid,
    /// RFC822.SIZE.
    pub size: ByteSize,
    /// INTERNALDATE.
    pub received: Timestamp,
    /// Whether it is a delivery status notification.
    pub dsn: bool,
    /// The peer that delivered it over SMTP.
    pub remote_ip: Option<String>,
    /// The reverse-path in Unicode; none for the null one, or if it didn't come over SMTP.
    pub mail_from: Option<String>,
    /// The recipient in Unicode.
    pub rcpt_to: Option<String>,
    /// The address in From, if there is one and only one.
    pub msg_from: Option<String>,
    /// Whether SPF passed.
    pub mail_from_validated: bool,
    /// Whether the address in From was verified.
    pub msg_from_validated: bool,
    /// Domains of verified DKIM signatures, in Unicode.
    pub dkim_domains: Vec<String>,
}

/// Results of checks up to this one are good; see [`super::Delivery::mail_from_validation`].
const PASS: i64 = 4;

impl ReadTx<'_> {
    /// What is known of a message.
    ///
    /// # Errors
    /// [`Error::NoMessage`] if there is none or it was removed.
    pub fn facts(&self, id: MessageId) -> Result<MessageFacts, Error> {
        let sql = "SELECT s.mailbox_id, s.uid, s.size, s.received, m.dsn, m.remote_ip, m.mail_from, m.rcpt_to, m.msg_from, \
                   m.mail_from_validation, m.msg_from_validation, m.dkim_domains FROM message m JOIN message_state s \
                   ON s.account_id = m.account_id AND s.mailbox_id = m.mailbox_id AND s.uid = m.uid WHERE m.account_id = $1 AND m.id = $2";
        self.tx
            .query_opt(sql, params![self.account(), id], |r| {
                let text = |i| Ok::<_, db::Error>(r.opt_text(i)?.map(str::to_owned));
                let passed = |i| Ok::<_, db::Error>(r.opt_int(i)?.is_some_and(|result| (1..=PASS).contains(&result)));
                Ok::<_, db::Error>(MessageFacts {
                    mailbox: MailboxId(r.int(0)?),
                    uid: u32::try_from(r.int(1)?).ok().and_then(Uid::new).ok_or_else(|| corrupt("uid"))?,
                    size: ByteSize(u64::try_from(r.int(2)?).unwrap_or(0)),
                    received: Timestamp::from_micros(r.int(3)?),
                    dsn: r.int(4)? != 0,
                    remote_ip: text(5)?,
                    mail_from: text(6)?,
                    rcpt_to: text(7)?,
                    msg_from: text(8)?,
                    mail_from_validated: passed(9)?,
                    msg_from_validated: passed(10)?,
                    dkim_domains: text(11)?.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
                })
            })?
            .ok_or(Error::NoMessage)
    }
}
