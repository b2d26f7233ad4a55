//! The tables of the queue's own database.
//!
//! - `queue_message`: what the entries of one submission share, its bytes included. Goes with its last entry.
//! - `queue_entry`: one recipient. The index by domain, hold and next attempt finds a domain's next entry.
//! - `queue_result`: what came of each attempt, for entries and retired entries alike.
//! - `queue_domain`: one row for each recipient domain with entries: when its earliest entry is due, and who is
//!   delivering to it and until when that may be believed. The scheduler only asks this table, so that a million
//!   entries for one busy domain are never looked at to find one for another.
//! - `queue_retired`: entries that are done, kept for a while.
//! - `queue_sent`, `queue_written`: how much each account has sent lately, and ever to whom.

use crate::db::schema::{Change, Column, Index, Key, Schema, Table};

pub(super) const SCHEMA: Schema = Schema {
    name: "queue",
    migrations: &[
        &[Change::Create(&MESSAGE), Change::Create(&ENTRY), Change::Create(&RESULT), Change::Create(&DOMAIN), Change::Create(&RETIRED)],
        &[Change::Create(&SENT), Change::Create(&WRITTEN)],
        crate::webhook::schema::CREATE,
    ],
};

const MESSAGE: Table = Table {
    name: "queue_message",
    account: false,
    columns: &[
        Column::text("account"),
        Column::int("queued"),
        // Of prefix and body, as sent.
        Column::int("size"),
        Column::blob("prefix"),
        // The body: compressed here, or as a file of this name.
        Column::blob("body").null(),
        Column::text("file").null(),
        Column::int("has_8bit"),
        Column::int("smtputf8"),
        Column::text("message_id"),
        Column::text("subject"),
        // What is sent instead of the body to hosts with SMTPUTF8; of DSNs.
        Column::blob("body_utf8").null(),
        Column::int("report"),
        Column::text("future_release"),
        Column::text("extra"),
        Column::text("envelope_id").null(),
        Column::int("return_full"),
    ],
    key: Key::Auto("id"),
    indexes: &[],
};

const ENTRY: Table = Table {
    name: "queue_entry",
    account: false,
    columns: &[
        Column::int("base_id"),
        Column::int("message"),
        Column::text("account"),
        Column::int("queued"),
        Column::int("hold"),
        // Addresses as text, Unicode, quoted where needed; an empty sender is the null reverse-path.
        Column::text("sender"),
        Column::text("from_id").null(),
        Column::text("recipient"),
        Column::text("domain"),
        Column::int("attempts"),
        Column::int("max_attempts"),
        Column::text("dialed"),
        Column::int("next_attempt"),
        Column::int("last_attempt").null(),
        Column::text("transport"),
        Column::int("require_tls").null(),
        Column::int("notify"),
        Column::text("original_recipient").null(),
    ],
    key: Key::Auto("id"),
    indexes: &[
        Index { name: "queue_entry_due", columns: &["domain", "hold", "next_attempt", "id"], unique: false },
        Index { name: "queue_entry_next", columns: &["next_attempt", "id"], unique: false },
        Index { name: "queue_entry_queued", columns: &["queued", "id"], unique: false },
        Index { name: "queue_entry_message", columns: &["message"], unique: false },
        Index { name: "queue_entry_base", columns: &["base_id"], unique: false },
        Index { name: "queue_entry_from_id", columns: &["from_id"], unique: true },
    ],
};

const RESULT: Table = Table {
    name: "queue_result",
    account: false,
    columns: &[
        Column::int("entry"),
        Column::int("number"),
        Column::int("start"),
        // Microseconds.
        Column::int("duration"),
        Column::int("success"),
        Column::int("code"),
        Column::text("secode"),
        Column::text("error"),
    ],
    key: Key::Columns(&["entry", "number"]),
    indexes: &[],
};

const DOMAIN: Table = Table {
    name: "queue_domain",
    account: false,
    columns: &[
        Column::text("domain"),
        // When the earliest entry that isn't held is due; NULL when all are.
        Column::int("next_due").null(),
        // Somebody is delivering to the domain, and says so until then.
        Column::int("leased_until"),
        Column::int("owner"),
    ],
    key: Key::Columns(&["domain"]),
    indexes: &[Index { name: "queue_domain_due", columns: &["next_due"], unique: false }],
};

const RETIRED: Table = Table {
    name: "queue_retired",
    account: false,
    columns: &[
        Column::int("id"),
        Column::int("base_id"),
        Column::text("account"),
        Column::int("queued"),
        Column::text("sender"),
        Column::text("from_id").null(),
        Column::text("recipient"),
        Column::text("domain"),
        Column::int("attempts"),
        Column::int("max_attempts"),
        Column::text("dialed"),
        Column::int("last_attempt").null(),
        Column::text("transport"),
        Column::int("require_tls").null(),
        Column::int("has_8bit"),
        Column::int("smtputf8"),
        Column::int("report"),
        Column::int("size"),
        Column::text("message_id"),
        Column::text("subject"),
        Column::text("future_release"),
        Column::text("extra"),
        Column::int("last_activity"),
        Column::int("success"),
        Column::int("keep_until"),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[
        Index { name: "queue_retired_activity", columns: &["last_activity", "id"], unique: false },
        Index { name: "queue_retired_keep", columns: &["keep_until"], unique: false },
        Index { name: "queue_retired_recipient", columns: &["recipient", "last_activity"], unique: false },
        Index { name: "queue_retired_from_id", columns: &["from_id"], unique: false },
    ],
};

/// Seconds that a row of `queue_sent` stands for.
pub(super) const SENT_BUCKET: i64 = 600;

const SENT: Table = Table {
    name: "queue_sent",
    account: false,
    columns: &[
        Column::text("account"),
        // Seconds since 1970, divided by [`SENT_BUCKET`].
        Column::int("bucket"),
        Column::int("messages"),
        Column::int("first_time"),
    ],
    key: Key::Columns(&["account", "bucket"]),
    indexes: &[],
};

const WRITTEN: Table = Table {
    name: "queue_written",
    account: false,
    columns: &[Column::text("account"), Column::text("recipient")],
    key: Key::Columns(&["account", "recipient"]),
    indexes: &[],
};
