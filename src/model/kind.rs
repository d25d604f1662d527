//! The kinds of certificates: a closed list, with what every room has to know of each. Where a kind is listed and how
//! an entry of it is read is known in `cloudflare::kinds`.

use serde::{Deserialize, Serialize};

use super::{Field, Fields, Status};

/// The sort of certificate that a listing holds: the value of the `kind` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// mTLS client certificates that Cloudflare's managed CA issued (API Shield).
    #[default]
    Client,
    /// Certificates of Cloudflare's Origin CA.
    OriginCa,
    /// Packs of edge certificates that Cloudflare issues.
    Edge,
    /// Uploaded edge certificates.
    Custom,
    /// Client certificates of authenticated origin pulls, for a zone.
    AopZone,
    /// The same for single host names.
    AopHostname,
    /// Authorities that the edge trusts at the origin.
    TrustStore,
    /// Certificates of custom host names (SSL for `SaaS`).
    CustomHostname,
    /// Uploaded authorities of client certificates.
    MtlsCa,
    /// Authorities of Access.
    AccessCa,
    /// Authorities of Gateway's inspection.
    GatewayCa,
}

/// What is listed at once: a kind has listings in zones, or in accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A zone.
    Zone,
    /// An account.
    Account,
}

impl Scope {
    /// The word, as labels and messages write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Account => "account",
        }
    }

    /// The label that holds an id of the scope.
    #[must_use]
    pub const fn id_label(self) -> &'static str {
        match self {
            Self::Zone => "zone_id",
            Self::Account => "account_id",
        }
    }
}

/// What a kind is like.
struct Facts {
    kind: Kind,
    label: &'static str,
    scope: Scope,
    /// The words of the status, in the order of the documentation. `Unknown` is the last.
    statuses: &'static [Status],
    /// The labels of the info metric that other metrics of certificates do not have.
    details: Fields,
    /// Hardly anything in its listings changes on its own, so that little is gained by reading them often.
    changes_rarely: bool,
    /// Certificates never leave the list, so one that lacks some is not believed at once.
    keeps_ids: bool,
}

/// What a certificate in PEM tells, where the list brings it.
const FROM_PEM: Fields = Fields::of(&[
    Field::SerialNumber,
    Field::FingerprintSha256,
    Field::Ski,
    Field::RenewedBy,
    Field::Issuer,
    Field::Signature,
    Field::Organization,
    Field::OrganizationalUnit,
]);

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

/// Kinds without a word for it.
const NO_STATUS: &[Status] = &[Status::Active, Status::Unknown];

