//! Login attempts, successful and failed: who, from where, how, and what came of it.
//!
//! Equal attempts share a row with a count. Sessions hand attempts to a writer through a queue of a hundred, and wait when it is full;
//! the writer gathers them for a moment and stores them in one transaction, equal ones as one. Rows go after 30 days, and the oldest
//! failed ones of an account beyond ten thousand.

use crate::db::{Database, Tx};
use crate::error::Error;
use crate::params;
use mox_base::{Clock, Timestamp};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long attempts are kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most failed attempts kept of an account.
const MAX_FAILED: i64 = 10_000;

/// Attempts waiting for the writer.
const WAITING: usize = 100;

/// How long, and how many attempts at most, are gathered for a transaction: thousands may log in within a second.
const MOMENT: Duration = Duration::from_millis(50);
const GATHERED: usize = 1000;

/// How many transactions are written before surplus rows are looked for.
const TRIM_EVERY: u32 = 64;

/// Longest text kept; user agents can be of any length.
const MAX_TEXT: usize = 512;

/// One attempt to log in.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LoginAttempt {
    /// The account's name; `-` if unknown, `(admin)` for the administrator.
    pub account: String,
    /// The address given.
    pub login_address: String,
    /// The client's address.
    pub remote_ip: String,
    /// The address it connected to.
    pub local_ip: String,
    /// `version=… ciphersuite=… sni=… resumed=… alpn=…`, empty without TLS.
    pub tls: String,
    /// The fingerprint of the client certificate's key; may be empty.
    pub tls_public_key: String,
    /// `submission`, `imap` …
    pub protocol: String,
    /// What the client calls itself; may be empty.
    pub user_agent: String,
    /// `plain`, `scram-sha-256-plus` …
    pub mechanism: String,
    /// `ok`, `badcreds` …
    pub result: String,
}

impl LoginAttempt {
    fn texts(&self) -> [&String; 10] {
        [
            &self.account,
            &self.login_address,
            &self.remote_ip,
            &self.local_ip,
            &self.tls,
            &self.tls_public_key,
            &self.protocol,
            &self.user_agent,
            &self.mechanism,
            &self.result,
        ]
    }

    /// Without what databases and terminals stumble over, and not too long.
    fn cleaned(&self) -> [String; 10] {
        self.texts().map(|text| {
            let end = text.char_indices().map(|(i, _)| i).take_while(|i| *i <= MAX_TEXT).last().unwrap_or(0);
            let cut = if text.len() > MAX_TEXT { text.get(..end).unwrap_or_default() } else { text };
            cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
        })
    }
}

/// Attempts that were equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRecord {
    /// The attempt.
    pub attempt: LoginAttempt,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// How often.
    pub count: i64,
}

/// Records attempts. Clones record with the same writer.
#[derive(Clone, Debug)]
pub struct LoginAttempts {
    queue: mpsc::Sender<(Timestamp, LoginAttempt)>,
    clock: Arc<dyn Clock>,
}

/// Writes attempts to the database.
#[derive(Debug)]
pub struct LoginAttemptsWriter {
    queue: mpsc::Receiver<(Timestamp, LoginAttempt)>,
    clock: Arc<dyn Clock>,
    db: Database,
}

pub(super) fn channel(db: Database, clock: Arc<dyn Clock>) -> (LoginAttempts, LoginAttemptsWriter) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (LoginAttempts { queue: sender, clock: Arc::clone(&clock) }, LoginAttemptsWriter { queue: receiver, clock, db })
}

impl LoginAttempts {
    /// Hands an attempt to the writer; waits if many are waiting. Lost only if the writer is gone.
    pub async fn record(&self, attempt: LoginAttempt) {
        if self.queue.send((self.clock.now(), attempt)).await.is_err() {
            tracing::debug!("login attempt after shutdown not recorded");
        }
    }
}

const COLUMNS: &str =
    "last, first, count, account, login_address, remote_ip, local_ip, tls, tls_public_key, protocol, user_agent, mechanism, result";

pub(super) fn list(tx: &Tx<'_>, account: Option<&str>, limit: u32) -> Result<Vec<LoginRecord>, Error> {
    let (filter, limited) = if account.is_some() { ("WHERE account = $1", "$2") } else { ("", "$1") };
    let sql = format!("SELECT {COLUMNS} FROM login_attempt {filter} ORDER BY last DESC LIMIT {limited}");
    let mut out = Vec::new();
    let each = |r: &crate::db::Row<'_>| {
        let text = |i: usize| r.text(i).map(str::to_owned);
        out.push(LoginRecord {
            last: Timestamp::from_micros(r.int(0)?),
            first: Timestamp::from_micros(r.int(1)?),
            count: r.int(2)?,
            attempt: LoginAttempt {
                account: text(3)?,
                login_address: text(4)?,
                remote_ip: text(5)?,
                local_ip: text(6)?,
                tls: text(7)?,
                tls_public_key: text(8)?,
                protocol: text(9)?,
                user_agent: text(10)?,
                mechanism: text(11)?,
                result: text(12)?,
            },
        });
        Ok::<_, Error>(())
    };
    match account {
        Some(account) => tx.query(&sql, params![account, limit], each)?,
        None => tx.query(&sql, params![limit], each)?,
    }
    Ok(out)
}

