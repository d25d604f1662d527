//! One credential's way to the API: what is asked, when it is asked again, and what is told of it.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use prometheus::Registry;
use reqwest::{StatusCode, Url, header::HeaderMap};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, sleep},
};

use super::{
    ApiSettings, CaFile, Credential, cause,
    envelope::{self, Page},
    judge::{Read, judge},
    limits::{lowest_reset, rate_limits, retry_after},
    metrics::{ApiMetrics, Endpoint},
    paging::{Next, PER_PAGE, Paging},
    retry::RetryPolicy,
    throttle::{PauseReason, Paused, Priority, ResponseSummary, Throttle, ThrottleRecord, Ticket, Transition, Verdict},
    transport::{Response, Transport},
};
use crate::{
    files::watch::Watch,
    model::{Baseline, Cause, DeadToken, Failure, Kind, Listing, Reason, Zone, ZoneId, usable_time},
    state::Slot,
};

/// A low rate limit that lasts is said this often.
const SAY_LOW_EVERY: Duration = Duration::from_secs(3600);

/// How often a token is asked about, if the answer tells of it.
const ASK_OF_TOKEN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How soon again if there was no such answer.
const ASK_OF_TOKEN_AGAIN: Duration = Duration::from_secs(3600);

/// How soon connections with other certificate authorities are tried again where they could not be made.
const TRUST_AGAIN_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whether a token is to be asked about. The first listings come before it.
const LOOK_AT_TOKEN_EVERY: Duration = Duration::from_secs(10);

/// Asks the API with one credential.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    settings: ApiSettings,
    credential: Arc<Credential>,
    throttle: Arc<Throttle>,
    metrics: Arc<ApiMetrics>,
    token: Arc<Mutex<TokenInquiry>>,
    /// How the credential was refused the last time: zones that are not asked because of it say the same.
    refused: Arc<Mutex<(Reason, Option<Cause>)>>,
    requests_sent: AtomicU64,
    said_low: Mutex<Option<Instant>>,
    now: fn() -> DateTime<Utc>,
    revived: UnboundedSender<(Arc<str>, Revival)>,
    slot: Option<Slot>,
}

/// The question when a token expires.
#[derive(Debug)]
struct TokenInquiry {
    /// When it is asked next.
    due: Instant,
    /// Counts the tokens there were: an answer about one of before is none.
    tokens: u64,
}

impl Default for TokenInquiry {
    fn default() -> Self {
        Self { due: Instant::now(), tokens: 0 }
    }
}

/// What a poll read.
#[derive(Debug)]
pub struct Listed {
    /// The whole listing.
    pub listing: Listing,
    /// Usable certificates of the listing before that it lacks.
    pub vanished: u64,
}

/// What survives of a credential's throttle.
#[derive(Debug, Serialize, Deserialize)]
struct SavedThrottle {
    credential: String,
    throttle: ThrottleRecord,
}

/// Why zones that failed deserve another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revival {
    /// There is another secret, or others are trusted: whatever failed may go well now.
    NewSecret,
    /// The secret is accepted again: those that were not asked meanwhile can be.
    Reopened,
}

