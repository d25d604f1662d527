//! Why Cloudflare refuses a request, and what to do about it.
//!
//! The HTTP status does not tell a dead token from a permission that lacks, a filter of addresses or a block at the
//! edge: 403 is all of these. Codes and texts do, where there are any.

use reqwest::{StatusCode, header::HeaderMap};

use super::{envelope::Refusal, metrics::Endpoint};
use crate::model::{Cause, Reason, Scope, clean};

/// A web page in the place of a response of the API, or an error of Cloudflare's edge, which comes before the API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interception {
    /// `cf-mitigated`: what the edge did, such as `challenge`.
    mitigated: Option<Box<str>>,
    /// The edge's own error code, such as 1020.
    code: Option<u16>,
    /// It is meant for a browser.
    is_web_page: bool,
    /// It bears a `cf-ray`, as all that comes through Cloudflare.
    by_cloudflare: bool,
}

impl Interception {
    /// Looks whether a response is one.
    pub(super) fn find(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let mitigated = header("cf-mitigated").map(clean);
        let code = edge_code(body);
        let is_web_page = is_web_page(headers, body);
        (mitigated.is_some() || code.is_some() || is_web_page).then(|| Self {
            is_web_page,
            by_cloudflare: mitigated.is_some() || code.is_some() || headers.contains_key("cf-ray"),
            mitigated,
            code,
        })
    }

    /// What it is, to follow the status.
    pub(super) fn words(&self) -> String {
        let details = [
            self.mitigated.as_ref().map(|how| format!("cf-mitigated: {how}")),
            self.code.map(|code| format!("error code {code} of Cloudflare's edge")),
        ];
        let details: Vec<_> = details.into_iter().flatten().collect();
        let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
        let what = if self.is_web_page { "a web page (HTML)" } else { "an error of its own" };
        format!(" with {what} in place of the JSON of the API{details}")
    }

    /// How the sentence goes on where this is the cause: what to do about the block.
    pub(super) fn remedy(&self, cause: Option<Cause>) -> Option<&'static str> {
        let remedy = if self.by_cloudflare {
            ": the request was blocked at Cloudflare's edge, before the API saw it. It has nothing to do with the token. Send requests from another address, or give Cloudflare's support the cf-ray."
        } else {
            ": it bears no cf-ray, so a proxy or firewall on the way sent it, not Cloudflare. Allow requests to api.cloudflare.com there."
        };
        (cause == Some(Cause::Blocked)).then_some(remedy)
    }
}

/// Whether it is meant for a browser.
pub(super) fn is_web_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let start = &body[..body.len().min(1024)];
    let start = String::from_utf8_lossy(start).trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_lowercase();
    kind.to_lowercase().contains("html") && !start.starts_with('{')
        || start.starts_with("<!doctype html")
        || start.starts_with("<html")
}

/// The code of an error made at Cloudflare's edge, in the forms that it has: a line of text, a page, JSON of its own.
fn edge_code(body: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(body).to_lowercase();
    ["error code: ", "error code ", "\"error_code\":", "<title>error "].iter().find_map(|before| {
        let digits = text.split_once(before)?.1.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok().filter(|code| (1000..2000).contains(code))
    })
}

/// Why a request was refused, where that can be known.
pub(super) fn find(status: StatusCode, refusal: &Refusal, interception: Option<&Interception>) -> Option<Cause> {
    let causes = refusal.errors.iter().filter_map(|(code, message)| of_error(*code, message));
    // A server that is not well knows nothing of the credential, whatever the words of its fault are.
    let said = causes.filter(|cause| !(status.is_server_error() && cause.is_about_the_credential())).min();
    let blocked = interception.is_some_and(|found| found.mitigated.is_some() || status.is_client_error());
    let is_on_no_plan = !status.is_server_error() && refusal.errors.iter().any(is_about_the_plan);
    match said.or(blocked.then_some(Cause::Blocked)) {
        Some(cause) if cause.is_about_the_credential() => Some(cause),
        _ if is_on_no_plan => Some(Cause::NotOnPlan),
        None | Some(Cause::NotSaid | Cause::Transient) if status == StatusCode::UNAUTHORIZED => Some(Cause::DeadSecret),
        cause => cause,
    }
}

/// Whether an error says that the plan does not include what was asked for.
fn is_about_the_plan((code, message): &(Option<i64>, Box<str>)) -> bool {
    match code {
        Some(1011 | 1067 | 1404 | 1450 | 1456) => true,
        // Every fault of Access has this code.
        Some(9999) => message.contains("not_enabled"),
        _ => false,
    }
}

