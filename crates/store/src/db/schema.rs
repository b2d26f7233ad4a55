//! Tables described once, for both engines, and their migrations.
//!
//! A [`Schema`] is a list of migrations, numbered from 1 by their place. They only go forward. Once a version with a
//! migration is released, neither it nor the tables it creates may be edited: change them by a further migration.
//!
//! Tables of accounts (`account: true`) start with `account_id`. On PostgreSQL all accounts share them, so it leads every
//! key and index; on SQLite each account has its own file, and it is a column only.

use super::{Error, Tx};
use std::fmt::Write as _;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A 64-bit integer.
    Int,
    /// UTF-8 without NUL.
    Text,
    /// Bytes.
    Blob,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    name: &'static str,
    kind: Kind,
    null: bool,
    default: Option<&'static str>,
}

impl Column {
    /// A column of integers, never NULL.
    pub const fn int(name: &'static str) -> Self {
        Self { name, kind: Kind::Int, null: false, default: None }
    }

    /// A column of texts, never NULL.
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: Kind::Text, null: false, default: None }
    }

    /// A column of bytes, never NULL.
    pub const fn blob(name: &'static str) -> Self {
        Self { name, kind: Kind::Blob, null: false, default: None }
    }

    /// The column, possibly NULL.
    #[must_use]
    pub const fn null(self) -> Self {
        Self { null: true, ..self }
    }

    /// The column with a default, as an SQL literal. A column added by a migration needs one, or NULL.
    #[must_use]
    pub const fn default(self, literal: &'static str) -> Self {
        Self { default: Some(literal), ..self }
    }

    fn ddl(&self, postgres: bool) -> String {
        let kind = match (self.kind, postgres) {
            (Kind::Int, false) => "INTEGER",
            (Kind::Int, true) => "BIGINT",
            (Kind::Text, _) => "TEXT",
            (Kind::Blob, false) => "BLOB",
            (Kind::Blob, true) => "BYTEA",
        };
        let null = if self.null { "" } else { " NOT NULL" };
        let default = self.default.map(|d| format!(" DEFAULT {d}")).unwrap_or_default();
        format!("{} {kind}{null}{default}", self.name)
    }
}

/// A table's primary key.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// An integer column that the database numbers, ascending and never reused; not listed among the columns.
    Auto(&'static str),
    /// These columns. A single integer is the row's number in SQLite, and large rows are fine.
    Columns(&'static [&'static str]),
    /// These columns, with rows kept in their order. For narrow rows only: a large one would go to an overflow page.
    Clustered(&'static [&'static str]),
}

/// A secondary index.
#[derive(Clone, Copy, Debug)]
pub struct Index {
    /// Its name, unique in the database.
    pub name: &'static str,
    /// Its columns, without `account_id`.
    pub columns: &'static [&'static str],
    /// Whether it is unique.
    pub unique: bool,
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Whether its rows belong to an account; then it has a leading column `account_id`, not listed.
    pub account: bool,
    /// Its columns.
    pub columns: &'static [Column],
    /// Its primary key, without `account_id`.
    pub key: Key,
    /// Its secondary indexes.
    pub indexes: &'static [Index],
}

/// One change of a migration.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Creates a table with its indexes.
    Create(&'static Table),
    /// Adds a column to a table.
    AddColumn(&'static str, Column),
    /// Removes a column from a table; no index has it.
    DropColumn(&'static str, &'static str),
    /// Adds an index to a table.
    AddIndex(&'static Table, Index),
    /// Runs a statement, one text for each engine: SQLite, PostgreSQL. An empty one is skipped.
    Run(&'static str, &'static str),
}

/// Tables that are migrated together.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Its name in the database's table of versions.
    pub name: &'static str,
    /// Its migrations, in order.
    pub migrations: &'static [&'static [Change]],
}

