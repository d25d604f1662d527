//! The tables: faults of a listing or credential, and odd entries. Each row is tried with every [`Kind`].

use std::{net::SocketAddr, time::Duration};

use cloudflare_sim::{ApiError, Canned, Change, Delivery, Ending, Fault};
use serde_json::{Value, json};

use super::kind::Kind;

/// A fault of a listing, and what comes of it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) fault: Fault,
    /// Why polls fail; none where the listing is good all the same.
    pub(super) reason: Option<&'static str>,
    /// A word from the log, in which PERMISSION and SCOPE stand for those of the kind.
    word: &'static str,
    pub(super) lasts: Lasts,
    /// It stops the whole credential, so it needs one of its own.
    pub(super) stops: bool,
    /// It is about several pages, so a kind that comes whole cannot have it.
    is_of_pages: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Lasts {
    UntilItIsOver,
    OnePoll,
    /// Nothing is sent for so long, which is more patience than a test has.
    Silence(Duration),
}

impl Row {
    fn once(self) -> Self {
        Self { fault: self.fault.times(1), lasts: Lasts::OnePoll, ..self }
    }

    fn silent_for(self, seconds: u64) -> Self {
        Self { lasts: Lasts::Silence(Duration::from_secs(seconds)), ..self }
    }

    fn of_the_credential(self) -> Self {
        Self { stops: true, ..self }
    }

    /// The zone or account that has the fault from the start, and the one that has it after a good listing.
    pub(super) fn scopes(&self) -> [String; 2] {
        ["new", "listed"].map(|when| format!("{}.{when}.example", self.name))
    }

    /// Whether a kind can have it.
    pub(super) fn is_for(&self, kind: &Kind) -> bool {
        !(self.is_of_pages && kind.comes_whole)
    }

    /// The word from the log of a kind.
    pub(super) fn word(&self, kind: &Kind) -> String {
        self.word.replace("PERMISSION", kind.permission).replace("SCOPE", kind.scope())
    }
}

fn fails(name: &'static str, fault: impl Into<Fault>, reason: &'static str, word: &'static str) -> Row {
    Row {
        name,
        fault: fault.into(),
        reason: Some(reason),
        word,
        lasts: Lasts::UntilItIsOver,
        stops: false,
        is_of_pages: false,
    }
}

fn passes(name: &'static str, fault: impl Into<Fault>, word: &'static str) -> Row {
    Row { reason: None, ..fails(name, fault, "", word) }
}