/// What one error says. Codes are shared by causes that have nothing to do with each other, so the text comes first.
fn of_error(code: Option<i64>, message: &str) -> Option<Cause> {
    let text = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let names_a_secret = says(&["token", "api key", "api-key", "api_key", "x-auth-", "authorization", "credential"])
        && !says(&["unexpected token"]);
    if says(&["auth"]) && says(&["fail", "attempt"]) && (says(&["too many"]) || says(&["max"]) && says(&["reached"])) {
        return Some(Cause::LockedOut);
    }
    if matches!(code, Some(7000 | 7003)) || says(&["zone identifier", "object identifier"]) {
        return Some(Cause::UnknownZone);
    }
    if says(&[
        "unauthorized to access",
        "permission",
        "not authorized",
        "not allowed for token",
        "api.account.zone.list",
    ]) {
        return Some(Cause::MissingPermission);
    }
    if (names_a_secret || code == Some(9109))
        && says(&[" location", "from ip", "from your ip", "from this ip", "ip address", "client ip"])
    {
        return Some(Cause::WrongAddress);
    }
    if matches!(code, Some(6003 | 6102 | 6103 | 6111 | 9106))
        || names_a_secret && says(&["invalid format", "malformed"])
        || says(&["missing x-auth-", "missing authorization"])
    {
        return Some(Cause::MalformedSecret);
    }
    if code == Some(9103)
        || names_a_secret
            && says(&[
                "invalid",
                "unknown",
                "expired",
                "revoked",
                "disabled",
                "deactivated",
                "deleted",
                "inactive",
                "not active",
                "not valid",
                "not yet valid",
                "not found",
            ])
    {
        return Some(Cause::DeadSecret);
    }
    if says(&["internal error", "internal server error", "request timeout", "temporarily", "try again later"]) {
        return Some(Cause::Transient);
    }
    (code == Some(10_000) || says(&["unable to authenticate"])).then_some(Cause::NotSaid)
}

/// How the sentence about a failure goes on: what to do about it. Where no cause is known none is claimed.
pub(super) fn remedy(reason: Reason, cause: Option<Cause>, credential: &str, endpoint: Endpoint) -> String {
    let permission = endpoint.permission();
    let way_out = match endpoint {
        Endpoint::Zones => {
            " Without it, list the zones in [[zones]], or set discovery.include to names without a star, which are requested one by one."
        }
        _ => "",
    };
    match (reason, cause) {
        (Reason::RateLimited, _) => {
            ": this user sends too many requests, in the dashboard and other tools too; lower api.requests_per_5m.".into()
        }
        (_, Some(Cause::MissingPermission)) => format!(
            ": the token of credential {credential:?} needs the permission {permission}.{way_out}"
        ),
        (_, Some(Cause::NotSaid)) => format!(
            ": it gives no reason. The token of credential {credential:?} most likely lacks the permission {permission}. It may also be expired, or not allowed from this address.{way_out}"
        ),
        (_, Some(Cause::NotOnPlan)) => {
            ": the plan does not include this kind of certificate. Remove it from poll.kinds, or from the kinds of this zone, to save one request a day.".into()
        }
        (_, Some(Cause::Transient)) => {
            ": this is a temporary fault at Cloudflare, and the token needs no change.".into()
        }
        (Reason::NotFound, None) | (_, Some(Cause::UnknownZone)) => match endpoint.scope() {
            Scope::Zone => ": the token sees no zone with this id. Compare the id with the zone's overview page in the dashboard, and check that the token includes the zone.",
            Scope::Account => ": the token sees no account with this id. Compare the id with the dashboard's address, and check that the token includes the account.",
        }
        .into(),
        (_, Some(cause @ (Cause::LockedOut | Cause::WrongAddress | Cause::MalformedSecret | Cause::DeadSecret))) => {
            credential_remedy(cause, credential)
        }
        (_, Some(Cause::Blocked) | None) => ".".into(),
    }
}