/// A row for each kind, in the order of [`Kind`].
const FACTS: [Facts; Kind::ALL.len()] = [
    Facts {
        kind: Kind::Client,
        label: "client",
        scope: Scope::Zone,
        statuses: &[
            Status::Active,
            Status::PendingReactivation,
            Status::PendingRevocation,
            Status::Revoked,
            Status::Unknown,
        ],
        details: Fields::of(&[
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
        ]),
        changes_rarely: false,
        keeps_ids: true,
    },
    Facts {
        kind: Kind::OriginCa,
        label: "origin_ca",
        scope: Scope::Zone,
        statuses: &[Status::Active, Status::Revoked, Status::Unknown],
        details: FROM_PEM,
        changes_rarely: true,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::Edge,
        label: "edge",
        scope: Scope::Zone,
        statuses: PACK,
        details: Fields::of(&[Field::RenewedBy, Field::Issuer, Field::Signature]),
        changes_rarely: false,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::Custom,
        label: "custom",
        scope: Scope::Zone,
        statuses: &[
            Status::Active,
            Status::Expired,
            Status::Deleted,
            Status::Pending,
            Status::Initializing,
            Status::HoldingDeployment,
            Status::Unknown,
        ],
        details: Fields::of(&[Field::RenewedBy, Field::Issuer, Field::Signature]),
        changes_rarely: true,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::AopZone,
        label: "aop_zone",
        scope: Scope::Zone,
        statuses: ORIGIN_PULL,
        details: FROM_PEM,
        changes_rarely: true,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::AopHostname,
        label: "aop_hostname",
        scope: Scope::Zone,
        statuses: ORIGIN_PULL,
        details: FROM_PEM,
        changes_rarely: true,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::TrustStore,
        label: "trust_store",
        scope: Scope::Zone,
        statuses: &[
            Status::Initializing,
            Status::PendingDeployment,
            Status::Active,
            Status::PendingDeletion,
            Status::Deleted,
            Status::Expired,
            Status::Unknown,
        ],
        details: FROM_PEM,
        changes_rarely: true,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::CustomHostname,
        label: "custom_hostname",
        scope: Scope::Zone,
        statuses: PACK,
        details: Fields::of(&[
            Field::SerialNumber,
            Field::FingerprintSha256,
            Field::RenewedBy,
            Field::Issuer,
            Field::Signature,
        ]),
        changes_rarely: true,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::MtlsCa,
        label: "mtls_ca",
        scope: Scope::Account,
        statuses: NO_STATUS,
        details: FROM_PEM,
        changes_rarely: true,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::AccessCa,
        label: "access_ca",
        scope: Scope::Account,
        statuses: NO_STATUS,
        details: Fields::of(&[Field::RenewedBy]),
        changes_rarely: true,
        keeps_ids: false,
    },
    Facts {
        kind: Kind::GatewayCa,
        label: "gateway_ca",
        scope: Scope::Account,
        statuses: &[
            Status::PendingDeployment,
            Status::Available,
            Status::Active,
            Status::PendingDeletion,
            Status::Inactive,
            Status::Unknown,
        ],
        details: FROM_PEM,
        changes_rarely: true,
        keeps_ids: false,
    },
];

// The rows stand at the places of their kinds.
const _: () = {
    let mut place = 0;
    while place < FACTS.len() {
        assert!(FACTS[place].kind as usize == place && Kind::ALL[place] as usize == place);
        place += 1;
    }
};

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::Client,
        Self::OriginCa,
        Self::Edge,
        Self::Custom,
        Self::AopZone,
        Self::AopHostname,
        Self::TrustStore,
        Self::CustomHostname,
        Self::MtlsCa,
        Self::AccessCa,
        Self::GatewayCa,
    ];

    const fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// The label value, and the word in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.facts().label
    }

    /// The kind of this word, if it is one.
    #[must_use]
    pub fn from_label(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == word)
    }

    /// Whether it is listed in zones or in accounts.
    #[must_use]
    pub const fn scope(self) -> Scope {
        self.facts().scope
    }

    /// The statuses that an entry can have, in the order of the documentation; `Unknown` is the last.
    #[must_use]
    pub const fn statuses(self) -> &'static [Status] {
        self.facts().statuses
    }

    /// The status of an entry that says this word of it.
    #[must_use]
    pub fn status(self, word: &str) -> Status {
        let known = self.statuses().iter().find(|status| status.label() == word);
        known.copied().unwrap_or(Status::Unknown)
    }

    /// The texts that only the info metric has as labels.
    #[must_use]
    pub const fn details(self) -> Fields {
        self.facts().details
    }

    /// Whether hardly anything in its listings changes on its own.
    #[must_use]
    pub const fn changes_rarely(self) -> bool {
        self.facts().changes_rarely
    }

    /// Whether its certificates are for host names.
    #[must_use]
    pub const fn has_hosts(self) -> bool {
        matches!(self, Self::OriginCa | Self::Edge | Self::Custom | Self::CustomHostname | Self::AccessCa)
    }

    /// Whether Cloudflare never removes a certificate from the list, so that one that is missing is doubted at first.
    #[must_use]
    pub const fn keeps_ids(self) -> bool {
        self.facts().keeps_ids
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
