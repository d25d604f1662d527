//! The text format 0.0.4 as a reader of metrics takes it, sample by sample.
//!
//! It is strict: a line that is not understood is an error, since a sample that is passed over would be an alarm that
//! never comes. What the samples mean is not known here.

use std::borrow::Cow;

use thiserror::Error;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: f64,
}

impl Sample<'_> {
    /// The value of a label; one that is absent is empty, as it is to Prometheus.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| value)
    }
}

/// The text is not in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("line {line} is no metric: {what}")]
pub(super) struct NoMetric {
    line: usize,
    what: &'static str,
}

/// Every sample of the text, or the first line that is none.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, NoMetric>> {
    // A text that was cut off shows in that its last line does not end.
    text.split_inclusive('\n').zip(1..).filter_map(|(line, number)| {
        let Some(content) = line.strip_suffix('\n') else {
            return Some(Err(NoMetric { line: number, what: "it does not end" }));
        };
        let content = content.trim_start_matches(BLANKS);
        if content.is_empty() || content.starts_with('#') {
            return None;
        }
        Some(sample(content).map_err(|what| NoMetric { line: number, what }))
    })
}

const BLANKS: [char; 2] = [' ', '\t'];

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let (name, rest) = word(line, true).ok_or("it has no name")?;
    let rest = rest.trim_start_matches(BLANKS);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split(BLANKS).filter(|word| !word.is_empty());
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("its value is no number")?;
    let timestamp_is_good = words.next().is_none_or(|word| word.parse::<i64>().is_ok());
    if !timestamp_is_good || words.next().is_some() {
        return Err("something follows its value");
    }
    Ok(Sample { name, labels, value })
}

/// The labels behind the opening brace, and what follows the closing one.
#[expect(clippy::type_complexity, reason = "it is what the field is")]
fn labels(mut rest: &str) -> Result<(Vec<(&str, Cow<'_, str>)>, &str), &'static str> {
    let mut labels: Vec<(&str, Cow<'_, str>)> = Vec::new();
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, after) = word(rest, false).ok_or("a label has no name")?;
        let after = after.trim_start_matches(BLANKS).strip_prefix('=').ok_or("a label has no value")?;
        let after = after.trim_start_matches(BLANKS).strip_prefix('"').ok_or("a label's value is not in quotes")?;
        let (value, after) = unescaped(after)?;
        if labels.iter().any(|(other, _)| *other == name) {
            return Err("a label is there twice");
        }
        labels.push((name, value));
        rest = after.trim_start_matches(BLANKS);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.starts_with('}') => {}
            None => return Err("its labels do not end"),
        }
    }
}

/// The name at the beginning, and what follows it.
fn word(text: &str, is_metric: bool) -> Option<(&str, &str)> {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b':' && is_metric);
    let end = text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len());
    let begins_well = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    (end > 0 && begins_well).then(|| text.split_at(end))
}

