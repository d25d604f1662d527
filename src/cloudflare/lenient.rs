//! JSON of which nothing is taken for granted: only what a [`Shape`] names is kept, a value of another type than the
//! expected one counts as absent, and of two equal keys the last one counts.
//!
//! So what is kept of a body is bounded by its shape, and no odd value hides another. What it means is not known here.

use std::{borrow::Cow, fmt, iter::repeat_with};

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// What is kept of a value. Texts, numbers and flags always are.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    /// Nothing of lists and objects.
    Scalar,
    /// The scalars of these keys of an object, and the values of these that have a shape of their own.
    Object(&'a [&'a str], &'a [(&'a str, Shape<'a>)]),
    /// So many items from the beginning of a list, or one alone: two bytes of JSON can be an item, and hundreds of
    /// bytes here.
    List(usize, &'a Shape<'a>),
}

/// What was kept of a value.
pub(super) enum Json<'a> {
    /// Null, or not there.
    Absent,
    Flag(bool),
    /// A number without a fraction or exponent.
    Integer(i128),
    /// Borrowed from the body if nothing in it is escaped.
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// The values of the keys that the shape names, in their order.
    Object(&'a Shape<'a>, Vec<Json<'a>>),
    /// Of another type than is expected.
    Other,
}

impl<'a> Shape<'a> {
    /// The place of a key among those that are named, and the shape of its value.
    fn key(&'a self, key: &str) -> Option<(usize, &'a Self)> {
        let Self::Object(scalars, others) = self else { return None };
        match scalars.iter().position(|name| *name == key) {
            Some(place) => Some((place, &Self::Scalar)),
            None => {
                let place = others.iter().position(|(name, _)| *name == key)?;
                Some((scalars.len() + place, &others[place].1))
            }
        }
    }
}

impl<'a> Json<'a> {
    /// The value of a key that the shape names.
    pub(super) fn get(&self, key: &str) -> &Self {
        match self {
            Self::Object(shape, values) => {
                shape.key(key).and_then(|(place, _)| values.get(place)).unwrap_or(&Self::Absent)
            }
            _ => &Self::Absent,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn integer<T: TryFrom<i128>>(&self) -> Option<T> {
        match self {
            Self::Integer(number) => T::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The items of a list, or one alone.
    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            one => std::slice::from_ref(one),
        }
    }
}

/// Reads an object. Where `serde_json` stops at something that it would pass over, it is read again without that.
pub(super) fn read<T>(json: &[u8], shape: &Shape<'_>, take: impl FnOnce(&Json<'_>) -> T) -> Option<T> {
    fn parse<'a>(json: &'a [u8], shape: &'a Shape<'a>) -> serde_json::Result<Json<'a>> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let value = shape.deserialize(&mut deserializer)?;
        deserializer.end().map(|()| value)
    }
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    if let Ok(value) = parse(json, shape) {
        return Some(take(&value));
    }
    let repaired = repaired(json);
    parse(repaired.as_bytes(), shape).ok().map(|value| take(&value))
}