impl Schema {
    /// Brings the database to the newest version, within the caller's transaction.
    pub(super) fn migrate(&self, tx: &Tx<'_>) -> Result<(), Error> {
        let postgres = tx.is_postgres();
        if postgres {
            // Two nodes that start at once: the second waits here and finds the work done.
            tx.query("SELECT CAST(pg_advisory_xact_lock(74520019) AS TEXT)", &[], |_| Ok::<_, Error>(()))?;
        }
        tx.batch("CREATE TABLE IF NOT EXISTS schema_version (name TEXT NOT NULL PRIMARY KEY, version BIGINT NOT NULL)")?;
        let found = tx.query_opt("SELECT version FROM schema_version WHERE name = $1", crate::params![self.name], |r| r.int(0))?;
        let known = i64::try_from(self.migrations.len()).unwrap_or(i64::MAX);
        let from = found.unwrap_or(0);
        if from > known {
            return Err(Error::Newer { schema: self.name, found: from, known });
        }
        for change in self.migrations.iter().skip(usize::try_from(from).unwrap_or(0)).copied().flatten() {
            let ddl = change.ddl(postgres);
            if !ddl.is_empty() {
                tx.batch(&ddl)?;
            }
        }
        match found {
            Some(v) if v == known => {}
            Some(_) => {
                tx.exec("UPDATE schema_version SET version = $1 WHERE name = $2", crate::params![known, self.name])?;
            }
            None => {
                tx.exec("INSERT INTO schema_version (name, version) VALUES ($1, $2)", crate::params![self.name, known])?;
            }
        }
        Ok(())
    }
}

impl Change {
    fn ddl(&self, postgres: bool) -> String {
        match self {
            Self::Create(table) => table.ddl(postgres),
            Self::AddColumn(table, column) => format!("ALTER TABLE {table} ADD COLUMN {}", column.ddl(postgres)),
            Self::DropColumn(table, column) => format!("ALTER TABLE {table} DROP COLUMN {column}"),
            Self::AddIndex(table, index) => index.ddl(table, postgres),
            Self::Run(sqlite, pg) => (*if postgres { pg } else { sqlite }).to_owned(),
        }
    }
}

impl Index {
    fn ddl(&self, table: &Table, postgres: bool) -> String {
        let unique = if self.unique { "UNIQUE " } else { "" };
        format!("CREATE {unique}INDEX {} ON {} ({});", self.name, table.name, table.keyed(self.columns, postgres))
    }
}

impl Table {
    fn keyed(&self, columns: &[&str], postgres: bool) -> String {
        let lead = if self.account && postgres { "account_id, " } else { "" };
        format!("{lead}{}", columns.join(", "))
    }

    fn ddl(&self, postgres: bool) -> String {
        let mut lines = Vec::new();
        if self.account {
            lines.push(Column::int("account_id").ddl(postgres));
        }
        if let Key::Auto(id) = self.key {
            lines.push(if postgres {
                format!("{id} BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
            } else {
                format!("{id} INTEGER PRIMARY KEY AUTOINCREMENT")
            });
        }
        lines.extend(self.columns.iter().map(|c| c.ddl(postgres)));
        if let Key::Columns(columns) | Key::Clustered(columns) = self.key {
            lines.push(format!("PRIMARY KEY ({})", self.keyed(columns, postgres)));
        }
        let options = match self.key {
            _ if postgres => "",
            Key::Clustered(_) => " STRICT, WITHOUT ROWID",
            _ => " STRICT",
        };
        let mut ddl = format!("CREATE TABLE {} ({}){options};", self.name, lines.join(", "));
        for index in self.indexes {
            // Writing to a string can't fail.
            _ = write!(ddl, "\n{}", index.ddl(self, postgres));
        }
        ddl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Table = Table {
        name: "thing",
        account: true,
        columns: &[Column::int("id"), Column::text("name").null(), Column::blob("data").default("''")],
        key: Key::Columns(&["id"]),
        indexes: &[Index { name: "thing_name", columns: &["name"], unique: true }],
    };

    #[test]
    fn one_description_two_dialects() {
        assert_eq!(
            T.ddl(false),
            "CREATE TABLE thing (account_id INTEGER NOT NULL, id INTEGER NOT NULL, name TEXT, data BLOB NOT NULL DEFAULT '', PRIMARY KEY (id)) STRICT;\n\
             CREATE UNIQUE INDEX thing_name ON thing (name);"
        );
        assert_eq!(
            T.ddl(true),
            "CREATE TABLE thing (account_id BIGINT NOT NULL, id BIGINT NOT NULL, name TEXT, data BYTEA NOT NULL DEFAULT '', PRIMARY KEY (account_id, id));\n\
             CREATE UNIQUE INDEX thing_name ON thing (account_id, name);"
        );
    }
}
