//! The tables of the database `auth`.

use crate::db::schema::{Change, Column, Index, Key, Schema, Table};

pub(super) const SCHEMA: Schema = Schema {
    name: "auth",
    migrations: &[
        &[Change::Create(&CREDENTIAL), Change::Create(&SECRET), Change::Create(&LOGIN_ATTEMPT)],
        &[Change::Create(&TLS_KEY)],
        &[Change::Create(&API_KEY)],
    ],
};

const CREDENTIAL: Table = Table {
    name: "credential",
    account: false,
    columns: &[
        Column::int("account_id"),
        // Raised with each change of the password.
        Column::int("version"),
        Column::int("changed"),
        // argon2id as PHC string, or bcrypt.
        Column::text("hash"),
        // The rest is NULL for passwords of which only a hash was imported.
        Column::blob("cram_md5").null(),
        Column::blob("sha1_salt").null(),
        Column::int("sha1_iterations").null(),
        Column::blob("sha1_stored").null(),
        Column::blob("sha1_server").null(),
        Column::blob("sha256_salt").null(),
        Column::int("sha256_iterations").null(),
        Column::blob("sha256_stored").null(),
        Column::blob("sha256_server").null(),
    ],
    key: Key::Columns(&["account_id"]),
    indexes: &[],
};

/// One row, id 1: what fake keys are made from.
const SECRET: Table = Table {
    name: "auth_secret",
    account: false,
    columns: &[Column::int("id"), Column::blob("secret")],
    key: Key::Columns(&["id"]),
    indexes: &[],
};

const LOGIN_ATTEMPT: Table = Table {
    name: "login_attempt",
    account: false,
    columns: &[
        // SHA-256 of account to result.
        Column::blob("key"),
        Column::int("last"),
        Column::int("first"),
        Column::int("count"),
        Column::text("account"),
        Column::text("login_address"),
        Column::text("remote_ip"),
        Column::text("local_ip"),
        Column::text("tls"),
        Column::text("tls_public_key"),
        Column::text("protocol"),
        Column::text("user_agent"),
        Column::text("mechanism"),
        Column::text("result"),
    ],
    key: Key::Columns(&["key"]),
    indexes: &[
        Index { name: "login_attempt_by_time", columns: &["last"], unique: false },
        Index { name: "login_attempt_by_account", columns: &["account", "last"], unique: false },
    ],
};

const TLS_KEY: Table = Table {
    name: "tls_key",
    account: false,
    columns: &[
        Column::text("fingerprint"),
        Column::int("created"),
        Column::text("kind"),
        Column::text("name"),
        Column::int("no_imap_preauth"),
        Column::blob("cert"),
        Column::int("account_id"),
        Column::text("login_address"),
    ],
    key: Key::Columns(&["fingerprint"]),
    indexes: &[Index { name: "tls_key_by_account", columns: &["account_id"], unique: false }],
};

const API_KEY: Table = Table {
    name: "api_key",
    account: false,
    columns: &[
        Column::text("id"),
        Column::int("account_id"),
        // SHA-256 of the key's text.
        Column::blob("hash"),
        Column::text("name"),
        // Words, with spaces between; empty for everything.
        Column::text("scopes"),
        Column::text("sender").null(),
        Column::int("created"),
        Column::int("expires").null(),
        Column::int("used").null(),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[Index { name: "api_key_by_account", columns: &["account_id"], unique: false }],
};
