//! The tables of the queue's own database.
//!
//! - `queue_message`: what the entries of one submission share, its bytes included. Goes with its last entry.
//! - `queue_entry`: one recipient. The index by domain, hold, class and next attempt finds a domain's
//!   next entry.
//! - `queue_result`: what came of each attempt, for entries and retired entries alike.
//! - `queue_domain`: one row for each recipient domain with entries: when its earliest entry is due, and who is
//!   delivering to it and until when that may be believed. The scheduler only asks this table, so that a million
//!   entries for one busy domain are never looked at to find one for another.
//! - `queue_retired`: entries that are done, kept for a while.
//! - `queue_sent`, `queue_written`: how much each account has sent lately, and ever to whom.
//! - `queue_suppression`: to whom an account's mail isn't sent any more.
//! - `queue_hold_rule`: which entries are held.
//! - `queue_request`: requests that may be repeated, and what was answered.
//! - `queue_pause`: destinations that asked for a pause.
//! - `queue_copy`: copies of sent mail that are still to be filed in an account.
//! - `queue_room`: how much of each account waits.
//! - `queue_tally`: how many entries and webhooks were ever added, and how they ended.

use crate::db::schema::{Change, Column, Index, Key, Schema, Table};

pub(super) const SCHEMA: Schema = Schema {
    name: "queue",
    migrations: &[
        &[Change::Create(&MESSAGE), Change::Create(&ENTRY), Change::Create(&RESULT), Change::Create(&DOMAIN), Change::Create(&RETIRED)],
        &[Change::Create(&SENT), Change::Create(&WRITTEN)],
        crate::webhook::schema::CREATE,
        &[
            Change::Create(&SUPPRESSION),
            Change::Create(&HOLD_RULE),
            // How the attempt went out: transport, host, address, TLS.
            Change::AddColumn("queue_result", Column::text("transport").default("''")),
            Change::AddColumn("queue_result", Column::text("host").default("''")),
            Change::AddColumn("queue_result", Column::text("ip").default("''")),
            Change::AddColumn("queue_result", Column::text("tls").default("''")),
            // From ids in lower case: other systems change the case of addresses.
            Change::AddColumn("queue_entry", Column::text("from_id_key").null()),
            Change::AddColumn("queue_retired", Column::text("from_id_key").null()),
            Change::Run("UPDATE queue_entry SET from_id_key = lower(from_id)", "UPDATE queue_entry SET from_id_key = lower(from_id)"),
            Change::Run("UPDATE queue_retired SET from_id_key = lower(from_id)", "UPDATE queue_retired SET from_id_key = lower(from_id)"),
            Change::AddIndex(&ENTRY, Index { name: "queue_entry_from_id_key", columns: &["from_id_key"], unique: false }),
            Change::AddIndex(&RETIRED, Index { name: "queue_retired_from_id_key", columns: &["from_id_key"], unique: false }),
            // By which returned messages are recognised besides.
            Change::AddColumn("queue_retired", Column::text("envelope_id").null()),
            Change::AddIndex(&MESSAGE, Index { name: "queue_message_message_id", columns: &["message_id"], unique: false }),
            Change::AddIndex(&RETIRED, Index { name: "queue_retired_message_id", columns: &["message_id"], unique: false }),
            Change::AddIndex(&MESSAGE, Index { name: "queue_message_envelope_id", columns: &["envelope_id"], unique: false }),
            Change::AddIndex(&RETIRED, Index { name: "queue_retired_envelope_id", columns: &["envelope_id"], unique: false }),
            // Which files are known is asked at each start, whatever is queued.
            Change::AddIndex(&MESSAGE, Index { name: "queue_message_file", columns: &["file"], unique: false }),
            // How it ended: `delivered`, `failed`, `suppressed`, `canceled`.
            Change::AddColumn("queue_retired", Column::text("event").default("''")),
            Change::Run(HELD_INDEX, HELD_INDEX),
        ],
        crate::webhook::schema::ARRIVALS,
        &[Change::Create(&REQUEST)],
        &[
            Change::Create(&PAUSE),
            Change::Create(&COPY),
            Change::Create(&TALLY),
            // Totals begin with what is there.
            Change::Run(TALLY_ENTRIES, TALLY_ENTRIES),
            Change::Run(TALLY_WEBHOOKS, TALLY_WEBHOOKS),
        ],
        &[
            // Whose DKIM keys sign; what they signed with, by which keys, and when that gets old.
            Change::AddColumn("queue_message", Column::text("sign_domain").default("''")),
            Change::AddColumn("queue_message", Column::blob("signature").null()),
            Change::AddColumn("queue_message", Column::text("signed_by").default("''")),
            Change::AddColumn("queue_message", Column::int("sign_again").null()),
            // Classes of urgency: what is bulk waits for the rest.
            Change::AddColumn("queue_entry", Column::int("bulk").default("0")),
            Change::AddColumn("queue_domain", Column::int("next_urgent").null()),
            Change::Run("UPDATE queue_domain SET next_urgent = next_due", "UPDATE queue_domain SET next_urgent = next_due"),
            Change::Run("DROP INDEX queue_entry_due", "DROP INDEX queue_entry_due"),
            Change::AddIndex(&ENTRY, Index { name: ENTRY_DUE, columns: &["domain", "hold", "bulk", "next_attempt", "id"], unique: false }),
            Change::AddIndex(&DOMAIN, Index { name: "queue_domain_urgent", columns: &["next_urgent"], unique: false }),
            // Why the server holds an entry by itself; empty for an administrator's own reasons.
            Change::AddColumn("queue_entry", Column::text("hold_reason").default("''")),
            Change::AddColumn("queue_suppression", Column::int("expires").null()),
            Change::AddIndex(&SUPPRESSION, Index { name: "queue_suppression_expires", columns: &["expires"], unique: false }),
            // Users look at their own.
            Change::AddIndex(&ENTRY, Index { name: "queue_entry_account", columns: &["account", "queued", "id"], unique: false }),
            Change::AddIndex(&RETIRED, Index { name: "queue_retired_account", columns: &["account", "queued", "id"], unique: false }),
            Change::Create(&ROOM),
            Change::Run(ROOM_TAKEN, ROOM_TAKEN),
        ],
        &[
            // How important it is, from -9 to 9; NULL if the sender didn't say.
            Change::AddColumn("queue_message", Column::int("priority").null()),
            // By when it is to be delivered. Of the mode, 1 stands for returning it when it is late, 2 for telling of each host.
            Change::AddColumn("queue_message", Column::int("deliver_by").null()),
            Change::AddColumn("queue_message", Column::int("by_mode").default("0")),
            // The same time, while it still matters.
            Change::AddColumn("queue_entry", Column::int("by_due").null()),
        ],
    ],
};

