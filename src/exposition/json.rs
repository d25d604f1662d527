//! The snapshot and the time as JSON: `/-/status.json`, and the certificates of `list --output json`.
//!
//! One schema for the daemon and `list`, which write it, and for `check`, which reads it. Times are RFC 3339 in UTC, to
//! the second. What is not known is null.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

use super::Exposition;
use crate::model::{
    Certificate, DiscoveryState, Failure, Field, Kind, Rejection, Scope, SeriesSettings, Suppression, Target,
    TargetLabels, TargetState, Texts,
};

/// A certificate as `list` prints it.
#[derive(Debug)]
pub(crate) struct CertificateRow<'a> {
    pub(crate) kind: Kind,
    /// Name of the zone or account.
    pub(crate) scope: &'a str,
    pub(crate) scope_id: &'a str,
    pub(crate) status: &'static str,
    pub(crate) texts: &'a Texts,
    pub(crate) expires_on: Option<String>,
    pub(crate) issued_on: Option<String>,
    pub(crate) days_until_expiry: Option<i64>,
    pub(crate) own_labels: &'a TargetLabels,
}

/// A column that holds texts. The last column, [`DAYS_UNTIL_EXPIRY`], holds numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Kind,
    /// Name of the zone or account.
    Scope(Scope),
    ScopeId(Scope),
    Status,
    Text(Field),
    ExpiresOn,
    IssuedOn,
}

pub(crate) const DAYS_UNTIL_EXPIRY: &str = "days_until_expiry";

/// One kind of certificate in one zone: how its polls went, and what its last good listing held.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListingStatus<C> {
    pub(crate) kind: Kind,
    #[serde(flatten)]
    pub(crate) scope: ListingScope,
    /// Whether the plan includes the kind; `None` before the first poll.
    pub(crate) available: Option<bool>,
    /// The owner's own labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) poll_interval_seconds: f64,
    /// `None` before the first good listing.
    pub(crate) last_success: Option<LastSuccess>,
    /// `None` before the first poll of this process.
    pub(crate) last_poll: Option<LastPoll>,
    /// Those that have series of their own.
    pub(crate) certificates: Vec<C>,
}

/// How the discovery of zones goes with one credential.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiscoveryStatus {
    /// The name of the credential.
    pub(crate) credentials: String,
    pub(crate) interval_seconds: f64,
    /// When the last good one was completed.
    pub(crate) last_success_on: Option<String>,
    /// Zones that it found and that are watched.
    pub(crate) zones_watched: usize,
    /// Zones that it found and that are not.
    pub(crate) zones_not_watched: usize,
    /// Why the last one failed, if it did.
    pub(crate) failure: Option<PollFailure>,
}

/// Where a listing is: in a zone or in an account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum ListingScope {
    Zone { zone: String, zone_id: String },
    Account { account: String, account_id: String },
}

impl ListingScope {
    pub(crate) fn new(scope: Scope, name: &str, id: &str) -> Self {
        match scope {
            Scope::Zone => Self::Zone { zone: name.to_owned(), zone_id: id.to_owned() },
            Scope::Account => Self::Account { account: name.to_owned(), account_id: id.to_owned() },
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Zone { zone: name, .. } | Self::Account { account: name, .. } => name,
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Zone { zone_id: id, .. } | Self::Account { account_id: id, .. } => id,
        }
    }
}

/// What the last good listing held: the numbers of the metrics of the same names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LastSuccess {
    pub(crate) completed_on: String,
    pub(crate) by_status: BTreeMap<String, u64>,
    pub(crate) expired: u64,
    pub(crate) expiring_within_days: BTreeMap<u32, u64>,
    pub(crate) next_expiry_on: Option<String>,
    /// By reason.
    pub(crate) rejected: BTreeMap<String, u64>,
    pub(crate) hidden: u64,
    pub(crate) vanished: u64,
}

/// How the last poll went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LastPoll {
    pub(crate) ended_on: String,
    pub(crate) duration_seconds: f64,
    pub(crate) failure: Option<PollFailure>,
}

