//! The ten other listings of certificates: where each is, how it is paged and what it leaves out.
//!
//! What an entry of each looks like is in `sibling/entry.rs`.

mod entry;

use serde_json::{Value, json};

use super::{
    answer::{Answer, ApiError},
    fault::Fault,
    listing::PageRequest,
    router::RecordedRequest,
    world::{SimulatedZone, World},
};

pub use entry::PRIVATE_KEY;

/// A listing beside that of client certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sibling {
    /// Of the Origin CA, by zone.
    OriginCa,
    /// Packs of edge certificates.
    CertificatePacks,
    /// Uploaded edge certificates.
    CustomCertificates,
    /// What the edge shows to origins, for a whole zone.
    OriginPull,
    /// The same for single host names.
    OriginPullHostnames,
    /// What the edge trusts at origins.
    TrustStore,
    /// Host names of customers (SSL for `SaaS`).
    CustomHostnames,
    /// Authorities of client certificates, of an account.
    MtlsCertificates,
    /// Authorities of Access, of an account.
    AccessCertificates,
    /// Authorities with which Gateway inspects, of an account.
    GatewayCertificates,
}

/// How a listing is cut.
enum Cut {
    /// Pages, with the least, default and most entries of one.
    Pages(usize, usize, usize),
    /// All entries, whatever page is asked for. With a `result_info`, it speaks of pages of 50 all the same.
    Whole { has_info: bool },
}

impl Sibling {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OriginCa,
        Self::CertificatePacks,
        Self::CustomCertificates,
        Self::OriginPull,
        Self::OriginPullHostnames,
        Self::TrustStore,
        Self::CustomHostnames,
        Self::MtlsCertificates,
        Self::AccessCertificates,
        Self::GatewayCertificates,
    ];

    /// Below the base URL; `{}` stands for the id of the zone or account.
    const fn pattern(self) -> &'static str {
        match self {
            Self::OriginCa => "/certificates?zone_id={}",
            Self::CertificatePacks => "/zones/{}/ssl/certificate_packs",
            Self::CustomCertificates => "/zones/{}/custom_certificates",
            Self::OriginPull => "/zones/{}/origin_tls_client_auth",
            Self::OriginPullHostnames => "/zones/{}/origin_tls_client_auth/hostnames/certificates",
            Self::TrustStore => "/zones/{}/acm/custom_trust_store",
            Self::CustomHostnames => "/zones/{}/custom_hostnames",
            Self::MtlsCertificates => "/accounts/{}/mtls_certificates",
            Self::AccessCertificates => "/accounts/{}/access/certificates",
            Self::GatewayCertificates => "/accounts/{}/gateway/certificates",
        }
    }

    /// Where a zone or account has it, below the base URL.
    #[must_use]
    pub fn path(self, scope_id: &str) -> String {
        self.pattern().replace("{}", scope_id)
    }

    /// Whether it belongs to an account, and not to a zone.
    #[must_use]
    pub fn is_of_account(self) -> bool {
        self.pattern().starts_with("/accounts/")
    }

    /// What Cloudflare says where the plan does not include it, as far as that is known.
    #[must_use]
    pub fn not_on_the_plan(self) -> ApiError {
        match self {
            Self::TrustStore => {
                ApiError::new(403, 1450, "Advanced Certificate Manager is required to use this feature.")
            }
            Self::CustomHostnames => ApiError::new(403, 1404, "SSL for SaaS has not been enabled for this zone."),
            Self::AccessCertificates | Self::GatewayCertificates => {
                ApiError::new(403, 9999, "access.api.error.not_enabled: access is not enabled for this account")
            }
            _ => ApiError::new(400, 1011, "Your plan does not include custom certificates."),
        }
    }

    /// Which listing a request is about, and of which zone or account.
    pub(super) fn asked(path: &str, request: &RecordedRequest) -> Option<(Self, String)> {
        Self::ALL.into_iter().find_map(|sibling| {
            if sibling == Self::OriginCa {
                return (path == "/certificates").then(|| (sibling, request.decoded("zone_id").unwrap_or_default()));
            }
            let (before, after) = sibling.pattern().split_once("{}")?;
            let id = path.strip_prefix(before)?.strip_suffix(after)?;
            (!id.contains('/')).then(|| (sibling, id.to_owned()))
        })
    }

    const fn cut(self) -> Cut {
        match self {
            // Documented for some. For the others a page of less than 5 is not known to be refused.
            Self::CustomCertificates | Self::CustomHostnames => Cut::Pages(5, 20, 50),
            Self::CertificatePacks | Self::TrustStore => Cut::Pages(1, 20, 50),
            Self::AccessCertificates => Cut::Pages(1, 50, 50),
            Self::OriginPull | Self::MtlsCertificates => Cut::Whole { has_info: true },
            Self::OriginCa | Self::OriginPullHostnames | Self::GatewayCertificates => Cut::Whole { has_info: false },
        }
    }

    /// Whether an entry is listed for a query. The trap of the packs is that of client certificates: without a status
    /// only the active ones are listed.
    fn lists(self, request: &RecordedRequest, entry: &Value) -> bool {
        match self {
            Self::CertificatePacks => {
                let status = request.decoded("status").unwrap_or_else(|| "active".to_owned());
                status == "all" || entry["status"] == status
            }
            Self::MtlsCertificates => request.decoded("type").is_none_or(|sort| entry["type"] == sort),
            _ => true,
        }
    }
}

