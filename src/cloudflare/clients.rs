//! The clients of all credentials: those of the start, and those that take their place when the configuration changes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use prometheus::Registry;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{ApiSettings, Client, ClientError, Credential, Revival};
use crate::state::Directory;

/// A client for each credential, by its name.
pub type Clients = HashMap<Arc<str>, Arc<Client>>;

/// What clients are made with.
#[derive(Debug, Clone)]
pub struct ClientMaker {
    /// Where their metrics are.
    pub registry: Registry,
    /// The wall clock.
    pub now: fn() -> DateTime<Utc>,
    /// Is told which credentials work again.
    pub revive: UnboundedSender<(Arc<str>, Revival)>,
    /// Holds what is known of their budgets.
    pub directory: Option<Directory>,
}

impl ClientMaker {
    /// For clients that ask once, without anything around them.
    #[must_use]
    pub fn for_one_sweep(now: fn() -> DateTime<Utc>) -> Self {
        let (revive, _nobody) = unbounded_channel();
        Self { registry: Registry::new(), now, revive, directory: None }
    }

    /// The first clients. Blocks.
    ///
    /// # Errors
    /// If the machine cannot make TLS connections.
    pub fn make(&self, settings: &ApiSettings, credentials: &[Arc<Credential>]) -> Result<Clients, ClientError> {
        self.succeed(&Clients::new(), settings, credentials).map(|succession| succession.clients)
    }

    /// Clients that can take the place of these. Blocks.
    ///
    /// # Errors
    /// If the machine cannot make TLS connections.
    pub fn succeed(
        &self,
        before: &Clients,
        settings: &ApiSettings,
        credentials: &[Arc<Credential>],
    ) -> Result<Succession, ClientError> {
        let mut succession = Succession::default();
        for credential in credentials {
            let slot = self.directory.as_ref().map(|directory| directory.credential(credential.name()));
            // Under another name, it is the same user of Cloudflare's, whose budget there is once.
            let is_renamed = |client: &&Arc<Client>| {
                client.credential().headers() == credential.headers()
                    && !credentials.iter().any(|other| other.name() == client.credential().name())
            };
            let old = before.get(credential.name()).or_else(|| before.values().find(is_renamed));
            let client = Arc::new(match old {
                Some(old) => old.succeeded_by(settings, credential.clone(), &self.registry, slot)?,
                None => {
                    let revive = self.revive.clone();
                    Client::new(settings, credential.clone(), &self.registry, self.now, revive, slot)?
                }
            });
            succession.pairs.extend(old.map(|old| (Arc::clone(&client), Arc::clone(old))));
            succession.clients.insert(credential.name().clone(), client);
        }
        Ok(succession)
    }
}

/// Clients, and whose place each of them takes.
#[derive(Debug, Default)]
pub struct Succession {
    /// Those from now on.
    pub clients: Clients,
    /// New and old.
    pairs: Vec<(Arc<Client>, Arc<Client>)>,
}

impl Succession {
    /// The credentials with which is asked in another way: nothing may be under way with their old clients when the new
    /// ones [take over](Self::take_over).
    #[must_use]
    pub fn renewed(&self) -> HashSet<Arc<str>> {
        let renewed = self.pairs.iter().filter(|(client, before)| client.asks_otherwise_than(before));
        renewed.map(|(client, _)| client.credential().name().clone()).collect()
    }

    /// Has every client take the place of the one that it succeeds.
    pub fn take_over(&self) {
        self.pairs.iter().for_each(|(client, before)| client.take_over(before));
    }
}
