//! `GET /zones`: which zones a credential sees, as far as Cloudflare filters them.
//!
//! The filter as a whole is for the caller: this only asks for less where one pattern or one account allows it.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::{
    client::Client, envelope, metrics::Endpoint, paging::Paged, request::ApiRequest, retry::TRIES, throttle::Priority,
};
use crate::model::{Baseline, Failure, NamePattern, ScopeId, Zone, ZoneFilter, ZoneList};

/// A parameter of the query, with its value.
type Parameter = (&'static str, String);

impl Client {
    /// Every zone that the credential sees, in any state, by name; all of them, or a failure. A name that the filter
    /// has without a star is asked for on its own, which a token for some zones may do too. An entry without a usable id
    /// hides no other, and is counted.
    ///
    /// # Errors
    /// If not every page could be read, or they do not fit together.
    pub async fn zones(&self, filter: &ZoneFilter, priority: Priority) -> Result<ZoneList, Failure> {
        let lists = queries(filter).into_iter().map(|query| self.list_zones(query, priority));
        let lists: Vec<ZoneList> = try_join_all(lists).await?;
        let unreadable = lists.iter().map(|list| list.unreadable).sum();
        let mut zones: Vec<Zone> = lists.into_iter().flat_map(|list| list.zones).collect();
        zones.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        zones.dedup_by(|one, other| one.id == other.id);
        Ok(ZoneList { zones, unreadable })
    }

    async fn list_zones(&self, query: Vec<Parameter>, priority: Priority) -> Result<ZoneList, Failure> {
        let ticket = self.next_ticket();
        let whole = self.read_pages(Paged::Numbered, Baseline::default(), |number| {
            let mut url = self.settings.base_url.join("/zones", None);
            let numbers = [("per_page", Paged::Numbered.per_page().unwrap_or_default()), ("page", number)];
            url.query_pairs_mut()
                .extend_pairs([("order", "name"), ("direction", "asc")])
                .extend_pairs(&query)
                .extend_pairs(numbers.map(|(name, number)| (name, number.to_string())));
            let (endpoint, read) = (Endpoint::Zones, Arc::new(envelope::zones));
            ApiRequest { endpoint, url, read, ticket, priority, tries: TRIES }
        });
        let whole = whole.await?;
        let unreadable = whole.entries.saturating_sub(whole.items.len());
        Ok(ZoneList { zones: whole.items, unreadable })
    }
}

/// What to ask for: one list, or one for each name.
fn queries(filter: &ZoneFilter) -> Vec<Vec<Parameter>> {
    let account = match &*filter.accounts {
        [one] if one.parse::<ScopeId>().is_ok() => Some(("account.id", one.to_lowercase())),
        // A colon would stand behind an operator.
        [one] if !one.contains(':') => Some(("account.name", one.to_string())),
        _ => None,
    };
    let with = |name: Option<String>| account.clone().into_iter().chain(name.map(|name| ("name", name))).collect();
    let names: Option<Vec<&str>> = filter.include.iter().map(NamePattern::only_name).collect();
    match (names, &*filter.include) {
        (Some(names), _) => names.into_iter().map(|name| with(Some(name.to_lowercase()))).collect(),
        (None, [one]) => vec![with(one_part(one))],
        _ => vec![with(None)],
    }
}

/// A pattern as an operator of Cloudflare's, where there is one for it.
fn one_part(pattern: &NamePattern) -> Option<String> {
    let text = pattern.as_str().to_lowercase();
    let (start, end) = (text.starts_with('*'), text.ends_with('*'));
    let part = text.trim_matches('*');
    let operator = match (start, end) {
        (true, true) => "contains",
        (true, false) => "ends_with",
        (false, true) => "starts_with",
        (false, false) => return None,
    };
    (!part.is_empty() && !part.contains('*')).then(|| format!("{operator}:{part}"))
}

#[cfg(test)]
mod tests;
