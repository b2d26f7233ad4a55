//! The tables of an account, and of the server.
//!
//! The narrow `message_state` says which messages are in a mailbox, in the order of UIDs; what is large is in `message` and
//! `message_content`. What changes all the time is packed: `mailbox_bitmap` has a mailbox' UIDs and flags, in chunks of 65,536 UIDs, so that
//! opening a mailbox doesn't read a row per message, and `flag_modseqs` when flags were changed, so that changing them doesn't write one.
//! `change` is the history that sessions, and clients that come back, catch up from.
//! A delivery touches about ten pages; each further index would cost every delivery one more.

use crate::db::schema::{Change, Column, Index, Key, Schema, Table};

const ACCOUNT_STATE: Table = Table {
    name: "account_state",
    account: false,
    columns: &[
        Column::int("account_id"),
        // Raised by each transaction that changes what is kept in memory: how another process' changes are noticed.
        Column::int("version"),
        Column::int("modseq"),
        Column::int("forgotten"),
        Column::int("next_uidvalidity"),
        Column::int("next_mailbox"),
        Column::int("next_message"),
        Column::int("next_blob"),
        Column::int("used"),
    ],
    key: Key::Columns(&["account_id"]),
    indexes: &[],
};

const MAILBOX: Table = Table {
    name: "mailbox",
    account: true,
    columns: &[
        Column::int("id"),
        Column::int("parent_id").null(),
        Column::text("name"),
        Column::int("uidvalidity"),
        Column::int("uidnext"),
        Column::int("modseq"),
        Column::int("create_seq"),
        Column::int("expunged"),
        Column::int("special_use"),
        Column::int("messages"),
        Column::int("deleted"),
        Column::int("unseen"),
        Column::int("unread"),
        Column::int("size"),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[],
};

const KEYWORD: Table = Table {
    name: "keyword",
    account: true,
    columns: &[Column::int("mailbox_id"), Column::int("idx"), Column::text("name")],
    key: Key::Clustered(&["mailbox_id", "idx"]),
    indexes: &[],
};

const SUBSCRIPTION: Table =
    Table { name: "subscription", account: true, columns: &[Column::text("name")], key: Key::Clustered(&["name"]), indexes: &[] };

const MAILBOX_BITMAP: Table = Table {
    name: "mailbox_bitmap",
    account: true,
    // kind: 0 the UIDs, 1 to 10 those with a flag, from 16 on those with a keyword.
    columns: &[Column::int("mailbox_id"), Column::int("chunk"), Column::int("kind"), Column::blob("bits")],
    key: Key::Columns(&["mailbox_id", "chunk", "kind"]),
    indexes: &[],
};

const MESSAGE_STATE: Table = Table {
    name: "message_state",
    account: true,
    columns: &[
        Column::int("mailbox_id"),
        Column::int("uid"),
        Column::int("id"),
        // Dropped later: `mailbox_bitmap` has the flags, `flag_modseqs` when they became so.
        Column::int("flags"),
        Column::int("modseq"),
        Column::int("size"),
        Column::int("received"),
        Column::int("saved").null(),
    ],
    key: Key::Clustered(&["mailbox_id", "uid"]),
    indexes: &[],
};

/// When flags of messages changed that came earlier, see `flag_modseqs`.
const FLAG_MODSEQS: Table = Table {
    name: "flag_modseqs",
    account: true,
    columns: &[Column::int("mailbox_id"), Column::int("block"), Column::blob("runs")],
    key: Key::Clustered(&["mailbox_id", "block"]),
    indexes: &[],
};

/// Removed messages that sessions may still show, RFC 2180 §4.1, until they are erased.
const EXPUNGED: Table = Table {
    name: "expunged",
    account: true,
    columns: &[
        Column::int("mailbox_id"),
        Column::int("uid"),
        Column::int("id"),
        Column::int("flags"),
        Column::int("modseq"),
        Column::int("size"),
        Column::int("received"),
        Column::int("saved").null(),
        // 1 if the message lives on elsewhere: nothing but this row is to be erased.
        Column::int("moved"),
    ],
    key: Key::Clustered(&["mailbox_id", "uid"]),
    indexes: &[],
};

const MESSAGE: Table = Table {
    name: "message",
    account: true,
    columns: &[
        Column::int("id"),
        Column::int("mailbox_id"),
        Column::int("uid"),
        Column::int("blob_id"),
        Column::int("create_seq"),
        Column::int("prefix_size"),
        // What IMAP sends, ready.
        Column::blob("envelope"),
        Column::blob("bodystructure"),
        Column::text("message_id").null(),
        Column::int("message_key").null(),
        Column::text("subject").null(),
        Column::int("subject_key").null(),
        Column::int("thread_id"),
        // Ancestors from parent to root, 8 bytes each, little-endian.
        Column::blob("thread_parents").null(),
        // 1 missing link, 2 muted, 4 collapsed.
        Column::int("thread_flags"),
        Column::int("dsn"),
        Column::int("orig_mailbox_id"),
        Column::int("destined_mailbox_id").null(),
        // 1 reject, 2 forwarded, 4 mailing list.
        Column::int("kind"),
        Column::int("trained_junk").null(),
        Column::blob("content_hash").null(),
        Column::text("remote_ip").null(),
        Column::text("ehlo").null(),
        Column::text("mail_from").null(),
        Column::text("rcpt_to").null(),
        Column::text("msg_from").null(),
        Column::int("ehlo_validation").null(),
        Column::int("mail_from_validation").null(),
        Column::int("msg_from_validation").null(),
        Column::text("dkim_domains").null(),
        Column::int("tls_version").null(),
        Column::int("tls_cipher").null(),
        Column::int("requiretls").null(),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[
        Index { name: "message_by_message_id", columns: &["message_key"], unique: false },
        Index { name: "message_by_subject", columns: &["subject_key"], unique: false },
    ],
};

/// The rest of what never changes. Apart, because a FETCH of ENVELOPE or BODYSTRUCTURE of a large mailbox reads every page of `message`.
const MESSAGE_CONTENT: Table = Table {
    name: "message_content",
    account: true,
    columns: &[
        Column::int("id"),
        // Common header fields, as they are; NULL if too large, then the blob has them.
        Column::blob("headers").null(),
        // `message::Structure`, encoded.
        Column::blob("structure"),
        Column::text("preview").null(),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[],
};

const BLOB: Table = Table {
    name: "blob",
    account: true,
    columns: &[
        Column::int("id"),
        Column::int("refs"),
        Column::int("size"),
        // A file's name and the compressed sizes of its blocks, 4 bytes each, little-endian …
        Column::text("name").null(),
        Column::blob("blocks").null(),
        // … or the only block.
        Column::blob("data").null(),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[],
};

const CHANGE: Table = Table {
    name: "change",
    account: true,
    // mailbox_id is 0 for what concerns the list of mailboxes.
    columns: &[Column::int("mailbox_id"), Column::int("modseq"), Column::int("n"), Column::int("kind"), Column::blob("data")],
    key: Key::Clustered(&["mailbox_id", "modseq", "n"]),
    indexes: &[],
};

const RECIPIENT: Table = Table {
    name: "recipient",
    account: true,
    columns: &[Column::int("message_id"), Column::int("n"), Column::text("localpart"), Column::text("domain"), Column::int("sent")],
    key: Key::Clustered(&["message_id", "n"]),
    indexes: &[Index { name: "recipient_by_address", columns: &["domain", "localpart"], unique: false }],
};

/// Copies of sent mail that are here, for as long as the queue may not know it, see `queue::copy`.
const COPIED: Table = Table {
    name: "copied",
    account: true,
    columns: &[Column::int("copy"), Column::int("at")],
    key: Key::Clustered(&["copy"]),
    indexes: &[],
};

/// How far history had got on a day: how old its parts are, see `account::prune`.
const HISTORY_NOTE: Table = Table {
    name: "history_note",
    account: true,
    // Days since 1970, UTC; the last modseq of the days before.
    columns: &[Column::int("day"), Column::int("modseq")],
    key: Key::Clustered(&["day"]),
    indexes: &[],
};

/// Deliveries into several accounts of which this one has its copy, see `filing`.
const FILED: Table = Table {
    name: "filed",
    account: true,
    columns: &[Column::int("filing"), Column::text("recipient")],
    key: Key::Clustered(&["filing", "recipient"]),
    indexes: &[],
};

/// Messages that somebody is to be told of, see `account::write::arrival`.
const ARRIVAL: Table = Table {
    name: "arrival",
    account: true,
    columns: &[Column::int("message_id"), Column::text("note")],
    key: Key::Columns(&["message_id"]),
    indexes: &[],
};

/// Authors whose mail was taken, see `account::write::author`.
const AUTHOR: Table = Table {
    name: "author",
    account: true,
    columns: &[Column::text("address"), Column::int("verified")],
    key: Key::Clustered(&["address", "verified"]),
    indexes: &[],
};

/// Templates of messages to send, see `account::write::template`.
const TEMPLATE: Table = Table {
    name: "template",
    account: true,
    columns: &[Column::text("name"), Column::text("subject"), Column::text("body"), Column::text("html"), Column::int("changed")],
    key: Key::Columns(&["name"]),
    indexes: &[],
};

/// Those of the mail that was there before.
const AUTHORS_BEFORE: &str = "INSERT INTO author (account_id, address, verified) \
    SELECT DISTINCT account_id, msg_from, CASE WHEN msg_from_validation IN (1, 2, 3) THEN 1 ELSE 0 END FROM message \
    WHERE msg_from IS NOT NULL AND rcpt_to IS NOT NULL";

/// The schema of an account.
pub(crate) const ACCOUNT_SCHEMA: Schema = Schema {
    name: "account",
    migrations: &[
        &[
            Change::Create(&ACCOUNT_STATE),
            Change::Create(&MAILBOX),
            Change::Create(&KEYWORD),
            Change::Create(&SUBSCRIPTION),
            Change::Create(&MAILBOX_BITMAP),
            Change::Create(&MESSAGE_STATE),
            Change::Create(&EXPUNGED),
            Change::Create(&MESSAGE),
            Change::Create(&MESSAGE_CONTENT),
            Change::Create(&BLOB),
            Change::Create(&CHANGE),
            Change::Create(&RECIPIENT),
        ],
        &[Change::Create(&FILED)],
        &[Change::Create(&ARRIVAL)],
        // The zone of INTERNALDATE, in minutes east of UTC; NULL is UTC.
        &[Change::AddColumn("message_state", Column::int("zone").null()), Change::AddColumn("expunged", Column::int("zone").null())],
        &[Change::Create(&HISTORY_NOTE)],
        &[Change::Create(&FLAG_MODSEQS)],
        &[Change::Create(&AUTHOR), Change::Run(AUTHORS_BEFORE, AUTHORS_BEFORE)],
        &[Change::Create(&COPIED)],
        &[Change::DropColumn("message_state", "flags"), Change::DropColumn("expunged", "flags")],
        &[Change::Create(&TEMPLATE)],
        // Where the bytes are, as in `message`: a FETCH of whole messages needn't read that. NULL in rows that were there before.
        &[Change::AddColumn("message_state", Column::int("blob_id").null()), Change::AddColumn("expunged", Column::int("blob_id").null())],
    ],
};

/// Accounts' names and ids. An id is never used again, not even when an account of the same name is made later.
const ACCOUNT: Table = Table {
    name: "account",
    account: false,
    columns: &[Column::text("name"), Column::int("created")],
    key: Key::Auto("id"),
    indexes: &[Index { name: "account_by_name", columns: &["name"], unique: true }],
};

/// Deliveries into several accounts that aren't finished. A number is never used again: accounts note it.
const FILING: Table = Table {
    name: "filing",
    account: false,
    columns: &[Column::blob("key"), Column::int("started")],
    key: Key::Auto("id"),
    indexes: &[Index { name: "filing_by_key", columns: &["key"], unique: false }],
};

/// The schema of what concerns all accounts.
pub(crate) const SERVER_SCHEMA: Schema = Schema { name: "server", migrations: &[&[Change::Create(&ACCOUNT)], &[Change::Create(&FILING)]] };
