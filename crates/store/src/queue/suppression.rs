//! Suppression lists: to whom an account's mail isn't sent any more.
//!
//! An entry stands for all addresses with the same [`base_address`]. Failures add entries by the rules of
//! [`after_failure`], in the transaction that records the failure; so do complaints ([`after_complaint`]). Such entries may end after
//! some time. The account's owner and administrators add and remove entries as they like. Each attempt asks
//! ([`Entry::suppressed`](super::Entry)), so that entries that wait are concerned too.

use super::{Conflict, Queue};
use crate::db::{Error, Row, Tx};
use crate::params;
use mox_base::{Localpart, Path, QueueId, Timestamp};
use std::net::IpAddr;

/// An entry of a suppression list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// Its id.
    pub id: i64,
    /// When it was added.
    pub created: Timestamp,
    /// Whose list.
    pub account: String,
    /// What addresses are compared by.
    pub base_address: String,
    /// The address that was added, in Unicode.
    pub original_address: String,
    /// Whether somebody added it.
    pub manual: bool,
    /// Why.
    pub reason: String,
}

/// An entry to be added.
#[derive(Clone, Debug)]
pub struct NewSuppression {
    /// Whose list.
    pub account: String,
    /// The address.
    pub address: Path,
    /// Whether somebody adds it.
    pub manual: bool,
    /// Why.
    pub reason: String,
}

/// Why an entry wasn't added.
#[derive(Debug, thiserror::Error)]
pub enum SuppressError {
    /// The list has the base address already.
    #[error("address is on the suppression list already")]
    Exists,
    /// The database failed.
    #[error("suppression list: {0}")]
    Store(#[from] Error),
}

impl Conflict for SuppressError {
    fn conflict(&self) -> bool {
        matches!(self, Self::Store(e) if e.conflict())
    }
}

/// Who said that delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The next host, to the queue.
    Queue,
    /// A DSN that came back.
    Dsn,
}

impl Source {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Dsn => "DSN",
        }
    }
}

/// A failure that may put a recipient on the list.
#[derive(Clone, Copy, Debug)]
pub struct FailedDelivery<'a> {
    /// The failed entry, queued or retired.
    pub id: QueueId,
    /// The sender's account.
    pub account: &'a str,
    /// To whom.
    pub recipient: &'a Path,
    /// The SMTP code; 0 never suppresses.
    pub code: u16,
    /// The enhanced code without its class.
    pub secode: &'a str,
    /// What was said.
    pub error: &'a str,
    /// Who said so.
    pub source: Source,
    /// Now.
    pub now: Timestamp,
    /// When an entry for it ends; none for never.
    pub expires: Option<Timestamp>,
}

/// Enhanced codes that say that the address is no good, without their class. RFC 3463 §3.2, §3.3.
const BAD_ADDRESS: [&str; 5] = ["1.1", "1.2", "1.3", "1.6", "2.1"];

/// Enhanced codes, or their subjects, that say that the message or its sender is no good: too large (RFC 3463 §3.3, §3.4), of a
/// content (§3.7) or from somewhere (§3.8) that isn't taken.
const NOT_THE_RECIPIENT: [&str; 4] = ["2.3", "3.4", "6.", "7."];

/// Words that refusals of a sender's address or network use.
const BLOCKED_WORDS: [&str; 18] = [
    "banned sending ip",
    "barracuda",
    "black list",
    "blacklist",
    "block list",
    "blocked using",
    "blocklist",
    "denylist",
    "dnsbl",
    "ip address is listed",
    "listed by",
    "listed in",
    "rbl",
    "reputation",
    "sorbs",
    "spamcop",
    "spamhaus",
    "uceprotect",
];

/// How many earlier messages are looked at to find two that say something.
const LOOK_BACK: usize = 10;

/// An address without what its user added to it, and in one spelling: the localpart up to the first `+`, of that up to the
/// first `-`, without dots, in lower case. The domain is in Unicode.
#[must_use]
pub fn base_address(path: &Path) -> String {
    let localpart = path.localpart.as_str();
    let localpart = localpart.split('+').next().unwrap_or_default();
    let localpart = localpart.split('-').next().unwrap_or_default();
    let localpart = localpart.replace('.', "").to_lowercase();
    match Localpart::from_decoded(&localpart) {
        Ok(localpart) => format!("{localpart}@{}", path.host),
        Err(_) => format!("{localpart}@{}", path.host),
    }
}

