//! Web configurations and what becomes of each: the files of `tests/web-config`, read by this program and, where it is
//! there, by promtool.

use crate::support;
use std::{collections::BTreeSet, fs::Permissions, os::unix::fs::PermissionsExt as _, process::Command};

use crate::support::web::{Directory, corpus};
use cloudflare_sim::{SimulatedApi, World};
use exporter_toolkit::WebConfig;

/// What has to come of a file.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// It is good, and nothing is odd about it.
    Good,
    /// It works, and a warning says this.
    Odd(&'static str),
    /// Each mistake, in order, says this.
    Bad(&'static [&'static str]),
}
use Expected::{Bad, Good, Odd};

/// What promtool thinks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toolkit {
    Agrees,
    /// It takes for good what is a mistake here, and why that is meant so.
    IsLaxer(&'static str),
    /// It is good here, and 2.42 does not know these keys yet.
    IsOlder,
}
use Toolkit::{Agrees, IsLaxer, IsOlder};

const CORPUS: &[(&str, Expected, Toolkit)] = &[
    ("empty.yml", Good, Agrees),
    ("only-a-comment.yml", Good, Agrees),
    ("empty-sections.yml", Good, Agrees),
    ("no-yaml.yml", Bad(&["1: yaml: this is not the YAML that is wanted here (cannot unmarshal)"]), Agrees),
    ("broken-yaml.yml", Bad(&["yaml: this is not valid YAML"]), Agrees),
    ("tab.yml", Bad(&["2: yaml: this is not valid YAML"]), Agrees),
    (
        "two-documents.yml",
        Bad(&["yaml: a second YAML document"]),
        IsLaxer("it reads the first and is silent about the rest"),
    ),
    (
        "unknown-section.yml",
        Bad(&[
            "3: tls_config: yaml: unknown key (field tls_config not found); the known keys here are tls_server_config",
        ]),
        Agrees,
    ),
    (
        "unknown-key.yml",
        Bad(&["3: keyfile: yaml: unknown key (field keyfile not found); the known keys here are cert, key"]),
        Agrees,
    ),
    (
        "wrong-type.yml",
        Bad(&["4: yaml: this is not the YAML that is wanted here (cannot unmarshal), which is a list"]),
        Agrees,
    ),
    ("tls.yml", Good, Agrees),
    ("tls-inline.yml", Good, IsOlder),
    ("tls-file-beats-inline.yml", Good, IsOlder),
    (
        "tls-inline-no-pem.yml",
        Bad(&[
            "2: tls_server_config.cert: failed to load X509KeyPair: it holds no certificate",
            "3: tls_server_config.key: failed to load X509KeyPair: it holds no private key",
        ]),
        Agrees,
    ),
    ("tls-blank.yml", Good, Agrees),
    ("cert-file-blank.yml", Bad(&["missing one of cert or cert_file"]), Agrees),
    ("cert-inline-blank.yml", Bad(&["missing one of cert or cert_file"]), Agrees),
    ("only-client-auth.yml", Bad(&["missing one of cert or cert_file"]), Agrees),
    ("both-files-blank.yml", Bad(&["missing one of cert or cert_file", "invalid ClientAuth: Whatever"]), Agrees),
    ("key-file-blank.yml", Bad(&["missing one of key or key_file"]), Agrees),
    ("key-inline-blank.yml", Bad(&["missing one of key or key_file"]), Agrees),
    (
        "cert-file-missing.yml",
        Bad(&["2: tls_server_config.cert_file: failed to read cert_file (DIR/nowhere.pem): no such file"]),
        Agrees,
    ),
    (
        "key-file-missing.yml",
        Bad(&["3: tls_server_config.key_file: failed to read key_file (DIR/nowhere.key): no such file"]),
        Agrees,
    ),
    ("both-files-missing.yml", Bad(&["nowhere.pem): no such file", "nowhere.key): no such file"]), Agrees),
    (
        "key-of-another.yml",
        Bad(&["3: tls_server_config.key_file: failed to load X509KeyPair: private key does not match public key"]),
        Agrees,
    ),
    (
        "client-ca-missing.yml",
        Bad(&["5: tls_server_config.client_ca_file: failed to read client_ca_file (DIR/nowhere.pem): no such file"]),
        Agrees,
    ),
    (
        "client-ca-missing-without-policy.yml",
        Bad(&["4: tls_server_config.client_ca_file: client CA's have been configured without", "no such file"]),
        Agrees,
    ),
    (
        "mistakes-everywhere.yml",
        Bad(&[
            "2: tls_server_config.cert_file: failed to read",
            "4: tls_server_config.client_auth_type: invalid ClientAuth",
            "5: tls_server_config.client_ca_file: failed to read",
            "6: tls_server_config.min_version: unknown TLS version",
            "9: http_server_config.headers.X-Frame-Options: invalid value",
            "11: basic_auth_users.alice: hashedSecret too short",
        ]),
        Agrees,
    ),
    (
        "client-ca-without-policy.yml",
        Bad(&["4: tls_server_config.client_ca_file: client CA's have been configured without a Client Auth Policy"]),
        Agrees,
    ),
    (
        "client-ca-with-no-client-cert.yml",
        Bad(&["client CA's have been configured without a Client Auth Policy"]),
        Agrees,
    ),
    (
        "client-ca-empty.yml",
        Bad(&["4: tls_server_config.client_ca_file: the client CA cannot be used: it holds no certificate"]),
        IsLaxer("it would refuse every client, which this program reports before any is refused"),
    ),
    (
        "client-auth-invented.yml",
        Bad(&["4: tls_server_config.client_auth_type: invalid ClientAuth: TrustEverybody"]),
        Agrees,
    ),
    ("client-verify-if-given.yml", Good, Agrees),
    ("client-verify-if-given-by-the-system.yml", Good, Agrees),
    ("client-request.yml", Good, Agrees),
    ("client-require-any.yml", Good, Agrees),
    ("client-require-any-old-name.yml", Good, Agrees),
    ("client-require-and-verify.yml", Good, Agrees),
    ("client-require-and-verify-without-ca.yml", Good, Agrees),
    ("client-allowed-sans.yml", Good, IsOlder),
    ("client-other-sans.yml", Good, IsOlder),
    ("client-request-allowed-sans.yml", Good, IsOlder),
    ("client-verify-if-given-allowed-sans.yml", Good, IsOlder),
    (
        "all-ciphers.yml",
        Odd(
            "are left out: TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
        ),
        Agrees,
    ),
    ("some-ciphers.yml", Good, Agrees),
    ("some-ciphers-in-the-order-of-clients.yml", Good, Agrees),
    (
        "invented-ciphers.yml",
        Bad(&["6: tls_server_config.cipher_suites: unknown cipher: TLS_ECDHE_ECDSA_WITH_ROT13_SHA1"]),
        Agrees,
    ),
    (
        "no-cipher-remains.yml",
        Bad(&["8: tls_server_config.cipher_suites: no cipher suite of TLS 1.2 remains"]),
        IsLaxer("the TLS library here has no suites with CBC"),
    ),
    (
        "no-http2-cipher.yml",
        Bad(&[
            "6: tls_server_config.cipher_suites: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher",
        ]),
        IsLaxer("its servers tell it when they start, and check-config tells it before"),
    ),
    ("no-http2-cipher-needed.yml", Good, Agrees),
    ("all-curves.yml", Odd("Curves that this program's TLS library does not have are left out: CurveP521"), Agrees),
    ("some-curves.yml", Good, Agrees),
    (
        "only-curve-p521.yml",
        Bad(&["6: tls_server_config.curve_preferences: no curve remains"]),
        IsLaxer("the TLS library here does not have that curve"),
    ),
    ("invented-curves.yml", Bad(&["5: tls_server_config.curve_preferences: unknown curve: CurveP257"]), Agrees),
    ("wrong-tls-version.yml", Bad(&["4: tls_server_config.min_version: unknown TLS version: TLS111"]), Agrees),
    ("old-min-version.yml", Odd("min_version is lower than TLS12"), Agrees),
    (
        "old-max-version.yml",
        Bad(&["5: tls_server_config.max_version: TLS before 1.2 is not supported"]),
        IsLaxer("the TLS library here has no version before 1.2"),
    ),
    (
        "versions-crossed.yml",
        Bad(&["5: tls_server_config.max_version: no TLS version remains"]),
        IsLaxer("it would refuse every client, which this program reports before any is refused"),
    ),
    ("tls13-only.yml", Good, Agrees),
    ("no-http2.yml", Good, Agrees),
    ("headers.yml", Good, Agrees),
    ("headers-blank.yml", Good, Agrees),
    (
        "headers-content-type-options.yml",
        Bad(&["3: http_server_config.headers.X-Content-Type-Options: invalid value for X-Content-Type-Options"]),
        Agrees,
    ),
    (
        "headers-frame-options.yml",
        Bad(&["3: http_server_config.headers.X-Frame-Options: invalid value for X-Frame-Options"]),
        Agrees,
    ),
    ("headers-another.yml", Bad(&["HTTP header \"X-Powered-By\" can not be configured"]), Agrees),
    ("headers-in-lower-case.yml", Bad(&["HTTP header \"x-frame-options\" can not be configured"]), Agrees),
    (
        "headers-line-break.yml",
        Bad(&["invalid value for Content-Security-Policy: it holds a character"]),
        IsLaxer("it makes blanks of line breaks when it sends the header"),
    ),
    ("users.yml", Good, Agrees),
    ("users-without-tls.yml", Good, Agrees),
    (
        "users-short-hash.yml",
        Bad(&["2: basic_auth_users.alice: hashedSecret too short to be a bcrypted password: it has 10 characters"]),
        Agrees,
    ),
    ("users-no-hash.yml", Bad(&["hashedSecret too short to be a bcrypted password: it has 0 characters"]), Agrees),
    (
        "users-high-cost.yml",
        Bad(&["2: basic_auth_users.alice: the bcrypt cost 32 is outside allowed inclusive range 4..31"]),
        Agrees,
    ),
    ("users-no-bcrypt.yml", Bad(&["2: basic_auth_users.alice: this is no bcrypt hash"]), Agrees),
    ("users-twice.yml", Bad(&["3: alice: yaml: this key is there twice (already set)"]), Agrees),
    (
        "users-a-list.yml",
        Bad(&["2: yaml: this is not the YAML that is wanted here (cannot unmarshal), which is a section"]),
        Agrees,
    ),
    ("users-with-a-number-for-a-name.yml", Good, Agrees),
    ("users-with-a-colon.yml", Odd("basic_auth_users.alice:cooper lets nobody in"), Agrees),
    ("rate-limit-zero.yml", Good, IsOlder),
    ("rate-limit-without-burst.yml", Odd("every request is answered with 429"), IsOlder),
    ("rate-limit.yml", Good, IsOlder),
    ("rate-limit-wrong-interval.yml", Bad(&["2: rate_limit.interval: time: invalid duration \"1 second\""]), Agrees),
    (
        "rate-limit-wrong-burst.yml",
        Bad(&["3: yaml: this is not the YAML that is wanted here (cannot unmarshal), which is a whole number"]),
        Agrees,
    ),
];

