//! How values are read from JSON and written to it.
//!
//! The rules are those that the API's first clients, written in Go, rely on: null is the zero value of any type, a list may
//! hold nulls, whatever follows the first JSON value is ignored, and a string has to be a string. [`Wire`] is implemented for
//! the scalars, lists, maps and nullable values that the objects are made of.

use crate::object::Type;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// What happens to a field that an object doesn't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is an error: in requests, where it is a misspelled optional field.
    Refuse,
    /// It is skipped: in responses and webhooks, which may grow.
    Ignore,
}

/// A value of the API.
pub trait Wire: Sized + Default + Serialize {
    /// Its type, for documentation.
    fn schema() -> Type;

    /// Reads one.
    ///
    /// # Errors
    /// Those of the deserializer, and when the value has another type.
    fn read<'de, D: Deserializer<'de>>(deserializer: D, unknown: Unknown) -> Result<Self, D::Error>;
}

/// Why JSON can't be read; for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(#[from] serde_json::Error);

/// Reads the first JSON value of a text; what follows it is ignored.
///
/// # Errors
/// When there is no value, or one of another shape.
pub fn read<T: Wire>(json: &str, unknown: Unknown) -> Result<T, ReadError> {
    Ok(T::read(&mut serde_json::Deserializer::from_str(json), unknown)?)
}

/// A value as compact JSON.
pub fn write<T: Wire>(value: &T) -> String {
    // Maps have string keys and nothing else can fail; an empty text would be noticed by any reader.
    serde_json::to_string(value).unwrap_or_default()
}

/// Reads a `T` within another value.
pub(crate) struct Seed<T> {
    unknown: Unknown,
    of: PhantomData<T>,
}

impl<T> Seed<T> {
    pub(crate) const fn new(unknown: Unknown) -> Self {
        Self { unknown, of: PhantomData }
    }
}

impl<'de, T: Wire> DeserializeSeed<'de> for Seed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::read(deserializer, self.unknown)
    }
}

/// Scalars: what serde has, or null.
macro_rules! scalar {
    ($($ty:ty => $schema:expr),+) => {$(
        impl Wire for $ty {
            fn schema() -> Type {
                $schema
            }

            fn read<'de, D: Deserializer<'de>>(deserializer: D, _: Unknown) -> Result<Self, D::Error> {
                Ok(Option::<Self>::deserialize(deserializer)?.unwrap_or_default())
            }
        }
    )+};
}

scalar! {
    String => Type::String,
    bool => Type::Bool,
    i64 => Type::Integer
}

impl<T: Wire> Wire for Option<T> {
    fn schema() -> Type {
        Type::Nullable(Box::new(T::schema()))
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D, unknown: Unknown) -> Result<Self, D::Error> {
        struct Nullable<T>(Seed<T>);

        impl<'de, T: Wire> Visitor<'de> for Nullable<T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or null")
            }

            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                self.0.deserialize(deserializer).map(Some)
            }
        }

        deserializer.deserialize_option(Nullable(Seed::new(unknown)))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn schema() -> Type {
        Type::List(Box::new(T::schema()))
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D, unknown: Unknown) -> Result<Self, D::Error> {
        struct List<T>(Unknown, PhantomData<T>);

        impl<'de, T: Wire> Visitor<'de> for List<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_seq(self)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element_seed(Seed::new(self.0))? {
                    list.push(element);
                }
                Ok(list)
            }
        }

        deserializer.deserialize_option(List(unknown, PhantomData))
    }
}

impl<T: Wire> Wire for BTreeMap<String, T> {
    fn schema() -> Type {
        Type::Map(Box::new(T::schema()))
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D, unknown: Unknown) -> Result<Self, D::Error> {
        struct Map<T>(Unknown, PhantomData<T>);

        impl<'de, T: Wire> Visitor<'de> for Map<T> {
            type Value = BTreeMap<String, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(BTreeMap::new())
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_map(self)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(key) = access.next_key::<String>()? {
                    map.insert(key, access.next_value_seed(Seed::new(self.0))?);
                }
                Ok(map)
            }
        }

        deserializer.deserialize_option(Map(unknown, PhantomData))
    }
}

/// A header field: `[name, value]`. As Go reads an array of two: a missing element is empty, further ones are dropped.
impl Wire for (String, String) {
    fn schema() -> Type {
        Type::Pair
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D, unknown: Unknown) -> Result<Self, D::Error> {
        let mut list = Vec::<String>::read(deserializer, unknown)?.into_iter();
        Ok((list.next().unwrap_or_default(), list.next().unwrap_or_default()))
    }
}
