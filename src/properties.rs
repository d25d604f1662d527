//! What has to hold whatever comes in: a list of properties, each a function of bytes that panics where it does not.
//!
//! The fuzzers in `fuzz/` run them for hours, and the tests below run them for moments on a stable
//! compiler. Each property is beside the code that it is about, where it can see what is private.
//! It is compiled for these two alone.

use crate::model::StandIn;

pub use crate::{
    cloudflare::properties::{answer, date, headers, listing},
    config::properties::configuration,
    state::properties::state,
};

/// As long as a line of a key can be.
const SECRET_LENGTH: usize = 49;

/// The bytes are a web configuration, in which the word SECRET stands for one, and the value of `Authorization`.
pub fn web_configuration(bytes: &[u8]) {
    let secret = StandIn::of(bytes, SECRET_LENGTH);
    exporter_toolkit::properties::web_configuration(bytes, secret.text(), |text| secret.is_in(text));
}

/// Whether simulations go on for as long as `tests/run` wants them: the everyday loop has a part of it.
#[cfg(test)]
pub(crate) fn tests_everything() -> bool {
    std::env::var("CLOUDFLARE_CERT_EXPORTER_TEST_ALL").is_ok_and(|value| value == "1")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, thread};

    use proptest::{
        prelude::*,
        sample::Index,
        test_runner::{Config, TestError, TestRunner},
    };

    use super::*;

    type Property = fn(&[u8]);

    /// Each has a target of its name in `fuzz/fuzz_targets`, and seeds.
    const PROPERTIES: [(&str, Property); 7] = [
        ("answer", answer),
        ("listing", listing),
        ("date", date),
        ("headers", headers),
        ("configuration", configuration),
        ("state", state),
        ("web_configuration", web_configuration),
    ];

    /// The files in `fuzz/KIND/NAME`, if there is such a directory.
    fn files(kind: &str, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(name);
        let paths = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    #[test]
    fn they_hold_for_every_seed_and_for_what_once_broke_them() {
        for (name, property) in PROPERTIES {
            let seeds = files("seeds", name);
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for (path, bytes) in seeds.into_iter().chain(files("crashes", name)) {
                // Written before it panics.
                println!("{}", path.display());
                property(&bytes);
            }
        }
    }

    #[test]
    fn they_hold_for_what_is_made_of_the_seeds_and_for_noise() {
        thread::scope(|scope| {
            for (name, property) in PROPERTIES {
                let seeds: Vec<_> = files("seeds", name).into_iter().map(|(_, bytes)| bytes).collect();
                scope.spawn(move || {
                    // A failure becomes a file in fuzz/crashes, and none of proptest's own.
                    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
                    let run = runner.run(&input(seeds), |bytes| {
                        property(&bytes);
                        Ok(())
                    });
                    if let Err(TestError::Fail(reason, bytes)) = run {
                        panic!("{name}: {reason}\nkeep these bytes in fuzz/crashes/{name}/: {}", bytes.escape_ascii());
                    }
                    run.unwrap();
                });
            }
        });
    }

    /// A seed with some changes, or noise.
    fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let changes = proptest::collection::vec(any::<Change>(), 0..6);
        let changed = (any::<Index>(), changes).prop_map(move |(seed, changes)| {
            let start = seed.get(&seeds).clone();
            changes.into_iter().fold(start, |bytes, change| change.apply(bytes, &seeds))
        });
        prop_oneof![4 => changed, 1 => any::<Vec<u8>>()]
    }

    /// What is done to the bytes from one place to another.
    #[derive(Debug, Clone)]
    struct Change {
        kind: u8,
        from: Index,
        to: Index,
        /// For a splice: the other seed, and the part of it that is taken.
        other: (Index, Index, Index),
        byte: u8,
        /// Cut where something begins or ends, so that the rest keeps its meaning.
        at_words: bool,
    }

    impl Arbitrary for Change {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;

        fn arbitrary_with((): ()) -> Self::Strategy {
            any::<(u8, Index, Index, (Index, Index, Index), u8, bool)>()
                .prop_map(|(kind, from, to, other, byte, at_words)| Self { kind, from, to, other, byte, at_words })
                .boxed()
        }
    }

    impl Change {
        fn apply(self, mut bytes: Vec<u8>, seeds: &[Vec<u8>]) -> Vec<u8> {
            let (from, to) = self.part(&bytes, self.from, self.to);
            match self.kind % 4 {
                0 => drop(bytes.drain(from..to)),
                1 => {
                    let copy = bytes[from..to].to_vec();
                    bytes.splice(to..to, copy);
                }
                2 => {
                    let other = self.other.0.get(seeds);
                    let (start, end) = self.part(other, self.other.1, self.other.2);
                    bytes.splice(from..to, other[start..end].iter().copied());
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(from) {
                        *byte ^= self.byte;
                    }
                }
            }
            bytes
        }

        fn part(&self, bytes: &[u8], from: Index, to: Index) -> (usize, usize) {
            let place = |index: Index| {
                let at = index.index(bytes.len() + 1);
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
                let rest = bytes[at..].iter().position(|byte| !is_word(byte)).unwrap_or(bytes.len() - at);
                if self.at_words { at + rest } else { at }
            };
            let (from, to) = (place(from), place(to));
            (from.min(to), from.max(to))
        }
    }
}
