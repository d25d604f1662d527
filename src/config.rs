//! The configuration file, as the settings that the rest of the program takes.
//!
//! Every key, its default and the report of all mistakes in one go belong here. What a setting may
//! be is known where it is used, and checked there; this only calls it. Nothing below sees a `Config`.

mod credentials;
mod discovery;
mod document;
mod file;
mod labels;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod shard;
mod suggestion;
mod targets;

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use exporter_toolkit::{WebConfig, WebConfigErrors};

use crate::{
    cloudflare::{ApiSettings, BaseUrl, CaFile, Credential},
    exposition::SeriesSettings,
    model::{LabelRules, Scope, Shard, Status, Target, clean},
    server::{ListenAddress, TelemetryPath},
};
pub use discovery::DiscoverySettings;
pub use document::parse_duration;
use document::{Mistake, Place, Report, Section, boolean, duration, integer, may_be_secret, parsed, quoted, text_as};
pub use file::ConfigFile;
pub use shard::ShardFlags;
use suggestion::remedy;
use targets::without_effect;
pub use targets::{PollDefaults, remedy_for_kind};

/// A configuration in which every setting is valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where is listened.
    pub listen_addresses: Vec<ListenAddress>,
    /// Where the metrics are served.
    pub telemetry_path: TelemetryPath,
    /// Whether a request can make the program read its configuration again.
    pub enable_lifecycle: bool,
    /// The file of the web configuration, if there is one.
    pub web_config_file: Option<PathBuf>,
    /// Where probes are answered, if anywhere.
    pub probe_listen_address: Option<ListenAddress>,
    /// How the API is reached, with this shard's part of the request budget.
    pub api: ApiSettings,
    /// The request budget of each credential in five minutes, for all shards together.
    pub requests_per_5m: u32,
    /// Which series there are.
    pub series: SeriesSettings,
    /// Where state is kept over a restart, if anywhere.
    pub state_directory: Option<PathBuf>,
    /// Where the daemon says at which addresses it answers, if anywhere.
    pub runtime_directory: Option<PathBuf>,
    /// Every credential, read, in the order of their names.
    pub credentials: Vec<Arc<Credential>>,
    /// What is polled, whatever is discovered: the kinds of each zone in the order of the file, then those of each
    /// account. Each names one of the credentials.
    pub targets: Vec<Arc<Target>>,
    /// Which zones are discovered, if any are.
    pub discovery: Option<DiscoverySettings>,
    /// What is polled of each zone and account that is discovered.
    pub poll_defaults: PollDefaults,
    /// Which of all this is watched by this process.
    pub shard: Shard,
    /// What of the file is right and has no effect, a sentence each.
    pub without_effect: Vec<String>,
}

/// Where the daemon answers: all that has to be known to ask it.
#[derive(Debug)]
pub struct Listening {
    /// Where is listened.
    pub addresses: Vec<ListenAddress>,
    /// Whether it is asked over TLS there, or why that is not known.
    pub is_tls: Result<bool, WebConfigErrors>,
    /// Where probes are answered, if anywhere.
    pub probe_address: Option<ListenAddress>,
}

/// Why a file is no configuration: every mistake in it.
#[derive(Debug)]
pub struct ConfigErrors {
    /// Absent where there is no file.
    file: Option<PathBuf>,
    mistakes: Vec<Mistake>,
}

impl Config {
    /// Reads the file, and the secrets and certificates that it names. The flags beat it.
    ///
    /// # Errors
    /// With every mistake, if there is one.
    pub fn load(
        file: &ConfigFile,
        environment: &impl Fn(&str) -> Option<String>,
        flags: ShardFlags,
    ) -> Result<Self, ConfigErrors> {
        let text = file.read()?;
        let (config, mistakes) = Self::read(text.as_deref().unwrap_or_default(), file.path(), environment, flags);
        file.errors(text.is_some(), mistakes).or(config)
    }

    /// Says in the log what of the file has no effect.
    pub fn log_without_effect(&self) {
        for sentence in &self.without_effect {
            tracing::warn!("{sentence}");
        }
    }

    /// Reads the section `[server]` alone: who asks the daemon need not be able to read its secrets, and should not.
    ///
    /// # Errors
    /// With every mistake in it, or if the file is no TOML.
    pub fn load_listening(file: &ConfigFile) -> Result<Listening, ConfigErrors> {
        let text = file.read()?;
        let listening = listening(text.as_deref().unwrap_or_default(), file.path());
        listening.map_err(|mistakes| file.errors(text.is_some(), mistakes))
    }

    /// Reads the file as [`Config::load`] does, and checks the web configuration too: `web_config_file`, or else the
    /// one that the file names.
    ///
    /// # Errors
    /// With every mistake in both, if there is one.
    pub fn load_to_serve(
        file: &ConfigFile,
        environment: &impl Fn(&str) -> Option<String>,
        flags: ShardFlags,
        web_config_file: Option<PathBuf>,
    ) -> Result<Self, ConfigErrors> {
        let text = file.read()?;
        let (mut config, mut mistakes) =
            Self::read(text.as_deref().unwrap_or_default(), file.path(), environment, flags);
        let web_config_file = web_config_file.or_else(|| config.as_ref()?.web_config_file.clone());
        if let Some(file) = &web_config_file
            && let Err(of_web) = WebConfig::check(file)
        {
            let file = Some(of_web.file);
            mistakes.extend(of_web.mistakes.into_iter().map(|mistake| Mistake {
                file: file.clone(),
                line: mistake.line,
                key: mistake.key,
                text: mistake.text,
            }));
        }
        if let Some(config) = &mut config {
            config.web_config_file = web_config_file;
        }
        file.errors(text.is_some(), mistakes).or(config)
    }

    /// Reads the text of a file; `path` is where it comes from, for relative paths and the report.
    ///
    /// # Errors
    /// With every mistake, if there is one.
    pub fn parse(text: &str, path: &Path, environment: &impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let (config, mistakes) = Self::read(text, path, environment, ShardFlags::default());
        ConfigErrors { file: Some(path.to_owned()), mistakes }.or(config)
    }

    /// What is right only if there is no mistake, and every mistake. There is always one of the two.
    fn read(
        text: &str,
        path: &Path,
        environment: &impl Fn(&str) -> Option<String>,
        flags: ShardFlags,
    ) -> (Option<Self>, Vec<Mistake>) {
        let (report, table) = match document::parse(text) {
            Ok(parsed) => parsed,
            Err(mistakes) => return (None, mistakes),
        };
        let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
        let context = Context { report: &report, file: path, environment: &environment, flags };
        let config = context.read(Section::root(&table, &report));
        (Some(config), report.into_mistakes())
    }
}

fn listening(text: &str, path: &Path) -> Result<Listening, Vec<Mistake>> {
    let (report, table) = document::parse(text)?;
    let context = Context { report: &report, file: path, environment: &|_| None, flags: ShardFlags::default() };
    let mut server = Section::root(&table, &report).section("server");
    let (web_config_file, probe_address) = context.read_access(&mut server);
    let (addresses, ..) = context.read_server(server);
    // Who asks the daemon need not be able to read it, and may say where to ask instead.
    let is_tls = web_config_file.map_or(Ok(false), |file| WebConfig::asks_for_tls(&file));
    let mistakes = report.into_mistakes();
    if mistakes.is_empty() { Ok(Listening { addresses, is_tls, probe_address }) } else { Err(mistakes) }
}

impl ConfigErrors {
    /// The configuration, if there is no mistake.
    fn or(self, config: Option<Config>) -> Result<Config, Self> {
        config.filter(|_| self.mistakes.is_empty()).ok_or(self)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { file, line, key, text }) in self.mistakes.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "\n" })?;
            if let Some(file) = file.as_ref().or(self.file.as_ref()) {
                write!(f, "{}:", file.display())?;
                if let Some(line) = line {
                    write!(f, "{line}:")?;
                }
                if !key.is_empty() {
                    write!(f, " {key}:")?;
                }
                f.write_str(" ")?;
            }
            f.write_str(text)?;
        }
        match (self.mistakes.len(), &self.file) {
            (0 | 1, _) => Ok(()),
            (several, Some(file)) if self.mistakes.iter().all(|mistake| mistake.file.is_none()) => {
                write!(f, "\n{several} mistakes in {}", file.display())
            }
            (several, _) => write!(f, "\n{several} mistakes in all"),
        }
    }
}

