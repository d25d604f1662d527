//! From a request to an answer: who asks, whether they may, and what there is. No I/O, no waiting.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use super::{
    answer::{Answer, ApiError},
    fault::Fault,
    listing::PageRequest,
    sibling::{self, Sibling},
    world::{ACCOUNT, AcceptedCredential, Quota, SimulatedCertificate, SimulatedZone, World, hex, seeded_rng},
    zones,
};

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// `GET`.
    pub method: String,
    /// With the `/client/v4` before it.
    pub path: String,
    /// As given, without the question mark; empty where there is none.
    pub query: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// When its head was complete.
    pub at: Instant,
}

impl RecordedRequest {
    /// The first header of this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The first query parameter of this name, as given.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
    }

    /// The same without percent signs.
    pub(super) fn decoded(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.parameter(name)?.parse().ok()
    }

    /// The page that is asked for, counted from 1.
    pub(super) fn page(&self) -> usize {
        self.number("page").unwrap_or(1).max(1)
    }
}

/// The world, and what was asked of it.
#[derive(Debug)]
pub(super) struct RouterState {
    pub(super) world: World,
    requests: VecDeque<RecordedRequest>,
    answered: u64,
    usage: HashMap<String, Usage>,
}

impl RouterState {
    pub(super) fn new(world: World) -> Self {
        Self { world, requests: VecDeque::new(), answered: 0, usage: HashMap::new() }
    }

    pub(super) fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.iter().cloned().collect()
    }

    /// Answers and remembers a request.
    pub(super) fn answer(&mut self, request: RecordedRequest) -> Answer {
        let mut faults = Vec::new();
        if let Some(fault) = &mut self.world.fault {
            fault.due(request.page(), &mut faults);
        }
        let mut answer = self.answer_user(&request, &mut faults);
        self.answered += 1;
        let ray = hex(&mut seeded_rng(&format!("ray {}", self.answered)), 16);
        answer.set_header("cf-ray", format!("{ray}-SIM"));
        answer.set_header("vary", "Accept-Encoding");
        answer.set_header("api-version", "2026-09-26.epoch");
        answer.delay = self.world.latency;
        for fault in faults {
            fault.alter(&mut answer);
        }

        self.requests.push_back(request);
        let surplus = self.requests.len().saturating_sub(self.world.remembered_requests);
        self.requests.drain(..surplus);
        answer
    }

    /// An unknown client has spent nothing: the headers are there all the same.
    fn answer_user(&mut self, request: &RecordedRequest, faults: &mut Vec<Fault>) -> Answer {
        let quota = self.world.quota;
        let (mut answer, remaining, seconds) = match authenticate(&self.world.credentials, request) {
            Err(error) => (error.into(), quota.requests, 1),
            Ok(user) => match self.usage.entry(user).or_default().spend(&quota, request.at) {
                Ok((remaining, seconds)) => {
                    (self.route(request, faults).unwrap_or_else(Answer::from), remaining, seconds)
                }
                Err(seconds) => {
                    let mut blocked: Answer = ApiError::throttled(429).into();
                    blocked.set_header("retry-after", seconds.to_string());
                    (blocked, 0, seconds)
                }
            },
        };
        answer.set_header("ratelimit", format!("\"{}\";r={remaining};t={seconds}", quota.name));
        let policy = format!("\"{}\";q={};w={}", quota.name, quota.requests, whole_seconds(quota.window));
        answer.set_header("ratelimit-policy", policy);
        answer
    }

    /// What the verify endpoint says about a token, at the path for its sort: tokens of an account have theirs below the account.
    fn verify(&self, is_right_place: bool) -> Result<Answer, ApiError> {
        if !is_right_place {
            return Err(ApiError::new(401, 1000, "Invalid API Token"));
        }
        let mut result = json!({"id": "ed17574386854bf78a67040be0a770b0", "status": "active"});
        if let Some(date) = &self.world.tokens_expire {
            result["expires_on"] = json!(date);
        }
        Ok(Answer::result(&result))
    }

    fn route(&mut self, request: &RecordedRequest, faults: &mut Vec<Fault>) -> Result<Answer, ApiError> {
        let unknown = || no_route(&request.path);
        let path = request.path.strip_prefix("/client/v4").ok_or_else(unknown)?;
        if let Some((sibling, scope_id)) = Sibling::asked(path, request) {
            if self.is_denied(sibling, &scope_id).ok_or_else(unknown)? {
                return Err(denied());
            }
            return sibling::list(&mut self.world, (sibling, &scope_id), request, faults);
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (id, lists) = match *parts {
            ["user", "tokens", "verify"] => return self.verify(!self.world.tokens_of_account),
            ["accounts", account, "tokens", "verify"] => {
                return self.verify(self.world.tokens_of_account && account == ACCOUNT);
            }
            ["zones"] => return Ok(zones::list(&mut self.world, request, faults)),
            ["zones", id] => (id, false),
            ["zones", id, "client_certificates"] => (id, true),
            _ => return Err(unknown()),
        };
        let at = self.world.zones.iter().position(|zone| zone.id == id).ok_or_else(unknown)?;
        let zone = &mut self.world.zones[at];
        if zone.denied {
            return Err(denied());
        }
        let fault = if lists { &mut zone.fault } else { &mut zone.name_fault };
        if let Some(fault) = fault {
            fault.due(request.page(), faults);
        }
        Ok(if lists { list(zone, request, faults) } else { Answer::result(&self.world.zones[at].fields(&self.world)) })
    }

    /// Whether no listing of this zone or account may be asked for; nothing if there is no such.
    fn is_denied(&self, sibling: Sibling, scope_id: &str) -> Option<bool> {
        if sibling.is_of_account() {
            self.world.accounts.iter().find(|account| account.id == scope_id).map(|account| account.denied)
        } else {
            self.world.zones.iter().find(|zone| zone.id == scope_id).map(|zone| zone.denied)
        }
    }
}