/// A client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The machine's certificate authorities cannot be read, for example.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(String),
    /// There is another client for this credential in the same registry.
    #[error("the metrics of a credential cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Client {
    /// Sets everything up, and sends nothing yet.
    ///
    /// `now` is only used to read dates in headers and to save times. `revived` is told the credential's
    /// name when zones that failed because of it deserve another try at once. In `slot` is what a
    /// process before has asked lately, and what this one asks is put there.
    ///
    /// # Errors
    /// If the machine cannot make TLS connections, or the credential has a client in `registry` already.
    pub fn new(
        settings: &ApiSettings,
        credential: Arc<Credential>,
        registry: &Registry,
        now: fn() -> DateTime<Utc>,
        revived: UnboundedSender<(Arc<str>, Revival)>,
        slot: Option<Slot>,
    ) -> Result<Self, ClientError> {
        let throttle = Throttle::new(settings.requests_per_5m, settings.concurrency);
        let saved =
            slot.as_ref().and_then(|slot| slot.load(|saved: &SavedThrottle| saved.credential == **credential.name()));
        if let Some(saved) = saved {
            throttle.restore(&saved.throttle, now().timestamp());
        }
        Ok(Self {
            transport: Transport::new(settings).map_err(ClientError::Http)?,
            throttle: Arc::new(throttle),
            metrics: Arc::new(ApiMetrics::register(registry, credential.name())?),
            token: Arc::default(),
            refused: Arc::new(Mutex::new((Reason::Unauthorized, None))),
            settings: settings.clone(),
            credential,
            requests_sent: AtomicU64::new(0),
            said_low: Mutex::default(),
            now,
            revived,
            slot,
        })
    }

    /// A client for what the credential of this name is now, or for the same secret under another name, with the
    /// registry and the slot that a new one would have. It sends nothing before it [takes over](Self::take_over).
    ///
    /// # Errors
    /// If the machine cannot make TLS connections, or another credential of this name has a client already.
    pub fn succeeded_by(
        &self,
        settings: &ApiSettings,
        credential: Arc<Credential>,
        registry: &Registry,
        slot: Option<Slot>,
    ) -> Result<Self, ClientError> {
        let (metrics, token) = if credential.name() == self.credential.name() {
            // What was counted stays counted.
            (Arc::clone(&self.metrics), Arc::clone(&self.token))
        } else {
            (Arc::new(ApiMetrics::register(registry, credential.name())?), Arc::default())
        };
        Ok(Self {
            transport: Transport::new(settings).map_err(ClientError::Http)?,
            settings: settings.clone(),
            credential,
            // What was spent is spent.
            throttle: Arc::clone(&self.throttle),
            metrics,
            token,
            refused: Arc::clone(&self.refused),
            requests_sent: AtomicU64::new(0),
            said_low: Mutex::default(),
            now: self.now,
            revived: self.revived.clone(),
            slot,
        })
    }

    /// Whether it asks with another secret than the one that it succeeds, or elsewhere: what is answered to the one
    /// says nothing of the other.
    #[must_use]
    pub fn asks_otherwise_than(&self, before: &Self) -> bool {
        self.settings.base_url != before.settings.base_url || self.has_another_secret_than(before)
    }

    fn has_another_secret_than(&self, other: &Self) -> bool {
        self.credential.headers() != other.credential.headers()
    }

    fn trusts_others_than(&self, other: &Self) -> bool {
        let roots = |client: &Self| client.settings.ca_file.as_ref().map(|file| file.roots());
        roots(self) != roots(other)
    }

    /// Takes the place of the client that it succeeds, of which nothing may be under way if this one
    /// [asks otherwise](Self::asks_otherwise_than).
    pub fn take_over(&self, before: &Self) {
        self.throttle.set_limits(self.settings.requests_per_5m, self.settings.concurrency);
        if self.has_another_secret_than(before) {
            self.secret_changed();
        } else if self.asks_otherwise_than(before) {
            self.begin_anew();
        } else if self.trusts_others_than(before) {
            // What failed because of the authorities before may go well now.
            self.revive(Revival::NewSecret);
        }
    }

    fn secret_changed(&self) {
        tracing::info!(credential = %self.credential.name(), "The secret changed and is used from now on.");
        self.begin_anew();
    }

    /// Forgets what was answered so far.
    fn begin_anew(&self) {
        self.throttle.secret_changed();
        let mut token = self.token();
        token.tokens += 1;
        token.due = Instant::now();
        self.metrics.token_expires(None);
        drop(token);
        self.revive(Revival::NewSecret);
    }

    fn token(&self) -> MutexGuard<'_, TokenInquiry> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows when the token expires, and asks anew once a day. `zone` is one that it lists. Never ends.
    ///
    /// Nothing depends on the answer: some tokens may not ask.
    pub async fn watch_token(&self, zone: &ZoneId) -> Infallible {
        loop {
            sleep(LOOK_AT_TOKEN_EVERY).await;
            let TokenInquiry { due, tokens } = *self.token();
            if due > Instant::now() {
                continue;
            }
            let answer = self.token_expiry(zone).await;
            let mut token = self.token();
            if token.tokens != tokens {
                // It is about the token of before.
                continue;
            }
            let wait = match answer {
                Ok(expiry) => {
                    self.metrics.token_expires(expiry);
                    ASK_OF_TOKEN_EVERY
                }
                Err(failure) => {
                    tracing::debug!(credential = %self.credential.name(), error = %failure, "When the token expires is not known.");
                    let told = matches!(failure.reason, Reason::Unauthorized | Reason::Forbidden | Reason::NotFound);
                    if told { ASK_OF_TOKEN_EVERY } else { ASK_OF_TOKEN_AGAIN }
                }
            };
            token.due = Instant::now() + wait;
        }
    }

    async fn token_expiry(&self, zone: &ZoneId) -> Result<Option<i64>, Failure> {
        match self.ask("/user/tokens/verify", Endpoint::TokenVerify, envelope::token_expiry).await {
            // So it is answered to a token that an account owns.
            Err(failure) if matches!(failure.reason, Reason::Unauthorized | Reason::Forbidden | Reason::ApiError) => {}
            outcome => return outcome,
        }
        let account = self.ask(&format!("/zones/{zone}"), Endpoint::Zone, envelope::account_id).await?;
        self.ask(&format!("/accounts/{account}/tokens/verify"), Endpoint::TokenVerify, envelope::token_expiry).await
    }

    /// Asks once for something that no listing depends on.
    async fn ask<T: Send + 'static>(&self, path: &str, endpoint: Endpoint, read: Read<T>) -> Result<T, Failure> {
        let url = self.settings.base_url.join(path, None);
        self.get(endpoint, url, read, self.next_ticket(), Priority::Failing, RetryPolicy::ONCE).await
    }

    /// The credential that it asks with.
    #[must_use]
    pub const fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// How many requests went out so far, retries included.
    #[must_use]
    pub fn requests_sent(&self) -> u64 {
        self.requests_sent.load(Ordering::Relaxed)
    }

    /// Draws the ticket of a poll: the earlier it is drawn, the earlier its requests go out.
    #[must_use]
    pub fn next_ticket(&self) -> Ticket {
        self.throttle.next_ticket()
    }

    /// Reads the whole listing of a zone, of which so much is known.
    ///
    /// # Errors
    /// If not every page could be read, they do not fit together, or certificates of before are missing.
    pub async fn list(
        &self,
        zone: &Zone,
        ticket: Ticket,
        priority: Priority,
        baseline: Baseline,
    ) -> Result<Listed, Failure> {
        let (endpoint, segment, read) = source(zone.kind);
        let fetch = async |number: usize| {
            let query = format!("status=all&per_page={PER_PAGE}&page={number}");
            let url = self.settings.base_url.join(&format!("/zones/{}/{segment}", zone.id), Some(&query));
            (number, self.get(endpoint, url, read, ticket, priority, RetryPolicy::LISTING).await)
        };
        let mut paging = Paging::new(baseline);
        let mut in_flight = FuturesUnordered::new();
        loop {
            let next = if in_flight.len() < self.settings.concurrency as usize { paging.next() } else { Next::Wait };
            match next {
                Next::Ask(number) => in_flight.push(fetch(number)),
                Next::Wait => {
                    // There is one: paging waits only for what it asked for.
                    if let Some((number, page)) = in_flight.next().await {
                        paging.add(number, page?);
                    }
                }
                Next::Done(whole) => {
                    let mut listing = Listing::new(whole.entries);
                    listing.more_than_promised = whole.more_than_promised;
                    return Ok(Listed { listing, vanished: whole.vanished });
                }
                Next::Failed(unfit) => return Err(unfit.into()),
            }
        }
    }

    /// Asks for a zone's name, once: it can be asked again with the next poll.
    ///
    /// # Errors
    /// If the token may not see it, or no answer came.
    pub async fn zone_name(&self, zone: &ZoneId, ticket: Ticket, priority: Priority) -> Result<Box<str>, Failure> {
        let url = self.settings.base_url.join(&format!("/zones/{zone}"), None);
        self.get(Endpoint::Zone, url, envelope::zone_name, ticket, priority, RetryPolicy::ONCE).await
    }

    /// Reads the credential again whenever its file changes. Never ends.
    pub async fn watch_credential(&self) -> Infallible {
        let credential = Arc::clone(&self.credential);
        let mut watch = Watch::new(move || credential.refresh());
        loop {
            let complain = |error: &_| {
                let name = self.credential.name();
                tracing::warn!(credential = %name, %error, "The file of the secret cannot be used. The secret read before stays in use.");
            };
            watch.change(complain).await;
            self.secret_changed();
        }
    }

    /// Nobody listens where a listing is read just once.
    fn revive(&self, revival: Revival) {
        let _ = self.revived.send((self.credential.name().clone(), revival));
    }

    /// Sends a request until it is answered or given up.
    async fn get<T: Send + 'static>(
        &self,
        endpoint: Endpoint,
        url: Url,
        read: Read<T>,
        ticket: Ticket,
        mut priority: Priority,
        policy: RetryPolicy,
    ) -> Result<T, Failure> {
        let mut spent = Duration::ZERO;
        let mut tried = 0;
        loop {
            let permit = self.throttle.acquire(ticket, priority).await.map_err(|paused| self.not_sent(paused))?;
            self.metrics.throttled(permit.waited);
            // On record before it goes out: whatever happens to this process, the next one knows of it.
            self.save_throttle(false).await;
            let started = Instant::now();
            let mut request = self.metrics.request(endpoint);
            // Boxed, since thousands of zones may wait for their ticket and few hold one.
            let headers = self.credential.headers();
            let response = Box::pin(self.send(url.clone(), headers.clone())).await;
            let mut summary = self.summary(&response);
            let status = response.as_ref().ok().map(|response| response.status);
            request.status = status.map(|status| status.as_u16());
            drop(request);
            tried += 1;
            spent += started.elapsed();
            let judged = self.judge(response, read).await;
            if let Err(Failure { reason: Reason::RateLimited, .. }) = judged {
                summary.is_rate_limited = true;
                summary.retry_after = Some(summary.block());
            }
            summary.verdict = verdict(status, judged.as_ref().err());
            if matches!(summary.verdict, Verdict::Refused | Verdict::LockedOut) && self.credential.headers() != headers
            {
                // It is about the secret of before, and says nothing of the one that there is now.
                self.metrics.retried();
                continue;
            }
            if endpoint != Endpoint::ClientCertificates && summary.verdict == Verdict::Refused {
                // This is about what the token may be asked, and not about the token: only listings tell whether it is dead.
                summary.verdict = Verdict::Forbidden;
            }
            if let (Verdict::Refused | Verdict::LockedOut, Err(failure)) = (summary.verdict, &judged) {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = (failure.reason, failure.cause);
            }
            let transition = permit.record_response(&summary);
            self.log_transition(transition);
            if let Some(Paused { reason: reason @ (PauseReason::RateLimited | PauseReason::Low), .. }) =
                transition.paused
            {
                self.save_throttle(reason == PauseReason::RateLimited).await;
            }
            let mut failure = match judged {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failure.message = self.credential.redact(&failure.message);
            failure.cf_ray = failure.cf_ray.map(|ray| self.credential.redact(&ray));
            if let Some(Paused { reason: PauseReason::Refused, wait }) = transition.paused {
                failure.dead_token = Some(DeadToken::TryAfter(wait));
                return Err(failure);
            }
            let Some(wait) = policy.wait(&failure, tried, spent, summary.retry_after) else {
                failure.wait_at_least = summary.retry_after.unwrap_or_default();
                return Err(failure);
            };
            tracing::debug!(credential = %self.credential.name(), %url, %failure, ?wait, "A request failed and will be sent again.");
            self.metrics.retried();
            sleep(wait).await;
            spent += wait;
            priority = Priority::Failing;
        }
    }

    /// Puts on disk what a restart must not forget. A block can outlast a loss of power, the requests of a window hardly.
    async fn save_throttle(&self, durable: bool) {
        if let Some(slot) = &self.slot {
            // Rounded up: what is given back too late harms nobody.
            let throttle = self.throttle.record((self.now)().timestamp().saturating_add(1), self.settings.timeout);
            slot.save(SavedThrottle { credential: self.credential.name().to_string(), throttle }, durable).await;
        }
    }

    /// Sends a request once.
    async fn send(&self, url: Url, headers: HeaderMap) -> Result<Response, Failure> {
        // Without the time no certificate can be checked, and rustls would panic.
        usable_time((self.now)()).map_err(|error| Failure::new(Reason::Tls, error.to_string()))?;
        self.requests_sent.fetch_add(1, Ordering::Relaxed);
        self.transport.get(url, headers).await
    }

    /// What the throttle has to know of a response, but for its body. The limits in its headers become metrics.
    fn summary(&self, response: &Result<Response, Failure>) -> ResponseSummary {
        let Ok(response) = response else { return ResponseSummary::default() };
        let mut limits = rate_limits(&response.headers);
        // A policy's name is a label value.
        limits.iter_mut().for_each(|limit| limit.policy = self.credential.redact(&limit.policy).into());
        if !limits.is_empty() {
            self.metrics.limited(&limits);
        }
        ResponseSummary {
            retry_after: retry_after(&response.headers, (self.now)()),
            low_for: lowest_reset(&limits),
            ..ResponseSummary::default()
        }
    }

    /// Judges on another thread, so that a large page holds up no other request.
    async fn judge<T: Send + 'static>(&self, response: Result<Response, Failure>, read: Read<T>) -> Result<T, Failure> {
        let response = response?;
        let credential = self.credential.name().clone();
        let judged = tokio::spawn(async move { judge(response, read, &credential) }).await;
        judged.unwrap_or_else(|bug| {
            tracing::error!(%bug, "Reading an answer failed in a way that it never should. Please report this.");
            Err(Failure::new(Reason::Decode, "The answer cannot be read, through a fault of this program."))
        })
    }

    /// The failure of a request that was not sent.
    fn not_sent(&self, Paused { reason: pause, wait }: Paused) -> Failure {
        let credential = self.credential.name();
        if pause == PauseReason::Refused {
            let (reason, cause) = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let remedy = cause::remedy(reason, cause, credential);
            let message = format!(
                "Not asked: Cloudflare refuses credential {credential:?}, so a single zone tries it now and then{remedy}"
            );
            Failure { cause, dead_token: Some(DeadToken::NotAsked), ..Failure::new(reason, message) }
        } else {
            let message =
                format!("Not asked: Cloudflare blocks the user of credential {credential:?} for too many requests.");
            Failure { wait_at_least: wait, ..Failure::new(Reason::RateLimited, message) }
        }
    }

    fn log_transition(&self, transition: Transition) {
        let credential = self.credential.name();
        match transition.paused {
            Some(Paused { reason: PauseReason::RateLimited, wait }) => {
                tracing::warn!(%credential, ?wait, "Cloudflare says that there were too many requests: none is sent with this credential for a while.");
            }
            Some(Paused { reason: PauseReason::Refused, wait }) => {
                tracing::warn!(%credential, ?wait, "Cloudflare refuses this credential: a single zone tries it again after a while, or when it changes.");
            }
            Some(Paused { reason: PauseReason::Low, wait }) => {
                // It comes and goes with each look, so it is said now and then.
                let mut said = self.said_low.lock().unwrap_or_else(PoisonError::into_inner);
                if said.is_none_or(|said| said.elapsed() >= SAY_LOW_EVERY) {
                    *said = Some(Instant::now());
                    tracing::warn!(%credential, ?wait, "Less than a fifth of the rate limit is left, by whatever else this user runs: waiting, so that the rest stays for the owner.");
                }
            }
            None => {}
        }
        if transition.recovered {
            tracing::info!(%credential, "Cloudflare accepts this credential again.");
            self.revive(Revival::Reopened);
        }
    }
}

