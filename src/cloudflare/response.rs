//! What a response means: a value, or a failure with its reason and a sentence for people.

use std::sync::Arc;

use reqwest::header::HeaderMap;

use super::{
    cause::{self, Interception, is_web_page},
    envelope::{self, Body},
    metrics::Endpoint,
    transport::Response,
};
use crate::model::{Failure, Reason, clean};

/// Cloudflare's codes for too many requests; they come with any status, often 200.
const RATE_LIMIT_CODES: [i64; 3] = [971, 10_100, 10_429];

pub(super) type Read<T> = Arc<dyn Fn(&[u8]) -> Body<T> + Send + Sync>;

/// Turns status and body into a value or a failure: the one place that does.
///
/// `endpoint` is what the request was for.
pub(super) fn into_result<T>(
    response: Response,
    read: impl FnOnce(&[u8]) -> Body<T>,
    credential: &str,
    endpoint: Endpoint,
) -> Result<T, Failure> {
    let Response { status, headers, body } = response;
    let failed = |failure| Failure { cf_ray: cf_ray(&headers), ..failure };
    let mut interception = None;
    let (reason, refusal) = if status.is_success() {
        let body = body.map_err(failed)?;
        match read(&body) {
            Body::Good(value) => return Ok(value),
            Body::Refused(refusal) => (Reason::ApiError, refusal),
            Body::Unreadable(why) => {
                let page =
                    if is_web_page(&headers, &body) { ", but a web page: something on the way sent it" } else { "" };
                let message = format!("The response cannot be read: {why}{page}.");
                return Err(failed(Failure::new(Reason::Decode, message)));
            }
        }
    } else {
        let reason = match status.as_u16() {
            401 => Reason::Unauthorized,
            403 => Reason::Forbidden,
            404 => Reason::NotFound,
            429 => Reason::RateLimited,
            500..=599 => Reason::ServerError,
            _ => Reason::ApiError,
        };
        let body = body.unwrap_or_default();
        let refusal = envelope::refusal(&body);
        if refusal.errors.is_empty() && !envelope::is_of_the_api(&body) {
            interception = Interception::find(&headers, &body);
        }
        (reason, refusal)
    };
    let limited = refusal.errors.iter().filter_map(|(code, _)| *code).any(|code| RATE_LIMIT_CODES.contains(&code));
    let reason = if limited { Reason::RateLimited } else { reason };
    let cause = cause::find(status, &refusal, interception.as_ref()).filter(|_| reason != Reason::RateLimited);
    let words = match &interception {
        Some(page) if reason != Reason::RateLimited && !status.is_redirection() => page.words(),
        _ if refusal.words.is_empty() => String::new(),
        _ => format!(" ({})", refusal.words),
    };
    let known = status.canonical_reason().map(|known| format!(" {known}")).unwrap_or_default();
    let but = if status.is_success() { " with success: false" } else { "" };
    let remedy = match interception.and_then(|page| page.remedy(cause)) {
        Some(remedy) => remedy.to_owned(),
        None if status.is_redirection() => ": redirects are not followed; check api.base_url.".to_owned(),
        None => cause::remedy(reason, cause, credential, endpoint),
    };
    let message = format!("Cloudflare returned {}{known}{but}{words}{remedy}", status.as_u16());
    Err(failed(Failure { cause, ..Failure::new(reason, message) }))
}

fn cf_ray(headers: &HeaderMap) -> Option<String> {
    headers.get("cf-ray")?.to_str().ok().map(|ray| clean(ray).into())
}