#[test]
fn every_web_configuration_has_the_expected_outcome() {
    let directory = Directory::new();
    let dir = directory.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    for (name, expected, _) in CORPUS {
        let file = directory.put(name);
        let checked = WebConfig::check(&file).map_err(|errors| {
            errors.mistakes.iter().map(|mistake| mistake.to_string().replace(dir, "DIR")).collect::<Vec<_>>()
        });
        match (expected, &checked) {
            (Good, Ok(warnings)) => assert_eq!(warnings, &[""; 0], "{name}"),
            (Odd(warning), Ok(warnings)) => {
                assert!(warnings.len() == 1 && warnings[0].contains(warning), "{name}: {warnings:?}");
            }
            (Bad(mistakes), Err(found)) => {
                let as_expected = mistakes.iter().zip(found).all(|(mistake, found)| found.contains(mistake));
                assert!(as_expected && mistakes.len() == found.len(), "{name}: {found:#?}");
            }
            (expected, checked) => panic!("{name}: expected {expected:?}, and it is {checked:#?}"),
        }
    }
    let listed: BTreeSet<_> = CORPUS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let there = std::fs::read_dir(corpus()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), listed);
    let bad = CORPUS.iter().filter(|(_, expected, _)| matches!(expected, Bad(_))).count();
    println!("{} web configurations, {bad} of them bad: all as expected", CORPUS.len());
}

