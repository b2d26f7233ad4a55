//! Statements and rows within a transaction.

use super::faults::{Faults, Step, check};
use super::postgres::PgConn;
use super::{Error, Param, sqlite};
use std::cell::Cell;

/// The text of a statement: one for both engines, or one for each. Parameters are `$1 … $n`.
#[derive(Clone, Copy, Debug)]
pub struct Sql<'s> {
    /// What SQLite runs.
    pub sqlite: &'s str,
    /// What PostgreSQL runs.
    pub postgres: &'s str,
}

impl<'s> From<&'s str> for Sql<'s> {
    fn from(text: &'s str) -> Self {
        Self { sqlite: text, postgres: text }
    }
}

impl<'s> From<&'s String> for Sql<'s> {
    fn from(text: &'s String) -> Self {
        Self::from(text.as_str())
    }
}

/// A connection to either engine.
#[derive(Debug)]
pub(crate) enum Conn {
    Sqlite(Box<rusqlite::Connection>),
    Postgres(Box<PgConn>),
}

/// A transaction. It commits when its closure and all that share it succeed, see [`super::Database::write`].
#[derive(Debug)]
pub struct Tx<'c> {
    conn: &'c Conn,
    faults: &'c dyn Faults,
    /// A statement has failed. On PostgreSQL the transaction is then void, and its COMMIT would be a silent ROLLBACK.
    failed: Cell<bool>,
    /// PostgreSQL has undone the transaction as a whole, see [`Error::Undone`].
    undone: Cell<bool>,
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: &'c Conn, faults: &'c dyn Faults) -> Self {
        Self { conn, faults, failed: Cell::new(false), undone: Cell::new(false) }
    }

    /// True on PostgreSQL, for the few places that need different statements rather than different texts.
    pub fn is_postgres(&self) -> bool {
        matches!(self.conn, Conn::Postgres(_))
    }

    /// Runs a statement; the number of rows that it changed.
    ///
    /// # Errors
    /// The database failed, or a constraint refused. Return it: nothing of this closure will be kept.
    pub fn exec<'s>(&self, sql: impl Into<Sql<'s>>, params: &[Param<'_>]) -> Result<u64, Error> {
        let sql = sql.into();
        self.tried(|| match self.conn {
            Conn::Sqlite(c) => sqlite::exec(c, sql.sqlite, params),
            Conn::Postgres(c) => c.exec(sql.postgres, params),
        })
    }

    /// Runs a query and hands over each row, until the end or the first error.
    ///
    /// PostgreSQL's answer is held in memory whole: bound it with `LIMIT`.
    ///
    /// # Errors
    /// The database failed, or `each` did.
    pub fn query<'s, E: From<Error>>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: &[Param<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.query_while(sql, params, |row| each(row).map(|()| true))
    }

    /// As [`Tx::query`], ending also when `each` returns false.
    ///
    /// # Errors
    /// The database failed, or `each` did.
    pub fn query_while<'s, E: From<Error>>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: &[Param<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let sql = sql.into();
        let mut failed = None;
        self.tried(|| {
            let mut each = |row: &Row<'_>| match each(row) {
                Ok(more) => more,
                Err(e) => {
                    failed = Some(e);
                    false
                }
            };
            match self.conn {
                Conn::Sqlite(c) => sqlite::query(c, sql.sqlite, params, &mut each),
                Conn::Postgres(c) => c.query(sql.postgres, params, &mut each),
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Runs a query: a value of each row, in their order.
    ///
    /// # Errors
    /// The database failed, or `map` did.
    pub fn query_all<'s, T, E: From<Error>>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: &[Param<'_>],
        mut map: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let mut values = Vec::new();
        self.query(sql, params, |row| {
            values.push(map(row)?);
            Ok::<_, E>(())
        })?;
        Ok(values)
    }

    /// Runs a query of at most one row: its value, or none without a row.
    ///
    /// # Errors
    /// The database failed, or `map` did.
    pub fn query_opt<'s, T, E: From<Error>>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: &[Param<'_>],
        map: impl FnOnce(&Row<'_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let mut map = Some(map);
        let mut value = None;
        self.query_while(sql, params, |row| {
            if let Some(map) = map.take() {
                value = Some(map(row)?);
            }
            Ok::<_, E>(false)
        })?;
        Ok(value)
    }

    /// Runs a query that must give a row.
    ///
    /// # Errors
    /// [`Error::NoRow`] without a row; the database failed, or `map` did.
    pub fn query_row<'s, T, E: From<Error>>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: &[Param<'_>],
        map: impl FnOnce(&Row<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let sql = sql.into();
        self.query_opt(sql, params, map)?.ok_or_else(|| Error::NoRow(sql.sqlite.to_owned()).into())
    }

    /// Runs statements without parameters, separated by semicolons: DDL.
    pub(crate) fn batch(&self, sql: &str) -> Result<(), Error> {
        self.tried(|| match self.conn {
            Conn::Sqlite(c) => Ok(c.execute_batch(sql)?),
            Conn::Postgres(c) => c.batch(sql),
        })
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.get()
    }

    pub(crate) fn undone(&self) -> bool {
        self.undone.get()
    }

    pub(crate) fn clear_failed(&self) {
        self.failed.set(false);
    }

    /// Counts an error of ours as a failed statement.
    fn tried<T>(&self, f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let result = check(self.faults, Step::Statement).and_then(|()| f());
        if let Err(e) = &result {
            self.failed.set(true);
            if e.is_undone() {
                self.undone.set(true);
            }
        }
        result
    }
}

