//! What has to hold whatever a state file holds. See `src/properties.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a property that fails panics")]

use super::{SavedZone, file};
use crate::model::{Expiry, clean};

/// The bytes are a whole file, or the content of one whose first and last line are right.
pub fn state(bytes: &[u8]) {
    for file in [bytes.to_vec(), file::sealed(|writer| writer.write_all(bytes)).unwrap()] {
        if let Ok(zone) = file::parse::<SavedZone>(&file) {
            assert_is_sane(&zone);
            let written = file::sealed(|writer| Ok(serde_json::to_writer(writer, &zone)?)).unwrap();
            assert_eq!(file::parse::<SavedZone>(&written).unwrap(), zone);
        }
    }
}

/// As if it had just been listed: harmless texts, and times that can be reckoned with.
fn assert_is_sane(zone: &SavedZone) {
    let is_time = |time: i64| time.checked_mul(1000).is_some();
    assert!(is_time(zone.completed) && is_time(zone.due_ms / 1000));
    assert!(zone.name.as_deref().is_none_or(|name| *clean(name) == *name));
    for certificate in zone.listing.certificates() {
        assert!(certificate.texts.iter().all(|(_, text)| *clean(text) == *text), "{certificate:?}");
        assert!(certificate.not_before.is_none_or(is_time));
        assert!(!matches!(certificate.expiry, Expiry::At(time) if !is_time(time)));
    }
}
