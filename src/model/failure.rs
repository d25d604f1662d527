//! Why a poll failed.

use std::{fmt, sync::Arc, time::Duration};

use super::{MissingIds, words::words};

words! {
    /// The closed list of reasons, and their label values.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Reason {
        /// HTTP 401.
        Unauthorized = "unauthorized",
        /// HTTP 403.
        Forbidden = "forbidden",
        /// HTTP 404.
        NotFound = "not_found",
        /// HTTP 429, or one of Cloudflare's codes for it at any status.
        RateLimited = "rate_limited",
        /// `success: false`, or a status that no other reason names.
        ApiError = "api_error",
        /// HTTP 5xx.
        ServerError = "server_error",
        /// No whole answer in time.
        Timeout = "timeout",
        /// No connection, or it broke.
        Connect = "connect",
        /// The connection could not be made secure.
        Tls = "tls",
        /// The answer is not the JSON that was expected.
        Decode = "decode",
        /// The listing changed while it was read, or ended early.
        Incomplete = "incomplete",
        /// The answer or the listing is larger than any that is sane.
        TooLarge = "too_large",
    }
}

impl Reason {
    /// Whether a person has to fix something before another try can succeed, as far as the reason alone says.
    const fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::Unauthorized | Self::Forbidden | Self::NotFound | Self::ApiError | Self::Decode | Self::TooLarge
        )
    }
}

/// Why Cloudflare refused a request, where its codes and texts say so: they say more than the status does.
///
/// Of several causes in one response, the one that comes first here decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// There were so many refused requests that Cloudflare does not look at the credential for a while.
    LockedOut,
    /// The token is good, but not from this address.
    WrongAddress,
    /// The secret has not the form of one.
    MalformedSecret,
    /// The secret is unknown, expired, revoked or disabled.
    DeadSecret,
    /// A web page came in place of a response of the API: something on the way blocks the request.
    Blocked,
    /// The credential is good and lacks a permission.
    MissingPermission,
    /// There is no zone of this id, or not for this credential.
    UnknownZone,
    /// "Authentication error" and no word why: mostly a permission that lacks, but not always.
    NotSaid,
    /// The plan does not include this kind of certificate: neither a failure nor an empty listing.
    NotOnPlan,
    /// A fault at Cloudflare that passes, whatever the status says.
    Transient,
}

impl Cause {
    /// Whether it is about the credential: every zone that is asked for with it gets the same answer.
    #[must_use]
    pub const fn is_about_the_credential(self) -> bool {
        matches!(self, Self::LockedOut | Self::WrongAddress | Self::MalformedSecret | Self::DeadSecret)
    }
}

/// A poll that failed: the reason for metrics, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which of the closed list.
    pub reason: Reason,
    /// Why Cloudflare refused, where it is known.
    pub cause: Option<Cause>,
    /// What happened, with the remedy where one is known.
    /// It is the same text each time the same thing happens, so that a change differs from a repeat.
    pub message: String,
    /// Cloudflare's id of the answer that failed, to quote to their support.
    pub cf_ray: Option<String>,
    /// How long the next try has to wait at least.
    pub wait_at_least: Duration,
    /// What the failure has to do with its credential being refused as a whole.
    pub credential_refused: Option<CredentialRefused>,
    /// The listing was whole, but for these ids of the last good one.
    pub missing: Option<Arc<MissingIds>>,
}

/// A credential that Cloudflare refuses is tried with one zone at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialRefused {
    /// The zone was not asked, because another one tries the credential.
    Skipped,
    /// This very answer stopped the credential, or left it stopped: one zone has to try it after this time.
    ProbeAfter(Duration),
}

impl Failure {
    /// A failure that nothing more is known of.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            cause: None,
            message: message.into(),
            cf_ray: None,
            wait_at_least: Duration::ZERO,
            credential_refused: None,
            missing: None,
        }
    }

    /// Whether a person has to fix something before another try can succeed.
    ///
    /// Such a zone is tried ever more rarely; any other is tried again at its interval at the latest.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self.cause {
            Some(Cause::Transient) => false,
            Some(cause) => cause.is_about_the_credential() || self.reason.needs_a_person(),
            None => self.reason.needs_a_person(),
        }
    }

    /// Whether the same request can succeed a moment later.
    #[must_use]
    pub fn can_pass(&self) -> bool {
        match self.cause {
            Some(Cause::Transient) => true,
            Some(cause) if cause.is_about_the_credential() => self.reason == Reason::RateLimited,
            _ => matches!(self.reason, Reason::Connect | Reason::Timeout | Reason::RateLimited | Reason::ServerError),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cf_ray {
            Some(ray) => write!(f, " (cf-ray {ray})"),
            None => Ok(()),
        }
    }
}
