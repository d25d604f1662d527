//! The exposition that is shown now. It is made in the background as soon as a zone was polled or a day is over for a
//! certificate, so that who asks finds it there.

use std::{sync::Arc, time::Duration};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use tokio::{
    sync::{Mutex, watch},
    task::spawn_blocking,
    time::sleep,
};

use crate::{
    exposition::{Exposition, SeriesSettings},
    model::Snapshot,
};

/// A clock that was set is noticed after so long, or by whoever asks. It is less than what makes the server unhealthy.
const LOOK_AFTER: Duration = Duration::from_secs(15);

/// How many seconds something may be out of date before something is wrong.
const PATIENCE: i64 = 30;

/// The latest exposition.
#[derive(Debug)]
pub(super) struct CurrentExposition {
    latest: watch::Sender<Arc<Exposition>>,
    /// Held while it is brought up to the second, even if whoever asked for that is gone.
    refreshing: Arc<Mutex<()>>,
    now: fn() -> DateTime<Utc>,
}

/// What was asked for could not be made, which is in the log.
#[derive(Debug)]
pub(super) struct Unrendered;

impl IntoResponse for Unrendered {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, "This cannot be rendered; the log says why.\n").into_response()
    }
}

impl CurrentExposition {
    /// Shows this snapshot first.
    pub(super) async fn new(snapshot: Arc<Snapshot>, series: SeriesSettings, now: fn() -> DateTime<Utc>) -> Self {
        let nothing = Arc::new(Exposition::new(series));
        let published = Self { latest: watch::Sender::new(nothing), refreshing: Arc::default(), now };
        // If that fails, it is tried again.
        let _ = published.show(snapshot, None).await;
        published
    }

    /// Shows whatever comes, in the series that are wanted, until `snapshots` ends.
    pub(super) async fn follow(
        &self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut series: watch::Receiver<SeriesSettings>,
    ) {
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let others = Some(series.borrow_and_update().clone()).filter(|series| series != self.latest().settings());
            let is_shown = Arc::ptr_eq(self.latest().snapshot(), &snapshot) && others.is_none();
            let made = if is_shown { self.now().await.map(drop) } else { self.show(snapshot, others).await };
            let rest = made.map_or(LOOK_AFTER, |()| self.next_refresh_in());
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                Ok(()) = series.changed() => {}
                () = sleep(rest) => {}
            }
        }
    }

    /// Whether what is shown follows the time, but for a moment.
    pub(super) fn is_fresh(&self) -> bool {
        let (latest, now) = (self.latest(), self.second());
        latest.is_right_at(now) || latest.is_right_at(now - PATIENCE)
    }

    /// The latest exposition, even if a day has just ended.
    pub(super) fn latest(&self) -> Arc<Exposition> {
        self.latest.borrow().clone()
    }

    /// What is right at this second. Nobody waits here for a snapshot that has just come, and that may be large.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) async fn now(&self) -> Result<Arc<Exposition>, Unrendered> {
        let latest = self.latest();
        if latest.is_right_at(self.second()) {
            return Ok(latest);
        }
        let turn = Arc::clone(&self.refreshing).lock_owned().await;
        let latest = self.latest();
        if latest.is_right_at(self.second()) {
            return Ok(latest);
        }
        let (shown, now) = (self.latest.clone(), self.now);
        let refresh = move || {
            // Whoever comes next waits for this one, and does not start another.
            let _turn = turn;
            let refreshed = Arc::new(latest.next(latest.snapshot().clone(), now().timestamp()));
            shown.send_if_modified(|latest| {
                // Or else something newer has come meanwhile.
                let same =
                    Arc::ptr_eq(latest.snapshot(), refreshed.snapshot()) && latest.settings() == refreshed.settings();
                if same {
                    *latest = Arc::clone(&refreshed);
                }
                same
            });
            refreshed
        };
        render(refresh).await
    }

    /// With `series`, anew and in these.
    async fn show(&self, snapshot: Arc<Snapshot>, series: Option<SeriesSettings>) -> Result<(), Unrendered> {
        let before = series.map_or_else(|| self.latest(), |series| Arc::new(Exposition::new(series)));
        let now = self.now;
        self.latest.send_replace(render(move || Arc::new(before.next(snapshot, now().timestamp()))).await?);
        Ok(())
    }

    /// How long it stays right.
    fn next_refresh_in(&self) -> Duration {
        let now = (self.now)();
        let seconds = self.latest().changes_at().saturating_sub(now.timestamp());
        let whole = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LOOK_AFTER);
        whole.saturating_sub(Duration::from_nanos(now.timestamp_subsec_nanos().into()))
    }

    /// The Unix second of its clock.
    pub(super) fn second(&self) -> i64 {
        (self.now)().timestamp()
    }
}

