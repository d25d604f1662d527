//! A secret in the place of a real one, for properties that look for it where it must not be.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Follows from the whole input. What makes inputs, even if it is guided by comparisons, so cannot write it where no
/// secret belongs: whatever holds it got it by the place that the property gave it.
pub(crate) struct StandIn(String);

impl StandIn {
    /// Made of the characters of a token of Cloudflare's.
    pub(crate) fn of(input: &[u8], length: usize) -> Self {
        const CHARACTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let mut text = "Zs3".to_owned();
        while text.len() < length {
            text.len().hash(&mut hasher);
            text.push(char::from(CHARACTERS[(hasher.finish() % 62) as usize]));
        }
        Self(text)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether a text holds it, or a part that would help to guess the rest.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        const PART: usize = 8;
        (0..=self.0.len() - PART).any(|at| text.contains(&self.0[at..at + PART]))
    }
}
