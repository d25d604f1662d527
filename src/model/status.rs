//! Where a certificate is in its life: a word for the label, and a class for every decision.

use serde::{Deserialize, Serialize};

use super::words::words;

words! {
    /// Every status of every kind. Which of them a kind has, [`Kind::statuses`](super::Kind::statuses) says.
    ///
    /// A certificate that expired mostly keeps its status: its expiry alone tells.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(missing_docs, reason = "the words are Cloudflare's, and the class says what each means here")]
    pub enum Status {
        Active = "active",
        PendingReactivation = "pending_reactivation",
        PendingRevocation = "pending_revocation",
        Revoked = "revoked",
        Initializing = "initializing",
        Pending = "pending",
        PendingValidation = "pending_validation",
        PendingIssuance = "pending_issuance",
        PendingDeployment = "pending_deployment",
        PendingDeletion = "pending_deletion",
        PendingExpiration = "pending_expiration",
        PendingCleanup = "pending_cleanup",
        Expired = "expired",
        Deleted = "deleted",
        InitializingTimedOut = "initializing_timed_out",
        ValidationTimedOut = "validation_timed_out",
        IssuanceTimedOut = "issuance_timed_out",
        DeploymentTimedOut = "deployment_timed_out",
        DeletionTimedOut = "deletion_timed_out",
        StagingDeployment = "staging_deployment",
        StagingActive = "staging_active",
        Deactivating = "deactivating",
        Inactive = "inactive",
        BackupIssued = "backup_issued",
        HoldingDeployment = "holding_deployment",
        Available = "available",
        /// Absent, or a word that is not documented for the kind.
        Unknown = "unknown",
    }
}

words! {
    /// What a status means. A certificate is usable in any class but [`Retired`](Class::Retired).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Class {
        /// In use, or ready for it.
        Active = "active",
        /// On the way from one state to another. What was there before may still be in use.
        Pending = "pending",
        /// Revoked, deleted, expired by its status, or not deployed, as a backup is.
        Retired = "retired",
        /// Not known, so it counts as usable.
        Unknown = "unknown",
    }
}

impl Status {
    /// What it means.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Active | Self::Available => Class::Active,
            Self::Revoked
            | Self::Expired
            | Self::Deleted
            | Self::StagingDeployment
            | Self::StagingActive
            | Self::Inactive
            | Self::BackupIssued
            | Self::HoldingDeployment => Class::Retired,
            Self::Unknown => Class::Unknown,
            // Usable, as anything is that is not known to be over.
            _ => Class::Pending,
        }
    }

    /// Whether a certificate of this status may be in use, now or soon.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        !matches!(self.class(), Class::Retired)
    }
}