/// Why the last poll failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PollFailure {
    /// A word of the closed list of the metrics.
    pub(crate) reason: String,
    /// A sentence for people.
    pub(crate) message: String,
}

/// A certificate as the daemon shows it.
#[derive(Debug, Serialize)]
struct ShownCertificate<'a> {
    #[serde(flatten)]
    row: CertificateRow<'a>,
    /// Why no alert is about it.
    suppressed: Option<Suppression>,
}

/// The same as it is read. What is not named here is passed over.
#[derive(Debug, Deserialize)]
pub(crate) struct ReadCertificate {
    pub(crate) certificate_id: String,
    pub(crate) common_name: String,
    pub(crate) status: String,
    pub(crate) days_until_expiry: i64,
    pub(crate) suppressed: Option<Suppression>,
    /// The label of this name, where there is one.
    #[serde(default)]
    pub(crate) owner: String,
}

/// The document as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct ReadStatus {
    /// The clock of the daemon.
    pub(crate) time: String,
    #[serde(default)]
    pub(crate) discoveries: Vec<DiscoveryStatus>,
    pub(crate) listings: Vec<ListingStatus<ReadCertificate>>,
}

/// The document as it is written: part by part, so that it is never in memory as a whole.
#[derive(Debug)]
pub(crate) struct StatusParts {
    exposition: Arc<Exposition>,
    /// Unix seconds.
    now: i64,
    /// What stands between the first part and the last: for each, the place of its listing, and how many certificates of
    /// that are in parts before.
    listings: Vec<(usize, usize)>,
}

/// Certificates of a part: some 60 kB.
const PART: usize = 100;

impl StatusParts {
    /// The status at this Unix second.
    pub(crate) fn new(exposition: Arc<Exposition>, now: i64) -> Self {
        // A listing without certificates has a part as well.
        let listings = (0..exposition.snapshot().targets.len()).flat_map(|place| {
            let shown = exposition.selection(place).shown().len().max(1);
            (0..shown).step_by(PART).map(move |skipped| (place, skipped))
        });
        Self { listings: listings.collect(), exposition, now }
    }

    /// A part; `None` behind the last one.
    pub(crate) fn part(&self, number: usize) -> Option<Vec<u8>> {
        let Some(number) = number.checked_sub(1) else { return Some(self.beginning()) };
        match self.listings.get(number) {
            Some(&(place, skipped)) => Some(self.part_of_listing(place, skipped)),
            None => (number == self.listings.len()).then(|| b"\n]}\n".into()),
        }
    }

    fn beginning(&self) -> Vec<u8> {
        let discoveries = self.exposition.snapshot().discoveries.iter().map(DiscoveryStatus::new);
        let discoveries = json(&discoveries.collect::<Vec<_>>());
        [b"{\"time\":", &*json(&date(self.now)), b",\"discoveries\":", &*discoveries, b",\"listings\":["].concat()
    }

    fn part_of_listing(&self, place: usize, skipped: usize) -> Vec<u8> {
        let (zone, settings) = (&self.exposition.snapshot().targets[place], self.exposition.settings());
        let (selection, own_labels) = (self.exposition.selection(place), self.exposition.own_labels(place));
        let mut text = Vec::with_capacity(PART * 700);
        if skipped == 0 {
            text.extend(if place == 0 { "\n" } else { ",\n" }.as_bytes());
            let status = ListingStatus::new(zone, selection.hidden, own_labels, settings, self.now);
            // Without the bracket and the brace at its end: the certificates are still to come.
            let head = json(&status);
            text.extend(head.strip_suffix(b"]}").unwrap_or(&head));
        }
        let listing = zone.listing.as_ref().map(|(listing, _)| listing);
        for (n, &shown) in selection.shown().iter().enumerate().skip(skipped).take(PART) {
            let Some(listing) = listing else { break };
            let certificate = &listing.certificates()[shown];
            text.extend(if n == 0 { "\n" } else { ",\n" }.as_bytes());
            text.extend(json(&ShownCertificate {
                row: CertificateRow::new(&zone.target, &zone.name, certificate, own_labels, self.now),
                suppressed: listing.suppression(certificate, settings, self.now),
            }));
        }
        if skipped + PART >= selection.shown().len() {
            text.extend(b"]}");
        }
        text
    }

