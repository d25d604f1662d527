//! What an answer means: a value, or a failure with its reason and a sentence for people.

use reqwest::{StatusCode, header::HeaderMap};

use super::{
    transport::Response,
    wire::{self, Body},
};
use crate::model::{Failure, Reason, clean};

/// Cloudflare's codes for too many requests; they come with any status, often 200.
const RATE_LIMIT_CODES: [i64; 3] = [971, 10_100, 10_429];

/// Reads a body.
pub(super) type Read<T> = fn(&[u8]) -> Body<T>;

/// Turns status and body into a value or a failure: the one place that does.
pub(super) fn judge<T>(response: Response, read: Read<T>, credential: &str) -> Result<T, Failure> {
    let Response { status, headers, body } = response;
    let failed = |failure| Failure { cf_ray: cf_ray(&headers), ..failure };
    let (reason, refusal) = if status.is_success() {
        match read(&body.map_err(failed)?) {
            Body::Good(value) => return Ok(value),
            Body::Refused(refusal) => (Reason::ApiError, refusal),
            Body::Unreadable(why) => {
                let message = format!("The answer cannot be read: {why}.");
                return Err(failed(Failure::new(Reason::Decode, message)));
            }
        }
    } else {
        let reason = match status.as_u16() {
            401 => Reason::Unauthorized,
            403 => Reason::Forbidden,
            404 => Reason::NotFound,
            429 => Reason::RateLimited,
            500.. => Reason::ServerError,
            _ => Reason::ApiError,
        };
        (reason, body.map(|body| wire::refusal(&body)).unwrap_or_default())
    };
    let limited = refusal.codes.iter().any(|code| RATE_LIMIT_CODES.contains(code));
    let reason = if limited { Reason::RateLimited } else { reason };
    let words = if refusal.words.is_empty() { String::new() } else { format!(" ({})", refusal.words) };
    let known = status.canonical_reason().map(|known| format!(" {known}")).unwrap_or_default();
    let but = if status.is_success() { " with success: false" } else { "" };
    let remedy = remedy(reason, status, credential);
    let message = format!("Cloudflare answered {}{known}{but}{words}{remedy}", status.as_u16());
    Err(failed(Failure::new(reason, message)))
}

/// How the sentence goes on: what to do about it.
fn remedy(reason: Reason, status: StatusCode, credential: &str) -> String {
    match reason {
        Reason::Unauthorized => format!(
            ": the secret of credential {credential:?} is not accepted; check that it is whole, neither expired nor revoked, and allowed from this address."
        ),
        Reason::Forbidden => format!(
            ": the token of credential {credential:?} needs the permission SSL and Certificates: Read on this zone."
        ),
        Reason::NotFound => {
            ": there is no zone with this id; check it on the overview page of the zone in the dashboard.".into()
        }
        Reason::RateLimited => {
            ": too many requests by this user, in the dashboard and other tools too; see api.requests_per_5m.".into()
        }
        _ if status.is_redirection() => ": redirects are not followed; check api.base_url.".into(),
        _ => ".".into(),
    }
}

fn cf_ray(headers: &HeaderMap) -> Option<String> {
    headers.get("cf-ray")?.to_str().ok().map(|ray| clean(ray).into())
}
