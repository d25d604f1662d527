//! `GET /zones`: which zones a credential sees, as far as Cloudflare filters them.
//!
//! The filter as a whole is for the caller: this only asks for less where one pattern or one account allows it.

use futures_util::future::try_join_all;

use super::{
    client::Client, envelope, metrics::Endpoint, paging::Paged, request::ApiRequest, retry::RetryPolicy,
    throttle::Priority,
};
use crate::model::{Baseline, Failure, NamePattern, ScopeId, Zone, ZoneFilter};

/// A parameter of the query, with its value.
type Parameter = (&'static str, String);

impl Client {
    /// Every zone that the credential sees, in any state, by name; all of them, or a failure. A name that the filter
    /// has without a star is asked for by itself, which a token for some zones may do too.
    ///
    /// # Errors
    /// If not every page could be read, or they do not fit together.
    pub async fn zones(&self, filter: &ZoneFilter, priority: Priority) -> Result<Vec<Zone>, Failure> {
        let lists = queries(filter).into_iter().map(|query| self.list_zones(query, priority));
        let mut zones: Vec<Zone> = try_join_all(lists).await?.into_iter().flatten().collect();
        zones.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        zones.dedup_by(|one, other| one.id == other.id);
        Ok(zones)
    }

    async fn list_zones(&self, query: Vec<Parameter>, priority: Priority) -> Result<Vec<Zone>, Failure> {
        let ticket = self.next_ticket();
        let whole = self.read_pages(Paged::Numbered, Baseline::default(), |number| {
            let mut url = self.settings.base_url.join("/zones", None);
            let numbers = [("per_page", Paged::Numbered.per_page().unwrap_or_default()), ("page", number)];
            url.query_pairs_mut()
                .extend_pairs([("order", "name"), ("direction", "asc")])
                .extend_pairs(&query)
                .extend_pairs(numbers.map(|(name, number)| (name, number.to_string())));
            let (endpoint, read, policy) = (Endpoint::Zones, envelope::zones, RetryPolicy::LISTING);
            ApiRequest { endpoint, url, read, ticket, priority, policy }
        });
        Ok(whole.await?.items)
    }
}

/// What to ask for: one list, or one for each name.
fn queries(filter: &ZoneFilter) -> Vec<Vec<Parameter>> {
    let account = match &*filter.accounts {
        [one] if one.parse::<ScopeId>().is_ok() => Some(("account.id", one.to_lowercase())),
        [one] => Some(("account.name", one.to_string())),
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
mod tests {
    use super::*;

    #[test]
    fn cloudflare_filters_where_one_pattern_or_one_account_allows_it() {
        const ID: &str = "11cbe197c050c9e422aaa103cfe30ed8";
        for (include, accounts, expected) in [
            (&["*"][..], &[][..], &[""][..]),
            (&["*.Example"], &[], &["name=ends_with:.example"]),
            (&["shop*"], &[], &["name=starts_with:shop"]),
            (&["**shop*"], &[], &["name=contains:shop"]),
            (&["a*b"], &[], &[""]),
            (&["*a*b*"], &[], &[""]),
            (&["*.a", "*.b"], &[], &[""]),
            (&["Shop.example"], &[], &["name=shop.example"]),
            (&["a.example", "b.example"], &[], &["name=a.example", "name=b.example"]),
            (&["a.example", "*.b"], &[], &[""]),
            (&["*"], &[ID], &["account.id=11cbe197c050c9e422aaa103cfe30ed8"]),
            (&["*.a"], &["Example Ltd"], &["account.name=Example Ltd&name=ends_with:.a"]),
            (&["*"], &[ID, "Example Ltd"], &[""]),
        ] {
            let filter = ZoneFilter {
                include: include.iter().map(|text| NamePattern::new(text).unwrap()).collect(),
                exclude: vec![NamePattern::new("x").unwrap()],
                accounts: accounts.iter().map(|&account| account.into()).collect(),
            };
            let words = |query: Vec<Parameter>| {
                query.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
            };
            let queries: Vec<_> = queries(&filter).into_iter().map(words).collect();
            assert_eq!(queries, expected, "{include:?} {accounts:?}");
        }
    }
}
