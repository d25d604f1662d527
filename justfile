# What people do here: `just` lists it. Each line is a command that works without just, too.

[private]
default:
    @just --list --unsorted

# Run the daemon on a simulated Cloudflare API: http://127.0.0.1:10199
demo *ARGUMENTS:
    cargo run --no-default-features -- demo {{ARGUMENTS}}

# The everyday tests, or those with these words in their names
test *WORDS:
    cargo test --locked -- {{WORDS}}

# Style, lints and sizes
lint:
    cargo fmt --check
    cargo clippy --quiet --locked --all-targets -- -D warnings
    cargo clippy --quiet --locked --package cloudflare-sim -- -D warnings
    tests/size

# Spelling, words to avoid, long sentences (typos)
prose:
    typos
    tests/words

# Test the alert rules with promtool: each alert, missed scrapes, a year of certificates
rules:
    promtool check rules --lint=all --lint-fatal monitoring/alerts.yml
    promtool test rules monitoring/alerts_test.yml
    CLOUDFLARE_CERT_EXPORTER_TEST_ALL=1 cargo test --locked --test suite -- monitoring::gaps monitoring::year

# The year of certificates at every hour, which takes promtool a long time; `just rules` looks twice a day
year:
    CLOUDFLARE_CERT_EXPORTER_TEST_ALL=1 CLOUDFLARE_CERT_EXPORTER_TEST_YEAR=hourly cargo test --locked --test suite -- --nocapture monitoring::year

# Put the style right
fmt:
    cargo fmt
    cargo fmt --manifest-path fuzz/Cargo.toml

# Build the documentation of the code and open it
doc:
    cargo doc --locked --no-deps --open

# Check licences, sources and known vulnerabilities of dependencies (cargo-deny)
deny:
    cargo deny --locked check

# Everything: what runs at night and before a release; installs what it needs on Debian
all:
    ./tests/run

# Compare the program with its targets and with others, and write benches/RESULTS.md; or some topics, which print
bench *TOPICS:
    benches/run {{TOPICS}}

# Time single steps
micro *NAMES:
    cargo bench --bench micro --bench rendering -- {{NAMES}}

# Fuzz a target for an hour (cargo-fuzz); fuzz/README.md names the targets
fuzz TARGET SECONDS="3600":
    mkdir -p fuzz/corpus/{{TARGET}}
    cargo +nightly fuzz run {{TARGET}} fuzz/corpus/{{TARGET}} fuzz/seeds/{{TARGET}} -- -max_total_time={{SECONDS}}

# Look at changes of reviewed output, and accept or reject them (cargo-insta)
review:
    cargo insta review

# Build the static program and its Debian package (cargo-deb)
package:
    packaging/build

# Draw the picture in the README again
picture:
    mkdir -p target/pictures
    PICTURES="$PWD/target/pictures" cargo test --test suite page:: -- --ignored draw
    cp target/pictures/page.png docs/page.png
