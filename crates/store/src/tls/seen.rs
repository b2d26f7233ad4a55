//! What recipient domains were seen to offer, for those who write to them again.

use super::TlsStore;
use crate::error::Error;
use crate::params;
use mox_base::Timestamp;

/// What the hosts of a domain offered the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenTls {
    /// When.
    pub updated: Timestamp,
    /// STARTTLS.
    pub starttls: bool,
    /// REQUIRETLS.
    pub requiretls: bool,
}

impl TlsStore {
    /// Notes what a recipient domain offers to an account.
    ///
    /// # Errors
    /// The database failed.
    pub async fn note_seen(&self, account: &str, domain: &str, seen: SeenTls) -> Result<(), Error> {
        let (account, domain) = (account.to_owned(), domain.to_owned());
        self.db
            .write(move |tx| {
                tx.exec(
                    "INSERT INTO tls_seen (account, domain, updated, starttls, requiretls) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT (account, domain) DO UPDATE SET updated = excluded.updated, starttls = excluded.starttls, requiretls = excluded.requiretls",
                    params![&account, &domain, seen.updated, seen.starttls, seen.requiretls],
                )?;
                Ok(())
            })
            .await
    }

    /// What was seen.
    ///
    /// # Errors
    /// The database failed.
    pub async fn seen(&self, account: &str, domain: &str) -> Result<Option<SeenTls>, Error> {
        let (account, domain) = (account.to_owned(), domain.to_owned());
        self.db
            .read(move |tx| {
                let sql = "SELECT updated, starttls, requiretls FROM tls_seen WHERE account = $1 AND domain = $2";
                tx.query_opt(sql, params![&account, &domain], |row| {
                    Ok::<_, Error>(SeenTls {
                        updated: Timestamp::from_micros(row.int(0)?),
                        starttls: row.bool(1)?,
                        requiretls: row.bool(2)?,
                    })
                })
            })
            .await
    }
}
