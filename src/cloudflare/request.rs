//! How a request goes out: with a permit, on record, signed, as often as its policy allows; and what its response means
//! for further ones.
//!
//! What is requested is in `client`, and the bytes on their way are in `transport`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{
    cause,
    client::{Client, LastRefusal},
    headers::{lowest_reset, rate_limits, retry_after},
    lock,
    metrics::Endpoint,
    response::{Read, into_result},
    retry,
    throttle::{PauseReason, Paused, Priority, ResponseSummary, ThrottleRecord, Ticket, Transition, Verdict},
    transport::Response,
};
use crate::model::{Cause, CredentialRefused, Failure, Reason, usable_time};

pub(super) struct ApiRequest<T> {
    pub(super) endpoint: Endpoint,
    pub(super) url: Url,
    /// Reads the body of the response.
    pub(super) read: Read<T>,
    /// The ticket of its poll.
    pub(super) ticket: Ticket,
    pub(super) priority: Priority,
    /// How often it is sent at most.
    pub(super) tries: u32,
}

/// What survives of a credential's throttle.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedThrottle {
    pub(super) credential: String,
    pub(super) throttle: ThrottleRecord,
}

impl Client {
    /// Sends a request until there is a value, or the policy gives it up.
    pub(super) async fn get<T: Send + 'static>(&self, mut request: ApiRequest<T>) -> Result<T, Failure> {
        // The time since the first try, waits for the budget left out.
        let mut spent = Duration::ZERO;
        let mut tried = 0;
        loop {
            let acquired = self.throttle.acquire(request.ticket, request.priority).await;
            let permit = acquired.map_err(|paused| self.not_sent(paused))?;
            self.metrics.add_throttled(permit.waited);
            // On record before it goes out: whatever happens to this process, the next one knows of it.
            self.save_throttle(false).await;
            let started = Instant::now();
            // Boxed, since thousands of zones may wait for their permit and few hold one.
            let (result, summary) = Box::pin(self.attempt(&request)).await;
            tried += 1;
            spent += started.elapsed();
            let transition = permit.record_response(&summary);
            self.announce(transition).await;
            let mut failure = match result {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if let Some(Paused { reason: PauseReason::Refused, wait }) = transition.paused {
                failure.credential_refused = Some(CredentialRefused::ProbeAfter(wait));
                return Err(failure);
            }
            let Some(wait) = retry::wait(&failure, tried, request.tries, spent, summary.retry_after) else {
                failure.wait_at_least = summary.retry_after.unwrap_or_default();
                return Err(failure);
            };
            tracing::debug!(credential = %self.credential.name(), url = %request.url, %failure, ?wait, "A request failed and will be sent again.");
            self.metrics.count_retry();
            sleep(wait).await;
            spent += wait;
            request.priority = Priority::Failing;
        }
    }

