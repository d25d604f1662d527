//! The known word that a mistyped one was probably meant to be.

use super::document::may_be_secret;

/// The remedy for an unknown word: the nearest known word, if one is near, and `rest`, a sentence without its stop.
pub(super) fn remedy<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, rest: &str) -> String {
    let Some(near) = nearest(word, known) else { return rest.to_owned() };
    let (first, others) = rest.split_at(rest.len().min(1));
    format!("did you mean {near:?}? {}{others}", first.to_ascii_uppercase())
}

/// The nearest known word, if a slip or two lie between them. No text that could be a secret has one or is one.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if may_be_secret(word) {
        return None;
    }
    let word = word.to_lowercase();
    let length = word.chars().count();
    let near = known.into_iter().filter(|known| !may_be_secret(known)).filter_map(|known| {
        let distance = strsim::damerau_levenshtein(&word, known);
        (distance <= (length + 1) / 3).then_some((distance, known))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["id", "name", "credentials", "kinds", "interval"];

    #[test]
    fn a_slip_suggests_the_word_that_was_meant() {
        for (word, expected) in [
            ("nme", "name"),
            ("naem", "name"),
            ("Name", "name"),
            ("INTERVAL", "interval"),
            ("ids", "id"),
            ("di", "id"),
            ("kind", "kinds"),
            ("kidns", "kinds"),
            ("credential", "credentials"),
            ("credntails", "credentials"),
        ] {
            assert_eq!(nearest(word, KNOWN), Some(expected), "{word}");
        }
        // Of two that are near, the nearer one.
        assert_eq!(nearest("api_key_evn", ["api_token_env", "api_key_file", "api_key_env"]), Some("api_key_env"));
    }

    #[test]
    fn what_is_far_from_every_word_suggests_none() {
        for word in ["", "x", "plan", "zone_id", "timeout", "é", "internal_value"] {
            assert_eq!(nearest(word, KNOWN), None, "{word}");
        }
        assert_eq!(nearest("api_token", ["api_token_file", "api_token_env"]), None);
        assert_eq!(nearest("name", []), None);
    }

    #[test]
    fn a_secret_neither_suggests_nor_is_suggested() {
        let secret = "Zs3cretZs3cretZs3cretZs3cretZs3cretZs3cr";
        assert_eq!(nearest(secret, [secret]), None);
        assert_eq!(nearest(&secret[1..], [secret]), None);
        // Shorter than a secret, and near one.
        assert_eq!(nearest(&secret[..29], [&secret[..31]]), None);
    }

    #[test]
    fn the_remedy_is_one_sentence_or_two() {
        assert_eq!(remedy("nme", KNOWN, "the keys are these"), "did you mean \"name\"? The keys are these");
        assert_eq!(remedy("plan", KNOWN, "the keys are these"), "the keys are these");
    }
}
