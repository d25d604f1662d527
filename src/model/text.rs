//! Making text from outside harmless before anything else sees it.
//!
//! Certificate names come from the author of the signing request.
//! They end up in metrics, logs, tables and pages, so they are made safe once, where they enter.

/// The longest text that is kept, in characters; X.509 allows a common name 64.
pub const MAX_TEXT_CHARS: usize = 256;

/// Replaces control, bidirectional and invisible characters by U+FFFD and cuts what is longer than
/// [`MAX_TEXT_CHARS`], with `…` as the last character kept.
#[must_use]
pub fn clean(text: &str) -> Box<str> {
    if is_plain(text) {
        return text.into();
    }
    let mut kept: String = text
        .chars()
        .take(MAX_TEXT_CHARS)
        .map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(MAX_TEXT_CHARS).is_some() {
        kept.pop();
        kept.push('…');
    }
    kept.into()
}

/// A number of things, in words: `1 zone`, `2 zones`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Whether a text that was made [`clean`] is what was given: none of it was replaced or cut, as far as that shows.
pub(super) fn is_as_given(clean: &str) -> bool {
    let is_cut = clean.ends_with('…') && clean.chars().count() == MAX_TEXT_CHARS;
    !is_cut && !clean.contains(char::REPLACEMENT_CHARACTER)
}

/// Appends what [`clean`] makes of a text.
pub(super) fn append_clean(kept: &mut String, text: &str) {
    if is_plain(text) {
        kept.push_str(text);
    } else {
        kept.push_str(&clean(text));
    }
}

/// Nearly every text is of this sort, and this is most of what reading it takes.
fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT_CHARS && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Control characters break lines and terminals; bidirectional ones, and invisible ones, make a name read as
/// another. The two that join letters or keep them apart (U+200C, U+200D) are part of how some scripts and emoji are
/// written.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_made_harmless() {
        for (given, kept) in [
            ("plain", "plain"),
            ("", ""),
            ("quote \" backslash \\ {{ x }} <b>", "quote \" backslash \\ {{ x }} <b>"),
            ("two\nlines\r", "two\u{fffd}lines\u{fffd}"),
            ("\u{1b}[31mred\u{7f}\u{9b}", "\u{fffd}[31mred\u{fffd}\u{fffd}"),
            ("evil\u{202e}txt.exe\u{2066}", "evil\u{fffd}txt.exe\u{fffd}"),
            ("pay\u{200b}roll\u{ad}\u{2060}\u{2064}\u{feff}", "pay\u{fffd}roll\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("a\u{e0041}\u{e007f}\u{3164}\u{180e}\u{fffa}", "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("Zürich 証明書", "Zürich 証明書"),
            ("👩\u{200d}👧 می\u{200c}خواهم", "👩\u{200d}👧 می\u{200c}خواهم"),
        ] {
            assert_eq!(&*clean(given), kept, "{given:?}");
            assert_eq!(is_as_given(kept), given == kept, "{given:?}");
        }
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        let exact = "ü".repeat(MAX_TEXT_CHARS);
        assert_eq!(*clean(&exact), *exact);
        let cut = clean(&"ü".repeat(MAX_TEXT_CHARS + 1));
        assert_eq!(cut.chars().count(), MAX_TEXT_CHARS);
        assert!(cut.ends_with("ü…"));
        assert!(is_as_given(&exact) && !is_as_given(&cut));
    }
}