/// The table. A redirect goes to `elsewhere`.
pub(super) fn faults(elsewhere: SocketAddr) -> Vec<Row> {
    let error = Fault::error;
    let all = |faults: &[Fault]| Fault::All(faults.to_vec());
    let json = |status, body: &str| Fault::Instead(Canned::new(status, "application/json", body));
    let count = |count: Value| Fault::Info("total_count", Some(count));
    let pages = |pages: Value| Fault::Info("total_pages", Some(pages));
    let every = |seconds| Delivery::ByteByByte(Duration::from_secs(seconds));
    let rows = vec![
        // The answer takes too much room or time, or does not come whole.
        fails("endless", Delivery::Endless, "too_large", "larger than 8388608 bytes"),
        fails("gzip-bomb", Delivery::GzipBomb(300_000_000), "too_large", "larger than 8388608 bytes"),
        fails("unanswered", Delivery::Unanswered(Ending::Close), "connect", "Cloudflare broke"),
        fails("reset", Delivery::Half(Ending::Reset), "connect", "Cloudflare broke"),
        passes("reset-once", Fault::from(Delivery::Half(Ending::Reset)).times(1), ""),
        fails("truncated", Delivery::Half(Ending::Close), "connect", "Cloudflare broke"),
        fails("wrong-length", Delivery::Understated, "decode", "cannot be decompressed (unexpected end of file)"),
        fails("hangs", Delivery::Unanswered(Ending::Hang), "timeout", "within 2s (api.timeout)"),
        fails("hangs-in-the-body", Delivery::Half(Ending::Hang), "timeout", "within 2s (api.timeout)"),
        fails("a-byte-a-second", every(1), "timeout", "within 2s (api.timeout)"),
        // The answer is not the API's.
        fails("html", Fault::html(200), "decode", "not the JSON of the API"),
        fails("empty", json(200, ""), "decode", "not the JSON of the API"),
        fails("no-content", json(204, ""), "decode", "not the JSON of the API"),
        fails("array", json(200, "[true,[],[]]"), "decode", "not the JSON of the API"),
        fails("brackets", Fault::brackets(), "decode", "not the JSON of the API"),
        fails("null-result", Fault::Result(Value::Null), "decode", "no result"),
        fails("object-result", Fault::Result(json!({"a": 1})), "decode", "another shape"),
        fails("redirect", Fault::redirect(&format!("http://{elsewhere}/")), "api_error", "redirects are not followed"),
        // The API, or what stands before it, is not well.
        fails("500", error(500, 1000, "Internal Server Error"), "server_error", "code 1000: Internal Server Error"),
        passes("500-once", error(500, 1000, "Internal Server Error").times(1), ""),
        fails("502", Fault::html(502), "server_error", "502 Bad Gateway"),
        fails("520", Fault::html(520), "server_error", "returned 520"),
        fails("522-retry-after", Fault::origin_timed_out(), "server_error", "returned 522").silent_for(120),
        fails("599", json(599, ""), "server_error", "returned 599"),
        fails("600", json(600, ""), "api_error", "returned 600"),
        // The API says no.
        fails("401-once", error(401, 1000, "Invalid API Token"), "unauthorized", "code 1000: Invalid API Token").once(),
        fails("401", error(401, 10_000, "Authentication error"), "unauthorized", "code 10000: Authentication error")
            .of_the_credential()
            .silent_for(60),
        fails("403", error(403, 10_000, "Authentication error"), "forbidden", "it gives no reason. The token"),
        fails(
            "403-permission",
            error(403, 9109, "Unauthorized to access requested resource"),
            "forbidden",
            "needs the permission PERMISSION",
        ),
        // It is about this listing alone, and no sign of a dead token.
        fails(
            "401-permission",
            error(401, 9109, "Unauthorized to access requested resource"),
            "unauthorized",
            "needs the permission PERMISSION",
        ),
        fails("403-method", error(403, 10_001, "Method not allowed for token"), "forbidden", "needs the permission"),
        fails("403-no-zone", error(403, 9109, "Invalid zone identifier"), "forbidden", "sees no SCOPE with this id"),
        fails(
            "403-unheard-of",
            error(403, 4711, "Computer says no"),
            "forbidden",
            "(code 4711: Computer says no). (cf-ray",
        ),
        passes("403-passing", error(403, 10_001, "internal error").times(2), ""),
        fails("403-internal", error(403, 10_001, "internal error"), "forbidden", "a temporary fault at Cloudflare"),
        fails(
            "403-challenge",
            all(&[Fault::html(403), Fault::Header("cf-mitigated", "challenge".into())]),
            "forbidden",
            "HTML) in place of the JSON of the API (cf-mitigated: challenge): the request was blocked at Cloudflare",
        ),
        fails(
            "403-of-the-edge",
            Fault::Instead(Canned::new(403, "text/plain", "error code: 1020")),
            "forbidden",
            "the request was blocked at Cloudflare",
        ),
        // About the credential, in whatever way Cloudflare reports it.
        fails(
            "403-from-here",
            error(403, 9109, "Cannot use the access token from location: 192.0.2.1"),
            "forbidden",
            "Client IP Address Filtering",
        )
        .of_the_credential()
        .silent_for(60),
        fails("403-dead-token", error(403, 9109, "Invalid access token"), "forbidden", "neither expired nor revoked")
            .of_the_credential()
            .silent_for(60),
        fails(
            "403-locked-out",
            error(403, 9109, "Max auth failures reached"),
            "forbidden",
            "has locked out credential",
        )
        .of_the_credential()
        .silent_for(900),
        fails("403-key", error(403, 9103, "Unknown X-Auth-Key or X-Auth-Email"), "forbidden", "is not accepted")
            .of_the_credential()
            .silent_for(60),
        fails("400-no-header", error(400, 9106, "Missing X-Auth-Key"), "api_error", "complete and bare")
            .of_the_credential()
            .silent_for(60),
        fails("404", error(404, 7003, "Could not route to /zones/x"), "not_found", "code 7003: Could not route"),
        fails("418", error(418, 1, "Teapot"), "api_error", "returned 418"),
        fails(
            "error-chain",
            ApiError::new(400, 6003, "Invalid request headers")
                .because(6111, "Invalid format for Authorization header"),
            "api_error",
            "because of code 6111",
        )
        .of_the_credential()
        .silent_for(60),
        fails("no-success", error(200, 1004, "Something"), "api_error", "with success: false (code 1004: Something)"),
        fails("no-code", json(200, r#"{"success":false,"errors":[{"message":"No code"}]}"#), "api_error", "(No code)"),
        fails("no-errors", json(200, r#"{"success":false,"result":[]}"#), "api_error", "with success: false."),
        // It says so to everything that the user does.
        fails("429-seconds", Fault::rate_limited("1"), "rate_limited", "code 971").of_the_credential(),
        fails("429-300", Fault::rate_limited("300"), "rate_limited", "code 971").of_the_credential().silent_for(300),
        fails("429-past", Fault::rate_limited("Tue, 24 Nov 2020 12:00:00 GMT"), "rate_limited", "code 971")
            .of_the_credential(),
        fails("429-date", Fault::rate_limited("Fri, 31 Dec 9999 23:59:59 GMT"), "rate_limited", "code 971")
            .of_the_credential()
            .silent_for(86_400),
        fails(
            "429-null",
            Fault::rate_limited_with_null(),
            "rate_limited",
            "429 Too Many Requests: this user sends too many",
        )
        .of_the_credential()
        .silent_for(300),
        fails("429-no-body", json(429, ""), "rate_limited", "429 Too Many Requests: this user sends too many")
            .of_the_credential()
            .silent_for(300),
        fails(
            "error-code-1015",
            all(&[Fault::edge_rate_limited(), Fault::Header("retry-after", "1".into())]),
            "rate_limited",
            "429 Too Many Requests: this user sends too many",
        )
        .of_the_credential(),
        fails("971-with-200", Fault::throttled_with_200(), "rate_limited", "200 OK with success: false (code 971")
            .of_the_credential()
            .silent_for(300),
        fails("10429-with-500", error(500, 10_429, "More than 1200 requests"), "rate_limited", "code 10429")
            .of_the_credential()
            .silent_for(300),
        passes(
            "two-policies",
            all(&[
                Fault::Header("ratelimit", r#""default";r=1000;t=1, "burst";r=90;t=2"#.into()),
                Fault::Header("ratelimit-policy", r#""default";q=1200;w=300, "burst";q=100;w=60"#.into()),
            ]),
            "",
        )
        .of_the_credential(),
        // The listing changes while it is read.
        // As often as one poll asks, so that the next one finds it as it stays.
        passes("grows", Fault::Change(Change::Grows).times(4), ""),
        // Its totals lie.
        fails("count-too-high", count(130.into()), "incomplete", "ends early"),
        fails("count-absurd", count(u64::MAX.into()), "too_large", "cannot be right"),
        passes("count-too-low", count(10.into()), "more certificates than it says"),
        passes("count-zero", count(0.into()), "more certificates than it says"),
        passes("count-no-number", count("sixty".into()), ""),
        passes("pages-too-many", pages(99.into()), ""),
        passes("pages-too-few", pages(1.into()), ""),
        passes("no-pages", Fault::Info("total_pages", None), ""),
        passes("no-totals", Fault::NoInfo, ""),
    ];
    rows.into_iter().chain(faults_of_pages()).collect()
}

/// What takes a second page: a kind that comes whole has none.
fn faults_of_pages() -> impl Iterator<Item = Row> {
    let all = |faults: &[Fault]| Fault::All(faults.to_vec());
    let rows = [
        // It grows again for the next reading, or it would soon fit on one page.
        fails(
            "shrinks",
            all(&[Fault::Change(Change::Grows).on_page(1), Fault::Change(Change::Shrinks).on_page(2)]),
            "incomplete",
            "changed while it was read",
        ),
        fails("reordered", Fault::Change(Change::Rotates(7)), "incomplete", "changed while it was read"),
        passes("reordered-once", Fault::Change(Change::Reorders).times(1), ""),
        passes("revoked-between-pages", Fault::Change(Change::Sets("status", || "revoked".into())).on_page(2), ""),
        // Its pages do not fit together.
        fails("same-page", Fault::PageIgnored { admitted: false }, "incomplete", "ends early"),
        fails("same-page-admitted", Fault::PageIgnored { admitted: true }, "incomplete", "ends early"),
        fails(
            "same-page-uncounted",
            all(&[Fault::PageIgnored { admitted: false }, Fault::NoInfo]),
            "incomplete",
            "ends early",
        ),
        fails("empty-page", Fault::EmptyFrom(2), "incomplete", "ends early"),
        passes("other-page-size", Fault::PageSize(7), ""),
        passes("ids-on-two-pages", Fault::Overlap, "more certificates than it says"),
        passes("full-last-page", all(&[Fault::PageSize(17), Fault::NoInfo]), ""),
    ];
    rows.into_iter().map(|row| Row { is_of_pages: true, ..row })
}

/// An entry by its id, and what it has in a field (none: the field is absent): its status then, or why it has no series.
pub(super) type OddEntry = (&'static str, &'static str, Option<Value>, Result<&'static str, &'static str>);

pub(super) fn odd_entries() -> Vec<OddEntry> {
    let text = |text: &str| Some(text.into());
    vec![
        ("plain", "status", text("active"), Ok("active")),
        ("reactivating", "status", text("pending_reactivation"), Ok("pending_reactivation")),
        ("revoking", "status", text("pending_revocation"), Ok("pending_revocation")),
        ("revoked", "status", text("revoked"), Ok("revoked")),
        ("status-unheard-of", "status", text("hibernating"), Ok("unknown")),
        ("status-absent", "status", None, Ok("unknown")),
        ("status-null", "status", Some(Value::Null), Ok("unknown")),
        ("status-number", "status", Some(7.into()), Ok("unknown")),
        ("date-of-go", "expires_on", text("2099-01-01 00:00:00 +0000 UTC"), Ok("active")),
        ("date-of-go-fraction", "expires_on", text("2099-01-01 00:00:00.987654321 +0000 UTC"), Ok("active")),
        ("date-fraction", "expires_on", text("2099-01-01T00:00:00.123456Z"), Ok("active")),
        ("date-offset", "expires_on", text("2099-01-01T02:00:00+02:00"), Ok("active")),
        ("date-blanks", "expires_on", text(" 2099-01-01T00:00:00Z\n"), Ok("active")),
        ("date-zero", "expires_on", text("0001-01-01T00:00:00Z"), Err("missing_expiry")),
        ("date-empty", "expires_on", text(""), Err("missing_expiry")),
        ("date-null", "expires_on", Some(Value::Null), Err("missing_expiry")),
        ("date-absent", "expires_on", None, Err("missing_expiry")),
        ("date-word", "expires_on", text("soon"), Err("invalid_expiry")),
        ("date-without-time", "expires_on", text("2099-01-01"), Err("invalid_expiry")),
        ("date-of-openssl", "expires_on", text("Jan  1 00:00:00 2099 GMT"), Err("invalid_expiry")),
        ("date-impossible", "expires_on", text("2099-02-30T00:00:00Z"), Err("invalid_expiry")),
        ("date-number", "expires_on", Some(4_070_908_800_u64.into()), Err("invalid_expiry")),
        ("date-list", "expires_on", Some(json!(["2099-01-01T00:00:00Z"])), Err("invalid_expiry")),
        ("issued-absent", "issued_on", None, Ok("active")),
        ("issued-word", "issued_on", text("yesterday"), Ok("active")),
        ("id-absent", "id", None, Err("missing_id")),
        ("id-empty", "id", text(""), Err("missing_id")),
        ("id-null", "id", Some(Value::Null), Err("missing_id")),
        ("id-number", "id", Some(7.into()), Err("missing_id")),
        ("id-doubled", "id", text("twice"), Err("duplicate_id")),
        ("twice", "id", text("twice"), Ok("active")),
        ("namesake", "common_name", text("Cloudflare"), Ok("active")),
        ("another-namesake", "common_name", text("Cloudflare"), Ok("active")),
        ("name-number", "common_name", Some(7.into()), Ok("active")),
        ("issuer-list", "certificate_authority", Some(json!(["x"])), Ok("active")),
        ("issuer-absent", "certificate_authority", None, Ok("active")),
        ("csr-absent", "csr", None, Ok("active")),
        ("certificate-null", "certificate", Some(Value::Null), Ok("active")),
    ]
}
