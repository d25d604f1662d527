//! The exposition that is served now. It is made in the background as soon as a target was polled or a day is over for
//! a certificate, so that a scrape finds it ready.

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

/// A clock that was set is noticed after so long, or by the next scrape. It is less than what makes the server
/// unhealthy.
const MAX_REST: Duration = Duration::from_secs(15);

/// How many seconds the exposition may be out of date before something is wrong.
const MAX_LAG: i64 = 30;

/// The latest exposition, and how it is kept up to date.
#[derive(Debug)]
pub(super) struct CurrentExposition {
    latest: watch::Sender<Arc<Exposition>>,
    /// Held while the latest one is brought up to the second, even if the request for that is gone.
    refreshing: Arc<Mutex<()>>,
    now: fn() -> DateTime<Utc>,
}

/// What was requested could not be made, which is in the log.
#[derive(Debug)]
pub(super) struct RenderError;

impl IntoResponse for RenderError {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, "This cannot be rendered; the log says why.\n").into_response()
    }
}

impl CurrentExposition {
    /// Shows this snapshot first.
    pub(super) async fn new(snapshot: Arc<Snapshot>, series: SeriesSettings, now: fn() -> DateTime<Utc>) -> Self {
        let nothing = Arc::new(Exposition::new(series));
        let current = Self { latest: watch::Sender::new(Arc::clone(&nothing)), refreshing: Arc::default(), now };
        // If that fails, it is tried again.
        let _ = current.show(nothing, snapshot).await;
        current
    }

    /// Shows each snapshot that comes, in the series that are wanted, until `snapshots` ends.
    pub(super) async fn follow(
        &self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut series: watch::Receiver<SeriesSettings>,
    ) {
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let series_now = series.borrow_and_update().clone();
            let mut latest = self.latest();
            if *latest.settings() != series_now {
                latest = Arc::new(Exposition::new(series_now));
            }
            let shown = if Arc::ptr_eq(latest.snapshot(), &snapshot) {
                self.up_to_date().await.map(drop)
            } else {
                self.show(latest, snapshot).await
            };
            let rest = shown.map_or(MAX_REST, |()| self.next_refresh_in());
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                Ok(()) = series.changed() => {}
                () = sleep(rest) => {}
            }
        }
    }

    /// Whether what is shown follows the time, but for a moment.
    pub(super) fn is_fresh(&self) -> bool {
        let latest = self.latest();
        let now = (self.now)().timestamp();
        latest.is_valid_at(now) || latest.is_valid_at(now - MAX_LAG)
    }

    /// The latest exposition, even if a day has just ended.
    pub(super) fn latest(&self) -> Arc<Exposition> {
        self.latest.borrow().clone()
    }

    /// The exposition that is right at this second. It does not wait for a snapshot that has just come, which can be
    /// large.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) async fn up_to_date(&self) -> Result<Arc<Exposition>, RenderError> {
        let refreshing = Arc::clone(&self.refreshing).lock_owned().await;
        let latest = self.latest();
        if latest.is_valid_at((self.now)().timestamp()) {
            return Ok(latest);
        }
        let sender = self.latest.clone();
        let now = self.now;
        render(move || {
            // Others wait for this one, and do not start their own.
            let _refreshing = refreshing;
            let refreshed = Arc::new(latest.next(Arc::clone(latest.snapshot()), now().timestamp()));
            sender.send_if_modified(|shown| {
                // Or else something newer has come.
                let is_latest = Arc::ptr_eq(shown, &latest);
                if is_latest {
                    *shown = Arc::clone(&refreshed);
                }
                is_latest
            });
            refreshed
        })
        .await
    }

    /// Shows this snapshot; what did not change is taken from `before`.
    async fn show(&self, before: Arc<Exposition>, snapshot: Arc<Snapshot>) -> Result<(), RenderError> {
        let now = self.now;
        self.latest.send_replace(render(move || Arc::new(before.next(snapshot, now().timestamp()))).await?);
        Ok(())
    }

    /// How long it stays right, within [`MAX_REST`].
    fn next_refresh_in(&self) -> Duration {
        let now = (self.now)();
        let seconds = self.latest().valid_until().saturating_sub(now.timestamp());
        let whole = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(MAX_REST);
        whole.saturating_sub(Duration::from_nanos(now.timestamp_subsec_nanos().into()))
    }
}