    /// Whether every part is that of the other one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.now == other.now && Arc::ptr_eq(&self.exposition, &other.exposition)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("every key is a string or a number, and nothing that is written fails")
}

impl<C> ListingStatus<C> {
    /// What sets it apart from others, in the order in which they are reported.
    pub(crate) fn key(&self) -> (&str, &str, Kind) {
        (self.scope.name(), self.scope.id(), self.kind)
    }
}

impl ListingStatus<()> {
    /// Without its certificates.
    fn new(zone: &TargetState, hidden: usize, own: &TargetLabels, settings: &SeriesSettings, now: i64) -> Self {
        let days = settings.expiring_within_days.iter();
        Self {
            kind: zone.target.kind,
            scope: ListingScope::new(zone.target.kind.scope(), &zone.name, zone.target.id.as_str()),
            available: zone.available,
            labels: own.of("").map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            poll_interval_seconds: zone.poll_interval().as_secs_f64(),
            last_success: zone.listing.as_ref().map(|(listing, completed)| LastSuccess {
                completed_on: date(*completed).unwrap_or_default(),
                by_status: listing
                    .kind()
                    .statuses()
                    .iter()
                    .map(|&status| (status.label().to_owned(), listing.count(status)))
                    .collect(),
                expired: listing.expired(now) as u64,
                expiring_within_days: days.map(|&days| (days, listing.expiring(now, days) as u64)).collect(),
                next_expiry_on: listing.next_expiry(now).and_then(date),
                rejected: Rejection::ALL.map(|reason| (reason.label().to_owned(), listing.rejected(reason))).into(),
                hidden: hidden as u64,
                vanished: zone.vanished,
            }),
            last_poll: zone.last_poll.as_ref().map(|poll| LastPoll {
                ended_on: date(poll.at).unwrap_or_default(),
                duration_seconds: poll.duration.as_secs_f64(),
                failure: poll.failure.as_deref().map(PollFailure::new),
            }),
            certificates: Vec::new(),
        }
    }
}

impl PollFailure {
    fn new(failure: &Failure) -> Self {
        Self { reason: failure.reason.label().to_owned(), message: failure.to_string() }
    }
}

impl DiscoveryStatus {
    fn new(discovery: &DiscoveryState) -> Self {
        Self {
            credentials: discovery.credential.to_string(),
            interval_seconds: discovery.interval.as_secs_f64(),
            last_success_on: discovery.completed.and_then(date),
            zones_watched: discovery.watched,
            zones_not_watched: discovery.unwatched,
            failure: discovery.failure.as_ref().map(PollFailure::new),
        }
    }
}

impl Column {
    /// The columns of certificates of these kinds, in their order: the labels of `cloudflare_certificate_info`, then the
    /// dates.
    pub(crate) fn all(kinds: &[Kind]) -> Vec<Self> {
        let of_scope = |column: fn(Scope) -> Self| {
            let has = move |scope: &Scope| kinds.iter().any(|kind| kind.scope() == *scope);
            [Scope::Zone, Scope::Account].into_iter().filter(has).map(column)
        };
        let is_detail = |field: &Field| kinds.iter().any(|kind| kind.details().contains(field));
        [Self::Kind]
            .into_iter()
            .chain(of_scope(Self::Scope))
            .chain(Field::KEY.iter().copied().map(Self::Text))
            .chain(of_scope(Self::ScopeId))
            .chain([Self::Status])
            .chain(Field::ALL.into_iter().filter(is_detail).map(Self::Text))
            .chain([Self::ExpiresOn, Self::IssuedOn])
            .collect()
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Scope(scope) => scope.label(),
            Self::ScopeId(scope) => scope.id_label(),
            Self::Status => "status",
            Self::Text(field) => field.label(),
            Self::ExpiresOn => "expires_on",
            Self::IssuedOn => "issued_on",
        }
    }
}

