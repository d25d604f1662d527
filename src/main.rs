//! The `cloudflare-cert-exporter` program.

fn main() {}
