//! Two kinds of one zone, for tests of every room that it keeps them apart.

use std::{sync::Arc, time::Duration};

use super::{
    Certificate, Expiry, Failure, Field, Kind, Listing, Reason, SECONDS_PER_DAY, Snapshot, Status, Target, TargetState,
    Texts,
};

/// The zone that has both.
pub(crate) fn zone(kind: Kind) -> Target {
    Target {
        kind,
        id: "023e105f4ecef8ad9ca31a8372d0c353".parse().expect("it is an id"),
        name: Some("a.example".into()),
        zone: None,
        credential: "default".into(),
        interval: Duration::from_secs(3600),
    }
}

/// A certificate that both have, with so many days left.
pub(crate) fn certificate(days: i64, now: i64) -> Certificate {
    Certificate {
        texts: Texts::from([(Field::Id, "same"), (Field::CommonName, "same")]),
        status: Status::Active,
        expiry: Expiry::At(now + days * SECONDS_PER_DAY),
        not_before: Some(now - 300 * SECONDS_PER_DAY),
    }
}

/// At this Unix second, client certificates have just been listed and one has 40 days left. The other kind was listed
/// ten hours ago, could not be listed since, and has one with 3 days left: of the same id and name.
pub(crate) fn snapshot(now: i64) -> Snapshot {
    let listed = |kind, days, age| {
        let listing = Listing::new(vec![certificate(days, now)]);
        TargetState::new(Arc::new(zone(kind))).succeeded(listing, now - age, Duration::ZERO)
    };
    let fresh = listed(Kind::Client, 40, 0);
    let stale = listed(Kind::OriginCa, 3, 36_000);
    let stale = stale.failed(Failure::new(Reason::Forbidden, "no"), now, Duration::ZERO);
    Snapshot { targets: vec![Arc::new(fresh), Arc::new(stale)], ..Snapshot::default() }
}
