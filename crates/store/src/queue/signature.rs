//! DKIM signatures, kept for further attempts: what a message was signed with once stays the same, unless it gets old.

use super::Queue;
use super::entry::{QueueMessageId, Signature};
use crate::db::Error;
use crate::params;

impl Queue {
    /// Keeps the signature that a message was sent with, for its next attempts. A message that is gone needs none.
    ///
    /// # Errors
    /// The database failed: the next attempt will make another.
    pub async fn keep_signature(&self, message: QueueMessageId, signature: Signature) -> Result<(), Error> {
        let sql = "UPDATE queue_message SET signature = $1, signed_by = $2, sign_again = $3 WHERE id = $4";
        self.write(move |tx| tx.exec(sql, params![&signature.fields, &signature.by, signature.again, message.0]).map(|_| ())).await
    }
}