/// Off the runtime's threads, since it can take long.
async fn render(make: impl FnOnce() -> Arc<Exposition> + Send + 'static) -> Result<Arc<Exposition>, RenderError> {
    spawn_blocking(make).await.map_err(|error| {
        tracing::error!(%error, "The metrics cannot be rendered. Please report this.");
        RenderError
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;
    use crate::model::{Certificate, Expiry, Field, Kind, Listing, Status, Target, TargetState, Texts};

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
            labels: Default::default(),
        }
    }

    /// A zone with a certificate that expires at this second.
    fn snapshot(expiry: i64) -> Arc<Snapshot> {
        let zone = Target {
            kind: Kind::Client,
            id: format!("{:032x}", 1).parse().unwrap(),
            name: Some("a.example".into()),
            zone: None,
            credential: "default".into(),
            interval: Duration::from_secs(3600),
        };
        let certificate = Certificate {
            texts: Texts::from([(Field::Id, "x"), (Field::CommonName, "x")]),
            status: Status::Active,
            expiry: Expiry::At(expiry),
            not_before: None,
        };
        let zone = TargetState::new(Arc::new(zone)).succeeded(Listing::new(vec![certificate]), NOON, Duration::ZERO);
        Arc::new(Snapshot { targets: vec![Arc::new(zone)], ..Snapshot::default() })
    }

    fn days(exposition: &Exposition) -> i64 {
        let text: String = (0..).map_while(|block| exposition.text(block)).collect();
        let line = text.lines().find(|line| line.starts_with("cloudflare_certificate_days_until_expiry{")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn a_scrape_is_correct_to_the_second_when_the_clock_jumps() {
        let (clock, now) = clock!();
        let current = CurrentExposition::new(snapshot(NOON + 10 * DAY), series(), now).await;
        for passed in [0, 1, DAY, DAY + 1, 10 * DAY, 3 * DAY, -DAY] {
            clock.store(NOON + passed, SeqCst);
            let (shown, again) = (current.up_to_date().await.unwrap(), current.up_to_date().await.unwrap());
            assert_eq!(days(&shown), (10 * DAY - passed).div_euclid(DAY), "{passed}");
            assert!(Arc::ptr_eq(&shown, &again));
        }
    }

    #[tokio::test]
    async fn a_poll_is_shown_without_a_request() {
        let (_, now) = clock!();
        let (sender, snapshots) = watch::channel(snapshot(NOON + 10 * DAY));
        let current = CurrentExposition::new(snapshots.borrow().clone(), series(), now).await;
        let mut latest = current.latest.subscribe();
        let polls = async {
            for expected in [20, 30] {
                sender.send_replace(snapshot(NOON + expected * DAY));
                let shown = latest.wait_for(|latest| days(latest) == expected).await.unwrap().clone();
                assert!(Arc::ptr_eq(&current.up_to_date().await.unwrap(), &shown));
            }
            // Its end is the end of who follows.
            drop(sender);
        };
        tokio::join!(current.follow(snapshots, watch::Sender::new(series()).subscribe()), polls);
    }

    #[tokio::test]
    async fn a_day_that_is_over_is_shown_without_a_request() {
        let (clock, now) = clock!();
        // One day less is left from the next second on.
        let (_sender, snapshots) = watch::channel(snapshot(NOON + 10 * DAY));
        let current = CurrentExposition::new(snapshots.borrow().clone(), series(), now).await;
        assert_eq!(current.next_refresh_in(), Duration::from_secs(1));
        clock.store(NOON + 1, SeqCst);
        assert_eq!(current.next_refresh_in(), Duration::ZERO);
        let mut latest = current.latest.subscribe();
        tokio::select! {
            () = current.follow(snapshots, watch::Sender::new(series()).subscribe()) => {}
            shown = latest.wait_for(|latest| days(latest) == 9) => assert!(shown.is_ok()),
        }
        // For the rest of the day nothing changes, but for a clock that is set.
        assert_eq!(current.next_refresh_in(), MAX_REST);
    }

    #[tokio::test]
    async fn a_client_that_gives_up_leaves_one_refresh_running() {
        let (clock, now) = clock!();
        let current = CurrentExposition::new(snapshot(NOON + 10 * DAY), series(), now).await;
        clock.store(NOON + 1, SeqCst);
        let mut latest = current.latest.subscribe();
        // It has begun when it is dropped.
        let _ = current.up_to_date().now_or_never();
        timeout(Duration::from_secs(30), latest.changed()).await.unwrap().unwrap();
        let begun = latest.borrow().clone();
        assert_eq!(days(&begun), 9);
        assert!(Arc::ptr_eq(&current.up_to_date().await.unwrap(), &begun));
    }

    #[tokio::test]
    async fn a_refresh_does_not_replace_a_newer_snapshot() {
        let (clock, now) = clock!();
        let current = CurrentExposition::new(snapshot(NOON + 10 * DAY), series(), now).await;
        clock.store(NOON + 1, SeqCst);
        // Both are made of what was there, in whatever order they end.
        let newer = snapshot(NOON + 50 * DAY);
        let (refreshed, shown) = tokio::join!(current.up_to_date(), current.show(current.latest(), newer));
        assert!(refreshed.is_ok() && shown.is_ok());
        assert_eq!(days(&current.up_to_date().await.unwrap()), 49);
    }
}