/// What one of these listings holds for a zone or account. Where there is none, the listing is empty.
#[derive(Debug, Clone)]
pub struct SimulatedListing {
    /// Which listing.
    pub endpoint: Sibling,
    /// Id of the zone or account.
    pub scope_id: String,
    /// In the order in which they are listed. [`Sibling::entry`] makes them; any other value goes too.
    pub entries: Vec<Value>,
    /// What is answered instead.
    pub refusal: Option<ApiError>,
    /// What goes wrong when it is listed.
    pub fault: Option<Fault>,
}

impl SimulatedListing {
    /// A listing of these entries.
    #[must_use]
    pub fn new(endpoint: Sibling, scope_id: &str, entries: impl IntoIterator<Item = Value>) -> Self {
        let entries = entries.into_iter().collect();
        Self { endpoint, scope_id: scope_id.to_owned(), entries, refusal: None, fault: None }
    }

    /// A listing that is refused.
    #[must_use]
    pub fn refused(endpoint: Sibling, scope_id: &str, refusal: ApiError) -> Self {
        Self { refusal: Some(refusal), ..Self::new(endpoint, scope_id, []) }
    }

    /// The same listing with this fault.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }
}

/// One page of a listing of a zone or account that exists and is not denied.
pub(super) fn list(
    world: &mut World,
    (endpoint, scope_id): (Sibling, &str),
    request: &RecordedRequest,
    faults: &mut Vec<Fault>,
) -> Result<Answer, ApiError> {
    let of_others = if endpoint == Sibling::OriginCa { origin_ca_of_other_zones(world, scope_id) } else { Vec::new() };
    let cut = endpoint.cut();
    let mut none = SimulatedListing::new(endpoint, scope_id, []);
    let listing = world.listings.iter_mut().find(|one| one.endpoint == endpoint && one.scope_id == scope_id);
    let listing = listing.unwrap_or(&mut none);
    if let Some(fault) = &mut listing.fault {
        fault.due(request.page(), faults);
    }
    if let Some(refusal) = &listing.refusal {
        return Err(refusal.clone());
    }
    let sizes = if let Cut::Pages(least, default, most) = cut { (least, default, most) } else { (50, 50, 50) };
    let page = PageRequest::asked(request, sizes, &mut listing.entries, faults);
    let total = listing.entries.len() + of_others.len();
    let entries = listing.entries.iter().chain(&of_others);
    let matching: Vec<&Value> = entries.filter(|entry| endpoint.lists(request, entry)).collect();
    Ok(match cut {
        Cut::Pages(..) => page.answer(&matching, total, Value::clone),
        Cut::Whole { has_info } => whole(&matching, has_info),
    })
}

/// Everything at once, whatever page was asked for, although the totals may speak of more than one.
fn whole(matching: &[&Value], has_info: bool) -> Answer {
    let count = matching.len();
    let info = json!({
        "count": count, "page": 1, "per_page": 50, "total_count": count, "total_pages": count.div_ceil(50),
    });
    let entries: Vec<Value> = matching.iter().copied().cloned().collect();
    Answer::listing(entries, info.as_object().filter(|_| has_info).cloned())
}

/// Origin CA certificates that other zones hold and that have a host name of this zone: each zone of which a
/// certificate has a host name lists it.
fn origin_ca_of_other_zones(world: &World, zone_id: &str) -> Vec<Value> {
    let Some(zone) = world.zones.iter().find(|zone| zone.id == zone_id) else { return Vec::new() };
    let others = world.listings.iter().filter(|one| one.endpoint == Sibling::OriginCa && one.scope_id != zone_id);
    others.flat_map(|listing| &listing.entries).filter(|entry| has_host_of(entry, zone)).cloned().collect()
}

fn has_host_of(entry: &Value, zone: &SimulatedZone) -> bool {
    let hosts = entry["hostnames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    hosts.into_iter().any(|host| {
        host.strip_suffix(zone.name.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

#[cfg(test)]
mod tests;