/// Whether an account's mail isn't sent to an address.
///
/// # Errors
/// The database failed.
pub fn is_suppressed(tx: &Tx<'_>, account: &str, address: &Path, now: Timestamp) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM queue_suppression WHERE account = $1 AND base = $2 AND (expires IS NULL OR expires > $3)";
    Ok(tx.query_opt(sql, params![account, &base_address(address), now], |row| row.int(0))?.is_some())
}

/// Adds the recipient to the list if the failure says so, or is the third in a row; whether it did. To be called in the
/// transaction that records the failure.
///
/// # Errors
/// The database failed.
pub fn after_failure(tx: &Tx<'_>, failed: &FailedDelivery<'_>) -> Result<bool, Error> {
    let FailedDelivery { code, secode, error, .. } = *failed;
    if code == 0 || !blames_recipient(secode, error) || is_suppressed(tx, failed.account, failed.recipient, failed.now)? {
        return Ok(false);
    }
    let source = failed.source.as_str();
    let reason = if says_bad_address(code, secode) {
        format!("delivery failure from {source} with smtp code {code}, enhanced code {secode:?}")
    } else if failed_twice_before(tx, failed)? {
        format!("delivery failure from {source} and three consecutive failures")
    } else {
        return Ok(false);
    };
    let new = NewSuppression { account: failed.account.to_owned(), address: failed.recipient.clone(), manual: false, reason };
    Ok(insert(tx, &new, failed.now, failed.expires)?.is_some())
}

/// A recipient who complained of a message.
#[derive(Clone, Debug)]
pub struct Complaint<'a> {
    /// Whose message it was.
    pub account: &'a str,
    /// Who complained.
    pub recipient: &'a Path,
    /// What of.
    pub reason: String,
    /// Now.
    pub now: Timestamp,
    /// When the entry for it ends; none for never.
    pub expires: Option<Timestamp>,
}

/// Adds a recipient who complained to the list; whether it wasn't there.
///
/// # Errors
/// The database failed.
pub fn after_complaint(tx: &Tx<'_>, complaint: &Complaint<'_>) -> Result<bool, Error> {
    let Complaint { account, recipient, reason, now, expires } = complaint;
    let new = NewSuppression { account: (*account).to_owned(), address: (*recipient).clone(), manual: false, reason: reason.clone() };
    Ok(insert(tx, &new, *now, *expires)?.is_some())
}

fn says_bad_address(code: u16, secode: &str) -> bool {
    matches!(code, 521 | 550 | 551 | 553 | 556) || (code / 100 == 5 && BAD_ADDRESS.contains(&secode))
}

/// Whether a refusal may be about its recipient, rather than about the message or where it comes from.
fn blames_recipient(secode: &str, error: &str) -> bool {
    if BAD_ADDRESS.contains(&secode) {
        return true;
    }
    let other = NOT_THE_RECIPIENT.iter().any(|code| if code.ends_with('.') { secode.starts_with(code) } else { secode == *code });
    !other && !blames_sending_host(error, None)
}

/// Whether the text of a refusal says that the sending host's address or network isn't welcome, as lists of such addresses have it. With the
/// address it was sent from, it may also be named as blocked.
#[must_use]
pub fn blames_sending_host(text: &str, address: Option<IpAddr>) -> bool {
    let text = text.to_lowercase();
    // An address is often named in other refusals, too: then only a text about blocking counts.
    let names_it = address.is_some_and(|ip| text.contains("block") && has_word(&text, &ip.to_string()));
    names_it || BLOCKED_WORDS.iter().any(|word| has_word(&text, word))
}

/// Whether a text has some words, not as a part of others: `rbl` isn't in `verbland`, but in `bl.rbl.example`.
fn has_word(text: &str, word: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at.saturating_add(word.len())..).and_then(|t| t.chars().next());
        // “blocklisted”, “blacklisting”, and “barracudacentral”.
        let may_continue = word.ends_with("list") || word == "barracuda";
        let continues = after.is_some_and(|c| c.is_ascii_digit()) || (is_letter(after) && !may_continue);
        !is_letter(before) && !continues
    })
}

