//! A target as the metrics show it: its labels, and which of its certificates have series of their own.

use std::{
    collections::{HashMap, HashSet},
    iter::zip,
    ops::Range,
    sync::Arc,
};

use super::{
    RenderContext,
    text::{label, next_label},
};
use crate::model::{Certificate, Kind, Listing, Scope, Selection, Snapshot, TargetLabels, TargetState};

/// A target of the snapshot.
///
/// As long as nothing but the time changes what the metrics say about it, it is the same `Arc`.
#[derive(Debug)]
pub(super) struct TargetView {
    pub(super) state: Arc<TargetState>,
    /// Earlier targets of this kind and name.
    namesakes: Vec<Arc<TargetState>>,
    /// `kind`, `zone` and `zone_id`, or `account` and `account_id`, as they stand between the braces.
    pub(super) labels: Box<str>,
    /// How much of these is `kind` and `zone` or `account`.
    certificate_labels: usize,
    /// The owner's own labels of the listing, which come last, with a comma before each.
    pub(super) end_of_labels: String,
    /// The owner's own labels of the target and its certificates.
    pub(super) own_labels: TargetLabels,
    is_first_of_zone: bool,
    pub(super) selection: Selection,
}

impl TargetView {
    /// All targets of the snapshot, in its order. Those that are the same as in `before` are taken from there.
    pub(super) fn all(snapshot: &Snapshot, before: &[Arc<Self>], context: RenderContext<'_>) -> Vec<Arc<Self>> {
        let mut named: HashMap<(Kind, &str), Vec<Arc<TargetState>>> = HashMap::with_capacity(snapshot.targets.len());
        let mut views = Vec::with_capacity(snapshot.targets.len());
        let mut zones = HashSet::new();
        for (index, state) in snapshot.targets.iter().enumerate() {
            let namesakes = named.entry((state.target.kind, &state.name)).or_default();
            let is_first_of_zone = state.target.kind.scope() == Scope::Zone && zones.insert(&state.target.id);
            views.push(match before.get(index) {
                Some(view)
                    if view.is_of(state, namesakes)
                        && view.is_first_of_zone == is_first_of_zone
                        && view.selection.valid.contains(&context.now) =>
                {
                    view.clone()
                }
                _ => Arc::new(Self::new(Arc::clone(state), namesakes.clone(), is_first_of_zone, context)),
            });
            namesakes.push(Arc::clone(state));
        }
        views
    }

    /// A domain that moved from one account to another is in both. The labels of certificates do not distinguish such
    /// namesakes, so an id is shown only for the first of them.
    fn new(
        state: Arc<TargetState>,
        namesakes: Vec<Arc<TargetState>>,
        is_first_of_zone: bool,
        context: RenderContext<'_>,
    ) -> Self {
        let RenderContext { settings, now } = context;
        let mut labels = String::new();
        label(&mut labels, "kind", state.target.kind.label());
        let scope = state.target.kind.scope();
        label(&mut labels, scope.label(), &state.name);
        let certificate_labels = labels.len();
        label(&mut labels, scope.id_label(), state.target.id.as_str());

        let listings = namesakes.iter().filter_map(|namesake| namesake.listing.as_ref());
        let others = listings.flat_map(|(listing, _)| listing.certificates());
        let taken = others.filter(|other| settings.can_show(other)).map(Certificate::id).collect();
        let selection = match &state.listing {
            Some((listing, _)) => Selection::new(listing, &taken, settings, now),
            None => Selection::new(&Listing::default(), &taken, settings, now),
        };
        let own_labels = settings.labels.of_target(&state.target, &state.name);
        let mut end_of_labels = String::new();
        add_own_labels(&mut end_of_labels, &own_labels, "");
        let labels = labels.into_boxed_str();
        Self { state, namesakes, labels, certificate_labels, end_of_labels, own_labels, is_first_of_zone, selection }
    }

    /// `kind` and `zone` or `account`: with the id of a certificate, they identify its series.
    pub(super) fn certificate_labels(&self) -> &str {
        &self.labels[..self.certificate_labels]
    }

    /// What `cloudflare_zone_info` says of the zone, if this is the first target of it.
    pub(super) fn zone_labels(&self) -> Option<String> {
        self.is_first_of_zone.then(|| zone_labels(&self.state))
    }

    /// Appends the owner's own labels of a certificate.
    pub(super) fn end_labels(&self, labels: &mut String, common_name: &str) {
        if self.own_labels.are_the_same_for_all() {
            labels.push_str(&self.end_of_labels);
        } else {
            add_own_labels(labels, &self.own_labels, common_name);
        }
    }

    fn is_of(&self, state: &Arc<TargetState>, namesakes: &[Arc<TargetState>]) -> bool {
        Arc::ptr_eq(&self.state, state)
            && self.namesakes.len() == namesakes.len()
            && zip(&self.namesakes, namesakes).all(|(one, other)| Arc::ptr_eq(one, other))
    }

    pub(super) fn listing(&self) -> Option<&Listing> {
        self.state.listing.as_ref().map(|(listing, _)| &**listing)
    }

    /// All certificates of the listing; none without one.
    pub(super) fn certificates(&self) -> &[Certificate] {
        self.listing().map_or(&[], Listing::certificates)
    }

    /// Those of these certificates that have series of their own.
    pub(super) fn shown(&self, range: Range<usize>) -> impl Iterator<Item = &Certificate> {
        let shown = self.selection.shown();
        let rank = |place| shown.partition_point(|&shown| shown < place);
        shown[rank(range.start)..rank(range.end)].iter().map(|&place| &self.certificates()[place])
    }

    /// The Unix second from which on its certificates count otherwise; the largest if there is none.
    pub(super) fn counts_change_at(&self, RenderContext { settings, now }: RenderContext<'_>) -> i64 {
        let boundary = self.listing().and_then(|listing| listing.next_boundary(now, &settings.expiring_within_days));
        boundary.unwrap_or(i64::MAX)
    }
}

fn add_own_labels(labels: &mut String, own: &TargetLabels, common_name: &str) {
    for (name, value) in own.of(common_name) {
        next_label(labels, name, value);
    }
}

/// What is known of a zone. What is not known is empty, which Prometheus takes for absent.
fn zone_labels(state: &TargetState) -> String {
    let zone = state.target.zone.as_deref();
    let account = zone.and_then(|zone| zone.account.as_ref());
    let mut labels = String::new();
    label(&mut labels, "zone", &state.name);
    label(&mut labels, "zone_id", state.target.id.as_str());
    label(&mut labels, "account", account.map_or("", |account| &account.name));
    label(&mut labels, "account_id", account.map_or("", |account| account.id.as_str()));
    label(&mut labels, "status", zone.map_or("", |zone| &zone.status));
    labels
}
