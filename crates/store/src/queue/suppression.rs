//! Suppression lists: to whom an account's mail isn't sent any more.
//!
//! An entry stands for all addresses with the same [`base_address`]. Failures add entries by the rules of
//! [`after_failure`], in the transaction that records the failure; the account's owner and administrators add and remove
//! them as they like. Each attempt asks ([`Entry::suppressed`](super::Entry)), so that entries that wait are concerned too.

use super::{Conflict, Queue};
use crate::db::{Error, Row, Tx};
use crate::params;
use mox_base::{Localpart, Path, QueueId, Timestamp};

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
    /// Who said so.
    pub source: Source,
    /// Now.
    pub now: Timestamp,
}

/// Enhanced codes that say that the address is no good, without their class.
const BAD_ADDRESS: [&str; 6] = ["1.1", "1.2", "1.3", "1.6", "2.1", "7.1"];

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
pub fn is_suppressed(tx: &Tx<'_>, account: &str, address: &Path) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM queue_suppression WHERE account = $1 AND base = $2";
    Ok(tx.query_opt(sql, params![account, &base_address(address)], |row| row.int(0))?.is_some())
}

/// Adds the recipient to the list if the failure says so, or is the third in a row; whether it did. To be called in the
/// transaction that records the failure.
///
/// # Errors
/// The database failed.
pub fn after_failure(tx: &Tx<'_>, failed: &FailedDelivery<'_>) -> Result<bool, Error> {
    if failed.code == 0 || is_suppressed(tx, failed.account, failed.recipient)? {
        return Ok(false);
    }
    let source = failed.source.as_str();
    let reason = if says_bad_address(failed.code, failed.secode) {
        format!("delivery failure from {source} with smtp code {}, enhanced code {:?}", failed.code, failed.secode)
    } else if failed_twice_before(tx, failed)? {
        format!("delivery failure from {source} and three consecutive failures")
    } else {
        return Ok(false);
    };
    let new = NewSuppression { account: failed.account.to_owned(), address: failed.recipient.clone(), manual: false, reason };
    Ok(insert(tx, &new, failed.now)?.is_some())
}

fn says_bad_address(code: u16, secode: &str) -> bool {
    matches!(code, 521 | 550 | 551 | 553 | 556) || (code / 100 == 5 && BAD_ADDRESS.contains(&secode))
}

/// Whether the last two messages of the account to the recipient failed. What an administrator removed, and what wasn't
/// sent because of the list, says nothing about the recipient.
fn failed_twice_before(tx: &Tx<'_>, failed: &FailedDelivery<'_>) -> Result<bool, Error> {
    let mut failures = 0;
    let mut others = 0;
    let sql = "SELECT success FROM queue_retired WHERE account = $1 AND recipient = $2 AND id <> $3 AND event <> 'canceled' \
               AND event <> 'suppressed' ORDER BY last_activity DESC, id DESC LIMIT 2";
    tx.query(sql, params![failed.account, &failed.recipient.to_string(), failed.id], |row| {
        if row.int(0)? == 0 {
            failures += 1
        } else {
            others += 1
        }
        Ok::<_, Error>(())
    })?;
    Ok(failures == 2 && others == 0)
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
fn insert(tx: &Tx<'_>, new: &NewSuppression, now: Timestamp) -> Result<Option<i64>, Error> {
    tx.query_opt(
        "INSERT INTO queue_suppression (account, base, original, created, manual, reason) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (account, base) DO NOTHING RETURNING id",
        params![
            &new.account,
            &base_address(&new.address),
            &new.address.to_string(),
            now,
            new.manual,
            &super::entry::without_nul(&new.reason)
        ],
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
        self.db
            .read(move |tx| {
                let mut list = Vec::new();
                let (after_account, after_base) = after.unwrap_or_default();
                let only = if account.is_some() { "account = $3 AND" } else { "$3 = '' AND" };
                let sql = format!(
                    "SELECT {COLUMNS} FROM queue_suppression WHERE {only} (account, base) > ($1, $2) ORDER BY account, base LIMIT {limit}"
                );
                tx.query(&sql, params![&after_account, &after_base, &account.unwrap_or_default()], |row| {
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
        self.write(move |tx| insert(tx, &new, now)?.ok_or(SuppressError::Exists)).await
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
        let base = base_address(&address);
        self.db
            .read(move |tx| {
                let only = if account.is_some() { "account = $2" } else { "$2 = ''" };
                let sql = format!("SELECT {COLUMNS} FROM queue_suppression WHERE base = $1 AND {only} ORDER BY account LIMIT 1");
                tx.query_opt(&sql, params![&base, &account.unwrap_or_default()], from_row)
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
    fn codes_that_suppress_at_once() {
        for (code, secode, want) in [
            (550, "", true),
            (550, "7.26", true),
            (521, "0.0", true),
            (551, "", true),
            (553, "", true),
            (556, "1.10", true),
            (554, "", false),
            (554, "1.1", true),
            (554, "7.1", true),
            (554, "7.10", false),
            (552, "2.2", false),
            (450, "1.1", false),
            (451, "", false),
        ] {
            assert_eq!(says_bad_address(code, secode), want, "{code} {secode}");
        }
    }
}