impl<'a> CertificateRow<'a> {
    /// A certificate of a zone or account that is called so, at this Unix second.
    pub(crate) fn new(
        zone: &'a Target,
        name: &'a str,
        certificate: &'a Certificate,
        own_labels: &'a TargetLabels,
        now: i64,
    ) -> Self {
        Self {
            kind: zone.kind,
            scope: name,
            scope_id: zone.id.as_str(),
            status: certificate.status.label(),
            texts: &certificate.texts,
            expires_on: certificate.not_after().and_then(date),
            issued_on: certificate.not_before.and_then(date),
            days_until_expiry: certificate.days_until_expiry(now),
            own_labels,
        }
    }

    /// The owner's own labels.
    pub(crate) fn own_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.own_labels.of(&self.texts[Field::CommonName])
    }

    /// What stands in a column; `None` if it is not known.
    pub(crate) fn text(&self, column: Column) -> Option<&str> {
        match column {
            Column::Kind => Some(self.kind.label()),
            Column::Scope(scope) => Some(self.scope).filter(|_| scope == self.kind.scope()),
            Column::ScopeId(scope) => Some(self.scope_id).filter(|_| scope == self.kind.scope()),
            Column::Status => Some(self.status),
            Column::Text(field) => Some(&self.texts[field]),
            Column::ExpiresOn => self.expires_on.as_deref(),
            Column::IssuedOn => self.issued_on.as_deref(),
        }
    }
}