impl LoginAttemptsWriter {
    /// Writes until nobody can record any more. A failure of the database loses what was waiting, and is logged.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        let mut written = 0_u32;
        while self.queue.recv_many(&mut batch, GATHERED).await > 0 {
            let queue = &mut self.queue;
            let more = async {
                loop {
                    let room = GATHERED.saturating_sub(batch.len());
                    if room == 0 || queue.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            // No attempt is lost when the time is over.
            drop(tokio::time::timeout(MOMENT, more).await);
            let attempts = std::mem::take(&mut batch);
            let trim = written.is_multiple_of(TRIM_EVERY);
            written = written.wrapping_add(1);
            let now = self.clock.now();
            if let Err(e) = self.db.write(move |tx| write(tx, &attempts, trim.then_some(now))).await {
                tracing::error!(error = %e, "login attempts not recorded");
            }
        }
    }
}

/// Attempts of one transaction that are the same.
struct Equal {
    texts: [String; 10],
    first: Timestamp,
    last: Timestamp,
    count: i64,
}

/// Attempts by what they have in common.
fn grouped(attempts: &[(Timestamp, LoginAttempt)]) -> BTreeMap<Vec<u8>, Equal> {
    let mut groups = BTreeMap::new();
    for (time, attempt) in attempts {
        let texts = attempt.cleaned();
        let mut key = Sha256::new();
        texts.iter().for_each(|text| key.update(text));
        let equal = groups.entry(key.finalize().to_vec()).or_insert(Equal { texts, first: *time, last: *time, count: 0 });
        equal.last = equal.last.max(*time);
        equal.count = equal.count.saturating_add(1);
    }
    groups
}

/// Stores attempts; with a time, removes what is too old or too much too.
fn write(tx: &Tx<'_>, attempts: &[(Timestamp, LoginAttempt)], trim: Option<Timestamp>) -> Result<(), Error> {
    for (key, Equal { texts, first, last, count }) in grouped(attempts) {
        let [account, login_address, remote_ip, local_ip, tls, tls_public_key, protocol, user_agent, mechanism, result] = &texts;
        tx.exec(
            "INSERT INTO login_attempt (key, last, first, count, account, login_address, remote_ip, local_ip, tls, tls_public_key, protocol, user_agent, mechanism, result) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
             ON CONFLICT (key) DO UPDATE SET last = excluded.last, count = login_attempt.count + excluded.count",
            params![&key, last, first, count, account, login_address, remote_ip, local_ip, tls, tls_public_key, protocol, user_agent, mechanism, result],
        )?;
    }
    let Some(now) = trim else { return Ok(()) };
    tx.exec("DELETE FROM login_attempt WHERE last < $1", params![now.before(KEPT)])?;
    let crowded = tx.query_all(
        "SELECT account FROM login_attempt WHERE result <> 'ok' GROUP BY account HAVING COUNT(*) > $1",
        params![MAX_FAILED],
        |r| Ok::<_, Error>(r.text(0)?.to_owned()),
    )?;
    for account in crowded {
        tx.exec(
            "DELETE FROM login_attempt WHERE key IN (SELECT key FROM login_attempt WHERE account = $1 AND result <> 'ok' \
             ORDER BY last DESC, key LIMIT 1000000 OFFSET $2)",
            params![&account, MAX_FAILED],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_cleaned() {
        let attempt = LoginAttempt { user_agent: "ä".repeat(1000), login_address: "a\0b\r\n".to_owned(), ..LoginAttempt::default() };
        let texts = attempt.cleaned();
        assert!(texts[7].len() <= MAX_TEXT && texts[7].len() > MAX_TEXT - 3);
        assert_eq!(texts[1], "a b  ");
    }

    #[test]
    fn equal_attempts_are_one() {
        let attempt = |user: &str| LoginAttempt { login_address: user.to_owned(), ..LoginAttempt::default() };
        let at = Timestamp::from_secs;
        let groups = grouped(&[(at(1), attempt("a")), (at(2), attempt("b")), (at(3), attempt("a"))]);
        let mut found: Vec<_> = groups.values().map(|e| (e.texts[1].as_str(), e.first, e.last, e.count)).collect();
        found.sort();
        assert_eq!(found, [("a", at(1), at(3), 2), ("b", at(2), at(2), 1)]);
    }
}
