//! What has to hold whatever a state file holds. See `src/properties.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a property that fails panics")]

use super::{SavedTarget, file};
use crate::model::{Field, clean};

/// The bytes are a whole file, or the content of one.
pub fn state(bytes: &[u8]) {
    for file in [bytes.to_vec(), file::with_content(bytes)] {
        if let Ok(zone) = file::parse::<SavedTarget>(&file) {
            assert_is_sane(&zone);
            let mut written = Vec::new();
            file::write(&mut written, &zone).unwrap();
            assert_eq!(file::parse::<SavedTarget>(&written).unwrap(), zone);
        }
    }
}

/// As if it had just been listed: harmless texts, and times that can be reckoned with.
fn assert_is_sane(zone: &SavedTarget) {
    assert!(zone.completed.checked_mul(1000).is_some() && zone.due_ms.checked_mul(1000).is_some());
    assert!(zone.name.as_deref().is_none_or(|name| *clean(name) == *name));
    for certificate in zone.listing.iter().flat_map(|listing| listing.certificates()) {
        let mut texts = certificate.texts.iter().filter(|(field, _)| *field != Field::Hosts).map(|(_, text)| text);
        assert!(texts.all(|text| *clean(text) == *text), "{certificate:?}");
        assert!(certificate.texts.hosts().all(|host| *clean(host) == *host), "{certificate:?}");
    }
}