/// Few entries are held, and how many is asked often.
const HELD_INDEX: &str = "CREATE INDEX queue_entry_held ON queue_entry (id) WHERE hold = 1";

const TALLY_ENTRIES: &str = "INSERT INTO queue_tally (shard, kind, n) SELECT 0, 'queued', COUNT(*) FROM queue_entry";
const TALLY_WEBHOOKS: &str = "INSERT INTO queue_tally (shard, kind, n) SELECT 0, 'webhooks', COUNT(*) FROM webhook";

/// By which a domain's next entry is found, of each class.
const ENTRY_DUE: &str = "queue_entry_due_of_class";

/// What waits already.
const ROOM_TAKEN: &str = "INSERT INTO queue_room (account, shard, entries, bytes) \
     SELECT account, 0, CAST(SUM(entries) AS BIGINT), CAST(SUM(bytes) AS BIGINT) FROM \
     (SELECT account, 1 AS entries, 0 AS bytes FROM queue_entry UNION ALL SELECT account, 0, size FROM queue_message) t GROUP BY account";

const ROOM: Table = Table {
    name: "queue_room",
    account: false,
    // Sums over the shards count; single rows may be negative.
    columns: &[Column::text("account"), Column::int("shard"), Column::int("entries"), Column::int("bytes")],
    key: Key::Columns(&["account", "shard"]),
    indexes: &[],
};

const PAUSE: Table = Table {
    name: "queue_pause",
    account: false,
    // Length in microseconds.
    columns: &[Column::text("destination"), Column::int("until_time"), Column::int("length"), Column::text("reason")],
    key: Key::Columns(&["destination"]),
    indexes: &[],
};

const COPY: Table = Table {
    name: "queue_copy",
    account: false,
    // What the account's copy has before the message's body.
    columns: &[Column::int("id"), Column::text("account"), Column::int("message"), Column::blob("prefix")],
    key: Key::Columns(&["id"]),
    indexes: &[Index { name: "queue_copy_message", columns: &["message"], unique: false }],
};

const TALLY: Table = Table {
    name: "queue_tally",
    account: false,
    columns: &[Column::int("shard"), Column::text("kind"), Column::int("n")],
    key: Key::Columns(&["shard", "kind"]),
    indexes: &[],
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

const SUPPRESSION: Table = Table {
    name: "queue_suppression",
    account: false,
    columns: &[
        Column::text("account"),
        // The address without what users add to it themselves.
        Column::text("base"),
        Column::text("original"),
        Column::int("created"),
        Column::int("manual"),
        Column::text("reason"),
    ],
    key: Key::Auto("id"),
    indexes: &[Index { name: "queue_suppression_base", columns: &["account", "base"], unique: true }],
};

const REQUEST: Table = Table {
    name: "queue_request",
    account: false,
    columns: &[
        Column::text("account"),
        Column::text("request_key"),
        // SHA-256 of what was requested.
        Column::blob("digest"),
        Column::blob("answer"),
        Column::int("created"),
    ],
    key: Key::Columns(&["account", "request_key"]),
    indexes: &[Index { name: "queue_request_created", columns: &["created"], unique: false }],
};

const HOLD_RULE: Table = Table {
    name: "queue_hold_rule",
    account: false,
    // Empty for any. Domains in Unicode.
    columns: &[Column::text("account"), Column::text("sender_domain"), Column::text("recipient_domain")],
    key: Key::Auto("id"),
    indexes: &[],
};