/// One page of a zone's client certificates: 5 to 50, 20 unless asked.
fn list(zone: &mut SimulatedZone, request: &RecordedRequest, faults: &[Fault]) -> Answer {
    let page = PageRequest::asked(request, (5, 20, 50), &mut zone.certificates, faults);
    // The trap that most clients fall into: without a status only the active ones are listed.
    let status = request.parameter("status").unwrap_or("active");
    let matching: Vec<_> =
        zone.certificates.iter().filter(|certificate| status == "all" || certificate.has_status(status)).collect();
    // "Total results available without any search parameters", taken at its word.
    page.answer(&matching, zone.certificates.len(), SimulatedCertificate::fields)
}

fn denied() -> ApiError {
    ApiError::new(403, 10_000, "Authentication error")
}

fn no_route(path: &str) -> ApiError {
    let message = format!("Could not route to {path}, perhaps your object identifier is invalid?");
    let errors = json!([
        { "code": 7003, "message": message },
        { "code": 7000, "message": "No route for that URI" },
    ]);
    ApiError { status: 404, errors }
}

/// The secret that tells one user from another, or the refusal. The shape of a credential is not checked: it has changed
/// before, and the program refuses what cannot be one.
fn authenticate(accepted: &[AcceptedCredential], request: &RecordedRequest) -> Result<String, ApiError> {
    let header = |name| request.header(name).map(str::to_owned);
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let (given, refusal) = match (token, header("x-auth-email"), header("x-auth-key")) {
        (Some(token), ..) => {
            (AcceptedCredential::Token(token.to_owned()), ApiError::new(401, 1000, "Invalid API Token"))
        }
        (None, Some(email), Some(key)) => {
            (AcceptedCredential::Key { email, key }, ApiError::new(403, 9103, "Unknown X-Auth-Key or X-Auth-Email"))
        }
        _ => {
            return Err(ApiError::new(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers"));
        }
    };
    if !accepted.contains(&given) {
        return Err(refusal);
    }
    let (AcceptedCredential::Token(secret) | AcceptedCredential::Key { key: secret, .. }) = given;
    Ok(secret)
}

/// What one user asked lately.
#[derive(Debug, Default)]
struct Usage {
    recent: VecDeque<Instant>,
    blocked_until: Option<Instant>,
}

impl Usage {
    /// Counts a request, or tells how many seconds the block goes on. Requests during a block do not
    /// prolong it; whether they do in reality is not known.
    ///
    /// Returns what is left, and in how many seconds there is some capacity: 1 as long as there is any.
    fn spend(&mut self, quota: &Quota, now: Instant) -> Result<(usize, u64), u64> {
        if let Some(left) = self.blocked_until.map(|until| until - now).filter(|left| !left.is_zero()) {
            return Err(whole_seconds(left));
        }
        while self.recent.front().is_some_and(|&first| now - first >= quota.window) {
            self.recent.pop_front();
        }
        let limit = quota.requests.saturating_sub(quota.spent_elsewhere);
        if self.recent.len() >= limit {
            self.blocked_until = Some(now + quota.window);
            return Err(whole_seconds(quota.window));
        }
        self.recent.push_back(now);
        let remaining = limit - self.recent.len();
        let seconds = match self.recent.front() {
            Some(&first) if remaining == 0 => whole_seconds(first + quota.window - now),
            _ => 1,
        };
        Ok((remaining, seconds))
    }
}

/// Rounded up, so that a client that waits this long has waited long enough.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