/// Whether the last two messages of the account to the recipient failed. What an administrator removed, what wasn't
/// sent because of the list, and what was refused for other reasons than the recipient, says nothing about the recipient.
fn failed_twice_before(tx: &Tx<'_>, failed: &FailedDelivery<'_>) -> Result<bool, Error> {
    let sql = format!(
        "SELECT id, success FROM queue_retired WHERE account = $1 AND recipient = $2 AND id <> $3 AND event <> 'canceled' \
         AND event <> 'suppressed' ORDER BY last_activity DESC, id DESC LIMIT {LOOK_BACK}"
    );
    let earlier = tx.query_all(&sql, params![failed.account, &failed.recipient.to_string(), failed.id], |row| {
        Ok::<_, Error>((QueueId(row.int(0)?), row.bool(1)?))
    })?;
    let mut failures = 0;
    for (id, success) in earlier {
        if success {
            return Ok(false);
        }
        let last = "SELECT secode, error FROM queue_result WHERE entry = $1 AND success = 0 ORDER BY number DESC LIMIT 1";
        let of_recipient = tx.query_opt(last, params![id], |row| Ok::<_, Error>(blames_recipient(row.text(0)?, row.text(1)?)))?;
        failures += i32::from(of_recipient.unwrap_or(true));
        if failures == 2 {
            return Ok(true);
        }
    }
    Ok(false)
}

const COLUMNS: &str = "id, created, account, base, original, manual, reason";

fn from_row(row: &Row<'_>) -> Result<Suppression, Error> {
    Ok(Suppression {
        id: row.int(0)?,
        created: Timestamp::from_micros(row.int(1)?),
        account: row.text(2)?.to_owned(),
        base_address: row.text(3)?.to_owned(),
        original_address: row.text(4)?.to_owned(),
        manual: row.bool(5)?,
        reason: row.text(6)?.to_owned(),
    })
}

/// The id, none if the base address is there already.
fn insert(tx: &Tx<'_>, new: &NewSuppression, now: Timestamp, expires: Option<Timestamp>) -> Result<Option<i64>, Error> {
    let base = base_address(&new.address);
    tx.exec("DELETE FROM queue_suppression WHERE account = $1 AND base = $2 AND expires <= $3", params![&new.account, &base, now])?;
    tx.query_opt(
        "INSERT INTO queue_suppression (account, base, original, created, manual, reason, expires) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (account, base) DO NOTHING RETURNING id",
        params![&new.account, &base, &new.address.to_string(), now, new.manual, &super::entry::without_nul(&new.reason), expires,],
        |row| row.int(0),
    )
}

