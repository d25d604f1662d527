//! Dates in every form that Cloudflare's certificate endpoints have been seen to write.

use chrono::{DateTime, Datelike as _};

use crate::model::Expiry;

/// Reads a date as Unix seconds, rounded down.
///
/// The endpoint declares its dates as plain strings. RFC 3339 is what it sends today; a sibling
/// endpoint sends what Go's `time.String()` prints; year 1 is Go's zero time and means "never set".
pub(super) fn parse(text: &str) -> Expiry {
    let text = text.trim();
    if text.is_empty() {
        return Expiry::Missing;
    }
    let parsed = DateTime::parse_from_rfc3339(text).or_else(|error| match text.strip_suffix(" UTC") {
        Some(go) => DateTime::parse_from_str(go, "%Y-%m-%d %H:%M:%S%.f %z"),
        None => Err(error),
    });
    match parsed {
        Ok(date) if date.to_utc().year() <= 1 => Expiry::Missing,
        Ok(date) => Expiry::At(date.timestamp()),
        Err(_) => Expiry::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_form_is_read() {
        for (text, expiry) in [
            ("2033-02-20T23:18:00Z", Expiry::At(1_992_554_280)),
            (" 2033-02-20T23:18:00Z\n", Expiry::At(1_992_554_280)),
            ("2033-02-21T01:18:00+02:00", Expiry::At(1_992_554_280)),
            ("2033-02-20T18:18:00-05:00", Expiry::At(1_992_554_280)),
            ("2014-01-01T05:20:00.12345Z", Expiry::At(1_388_553_600)),
            ("2023-03-07T23:26:12.000000Z", Expiry::At(1_678_231_572)),
            ("2020-12-25 06:27:00 +0000 UTC", Expiry::At(1_608_877_620)),
            ("2020-12-25 06:27:00.987654321 +0000 UTC", Expiry::At(1_608_877_620)),
            ("1969-12-31T23:59:59.5Z", Expiry::At(-1)),
            ("9999-12-31T23:59:59Z", Expiry::At(253_402_300_799)),
            ("2024-02-29T00:00:00Z", Expiry::At(1_709_164_800)),
            ("0001-01-01T00:00:00Z", Expiry::Missing),
            ("0001-01-01 00:00:00 +0000 UTC", Expiry::Missing),
            ("0000-01-01T00:00:00Z", Expiry::Missing),
            ("", Expiry::Missing),
            ("  ", Expiry::Missing),
            ("never", Expiry::Invalid),
            ("2033-02-20", Expiry::Invalid),
            ("2033-02-20T23:18:00", Expiry::Invalid),
            ("2023-02-29T00:00:00Z", Expiry::Invalid),
            ("2033-13-20T23:18:00Z", Expiry::Invalid),
            ("Dec 22 19:39:00 2018 GMT", Expiry::Invalid),
            ("1992554280", Expiry::Invalid),
            ("2033-02-20T23:18:00Z; DROP", Expiry::Invalid),
            ("٢٠٣٣-02-20T23:18:00Z", Expiry::Invalid),
        ] {
            assert_eq!(parse(text), expiry, "{text:?}");
        }
    }
}
