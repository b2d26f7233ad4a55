//! Notes about messages that arrived and that somebody is still to be told of.
//!
//! A note is written in the transaction that adds its message, so that neither is there without the other. Whoever tells
//! reads the notes in the order of their messages, does it, and then removes them; after a crash they are still there.

use super::WriteTx;
use crate::account::Account;
use crate::db;
use crate::error::Error;
use crate::params;
use mox_base::MessageId;

impl WriteTx<'_> {
    /// Notes something about a message that this transaction added.
    ///
    /// # Errors
    /// The database failed.
    pub fn note_arrival(&mut self, message: MessageId, note: &str) -> Result<(), Error> {
        let sql = "INSERT INTO arrival (account_id, message_id, note) VALUES ($1, $2, $3)";
        self.tx.exec(sql, params![self.account(), message, &note.replace('\0', "\u{fffd}")])?;
        Ok(())
    }
}

/// How many notes are read at once.
const PAGE: i64 = 50;

impl Account {
    /// The oldest notes, in the order of their messages.
    ///
    /// # Errors
    /// The database failed.
    pub async fn arrivals(&self) -> Result<Vec<(MessageId, String)>, Error> {
        self.read(|tx| {
            let mut found = Vec::new();
            let sql = format!("SELECT message_id, note FROM arrival WHERE account_id = $1 ORDER BY message_id LIMIT {PAGE}");
            tx.tx.query(&sql, params![tx.account()], |row| {
                found.push((MessageId(row.int(0)?), row.text(1)?.to_owned()));
                Ok::<_, db::Error>(())
            })?;
            Ok(found)
        })
        .await
    }

    /// Removes notes, up to that of this message.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget_arrivals(&self, up_to: MessageId) -> Result<(), Error> {
        self.write(move |tx| {
            tx.tx.exec("DELETE FROM arrival WHERE account_id = $1 AND message_id <= $2", params![tx.account(), up_to])?;
            Ok(())
        })
        .await
    }
}
