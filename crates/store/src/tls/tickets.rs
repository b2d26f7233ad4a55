//! Keys of session tickets of TLS, for all nodes: one for each day, so that it doesn't matter who makes it.

use super::TlsStore;
use crate::error::Error;
use crate::params;
use mox_base::{Secret, Timestamp};

/// Days for which a key is kept after its own.
const OLDER: i64 = 7;

const DAY_SECS: i64 = 86_400;

impl TlsStore {
    /// The keys that count now: the day's, which is made if it isn't there, and those of up to seven days before it, the newest first.
    /// Older ones are forgotten.
    ///
    /// # Errors
    /// The database failed.
    pub async fn ticket_keys(&self, now: Timestamp) -> Result<Vec<Secret<[u8; 32]>>, Error> {
        let day = now.secs().div_euclid(DAY_SECS);
        let mut new = [0; 32];
        self.random.fill(&mut new);
        self.db
            .write(move |tx| {
                let made = "INSERT INTO tls_ticket_key (day, secret) VALUES ($1, $2) ON CONFLICT (day) DO NOTHING";
                tx.exec(made, params![day, &new[..]])?;
                // One from the future is of a clock that was wrong; tomorrow's may be that of a node whose clock is ahead.
                let forget = "DELETE FROM tls_ticket_key WHERE day < $1 OR day > $2";
                tx.exec(forget, params![day.saturating_sub(OLDER), day.saturating_add(1)])?;
                let mut keys = Vec::new();
                tx.query("SELECT secret FROM tls_ticket_key WHERE day <= $1 ORDER BY day DESC", params![day], |row| {
                    // Whatever has another length isn't one of ours.
                    keys.extend(row.blob(0)?.try_into().ok().map(Secret::new));
                    Ok::<_, Error>(())
                })?;
                Ok(keys)
            })
            .await
    }
}
