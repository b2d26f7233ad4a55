//! Noting with a message from which delivery it is, see [`crate::filing`].

use super::WriteTx;
use crate::db;
use crate::error::Error;
use crate::filing::FilingMark;
use crate::params;

impl WriteTx<'_> {
    /// Notes that a filing's message is added for this recipient in this transaction; false if it was in an earlier one, and
    /// must not be added again.
    ///
    /// # Errors
    /// The database failed.
    pub fn file_once(&mut self, filing: FilingMark, recipient: &str) -> Result<bool, Error> {
        let found = self.tx.query_opt(
            "SELECT 1 FROM filed WHERE account_id = $1 AND filing = $2 AND recipient = $3",
            params![self.account(), filing.id, recipient],
            |_| Ok::<_, db::Error>(()),
        )?;
        if found.is_some() {
            return Ok(false);
        }
        self.tx.exec("DELETE FROM filed WHERE account_id = $1 AND filing < $2", params![self.account(), filing.oldest])?;
        self.tx
            .exec("INSERT INTO filed (account_id, filing, recipient) VALUES ($1, $2, $3)", params![self.account(), filing.id, recipient])?;
        Ok(true)
    }
}