impl<'a> DeserializeSeed<'a> for &'a Shape<'a> {
    type Value = Json<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Json<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for &'a Shape<'a> {
    type Value = Json<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Json<'a>, E> {
        Ok(Json::Absent)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json<'a>, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'a>, E> {
        Ok(Json::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'a>, E> {
        Ok(Json::Integer(number.into()))
    }

    fn visit_f64<E>(self, _number: f64) -> Result<Json<'a>, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'a>, E> {
        Ok(Json::Text(text.to_owned().into()))
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Json<'a>, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Json<'a>, A::Error> {
        let mut items = Vec::new();
        if let Shape::List(max, shape) = *self {
            while items.len() < max {
                match list.next_element_seed(shape)? {
                    Some(item) => items.push(item),
                    None => return Ok(Json::List(items)),
                }
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(if matches!(self, Shape::List(..)) { Json::List(items) } else { Json::Other })
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<Json<'a>, A::Error> {
        let shape = if let Shape::List(_, one) = self { one } else { self };
        let keys = if let Shape::Object(scalars, others) = shape { scalars.len() + others.len() } else { 0 };
        let mut values: Vec<_> = repeat_with(|| Json::Absent).take(keys).collect();
        while let Some(key) = object.next_key_seed(&Shape::Scalar)? {
            let key = key.text().unwrap_or_default();
            match shape.key(key) {
                Some((place, shape)) => values[place] = object.next_value_seed(shape)?,
                None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(if keys == 0 { Json::Other } else { Json::Object(shape, values) })
    }
}

/// The same JSON without what `serde_json` passes over but does not read: a byte that is no text, half a surrogate pair,
/// and a number beyond every `f64`. They spoil the value that they are in, and no other.
fn repaired(json: &[u8]) -> String {
    let json = String::from_utf8_lossy(json);
    let mut repaired = String::with_capacity(json.len());
    let mut rest = &*json;
    let mut is_in_text = false;
    while let Some(first) = rest.chars().next() {
        let (length, instead) = match first {
            '\\' if is_in_text => escape(rest),
            '-' | '0'..='9' if !is_in_text => number(rest),
            _ => (first.len_utf8(), None),
        };
        is_in_text ^= first == '"';
        let (token, after) = rest.split_at(length);
        repaired.push_str(instead.unwrap_or(token));
        rest = after;
    }
    repaired
}

/// How long the escape is that a text begins with, and what it becomes if it is half a pair.
fn escape(text: &str) -> (usize, Option<&'static str>) {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    match unit(text) {
        Some(0xd800..=0xdbff) if matches!(unit(&text[6..]), Some(0xdc00..=0xdfff)) => (12, None),
        // One for each byte that it would take.
        Some(0xd800..=0xdfff) => (6, Some("\\ufffd\\ufffd\\ufffd")),
        Some(_) => (6, None),
        None => (text.chars().take(2).map(char::len_utf8).sum(), None),
    }
}

/// How long the number is that a text begins with, and what it becomes if it is too large.
fn number(text: &str) -> (usize, Option<&'static str>) {
    let is_part = |c: char| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
    let length = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let is_too_large = text[..length].parse::<f64>().is_ok_and(|number| number.abs() >= 1e308);
    (length, is_too_large.then_some("null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_shape_names_is_kept() {
        let others = [("b", Shape::List(2, &Shape::Scalar)), ("c", Shape::Object(&["d"], &[]))];
        let read = |json: &str| {
            read(json.as_bytes(), &Shape::Object(&["a"], &others), |json| {
                let items: Vec<_> = json.get("b").items().iter().filter_map(Json::integer::<u8>).collect();
                (json.get("a").text().map(str::to_owned), items, json.get("c").get("d").flag())
            })
        };
        let text = |text: &str| Some(text.to_owned());
        for (json, expected) in [
            (r#"{"a":"x","b":[1,2,3],"c":{"d":true,"e":1},"f":{}}"#, Some((text("x"), vec![1, 2], Some(true)))),
            (r#"{"a":"x","a":"y","b":1}"#, Some((text("y"), vec![1], None))),
            (r#"{"a":["x"],"b":{"a":1},"c":"d"}"#, Some((None, vec![], None))),
            (r#"{"a":1e999,"b":[-1,300,1e999],"c":{"d":1}}"#, Some((None, vec![], None))),
            (r#"{"\ud800":1,"a":"\ud800"}"#, Some((text("\u{fffd}\u{fffd}\u{fffd}"), vec![], None))),
            ("{} {}", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    #[test]
    fn what_serde_json_does_not_read_is_repaired_and_nothing_else_changes() {
        const HALF: &str = "\\ufffd\\ufffd\\ufffd";
        for (json, expected) in [
            (r#"{"a":"\ud800"}"#, format!(r#"{{"a":"{HALF}"}}"#)),
            (r#"{"\udfff":"x\ud83dy\uD83D\ud83d\ude00"}"#, format!(r#"{{"{HALF}":"x{HALF}y{HALF}\ud83d\ude00"}}"#)),
            (r#"{"a":"\\ud800 \"\\\\\ud800"}"#, format!(r#"{{"a":"\\ud800 \"\\\\{HALF}"}}"#)),
            (r#"[1e999,-1E+400,1e30,-0,"1e999"]"#, r#"[null,null,1e30,-0,"1e999"]"#.to_owned()),
            (r#"{"ü\u00fc\n😀":[true,null,{}]} "#, r#"{"ü\u00fc\n😀":[true,null,{}]} "#.to_owned()),
        ] {
            assert_eq!(repaired(json.as_bytes()), expected);
            assert!(serde_json::from_str::<serde_json::Value>(&expected).is_ok(), "{expected}");
        }
        assert_eq!(repaired(b"\"\xff\""), "\"\u{fffd}\"");
        for cut in [r#"{"a":"\"#, r#"{"a":"\u"#, r#"{"a":"\u00"#, r#"{"a":"\u00fc\"#, r#"{"a":"\ü"#, "-", "1e", "\\u"]
        {
            assert_eq!(repaired(cut.as_bytes()), cut);
        }
    }
}
