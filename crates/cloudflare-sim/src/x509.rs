//! Certificates in PEM that every parser reads, made by hand: a few lines of DER instead of a library
//! and its keys. Their signatures are made up, and no one has the key.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, Datelike as _, Utc};

use super::world::seeded_rng;

/// What entries and their certificates are made from.
pub(super) struct Sample<'a> {
    /// Common name of the subject, and of an authority what its key follows from.
    pub(super) name: &'a str,
    pub(super) issued: DateTime<Utc>,
    pub(super) expires: DateTime<Utc>,
    pub(super) id: String,
    pub(super) serial_number: u128,
}

// DER tags.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

// Object identifiers and fixed parts, tag and length included.
const COMMON_NAME: &[u8] = &[0x06, 3, 0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x06, 3, 0x55, 0x04, 0x0a];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x06, 3, 0x55, 0x1d, 0x0e];
const BASIC_CONSTRAINTS: &[u8] = &[0x06, 3, 0x55, 0x1d, 0x13];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const VERSION_3: &[u8] = &[0x02, 1, 2];
const TRUE: &[u8] = &[0x01, 1, 0xff];
/// The base point of P-256, so that libraries which look at the point accept it.
const POINT: &[u8] = &[
    0, 0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77,
    0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2,
    0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e,
    0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

/// The certificate in PEM, with a line end after each line; `issuer` is a common name.
pub(super) fn pem(sample: &Sample<'_>, issuer: &str, is_authority: bool) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in BASE64_STANDARD.encode(certificate(sample, issuer, is_authority)).as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// RFC 5280, section 4.1.
fn certificate(sample: &Sample<'_>, issuer: &str, is_authority: bool) -> Vec<u8> {
    let algorithm = der(SEQUENCE, &[ECDSA_WITH_SHA256]);
    let key = der(SEQUENCE, &[&der(SEQUENCE, &[EC_PUBLIC_KEY, PRIME256V1]), &der(BIT_STRING, &[POINT])]);
    // A zero before the number, so that it is never negative.
    let serial = sample.serial_number.to_be_bytes();
    let serial = &serial[serial.iter().position(|&byte| byte != 0).unwrap_or(serial.len() - 1)..];
    let sign: &[u8] = if serial[0] < 0x80 { &[] } else { &[0] };
    let signed = der(
        SEQUENCE,
        &[
            &der(VERSION, &[VERSION_3]),
            &der(INTEGER, &[sign, serial]),
            &algorithm,
            &name(issuer),
            &der(SEQUENCE, &[&time(sample.issued), &time(sample.expires)]),
            &name(sample.name),
            &key,
            &extensions(sample.name, is_authority),
        ],
    );
    let signature = der(SEQUENCE, &[&der(INTEGER, &[&[1]]), &der(INTEGER, &[&[1]])]);
    der(SEQUENCE, &[&signed, &algorithm, &der(BIT_STRING, &[&[0], &signature])])
}

fn extensions(subject: &str, is_authority: bool) -> Vec<u8> {
    let mut rng = seeded_rng(&format!("key of {subject}"));
    let identifier: Vec<u8> = (0..20).map(|_| rng.u8(..)).collect();
    let identifier = der(OCTET_STRING, &[&der(OCTET_STRING, &[&identifier])]);
    let mut extensions = der(SEQUENCE, &[SUBJECT_KEY_IDENTIFIER, &identifier]);
    if is_authority {
        let constraints = der(OCTET_STRING, &[&der(SEQUENCE, &[TRUE])]);
        extensions.extend(der(SEQUENCE, &[BASIC_CONSTRAINTS, TRUE, &constraints]));
    }
    der(EXTENSIONS, &[&der(SEQUENCE, &[&extensions])])
}

fn name(common_name: &str) -> Vec<u8> {
    let part = |kind: &[u8], text: &str| der(SET, &[&der(SEQUENCE, &[kind, &der(UTF8, &[text.as_bytes()])])]);
    der(SEQUENCE, &[&part(COMMON_NAME, common_name), &part(ORGANIZATION, "Example")])
}

/// Two digits for the year until 2049, then four.
fn time(at: DateTime<Utc>) -> Vec<u8> {
    let (tag, format) =
        if at.year() < 2050 { (UTC_TIME, "%y%m%d%H%M%SZ") } else { (GENERALIZED_TIME, "%Y%m%d%H%M%SZ") };
    der(tag, &[at.format(format).to_string().as_bytes()])
}

/// Tag, length and contents.
fn der(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let [.., high, low] = length.to_be_bytes();
    let mut encoded = vec![tag];
    match length {
        0..0x80 => encoded.push(low),
        0x80..0x100 => encoded.extend([0x81, low]),
        _ => encoded.extend([0x82, high, low]),
    }
    encoded.extend(contents.concat());
    encoded
}
