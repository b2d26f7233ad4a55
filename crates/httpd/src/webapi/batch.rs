//! Several messages in one call, each with an end of its own.

use super::Call;
use super::once::used_before;
use super::send::Outgoing;
use mox_store::queue::RequestKey;
use mox_webapi::send::{SendBatchRequest, SendBatchResponse, SendBatchResult};
use mox_webapi::{Error, ErrorCode, SendRequest, SendResponse, Unknown};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Messages of a batch.
const MAX: usize = 100;

/// Those sent at once: they share the queue's commits.
const AT_ONCE: usize = 16;

impl Call {
    /// Sends each; nothing that happens to one concerns another. `text` is the request as it came.
    pub(super) async fn send_batch(self: Arc<Self>, request: SendBatchRequest, text: &str) -> Result<SendBatchResponse, Error> {
        if request.messages.is_empty() || request.messages.len() > MAX {
            return Err(Error::user(format!("a batch has 1 to {MAX} messages")));
        }
        let key = self.request_key(text, &Arc::default()).await?;
        let keys: Vec<Option<RequestKey>> = (0..request.messages.len()).map(|n| key.as_ref().map(|key| key_of_message(key, n))).collect();
        // Another request with the same key sends nothing, also not if the first one couldn't send anything.
        if let Some(key) = &key
            && self.taken_before(key).await?.is_some_and(|earlier| earlier.digest != key.digest)
        {
            return Err(used_before());
        }
        // Messages that the first one sent late are remembered longer than the key itself.
        for key in keys.iter().flatten() {
            if self.answered(key).await?.is_some_and(|earlier| earlier.digest != key.digest) {
                return Err(used_before());
            }
        }
        let mut waiting = request.messages.into_iter().zip(keys).enumerate();
        let mut results: BTreeMap<usize, SendBatchResult> = BTreeMap::new();
        let mut sending = JoinSet::new();
        let mut numbers = BTreeMap::new();
        loop {
            while sending.len() < AT_ONCE
                && let Some((n, (message, key))) = waiting.next()
            {
                let call = Arc::clone(&self);
                let task = sending.spawn(async move { call.one_of_batch(message, key).await });
                numbers.insert(task.id(), n);
            }
            let Some(ended) = sending.join_next_with_id().await else { break };
            let (id, result) = match ended {
                Ok((id, result)) => (id, result),
                Err(panic) => {
                    let error = self.server("sending message", &panic);
                    (panic.id(), SendBatchResult { response: None, error: Some(error.body()) })
                }
            };
            if let Some(n) = numbers.remove(&id) {
                results.insert(n, result);
            }
        }
        Ok(SendBatchResponse { results: results.into_values().collect() })
    }

    async fn one_of_batch(&self, request: SendRequest, key: Option<RequestKey>) -> SendBatchResult {
        let sent = self.send_one(Outgoing { request, uploads: Arc::default(), too_large: false, key }).await;
        let read = |text: String| {
            let response = mox_webapi::read::<SendResponse>(&text, Unknown::Ignore);
            response.map_err(|e| self.server("reading own answer", &e))
        };
        match sent.and_then(read) {
            Ok(response) => SendBatchResult { response: Some(response), error: None },
            Err(error) => {
                if error.code != ErrorCode::Server {
                    let (code, message) = (error.code.as_str(), &error.message);
                    tracing::info!(target: "webapi", cid = self.id, method = "SendBatch", code, message, "message of batch refused");
                }
                SendBatchResult { response: None, error: Some(error.body()) }
            }
        }
    }
}

/// No client can choose such a key: theirs have no spaces.
fn key_of_message(key: &RequestKey, n: usize) -> RequestKey {
    RequestKey { key: format!("{} {n}", key.key), ..key.clone() }
}
