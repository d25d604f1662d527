//! The text format, line by line. What the lines say is not known here.

use std::fmt::{Display, Write as _};

/// Appends the HELP and TYPE of a family: a counter by its name, or a gauge.
pub(super) fn head(text: &mut String, name: &str, help: &str) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// Appends a sample; `labels` are, one after another, as they stand between the braces.
pub(super) fn sample(text: &mut String, name: &str, labels: &[&str], value: impl Display) {
    text.push_str(name);
    for (number, part) in labels.iter().enumerate() {
        text.push_str(if number == 0 { "{" } else { "" });
        text.push_str(part);
    }
    text.push_str(if labels.is_empty() { " " } else { "} " });
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{value}");
}

/// Appends a label to others, of which the last ends with a quote, or to nothing.
pub(super) fn label(labels: &mut String, name: &str, value: &str) {
    if labels.is_empty() {
        first_label(labels, name, value);
    } else {
        next_label(labels, name, value);
    }
}

/// Appends a label to others.
pub(super) fn next_label(labels: &mut String, name: &str, value: &str) {
    labels.push(',');
    first_label(labels, name, value);
}

fn first_label(labels: &mut String, name: &str, value: &str) {
    labels.push_str(name);
    labels.push_str("=\"");
    escape(labels, value);
    labels.push('"');
}

/// Appends a label value, escaped by the rules of the format.
fn escape(text: &mut String, value: &str) {
    let special = |byte| matches!(byte, b'\\' | b'"' | b'\n');
    // Without an early end, many bytes are looked at in one step, and hardly any value has such a one.
    if !value.bytes().fold(false, |any, byte| any | special(byte)) {
        text.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}
