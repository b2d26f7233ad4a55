//! The tables of webhooks, in the queue's database.
//!
//! - `webhook`: one call to be made, its body included. The index by URL and next attempt finds a URL's next call.
//! - `webhook_result`: what came of each attempt, for waiting and retired webhooks alike.
//! - `webhook_url`: one row for each URL with webhooks: when its earliest is due, and who is calling it and until when that
//!   may be believed. A thousand webhooks for a dead URL are never looked at to find one for another.
//! - `webhook_retired`: webhooks that are done, kept for a while.

use crate::db::schema::{Change, Column, Index, Key, Table};

/// What makes them.
pub(crate) const CREATE: &[Change] = &[Change::Create(&WEBHOOK), Change::Create(&RESULT), Change::Create(&URL), Change::Create(&RETIRED)];

/// What makes the record of which messages were told of.
pub(crate) const ARRIVALS: &[Change] = &[Change::Create(&ARRIVAL)];

/// For each account, the newest message that arrived and was told of.
const ARRIVAL: Table = Table {
    name: "webhook_arrival",
    account: false,
    columns: &[Column::int("account"), Column::int("message")],
    key: Key::Columns(&["account"]),
    indexes: &[],
};

const WEBHOOK: Table = Table {
    name: "webhook",
    account: false,
    columns: &[
        // NULL for incoming messages.
        Column::int("queue_id").null(),
        Column::text("from_id"),
        Column::text("message_id"),
        Column::text("subject"),
        Column::text("extra"),
        Column::text("account"),
        Column::text("url"),
        // The URL, or a digest of one that is too long for an index.
        Column::text("url_key"),
        Column::text("auth_value").null(),
        Column::text("secret").null(),
        Column::text("event"),
        Column::int("submitted"),
        Column::int("attempts"),
        Column::int("next_attempt"),
        Column::text("payload"),
    ],
    key: Key::Auto("id"),
    indexes: &[
        Index { name: "webhook_due", columns: &["url_key", "next_attempt", "id"], unique: false },
        Index { name: "webhook_next", columns: &["next_attempt", "id"], unique: false },
        Index { name: "webhook_submitted", columns: &["submitted", "id"], unique: false },
        Index { name: "webhook_queue", columns: &["queue_id", "id"], unique: false },
    ],
};

const RESULT: Table = Table {
    name: "webhook_result",
    account: false,
    columns: &[
        Column::int("webhook"),
        Column::int("number"),
        Column::int("start"),
        // Microseconds.
        Column::int("duration"),
        Column::text("url"),
        Column::int("success"),
        Column::int("code"),
        Column::text("error"),
        Column::text("response"),
    ],
    key: Key::Columns(&["webhook", "number"]),
    indexes: &[],
};

const URL: Table = Table {
    name: "webhook_url",
    account: false,
    columns: &[
        Column::text("url_key"),
        // When the earliest webhook is due that doesn't wait for another.
        Column::int("next_due").null(),
        // Somebody is calling, and says so until then.
        Column::int("leased_until"),
        Column::int("owner"),
    ],
    key: Key::Columns(&["url_key"]),
    indexes: &[Index { name: "webhook_url_due", columns: &["next_due"], unique: false }],
};

const RETIRED: Table = Table {
    name: "webhook_retired",
    account: false,
    columns: &[
        Column::int("id"),
        Column::int("queue_id").null(),
        Column::text("from_id"),
        Column::text("message_id"),
        Column::text("subject"),
        Column::text("extra"),
        Column::text("account"),
        Column::text("url"),
        // Whether there was one.
        Column::int("with_auth"),
        Column::text("event"),
        Column::int("submitted"),
        // NULL when it wasn't replaced.
        Column::int("superseded_by").null(),
        Column::int("attempts"),
        Column::int("success"),
        Column::int("last_activity"),
        Column::int("keep_until"),
        Column::text("payload"),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[
        Index { name: "webhook_retired_activity", columns: &["last_activity", "id"], unique: false },
        Index { name: "webhook_retired_submitted", columns: &["submitted", "id"], unique: false },
        Index { name: "webhook_retired_keep", columns: &["keep_until"], unique: false },
    ],
};
