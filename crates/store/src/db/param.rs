//! Values handed to statements.

use bytes::BytesMut;
use mox_base::{AccountId, BlobId, ByteSize, MailboxId, MessageId, ModSeq, QueueId, Timestamp, Uid, UidValidity};
use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

/// A statement's parameter. Booleans are 0 and 1, points in time microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param<'a> {
    /// NULL.
    Null,
    /// `BIGINT`.
    Int(i64),
    /// `TEXT`. PostgreSQL refuses NUL in it: what may hold one is bytes.
    Text(&'a str),
    /// `BLOB` or `BYTEA`.
    Blob(&'a [u8]),
    /// `BIGINT[]`, only for statements that PostgreSQL alone runs.
    Ints(&'a [i64]),
}

impl<'a, T> From<Option<T>> for Param<'a>
where
    Self: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

impl From<i64> for Param<'_> {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<u64> for Param<'_> {
    /// Numbers of more than 63 bits, which nothing of ours reaches, become the largest that fits.
    fn from(n: u64) -> Self {
        Self::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Param<'_> {
    fn from(n: usize) -> Self {
        Self::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

macro_rules! from_small {
    ($($t:ty),*) => {$(
        impl From<$t> for Param<'_> {
            fn from(n: $t) -> Self {
                Self::Int(i64::from(n))
            }
        }
    )*};
}
from_small!(u8, u16, u32, i16, i32, bool);

macro_rules! from_id {
    ($($t:ty),*) => {$(
        impl From<$t> for Param<'_> {
            fn from(id: $t) -> Self {
                Self::Int(id.0)
            }
        }
    )*};
}
from_id!(AccountId, MailboxId, MessageId, BlobId, QueueId);

impl From<Uid> for Param<'_> {
    fn from(uid: Uid) -> Self {
        Self::Int(i64::from(uid.get()))
    }
}

impl From<UidValidity> for Param<'_> {
    fn from(v: UidValidity) -> Self {
        Self::Int(i64::from(v.get()))
    }
}

impl From<ModSeq> for Param<'_> {
    fn from(m: ModSeq) -> Self {
        Self::Int(m.as_i64())
    }
}

impl From<Timestamp> for Param<'_> {
    fn from(t: Timestamp) -> Self {
        Self::Int(t.micros())
    }
}

impl From<ByteSize> for Param<'_> {
    fn from(s: ByteSize) -> Self {
        Self::from(s.0)
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(s: &'a str) -> Self {
        Self::Text(s)
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(s: &'a String) -> Self {
        Self::Text(s)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(b: &'a [u8]) -> Self {
        Self::Blob(b)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Param<'a> {
    fn from(b: &'a [u8; N]) -> Self {
        Self::Blob(b)
    }
}

impl<'a> From<&'a Vec<u8>> for Param<'a> {
    fn from(b: &'a Vec<u8>) -> Self {
        Self::Blob(b)
    }
}

impl<'a> From<&'a [i64]> for Param<'a> {
    fn from(b: &'a [i64]) -> Self {
        Self::Ints(b)
    }
}

impl rusqlite::ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Int(n) => ValueRef::Integer(n),
            Self::Text(s) => ValueRef::Text(s.as_bytes()),
            Self::Blob(b) => ValueRef::Blob(b),
            Self::Ints(_) => return Err(rusqlite::Error::ToSqlConversionFailure("SQLite has no arrays".into())),
        }))
    }
}

type Encoded = Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Encoded {
        match *self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(n) => match *ty {
                Type::INT8 => n.to_sql(ty, out),
                Type::INT4 => i32::try_from(n)?.to_sql(ty, out),
                Type::INT2 => i16::try_from(n)?.to_sql(ty, out),
                Type::BOOL => (n != 0).to_sql(ty, out),
                _ => Err(format!("an integer can't be a {ty}").into()),
            },
            Self::Text(s) => match *ty {
                Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN => s.to_sql(ty, out),
                _ => Err(format!("a text can't be a {ty}").into()),
            },
            Self::Blob(b) => match *ty {
                Type::BYTEA => b.to_sql(ty, out),
                _ => Err(format!("bytes can't be a {ty}").into()),
            },
            Self::Ints(v) => match ty.kind() {
                Kind::Array(of) if *of == Type::INT8 => v.to_sql(ty, out),
                _ => Err(format!("an array of integers can't be a {ty}").into()),
            },
        }
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