/// The same where it is about the credential and not about what was requested.
pub(super) fn credential_remedy(cause: Cause, credential: &str) -> String {
    match cause {
        Cause::LockedOut => format!(
            ": Cloudflare has locked out credential {credential:?}, because this user or address sent too many requests with a bad secret. Correct its secret here and in other tools that use it. The exporter retries later, or as soon as the secret changes."
        ),
        Cause::WrongAddress => format!(
            ": the token of credential {credential:?} is not allowed from this address. Add the address to \"Client IP Address Filtering\" of the token, or remove that filter."
        ),
        Cause::MalformedSecret => format!(
            ": the secret of credential {credential:?} is malformed, or a proxy on the way changes it. Check that it is complete and bare, without Bearer, quotes or line breaks. A token and an API key have different settings."
        ),
        Cause::DeadSecret => format!(
            ": the secret of credential {credential:?} is not accepted. Check that it is complete, neither expired nor revoked, and allowed from this address."
        ),
        _ => ".".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(status: u16, errors: &[(i64, &str)]) -> Option<Cause> {
        let errors = errors.iter().map(|(code, message)| (Some(*code), (*message).into())).collect();
        find(StatusCode::from_u16(status).unwrap(), &Refusal { errors, words: String::new() }, None)
    }

    #[test]
    fn codes_and_texts_say_more_than_the_status() {
        use Cause::*;
        for (status, errors, expected) in [
            (403, &[(9109, "Invalid access token")][..], Some(DeadSecret)),
            (400, &[(9109, "INVALID ACCESS TOKEN")], Some(DeadSecret)),
            (200, &[(9109, "The access token has expired")], Some(DeadSecret)),
            (403, &[(1000, "Invalid API Token")], Some(DeadSecret)),
            (403, &[(9103, "Unknown X-Auth-Key or X-Auth-Email")], Some(DeadSecret)),
            (401, &[(10_000, "Authentication error")], Some(DeadSecret)),
            (401, &[], Some(DeadSecret)),
            (401, &[(10_001, "internal error")], Some(DeadSecret)),
            (403, &[(9109, "Max auth failures reached, please check your Authorization header.")], Some(LockedOut)),
            (400, &[(10_502, "Too many authentication failures. Please try again later.")], Some(LockedOut)),
            (403, &[(9109, "Cannot use the access token from location: 2001:db8::7")], Some(WrongAddress)),
            (401, &[(9109, "Cannot use the access token from location: 192.0.2.1")], Some(WrongAddress)),
            (
                400,
                &[(6003, "Invalid request headers"), (6111, "Invalid format for Authorization header")],
                Some(MalformedSecret),
            ),
            (400, &[(6003, "Invalid request headers")], Some(MalformedSecret)),
            (400, &[(9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")], Some(MalformedSecret)),
            // Of several, the one about the credential decides.
            (403, &[(10_000, "Authentication error"), (9109, "Invalid access token")], Some(DeadSecret)),
            // These are about the zone, or about what was asked.
            (403, &[(9109, "Unauthorized to access requested resource")], Some(MissingPermission)),
            (403, &[(9109, "Invalid zone identifier")], Some(UnknownZone)),
            (
                404,
                &[(7003, "Could not route to /zones/x, perhaps your object identifier is invalid?")],
                Some(UnknownZone),
            ),
            (403, &[(10_000, "Authentication error")], Some(NotSaid)),
            (403, &[(10_001, "Method not allowed for token")], Some(MissingPermission)),
            (
                403,
                &[(0, "Actor 'com.cloudflare.api.token.' requires permission 'x' to list zones")],
                Some(MissingPermission),
            ),
            (403, &[(9109, "Valid user-level authentication not found")], None),
            (403, &[(10_001, "internal error")], Some(Transient)),
            (400, &[(1000, "Internal Server Error")], Some(Transient)),
            (403, &[(4711, "Something else")], None),
            (403, &[(9109, "The access token is not yet valid")], Some(DeadSecret)),
            (400, &[(1000, "API token not found")], Some(DeadSecret)),
            (400, &[(9103, "Invalid API-Key")], Some(DeadSecret)),
            // What is only like it.
            (403, &[(10_001, "Token is not authorized for this zone: zone not active")], Some(MissingPermission)),
            (403, &[(0, "The token requires permission 'com.cloudflare.locations.read'")], Some(MissingPermission)),
            (403, &[(1, "Too many requests from this IP")], None),
            (403, &[(1, "No allocation for this token")], None),
            (400, &[(1, "Invalid JSON: unexpected token")], None),
            (
                404,
                &[(7003, "Could not route to /tokens/x, perhaps your object identifier is invalid?")],
                Some(UnknownZone),
            ),
            // A server that is not well knows nothing of the credential.
            (503, &[(10_000, "Authorization service unavailable: unknown error")], None),
            (502, &[(1, "Max retries to the authentication backend reached, authentication failed")], None),
            (403, &[], None),
        ] {
            assert_eq!(cause(status, errors), expected, "{status} {errors:?}");
        }
    }

    #[test]
    fn a_page_on_the_way_is_distinguished_from_a_response_of_the_api() {
        let find = |headers: &[(&'static str, &'static str)], body: &str| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            Interception::find(&headers, body.as_bytes())
        };
        let html = ("content-type", "text/html; charset=UTF-8");
        let ray = ("cf-ray", "8f00-FRA");
        for (headers, body, mitigated, code, by_cloudflare) in [
            (
                &[html, ray, ("cf-mitigated", "challenge")][..],
                "<!DOCTYPE html><title>Just a moment...",
                Some("challenge"),
                None,
                true,
            ),
            (&[html, ray], "<html><title>Attention Required!", None, None, true),
            (&[ray, ("content-type", "text/plain")], "error code: 1020", None, Some(1020), true),
            (&[ray], "{\"cloudflare_error\":true,\"error_code\": 1006}", None, Some(1006), true),
            (&[], "\u{feff}\n<!doctype HTML>", None, None, false),
            (&[html], "Blocked by the company", None, None, false),
        ] {
            let found = find(headers, body);
            let is_web_page = code.is_none();
            let expected = Interception { is_web_page, mitigated: mitigated.map(Into::into), code, by_cloudflare };
            assert_eq!(found, Some(expected), "{body}");
        }
        for body in ["", "{}", "{\"success\":false,\"errors\":[{\"code\":9109,\"message\":\"<html>\"}]}"] {
            assert_eq!(find(&[ray, ("content-type", "application/json")], body), None, "{body}");
        }
    }
}
