//! `check-config`: what the daemon would do with a configuration that is good.

use comfy_table::{Table, presets::NOTHING};

use super::print;
use exporter_toolkit::WebConfig;

use crate::{config::Config, poller::Demand};

/// Prints every zone and what each credential has to bear; returns the exit code.
pub(super) fn run(config: &Config) -> u8 {
    let mut zones = Table::new();
    zones.load_style(NOTHING).set_header(["ZONE", "ZONE ID", "CREDENTIAL", "INTERVAL"]);
    for zone in &config.zones {
        let interval = humantime::format_duration(zone.interval).to_string();
        zones.add_row([
            zone.name.as_deref().unwrap_or("(asked of the API)"),
            zone.id.as_str(),
            &zone.credential,
            &interval,
        ]);
    }
    let mut text = format!("The configuration is good.\n\n{}\n\n", zones.trim_fmt());
    for outlook in Demand::new(config.api.requests_per_5m, config.zones.iter().map(|zone| &**zone)).outlook() {
        text.push_str(&format!(
            "Credential {}: needs at least {:.1} requests in five minutes, one for every 50 certificates of a zone. Its budget is {}.\n",
            outlook.credential, outlook.needed_per_5m, outlook.allowed_per_5m
        ));
        if let Some(interval) = outlook.interval_becomes {
            text.push_str(&format!(
                "  That is too few: zones with a shorter interval will be listed every {}. Raise the intervals or api.requests_per_5m.\n",
                humantime::format_duration(interval)
            ));
        }
    }
    match &config.state_directory {
        Some(directory) => text.push_str(&format!("State is kept in {}.\n", directory.display())),
        None => text.push_str(
            "No state is kept, so a restart knows nothing until every zone has been listed again; see [state] directory.\n",
        ),
    }
    if let Some(file) = &config.web_config_file {
        text.push_str(&format!("The web configuration {} is good.\n", file.display()));
        // It was read without a mistake a moment ago.
        for warning in WebConfig::check(file).unwrap_or_default() {
            text.push_str(&format!("  {warning}.\n"));
        }
    }
    print(text.as_bytes())
}
