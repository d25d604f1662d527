//! The envelope that the API puts around every result: whether it succeeded, what is wrong, and how much there is.
//!
//! Only what is shown is read, and a field of the wrong type counts as absent. What an entry of a listing looks like is
//! known where its kind is.

use std::sync::Arc;

use super::{
    date,
    kinds::{Entries, Source, source},
    lenient::{Json, Shape, read},
    paging::Paged,
};
use crate::model::{Account, Certificate, Expiry, Kind, ScopeId, Zone, clean};

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page<T = Certificate> {
    /// In the order of the response. An entry can be several of them, or none.
    pub(super) items: Vec<T>,
    /// How many entries the page has; of more than a page can have, one more than these.
    pub(super) entries: usize,
    /// Tells which entries were passed over: a sum, so that the order does not matter.
    pub(super) skipped: u64,
    /// `result_info.total_count`: entries of the whole listing.
    pub(super) total_count: Option<u64>,
    /// `result_info.total_pages`.
    pub(super) total_pages: Option<u64>,
}

/// What the API says when it says no.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Cloudflare's errors with their codes, those of the `error_chain` included.
    pub(super) errors: Vec<(Option<i64>, Box<str>)>,
    /// The errors in words; empty where there are none.
    pub(super) words: String,
}

/// How a body could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<T> {
    /// `success: true` with the result that was asked for.
    Good(T),
    /// `success: false`.
    Refused(Refusal),
    /// Neither; the text says what is wrong with it.
    Unreadable(&'static str),
}

/// The certificates in the body of an answer, if it is a good page of this kind.
///
/// The step that every page goes through, for benchmarks; [`Client::list`](super::Client::list) is what asks for pages.
#[must_use]
pub fn read_page(kind: Kind, body: &[u8]) -> Option<Vec<Certificate>> {
    match page(body, source(kind)) {
        Body::Good(page) => Some(page.items),
        Body::Refused(_) | Body::Unreadable(_) => None,
    }
}

/// Reads a page of a kind, of which this is the row.
pub(super) fn page(body: &[u8], source: &Source) -> Body<Page> {
    let max_entries = source.paged.max_entries();
    good(body, Shape::List(max_entries + 1, &source.shape), |result, info| {
        let mut read = Entries::default();
        let page = entries(result, info, |entry| (source.read)(entry, &mut read))?;
        let Entries { certificates, skipped, .. } = read;
        Ok(Page { items: certificates, skipped, ..page })
    })
}

/// Reads a page of zones. An entry without a usable id becomes no item, but counts as an entry.
pub(super) fn zones(body: &[u8]) -> Body<Page<Zone>> {
    good(body, Shape::List(Paged::Numbered.max_entries() + 1, &ZONE), |result, info| {
        let mut zones = Vec::new();
        let page = entries(result, info, |entry| zones.extend(zone(entry, None)))?;
        Ok(Page { items: zones, ..page })
    })
}

const ZONE: Shape<'_> = Shape::Object(&["id", "name", "status"], &[("account", Shape::Object(&["id", "name"], &[]))]);

fn zone(entry: &Json<'_>, asked: Option<&ScopeId>) -> Option<Zone> {
    let text = |of: &Json<'_>, key| clean(of.get(key).text().unwrap_or_default().trim());
    let id = |of: &Json<'_>| of.get("id").text().unwrap_or_default().parse::<ScopeId>().ok();
    // Without a name, the id stands in.
    let named = |id: &ScopeId, of: &Json<'_>| match text(of, "name") {
        name if name.is_empty() => Arc::from(id.as_str()),
        name => name.into(),
    };
    let account = entry.get("account");
    let account = id(account).map(|id| Account { name: named(&id, account), id });
    let id = if let Json::Absent = entry.get("id") { asked.cloned()? } else { id(entry)? };
    Some(Zone { name: named(&id, entry), id, status: text(entry, "status").into(), account })
}

