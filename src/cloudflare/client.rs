//! One credential's way to the API: what can be requested.
//!
//! How a request goes out is in `request`, and which client takes the place of which in `clients`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    ApiSettings, ClientMaker, Credential,
    envelope::{self, Body, Page},
    kinds::source,
    lock,
    metrics::{ApiMetrics, Endpoint},
    paging::{Item, Next, Paged, Paging, Whole},
    request::{ApiRequest, SavedThrottle},
    response::Read,
    retry::TRIES,
    throttle::{Priority, Throttle, Ticket},
    transport::Transport,
};
use crate::{
    log_throttle::LogThrottle,
    model::{Baseline, Cause, Failure, Listing, Reason, ScopeId, Target, Zone},
    state::Slot,
};

/// Sends requests with one credential. Another secret, another URL or other limits are another client; what was used of
/// the budget, and the metrics, go from one to the next.
#[derive(Debug)]
pub struct Client {
    pub(super) credential: Arc<Credential>,
    pub(super) settings: ApiSettings,
    pub(super) transport: Arc<Transport>,
    pub(super) throttle: Throttle,
    pub(super) metrics: Arc<ApiMetrics>,
    /// How the credential was refused the last time: listings that are not polled because of it say the same.
    pub(super) last_refusal: Mutex<LastRefusal>,
    /// Each zone's name is requested once, whatever is listed of the zone.
    zone_names: Mutex<HashMap<ScopeId, Arc<tokio::sync::Mutex<ZoneName>>>>,
    /// When it is requested next when the token expires.
    pub(super) token_expiry_due: Mutex<Instant>,
    pub(super) requests_sent: AtomicU64,
    /// Decides when to log that little is left of the rate limit.
    pub(super) low_log: Mutex<LogThrottle>,
    pub(super) now: fn() -> DateTime<Utc>,
    /// Gets the credential's name when Cloudflare accepts it again.
    pub(super) recovered: UnboundedSender<Arc<str>>,
    pub(super) slot: Option<Slot>,
}

/// What is known of a zone's name.
#[derive(Debug)]
enum ZoneName {
    /// It, or that Cloudflare does not tell it.
    Known(Option<Arc<str>>),
    /// It is requested at this time, and if that fails, after this wait again.
    Due(Instant, Duration),
}

/// How long after a failure a zone's name is requested again: the first time, and at most.
const FIRST_NAME_WAIT: Duration = Duration::from_secs(60);
const LONGEST_NAME_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How a credential was refused, whatever was requested with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastRefusal {
    pub(super) reason: Reason,
    pub(super) cause: Option<Cause>,
}

