//! Noting with a message from which delivery it is, see [`crate::filing`].

use super::WriteTx;
use crate::db;
use crate::error::Error;
use crate::filing::FilingMark;
use crate::params;
use crate::queue::CopyId;
use std::time::Duration;

/// The queue files again what it didn't hear of, but not after so long.
const COPIES_NOTED: Duration = Duration::from_secs(30 * 24 * 3600);

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

    /// Notes that a copy of sent mail is added in this transaction; false if it was in an earlier one, and must not be added again.
    ///
    /// # Errors
    /// The database failed.
    pub fn copy_once(&mut self, copy: CopyId) -> Result<bool, Error> {
        self.tx.exec("DELETE FROM copied WHERE account_id = $1 AND at < $2", params![self.account(), self.now.before(COPIES_NOTED)])?;
        let insert = "INSERT INTO copied (account_id, copy, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        Ok(self.tx.exec(insert, params![self.account(), copy.0, self.now])? > 0)
    }
}
