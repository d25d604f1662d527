//! `GET /zones`: every zone that the credential sees, page by page.

use super::{
    answer::Answer,
    fault::Fault,
    listing::PageRequest,
    router::RecordedRequest,
    world::{SimulatedZone, World},
};

/// Pages of 5 to 50 zones, 20 unless asked.
const SIZES: (usize, usize, usize) = (5, 20, 50);

/// One page of the zones. Those for which every credential is denied are not among them.
pub(super) fn list(world: &mut World, request: &RecordedRequest, faults: &mut Vec<Fault>) -> Answer {
    if let Some(fault) = &mut world.zones_fault {
        fault.due(request.page(), faults);
    }
    let page = PageRequest::asked(request, SIZES, &mut world.zones, faults);
    let mut matching: Vec<&SimulatedZone> =
        world.zones.iter().filter(|zone| !zone.denied && matches(world, zone, request)).collect();
    if request.decoded("order").is_some_and(|field| field == "name") {
        matching.sort_by(|one, other| one.name.cmp(&other.name));
    }
    // Here the total is that of the zones that match.
    page.answer(&matching, matching.len(), |zone| zone.fields(world))
}

/// Whether a zone passes every filter of the query that is known here.
fn matches(world: &World, zone: &SimulatedZone, request: &RecordedRequest) -> bool {
    let passes = |parameter, value: &str| request.decoded(parameter).is_none_or(|wanted| passes(value, &wanted));
    passes("name", &zone.name)
        && passes("account.id", &zone.account_id)
        && passes("account.name", world.account_name(&zone.account_id))
}

/// `contains:shop` and its like; without an operator, the whole text.
fn passes(value: &str, wanted: &str) -> bool {
    let (value, wanted) = (value.to_lowercase(), wanted.to_lowercase());
    match wanted.split_once(':') {
        Some(("starts_with", wanted)) => value.starts_with(wanted),
        Some(("ends_with", wanted)) => value.ends_with(wanted),
        Some(("contains", wanted)) => value.contains(wanted),
        _ => value == wanted,
    }
}

#[cfg(test)]
mod tests;
