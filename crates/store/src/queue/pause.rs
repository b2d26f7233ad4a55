//! Destinations that asked for a pause, so that a restart doesn't press them again.

use super::Queue;
use crate::db::Error;
use crate::params;
use mox_base::Timestamp;
use std::time::Duration;

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Who asked for it.
    pub destination: String,
    /// When it ends.
    pub until: Timestamp,
    /// How long it is: the next, without a delivery in between, is longer.
    pub length: Duration,
    /// What was said.
    pub reason: String,
}

impl Queue {
    /// The pauses that haven't ended. Those that have are forgotten.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pauses(&self, now: Timestamp) -> Result<Vec<Pause>, Error> {
        self.write(move |tx| {
            tx.exec("DELETE FROM queue_pause WHERE until_time <= $1", params![now])?;
            tx.query_all("SELECT destination, until_time, length, reason FROM queue_pause", &[], |row| {
                Ok::<_, Error>(Pause {
                    destination: row.text(0)?.to_owned(),
                    until: Timestamp::from_micros(row.int(1)?),
                    length: Duration::from_micros(u64::try_from(row.int(2)?).unwrap_or(0)),
                    reason: row.text(3)?.to_owned(),
                })
            })
        })
        .await
    }

    /// Notes a pause, in place of the destination's earlier one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn note_pause(&self, pause: Pause) -> Result<(), Error> {
        self.write(move |tx| {
            tx.exec(
                "INSERT INTO queue_pause (destination, until_time, length, reason) VALUES ($1, $2, $3, $4) ON CONFLICT (destination) \
                 DO UPDATE SET until_time = excluded.until_time, length = excluded.length, reason = excluded.reason",
                params![
                    &pause.destination,
                    pause.until,
                    u64::try_from(pause.length.as_micros()).unwrap_or(u64::MAX),
                    &super::entry::without_nul(&pause.reason)
                ],
            )?;
            Ok::<_, Error>(())
        })
        .await
    }

    /// Ends the pause of a destination, or with none all pauses.
    ///
    /// # Errors
    /// The database failed.
    pub async fn end_pause(&self, destination: Option<String>) -> Result<(), Error> {
        self.write(move |tx| {
            match &destination {
                Some(destination) => tx.exec("DELETE FROM queue_pause WHERE destination = $1", params![destination])?,
                None => tx.exec("DELETE FROM queue_pause", &[])?,
            };
            Ok::<_, Error>(())
        })
        .await
    }
}
