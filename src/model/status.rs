//! Where a certificate is in its life: a word for the label, and a class for every decision.

use serde::{Deserialize, Serialize};

/// Every status of every kind. Which of them a kind has, [`Kind::statuses`](super::Kind::statuses) says.
///
/// A certificate that expired mostly keeps its status: its expiry alone tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are Cloudflare's, and the class says what each means here")]
pub enum Status {
    Active,
    PendingReactivation,
    PendingRevocation,
    Revoked,
    Initializing,
    Pending,
    PendingValidation,
    PendingIssuance,
    PendingDeployment,
    PendingDeletion,
    PendingExpiration,
    PendingCleanup,
    Expired,
    Deleted,
    InitializingTimedOut,
    ValidationTimedOut,
    IssuanceTimedOut,
    DeploymentTimedOut,
    DeletionTimedOut,
    StagingDeployment,
    StagingActive,
    Deactivating,
    Inactive,
    BackupIssued,
    HoldingDeployment,
    Available,
    /// Absent, or a word that is not documented for the kind.
    Unknown,
}

/// What a status means. A certificate is usable in any class but [`Retired`](Class::Retired).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// In use, or ready for it.
    Active,
    /// On the way from one state to another. What was there before may still be in use.
    Pending,
    /// Revoked, deleted, expired by its status, or not deployed, as a backup is.
    Retired,
    /// Not known, so it counts as usable.
    Unknown,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Active, Self::Pending, Self::Retired, Self::Unknown];

    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Retired => "retired",
            Self::Unknown => "unknown",
        }
    }
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 27] = [
        Self::Active,
        Self::PendingReactivation,
        Self::PendingRevocation,
        Self::Revoked,
        Self::Initializing,
        Self::Pending,
        Self::PendingValidation,
        Self::PendingIssuance,
        Self::PendingDeployment,
        Self::PendingDeletion,
        Self::PendingExpiration,
        Self::PendingCleanup,
        Self::Expired,
        Self::Deleted,
        Self::InitializingTimedOut,
        Self::ValidationTimedOut,
        Self::IssuanceTimedOut,
        Self::DeploymentTimedOut,
        Self::DeletionTimedOut,
        Self::StagingDeployment,
        Self::StagingActive,
        Self::Deactivating,
        Self::Inactive,
        Self::BackupIssued,
        Self::HoldingDeployment,
        Self::Available,
        Self::Unknown,
    ];

    const fn facts(self) -> (&'static str, Class) {
        match self {
            Self::Active => ("active", Class::Active),
            Self::PendingReactivation => ("pending_reactivation", Class::Pending),
            Self::PendingRevocation => ("pending_revocation", Class::Pending),
            Self::Revoked => ("revoked", Class::Retired),
            Self::Initializing => ("initializing", Class::Pending),
            Self::Pending => ("pending", Class::Pending),
            Self::PendingValidation => ("pending_validation", Class::Pending),
            Self::PendingIssuance => ("pending_issuance", Class::Pending),
            Self::PendingDeployment => ("pending_deployment", Class::Pending),
            Self::PendingDeletion => ("pending_deletion", Class::Pending),
            Self::PendingExpiration => ("pending_expiration", Class::Pending),
            Self::PendingCleanup => ("pending_cleanup", Class::Pending),
            Self::Expired => ("expired", Class::Retired),
            Self::Deleted => ("deleted", Class::Retired),
            Self::InitializingTimedOut => ("initializing_timed_out", Class::Pending),
            Self::ValidationTimedOut => ("validation_timed_out", Class::Pending),
            Self::IssuanceTimedOut => ("issuance_timed_out", Class::Pending),
            Self::DeploymentTimedOut => ("deployment_timed_out", Class::Pending),
            Self::DeletionTimedOut => ("deletion_timed_out", Class::Pending),
            Self::StagingDeployment => ("staging_deployment", Class::Retired),
            Self::StagingActive => ("staging_active", Class::Retired),
            Self::Deactivating => ("deactivating", Class::Pending),
            Self::Inactive => ("inactive", Class::Retired),
            Self::BackupIssued => ("backup_issued", Class::Retired),
            Self::HoldingDeployment => ("holding_deployment", Class::Retired),
            Self::Available => ("available", Class::Active),
            Self::Unknown => ("unknown", Class::Unknown),
        }
    }

    /// The word, as the API, the configuration and the metrics write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.facts().0
    }

    /// What it means.
    #[must_use]
    pub const fn class(self) -> Class {
        self.facts().1
    }

    /// Whether a certificate of this status may be in use, now or soon.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        !matches!(self.class(), Class::Retired)
    }

    /// The status that the word means for any kind, if it means one.
    #[must_use]
    pub fn from_label(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.label() == word)
    }
}
