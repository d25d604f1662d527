//! `GET /zones`: every zone that the credential sees, page by page.

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    answer::{Answer, ApiError},
    fault::Fault,
    listing::PageRequest,
    router::RecordedRequest,
    world::{SimulatedZone, World},
};

/// Pages of 5 to 50 zones, 20 unless asked.
const SIZES: (usize, usize, usize) = (5, 20, 50);

/// One page of the zones. Those for which every credential is denied are not among them.
pub(super) fn list(world: &mut World, request: &RecordedRequest, faults: &mut Vec<Fault>) -> Result<Answer, ApiError> {
    if let Some(fault) = &mut world.zones_fault {
        fault.due(request.page(), faults);
    }
    if let Some(refusal) = &world.zones_refusal {
        return Err(refusal.clone());
    }
    let page = PageRequest::asked(request, SIZES, &mut world.zones, faults);
    let mut matching: Vec<&SimulatedZone> =
        world.zones.iter().filter(|zone| !zone.denied && matches(world, zone, request)).collect();
    if let Some(field) = request.decoded("order") {
        matching.sort_by(|one, other| compare(world, one, other, &field));
    }
    if request.parameter("direction") == Some("desc") {
        matching.reverse();
    }
    let fields: Vec<Value> = matching.iter().map(|zone| zone.fields(world)).collect();
    // Here the total is that of the zones that match.
    Ok(page.answer(&fields.iter().collect::<Vec<_>>(), fields.len()))
}

/// Whether a zone passes every filter of the query.
fn matches(world: &World, zone: &SimulatedZone, request: &RecordedRequest) -> bool {
    let passes = |parameter, value: &str, has_operators| match request.decoded(parameter) {
        None => true,
        Some(wanted) if has_operators => passes_operator(value, &wanted),
        Some(wanted) => value == wanted,
    };
    passes("name", &zone.name, true)
        && passes("account.id", &zone.account_id, false)
        && passes("account.name", world.account_name(&zone.account_id), true)
        && passes("status", &zone.status, false)
}

/// `contains:shop` and its like; without an operator, the whole name.
fn passes_operator(value: &str, wanted: &str) -> bool {
    let (operator, operand) = wanted.split_once(':').unwrap_or(("equal", wanted));
    let (operator, fold): (&str, fn(&str) -> String) = match operator.strip_suffix("_case_sensitive") {
        Some(operator) => (operator, str::to_owned),
        None => (operator, str::to_lowercase),
    };
    let (value, operand) = (fold(value), fold(operand));
    match operator {
        "equal" => value == operand,
        "not_equal" => value != operand,
        "starts_with" => value.starts_with(&operand),
        "ends_with" => value.ends_with(&operand),
        "contains" => value.contains(&operand),
        _ => value == fold(wanted),
    }
}

fn compare(world: &World, one: &SimulatedZone, other: &SimulatedZone, field: &str) -> Ordering {
    match field {
        "name" => one.name.cmp(&other.name),
        "status" => one.status.cmp(&other.status),
        "account.id" => one.account_id.cmp(&other.account_id),
        "account.name" => world.account_name(&one.account_id).cmp(world.account_name(&other.account_id)),
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests;