/// The value up to the closing quote, and what follows it.
fn unescaped(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut value = Cow::Borrowed("");
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\']).ok_or("a label's value does not end")?;
        let (plain, special) = rest.split_at(at);
        // Nothing is copied of a value without escapes, as most are.
        if value.is_empty() {
            value = Cow::Borrowed(plain);
        } else {
            value.to_mut().push_str(plain);
        }
        if let Some(rest) = special.strip_prefix('"') {
            return Ok((value, rest));
        }
        let escaped = match special.as_bytes().get(1) {
            Some(b'n') => '\n',
            Some(b'\\') => '\\',
            Some(b'"') => '"',
            _ => return Err("a label's value has an escape that there is not"),
        };
        value.to_mut().push(escaped);
        // Both are ASCII.
        rest = &special[2..];
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        exposition::{Exposition, Progress, SeriesSettings, render_program},
        model::{Certificate, Expiry, Field, Kind, Listing, Snapshot, Status, Texts, Zone, ZoneState, clean},
    };

    fn one(text: &str) -> Result<Sample<'_>, NoMetric> {
        samples(text).next().unwrap()
    }

    #[test]
    fn samples_are_read_as_the_format_says() {
        for (text, name, labels, value) in [
            ("up 1\n", "up", vec![], 1.0),
            ("up{} -1.5e3\n", "up", vec![], -1500.0),
            ("\tup \t1\t1795521600000 \n", "up", vec![], 1.0),
            ("a:b_0{a=\"1\",b=\"2\"} +Inf\n", "a:b_0", vec![("a", "1"), ("b", "2")], f64::INFINITY),
            ("up { a = \"1\" , } 0\n", "up", vec![("a", "1")], 0.0),
            (r#"up{a="\\n\n\"} 1",b=""} 2"#, "up", vec![("a", "\\n\n\"} 1"), ("b", "")], 2.0),
            (r#"up{a="Zürich {} , # | 証明書"} 2"#, "up", vec![("a", "Zürich {} , # | 証明書")], 2.0),
        ] {
            let text = if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
            let sample = one(&text).unwrap();
            assert_eq!((sample.name, sample.value), (name, value), "{text}");
            let read: Vec<_> = sample.labels.iter().map(|(name, value)| (*name, &**value)).collect();
            assert_eq!(read, labels, "{text}");
            assert_eq!(sample.label("none"), "");
        }
        assert!(one("up NaN\n").unwrap().value.is_nan());
        assert_eq!(samples("").count() + samples("\n# HELP up It is up.\n# TYPE up gauge\n  # x\n").count(), 0);
    }

    #[test]
    fn what_is_no_sample_is_an_error_that_names_its_line() {
        for wrong in [
            "up 1",
            "up\n",
            "up \n",
            "up one\n",
            "up 1 2 3\n",
            "up 1 soon\n",
            "1up 1\n",
            "{a=\"1\"} 1\n",
            "up{a=\"1\" 1\n",
            "up{a=\"1} 1\n",
            "up{a=1} 1\n",
            "up{a} 1\n",
            "up{,} 1\n",
            "up{a=\"1\"b=\"2\"} 1\n",
            "up{a=\"1\",a=\"2\"} 1\n",
            "up{a:b=\"1\"} 1\n",
            "up{a=\"\\t\"} 1\n",
            "up{a=\"\\\n\"} 1\n",
            "<!DOCTYPE html>\n",
        ] {
            assert!(one(wrong).is_err(), "{wrong:?}");
        }
        let error = samples("up 1\n\nup{\n").find_map(Result::err).unwrap();
        assert_eq!(error.to_string(), "line 3 is no metric: a label has no name");
    }

    /// Characters that mean something in the format, and some that do not.
    const ODD: &str = "[a-z_:{}=\",\\\\ \t\r\n#0-9.+|ü{-]{0,60}";

    fn text(exposition: &Exposition) -> String {
        let (mut progress, mut text) = (Progress::default(), String::new());
        loop {
            let piece = exposition.text(&mut progress, 64 * 1024);
            if piece.is_empty() {
                return text;
            }
            text.push_str(&piece);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in prop_oneof![ODD, any::<String>(), "up\\{a=\"[\\\\n\"]{0,6}\"\\} 1\n"]) {
            prop_assert!(samples(&text).count() <= text.split('\n').count());
        }

        #[test]
        fn it_reads_back_what_the_program_writes(zone in ODD, texts in prop::collection::vec((ODD, ODD), 0..5)) {
            const NOW: i64 = 1_795_521_600;
            let certificate = |(number, (common_name, organization)): (usize, &(String, String))| Certificate {
                texts: Texts::from([
                    (Field::Id, number.to_string()),
                    (Field::CommonName, common_name.clone()),
                    (Field::Organization, organization.clone()),
                ]),
                status: Status::Active,
                expiry: Expiry::At(NOW + 86_400 * 10),
                not_before: None,
            };
            let listing = Listing::new(texts.iter().enumerate().map(certificate).collect());
            let state = ZoneState::new(Arc::new(Zone {
                kind: Kind::Client,
                id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
                name: Some(zone.as_str().into()),
                credential: "default".into(),
                interval: Duration::from_secs(900),
            }));
            let state = state.succeeded(listing, NOW, Duration::from_millis(250));
            let settings = SeriesSettings {
                statuses: Status::ALL.to_vec(),
                max_certificates_per_zone: 5000,
                expiring_within_days: vec![7],
                forget_expired_after: Duration::ZERO,
            };
            let exposition = Exposition::new(settings).next(Arc::new(Snapshot { zones: vec![Arc::new(state)] }), NOW);
            let text = text(&exposition) + &render_program(NOW);
            let read: Vec<_> = samples(&text).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), text.lines().filter(|line| !line.starts_with('#')).count());
            for sample in read.iter().filter(|sample| sample.name == "cloudflare_certificate_info") {
                let (common_name, organization) = &texts[sample.label("certificate_id").parse::<usize>().unwrap()];
                prop_assert_eq!(sample.label("zone"), &zone);
                prop_assert_eq!(sample.label("common_name"), &*clean(common_name));
                prop_assert_eq!(sample.label("organization"), &*clean(organization));
            }
            prop_assert_eq!(read.iter().filter(|sample| sample.name == "cloudflare_certificate_info").count(), texts.len());
        }
    }
}
