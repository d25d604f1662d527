//! Closed lists of words: what can be a label value, a word of the API, or a key.

/// Declares an enum of which each variant has a word. It gets all of them in their order, and goes to the word and back.
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$about_variant:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        pub enum $name {
            $($(#[$about_variant])* $variant,)+
        }

        impl $name {
            /// Every one, in the order of the documentation.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word.
            #[must_use]
            pub const fn label(self) -> &'static str {
                [$($word),+][self as usize]
            }

            /// What this word stands for, if it is one.
            #[must_use]
            pub fn from_label(word: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.label() == word)
            }
        }
    };
}

pub(crate) use words;
