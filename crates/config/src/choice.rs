//! Settings that are one of a few words.

/// Defines an enum whose variants are words in the file.
macro_rules! choices {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in the file.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl $crate::schema::Scalar for $name {
            fn parse(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|choice| choice.name() == text).ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|choice| choice.name()).collect();
                    format!("{text:?} is not one of: {}", names.join(", "))
                })
            }

            fn text(&self) -> String {
                self.name().to_owned()
            }

            fn is_zero(&self) -> bool {
                false
            }
        }

        $crate::schema::scalar_values!($name);
    };
}
pub(crate) use choices;
