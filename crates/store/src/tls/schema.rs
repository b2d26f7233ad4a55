//! The tables of the database `tls`.

use crate::db::schema::{Change, Column, Index, Key, Schema, Table};

pub(super) const SCHEMA: Schema = Schema {
    name: "tls",
    migrations: &[
        &[Change::Create(&POLICY), Change::Create(&RESULT), Change::Create(&SUPPRESSED), Change::Create(&REPORT), Change::Create(&SEEN)],
        // Reports by the time they are about, and each once.
        &[
            Change::AddColumn("tls_report", Column::int("begin_at").default("0")),
            Change::AddColumn("tls_report", Column::int("end_at").default("0")),
            Change::AddColumn("tls_report", Column::int("success").default("0")),
            Change::AddColumn("tls_report", Column::int("failure").default("0")),
            Change::AddColumn("tls_report", Column::blob("digest").null()),
            Change::AddIndex(&REPORT, Index { name: "tls_report_by_digest", columns: &["digest"], unique: true }),
        ],
        &[Change::Create(&TICKET_KEY)],
    ],
};

const POLICY: Table = Table {
    name: "mtasts_policy",
    account: false,
    columns: &[
        // In A-labels.
        Column::text("domain"),
        Column::int("inserted"),
        Column::int("valid_end"),
        Column::int("updated"),
        Column::int("used"),
        // 1: the last fetch failed, there is no policy and none is fetched before the end.
        Column::int("backoff"),
        Column::text("record_id"),
        Column::text("policy"),
    ],
    key: Key::Columns(&["domain"]),
    indexes: &[Index { name: "mtasts_policy_by_update", columns: &["updated"], unique: false }],
};

const RESULT: Table = Table {
    name: "tls_result",
    account: false,
    columns: &[
        // In A-labels.
        Column::text("policy_domain"),
        // YYYYMMDD, UTC.
        Column::int("day"),
        Column::text("recipient_domain"),
        Column::int("created"),
        Column::int("updated"),
        Column::int("is_host"),
        Column::int("send_report"),
        // 1: part of a report that was sent to the recipient domain, to the policy domain.
        Column::int("sent_recipient"),
        Column::int("sent_policy"),
        // JSON.
        Column::text("results"),
    ],
    key: Key::Columns(&["policy_domain", "day", "recipient_domain"]),
    indexes: &[
        Index { name: "tls_result_by_day", columns: &["day"], unique: false },
        Index { name: "tls_result_by_recipient", columns: &["recipient_domain", "day"], unique: false },
    ],
};

const SUPPRESSED: Table = Table {
    name: "tls_suppressed",
    account: false,
    columns: &[Column::text("address"), Column::int("inserted"), Column::int("until"), Column::text("comment")],
    key: Key::Columns(&["address"]),
    indexes: &[],
};

const REPORT: Table = Table {
    name: "tls_report",
    account: false,
    columns: &[
        Column::int("received"),
        Column::text("domain"),
        Column::text("from_domain"),
        Column::text("mail_from"),
        Column::int("host_report"),
        Column::text("report"),
    ],
    key: Key::Auto("id"),
    indexes: &[Index { name: "tls_report_by_domain", columns: &["domain", "received"], unique: false }],
};

const TICKET_KEY: Table = Table {
    name: "tls_ticket_key",
    account: false,
    // Days since 1970, UTC.
    columns: &[Column::int("day"), Column::blob("secret")],
    key: Key::Columns(&["day"]),
    indexes: &[],
};

const SEEN: Table = Table {
    name: "tls_seen",
    account: false,
    columns: &[Column::text("account"), Column::text("domain"), Column::int("updated"), Column::int("starttls"), Column::int("requiretls")],
    key: Key::Columns(&["account", "domain"]),
    indexes: &[],
};