    /// Sends a request once, and reads the response.
    async fn attempt<T: Send + 'static>(&self, request: &ApiRequest<T>) -> (Result<T, Failure>, ResponseSummary) {
        let mut metered = self.metrics.start_request(request.endpoint);
        let response = self.send(request.url.clone()).await;
        let status = response.as_ref().ok().map(|response| response.status);
        metered.status = status.map(|status| status.as_u16());
        drop(metered);
        let mut summary = self.summary(&response);
        let result = self.read(response, request).await;
        let failure = result.as_ref().err();
        if failure.is_some_and(|failure| failure.reason == Reason::RateLimited) {
            summary.is_rate_limited = true;
            summary.retry_after = Some(summary.block());
        }
        summary.verdict = verdict(request.endpoint, status, failure);
        summary.listing = if let Endpoint::Listing(kind) = request.endpoint { Some(kind) } else { None };
        if let (Verdict::Unauthorized | Verdict::Refused | Verdict::LockedOut, Some(failure)) =
            (summary.verdict, failure)
        {
            *lock(&self.last_refusal) = LastRefusal { reason: failure.reason, cause: failure.cause };
        }
        (result, summary)
    }

    /// Sends a signed request once.
    async fn send(&self, url: Url) -> Result<Response, Failure> {
        // Without the time no certificate can be checked, and rustls would panic.
        usable_time((self.now)()).map_err(|error| Failure::new(Reason::Tls, error.to_string()))?;
        self.requests_sent.fetch_add(1, Ordering::Relaxed);
        self.transport.get(url, self.credential.headers().clone()).await
    }

    /// What the throttle has to know of a response, but for its body. The limits in its headers become metrics.
    fn summary(&self, response: &Result<Response, Failure>) -> ResponseSummary {
        let Ok(response) = response else { return ResponseSummary::default() };
        let mut limits = rate_limits(&response.headers);
        // A policy's name is a label value.
        limits.iter_mut().for_each(|limit| limit.policy = self.credential.redact(&limit.policy).into());
        if !limits.is_empty() {
            self.metrics.set_limits(&limits);
        }
        ResponseSummary {
            retry_after: retry_after(&response.headers, (self.now)()),
            low_for: lowest_reset(&limits),
            ..ResponseSummary::default()
        }
    }

    /// Reads a response on another thread, so that a large page holds up no other request. No failure holds the secret.
    async fn read<T: Send + 'static>(
        &self,
        response: Result<Response, Failure>,
        request: &ApiRequest<T>,
    ) -> Result<T, Failure> {
        let credential = self.credential.name().clone();
        let (read, endpoint) = (Arc::clone(&request.read), request.endpoint);
        let result = match response {
            Ok(response) => tokio::spawn(async move { into_result(response, &*read, &credential, endpoint) }).await.unwrap_or_else(|bug| {
                tracing::error!(%bug, "Reading a response panicked, which is a bug in this program. Please report it.");
                Err(Failure::new(Reason::Decode, "The response cannot be read because of a bug in this program."))
            }),
            Err(failure) => Err(failure),
        };
        result.map_err(|mut failure| {
            failure.message = self.credential.redact(&failure.message);
            failure.cf_ray = failure.cf_ray.map(|ray| self.credential.redact(&ray));
            failure
        })
    }

    fn not_sent(&self, paused: Paused) -> Failure {
        let credential = self.credential.name();
        if paused.reason == PauseReason::Refused {
            let LastRefusal { reason, cause } = *lock(&self.last_refusal);
            let remedy = cause.map_or_else(|| ".".into(), |cause| cause::credential_remedy(cause, credential));
            let message = format!(
                "Not sent: Cloudflare refuses credential {credential:?}, so only one zone retries it from time to time{remedy}"
            );
            return Failure {
                cause,
                credential_refused: Some(CredentialRefused::Skipped),
                ..Failure::new(reason, message)
            };
        }
        let message =
            format!("Not sent: Cloudflare blocks the user of credential {credential:?} for too many requests.");
        Failure { wait_at_least: paused.wait, ..Failure::new(Reason::RateLimited, message) }
    }

    /// Logs what a response changed, and has the poller and the next process know of it.
    async fn announce(&self, Transition { paused, recovered }: Transition) {
        let credential = self.credential.name();
        if recovered {
            tracing::info!(%credential, "Cloudflare accepts this credential again.");
            // There is no receiver where a listing is read just once.
            let _ = self.recovered.send(credential.clone());
        }
        let Some(Paused { reason, wait }) = paused else { return };
        match reason {
            PauseReason::RateLimited => {
                tracing::warn!(%credential, ?wait, "Cloudflare reports too many requests. No request is sent with this credential until the wait is over.");
                self.save_throttle(true).await;
            }
            PauseReason::Refused => {
                tracing::warn!(%credential, ?wait, "Cloudflare refuses this credential. One zone tries it again after the wait, or as soon as the secret changes.");
            }
            PauseReason::Low => {
                // It comes and goes with each probe.
                if lock(&self.low_log).count(1).is_some() {
                    tracing::warn!(%credential, ?wait, "Less than a fifth of the rate limit is left. Requests wait, so that the rest stays for the dashboard and other tools of this user.");
                }
                self.save_throttle(false).await;
            }
        }
    }

    /// Puts on disk what a restart must not forget. A block can outlast a loss of power, the requests of a window hardly.
    async fn save_throttle(&self, durable: bool) {
        if let Some(slot) = &self.slot {
            // Rounded up: what is given back too late does no harm.
            let now = (self.now)().timestamp().saturating_add(1);
            let throttle = self.throttle.record(now, self.settings.timeout);
            slot.save(SavedThrottle { credential: self.credential.name().to_string(), throttle }, durable).await;
        }
    }
}