impl Error for ConfigErrors {}

/// Without discovery, kinds of zones need zones and kinds of accounts need accounts.
const NO_TARGETS: &str = "it holds no kind of the zones or accounts that are there, so that nothing would be listed";

/// The remedy where this user may not read a file.
const FORBIDDEN: &str = "run as a user that may read it, or change its owner or mode";

/// Beats `api.base_url`.
const BASE_URL_VARIABLE: &str = "CLOUDFLARE_BASE_URL";

/// What the sections are read with.
struct Context<'a> {
    report: &'a Report,
    /// Relative paths start at its directory.
    file: &'a Path,
    /// A variable's value, if it has one.
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// What beats the file.
    flags: ShardFlags,
}

impl Context<'_> {
    /// Reads every section. Where one has a mistake the default stands in, so that the rest is read too.
    fn read(&self, mut root: Section<'_>) -> Config {
        let mut server = root.section("server");
        let (web_config_file, probe_listen_address) = self.read_access(&mut server);
        let (listen_addresses, telemetry_path, enable_lifecycle) = self.read_server(server);
        let (api, poll) = (root.section("api"), root.section("poll"));
        let (mut api, defaults) = self.read_api_and_poll(api, poll);
        let discovery = root.take("discovery");
        let shard = self.read_shard(root.section("shard"));
        let requests_per_5m = api.requests_per_5m;
        api.requests_per_5m = shard.share_of(requests_per_5m);
        let mut series = read_metrics(root.section("metrics"));
        let state_directory = self.read_state(root.section("state"));
        let (credentials, names) = self.read_credentials(&root.section("credentials"));
        let (zones, accounts) = (root.take("zones"), root.take("accounts"));
        let [has_zones, has_accounts] =
            [&zones, &accounts].map(|listed| listed.as_ref().is_some_and(|listed| !listed.is_empty_list()));
        let mut targets = self.read_targets(Scope::Zone, zones, &defaults, &names);
        targets.extend(self.read_targets(Scope::Account, accounts, &defaults, &names));
        series.labels = self.read_labels(root.take("labels"));
        let discovery = self.read_discovery(discovery, has_zones, &names);
        if discovery.is_none() && targets.is_empty() && self.report.is_empty() {
            self.report.mistake(&Place::absent("poll.kinds"), NO_TARGETS);
        }
        root.finish();
        let without_effect = without_effect(has_zones, has_accounts, discovery.is_some(), &targets, &defaults.kinds);
        Config {
            listen_addresses,
            telemetry_path,
            enable_lifecycle,
            web_config_file,
            probe_listen_address,
            api,
            requests_per_5m,
            series,
            state_directory,
            runtime_directory: self.first_directory("RUNTIME_DIRECTORY"),
            credentials,
            targets,
            discovery,
            poll_defaults: defaults,
            shard,
            without_effect,
        }
    }

    fn read_server(&self, mut server: Section<'_>) -> (Vec<ListenAddress>, TelemetryPath, bool) {
        let listen_addresses = server.take("listen_addresses");
        let listen_addresses =
            listen_addresses.and_then(|entry| entry.list_of_some("address, such as \"127.0.0.1:10199\"", parsed));
        let telemetry_path = server.read("telemetry_path", parsed);
        let enable_lifecycle = server.read("enable_lifecycle", boolean);
        server.finish();
        (
            listen_addresses
                .unwrap_or_else(|| vec!["127.0.0.1:10199".parse().expect("the default is an address to listen on")]),
            telemetry_path.unwrap_or_else(|| "/metrics".parse().expect("the default is a telemetry path")),
            enable_lifecycle.unwrap_or(false),
        )
    }

    fn read_access(&self, server: &mut Section<'_>) -> (Option<PathBuf>, Option<ListenAddress>) {
        let path = |text: &str| match text {
            "" => Err("it may not be empty; leave it out for plain HTTP without passwords".to_owned()),
            text if may_be_secret(text) => {
                Err("(name not shown, it may be a secret) is hardly the name of a file".to_owned())
            }
            path => Ok(self.path(path)),
        };
        (server.read("web_config_file", text_as(path)), server.read("probe_listen_address", parsed))
    }

    fn read_api_and_poll(&self, mut api: Section<'_>, mut poll: Section<'_>) -> (ApiSettings, PollDefaults) {
        let ca_file = |path: &str| {
            let remedy = "name a PEM file of certificate authorities that this user can read";
            let file = CaFile::load(self.path(path));
            file.map(Arc::new).map_err(|error| self.unusable_file(path, &error, Some(remedy)))
        };
        // Read in any case, so that a mistake in it is found before the variable is gone.
        let base_url = api.read("base_url", text_as(BaseUrl::try_new));
        let settings = ApiSettings {
            base_url: self.base_url_of_environment().or(base_url).unwrap_or_else(|| {
                BaseUrl::try_new("https://api.cloudflare.com/client/v4").expect("the default is a base URL")
            }),
            timeout: api.read("timeout", duration(ApiSettings::TIMEOUT)).unwrap_or(Duration::from_secs(30)),
            requests_per_5m: api.read("requests_per_5m", integer(ApiSettings::REQUESTS_PER_5M)).unwrap_or(600),
            ca_file: api.read("ca_file", text_as(ca_file)),
            concurrency: poll.read("concurrency", integer(ApiSettings::CONCURRENCY)).unwrap_or(4),
        };
        let defaults = PollDefaults::read(&mut poll);
        api.finish();
        poll.finish();
        (settings, defaults)
    }

    /// As Cloudflare's SDKs have it.
    fn base_url_of_environment(&self) -> Option<BaseUrl> {
        let url = BaseUrl::try_new(&(self.environment)(BASE_URL_VARIABLE)?);
        url.map_err(|error| self.report.mistake_outside(BASE_URL_VARIABLE, error.to_string())).ok()
    }

    fn read_state(&self, mut state: Section<'_>) -> Option<PathBuf> {
        let path = |text: &str| match text {
            "" => Err("it may not be empty; leave it out, and state is kept only where $STATE_DIRECTORY says so"),
            path => Ok(self.path(path)),
        };
        let directory = state.read("directory", text_as(path));
        state.finish();
        directory.or_else(|| self.first_directory("STATE_DIRECTORY"))
    }

    /// What systemd names in a variable: it separates several by colons, and the unit of this program has one.
    fn first_directory(&self, variable: &str) -> Option<PathBuf> {
        Some((self.environment)(variable)?.split(':').next()?.into())
    }

    /// A path of the file, which may be relative to its directory.
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The report of a file; its name is part of it, unless a secret was pasted for it.
    fn unusable_file(&self, path: &str, error: &dyn fmt::Display, remedy: Option<&str>) -> String {
        let (name, remedy) = if may_be_secret(path) {
            let pasted = "name a file that holds the secret, not the secret itself";
            ("the file (name not shown, it may be a secret)".to_owned(), Some(pasted))
        } else {
            (self.path(path).display().to_string(), remedy)
        };
        let remedy = remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{name} cannot be used: {error}{remedy}")
    }
}

fn read_metrics(mut metrics: Section<'_>) -> SeriesSettings {
    let status = |word: &str| {
        Status::from_label(word).ok_or_else(|| {
            let known = Status::ALL.map(Status::label);
            let rest = format!("the statuses are {}", known.join(", "));
            format!("{} is not a status; {}", quoted(word), remedy(word, known, &rest))
        })
    };
    let settings = SeriesSettings {
        statuses: metrics
            .take("statuses")
            .and_then(|entry| entry.list(text_as(status)))
            .unwrap_or_else(|| Status::ALL.into_iter().filter(|status| status.is_usable()).collect()),
        max_certificates_per_zone: metrics
            .read("max_certificates_per_zone", integer(SeriesSettings::MAX_CERTIFICATES))
            .unwrap_or(5000) as usize,
        expiring_within_days: metrics
            .take("expiring_within_days")
            .and_then(|entry| entry.list(integer(SeriesSettings::WITHIN_DAYS)))
            .unwrap_or_else(|| vec![7, 14, 30, 90]),
        forget_expired_after: metrics
            .read("forget_expired_after", duration(SeriesSettings::FORGET_AFTER))
            .unwrap_or(Duration::from_secs(90 * 86_400)),
        labels: LabelRules::default(),
    };
    metrics.finish();
    settings
}

