//! When the token itself expires, as a metric. Nothing depends on it: some tokens may not ask.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    client::Client, envelope, lock, metrics::Endpoint, request::ApiRequest, retry::RetryPolicy, throttle::Priority,
};
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
        match self.get_once("/user/tokens/verify", Endpoint::TokenVerify, envelope::token_expiry).await {
            // That is the answer to a token that an account owns.
            Err(failure) if matches!(failure.reason, Reason::Unauthorized | Reason::Forbidden | Reason::ApiError) => {}
            outcome => return outcome,
        }
        let known = target.zone.as_ref().and_then(|zone| zone.account.as_ref());
        let account = match (target.kind.scope(), known) {
            (Scope::Account, _) => target.id.as_str().into(),
            (Scope::Zone, Some(account)) => account.id.as_str().into(),
            (Scope::Zone, None) => {
                let zone = format!("/zones/{}", target.id);
                self.get_once(&zone, Endpoint::Zone, envelope::account_id).await?
            }
        };
        self.get_once(&format!("/accounts/{account}/tokens/verify"), Endpoint::TokenVerify, envelope::token_expiry)
            .await
    }

    async fn get_once<T: Send + 'static>(
        &self,
        path: &str,
        endpoint: Endpoint,
        read: fn(&[u8]) -> envelope::Body<T>,
    ) -> Result<T, Failure> {
        let request = ApiRequest {
            endpoint,
            url: self.settings.base_url.join(path, None),
            read: Arc::new(read),
            ticket: self.next_ticket(),
            // No listing has to wait for it.
            priority: Priority::Failing,
            policy: RetryPolicy::ONCE,
        };
        self.get(request).await
    }
}