/// An object with a member for each column of its kind.
impl Serialize for CertificateRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for column in Column::all(&[self.kind]) {
            object.serialize_entry(column.name(), &self.text(column))?;
        }
        object.serialize_entry(DAYS_UNTIL_EXPIRY, &self.days_until_expiry)?;
        let hosts: Vec<_> = self.texts.hosts().collect();
        if self.kind.has_hosts() {
            object.serialize_entry("hosts", &hosts)?;
        }
        for (name, value) in self.own_labels() {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

/// A Unix second as a date; `None` for what no calendar has.
pub(crate) fn date(time: i64) -> Option<String> {
    Some(DateTime::from_timestamp(time, 0)?.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// The Unix second of a date.
pub(crate) fn unix_second(date: &str) -> Option<i64> {
    Some(DateTime::parse_from_rfc3339(date).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Expiry, Failure, Listing, Reason, Snapshot, Status};

    const NOW: i64 = 1_795_521_600;

    fn zone(number: u32, name: &str) -> TargetState {
        TargetState::new(Arc::new(Target {
            kind: Kind::Client,
            id: format!("{number:032x}").parse().unwrap(),
            name: Some(name.into()),
            zone: None,
            credential: "default".into(),
            interval: Duration::from_millis(1500),
        }))
    }

    fn certificate(id: &str, status: Status, days: i64) -> Certificate {
        Certificate {
            texts: Texts::from([(Field::Id, id), (Field::CommonName, "\"a\\ \u{1f512}")]),
            status,
            expiry: Expiry::At(NOW + days * 86_400),
            not_before: None,
        }
    }

    fn written(zones: Vec<TargetState>, max_certificates_per_zone: usize) -> Vec<u8> {
        let settings = SeriesSettings {
            statuses: vec![Status::Active, Status::Revoked],
            max_certificates_per_zone,
            expiring_within_days: vec![7, 30],
            forget_expired_after: Duration::from_secs(90 * 86_400),
            labels: Default::default(),
        };
        let snapshot = Snapshot { targets: zones.into_iter().map(Arc::new).collect(), ..Snapshot::default() };
        let exposition = Exposition::new(settings).next(Arc::new(snapshot), NOW);
        let parts = StatusParts::new(Arc::new(exposition), NOW);
        let mut number = 0..;
        std::iter::from_fn(|| parts.part(number.next()?)).flatten().collect()
    }

    #[test]
    fn a_listing_says_how_it_was_polled_and_what_it_holds() {
        let certificates = vec![
            certificate("a", Status::Active, 3),
            certificate("b", Status::Revoked, 20),
            certificate("c", Status::Active, 400),
            Certificate { expiry: Expiry::Missing, ..certificate("d", Status::Active, 0) },
        ];
        let listed = zone(1, "a.example").succeeded(Listing::new(certificates), NOW - 60, Duration::from_millis(250));
        let refused = listed.failed(Failure::new(Reason::Forbidden, "403: \"no\""), NOW - 1, Duration::ZERO);
        let document: Value = serde_json::from_slice(&written(vec![refused, zone(2, "b.example")], 2)).unwrap();
        let [first, second] = &document["listings"].as_array().unwrap()[..] else { panic!("{document}") };
        assert_eq!(document["time"], "2026-11-24T12:00:00Z");
        let expected = json!({
            "completed_on": "2026-11-24T11:59:00Z",
            "by_status": {
                "active": 3, "pending_reactivation": 0, "pending_revocation": 0, "revoked": 1, "unknown": 0,
            },
            "expired": 0,
            "expiring_within_days": { "7": 1, "30": 1 },
            "next_expiry_on": "2026-11-27T12:00:00Z",
            "rejected": { "missing_id": 0, "missing_expiry": 1, "invalid_expiry": 0, "duplicate_id": 0 },
            "hidden": 1,
            "vanished": 0,
        });
        assert_eq!(first["last_success"], expected);
        let failure = json!({ "reason": "forbidden", "message": "403: \"no\"" });
        let last_poll = json!({ "ended_on": "2026-11-24T11:59:59Z", "duration_seconds": 0.0, "failure": failure });
        assert_eq!(first["last_poll"], last_poll);
        let ids: Vec<_> = first["certificates"].as_array().unwrap().iter().map(|one| &one["certificate_id"]).collect();
        assert_eq!(ids, ["a", "b"]);
        let expected = json!({
            "kind": "client", "zone": "b.example", "zone_id": format!("{:032x}", 2), "available": null, "poll_interval_seconds": 1.5,
            "last_success": null, "last_poll": null, "certificates": [],
        });
        assert_eq!(*second, expected);
    }

    #[test]
    fn a_certificate_is_what_list_prints_and_why_no_alert_is_about_it() {
        let (zone, revoked) = (zone(1, "a.example"), certificate("a", Status::Revoked, 3));
        let zone = zone.succeeded(Listing::new(vec![revoked.clone()]), NOW, Duration::ZERO);
        let mut listed = serde_json::to_value(CertificateRow::new(
            &zone.target,
            &zone.name,
            &revoked,
            &TargetLabels::default(),
            NOW,
        ))
        .unwrap();
        assert_eq!((&listed["expires_on"], &listed["issued_on"]), (&json!("2026-11-27T12:00:00Z"), &Value::Null));
        let document: Value = serde_json::from_slice(&written(vec![zone], 9)).unwrap();
        listed["suppressed"] = "retired".into();
        assert_eq!(document["listings"][0]["certificates"][0], listed);
    }

    #[test]
    fn all_parts_together_are_one_document_whatever_the_number_of_certificates() {
        for counts in [vec![], vec![0], vec![1], vec![PART], vec![PART + 1, 0, 2 * PART, 1], vec![0, 3 * PART + 7]] {
            let zones = counts.iter().zip(1..).map(|(&count, number)| {
                let certificates = (0..count).map(|n| certificate(&format!("{n}"), Status::Active, 9)).collect();
                zone(number, &format!("\"{number}\"")).succeeded(Listing::new(certificates), NOW, Duration::ZERO)
            });
            let read: ReadStatus = serde_json::from_slice(&written(zones.collect(), usize::MAX)).unwrap();
            let found: Vec<_> = read.listings.iter().map(|listing| listing.certificates.len()).collect();
            assert_eq!(found, counts);
        }
    }

    #[test]
    fn dates_are_read_as_they_are_written() {
        for time in [0, NOW, 253_402_300_799] {
            assert_eq!(unix_second(&date(time).unwrap()), Some(time));
        }
        assert_eq!((unix_second("soon"), date(i64::MAX)), (None, None));
    }
}
