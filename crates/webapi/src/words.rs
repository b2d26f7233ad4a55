//! Enumerations whose names are part of the API, each with its documentation.

/// Makes an enumeration from its names on the wire and their documentation.
macro_rules! words {
    ($(#[doc = $about:literal])+ pub enum $enum:ident { $($(#[doc = $doc:literal])+ $name:ident = $wire:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $enum {
            $($(#[doc = $doc])+ $name,)+
        }

        impl $enum {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $wire),+
                }
            }

            /// Its documentation.
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+)),+
                }
            }
        }
    };
}
