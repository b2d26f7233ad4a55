//! Authors whose mail an account has taken before.
//!
//! A row for each address, kept when the message goes: someone who was once let in isn't new again because of an empty Inbox. An
//! address that was verified and the same one that wasn't are two authors, as anyone can write another's address.

use super::WriteTx;
use crate::account::ReadTx;
use crate::db;
use crate::error::Error;
use crate::params;
use mox_base::Address;

/// As in the column.
fn key(author: &Address) -> String {
    author.to_string().replace('\0', "\u{fffd}")
}

impl WriteTx<'_> {
    /// Notes that a message of an author was taken.
    ///
    /// # Errors
    /// The database failed.
    pub fn note_author(&mut self, author: &Address, verified: bool) -> Result<(), Error> {
        let sql = "INSERT INTO author (account_id, address, verified) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        self.tx.exec(sql, params![self.account(), &key(author), verified])?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Whether a message of an author was taken before, or the account has written to them.
    ///
    /// # Errors
    /// The database failed.
    pub fn knows_author(&self, author: &Address, verified: bool) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM author WHERE account_id = $1 AND address = $2 AND verified = $3";
        let known = self.tx.query_opt(sql, params![self.account(), &key(author), verified], |_| Ok::<_, db::Error>(()))?.is_some();
        Ok(known || self.has_written_to(author.localpart.as_str(), author.domain.unicode())?)
    }
}