/// Reads `api.ca_file` again whenever it changes, for these clients. Never ends.
pub async fn watch_ca_file(file: Arc<CaFile>, clients: Vec<Arc<Client>>) -> Infallible {
    let mut watch = Watch::new(move || file.refresh());
    loop {
        let complain = |error: &_| {
            tracing::warn!(%error, "The file that api.ca_file names cannot be used. The certificate authorities read before stay in use.");
        };
        watch.change(complain).await;
        tracing::info!("The certificate authorities in api.ca_file changed and are used from now on.");
        for client in &clients {
            while let Err(error) = client.transport.trust_again().await {
                tracing::warn!(%error, "Connections that trust these certificate authorities cannot be made. It is tried again.");
                sleep(TRUST_AGAIN_EVERY).await;
            }
            // What failed because of those before may go well now.
            client.revive(Revival::NewSecret);
        }
    }
}

/// What the answer to a request says of the credential.
fn verdict(status: Option<StatusCode>, failure: Option<&Failure>) -> Verdict {
    let Some(status) = status else { return Verdict::None };
    match failure.and_then(|failure| failure.cause) {
        Some(Cause::LockedOut) => Verdict::LockedOut,
        Some(cause) if cause.is_about_the_credential() => Verdict::Refused,
        Some(Cause::Blocked | Cause::Transient) => Verdict::None,
        _ if status == StatusCode::UNAUTHORIZED => Verdict::Refused,
        Some(Cause::NotSaid | Cause::MissingPermission) => Verdict::Forbidden,
        _ if status == StatusCode::FORBIDDEN => Verdict::Forbidden,
        // Whoever sent these, it may not have been the API.
        _ if status.is_server_error() || status.is_redirection() => Verdict::None,
        _ if failure.is_some_and(|failure| failure.reason == Reason::Decode) => Verdict::None,
        _ => Verdict::Accepted,
    }
}

/// Where the certificates of a kind are listed, and how a page of them is read.
///
/// Another kind is another line here, and a file for its entries.
fn source(kind: Kind) -> (Endpoint, &'static str, Read<Page>) {
    match kind {
        Kind::Client => (Endpoint::ClientCertificates, "client_certificates", envelope::client_certificates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(verdict(Some(status), failure.as_ref()), expected, "{status} {failure:?}");
        }
        assert_eq!(verdict(None, failure(Reason::Timeout, None).as_ref()), Verdict::None);
    }
}
