//! The clients of all credentials: the first ones, and those that take their places.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use prometheus::Registry;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{ApiSettings, Client, ClientError, Credential};
use crate::state::Directory;

/// A client for each credential, by its name.
pub type Clients = HashMap<Arc<str>, Arc<Client>>;

/// What clients are made with.
#[derive(Debug, Clone)]
pub struct ClientMaker {
    /// Where their metrics are.
    pub registry: Registry,
    /// The wall clock, for dates in headers and in saved state.
    pub now: fn() -> DateTime<Utc>,
    /// Gets the names of credentials that were refused and are accepted again.
    pub recovered: UnboundedSender<Arc<str>>,
    /// Keeps what was used of their budgets.
    pub directory: Option<Directory>,
}

impl ClientMaker {
    /// For clients that read everything once, without a daemon around them.
    #[must_use]
    pub fn for_one_sweep(now: fn() -> DateTime<Utc>) -> Self {
        let (recovered, _) = unbounded_channel();
        Self { registry: Registry::new(), now, recovered, directory: None }
    }

    /// The first clients. Blocks.
    ///
    /// # Errors
    /// If the machine cannot make TLS connections.
    pub fn make(&self, settings: &ApiSettings, credentials: &[Arc<Credential>]) -> Result<Clients, ClientError> {
        self.make_after(&Clients::new(), settings, credentials)
    }

    /// The clients that are to [take the places](Client::activate) of those `before`. One that would be the same stays.
    /// Blocks.
    ///
    /// # Errors
    /// If the machine cannot make TLS connections. The clients before can still be used then.
    pub fn make_after(
        &self,
        before: &Clients,
        settings: &ApiSettings,
        credentials: &[Arc<Credential>],
    ) -> Result<Clients, ClientError> {
        let mut before = before.clone();
        let mut clients = Clients::new();
        for credential in credentials {
            let client = match take_predecessor(&mut before, credential, credentials) {
                Some(old) if old.is_for(settings, credential) => old,
                old => Arc::new(Client::new(self, settings, Arc::clone(credential), old.as_deref())?),
            };
            clients.insert(Arc::clone(credential.name()), client);
        }
        Ok(clients)
    }
}

/// The client whose budget and metrics go to that of a credential: each has one successor at most.
fn take_predecessor(
    before: &mut Clients,
    credential: &Credential,
    credentials: &[Arc<Credential>],
) -> Option<Arc<Client>> {
    if let Some(old) = before.remove(credential.name()) {
        return Some(old);
    }
    // Under another name it is still the same user to Cloudflare, with the same budget.
    let is_gone = |name: &Arc<str>| !credentials.iter().any(|other| other.name() == name);
    let renamed = before
        .iter()
        .find(|(name, old)| is_gone(name) && old.credential().headers() == credential.headers())
        .map(|(name, _)| Arc::clone(name))?;
    before.remove(&renamed)
}
