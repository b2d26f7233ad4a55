//! The tables of the database `dmarc`.

use crate::db::schema::{Change, Column, Index, Key, Schema, Table};

pub(super) const SCHEMA: Schema =
    Schema { name: "dmarc", migrations: &[&[Change::Create(&EVALUATION), Change::Create(&SUPPRESSED), Change::Create(&REPORT)]] };

const EVALUATION: Table = Table {
    name: "dmarc_evaluation",
    account: false,
    columns: &[
        // In A-labels.
        Column::text("policy_domain"),
        // The beginning of the hour that it happened in.
        Column::int("hour"),
        // SHA-256 of what makes it one row: all but times and count.
        Column::blob("digest"),
        Column::int("count"),
        Column::int("first_at"),
        Column::int("last_at"),
        // 1: no reason by itself to send a report.
        Column::int("optional"),
        Column::int("interval_hours"),
        // Where reports are wanted, URIs with their limits, a line each.
        Column::text("addresses"),
        // XML.
        Column::text("published"),
        Column::text("record"),
    ],
    key: Key::Auto("id"),
    indexes: &[
        Index { name: "dmarc_evaluation_by_domain", columns: &["policy_domain", "hour", "digest"], unique: true },
        Index { name: "dmarc_evaluation_by_hour", columns: &["hour"], unique: false },
    ],
};

const SUPPRESSED: Table = Table {
    name: "dmarc_suppressed",
    account: false,
    columns: &[Column::text("address"), Column::int("inserted"), Column::int("until"), Column::text("comment")],
    key: Key::Columns(&["address"]),
    indexes: &[],
};

const REPORT: Table = Table {
    name: "dmarc_report",
    account: false,
    columns: &[
        Column::int("received"),
        // The domain reported on, and that of who sent the report.
        Column::text("domain"),
        Column::text("from_domain"),
        Column::text("organization"),
        Column::text("report_id"),
        Column::int("begin_at"),
        Column::int("end_at"),
        Column::int("total"),
        Column::int("disp_none"),
        Column::int("disp_quarantine"),
        Column::int("disp_reject"),
        Column::int("dkim_fail"),
        Column::int("spf_fail"),
        Column::int("overridden"),
        // SHA-256 of domain, sender and report: the same one comes again when a transaction was repeated.
        Column::blob("digest"),
        // XML, gzipped.
        Column::blob("report"),
    ],
    key: Key::Auto("id"),
    indexes: &[
        Index { name: "dmarc_report_by_domain", columns: &["domain", "begin_at"], unique: false },
        Index { name: "dmarc_report_by_received", columns: &["received"], unique: false },
        Index { name: "dmarc_report_by_digest", columns: &["digest"], unique: true },
    ],
};
