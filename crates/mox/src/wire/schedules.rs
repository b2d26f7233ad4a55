//! When what failed is tried again: the queue's deliveries and webhooks.

use mox_config::{DurationText, Static};
use mox_delivery::{outbound, webhook};
use std::time::Duration;

/// The schedules of a server.
#[derive(Clone, Debug)]
pub(super) struct Schedules {
    pub(super) queue: outbound::Schedule,
    pub(super) webhooks: webhook::Schedule,
}

impl Schedules {
    /// Those of the configuration, unless there are intervals for both `instead`.
    pub(super) fn new(fixed: &Static, instead: Option<&[Duration]>) -> Self {
        let intervals = |configured: &[DurationText]| {
            let configured = configured.iter().map(DurationText::duration);
            instead.map_or_else(|| configured.collect(), <[Duration]>::to_vec)
        };
        Self {
            queue: outbound::Schedule::new(intervals(&fixed.queue_retry_intervals)),
            webhooks: webhook::Schedule::new(intervals(&fixed.webhook_retry_intervals)),
        }
    }
}