impl Queue {
    /// A page of an account's list, or of all, by account and base address; `after` is the last entry of the page before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn suppressions(
        &self,
        account: Option<String>,
        after: Option<(String, String)>,
        limit: u64,
    ) -> Result<Vec<Suppression>, Error> {
        let now = self.clock.now();
        self.db
            .read(move |tx| {
                let mut list = Vec::new();
                let (after_account, after_base) = after.unwrap_or_default();
                let only = if account.is_some() { "account = $3 AND" } else { "$3 = '' AND" };
                let sql = format!(
                    "SELECT {COLUMNS} FROM queue_suppression WHERE {only} (account, base) > ($1, $2) \
                     AND (expires IS NULL OR expires > $4) ORDER BY account, base LIMIT {limit}"
                );
                tx.query(&sql, params![&after_account, &after_base, &account.unwrap_or_default(), now], |row| {
                    list.push(from_row(row)?);
                    Ok::<_, Error>(())
                })?;
                Ok(list)
            })
            .await
    }

    /// Adds an address to a list; the entry's id.
    ///
    /// # Errors
    /// It is there already, or the database failed.
    pub async fn suppress(&self, new: NewSuppression, now: Timestamp) -> Result<i64, SuppressError> {
        self.write(move |tx| insert(tx, &new, now, None)?.ok_or(SuppressError::Exists)).await
    }

    /// Removes an address from a list; whether it was there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn unsuppress(&self, account: String, address: Path) -> Result<bool, Error> {
        let base = base_address(&address);
        let sql = "DELETE FROM queue_suppression WHERE account = $1 AND base = $2";
        Ok(self.write(move |tx| tx.exec(sql, params![&account, &base])).await? > 0)
    }

    /// Forgets the list of an account that is being removed; how many addresses were on it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn unsuppress_all(&self, account: &str) -> Result<u64, Error> {
        let account = account.to_owned();
        self.write(move |tx| tx.exec("DELETE FROM queue_suppression WHERE account = $1", params![&account])).await
    }

    /// The entry of an address in an account's list, or without an account the first in any.
    ///
    /// # Errors
    /// The database failed.
    pub async fn suppression(&self, account: Option<String>, address: Path) -> Result<Option<Suppression>, Error> {
        let (base, now) = (base_address(&address), self.clock.now());
        self.db
            .read(move |tx| {
                let only = if account.is_some() { "account = $2" } else { "$2 = ''" };
                let sql = format!(
                    "SELECT {COLUMNS} FROM queue_suppression WHERE base = $1 AND {only} AND (expires IS NULL OR expires > $3) \
                     ORDER BY account LIMIT 1"
                );
                tx.query_opt(&sql, params![&base, &account.unwrap_or_default(), now], from_row)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_addresses() {
        for (address, want) in [
            ("User.Name+x@d.example", "username@d.example"),
            ("user-name@d.example", "user@d.example"),
            ("a-b+c-d@d.example", "a@d.example"),
            ("a+b-c@d.example", "a@d.example"),
            ("plain@XN--bcher-kva.example", "plain@bücher.example"),
            ("\"a b\"@d.example", "\"a b\"@d.example"),
            ("+x@d.example", "\"\"@d.example"),
        ] {
            let address: mox_base::Address = address.parse().unwrap();
            assert_eq!(base_address(&address.clone().into()), want, "{address}");
        }
    }

    #[test]
    fn replies_that_suppress_at_once() {
        for (code, secode, text, want) in [
            (550, "", "no such user", true),
            (550, "4.1", "recipient address rejected", true),
            (521, "0.0", "host takes no mail", true),
            (551, "", "moved", true),
            (553, "", "bad mailbox", true),
            (556, "1.10", "null mx", true),
            (554, "", "transaction failed", false),
            (554, "1.1", "unknown", true),
            (552, "2.2", "mailbox full", false),
            (450, "1.1", "unknown for now", false),
            (451, "", "try later", false),
            // Not the recipient's fault: policy, lists of addresses, content, size.
            (550, "7.1", "message rejected by policy", false),
            (550, "7.26", "unauthenticated mail", false),
            (554, "7.1", "service unavailable; client host [192.0.2.1] blocked using zen.spamhaus.org", false),
            (550, "", "rejected, 192.0.2.1 is in a black list at rbl.example", false),
            (550, "0.0", "Your network has a poor Reputation.", false),
            (550, "6.1", "attachment not accepted", false),
            (550, "3.4", "too large", false),
            (550, "2.3", "too large for the mailbox", false),
            // Words that only look like it, and codes that say what is meant.
            (550, "", "marble halls don't exist", true),
            (550, "1.1", "user is on our blocklist of former employees", true),
        ] {
            assert_eq!(blames_recipient(secode, text) && says_bad_address(code, secode), want, "{code} {secode} {text}");
        }
    }

    #[test]
    fn texts_about_an_address() {
        let ip = Some("192.0.2.1".parse().unwrap());
        for (text, want) in [
            ("Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", true),
            ("see http://www.barracudacentral.org/rbl/", true),
            ("Your IP 192.0.2.1 was blocked, see https://x.example", true),
            ("IP not accepted because of its reputation", true),
            ("Blacklisted", true),
            ("listed in bl.rbl.example", true),
            ("message content rejected", false),
            ("verbland rejects you", false),
            ("relaying denied for 192.0.2.1", false),
            ("192.0.2.10 is blocked", false),
        ] {
            assert_eq!(blames_sending_host(text, ip), want, "{text}");
        }
        assert!(!blames_sending_host("Your IP 192.0.2.1 was blocked, see https://x.example", None));
    }
}
