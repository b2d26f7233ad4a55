//! Objects of the API, and their descriptions.
//!
//! [`object!`] makes a struct, its reading and writing, and an [`Object`] that describes it. [`Type`] is what a field can be;
//! [`Type::example`] fills one in for the try-out forms.

use crate::wire::{Unknown, Wire};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// An object as documented.
#[derive(Debug)]
pub struct Object {
    /// Its name, for people.
    pub name: &'static str,
    /// What it is; lines start with a space.
    pub doc: &'static str,
    /// In the order in which they are written.
    pub fields: &'static [Field],
}

/// A field of an object as documented.
#[derive(Debug)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it means; lines start with a space.
    pub doc: &'static str,
    /// Its type.
    pub ty: fn() -> Type,
}

/// What a value can be.
#[derive(Clone, Debug)]
pub enum Type {
    /// Text in UTF-8.
    String,
    /// One of some texts.
    Choice(&'static [&'static str]),
    /// True or false.
    Bool,
    /// An integer of 64 bits.
    Integer,
    /// An RFC 3339 text.
    Time,
    /// An array of two strings, name and value.
    Pair,
    /// The type, or null.
    Nullable(Box<Self>),
    /// An array.
    List(Box<Self>),
    /// An object with any keys.
    Map(Box<Self>),
    /// An object.
    Object(&'static Object),
}

impl Object {
    /// An example with all fields: see [`Type::example`].
    pub fn example(&'static self) -> Value {
        Type::Object(self).example_within(&mut Vec::new())
    }

    /// [`Self::doc`] as one paragraph or more.
    pub fn about(&self) -> String {
        text(self.doc)
    }
}

impl Field {
    /// [`Self::doc`] as one line.
    pub fn about(&self) -> String {
        text(self.doc).replace('\n', " ")
    }
}

/// A doc comment as text: single line breaks become spaces, empty lines stay as breaks of paragraphs.
fn text(doc: &str) -> String {
    let lines: Vec<&str> = doc.lines().map(str::trim).collect();
    let paragraphs: Vec<String> = lines.split(|line| line.is_empty()).filter(|p| !p.is_empty()).map(|p| p.join(" ")).collect();
    paragraphs.join("\n\n")
}

impl Type {
    /// A value with everything filled in: one element in a list, the key `example` in a map, zero values, no nulls. An object
    /// within itself ends in an empty list.
    pub fn example(&self) -> Value {
        self.example_within(&mut Vec::new())
    }

    fn example_within(&self, outer: &mut Vec<&'static str>) -> Value {
        match self {
            Self::String => json!(""),
            Self::Choice(choices) => json!(choices.first()),
            Self::Bool => json!(false),
            Self::Integer => json!(0),
            Self::Time => json!("0001-01-01T00:00:00Z"),
            Self::Pair => json!(["", ""]),
            Self::Nullable(inner) => inner.example_within(outer),
            Self::List(inner) => match &**inner {
                Self::Object(object) if outer.contains(&object.name) => json!([]),
                inner => json!([inner.example_within(outer)]),
            },
            Self::Map(inner) => json!({"example": inner.example_within(outer)}),
            Self::Object(object) => {
                outer.push(object.name);
                let fields = object.fields.iter().map(|f| (f.name.to_owned(), (f.ty)().example_within(outer)));
                let value = Value::Object(fields.collect::<Map<_, _>>());
                outer.pop();
                value
            }
        }
    }

    /// The objects in it, itself included, each once, outer ones first.
    pub fn objects(&self, found: &mut Vec<&'static Object>) {
        match self {
            Self::Nullable(inner) | Self::List(inner) | Self::Map(inner) => inner.objects(found),
            Self::Object(object) => {
                if !found.iter().any(|f| f.name == object.name) {
                    found.push(object);
                    for field in object.fields {
                        (field.ty)().objects(found);
                    }
                }
            }
            Self::String | Self::Choice(_) | Self::Bool | Self::Integer | Self::Time | Self::Pair => {}
        }
    }
}

/// For people: `[NameAddress]`, `string or null`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String | Self::Choice(_) => f.write_str("string"),
            Self::Bool => f.write_str("bool"),
            Self::Integer => f.write_str("integer"),
            Self::Time => f.write_str("time"),
            Self::Pair => f.write_str("[string, string]"),
            Self::Nullable(inner) => write!(f, "{inner} or null"),
            Self::List(inner) => write!(f, "[{inner}]"),
            Self::Map(inner) => write!(f, "map of string to {inner}"),
            Self::Object(object) => f.write_str(object.name),
        }
    }
}

/// Reading into the fields of an object; implemented by [`object!`].
pub(crate) trait Fields: Default {
    /// Reads the value of the field with this name; whether there is one.
    fn read_field<'de, A: MapAccess<'de>>(&mut self, name: &str, access: &mut A, unknown: Unknown) -> Result<bool, A::Error>;
}

/// Reads an object.
pub(crate) fn read<'de, T: Fields, D: Deserializer<'de>>(deserializer: D, unknown: Unknown) -> Result<T, D::Error> {
    struct Reader<T>(Unknown, PhantomData<T>);

    impl<'de, T: Fields> Visitor<'de> for Reader<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_none<E>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
            deserializer.deserialize_map(self)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<T, A::Error> {
            let mut value = T::default();
            while let Some(name) = access.next_key::<Cow<'_, str>>()? {
                if value.read_field(&name, &mut access, self.0)? {
                    continue;
                }
                match self.0 {
                    Unknown::Refuse => return Err(A::Error::custom(format_args!("unknown field {name:?}"))),
                    Unknown::Ignore => drop(access.next_value::<IgnoredAny>()?),
                }
            }
            Ok(value)
        }
    }

    deserializer.deserialize_option(Reader(unknown, PhantomData))
}

/// An object's description.
pub trait Describe: Wire {
    /// The description.
    fn object() -> &'static Object;
}

/// Makes objects: structs whose fields carry their name on the wire, with everything that reads, writes and describes them.
macro_rules! object {
    ($(
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $wire:literal $field:ident: $ty:ty,
            )*
        }
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                pub $field: $ty,
            )*
        }

        impl $crate::object::Describe for $name {
            fn object() -> &'static $crate::object::Object {
                static OBJECT: $crate::object::Object = $crate::object::Object {
                    name: stringify!($name),
                    doc: concat!($($about, "\n"),+),
                    fields: &[$($crate::object::Field {
                        name: $wire,
                        doc: concat!($($doc, "\n"),+),
                        ty: <$ty as $crate::wire::Wire>::schema,
                    }),*],
                };
                &OBJECT
            }
        }

        impl $crate::wire::Wire for $name {
            fn schema() -> $crate::object::Type {
                $crate::object::Type::Object(<Self as $crate::object::Describe>::object())
            }

            fn read<'de, D: serde::Deserializer<'de>>(deserializer: D, unknown: $crate::wire::Unknown) -> Result<Self, D::Error> {
                $crate::object::read(deserializer, unknown)
            }
        }

        impl $crate::object::Fields for $name {
            fn read_field<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                _name: &str,
                _access: &mut A,
                _unknown: $crate::wire::Unknown,
            ) -> Result<bool, A::Error> {
                $(
                    if _name.eq_ignore_ascii_case($wire) {
                        self.$field = _access.next_value_seed($crate::wire::Seed::new(_unknown))?;
                        return Ok(true);
                    }
                )*
                Ok(false)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut _map = serializer.serialize_map(None)?;
                $(_map.serialize_entry($wire, &self.$field)?;)*
                _map.end()
            }
        }
    )+};
}
