//! What stands below the help of each command: examples to start from. A test parses every one.

pub(super) const PROGRAM: &str = "\
Examples:
  Try it without an account, then open http://localhost:10199/
    cloudflare-cert-exporter demo
  Watch every zone that the token in CLOUDFLARE_API_TOKEN sees:
    cloudflare-cert-exporter
  Check a configuration, then run the daemon with it:
    cloudflare-cert-exporter check-config --config.file config.toml
    cloudflare-cert-exporter --config.file config.toml
  What expires within a month, in all zones:
    cloudflare-cert-exporter list --expiring-within 30d --config.file config.toml

The token comes from the file or variable that the configuration names, else from CLOUDFLARE_API_TOKEN.
CLOUDFLARE_BASE_URL says where Cloudflare's API is, and beats api.base_url of the configuration.";

pub(super) const RUN: &str = "\
Examples:
  With /etc/cloudflare-cert-exporter/config.toml, if there is one:
    cloudflare-cert-exporter run
  As the second of three that share the zones:
    cloudflare-cert-exporter run --shard 1 --total-shards 3
  With another file, for a Prometheus on another host:
    cloudflare-cert-exporter run --config.file config.toml --web.listen-address :10199
  On two addresses, with logs for a machine and every request in them:
    cloudflare-cert-exporter run --web.listen-address 127.0.0.1:10199 --web.listen-address [::1]:10199 --log.format json --log.level debug

SIGTERM and SIGINT end it: scrapes in flight are finished.";

pub(super) const CHECK_CONFIG: &str = "\
Examples:
  What the daemon would read on its own:
    cloudflare-cert-exporter check-config
  A file before it is put in place:
    cloudflare-cert-exporter check-config --config.file new.toml
  As the installed service reads it, before a restart; it exits with 78 if the daemon could not start:
    systemd-run --pipe --wait -p DynamicUser=yes \\
      -p LoadCredential=cloudflare-api-token:/etc/cloudflare-cert-exporter/token \\
      /usr/bin/cloudflare-cert-exporter check-config && systemctl restart cloudflare-cert-exporter

systemd hands the token to its services alone: a shell does not find it, not even one of root's.
It asks nothing of Cloudflare, so it does not tell whether the token works: list does.";

pub(super) const ZONES: &str = "\
Examples:
  With nothing but a token in CLOUDFLARE_API_TOKEN:
    cloudflare-cert-exporter zones
  The names of those that are not watched, and why:
    cloudflare-cert-exporter zones --output json | jq -r '.[] | select(.watched | not) | [.name, .reason] | @tsv'

It sends one request for each 50 zones, and says how many it sent. It exits with 1 if a credential failed.
In CSV, text that a spreadsheet would run as a formula begins with an apostrophe.";

pub(super) const LIST: &str = "\
Examples:
  Everything, soonest expiry first:
    cloudflare-cert-exporter list --config.file config.toml
  What expires within a month in two zones:
    cloudflare-cert-exporter list --expiring-within 30d --zone example.com --zone example.org
  For a spreadsheet:
    cloudflare-cert-exporter list --output csv > certificates.csv
  The names of those that expire within a week:
    cloudflare-cert-exporter list --output json --expiring-within 7d | jq -r '.[].common_name'

It sends one request for each 50 certificates, and says how many it sent. It exits with 1 if a zone failed.
In CSV, text that a spreadsheet would run as a formula begins with an apostrophe.";

pub(super) const CHECK: &str = "\
Examples:
  Ask the daemon of this machine, as often as you like:
    cloudflare-cert-exporter check --config.file config.toml
  Ask one elsewhere, about two zones:
    cloudflare-cert-exporter check --url https://exporter.example.com:10199 -w 60 -c 14 --zone a.example --zone b.example
  Where no daemon runs, once a day by cron:
    cloudflare-cert-exporter check --sweep --config.file config.toml

Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. UNKNOWN is also a zone that was not listed for two of
its intervals or shows none of its active certificates, a daemon that does not answer, wrong usage, and a
configuration that cannot be used.
Certificates that are revoked or superseded never alarm. One is superseded where an active one of the same zone
and name expires later and was issued after half of its life; never where more than two of the name were ever
valid at once.";

pub(super) const HEALTHCHECK: &str = "\
Examples:
  The daemon of this machine, where it says that it listens, or else its configuration:
    cloudflare-cert-exporter healthcheck
  In a Containerfile:
    HEALTHCHECK CMD [\"cloudflare-cert-exporter\", \"healthcheck\"]
  A daemon that was started with a flag for its address:
    cloudflare-cert-exporter healthcheck --web.listen-address :9100
  Any other:
    cloudflare-cert-exporter healthcheck --url http://127.0.0.1:9100

It exits with 0 if the daemon lives, else with 1. Whether Cloudflare answers does not matter.
The certificate of a loopback address is not checked: nothing secret is asked for or told.";

pub(super) const DEMO: &str = "\
Examples:
  Five zones, on http://localhost:10199/
    cloudflare-cert-exporter demo
  As much as you have, to see how your Prometheus bears it:
    cloudflare-cert-exporter demo --zones 40 --certificates 2000
  On another port, beside a daemon:
    cloudflare-cert-exporter demo --web.listen-address 127.0.0.1:10299";

pub(super) const COMPLETIONS: &str = "\
Examples:
  For you alone, in bash:
    cloudflare-cert-exporter completions bash > ~/.local/share/bash-completion/completions/cloudflare-cert-exporter
  For everybody, in zsh:
    cloudflare-cert-exporter completions zsh > /usr/local/share/zsh/site-functions/_cloudflare-cert-exporter
  For you alone, in fish:
    cloudflare-cert-exporter completions fish > ~/.config/fish/completions/cloudflare-cert-exporter.fish";

pub(super) const MAN: &str = "\
Examples:
  Read the page of the program:
    cloudflare-cert-exporter man > page.1 && man ./page.1
  Install it, with one for each command:
    cloudflare-cert-exporter man --directory /usr/local/share/man/man1";
