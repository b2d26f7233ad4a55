//! What a type must know to be a setting.
//!
//! [`Value`] is anything that can stand after `Key:`: scalars ([`Scalar`]), lists, maps, and sections (structs that derive
//! [`Section`]). Reading never stops at the first mistake: a value that can't be read is `None`, what was wrong is with
//! the reader, and the caller goes on. So a file's mistakes are all reported at once.

pub use mox_config_derive::Section;

use crate::sconf::{Reader, Writer};
use std::collections::BTreeMap;

/// A field of a section, as the derive found it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in the file.
    pub name: &'static str,
    /// Whether it may be left out.
    pub optional: bool,
    /// Documentation: lines; an empty line separates paragraphs, two separate sections.
    pub doc: &'static str,
}

/// What can stand after `Key:`.
pub trait Value: Sized {
    /// Reads the value whose key has just been read. `None` after a mistake, which the reader has noted.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;

    /// As [`Self::read`], for a setting that can be absent: types for which an empty text means absence say so here.
    fn read_optional(reader: &mut Reader<'_>) -> Option<Option<Self>> {
        Self::read(reader).map(Some)
    }

    /// Writes the value after its key.
    fn write(&self, writer: &mut Writer);

    /// Writes the shape of the value after its key, with zero values.
    fn describe(writer: &mut Writer);

    /// Whether an optional field with this value is left out by the writer.
    fn is_zero(&self) -> bool;

    /// Whether writing would produce no lines, so that a map has to write `nil`.
    fn is_blank(&self) -> bool {
        false
    }

    /// The value of a map entry that says `nil`, if the type has such a value.
    fn zero() -> Option<Self>;
}

/// A struct of settings; derived.
pub trait Section: Value {
    /// The fields in order.
    const FIELDS: &'static [Field];

    /// Reads the fields of a block whose indentation the reader has reached.
    fn read_fields(reader: &mut Reader<'_>) -> Option<Self>;

    /// Writes the fields at the writer's indentation.
    fn write_fields(&self, writer: &mut Writer);

    /// Describes the fields at the writer's indentation.
    fn describe_fields(writer: &mut Writer);
}

/// A value on one line.
pub trait Scalar: Sized {
    /// What describing prints.
    const ZERO: &'static str = "";

    /// Whether an optional value with an empty text is absent.
    const EMPTY_IS_ABSENT: bool = true;

    /// The value of a text.
    ///
    /// # Errors
    /// A sentence for the operator, without the field's name.
    fn parse(text: &str) -> Result<Self, String>;

    /// The text of the value; parsing it gives the value again.
    fn text(&self) -> String;

    /// Whether this is the type's zero value.
    fn is_zero(&self) -> bool;

    /// The zero value, if there is one.
    fn zero() -> Option<Self> {
        None
    }
}

/// Makes a [`Scalar`] a [`Value`]. (A blanket implementation would exclude lists, maps and sections.)
macro_rules! scalar_values {
    ($($ty:ty),* $(,)?) => {$(
        impl $crate::schema::Value for $ty {
            fn read(reader: &mut $crate::sconf::Reader<'_>) -> Option<Self> {
                reader.scalar(<Self as $crate::schema::Scalar>::parse)
            }

            fn read_optional(reader: &mut $crate::sconf::Reader<'_>) -> Option<Option<Self>> {
                if <Self as $crate::schema::Scalar>::EMPTY_IS_ABSENT && reader.take_empty() {
                    return Some(None);
                }
                <Self as $crate::schema::Value>::read(reader).map(Some)
            }

            fn write(&self, writer: &mut $crate::sconf::Writer) {
                writer.scalar(&$crate::schema::Scalar::text(self));
            }

            fn describe(writer: &mut $crate::sconf::Writer) {
                writer.scalar(<Self as $crate::schema::Scalar>::ZERO);
            }

            fn is_zero(&self) -> bool {
                $crate::schema::Scalar::is_zero(self)
            }

            fn zero() -> Option<Self> {
                <Self as $crate::schema::Scalar>::zero()
            }
        }
    )*};
}
pub(crate) use scalar_values;

impl<T: Value> Value for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        T::read_optional(reader)
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.write(writer),
            None => writer.scalar(""),
        }
    }

    fn describe(writer: &mut Writer) {
        T::describe(writer);
    }

    // An explicit zero disappears as well: the format's other readers write it so.
    fn is_zero(&self) -> bool {
        self.as_ref().is_none_or(T::is_zero)
    }

    fn zero() -> Option<Self> {
        Some(None)
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.nested(|reader| {
            let mut items = Self::new();
            let complete = reader.items(|reader| T::read(reader).map(|item| items.push(item)).is_some());
            complete.then_some(items)
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.nested(|writer| {
            for item in self {
                writer.item(|writer| item.write(writer));
            }
        });
    }

    fn describe(writer: &mut Writer) {
        writer.nested(|writer| writer.item(T::describe));
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn zero() -> Option<Self> {
        Some(Self::new())
    }
}

/// A key of a map.
pub trait Key: Ord + Sized {
    /// The key of a text, which is not empty and has no colon.
    ///
    /// # Errors
    /// A sentence for the operator.
    fn parse_key(text: &str) -> Result<Self, String>;

    /// The text of the key.
    fn key_text(&self) -> String;
}

impl Key for String {
    fn parse_key(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn key_text(&self) -> String {
        self.clone()
    }
}

impl<K: Key, V: Value> Value for BTreeMap<K, V> {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut map = Self::new();
        let complete = reader.entries(|reader, text| {
            let key = match K::parse_key(text) {
                Ok(key) => key,
                Err(message) => {
                    reader.mistake(message);
                    return false;
                }
            };
            let Some(value) = reader.nil_or(V::zero, V::read) else { return false };
            if map.insert(key, value).is_some() {
                reader.mistake(format!("duplicate key {text:?}"));
                return false;
            }
            true
        });
        complete.then_some(map)
    }

    fn write(&self, writer: &mut Writer) {
        let mut entries: Vec<(String, &V)> = self.iter().map(|(key, value)| (key.key_text(), value)).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        writer.nested(|writer| {
            for (key, value) in entries {
                if value.is_blank() {
                    writer.entry(&key, |writer| writer.scalar("nil"));
                } else {
                    writer.entry(&key, |writer| value.write(writer));
                }
            }
        });
    }

    fn describe(writer: &mut Writer) {
        writer.nested(|writer| writer.entry("x", V::describe));
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn zero() -> Option<Self> {
        Some(Self::new())
    }
}
