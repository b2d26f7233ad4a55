//! What the account sends: its entries in the queue.

use super::Call;
use super::send::MAX_FUTURE;
use mox_base::{QueueId, Timestamp};
use mox_delivery::outbound::AccountAftermath;
use mox_store::db::Error as StoreError;
use mox_store::queue::{AttemptResult, Cancel, Entry, Filter, Listed, Page, QueuedMessage, Reschedule, RetiredEntry, Sort, SortField};
use mox_webapi::listing::{
    QueueAttempt, QueueCancelRequest, QueueCancelResponse, QueueEntry, QueueListRequest, QueueListResponse, QueueRescheduleRequest,
    QueueRescheduleResponse,
};
use mox_webapi::{Error, ErrorCode};
use std::sync::Arc;

/// Entries in a page: usually, and at most.
const PAGE: u64 = 100;
const MAX_PAGE: u64 = 1000;

/// Ids in a call.
const MAX_IDS: usize = 1000;

impl Call {
    pub(super) async fn queue_list(&self, request: QueueListRequest) -> Result<QueueListResponse, Error> {
        let limit = u64::try_from(request.limit).ok().filter(|n| *n > 0).unwrap_or(PAGE).min(MAX_PAGE);
        let filter = self.own(&request.queue_msg_ids)?;
        let sort = Sort { field: SortField::Added, ascending: false, after: position(&request.after)? };
        // One more than asked for tells whether there is another page.
        let page = Page { limit: limit.saturating_add(1) };
        let failed = |e: StoreError| self.server("reading queue", &e);
        let mut entries: Vec<(Timestamp, QueueEntry)> = Vec::new();
        if request.ended {
            let listed = self.parts().queue.list_retired(filter, sort, page).await.map_err(failed)?;
            entries.extend(listed.into_iter().map(|listed| (listed.row.queued, ended(listed))));
        } else {
            let listed = self.parts().queue.list_with_messages(filter, sort, page).await.map_err(failed)?;
            entries.extend(listed.into_iter().map(|(listed, message)| (listed.row.queued, waiting(listed, &message))));
        }
        let more = entries.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let last = entries.last().filter(|_| more);
        let next = last.map(|(queued, entry)| format!("{}.{}", queued.micros(), entry.queue_msg_id)).unwrap_or_default();
        Ok(QueueListResponse { entries: entries.into_iter().map(|(_, entry)| entry).collect(), next })
    }

    pub(super) async fn queue_cancel(&self, request: QueueCancelRequest) -> Result<QueueCancelResponse, Error> {
        let filter = self.own(some(&request.queue_msg_ids)?)?;
        let aftermath = Arc::new(AccountAftermath::new(self.parts().directory.clone()));
        let canceled = self.parts().queue.cancel(filter, Cancel::Drop, self.parts().clock.now(), aftermath).await;
        let canceled = canceled.map_err(|e| self.server("cancelling delivery", &e))?;
        tracing::info!(target: "webapi", cid = self.id, account = self.caller.account.name, canceled, "delivery canceled by user");
        Ok(QueueCancelResponse { canceled: i64::try_from(canceled).unwrap_or(i64::MAX) })
    }

    pub(super) async fn queue_reschedule(&self, request: QueueRescheduleRequest) -> Result<QueueRescheduleResponse, Error> {
        let filter = self.own(some(&request.queue_msg_ids)?)?;
        let now = self.parts().clock.now();
        let at = request.next_attempt.map_or(now, |time| time.at.max(now));
        if at > now.after(MAX_FUTURE) {
            return Err(Error::user("NextAttempt is more than 60 days ahead"));
        }
        let rescheduled = self.parts().queue.reschedule(filter, Reschedule::At(at)).await;
        let rescheduled = rescheduled.map_err(|e| self.server("rescheduling delivery", &e))?;
        tracing::info!(target: "webapi", cid = self.id, account = self.caller.account.name, rescheduled, "delivery rescheduled by user");
        Ok(QueueRescheduleResponse { rescheduled: i64::try_from(rescheduled).unwrap_or(i64::MAX) })
    }

    /// Entries of the caller's account, with these ids or all.
    fn own(&self, ids: &[i64]) -> Result<Filter, Error> {
        if ids.len() > MAX_IDS {
            return Err(Error::user(format!("at most {MAX_IDS} ids in one call")));
        }
        let ids = ids.iter().copied().map(QueueId).collect();
        Ok(Filter { account: Some(self.caller.account.name.clone()), ids, ..Filter::default() })
    }
}

/// Ids, of which there must be some: without any, all entries would be meant.
fn some(ids: &[i64]) -> Result<&[i64], Error> {
    if ids.is_empty() { Err(Error::user("at least one id is needed")) } else { Ok(ids) }
}

/// Where a page begins.
fn position(after: &str) -> Result<Option<(Timestamp, QueueId)>, Error> {
    if after.is_empty() {
        return Ok(None);
    }
    let parts = after.split_once('.').and_then(|(queued, id)| Some((queued.parse().ok()?, id.parse().ok()?)));
    let (queued, id) = parts.ok_or_else(|| Error::new(ErrorCode::User, "field After isn't from a page before"))?;
    Ok(Some((Timestamp::from_micros(queued), QueueId(id))))
}

fn waiting(listed: Listed<Entry>, message: &QueuedMessage) -> QueueEntry {
    let Listed { row, results } = listed;
    QueueEntry {
        queue_msg_id: row.id.0,
        from_id: row.from_id.unwrap_or_default(),
        message_id: message.message_id.clone(),
        subject: message.subject.clone(),
        rcpt_to: row.recipient.to_string(),
        queued: row.queued.into(),
        state: if row.hold { "held" } else { "waiting" }.to_owned(),
        next_attempt: (!row.hold).then(|| row.next_attempt.into()),
        ended_at: None,
        attempts: results.into_iter().map(attempt).collect(),
        extra: message.extra.clone(),
    }
}

fn ended(listed: Listed<RetiredEntry>) -> QueueEntry {
    let Listed { row, results } = listed;
    // Those that were retired before how they ended was noted.
    let state = row.event.map_or(if row.success { "delivered" } else { "failed" }, |event| event.name());
    QueueEntry {
        queue_msg_id: row.id.0,
        from_id: row.from_id.unwrap_or_default(),
        message_id: row.message_id,
        subject: row.subject,
        rcpt_to: row.recipient,
        queued: row.queued.into(),
        state: state.to_owned(),
        next_attempt: None,
        ended_at: Some(row.last_activity.into()),
        attempts: results.into_iter().map(attempt).collect(),
        extra: row.extra,
    }
}

fn attempt(result: AttemptResult) -> QueueAttempt {
    let class = result.code / 100;
    QueueAttempt {
        start: result.start.into(),
        success: result.success,
        smtp_code: result.code.into(),
        smtp_enhanced_code: if result.secode.is_empty() { String::new() } else { format!("{class}.{}", result.secode) },
        error: result.error,
        host: result.via.host,
        tls: result.via.tls,
    }
}