#[test]
fn promtool_agrees_except_for_intended_differences() {
    if !support::is_there("promtool", "prometheus", Command::new("promtool").arg("--version").output().is_ok()) {
        return;
    }
    let (directory, mut agreed) = (Directory::new(), 0);
    for (name, expected, toolkit) in CORPUS {
        let file = directory.put(name);
        let output = Command::new("promtool").args(["check", "web-config"]).arg(file).output().unwrap();
        let (here, there) = (!matches!(expected, Bad(_)), output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        match toolkit {
            Agrees => assert_eq!(here, there, "{name}: {said}"),
            // A newer one knows more.
            IsOlder => assert!(here, "{name}: {said}"),
            IsLaxer(why) => assert!(!here && there, "{name}: no difference any more ({why}): {said}"),
        }
        agreed += usize::from(here == there);
    }
    println!("promtool agrees on {agreed} of {} web configurations; what else it thinks:", CORPUS.len());
    for (name, _, toolkit) in CORPUS {
        match toolkit {
            Agrees => {}
            IsOlder => println!("  2.42 does not know what is in {name} yet."),
            IsLaxer(why) => println!("  It takes {name} for good: {why}."),
        }
    }
}

#[test]
fn a_missing_file_is_reported() {
    let directory = Directory::new();
    let errors = WebConfig::check(&directory.path("somefile")).unwrap_err().to_string();
    assert!(errors.contains("somefile: the web configuration cannot be read: no such file or directory; "), "{errors}");
}

/// As `openssl x509 -req` of Debian 12 makes it where it is given no extensions.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBNTCB2wIUJHfCLHZtzZqaugrMI5ZPN+7nCjMwCgYIKoZIzj0EAwIwHDEaMBgG
A1UEAwwRdmVyc2lvbi0xLmV4YW1wbGUwIBcNMjYxMTI0MjIwMDEwWhgPMjEyNjEw
MzEyMjAwMTBaMBwxGjAYBgNVBAMMEXZlcnNpb24tMS5leGFtcGxlMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEnc3XBYFsniosgNgPI8RwR+wC6MahEH/K+nHODE5J
03ifX4ocAA2TwvM/eOSJDKSDhBt4D9nSI+JcACs50jcrlzAKBggqhkjOPQQDAgNJ
ADBGAiEAz++XjTN87URvrrbvqxqhf3Y5bU0wR2lO2vXOK05l4nECIQDz4JdThaUe
dYehCiPHzKKV/1GYDvJYz0dfPyi7/4qXzg==
-----END CERTIFICATE-----
";

#[test]
fn an_unusable_file_is_reported_with_a_remedy() {
    let pem = |what: &str| format!("-----BEGIN {what}-----\nMIHsMFcGCSqGSIb3DQEFDTBK\n-----END {what}-----\n");
    let pkcs1 = pem("RSA PRIVATE KEY").replace("MIH", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIH");
    for (file, content, expected) in [
        (
            "server.pem",
            VERSION_1,
            "2: tls_server_config.cert_file: failed to load X509KeyPair: it is not an X.509 version 3 certificate",
        ),
        (
            "server.pem",
            "",
            "2: tls_server_config.cert_file: failed to load X509KeyPair: it holds no certificate in PEM form",
        ),
        ("server.pem", "-----BEGIN CERTIFICATE-----\nMII", "its PEM is damaged; copy it again"),
        ("server.pem", &pem("CERTIFICATE"), "2: tls_server_config.cert_file: failed to load X509KeyPair: "),
        ("server.key", "", "3: tls_server_config.key_file: failed to load X509KeyPair: it holds no private key"),
        ("server.key", &pem("ENCRYPTED PRIVATE KEY"), "it is encrypted with a password"),
        ("server.key", &pkcs1, "it is encrypted with a password"),
        ("ca.pem", &pem("CERTIFICATE"), "4: tls_server_config.client_ca_file: the client CA cannot be used: "),
    ] {
        let directory = Directory::new();
        directory.write(file, content);
        let errors = WebConfig::check(&directory.put("client-verify-if-given.yml")).unwrap_err();
        let (errors, number) = (errors.to_string(), errors.mistakes.len());
        assert!(number == 1 && errors.contains(expected) && errors.contains(';'), "{expected}: {errors}");
    }
}

#[test]
fn unreadable_authorities_are_reported_and_the_others_are_used() {
    let directory = Directory::new();
    let good = std::fs::read_to_string(directory.path("ca.pem")).unwrap();
    let damaged = "-----BEGIN CERTIFICATE-----\nMIHs\n-----END CERTIFICATE-----\n";
    directory.write("ca.pem", &format!("{damaged}# The good one.\n{good}-----BEGIN CERTIFICATE-----\n?"));
    let warnings = WebConfig::check(&directory.put("client-verify-if-given.yml")).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("client_ca_file: 2 of its certificates"), "{warnings:?}");
}

#[test]
fn a_world_readable_key_causes_a_warning() {
    let directory = Directory::new();
    for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
        std::fs::set_permissions(directory.path("server.key"), Permissions::from_mode(mode)).unwrap();
        let warnings = WebConfig::check(&directory.put("tls.yml")).unwrap();
        assert_eq!(warnings.len(), usize::from(is_open), "{mode:o} {warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains("key_file") && warning.contains("chmod 600")));
    }
}

/// A configuration that is good but for the web configuration.
async fn config(server: &str) -> (SimulatedApi, String, String) {
    let world = World::demo(chrono::DateTime::UNIX_EPOCH, 1, 1);
    let token = world.token().to_owned();
    let api = SimulatedApi::start(world).await.unwrap();
    let more = format!("[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n{server}");
    let config = support::config(&api, &more);
    (api, config, token)
}

#[tokio::test]
async fn the_daemon_does_not_start_with_a_bad_web_configuration() {
    let directory = Directory::new();
    let (_api, config, token) = config(&format!("web_config_file = {:?}\n", directory.path("web.yml"))).await;
    for (name, expected, _) in CORPUS {
        let Bad(mistakes) = expected else { continue };
        directory.put(name);
        let output = support::run(&config, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
        assert_eq!(output.code, Some(78), "{name}: {}", output.stderr);
        for mistake in *mistakes {
            let mistake = mistake.replace("DIR", directory.path("").to_str().unwrap().trim_end_matches('/'));
            assert!(output.stderr.contains(&mistake), "{name}: {}", output.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_reports_mistakes_of_both_files_together() {
    let directory = Directory::new();
    let file = directory.put("both-files-missing.yml");
    let (_api, config, token) =
        config(&format!("web_config_file = {file:?}\nprobe_listen_address = \"10200\"\n")).await;
    let environment = [("CLOUDFLARE_API_TOKEN", token.as_str())];
    let output = support::run(&config, &["check-config"], &environment);
    assert_eq!(output.code, Some(78));
    for part in [
        "server.probe_listen_address: \"10200\" cannot be used",
        "web.yml:2: tls_server_config.cert_file: failed to read",
        "web.yml:3: tls_server_config.key_file: failed to read",
        "\n3 mistakes in all",
    ] {
        assert!(output.stderr.contains(part), "{}", output.stderr);
    }
    // The flag beats the file; a path in it starts where the program does.
    let good = directory.path("good.yml");
    directory.write("good.yml", &directory.fill_in("rate_limit: {interval: 1s, burst: 0}\n"));
    let config = config.replace("\"10200\"", "\"127.0.0.1:0\"");
    let output = support::run(&config, &["check-config", "--web.config.file", good.to_str().unwrap()], &environment);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    for part in ["good.yml is good.\n", "  rate_limit.burst is 0, so every request is answered with 429"] {
        assert!(output.stdout.contains(part), "{}", output.stdout);
    }
    // What is odd about this machine is reported as well.
    directory.put_text(
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_auth_type: VerifyClientCertIfGiven}\n",
    );
    let nowhere = directory.path("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let no_authorities = [environment[0], ("SSL_CERT_FILE", nowhere), ("SSL_CERT_DIR", nowhere)];
    let output = support::run(&config, &["check-config"], &no_authorities);
    let warning = "web.yml is good.\n  No certificate authority of clients is configured and this system has none";
    assert!(output.code == Some(0) && output.stdout.contains(warning), "{}{}", output.stdout, output.stderr);
    // What serves nothing asks nothing of it.
    let output = support::run(&config, &["list"], &environment);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

#[test]
fn a_secret_in_the_wrong_place_is_never_repeated() {
    let directory = Directory::new();
    let hash = directory.fill_in("HASH_OF_ALICE");
    let key = std::fs::read_to_string(directory.path("server.key")).unwrap();
    let line_of_key = key.lines().nth(1).unwrap();
    let templates = [
        "SECRET",
        "SECRET: 1",
        "? SECRET\n: 1",
        "tls_server_config: SECRET",
        "tls_server_config:\n  SECRET: a",
        "tls_server_config:\n  cert: SECRET\n  key: SECRET",
        "tls_server_config:\n  cert_file: SECRET\n  key_file: SECRET\n  client_ca_file: SECRET\n  client_auth_type: SECRET",
        "tls_server_config:\n  min_version: SECRET\n  max_version: SECRET\n  cipher_suites: [SECRET]\n  curve_preferences: [SECRET]",
        "tls_server_config:\n  cipher_suites: SECRET\n",
        "tls_server_config:\n  prefer_server_cipher_suites: SECRET\n",
        "tls_server_config:\n  key: [SECRET]",
        "tls_server_config:\n  key: {SECRET: SECRET}",
        "tls_server_config:\n  key: |\nSECRET\n",
        "tls_server_config:\n  key: \"SECRET\n",
        "tls_server_config:\n  key: *SECRET\n",
        "tls_server_config:\n  key: !SECRET SECRET\n  key: SECRET\n",
        "tls_server_config:\n  key: &SECRET SECRET SECRET: SECRET\n",
        "http_server_config:\n  http2: SECRET",
        "http_server_config:\n  headers: {SECRET: SECRET, X-Frame-Options: SECRET}",
        "http_server_config:\n  headers: {Content-Security-Policy: \"SECRET\\n\"}",
        "basic_auth_users: SECRET",
        "basic_auth_users: [SECRET]",
        "basic_auth_users:\n- SECRET",
        "basic_auth_users:\n  SECRET: alice",
        "basic_auth_users:\n  SECRET: SECRET\n  SECRET: SECRET",
        "basic_auth_users:\n  alice: SECRETSECRET",
        "basic_auth_users:\n  alice: x SECRET: SECRET",
        "basic_auth_users:\n  alice:SECRET",
        "basic_auth_users:\n\talice: SECRET",
        "rate_limit: {interval: SECRET, burst: SECRET}",
        "rate_limit: {interval: SECRET}",
    ];
    for template in templates {
        for secret in [hash.as_str(), line_of_key] {
            directory.write("web.yml", &template.replace("SECRET", secret));
            if let Err(errors) = WebConfig::check(&directory.path("web.yml")) {
                let errors = errors.to_string();
                assert!(!errors.contains(&secret[8..20]), "{template}\n{errors}");
            }
        }
    }
}
