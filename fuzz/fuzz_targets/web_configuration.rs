#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cloudflare_cert_exporter::properties::web_configuration(bytes));