/// Reads each entry of a page. Returns the page without its items.
fn entries<T>(result: &Json<'_>, info: &Json<'_>, read: impl FnMut(&Json<'_>)) -> Result<Page<T>, &'static str> {
    let total = |key| info.get(key).integer();
    let (total_count, total_pages) = (total("total_count"), total("total_pages"));
    let entries = match result {
        Json::List(entries) => &**entries,
        Json::Absent if total_count == Some(0) => &[],
        Json::Absent => return Err("it has no result, and does not say that the listing is empty"),
        _ => return Err("its result is of another shape"),
    };
    entries.iter().for_each(read);
    Ok(Page { items: Vec::new(), entries: entries.len(), skipped: 0, total_count, total_pages })
}

/// Reads the zone of this id; `None` where the result is none, or another one.
pub(super) fn single_zone(body: &[u8], asked: &ScopeId) -> Body<Option<Zone>> {
    good(body, ZONE, |result, _| Ok(zone(result, Some(asked)).filter(|zone| zone.id == *asked)))
}

/// Reads when a token expires; `None` for one that does not.
pub(super) fn token_expiry(body: &[u8]) -> Body<Option<i64>> {
    good(body, Shape::Object(&["expires_on"], &[]), |token, _| {
        if !matches!(token, Json::Object(..)) {
            return Err("it does not describe a token");
        }
        match token.get("expires_on").text().map_or(Expiry::Missing, date::parse) {
            Expiry::At(time) => Ok(Some(time)),
            Expiry::Missing | Expiry::NoCertificate => Ok(None),
            Expiry::Invalid => Err("the expiry of the token is no date"),
        }
    })
}

/// Reads what the body of a failed request says of the reason, if it says anything.
pub(super) fn refusal(body: &[u8]) -> Refusal {
    read(body, &Shape::Object(&[], &[("errors", ERRORS)]), Refusal::new).unwrap_or_default()
}

/// Whether a body is a response of the API, and not of something else on the way.
pub(super) fn is_of_the_api(body: &[u8]) -> bool {
    read(body, &Shape::Object(&["success"], &[]), |body| body.get("success").flag().is_some()).unwrap_or_default()
}

/// Reads a body whose result has this shape, and with `take` the result and what there is to know of it.
fn good<T>(
    body: &[u8],
    result: Shape<'_>,
    take: impl FnOnce(&Json<'_>, &Json<'_>) -> Result<T, &'static str>,
) -> Body<T> {
    let members = [("errors", ERRORS), ("result", result), ("result_info", RESULT_INFO)];
    let body = read(body, &Shape::Object(&["success"], &members), |body| match body.get("success").flag() {
        Some(true) => take(body.get("result"), body.get("result_info")).map_or_else(Body::Unreadable, Body::Good),
        Some(false) => Body::Refused(Refusal::new(body)),
        None => Body::Unreadable("it does not say whether it succeeded"),
    });
    body.unwrap_or(Body::Unreadable("it is not the JSON of the API"))
}

const RESULT_INFO: Shape<'_> = Shape::Object(&["total_count", "total_pages"], &[]);
/// The errors: objects, or texts alone. Their chain is read one level deep, which is all that was seen.
const ERRORS: Shape<'_> = Shape::List(
    Refusal::MAX_READ,
    &Shape::Object(
        &["code", "message", "documentation_url"],
        &[
            ("source", SOURCE),
            (
                "error_chain",
                Shape::List(
                    Refusal::MAX_READ,
                    &Shape::Object(&["code", "message", "documentation_url"], &[("source", SOURCE)]),
                ),
            ),
        ],
    ),
);
const SOURCE: Shape<'_> = Shape::Object(&["pointer"], &[]);

impl Refusal {
    /// More errors than this in one response help no one.
    const MAX_ERRORS: usize = 5;

    /// Some may be no errors.
    const MAX_READ: usize = 4 * Self::MAX_ERRORS;

    fn new(body: &Json<'_>) -> Self {
        let mut refusal = Self::default();
        for error in Self::errors(body.get("errors")) {
            if !refusal.words.is_empty() {
                refusal.words.push_str("; ");
            }
            refusal.add(error);
            // The chain names the real cause. It is not documented.
            for cause in Self::errors(error.get("error_chain")) {
                refusal.words.push_str(", because of ");
                refusal.add(cause);
            }
        }
        refusal
    }

    /// The first errors of a list, or one alone.
    fn errors<'a>(list: &'a Json<'a>) -> impl Iterator<Item = &'a Json<'a>> {
        let is_error = |item: &&Json<'_>| matches!(item, Json::Object(..) | Json::Text(_));
        list.items().iter().filter(is_error).take(Self::MAX_ERRORS)
    }

    fn add(&mut self, error: &Json<'_>) {
        let message = clean(error.text().or(error.get("message").text()).unwrap_or("no message"));
        let code = error.get("code");
        // A number, or one in quotes.
        let code = code.integer().or_else(|| code.text()?.trim().parse().ok());
        match code {
            Some(code) => self.words.push_str(&format!("code {code}: {message}")),
            None => self.words.push_str(&message),
        }
        self.errors.push((code, message));
        if let Some(pointer) = error.get("source").get("pointer").text() {
            self.words.push_str(&format!(", at {}", clean(pointer)));
        }
        if let Some(url) = error.get("documentation_url").text() {
            self.words.push_str(&format!(", see {}", clean(url)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Field, Status, Texts};

    fn client_certificates(body: &[u8]) -> Body<Page> {
        super::page(body, source(Kind::Client))
    }

    fn page(body: &Value) -> Page {
        match client_certificates(body.to_string().as_bytes()) {
            Body::Good(page) => page,
            other => panic!("{other:?} from {body}"),
        }
    }

    fn entry(item: &Value) -> Certificate {
        page(&json!({"success": true, "result": [item]})).items.remove(0)
    }

    /// An entry of which nothing is known.
    fn nothing() -> Certificate {
        Certificate { texts: Texts::default(), status: Status::Unknown, expiry: Expiry::Missing, not_before: None }
    }

    #[test]
    fn the_documented_answer_is_read() {
        let answer = json!({
            "errors": [], "messages": [], "success": true,
            "result": [{
                "id": "7bf7f70c-7600-42e1-81c4-e4c0da9aa515",
                "certificate": "-----BEGIN CERTIFICATE-----\nMIIDmDCCAoC...dhDDE\n-----END CERTIFICATE-----",
                "certificate_authority": {"id": "568b6b74", "name": "Cloudflare Managed CA for account 11cb"},
                "common_name": "Cloudflare", "country": "US",
                "csr": "-----BEGIN CERTIFICATE REQUEST-----\r\nMIICY....\r\n-----END CERTIFICATE REQUEST-----",
                "expires_on": "2033-02-20T23:18:00Z", "fingerprint_sha256": "256c24", "issued_on": "2023-02-23T23:18:00Z",
                "location": "Somewhere", "organization": "Organization", "organizational_unit": "Organizational Unit",
                "serial_number": "3bb94f", "signature": "SHA256WithRSA", "ski": "8e375a", "state": "CA",
                "status": "active", "validity_days": 3650,
            }],
            "result_info": {"count": 1, "page": 1, "per_page": 20, "total_count": 2000, "total_pages": 100},
        });
        let expected = Certificate {
            texts: Texts::from([
                (Field::Id, "7bf7f70c-7600-42e1-81c4-e4c0da9aa515"),
                (Field::CommonName, "Cloudflare"),
                (Field::SerialNumber, "3bb94f"),
                (Field::FingerprintSha256, "256c24"),
                (Field::Ski, "8e375a"),
                (Field::Issuer, "Cloudflare Managed CA for account 11cb"),
                (Field::Signature, "SHA256WithRSA"),
                (Field::Organization, "Organization"),
                (Field::OrganizationalUnit, "Organizational Unit"),
                (Field::Country, "US"),
                (Field::State, "CA"),
                (Field::Location, "Somewhere"),
            ]),
            status: Status::Active,
            expiry: Expiry::At(1_992_554_280),
            not_before: Some(1_677_194_280),
        };
        let certificates = vec![expected];
        let expected =
            Page { items: certificates, entries: 1, skipped: 0, total_count: Some(2000), total_pages: Some(100) };
        assert_eq!(page(&answer), expected);
    }

    #[test]
    fn a_token_tells_when_it_expires() {
        for (result, expected) in [
            (
                json!({"id": "x", "status": "active", "expires_on": "2033-02-20T23:18:00Z"}),
                Body::Good(Some(1_992_554_280)),
            ),
            (json!({"id": "x", "status": "active"}), Body::Good(None)),
            (json!({"expires_on": null}), Body::Good(None)),
            (json!({"expires_on": 1}), Body::Good(None)),
            (json!({"expires_on": "soon"}), Body::Unreadable("the expiry of the token is no date")),
            (json!([]), Body::Unreadable("it does not describe a token")),
            (json!(null), Body::Unreadable("it does not describe a token")),
        ] {
            let body = json!({"success": true, "result": result}).to_string();
            assert_eq!(token_expiry(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn an_account_id_is_one_or_none() {
        let account = |id: Value| {
            let zone = json!({"id": "023e105f4ecef8ad9ca31a8372d0c353", "name": "a.example", "account": {"id": id}});
            let id = "023e105f4ecef8ad9ca31a8372d0c353".parse().unwrap();
            match single_zone(json!({"success": true, "result": zone}).to_string().as_bytes(), &id) {
                Body::Good(Some(zone)) => zone.account.map(|account| account.id.to_string()),
                other => panic!("{other:?}"),
            }
        };
        let id = "11cbe197c050c9e422aaa103cfe30ed8";
        assert_eq!(account(json!(id)), Some(id.to_owned()));
        for odd in [json!("../../user"), json!(""), json!(null), json!(1), json!("11cbe197c050c9e422aaa103cfe30ed8/")] {
            assert_eq!(account(odd), None);
        }
    }

    #[test]
    fn one_odd_entry_hides_no_other() {
        let good = json!({"id": "good"});
        for odd in
            [json!(null), json!(1), json!(-1.5), json!("text"), json!([]), json!([["id", 1]]), json!(true), json!({})]
        {
            let page = page(&json!({"success": true, "result": [good, odd, good]}));
            let expected = Certificate { texts: Texts::from([(Field::Id, "good")]), ..nothing() };
            assert_eq!(page.items, [expected.clone(), nothing(), expected], "{odd}");
        }
        for odd in [
            r#"{"id":"a","id":"b"}"#,
            r#"{"id":"a","certificate_authority":{"name":1,"name":2}}"#,
            "1e999",
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
        ] {
            let body = format!(r#"{{"success":true,"result":[{{"id":"good"}},{odd},{{"id":"good"}}]}}"#);
            match client_certificates(body.as_bytes()) {
                Body::Good(page) => {
                    assert_eq!(page.items.iter().filter(|entry| entry.id() == "good").count(), 2, "{odd}");
                }
                other => panic!("{odd}: {other:?}"),
            }
        }
        let bytes = b"{\"success\":true,\"result\":[{\"id\":\"good\"},{\"id\":\"\xff\"}]}";
        assert!(matches!(client_certificates(bytes), Body::Good(page) if page.items[1].id() == "\u{fffd}"));
        let fields = [
            "id",
            "common_name",
            "status",
            "issued_on",
            "serial_number",
            "fingerprint_sha256",
            "ski",
            "certificate_authority",
            "signature",
            "organization",
            "organizational_unit",
            "country",
            "state",
            "location",
        ];
        for odd in [json!(null), json!(0), json!(1e300), json!({"name": 1}), json!(["x"]), json!(false)] {
            for field in fields {
                assert_eq!(entry(&json!({ field: odd })), nothing(), "{field}: {odd}");
            }
        }
    }

    #[test]
    fn a_status_that_is_not_documented_is_unknown() {
        for (status, expected) in [
            (json!("active"), Status::Active),
            (json!("pending_reactivation"), Status::PendingReactivation),
            (json!("pending_revocation"), Status::PendingRevocation),
            (json!("revoked"), Status::Revoked),
            (json!("unknown"), Status::Unknown),
            (json!("Active"), Status::Unknown),
            (json!("expired"), Status::Unknown),
            (json!(null), Status::Unknown),
        ] {
            assert_eq!(entry(&json!({"status": status})).status, expected, "{status}");
        }
    }

    #[test]
    fn an_expiry_is_a_date_or_missing_or_invalid() {
        for (expires_on, expected) in [
            (json!("2033-02-20T23:18:00Z"), Expiry::At(1_992_554_280)),
            (json!(""), Expiry::Missing),
            (json!(null), Expiry::Missing),
            (json!("0001-01-01T00:00:00Z"), Expiry::Missing),
            (json!("soon"), Expiry::Invalid),
            (json!(1_992_554_280), Expiry::Invalid),
            (json!({}), Expiry::Invalid),
        ] {
            assert_eq!(entry(&json!({"expires_on": expires_on})).expiry, expected, "{expires_on}");
        }
        assert_eq!(entry(&json!({})).expiry, Expiry::Missing);
    }

    #[test]
    fn hostile_text_is_made_harmless_and_half_a_surrogate_pair_breaks_nothing() {
        for (json, expected) in [
            (r#""a\nb\u202e\u0000""#, "a\u{fffd}b\u{fffd}\u{fffd}"),
            (r#""x\ud800y""#, "x\u{fffd}\u{fffd}\u{fffd}y"),
            (r#""\udc00\ud83d\ude00""#, "\u{fffd}\u{fffd}\u{fffd}😀"),
            (r#""\"{{ x }}<b>\\""#, "\"{{ x }}<b>\\"),
        ] {
            let body = format!(r#"{{"success":true,"result":[{{"common_name":{json},"csr":"\ud800"}}]}}"#);
            match client_certificates(body.as_bytes()) {
                Body::Good(page) => assert_eq!(page.items[0].common_name(), expected, "{json}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn no_result_is_an_empty_list_only_where_the_count_says_so() {
        for (body, entries) in [
            (json!({"success": true, "result": null, "result_info": {"total_count": 0}}), Some(0)),
            (json!({"success": true, "result": [], "result_info": {"page": 1, "count": 0, "total_count": 0}}), Some(0)),
            (json!({"success": true, "result": []}), Some(0)),
            (json!({"success": true, "result": null, "result_info": {"total_count": 1}}), None),
            (json!({"success": true, "result": null}), None),
            (json!({"success": true}), None),
        ] {
            let read = match client_certificates(body.to_string().as_bytes()) {
                Body::Good(page) => Some(page.items.len()),
                Body::Unreadable(_) => None,
                Body::Refused(refusal) => panic!("{refusal:?}"),
            };
            assert_eq!(read, entries, "{body}");
        }
    }

    #[test]
    fn totals_of_a_wrong_type_are_unknown() {
        for (odd, read) in [
            (json!(7), Some(7)),
            (json!(-1), None),
            (json!("7"), None),
            (json!(1.5), None),
            (json!(null), None),
            (json!([]), None),
        ] {
            let page =
                page(&json!({"success": true, "result": [], "result_info": {"total_count": odd, "total_pages": odd}}));
            assert_eq!((page.total_count, page.total_pages), (read, read), "{odd}");
        }
        for odd in [json!(3), json!([5, 2])] {
            assert_eq!(page(&json!({"success": true, "result": [], "result_info": odd})).total_count, None, "{odd}");
        }
    }

    #[test]
    fn what_the_api_says_when_it_says_no_is_put_into_words() {
        for (body, codes, words) in [
            (
                json!({"success": false, "errors": [{"code": 10000, "message": "Authentication error"}]}),
                vec![10000],
                "code 10000: Authentication error",
            ),
            (
                json!({"success": false, "result": {"any": "shape"}, "errors": [{
                    "code": 6003, "message": "Invalid request headers",
                    "error_chain": [{"code": 6111, "message": "Invalid format for Authorization header"}],
                }]}),
                vec![6003, 6111],
                "code 6003: Invalid request headers, because of code 6111: Invalid format for Authorization header",
            ),
            (
                json!({"success": false, "errors": [
                    {"code": 7003, "message": "Could not route", "documentation_url": "https://developers.example/x", "source": {"pointer": "/zone_id"}},
                    {"message": "No route\nfor that URI"},
                ]}),
                vec![7003],
                "code 7003: Could not route, at /zone_id, see https://developers.example/x; No route\u{fffd}for that URI",
            ),
            (json!({"success": false, "errors": [{"code": "x"}]}), vec![], "no message"),
            (json!({"success": false, "errors": [{"code": "9109", "message": "No"}]}), vec![9109], "code 9109: No"),
            (json!({"success": false, "errors": {"code": 9109, "message": "No"}}), vec![9109], "code 9109: No"),
            (json!({"success": false, "errors": ["No"]}), vec![], "No"),
            (json!({"success": false, "errors": "No"}), vec![], "No"),
            (json!({"success": false, "errors": [null, 7, [9], {"code": 971}]}), vec![971], "code 971: no message"),
            (json!({"success": false, "errors": null}), vec![], ""),
            (json!({"success": false}), vec![], ""),
        ] {
            let read = refusal(body.to_string().as_bytes());
            assert_eq!(read.errors.iter().filter_map(|(code, _)| *code).collect::<Vec<_>>(), codes, "{body}");
            assert_eq!(read.words, words, "{body}");
            assert_eq!(client_certificates(body.to_string().as_bytes()), Body::Refused(read), "{body}");
        }
    }

    #[test]
    fn what_is_no_answer_of_the_api_is_unreadable() {
        let brackets = "[".repeat(200_000);
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "error code: 1015",
            "<html></html>",
            "{\"success\":true",
            r#"{"success":"true","result":[]}"#,
            r#"{"success":true,"result":{}}"#,
            r#"{"success":true,"result":"x"}"#,
            "\u{feff}{}",
            r#"[true,[],[{"id":"a"}],{"total_count":1}]"#,
            r#"[false,[{"code":1}]]"#,
            &brackets,
        ] {
            assert!(matches!(client_certificates(body.as_bytes()), Body::Unreadable(_)), "{body:.40}");
            assert_eq!(refusal(body.as_bytes()), Refusal::default(), "{body:.40}");
        }
    }

    #[test]
    fn a_single_zone_is_the_one_that_was_asked_for_and_without_a_name_its_id_stands_in() {
        let id = "023e105f4ecef8ad9ca31a8372d0c353";
        let zone = |result: Value| {
            let body = json!({"success": true, "result": result}).to_string();
            match single_zone(body.as_bytes(), &id.parse().unwrap()) {
                Body::Good(zone) => zone.map(|zone| zone.name.to_string()),
                other => panic!("{other:?}"),
            }
        };
        for named in [json!({"id": id, "name": " example.com "}), json!({"name": "example.com"})] {
            assert_eq!(zone(named.clone()).as_deref(), Some("example.com"), "{named}");
        }
        for nameless in [
            json!(null),
            json!([]),
            json!({}),
            json!({"id": id}),
            json!({"id": id, "name": ""}),
            json!({"id": id, "name": null}),
            json!({"id": id, "name": 1}),
        ] {
            assert_eq!(zone(nameless.clone()).as_deref(), Some(id), "{nameless}");
        }
        let other = json!({"id": "11cbe197c050c9e422aaa103cfe30ed8", "name": "example.com"});
        for none in [other, json!({"id": "x", "name": "example.com"}), json!({"id": 1, "name": "example.com"})] {
            assert_eq!(zone(none.clone()), None, "{none}");
        }
    }
}