/// What the response to a request says about the credential.
fn verdict(endpoint: Endpoint, status: Option<StatusCode>, failure: Option<&Failure>) -> Verdict {
    let Some(status) = status else { return Verdict::None };
    // Other endpoints refuse good tokens in the same way: only listings tell whether one is dead.
    let refused = if endpoint.is_listing() { Verdict::Refused } else { Verdict::Forbidden };
    match failure.and_then(|failure| failure.cause) {
        Some(Cause::LockedOut) => Verdict::LockedOut,
        Some(cause) if cause.is_about_the_credential() => refused,
        Some(Cause::Blocked | Cause::Transient) => Verdict::None,
        Some(Cause::NotOnPlan) => Verdict::Accepted,
        // "Authentication error", or not a word.
        Some(Cause::NotSaid) | None if status == StatusCode::UNAUTHORIZED && endpoint.is_listing() => {
            Verdict::Unauthorized
        }
        Some(Cause::NotSaid | Cause::MissingPermission) => Verdict::Forbidden,
        // What is said is about what was requested: another kind or zone may be fine.
        _ if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Verdict::Forbidden,
        // These may not come from the API.
        _ if status.is_server_error() || status.is_redirection() => Verdict::None,
        _ if failure.is_some_and(|failure| failure.reason == Reason::Decode) => Verdict::None,
        _ => Verdict::Accepted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    const LISTING: Endpoint = Endpoint::Listing(Kind::Client);

    #[test]
    fn only_an_answer_of_the_api_says_that_a_credential_is_good() {
        let failure = |reason, cause| Some(Failure { cause, ..Failure::new(reason, "no") });
        for (status, failure, expected) in [
            (200, None, Verdict::Accepted),
            (404, failure(Reason::NotFound, Some(Cause::UnknownZone)), Verdict::Accepted),
            (200, failure(Reason::ApiError, None), Verdict::Accepted),
            (401, failure(Reason::Unauthorized, Some(Cause::DeadSecret)), Verdict::Refused),
            (200, failure(Reason::ApiError, Some(Cause::DeadSecret)), Verdict::Refused),
            (400, failure(Reason::ApiError, Some(Cause::LockedOut)), Verdict::LockedOut),
            // One kind or zone is refused, which says nothing of the others, whatever the status is.
            (401, failure(Reason::Unauthorized, Some(Cause::MissingPermission)), Verdict::Forbidden),
            (401, failure(Reason::Unauthorized, Some(Cause::UnknownZone)), Verdict::Forbidden),
            // "Authentication error", whatever the status is.
            (400, failure(Reason::ApiError, Some(Cause::NotSaid)), Verdict::Forbidden),
            (200, failure(Reason::ApiError, Some(Cause::MissingPermission)), Verdict::Forbidden),
            (403, failure(Reason::Forbidden, None), Verdict::Forbidden),
            // Something on the way.
            (401, failure(Reason::Unauthorized, Some(Cause::Blocked)), Verdict::None),
            (302, failure(Reason::ApiError, None), Verdict::None),
            (200, failure(Reason::Decode, None), Verdict::None),
            (502, failure(Reason::ServerError, None), Verdict::None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(verdict(LISTING, Some(status), failure.as_ref()), expected, "{status} {failure:?}");
        }
        assert_eq!(verdict(LISTING, None, failure(Reason::Timeout, None).as_ref()), Verdict::None);
    }
    #[test]
    fn only_a_listing_says_that_a_secret_is_dead() {
        let unauthorized = Failure { cause: Some(Cause::DeadSecret), ..Failure::new(Reason::Unauthorized, "no") };
        let of = |endpoint, failure| verdict(endpoint, Some(StatusCode::UNAUTHORIZED), failure);
        assert_eq!(of(LISTING, Some(&unauthorized)), Verdict::Refused);
        assert_eq!(of(LISTING, None), Verdict::Unauthorized);
        for endpoint in [Endpoint::Zone, Endpoint::TokenVerify] {
            assert_eq!(of(endpoint, Some(&unauthorized)), Verdict::Forbidden, "{endpoint:?}");
            assert_eq!(of(endpoint, None), Verdict::Forbidden, "{endpoint:?}");
        }
    }
}