/// Off the runtime's threads, since it can take long.
async fn render(make: impl FnOnce() -> Arc<Exposition> + Send + 'static) -> Result<Arc<Exposition>, Unrendered> {
    spawn_blocking(make).await.map_err(|error| {
        tracing::error!(%error, "The metrics cannot be rendered. Please report this.");
        Unrendered
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        exposition::Progress,
        model::{Certificate, Expiry, Field, Kind, Listing, Status, Texts, Zone, ZoneState},
    };

    const NOON: i64 = 1_795_521_600;
    const DAY: i64 = 86_400;

    /// A clock for one test.
    macro_rules! clock {
        () => {{
            static SECOND: AtomicI64 = AtomicI64::new(NOON);
            let now: fn() -> DateTime<Utc> = || DateTime::from_timestamp(SECOND.load(SeqCst), 0).unwrap();
            (&SECOND, now)
        }};
    }

    fn series() -> SeriesSettings {
        SeriesSettings {
            statuses: vec![Status::Active],
            max_certificates_per_zone: 100,
            expiring_within_days: vec![7],
            forget_expired_after: Duration::from_secs(86_400),
        }
    }

    /// A zone with a certificate that expires at this second.
    fn snapshot(expiry: i64) -> Arc<Snapshot> {
        let zone = Zone {
            kind: Kind::Client,
            id: format!("{:032x}", 1).parse().unwrap(),
            name: Some("a.example".into()),
            credential: "default".into(),
            interval: Duration::from_secs(3600),
        };
        let certificate = Certificate {
            texts: Texts::from([(Field::Id, "x"), (Field::CommonName, "x")]),
            status: Status::Active,
            expiry: Expiry::At(expiry),
            not_before: None,
        };
        let zone = ZoneState::new(Arc::new(zone)).succeeded(Listing::new(vec![certificate]), NOON, Duration::ZERO);
        Arc::new(Snapshot { zones: vec![Arc::new(zone)] })
    }

    fn days(exposition: &Exposition) -> i64 {
        let text = exposition.text(&mut Progress::default(), 1 << 20);
        let line = text.lines().find(|line| line.starts_with("cloudflare_certificate_days_until_expiry{")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn who_asks_gets_what_is_right_at_that_second_whatever_the_clock_does() {
        let (clock, now) = clock!();
        let published = CurrentExposition::new(snapshot(NOON + 10 * DAY), series(), now).await;
        for passed in [0, 1, DAY, DAY + 1, 10 * DAY, 3 * DAY, -DAY] {
            clock.store(NOON + passed, SeqCst);
            let (shown, again) = (published.now().await.unwrap(), published.now().await.unwrap());
            assert_eq!(days(&shown), (10 * DAY - passed).div_euclid(DAY), "{passed}");
            assert!(Arc::ptr_eq(&shown, &again));
        }
    }

    #[tokio::test]
    async fn what_was_polled_is_shown_without_anybody_asking() {
        let (_, now) = clock!();
        let (sender, snapshots) = watch::channel(snapshot(NOON + 10 * DAY));
        let published = CurrentExposition::new(snapshots.borrow().clone(), series(), now).await;
        let mut latest = published.latest.subscribe();
        let polls = async {
            for expected in [20, 30] {
                sender.send_replace(snapshot(NOON + expected * DAY));
                let shown = latest.wait_for(|latest| days(latest) == expected).await.unwrap().clone();
                assert!(Arc::ptr_eq(&published.now().await.unwrap(), &shown));
            }
            // Its end is the end of who follows.
            drop(sender);
        };
        tokio::join!(published.follow(snapshots, watch::Sender::new(series()).subscribe()), polls);
    }

    #[tokio::test]
    async fn a_day_that_is_over_is_shown_without_anybody_asking() {
        let (clock, now) = clock!();
        // One day less is left from the next second on.
        let (_sender, snapshots) = watch::channel(snapshot(NOON + 10 * DAY));
        let published = CurrentExposition::new(snapshots.borrow().clone(), series(), now).await;
        assert_eq!(published.next_refresh_in(), Duration::from_secs(1));
        clock.store(NOON + 1, SeqCst);
        assert_eq!(published.next_refresh_in(), Duration::ZERO);
        let mut latest = published.latest.subscribe();
        tokio::select! {
            () = published.follow(snapshots, watch::Sender::new(series()).subscribe()) => {}
            shown = latest.wait_for(|latest| days(latest) == 9) => assert!(shown.is_ok()),
        }
        // For the rest of the day nothing changes, but for a clock that is set.
        assert_eq!(published.next_refresh_in(), LOOK_AFTER);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_one_refreshing_and_not_many() {
        let (clock, now) = clock!();
        let published = CurrentExposition::new(snapshot(NOON + 10 * DAY), series(), now).await;
        clock.store(NOON + 1, SeqCst);
        let mut latest = published.latest.subscribe();
        // It has begun when it is dropped.
        let _ = published.now().now_or_never();
        timeout(Duration::from_secs(30), latest.changed()).await.unwrap().unwrap();
        let begun = latest.borrow().clone();
        assert_eq!(days(&begun), 9);
        assert!(Arc::ptr_eq(&published.now().await.unwrap(), &begun));
    }

    #[tokio::test]
    async fn what_was_refreshed_does_not_take_the_place_of_a_newer_snapshot() {
        let (clock, now) = clock!();
        let published = CurrentExposition::new(snapshot(NOON + 10 * DAY), series(), now).await;
        clock.store(NOON + 1, SeqCst);
        // Both are made of what was there, in whatever order they end.
        let newer = snapshot(NOON + 50 * DAY);
        let (refreshed, shown) = tokio::join!(published.now(), published.show(newer, None));
        assert!(refreshed.is_ok() && shown.is_ok());
        assert_eq!(days(&published.now().await.unwrap()), 49);
    }
}
