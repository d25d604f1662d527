//! The kinds of certificates: a closed list, with what every room has to know of each. Where a kind is listed and how
//! an entry of it is read is known in `cloudflare::kinds`.

use serde::{Deserialize, Serialize};

use super::{Field, Status, words::words};

words! {
    /// The sort of certificate that a listing holds: the value of the `kind` label.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Kind {
        /// mTLS client certificates that Cloudflare's managed CA issued (API Shield).
        #[default]
        Client = "client",
        /// Certificates of Cloudflare's Origin CA.
        OriginCa = "origin_ca",
        /// Packs of edge certificates that Cloudflare issues.
        Edge = "edge",
        /// Uploaded edge certificates.
        Custom = "custom",
        /// Client certificates of authenticated origin pulls, for a zone.
        AopZone = "aop_zone",
        /// The same for single host names.
        AopHostname = "aop_hostname",
        /// Authorities that the edge trusts at the origin.
        TrustStore = "trust_store",
        /// Certificates of custom host names (SSL for `SaaS`).
        CustomHostname = "custom_hostname",
        /// Uploaded authorities of client certificates.
        MtlsCa = "mtls_ca",
        /// Authorities of Access.
        AccessCa = "access_ca",
        /// Authorities of Gateway's inspection.
        GatewayCa = "gateway_ca",
    }
}

words! {
    /// What is listed at once: a kind has listings in zones, or in accounts.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Scope {
        /// A zone.
        Zone = "zone",
        /// An account.
        Account = "account",
    }
}

impl Scope {
    /// The label that holds an id of the scope.
    #[must_use]
    pub const fn id_label(self) -> &'static str {
        match self {
            Self::Zone => "zone_id",
            Self::Account => "account_id",
        }
    }
}

/// What a certificate in PEM tells, where the list brings it.
const FROM_PEM: &[Field] = &[
    Field::SerialNumber,
    Field::FingerprintSha256,
    Field::Ski,
    Field::RenewedBy,
    Field::Issuer,
    Field::Signature,
    Field::Organization,
    Field::OrganizationalUnit,
];

/// The status words of packs and of custom host names.
const PACK: &[Status] = &[
    Status::Initializing,
    Status::PendingValidation,
    Status::PendingIssuance,
    Status::PendingDeployment,
    Status::Active,
    Status::PendingDeletion,
    Status::PendingExpiration,
    Status::Expired,
    Status::Deleted,
    Status::InitializingTimedOut,
    Status::ValidationTimedOut,
    Status::IssuanceTimedOut,
    Status::DeploymentTimedOut,
    Status::DeletionTimedOut,
    Status::PendingCleanup,
    Status::StagingDeployment,
    Status::StagingActive,
    Status::Deactivating,
    Status::Inactive,
    Status::BackupIssued,
    Status::HoldingDeployment,
    Status::Unknown,
];

const ORIGIN_PULL: &[Status] = &[
    Status::Initializing,
    Status::PendingDeployment,
    Status::Active,
    Status::PendingDeletion,
    Status::Deleted,
    Status::DeploymentTimedOut,
    Status::DeletionTimedOut,
    Status::Unknown,
];

impl Kind {
    /// Whether it is listed in zones or in accounts.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::MtlsCa | Self::AccessCa | Self::GatewayCa => Scope::Account,
            _ => Scope::Zone,
        }
    }

    /// The statuses that an entry can have, in the order of the documentation; `Unknown` is the last.
    #[must_use]
    pub const fn statuses(self) -> &'static [Status] {
        match self {
            Self::Client => &[
                Status::Active,
                Status::PendingReactivation,
                Status::PendingRevocation,
                Status::Revoked,
                Status::Unknown,
            ],
            Self::OriginCa => &[Status::Active, Status::Revoked, Status::Unknown],
            Self::Edge | Self::CustomHostname => PACK,
            Self::Custom => &[
                Status::Active,
                Status::Expired,
                Status::Deleted,
                Status::Pending,
                Status::Initializing,
                Status::HoldingDeployment,
                Status::Unknown,
            ],
            Self::AopZone | Self::AopHostname => ORIGIN_PULL,
            Self::TrustStore => &[
                Status::Initializing,
                Status::PendingDeployment,
                Status::Active,
                Status::PendingDeletion,
                Status::Deleted,
                Status::Expired,
                Status::Unknown,
            ],
            // They have no word for it.
            Self::MtlsCa | Self::AccessCa => &[Status::Active, Status::Unknown],
            Self::GatewayCa => &[
                Status::PendingDeployment,
                Status::Available,
                Status::Active,
                Status::PendingDeletion,
                Status::Inactive,
                Status::Unknown,
            ],
        }
    }

    /// The status of an entry that says this word of it.
    #[must_use]
    pub fn status(self, word: &str) -> Status {
        let known = self.statuses().iter().find(|status| status.label() == word);
        known.copied().unwrap_or(Status::Unknown)
    }

    /// The texts that only the info metric has as labels.
    #[must_use]
    pub const fn details(self) -> &'static [Field] {
        match self {
            Self::Client => &[
                Field::SerialNumber,
                Field::FingerprintSha256,
                Field::Ski,
                Field::Issuer,
                Field::Signature,
                Field::Organization,
                Field::OrganizationalUnit,
                Field::Country,
                Field::State,
                Field::Location,
            ],
            Self::Edge | Self::Custom => &[Field::RenewedBy, Field::Issuer, Field::Signature],
            Self::CustomHostname => {
                &[Field::SerialNumber, Field::FingerprintSha256, Field::RenewedBy, Field::Issuer, Field::Signature]
            }
            Self::AccessCa => &[Field::RenewedBy],
            Self::OriginCa | Self::AopZone | Self::AopHostname | Self::TrustStore | Self::MtlsCa | Self::GatewayCa => {
                FROM_PEM
            }
        }
    }

    /// Whether hardly anything in its listings changes on its own, so that little is gained by reading them often.
    #[must_use]
    pub const fn changes_rarely(self) -> bool {
        !matches!(self, Self::Client | Self::Edge)
    }

    /// Whether its certificates are for host names.
    #[must_use]
    pub const fn has_hosts(self) -> bool {
        matches!(self, Self::OriginCa | Self::Edge | Self::Custom | Self::CustomHostname | Self::AccessCa)
    }

    /// Whether Cloudflare never removes a certificate from the list, so that one that is missing is doubted at first.
    #[must_use]
    pub const fn keeps_ids(self) -> bool {
        matches!(self, Self::Client)
    }

    /// Whether a certificate that was superseded may be in use all the same: Cloudflare does not know which one an
    /// origin has installed.
    #[must_use]
    pub const fn may_be_in_use_though_superseded(self) -> bool {
        matches!(self, Self::OriginCa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_label_of_its_own_and_unknown_as_its_last_status() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_label(kind.label()), Some(kind));
            assert_eq!(kind.statuses().last(), Some(&Status::Unknown), "{kind:?}");
            assert_eq!(kind.status("no such word"), Status::Unknown);
            for &status in kind.statuses() {
                assert_eq!(kind.status(status.label()), status);
            }
        }
        // A word of another kind means nothing here.
        assert_eq!(Kind::Client.status("pending_validation"), Status::Unknown);
        assert_eq!(Kind::from_label("keyless"), None);
    }
}
