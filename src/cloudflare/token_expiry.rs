//! When the token itself expires, as a metric. Nothing depends on it: some tokens may not ask.

use std::{convert::Infallible, time::Duration};

use tokio::time::{Instant, sleep};

use super::{client::Client, envelope, lock, metrics::Endpoint, throttle::Priority};
use crate::model::{Failure, Reason, Scope, Target};

/// How long an answer is good for.
const REQUEST_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How soon it is requested again if there was none.
const REQUEST_AGAIN: Duration = Duration::from_secs(3600);

/// How often it is checked whether it is due. The first listings come before it.
const CHECK_EVERY: Duration = Duration::from_secs(10);

impl Client {
    /// Keeps the metric up to date, once a day. `target` is one that the token lists. Never ends.
    pub async fn watch_token(&self, target: &Target) -> Infallible {
        loop {
            sleep(CHECK_EVERY).await;
            if *lock(&self.token_expiry_due) > Instant::now() {
                continue;
            }
            let wait = match self.token_expiry(target).await {
                Ok(expiry) => {
                    self.metrics.set_token_expiry(expiry);
                    REQUEST_EVERY
                }
                Err(failure) => {
                    tracing::debug!(credential = %self.credential.name(), error = %failure, "Cloudflare does not tell when the token expires.");
                    let is_refused =
                        matches!(failure.reason, Reason::Unauthorized | Reason::Forbidden | Reason::NotFound);
                    if is_refused { REQUEST_EVERY } else { REQUEST_AGAIN }
                }
            };
            *lock(&self.token_expiry_due) = Instant::now() + wait;
        }
    }

    async fn token_expiry(&self, target: &Target) -> Result<Option<i64>, Failure> {
        let ticket = self.next_ticket();
        // No listing has to wait for it.
        let priority = Priority::Failing;
        let verify = async |path: &str| {
            self.get_once(path, Endpoint::TokenVerify, envelope::token_expiry, ticket, priority).await
        };
        match verify("/user/tokens/verify").await {
            // That is the answer to a token that an account owns.
            Err(failure) if matches!(failure.reason, Reason::Unauthorized | Reason::Forbidden | Reason::ApiError) => {}
            outcome => return outcome,
        }
        let known = target.zone.as_ref().and_then(|zone| zone.account.clone());
        let account = match (target.kind.scope(), known) {
            (Scope::Account, _) => target.id.clone(),
            (Scope::Zone, Some(account)) => account.id,
            (Scope::Zone, None) => {
                let zone = self.zone(&target.id, ticket, priority).await?;
                let unknown = || Failure::new(Reason::Decode, "The zone has no account.");
                zone.and_then(|zone| zone.account).ok_or_else(unknown)?.id
            }
        };
        verify(&format!("/accounts/{account}/tokens/verify")).await
    }
}