/// Names are label values, and what they are made of should not have to be guessed.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() {
        Err("a name may not be empty")
    } else if *clean(name) != *name {
        Err("a name may hold no control, bidirectional or invisible characters, and at most 256 in all")
    } else {
        Ok(())
    }
}

#[cfg(test)]
impl Default for Listening {
    /// Where a daemon answers whose configuration says nothing of it.
    fn default() -> Self {
        listening("", Path::new("")).unwrap()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::too_many_lines, reason = "tables of cases are long")]

    use super::*;
    use crate::model::{Kind, NamePattern, ZoneFilter};

    const ZONE: &str = "[[zones]]\nid = \"023e105f4ecef8ad9ca31a8372d0c353\"\n";
    const EXAMPLE: &str = include_str!("../config.example.toml");
    /// As long as one of Cloudflare's, and made of the same characters.
    const SECRET: &str = "Zs3cretZs3cretZs3cretZs3cretZs3cretZs3cr";

    /// Loads `config.toml` in a directory of its own, which the report calls DIR.
    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        load_with_flags(text, environment, ShardFlags::default())
    }

    fn load_with_flags(text: &str, environment: &[(&str, &str)], flags: ShardFlags) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().to_str().unwrap();
        std::fs::write(directory.path().join("token"), format!("{SECRET}\n")).unwrap();
        std::fs::write(directory.path().join("empty"), "\n").unwrap();
        std::fs::write(directory.path().join("not-a-certificate.pem"), "hello").unwrap();
        std::fs::write(directory.path().join("config.toml"), text.replace("DIR", dir)).unwrap();
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.replace("DIR", dir));
        let file = ConfigFile::Named(directory.path().join("config.toml"));
        Config::load(&file, &variable, flags).map_err(|errors| errors.to_string().replace(dir, "DIR"))
    }

    fn with_token(text: &str) -> Result<Config, String> {
        load(text, &[("CLOUDFLARE_API_TOKEN", SECRET)])
    }

    fn report(text: &str) -> String {
        with_token(text).map(|_| ()).unwrap_err()
    }

    /// The whole of a configuration: secrets are redacted in it.
    fn debug(config: Result<Config, String>) -> String {
        format!("{:#?}", config.unwrap())
    }

    #[test]
    fn the_example_holds_every_default() {
        // The discovery of zones is in it, and that is the default where there are no zones.
        assert_eq!(debug(with_token(EXAMPLE)), debug(with_token("")));
    }

    #[test]
    fn the_example_holds_every_key_and_no_other() {
        // A comment is a sentence, and a sentence is no TOML.
        let keys = |line: &str| line.parse::<toml::Table>().is_ok_and(|table| !table.is_empty());
        let bare = |line: &'static str| line.strip_prefix("# ").filter(|rest| keys(rest)).unwrap_or(line);
        let lines: Vec<&str> = EXAMPLE.lines().map(bare).collect();
        let report = report(&lines.join("\n"));
        assert!(report.contains("credentials.default: it has api_token_file and api_token_env"), "{report}");
        assert!(!report.contains("unknown") && !report.contains("TOML"), "{report}");
        let found: Vec<_> =
            lines.iter().filter(|line| keys(line)).map(|line| line.split(" =").next().unwrap()).collect();
        assert_eq!(
            found.join(" "),
            "\
            [server] listen_addresses telemetry_path enable_lifecycle web_config_file probe_listen_address \
            [api] base_url timeout requests_per_5m ca_file \
            [poll] kinds interval concurrency intervals \
            [discovery] include exclude accounts interval credentials \
            [shard] ordinal total \
            [metrics] statuses max_certificates_per_zone expiring_within_days forget_expired_after \
            [state] directory \
            [credentials.default] api_token_file api_token_env api_email api_key_file api_key_env \
            [[zones]] id name credentials kinds interval \
            [[accounts]] id name credentials \
            [[labels]] match labels"
        );
    }

    #[test]
    fn rules_of_labels_are_read_strictly() {
        let rule = |text: &str| format!("{ZONE}[[labels]]\n{text}\n");
        let labels =
            with_token(&rule("match = { zone = \"*.a\", kind = \"*_ca\" }\nlabels = { owner = \"x\", Team_1 = \"\" }"));
        let labels = labels.unwrap().series.labels;
        assert_eq!(labels.names.iter().map(|name| &**name).collect::<Vec<_>>(), ["Team_1", "owner"]);
        assert_eq!(labels.rules.len(), 1);
        assert!(with_token(&rule("labels = { owner = \"everybody\" }")).is_ok());
        for (text, expected) in [
            ("match = { zone = \"*\" }", "3: labels: a rule needs labels, such as"),
            ("labels = {}", "labels.labels: it must hold at least one label"),
            ("labels = { owner = 1 }", "labels.labels.owner: it must be text in quotes"),
            ("labels = { owner = \"a\\nb\" }", "labels.labels.owner: the value of a label may hold no control"),
            ("labels = { \"a-b\" = \"x\" }", "the name of a label may hold letters, digits and underscores"),
            ("labels = { 1a = \"x\" }", "the name of a label may hold letters, digits and underscores"),
            ("labels = { __name__ = \"x\" }", "__name__ is a label of Prometheus"),
            ("labels = { instance = \"x\" }", "instance is a label of Prometheus"),
            ("labels = { zone = \"x\" }", "zone is a label of this program"),
            ("labels = { hosts = \"x\" }", "hosts is a label of this program"),
            (
                "match = { zones = \"*\" }\nlabels = { owner = \"x\" }",
                "labels.match.zones: unknown key; did you mean \"zone\"?",
            ),
            (
                "match = { kind = \"clients\" }\nlabels = { owner = \"x\" }",
                "\"clients\" matches no kind; did you mean \"client\"?",
            ),
            ("match = { zone = \"\" }\nlabels = { owner = \"x\" }", "labels.match.zone: a pattern may not be empty"),
            ("match = \"*\"\nlabels = { owner = \"x\" }", "labels.match: it must be a section"),
            ("label = { owner = \"x\" }", "labels.label: unknown key; did you mean \"labels\"?"),
        ] {
            assert!(report(&rule(text)).contains(expected), "{text}: {}", report(&rule(text)));
        }
        let many = (0..11).map(|n| format!("l{n} = \"x\"")).collect::<Vec<_>>().join(", ");
        assert!(
            report(&rule(&format!("labels = {{ {many} }}"))).contains("there are 11 names of labels; use at most 10")
        );
        assert!(report(&format!("{ZONE}[labels]\nowner = \"x\"")).contains("[[labels]] in double brackets"));
    }

    #[test]
    fn what_is_set_is_what_is_used() {
        let config = load(
            "\
[server]
listen_addresses = [\":9100\", \"[::1]:9100\"]
telemetry_path = \"/m\"
web_config_file = \"web.yml\"
probe_listen_address = \"[::1]:10200\"
[api]
base_url = \"http://127.0.0.1:8080\"
timeout = \"10m\"
requests_per_5m = 1_000_000
[poll]
interval = \"30d\"
concurrency = 0x64
[metrics]
statuses = [\"revoked\"]
max_certificates_per_zone = 0
expiring_within_days = [1, 36500]
forget_expired_after = \"0s\"
[state]
directory = \"state\"
[credentials.file]
api_token_file = \"token\"
[credentials.\"the other one\"]
api_email = \"me@example.com\"
api_key_env = \"KEY\"
[[zones]]
id = \"023E105F4ECEF8AD9CA31A8372D0C353\"
credentials = \"file\"
[[zones]]
id = \"123e105f4ecef8ad9ca31a8372d0c353\"
name = \"münchen.example\"
credentials = \"the other one\"
interval = \"1s\"
",
            &[("KEY", SECRET)],
        )
        .unwrap();
        assert_eq!(
            config.listen_addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [":9100", "[::1]:9100"]
        );
        assert_eq!(config.telemetry_path.as_str(), "/m");
        assert!(config.web_config_file.unwrap().ends_with("web.yml"));
        assert_eq!(config.probe_listen_address.unwrap().to_string(), "[::1]:10200");
        assert_eq!(config.api.base_url, BaseUrl::try_new("http://127.0.0.1:8080").unwrap());
        assert_eq!(config.api.timeout, Duration::from_secs(600));
        assert_eq!((config.api.requests_per_5m, config.api.concurrency), (1_000_000, 100));
        let series = SeriesSettings {
            statuses: vec![Status::Revoked],
            max_certificates_per_zone: 0,
            expiring_within_days: vec![1, 36_500],
            forget_expired_after: Duration::ZERO,
            labels: LabelRules::default(),
        };
        assert_eq!(config.series, series);
        assert!(config.state_directory.unwrap().ends_with("state"));
        assert_eq!(config.credentials.iter().map(|c| &**c.name()).collect::<Vec<_>>(), ["file", "the other one"]);
        let zone = |id: &str, name: Option<&str>, credential: &str, seconds| {
            let (id, name, interval) = (id.parse().unwrap(), name.map(Arc::from), Duration::from_secs(seconds));
            Arc::new(Target { kind: Kind::Client, id, name, zone: None, credential: credential.into(), interval })
        };
        let first = zone("023e105f4ecef8ad9ca31a8372d0c353", None, "file", 30 * 86_400);
        let second = zone("123e105f4ecef8ad9ca31a8372d0c353", Some("münchen.example"), "the other one", 1);
        assert_eq!(config.targets, [first, second]);
    }

    /// Every target as `kind scope-id-digit seconds`.
    fn targets(text: &str) -> Vec<String> {
        let config = with_token(text).unwrap();
        let target = |zone: &Arc<Target>| {
            format!("{} {} {}", zone.kind.label(), &zone.id.as_str()[..1], zone.interval.as_secs())
        };
        config.targets.iter().map(target).collect()
    }

    #[test]
    fn kinds_are_those_of_the_zone_or_of_the_poll_section() {
        let zone =
            |digit: char, more: &str| format!("[[zones]]\nid = \"{}\"\n{more}\n", String::from(digit).repeat(32));
        let account = format!("[[accounts]]\nid = \"{}\"\n", "a".repeat(32));
        for (text, expected) in [
            (zone('1', ""), vec!["client 1 3600"]),
            (
                format!("[poll]\nkinds = [\"edge\", \"origin_ca\", \"mtls_ca\"]\n{}{account}", zone('1', "")),
                vec!["edge 1 3600", "origin_ca 1 21600", "mtls_ca a 21600"],
            ),
            (
                format!(
                    "[poll]\nkinds = [\"edge\", \"custom\"]\ninterval = \"7h\"\n{}",
                    zone('1', "kinds = [\"client\", \"custom\"]")
                ),
                vec!["client 1 25200", "custom 1 25200"],
            ),
            (
                format!(
                    "[poll]\nkinds = [\"edge\", \"custom\"]\nintervals = {{ edge = \"90s\", custom = \"5m\" }}\n{}{}",
                    zone('1', ""),
                    zone('2', "interval = \"2s\"")
                ),
                vec!["edge 1 90", "custom 1 300", "edge 2 2", "custom 2 2"],
            ),
            (format!("[poll]\nkinds = [\"gateway_ca\"]\n{account}"), vec!["gateway_ca a 21600"]),
        ] {
            assert_eq!(targets(&text), expected, "{text}");
        }
        let all = format!("[poll]\nkinds = \"all\"\n{}{account}", zone('1', ""));
        assert_eq!(targets(&all).len(), Kind::ALL.len());
        assert_eq!(targets(&format!("[poll]\nkinds = \"all\"\n{}", zone('1', ""))).len(), 8);
    }

    #[test]
    fn kinds_that_cannot_be_listed_are_mistakes() {
        let account = format!("[[accounts]]\nid = \"{}\"\n", "a".repeat(32));
        for (text, expected) in [
            (
                "[poll]\nkinds = [\"edge\", \"egde\"]\n".to_owned() + ZONE,
                ":2: poll.kinds: \"egde\" is not a kind; did you mean \"edge\"? The kinds are client, ",
            ),
            ("[poll]\nkinds = []\n".to_owned() + ZONE, ":2: poll.kinds: it must hold at least one kind"),
            ("[poll]\nkinds = \"every\"\n".to_owned() + ZONE, ":2: poll.kinds: "),
            (
                "[poll]\nintervals = { egde = \"1h\" }\n".to_owned() + ZONE,
                ":2: poll.intervals.egde: unknown key; did you mean \"edge\"? The known keys here are client, ",
            ),
            ("[poll]\nintervals = { edge = \"0s\" }\n".to_owned() + ZONE, ":2: poll.intervals.edge: "),
            (
                ZONE.to_owned() + "kinds = [\"client\", \"mtls_ca\"]\n",
                ":3: zones.kinds: mtls_ca is listed in accounts and not in zones",
            ),
            (
                "[poll]\nkinds = [\"mtls_ca\"]\n".to_owned() + ZONE,
                ": poll.kinds: it holds no kind of the zones or accounts",
            ),
            (
                account + "interval = \"1h\"\n" + ZONE,
                ":3: accounts.interval: unknown key; the known keys here are id, name, credentials",
            ),
        ] {
            let report = report(&text);
            assert!(report.contains(expected), "{text}{report}");
            assert_eq!(report.lines().count(), 1, "{text}{report}");
        }
    }

    #[test]
    fn state_is_kept_where_the_file_or_else_systemd_says() {
        for (text, environment, expected) in [
            ("", vec![], None),
            ("", vec![("STATE_DIRECTORY", "/var/lib/x:/var/lib/y")], Some("/var/lib/x")),
            ("", vec![("STATE_DIRECTORY", "")], None),
            ("[state]\ndirectory = \"/a\"\n", vec![("STATE_DIRECTORY", "/var/lib/x")], Some("/a")),
        ] {
            let environment = [vec![("CLOUDFLARE_API_TOKEN", SECRET)], environment].concat();
            let config = load(&format!("{text}{ZONE}"), &environment).unwrap();
            assert_eq!(config.state_directory.as_deref(), expected.map(Path::new), "{text} {environment:?}");
        }
        assert!(report(&format!("[state]\ndirectory = \"\"\n{ZONE}")).contains("state.directory: it may not be empty"));
    }

    #[test]
    fn every_mistake_is_in_one_report() {
        let text = "\
top = 1
[server]
listen_addresses = [\"127.0.0.1:1\", \"9100\", \"127.0.0.1:1\"]
telemetry_path = \"/-/x\"
[api]
base_url = \"http://user:pass@example.com\"
timeout = 30
timout = \"5s\"
requests_per_5m = 0
ca_file = \"not-a-certificate.pem\"
[poll]
interval = \"0s\"
concurrency = -1
[metrics]
statuses = [
  \"active\",
  \"actve\",
  \"active\",
  1,
]
max_certificates_per_zone = 10000001
expiring_within_days = [7, 0, 7]
forget_expired_after = \"soon\"
[credentials.\"a\\nb\"]
api_token_file = \"nowhere\"
[credentials.both]
api_token_file = \"token\"
api_key_env = \"KEY\"
[credentials.env]
api_token_env = \"NOT_SET\"
[credentials.inline]
api_token = \"x\"
[credentials.key]
api_email = \"no address\"
api_key_file = \"DIR/empty\"
[[zones]]
id = \"023e105f4ecef8ad9ca31a8372d0c353\"
credentials = \"env\"
[[zones]]
id = \"023E105F4ECEF8AD9CA31A8372D0C353\"
credentials = \"none\"
[[zones]]
name = \"\"
interval = \"31d\"
[[zones]]
id = \"example.com\"
name = \"evil\\u202e\"
credentials = false
plan = \"free\"
[[state]]
";
        let expected = r#"
DIR/config.toml:1: top: unknown section; the known sections here are server, api, poll, discovery, shard, metrics, state, credentials, zones, accounts, labels
DIR/config.toml:3: server.listen_addresses: "9100" cannot be used: an address to listen on is HOST:PORT, [IPV6]:PORT, or :PORT for all interfaces
DIR/config.toml:3: server.listen_addresses: "127.0.0.1:1" is in the list twice; remove one
DIR/config.toml:4: server.telemetry_path: "/-/x" cannot be used: a telemetry path begins with a slash, holds letters, digits, `/`, `.`, `-` and `_`, and is not below /-/
DIR/config.toml:6: api.base_url: it must begin with https:// (http:// is for a loopback address alone, since a token travels with each request)
DIR/config.toml:7: api.timeout: it must be a number with its unit in quotes, such as "90s", "15m", "1h" or "7d", not an integer
DIR/config.toml:8: api.timout: unknown key; did you mean "timeout"? The known keys here are base_url, timeout, requests_per_5m, ca_file
DIR/config.toml:9: api.requests_per_5m: 0 is outside 1 to 1000000
DIR/config.toml:10: api.ca_file: DIR/not-a-certificate.pem cannot be used: it holds no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----; name a PEM file of certificate authorities that this user can read
DIR/config.toml:12: poll.interval: "0s" is outside 1s to 30d
DIR/config.toml:13: poll.concurrency: -1 is outside 1 to 100
DIR/config.toml:17: metrics.statuses: "actve" is not a status; did you mean "active"? The statuses are active, pending_reactivation, pending_revocation, revoked, initializing, pending, pending_validation, pending_issuance, pending_deployment, pending_deletion, pending_expiration, pending_cleanup, expired, deleted, initializing_timed_out, validation_timed_out, issuance_timed_out, deployment_timed_out, deletion_timed_out, staging_deployment, staging_active, deactivating, inactive, backup_issued, holding_deployment, available, unknown
DIR/config.toml:18: metrics.statuses: "active" is in the list twice; remove one
DIR/config.toml:19: metrics.statuses: it must be text in quotes, not an integer
DIR/config.toml:21: metrics.max_certificates_per_zone: 10000001 is outside 0 to 10000000
DIR/config.toml:22: metrics.expiring_within_days: 0 is outside 1 to 36500
DIR/config.toml:22: metrics.expiring_within_days: 7 is in the list twice; remove one
DIR/config.toml:23: metrics.forget_expired_after: "soon" is not a duration; it must be a number with its unit in quotes, such as "90s", "15m", "1h" or "7d"
DIR/config.toml:24: credentials.(not shown): a name may hold no control, bidirectional or invisible characters, and at most 256 in all
DIR/config.toml:25: credentials.(not shown).api_token_file: DIR/nowhere cannot be used: No such file or directory (os error 2); create it with the bare secret in it, or name another file
DIR/config.toml:26: credentials.both: it has api_token_file and api_key_env, but needs exactly one of these: api_token_file, api_token_env, api_email with api_key_file, or api_email with api_key_env
DIR/config.toml:30: credentials.env.api_token_env: the environment variable that it names is not set or is empty; set it where this program is started
DIR/config.toml:31: credentials.inline: it has no known key, but needs exactly one of these: api_token_file, api_token_env, api_email with api_key_file, or api_email with api_key_env
DIR/config.toml:32: credentials.inline.api_token: unknown key (a secret is never a value in this file: use api_token_file or api_token_env); the known keys here are api_token_file, api_token_env, api_email, api_key_file, api_key_env
DIR/config.toml:34: credentials.key.api_email: the e-mail address is empty or holds a character that no address has
DIR/config.toml:35: credentials.key.api_key_file: DIR/empty cannot be used: it is empty; write the bare secret into it
DIR/config.toml:40: zones.id: 023e105f4ecef8ad9ca31a8372d0c353 is there already, in line 37; remove one of the two
DIR/config.toml:41: zones.credentials: there is no section [credentials.none]; set credentials = "..." to one of (not shown), both, env, inline, key
DIR/config.toml:42: zones: a zone needs its id, id = "..."; copy it from the zone's overview page in the dashboard
DIR/config.toml:42: zones: there is no section [credentials.default]; set credentials = "..." to one of (not shown), both, env, inline, key
DIR/config.toml:43: zones.name: a name may not be empty
DIR/config.toml:44: zones.interval: "31d" is outside 1s to 30d
DIR/config.toml:46: zones.id: "example.com" is not a zone id, which has 32 hexadecimal digits; copy it from the zone's overview page in the dashboard
DIR/config.toml:47: zones.name: a name may hold no control, bidirectional or invisible characters, and at most 256 in all
DIR/config.toml:48: zones.credentials: it must be text in quotes, not a boolean
DIR/config.toml:49: zones.plan: unknown key; the known keys here are id, name, credentials, kinds, interval
DIR/config.toml:50: state: it must be a section, [state], not an array
37 mistakes in DIR/config.toml"#;
        assert_eq!(report(text), expected.trim_start());
    }

    #[test]
    fn the_base_url_of_the_environment_beats_that_of_the_file() {
        let token = ("CLOUDFLARE_API_TOKEN", SECRET);
        let of_file = format!("[api]\nbase_url = \"https://file.example/v4\"\n{ZONE}");
        for (text, variable, expected) in [
            (ZONE, "https://variable.example/v4", "https://variable.example/v4"),
            (&of_file, "http://127.0.0.1:8080/v4/", "http://127.0.0.1:8080/v4/"),
            (&of_file, "", "https://file.example/v4"),
            (ZONE, "", "https://api.cloudflare.com/client/v4"),
        ] {
            let config = load(text, &[token, (BASE_URL_VARIABLE, variable)]).unwrap();
            assert_eq!(config.api.base_url, BaseUrl::try_new(expected).unwrap(), "{text} {variable}");
        }
        for (wrong, why) in [
            (
                "http://api.example",
                "it must begin with https:// (http:// is for a loopback address alone, since a token travels with each request)",
            ),
            ("https://user:password@api.example/v4", "it must hold nothing but scheme, host, port and path"),
            (" ", "it is not a URL: relative URL without a base"),
            (SECRET, "it is not a URL: relative URL without a base"),
        ] {
            let report = load(ZONE, &[token, (BASE_URL_VARIABLE, wrong)]).unwrap_err();
            assert_eq!(report, format!("CLOUDFLARE_BASE_URL: {why}"));
        }
        // Each where it is.
        let report = load(&of_file.replace("https", "ftp"), &[token, (BASE_URL_VARIABLE, "x")]).unwrap_err();
        assert!(report.contains("CLOUDFLARE_BASE_URL: it is not a URL"), "{report}");
        assert!(report.contains("DIR/config.toml:2: api.base_url: it must begin with https://"), "{report}");
        assert!(report.ends_with("\n2 mistakes in all"), "{report}");
    }

    #[test]
    fn one_mistake_is_one_line() {
        for (text, expected) in [
            ("server = 1", ":1: server: it must be a section, [server], not an integer"),
            (
                "server.listen_addresses = []",
                r#":1: server.listen_addresses: it must hold at least one address, such as "127.0.0.1:10199""#,
            ),
            (
                "server.listen_addresses = ':1'",
                ":1: server.listen_addresses: it must be a list in square brackets, not a string",
            ),
            ("[api]\nbase_url = 'example'", ":2: api.base_url: it is not a URL: relative URL without a base"),
            (
                "[api]\nca_file = 'nowhere.pem'",
                ":2: api.ca_file: DIR/nowhere.pem cannot be used: No such file or directory (os error 2); name a PEM file of certificate authorities that this user can read",
            ),
            (
                "[poll]\nconcurrency = 99999999999999999999",
                ":2: poll.concurrency: 99999999999999999999 is outside 1 to 100",
            ),
            (
                "[poll]\ninterval = '60'",
                r#":2: poll.interval: "60" is not a duration; it must be a number with its unit in quotes, such as "90s", "15m", "1h" or "7d""#,
            ),
            (
                "[poll]\ninterval = '18446744073709551615s1000ms'",
                r#":2: poll.interval: "18446744073709551615s1000ms" is not a duration; it must be a number with its unit in quotes, such as "90s", "15m", "1h" or "7d""#,
            ),
            (
                "[metrics]\nforget_expired_after = '36501d'",
                r#":2: metrics.forget_expired_after: "36501d" is outside 0s to 36500d"#,
            ),
            (
                "[credentials]\napi_token_file = 'token'",
                ":2: credentials.api_token_file: a credential must be a section with a name, such as [credentials.default] (a secret is never a value in this file: use api_token_file or api_token_env), not a string",
            ),
            (
                "[credentials.default]\napi_email = 'me@example.com'",
                ":1: credentials.default: it has api_email, but needs exactly one of these: api_token_file, api_token_env, api_email with api_key_file, or api_email with api_key_env",
            ),
            (
                "[credentials.default]\napi_token_file = 'token'\napi_token_env = 'TOKEN'",
                ":1: credentials.default: it has api_token_file and api_token_env, but needs exactly one of these: api_token_file, api_token_env, api_email with api_key_file, or api_email with api_key_env",
            ),
            (
                "[credentials.default]\napi_token_env = 'BLANK'",
                ":2: credentials.default.api_token_env: the value of the environment variable that it names cannot be used: it holds a blank, a line break or another character that no token has; it must be the bare secret, without `Bearer` or quotes",
            ),
            (
                "[credentials.default]\napi_token_file = '.'",
                ":2: credentials.default.api_token_file: DIR/. cannot be used: it is not a regular file but a directory; name a file that holds the bare secret",
            ),
            // Syntax.
            (
                "[poll]\ninterval = 1h",
                ":2: this is not valid TOML: string values must be quoted, expected literal string",
            ),
            ("[poll]\n[poll]", ":2: this is not valid TOML: duplicate key"),
            (
                "[credentials.default]\napi_token = abc",
                ":2: this is not valid TOML: string values must be quoted, expected literal string",
            ),
        ] {
            let report = load(&format!("{text}\n{ZONE}"), &[("CLOUDFLARE_API_TOKEN", SECRET), ("BLANK", "a b")]);
            assert_eq!(report.map(|_| ()).unwrap_err(), format!("DIR/config.toml{expected}"), "{text}");
        }
    }

    #[test]
    fn every_mistake_in_the_syntax_is_reported_and_no_meaning_is_guessed() {
        let text = "[poll]\ninterval = 1s\nconcurrency = 0\nconcurrency = 1\n[api\ntimeout = \"1ms\"\n[[zones]]\nid\n[credentials.default]\n";
        let expected = "\
DIR/config.toml:2: this is not valid TOML: string values must be quoted, expected literal string
DIR/config.toml:4: this is not valid TOML: duplicate key
DIR/config.toml:5: this is not valid TOML: unclosed table, expected `]`
DIR/config.toml:8: this is not valid TOML: key with no value, expected `=`
4 mistakes in DIR/config.toml";
        assert_eq!(report(text), expected);
    }

    #[test]
    fn a_zone_is_a_section_of_its_own() {
        let rule = "each zone must be a section of its own, [[zones]] in double brackets, not";
        assert_eq!(report("[zones]"), format!("DIR/config.toml:1: zones: {rule} a table"));
        assert_eq!(report("zones = [\n'x']"), format!("DIR/config.toml:2: zones: {rule} a string"));
    }

    #[test]
    fn zones_are_discovered_where_none_is_configured_or_a_section_asks_for_it() {
        let account = format!("[[accounts]]\nid = \"{}\"\n", "a".repeat(32));
        for (text, expected) in [
            (String::new(), true),
            ("zones = []\n".to_owned(), true),
            (account.clone(), true),
            ("[poll]\nkinds = [\"mtls_ca\"]\n".to_owned(), true),
            (ZONE.to_owned(), false),
            (ZONE.to_owned() + &account, false),
            ("[discovery]\n".to_owned() + ZONE, true),
        ] {
            let config = with_token(&text).unwrap();
            assert_eq!(config.discovery.is_some(), expected, "{text}");
            let Some(DiscoverySettings { filter, interval, credentials }) = config.discovery else { continue };
            let every = ZoneFilter { include: vec![pattern("*")], exclude: Vec::new(), accounts: Vec::new() };
            assert_eq!((filter, interval.as_secs(), &*credentials), (every, 3600, &[Arc::from("default")][..]));
        }
    }

    fn pattern(text: &str) -> NamePattern {
        NamePattern::new(text).unwrap()
    }

    const TWO_CREDENTIALS: &str =
        "[credentials.prod]\napi_token_file = \"token\"\n[credentials.test]\napi_token_file = \"token\"\n";

    #[test]
    fn a_discovery_is_as_its_section_says() {
        let text = format!(
            "[discovery]\ninclude = [\"*.Example\", \"one.test\"]\nexclude = [\"dev-*\"]\n\
             accounts = [\"Example Ltd\", \"11cbe197c050c9e422aaa103cfe30ed8\"]\ninterval = \"30d\"\n\
             credentials = [\"test\", \"prod\"]\n{TWO_CREDENTIALS}"
        );
        let filter = ZoneFilter {
            include: vec![pattern("*.Example"), pattern("one.test")],
            exclude: vec![pattern("dev-*")],
            accounts: vec!["Example Ltd".into(), "11cbe197c050c9e422aaa103cfe30ed8".into()],
        };
        let credentials = vec!["test".into(), "prod".into()];
        let expected = DiscoverySettings { filter, interval: Duration::from_secs(30 * 86_400), credentials };
        assert_eq!(with_token(&text).unwrap().discovery, Some(expected));
    }

    #[test]
    fn zones_are_discovered_with_the_usual_credential_or_the_only_one() {
        let section = |name: &str| format!("[credentials.{name}]\napi_token_file = \"token\"\n");
        for discovery in ["", "[discovery]\n"] {
            let line = if discovery.is_empty() { "" } else { "1:" };
            for (names, expected) in [
                (&[][..], Ok("default")),
                (&["prod"], Ok("prod")),
                (&["default", "prod"], Ok("default")),
                (
                    &["prod", "test"],
                    Err("there is no section [credentials.default]; set discovery.credentials to some of prod, test"),
                ),
            ] {
                let credentials: String = names.iter().map(|name| section(name)).collect();
                let found = with_token(&format!("{discovery}{credentials}"));
                match (found, expected) {
                    (Ok(config), Ok(name)) => {
                        assert_eq!(config.discovery.unwrap().credentials, [Arc::from(name)], "{names:?}");
                    }
                    (found, expected) => {
                        let expected =
                            expected.map(|_| ()).map_err(|text| format!("DIR/config.toml:{line} discovery: {text}"));
                        assert_eq!(found.map(|_| ()), expected, "{names:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_mistake_in_a_discovery_is_one_line() {
        for (text, expected) in [
            ("include = []", "include: it must hold at least one pattern, such as \"*\""),
            ("include = \"*\"", "include: it must be a list in square brackets, not a string"),
            ("include = [1]", "include: it must be text in quotes, not an integer"),
            ("include = [\"*\", \"*\"]", "include: \"*\" is in the list twice; remove one"),
            ("exclude = [\"\"]", "exclude: a pattern may not be empty; \"*\" matches every name"),
            (
                "exclude = [\"a\\n\"]",
                "exclude: a pattern may hold no control, bidirectional or invisible characters, and at most 256 in all",
            ),
            ("accounts = [\" \"]", "accounts: a name may not be empty"),
            ("accounts = [false]", "accounts: it must be text in quotes, not a boolean"),
            ("interval = \"31d\"", "interval: \"31d\" is outside 1s to 30d"),
            ("credentials = []", "credentials: it must hold at least one name, such as \"default\""),
            ("credentials = \"prod\"", "credentials: it must be a list in square brackets, not a string"),
            ("credentials = [\"prod\", \"prod\"]", "credentials: \"prod\" is in the list twice; remove one"),
            (
                "credentials = [\"prd\"]",
                "credentials: there is no section [credentials.prd]; did you mean \"prod\"? \
                 Set discovery.credentials to some of prod, test",
            ),
            (
                "credentials = [\"staging\"]",
                "credentials: there is no section [credentials.staging]; set discovery.credentials to some of prod, test",
            ),
            (
                "credentials = [\"SECRET\"]",
                "credentials: there is no section [credentials.(not shown)]; set discovery.credentials to some of prod, test",
            ),
            (
                "includes = [\"*\"]",
                "includes: unknown key; did you mean \"include\"? \
                 The known keys here are include, exclude, accounts, interval, credentials",
            ),
        ] {
            let usual = if text.starts_with("credentials") { "" } else { "credentials = [\"prod\"]\n" };
            let document = format!("[discovery]\n{}\n{usual}{TWO_CREDENTIALS}", text.replace("SECRET", SECRET));
            assert_eq!(report(&document), format!("DIR/config.toml:2: discovery.{expected}"), "{text}");
        }
        let expected = "DIR/config.toml:1: discovery: it must be a section, [discovery], not a boolean";
        assert_eq!(report("discovery = true"), expected);
    }

    #[test]
    fn a_shard_is_as_the_flags_or_else_the_file_say() {
        let token = [("CLOUDFLARE_API_TOKEN", SECRET)];
        for (text, ordinal, total, expected) in [
            ("", None, None, Ok((0, 1, 600))),
            ("[shard]\nordinal = 2\ntotal = 3", None, None, Ok((2, 3, 200))),
            ("[shard]\nordinal = 2\ntotal = 3", Some(0), None, Ok((0, 3, 200))),
            ("[shard]\nordinal = 2\ntotal = 3", None, Some(7), Ok((2, 7, 85))),
            ("[shard]\nordinal = 9\ntotal = 3", Some(1), None, Ok((1, 3, 200))),
            ("[shard]\ntotal = 1000", Some(999), None, Ok((999, 1000, 1))),
            ("", Some(1), Some(2), Ok((1, 2, 300))),
            (
                "[shard]\nordinal = 3\ntotal = 3",
                None,
                None,
                Err("DIR/config.toml:2: shard.ordinal: 3 is not below the number of shards, 3; ordinals begin with 0"),
            ),
            (
                "[shard]\nordinal = 1",
                None,
                None,
                Err("DIR/config.toml:2: shard.ordinal: 1 is not below the number of shards, 1; ordinals begin with 0"),
            ),
            (
                "[shard]\nordinal = 2\ntotal = 3",
                None,
                Some(2),
                Err("DIR/config.toml:2: shard.ordinal: 2 is not below the number of shards, 2; ordinals begin with 0"),
            ),
            (
                "[shard]\ntotal = 3",
                Some(3),
                None,
                Err("--shard: 3 is not below the number of shards, 3; ordinals begin with 0"),
            ),
            ("", Some(1), None, Err("--shard: 1 is not below the number of shards, 1; ordinals begin with 0")),
            ("[shard]\ntotal = 0", None, None, Err("DIR/config.toml:2: shard.total: 0 is outside 1 to 1000")),
            (
                "[shard]\nordinal = 5\ntotal = 1001",
                None,
                None,
                Err("DIR/config.toml:3: shard.total: 1001 is outside 1 to 1000"),
            ),
            ("[shard]\nordinal = 1000", None, None, Err("DIR/config.toml:2: shard.ordinal: 1000 is outside 0 to 999")),
            ("[shard]\nordinal = -1", None, None, Err("DIR/config.toml:2: shard.ordinal: -1 is outside 0 to 999")),
            (
                "[shard]\nindex = 1",
                None,
                None,
                Err("DIR/config.toml:2: shard.index: unknown key; the known keys here are ordinal, total"),
            ),
        ] {
            let config = load_with_flags(text, &token, ShardFlags { ordinal, total });
            let found = config.map(|config| (config.shard.ordinal, config.shard.total, config.api.requests_per_5m));
            assert_eq!(found, expected.map_err(str::to_owned), "{text} {ordinal:?} {total:?}");
        }
        // Never nothing, and the whole is known too.
        let config = with_token("[api]\nrequests_per_5m = 10\n[shard]\ntotal = 1000").unwrap();
        assert_eq!((config.api.requests_per_5m, config.requests_per_5m), (1, 10));
    }

    #[test]
    fn without_a_file_every_setting_has_its_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let (named, default) = (ConfigFile::Named(path.clone()), ConfigFile::Default(path.clone()));
        let token = |name: &str| (name == "CLOUDFLARE_API_TOKEN").then(|| SECRET.to_owned());
        let load = |file: &ConfigFile, flags| Config::load(file, &token, flags).map_err(|error| error.to_string());
        let flags = ShardFlags::default();
        assert!(default.is_absent() && !named.is_absent());
        assert_eq!(debug(load(&default, flags)), debug(with_token("")));
        assert!(Config::load_listening(&default).unwrap().is_tls == Ok(false));
        assert!(load(&named, flags).unwrap_err().contains("the configuration cannot be read: No such file"));
        // There is no line in which a mistake could be.
        let report = Config::load(&default, &|_| None, flags).unwrap_err().to_string();
        let expected = "there is no API token; set CLOUDFLARE_API_TOKEN, or set api_token_file in a section [credentials.default] of ";
        assert!(report.starts_with(&format!("{expected}{}. Create", path.display())), "{report}");
        let report = load(&default, ShardFlags { ordinal: Some(1), total: None }).unwrap_err();
        assert_eq!(report, "--shard: 1 is not below the number of shards, 1; ordinals begin with 0");
        let both = Config::load(&default, &|_| None, ShardFlags { ordinal: Some(1), total: None }).unwrap_err();
        assert!(both.to_string().ends_with("\n2 mistakes in all"), "{both}");
        // What is there has to be good, wherever it is.
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(load(&default, flags).unwrap_err().contains("the configuration cannot be read: No such file"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(load(&default, flags).unwrap_err().contains("it is not a regular file but a directory"));
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "[poll]\nconcurrency = 7\n").unwrap();
        assert_eq!(load(&default, flags).unwrap().api.concurrency, 7);
        std::fs::write(&path, "[pol]\n").unwrap();
        assert!(load(&default, flags).unwrap_err().starts_with(&format!("{}:1: pol: unknown section", path.display())));
    }

    #[test]
    fn without_credentials_the_environment_is_asked() {
        const TOKEN: (&str, &str) = ("CLOUDFLARE_API_TOKEN", SECRET);
        const EMAIL: (&str, &str) = ("CLOUDFLARE_EMAIL", "me@example.com");
        const KEY: (&str, &str) = ("CLOUDFLARE_API_KEY", "0123456789abcdef");
        let headers = |environment: &[(&str, &str)], file: Option<&str>| {
            let directory = tempfile::tempdir().unwrap();
            if let Some(content) = file {
                std::fs::write(directory.path().join("cloudflare-api-token"), content).unwrap();
            }
            let mut environment = environment.to_vec();
            environment.push(("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap()));
            let config = load(ZONE, &environment)
                .map_err(|errors| errors.replace(directory.path().to_str().unwrap(), "CREDENTIALS"))?;
            let headers = config.credentials[0].headers();
            Ok::<_, String>(
                headers.values().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" "),
            )
        };
        let bearer = format!("Bearer {SECRET}");
        for (environment, file, expected) in [
            (&[TOKEN, EMAIL, KEY][..], Some("file\n"), "Bearer file"),
            (&[TOKEN, EMAIL, KEY], None, &bearer),
            (&[TOKEN, EMAIL], None, &bearer),
            (&[("CLOUDFLARE_API_TOKEN", ""), EMAIL, KEY], None, "me@example.com 0123456789abcdef"),
        ] {
            assert_eq!(headers(environment, file).as_deref(), Ok(expected), "{environment:?} {file:?}");
        }
        let none = "there is no API token; set CLOUDFLARE_API_TOKEN, or set api_token_file in a section \
            [credentials.default] of DIR/config.toml. Create the token in the dashboard under My Profile > API Tokens, \
            with the permission SSL and Certificates: Read, and Zone: Read to find zones";
        let other = "set both, or CLOUDFLARE_API_TOKEN in their place";
        for (environment, file, expected) in [
            (&[][..], None, none.to_owned()),
            (&[EMAIL], None, format!("CLOUDFLARE_EMAIL is set without CLOUDFLARE_API_KEY; {other}")),
            (&[KEY], None, format!("CLOUDFLARE_API_KEY is set without CLOUDFLARE_EMAIL; {other}")),
            (&[("CLOUDFLARE_API_TOKEN", " ")], None, "CLOUDFLARE_API_TOKEN cannot be used: it is empty".to_owned()),
            (&[TOKEN], Some(""), "CREDENTIALS/cloudflare-api-token cannot be used: it is empty".to_owned()),
        ] {
            let expected = format!("DIR/config.toml: credentials: {expected}");
            assert_eq!(headers(environment, file), Err(expected), "{environment:?} {file:?}");
        }
    }

    #[test]
    fn the_daemon_is_asked_over_tls_where_its_web_configuration_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let (file, web) = (directory.path().join("config.toml"), directory.path().join("web.yml"));
        std::fs::write(&file, "[server]\nweb_config_file = \"web.yml\"\n").unwrap();
        let is_tls = || Config::load_listening(&ConfigFile::Named(file.clone())).unwrap().is_tls;
        for (text, expected) in [
            ("", false),
            ("tls_server_config:\n", false),
            ("tls_server_config:\n  cert_file: \"\"\n  min_version: TLS13\n", false),
            ("basic_auth_users: {alice: x}\n# tls_server_config:\n", false),
            ("tls_server_config:\n  cert_file: a\n", true),
            ("\"tls_server_config\":\n    key: a\n", true),
            ("{tls_server_config: {client_auth_type: RequireAnyClientCert}}", true),
            ("basic_auth_users: {alice: x}\ntls_server_config: {client_ca: a, min_version: none}", true),
        ] {
            std::fs::write(&web, text).unwrap();
            assert_eq!(is_tls(), Ok(expected), "{text}");
        }
        std::fs::write(&web, "[").unwrap();
        assert!(is_tls().unwrap_err().to_string().contains("web.yml:1: yaml: this is not valid YAML"));
        std::fs::remove_file(&web).unwrap();
        assert!(
            is_tls().unwrap_err().to_string().contains("web.yml: the web configuration cannot be read: no such file")
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        let another = "name another with --config.file FILE or CLOUDFLARE_CERT_EXPORTER_CONFIG_FILE";
        for (content, expected) in [
            (
                None,
                format!(
                    ": the configuration cannot be read: No such file or directory (os error 2); create it, or {another}"
                ),
            ),
            (
                Some(b"a = 1\nb = \"\xff\"".to_vec()),
                ":2: the configuration is not UTF-8 text; save it as UTF-8".to_owned(),
            ),
            (
                Some(vec![b'#'; 10 * 1024 * 1024 + 1]),
                format!(
                    ": the configuration cannot be read: it is larger than 10 MiB, so it is some other file; {another}"
                ),
            ),
        ] {
            if let Some(content) = content {
                std::fs::write(&file, content).unwrap();
            }
            let errors = Config::load(&ConfigFile::Named(file.clone()), &|_| None, ShardFlags::default()).unwrap_err();
            assert_eq!(errors.to_string(), format!("{}{expected}", file.display()));
        }
    }

    #[test]
    fn a_mistyped_word_is_named_with_the_one_that_was_meant() {
        let credentials =
            "[credentials.prod]\napi_token_file = \"token\"\n[credentials.test]\napi_token_file = \"token\"\n";
        let own = |credential: &str| format!("{credentials}{ZONE}credentials = {credential:?}\n");
        for (text, expected) in [
            (
                ZONE.to_owned() + "nme = \"example.com\"\n",
                ":3: zones.nme: unknown key; did you mean \"name\"? The known keys here are id, name, credentials, kinds, interval",
            ),
            (
                ZONE.to_owned() + "[metric]\n",
                ":3: metric: unknown section; did you mean \"metrics\"? The known sections here are server, ",
            ),
            (
                ZONE.to_owned() + "kinds = [\"origin-ca\"]\n",
                ":3: zones.kinds: \"origin-ca\" is not a kind; did you mean \"origin_ca\"? The kinds are client, ",
            ),
            (
                "[metrics]\nstatuses = [\"Active\"]\n".to_owned() + ZONE,
                ":2: metrics.statuses: \"Active\" is not a status; did you mean \"active\"? The statuses are active, ",
            ),
            (
                own("prd"),
                ":7: zones.credentials: there is no section [credentials.prd]; did you mean \"prod\"? Set credentials = \"...\" to one of prod, test",
            ),
            (
                own("staging"),
                ":7: zones.credentials: there is no section [credentials.staging]; set credentials = \"...\" to one of prod, test",
            ),
            (
                ZONE.to_owned() + "plan = \"free\"\n",
                ":3: zones.plan: unknown key; the known keys here are id, name, credentials, kinds, interval",
            ),
            // Neither a secret nor a name that could be one is suggested.
            (own(SECRET), ":7: zones.credentials: there is no section [credentials.(not shown)]; set credentials = "),
            (
                own("prod").replace("prod]", &format!("{SECRET}]")),
                ":7: zones.credentials: there is no section [credentials.prod]; set credentials = \"...\" to one of (not shown), test",
            ),
            (
                own(&SECRET[1..]).replace("prod]", &format!("{SECRET}]")),
                ":7: zones.credentials: there is no section [credentials.(not shown)]; set credentials = \"...\" to one of (not shown), test",
            ),
        ] {
            let report = report(&text);
            assert!(report.starts_with(&format!("DIR/config.toml{expected}")), "{text}{report}");
            assert_eq!(report.lines().count(), 1, "{text}{report}");
        }
        // A value in place of the name of its file is no slip.
        let report = report(&format!("[credentials.default]\napi_token = \"x\"\napi_token_fiel = \"token\"\n{ZONE}"));
        assert!(report.contains("api_token: unknown key (a secret is never a value in this file"), "{report}");
        assert!(report.contains("api_token_fiel: unknown key; did you mean \"api_token_file\"? The"), "{report}");
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_never_repeated() {
        for text in [
            "SECRET",
            "SECRET = 1",
            "a = SECRET",
            "[SECRET",
            "[SECRET]\na = 1",
            "[server]\nlisten_addresses = [\"SECRET\", \"SECRET\"]\ntelemetry_path = \"SECRET\"\nweb_config_file = \"SECRET\"\nprobe_listen_address = \"SECRET\"",
            "[api]\nbase_url = \"https://x:SECRET@example.com\"\ntimeout = \"SECRET\"\nca_file = \"SECRET\"\nSECRET = 1",
            "[discovery]\ninclude = [\"SECRET\", \"SECRET\"]\naccounts = [\"SECRET\\n\"]\ninterval = \"SECRET\"",
            "[discovery]\nexclude = [\"SECRET\\n\"]\ncredentials = [\"SECRET\", \"SECRET\"]\nSECRET = 1",
            "[shard]\nordinal = \"SECRET\"\ntotal = SECRET",
            "[metrics]\nstatuses = [\"SECRET\"]",
            "[credentials]\ndefault = \"SECRET\"",
            "[credentials.SECRET]\nSECRET = \"SECRET\"",
            "[credentials.default]\nSECRET",
            "[credentials.default]\napi_token: SECRET",
            "[credentials.default]\napi_token = SECRET",
            "[credentials.default]\napi_token = \"SECRET",
            "[credentials.default]\napi_token = \"\"\"SECRET\n",
            "[credentials.default]\napi_token = \"SECRET\"",
            "[credentials.default]\napi_token_file = \"SECRET\"",
            "[credentials.default]\napi_token_env = \"SECRET\"",
            "[credentials.default]\napi_email = \"SECRET \"\napi_key_env = \"SECRET\"",
            "[poll]\ninterval = \"\"\"1h\n[credentials.default]\napi_token = \"SECRET\"",
            "[[zones]]\nid = \"SECRET\"\nname = \"SECRET\\n\"\ncredentials = \"SECRET\"\ninterval = \"SECRET\"",
        ] {
            let report = report(&text.replace("SECRET", SECRET));
            assert!(!report.contains("s3cret"), "{text}\n{report}");
        }
        let config = with_token(ZONE).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    }
}