/// A row of a query's answer. Texts and bytes are borrowed from the database: nothing is allocated.
#[derive(Debug)]
pub enum Row<'r> {
    /// Of SQLite.
    Sqlite(&'r rusqlite::Row<'r>),
    /// Of PostgreSQL.
    Postgres(&'r tokio_postgres::Row),
}

impl Row<'_> {
    /// The integer in column `i`, counted from 0.
    ///
    /// # Errors
    /// It is NULL or no integer.
    pub fn int(&self, i: usize) -> Result<i64, Error> {
        self.opt_int(i)?.ok_or_else(|| null(i))
    }

    /// The integer in column `i`, none for NULL.
    ///
    /// # Errors
    /// It is no integer.
    pub fn opt_int(&self, i: usize) -> Result<Option<i64>, Error> {
        match self {
            Self::Sqlite(r) => Ok(r.get(i)?),
            Self::Postgres(r) => super::postgres::int(r, i),
        }
    }

    /// The integer in column `i` as a truth value.
    ///
    /// # Errors
    /// It is NULL or no integer.
    pub fn bool(&self, i: usize) -> Result<bool, Error> {
        Ok(self.int(i)? != 0)
    }

    /// The text in column `i`.
    ///
    /// # Errors
    /// It is NULL or no text.
    pub fn text(&self, i: usize) -> Result<&str, Error> {
        self.opt_text(i)?.ok_or_else(|| null(i))
    }

    /// The text in column `i`, none for NULL.
    ///
    /// # Errors
    /// It is no text.
    pub fn opt_text(&self, i: usize) -> Result<Option<&str>, Error> {
        match self {
            Self::Sqlite(r) => {
                let v = r.get_ref(i)?;
                v.as_str_or_null().map_err(|e| Error::Corrupt(format!("column {i}: {e}")))
            }
            Self::Postgres(r) => Ok(r.try_get(i)?),
        }
    }

    /// The bytes in column `i`.
    ///
    /// # Errors
    /// It is NULL or no bytes.
    pub fn blob(&self, i: usize) -> Result<&[u8], Error> {
        self.opt_blob(i)?.ok_or_else(|| null(i))
    }

    /// The bytes in column `i`, none for NULL.
    ///
    /// # Errors
    /// It isn't bytes.
    pub fn opt_blob(&self, i: usize) -> Result<Option<&[u8]>, Error> {
        match self {
            Self::Sqlite(r) => {
                let v = r.get_ref(i)?;
                v.as_blob_or_null().map_err(|e| Error::Corrupt(format!("column {i}: {e}")))
            }
            Self::Postgres(r) => Ok(r.try_get(i)?),
        }
    }
}

fn null(i: usize) -> Error {
    Error::Corrupt(format!("column {i} is NULL"))
}