/// Two clients are equal if a response to the one is as good as a response to the other.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.sends_the_same(&other.settings, &other.credential) && self.settings.ca_file == other.settings.ca_file
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
    /// One with a predecessor `before`, of the same credential or of one that only had another name, is not to be used
    /// before it [takes over](Self::activate). Another one goes on with the budget where the process before left it.
    ///
    /// # Errors
    /// If the machine cannot make TLS connections, or a client without a predecessor of this name is in the registry.
    pub(super) fn new(
        maker: &ClientMaker,
        settings: &ApiSettings,
        credential: Arc<Credential>,
        before: Option<&Self>,
    ) -> Result<Self, ClientError> {
        let slot = maker.directory.as_ref().map(|directory| directory.credential(credential.name()));
        let throttle = match before {
            Some(before) => {
                let has_another_secret = !before.sends_the_same(settings, &credential);
                before.throttle.successor(settings.requests_per_5m, settings.concurrency, has_another_secret)
            }
            None => {
                let throttle = Throttle::new(settings.requests_per_5m, settings.concurrency);
                let is_mine = |saved: &SavedThrottle| saved.credential == **credential.name();
                if let Some(saved) = slot.as_ref().and_then(|slot| slot.load(is_mine)) {
                    throttle.restore(&saved.throttle, (maker.now)().timestamp());
                }
                throttle
            }
        };
        let transport = match before.filter(|before| before.settings == *settings) {
            Some(before) => Arc::clone(&before.transport),
            None => Arc::new(Transport::new(settings).map_err(ClientError::Http)?),
        };
        let metrics = match before.filter(|before| before.credential.name() == credential.name()) {
            Some(before) => Arc::clone(&before.metrics),
            None => Arc::new(ApiMetrics::register(&maker.registry, credential.name())?),
        };
        let unknown = LastRefusal { reason: Reason::Unauthorized, cause: None };
        Ok(Self {
            throttle,
            transport,
            metrics,
            last_refusal: Mutex::new(before.map_or(unknown, |before| *lock(&before.last_refusal))),
            zone_names: Mutex::default(),
            token_expiry_due: Mutex::new(Instant::now()),
            settings: settings.clone(),
            credential,
            requests_sent: AtomicU64::new(0),
            low_log: Mutex::default(),
            now: maker.now,
            recovered: maker.recovered.clone(),
            slot,
        })
    }

    /// Takes the place of the client that it is the successor of, if it is one. From here on, responses about that one's
    /// secret no longer count.
    pub fn activate(&self) {
        if self.throttle.activate() {
            tracing::info!(credential = %self.credential.name(), "The secret changed and is used from now on.");
            self.metrics.set_token_expiry(None);
        }
    }

    /// Whether the secret, and the URL that it is sent to, are these.
    fn sends_the_same(&self, settings: &ApiSettings, credential: &Credential) -> bool {
        self.settings.base_url == settings.base_url && self.credential.headers() == credential.headers()
    }

    /// Whether the settings and the credential are these.
    pub(super) fn is_for(&self, settings: &ApiSettings, credential: &Credential) -> bool {
        self.settings == *settings && *self.credential == *credential
    }

    /// The credential that signs its requests.
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
        zone: &Target,
        ticket: Ticket,
        priority: Priority,
        baseline: Baseline,
    ) -> Result<Listed, Failure> {
        let source = source(zone.kind);
        let request = |number: usize| {
            let (path, query) = source.location(&zone.id, number);
            let url = self
                .settings
                .base_url
                .join(&path, Some(&query).filter(|query| !query.is_empty()).map(|query| &**query));
            let endpoint = Endpoint::Listing(zone.kind);
            let read: Read<_> = Arc::new(move |body| envelope::page(body, source));
            ApiRequest { endpoint, url, read, ticket, priority, tries: TRIES }
        };
        let whole = self.read_pages(source.paged, baseline, request).await?;
        let mut listing = Listing::of(zone.kind, whole.items);
        listing.exceeds_total_count = whole.exceeds_total_count;
        Ok(Listed { listing, vanished: whole.vanished })
    }

    /// Reads every page of a list, side by side as far as the settings allow.
    pub(super) async fn read_pages<T: Item + Send + 'static>(
        &self,
        paged: Paged,
        baseline: Baseline,
        request: impl Fn(usize) -> ApiRequest<Page<T>>,
    ) -> Result<Whole<T>, Failure> {
        let fetch = |number| {
            let request = request(number);
            async move { (number, self.get(request).await) }
        };
        let mut paging = Paging::new(paged, baseline);
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
                Next::Done(whole) => return Ok(whole),
                Next::Failed(unfit) => return Err(unfit.into()),
            }
        }
    }

    /// The zone's name, if it is known. It is requested until Cloudflare says it, or that the token may not see it, and
    /// ever more rarely while that fails.
    pub async fn zone_name(&self, id: &ScopeId, ticket: Ticket, priority: Priority) -> Option<Arc<str>> {
        let first = || Arc::new(tokio::sync::Mutex::new(ZoneName::Due(Instant::now(), FIRST_NAME_WAIT)));
        let name = Arc::clone(lock(&self.zone_names).entry(id.clone()).or_insert_with(first));
        let mut name = name.lock().await;
        match *name {
            ZoneName::Known(ref known) => return known.clone(),
            ZoneName::Due(due, _) if due > Instant::now() => return None,
            // Before the request, since the caller may give it up.
            ZoneName::Due(_, wait) => *name = ZoneName::Due(Instant::now() + wait, LONGEST_NAME_WAIT.min(2 * wait)),
        }
        let found = match self.zone(id, ticket, priority).await {
            // The id stands in where there is no name.
            Ok(zone) => zone.map(|zone| zone.name).filter(|name| **name != *id.as_str()),
            Err(failure) => {
                tracing::debug!(zone_id = %id, error = %failure, "The name of the zone is not known; its id stands in.");
                let is_refused = failure.credential_refused.is_none()
                    && matches!(failure.reason, Reason::Unauthorized | Reason::Forbidden | Reason::NotFound);
                if is_refused {
                    *name = ZoneName::Known(None);
                }
                return None;
            }
        };
        *name = ZoneName::Known(found.clone());
        found
    }

    /// The zone of this id; `None` if the response is about none or another one.
    ///
    /// # Errors
    /// If there was no good response.
    pub(super) async fn zone(&self, id: &ScopeId, ticket: Ticket, priority: Priority) -> Result<Option<Zone>, Failure> {
        let (path, id) = (format!("/zones/{id}"), id.clone());
        self.get_once(&path, Endpoint::Zone, move |body| envelope::single_zone(body, &id), ticket, priority).await
    }

    /// Requests something else than a list, once.
    pub(super) async fn get_once<T: Send + 'static>(
        &self,
        path: &str,
        endpoint: Endpoint,
        read: impl Fn(&[u8]) -> Body<T> + Send + Sync + 'static,
        ticket: Ticket,
        priority: Priority,
    ) -> Result<T, Failure> {
        let (url, read) = (self.settings.base_url.join(path, None), Arc::new(read));
        self.get(ApiRequest { endpoint, url, read, ticket, priority, tries: 1 }).await
    }
}
