//! The commands: arguments, logging, signals and exit codes.
//!
//! What the commands do is elsewhere; one file for each that has more to do than to call it.

mod check;
mod check_config;
mod completions;
mod daemon;
mod daemon_client;
mod healthcheck;
mod help;
mod list;
mod logging;
mod sweep;
mod zones;

use std::{
    ffi::OsString,
    fmt,
    io::{self, BufWriter, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use clap::{
    Args, CommandFactory as _, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use exporter_toolkit::WebConfig;
use tracing::level_filters::LevelFilter;

use crate::{
    config::{Config, ConfigErrors, ConfigFile, Listening, ShardFlags},
    model::{Shard, usable_time},
    runtime_file,
    server::{ListenAddress, TelemetryPath},
    systemd,
};
use logging::Log;

/// A failure at run time.
const FAILED: u8 = 1;
/// Wrong usage; clap uses the same.
const USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits: systemd can be set not to restart on it.
const UNUSABLE_CONFIG: u8 = 78;

/// Why a command came to nothing, and its exit code.
#[derive(Debug)]
struct CommandError {
    code: u8,
    text: String,
}

impl CommandError {
    fn failed(error: impl fmt::Display) -> Self {
        Self { code: FAILED, text: error.to_string() }
    }

    fn usage(text: impl Into<String>) -> Self {
        Self { code: USAGE, text: text.into() }
    }
}

impl From<ConfigErrors> for CommandError {
    fn from(errors: ConfigErrors) -> Self {
        Self { code: UNUSABLE_CONFIG, text: errors.to_string() }
    }
}

const CONFIG_FILE_VARIABLE: &str = "CLOUDFLARE_CERT_EXPORTER_CONFIG_FILE";
const DEFAULT_CONFIG_FILE: &str = "/etc/cloudflare-cert-exporter/config.toml";
/// The runtime directory of the unit for systemd, which has the default configuration.
const RUNTIME_DIRECTORY: &str = "/run/cloudflare-cert-exporter";

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision: ",
    env!("BUILD_REVISION"),
    ")\n  rust version: ",
    env!("BUILD_RUSTC")
);

/// Prometheus exporter for the expiry of certificates at Cloudflare: API Shield (mTLS) and ten other kinds.
///
/// Without a command it runs the daemon: it lists the certificates of every zone that its token sees, or
/// that its configuration names, on a schedule and serves their expiry and their counts by status on /metrics.
#[derive(Debug, Parser)]
#[command(name = "cloudflare-cert-exporter", version = VERSION, after_help = help::PROGRAM)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    web: WebFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (as without any command).
    #[command(after_help = help::RUN)]
    Run(WebFlags),
    /// Read everything that the daemon would read, report every mistake at once, and show what it will cost.
    #[command(after_help = help::CHECK_CONFIG)]
    CheckConfig(WebFlags),
    /// Show which zones the credentials can see, and whether they are watched.
    #[command(after_help = help::ZONES)]
    Zones(zones::ZonesOptions),
    /// List the certificates of all zones once, and print them.
    #[command(after_help = help::LIST)]
    List(list::ListOptions),
    /// Tell monitoring (Nagios, Icinga, cron) whether a certificate expires soon, by asking the running daemon.
    #[command(after_help = help::CHECK)]
    Check(Box<check::CheckOptions>),
    /// Tell whether the running daemon lives, by its exit code.
    #[command(after_help = help::HEALTHCHECK)]
    Healthcheck(healthcheck::HealthcheckOptions),
    /// Run the daemon on a simulated Cloudflare API, to try everything without an account.
    #[command(after_help = help::DEMO)]
    Demo(daemon::DemoOptions),
    /// Print the completions of a shell (for packagers).
    #[command(after_help = help::COMPLETIONS)]
    Completions(completions::CompletionsOptions),
    /// Print the manual page (for packagers).
    #[command(after_help = help::MAN)]
    Man(completions::ManOptions),
}

/// Options of every command.
#[expect(clippy::doc_markdown, reason = "this is help for a terminal")]
#[derive(Debug, Args)]
struct CommonFlags {
    /// Configuration file [default: what the variable CLOUDFLARE_CERT_EXPORTER_CONFIG_FILE names, else
    /// /etc/cloudflare-cert-exporter/config.toml, and no file where that does not exist].
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,
    /// Which shard this process is, counted from 0, for commands that poll Cloudflare
    /// [default: shard.ordinal of the configuration, else 0].
    #[arg(long = "shard", value_name = "N", global = true)]
    shard: Option<u32>,
    /// How many shards share the zones and the request budget
    /// [default: shard.total of the configuration, else 1].
    #[arg(long, value_name = "N", global = true, value_parser = shards())]
    total_shards: Option<u32>,
    /// Least severe messages that are logged [default: info for the daemon, warn for other commands].
    #[arg(long = "log.level", value_name = "LEVEL", global = true, value_parser = log_levels())]
    log_level: Option<LevelFilter>,
    /// How messages are written to stderr.
    #[arg(long = "log.format", value_name = "FORMAT", global = true, default_value = "logfmt")]
    log_format: LogFormat,
}

/// Where the daemon listens; for commands that ask it, as it was started.
#[expect(clippy::doc_markdown, reason = "this is help for a terminal")]
#[derive(Debug, Clone, Args, Default, PartialEq, Eq)]
struct AddressFlags {
    /// Address on which the daemon listens, HOST:PORT, or :PORT for all interfaces; can be repeated
    /// [default: server.listen_addresses of the configuration, else 127.0.0.1:10199].
    #[arg(long = "web.listen-address", value_name = "ADDR")]
    listen_addresses: Vec<ListenAddress>,
    /// Path under which the daemon serves metrics
    /// [default: server.telemetry_path of the configuration, else /metrics].
    #[arg(long = "web.telemetry-path", value_name = "PATH")]
    telemetry_path: Option<TelemetryPath>,
    /// File with the TLS of the daemon, passwords and more, in the format of Prometheus's exporter-toolkit
    /// [default: server.web_config_file of the configuration, else plain HTTP for everybody].
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
}

/// Options of the daemon.
#[expect(clippy::doc_markdown, reason = "this is help for a terminal")]
#[derive(Debug, Args, Default, PartialEq, Eq)]
struct WebFlags {
    #[command(flatten)]
    address: AddressFlags,
    /// Listen on the sockets that systemd hands over, and not on the addresses of the configuration.
    #[arg(long = "web.systemd-socket")]
    systemd_socket: bool,
    /// Let POST /-/reload make the program read its configuration again, as SIGHUP always does
    /// [default: server.enable_lifecycle of the configuration, else off].
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Logfmt,
    Json,
}

/// Does what the command line says. `now` is the wall clock.
///
/// It returns once what was logged is written, unless it is not read.
#[must_use]
pub fn main(now: fn() -> DateTime<Utc>) -> ExitCode {
    let hidden = hide_memory();
    let Cli { command, common, web } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && is_for_monitoring() => return check::wrong_usage(&error),
        Err(error) => error.exit(),
    };
    let is_daemon = matches!(command, None | Some(Command::Run(_) | Command::Demo(_)));
    let is_check = matches!(command, Some(Command::Check(_)));
    let level = common.log_level.unwrap_or(if is_daemon { LevelFilter::INFO } else { LevelFilter::WARN });
    let done = logging::init(level, common.log_format).map_err(|error| no_threads(&error)).and_then(|log| {
        if let Err(error) = hidden {
            tracing::warn!(%error, "The memory of this process cannot be hidden from other processes of this user; they could read the API token.");
        }
        if !matches!(command, Some(Command::CheckConfig(_) | Command::Completions(_) | Command::Man(_))) {
            usable_time(now()).map_err(CommandError::failed)?;
        }
        run_command(command, common, web, &log, now)
    });
    match done {
        Ok(code) => code,
        Err(error) if is_check => check::unknown(&error.text),
        Err(CommandError { code, text }) => {
            complain(&text);
            code
        }
    }
    .into()
}

fn run_command(
    command: Option<Command>,
    common: CommonFlags,
    web: WebFlags,
    log: &Log,
    now: fn() -> DateTime<Utc>,
) -> Result<u8, CommandError> {
    let serves = matches!(command, None | Some(Command::Run(_) | Command::Demo(_) | Command::CheckConfig(_)));
    if !serves && web != WebFlags::default() {
        return Err(CommandError::usage(NO_WEB_OPTIONS));
    }
    match command {
        None => run_daemon(common, web, log, now),
        Some(Command::Run(own)) => run_daemon(common, web.and(own), log, now),
        Some(Command::Demo(options)) => daemon::demo(options, web, common.shard_flags(), log, now),
        Some(Command::CheckConfig(own)) => {
            let web = web.and(own);
            web.check()?;
            check_config::run(&read(&common, Some(&web))?, &common.file(), now)
        }
        Some(Command::Zones(options)) => zones::run(read(&common, None)?, &options, now),
        Some(Command::List(options)) => list::run(&read(&common, None)?, &options, now),
        Some(Command::Check(options)) => {
            if !options.sweep && common.shard_flags() != ShardFlags::default() {
                return Err(CommandError::usage(NO_SHARD));
            }
            check::run(&options, || listening(&common, &options.daemon), || read(&common, None), now)
        }
        Some(Command::Healthcheck(options)) => healthcheck::run(&options, || listening(&common, &options.daemon)),
        Some(Command::Completions(options)) => completions::shell(&options),
        Some(Command::Man(options)) => completions::man(&options),
    }
}

fn no_threads(error: &io::Error) -> CommandError {
    CommandError::failed(format!("The program cannot start its threads: {error}"))
}

const NO_WEB_OPTIONS: &str = "Options that begin with --web. are for the daemon where they stand before a command; those that a command takes stand after it.";

const NO_SHARD: &str = "--shard and --total-shards go with --sweep alone: a running daemon knows its shard.";

/// Whether a command line that has a mistake in it is one of `check`, whose exit codes are not the usual ones.
///
/// clap does not tell, and with its `ignore_errors` it stops looking at an unknown option.
fn is_for_monitoring() -> bool {
    let cli = Cli::command();
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if let Some(command) = cli.find_subcommand(&argument) {
            return command.get_name() == "check";
        }
        let name = argument.to_str().and_then(|argument| argument.strip_prefix("--"));
        let is_it = |option: &clap::Arg| option.get_long() == name && option.get_action().takes_values();
        if name.is_some() && cli.get_arguments().any(is_it) {
            // Its value, which may look like a command.
            arguments.next();
        }
    }
    false
}

/// Reads the configuration, then again whenever that is asked.
fn run_daemon(common: CommonFlags, web: WebFlags, log: &Log, now: fn() -> DateTime<Utc>) -> Result<u8, CommandError> {
    let sockets = web.sockets()?;
    let load = move || read(&common, Some(&web));
    daemon::block_on(daemon::serve(load()?, Arc::new(load), sockets, log, now, None))
}

/// Keeps secrets out of core files, and memory and environment from other processes of this user.
fn hide_memory() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Reads the configuration; with these flags, if the command serves anything, so that the web configuration matters.
fn read(common: &CommonFlags, web: Option<&WebFlags>) -> Result<Config, ConfigErrors> {
    let (file, flags) = (common.file(), common.shard_flags());
    let environment = |name: &str| std::env::var(name).ok();
    let config = match web {
        Some(web) => {
            let web_config_file = web.address.web_config_file.clone();
            web.apply(Config::load_to_serve(&file, &environment, flags, web_config_file)?)
        }
        None => Config::load(&file, &environment, flags)?,
    };
    if file.is_absent() {
        tracing::info!(file = %file.path().display(), "There is no configuration file, so every setting has its default.");
    }
    Ok(config)
}

/// Where the daemon answers: as it was started with these flags, or as it says itself, or else as its configuration says.
fn listening(common: &CommonFlags, flags: &AddressFlags) -> Result<Listening, ConfigErrors> {
    let file = common.file();
    if *flags == AddressFlags::default() {
        // That of the unit is another daemon's where another configuration is named.
        let of_the_unit = file.path() == Path::new(DEFAULT_CONFIG_FILE);
        let directories = runtime_directories().into_iter().chain(of_the_unit.then(|| RUNTIME_DIRECTORY.into()));
        if let Some(listening) = directories.into_iter().find_map(|directory| runtime_file::read(&directory)) {
            return Ok(listening);
        }
    }
    let mut listening = Config::load_listening(&file)?;
    if !flags.listen_addresses.is_empty() {
        listening.addresses.clone_from(&flags.listen_addresses);
    }
    if let Some(file) = &flags.web_config_file {
        listening.is_tls = WebConfig::asks_for_tls(file);
    }
    Ok(listening)
}

/// Those that systemd gives to a service.
fn runtime_directories() -> Vec<PathBuf> {
    let directories = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    std::env::split_paths(&directories).filter(|directory| !directory.as_os_str().is_empty()).collect()
}

impl CommonFlags {
    /// The file that is named, or else the usual one.
    fn file(&self) -> ConfigFile {
        let set = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let named = self.config_file.clone().or_else(|| set(CONFIG_FILE_VARIABLE).map(PathBuf::from));
        named.map_or_else(|| ConfigFile::Default(DEFAULT_CONFIG_FILE.into()), ConfigFile::Named)
    }

    const fn shard_flags(&self) -> ShardFlags {
        ShardFlags { ordinal: self.shard, total: self.total_shards }
    }
}

fn log_levels() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["debug", "info", "warn", "error"]).try_map(|level| level.parse())
}

/// What the number of shards can be.
fn shards() -> clap::builder::RangedI64ValueParser<u32> {
    let (first, last) = Shard::TOTAL.into_inner();
    clap::value_parser!(u32).range(i64::from(first)..=i64::from(last))
}

impl WebFlags {
    /// What is set on the command line beats what is in the file.
    fn apply(&self, mut config: Config) -> Config {
        let AddressFlags { listen_addresses, telemetry_path, web_config_file } = self.address.clone();
        if !listen_addresses.is_empty() {
            config.listen_addresses = listen_addresses;
        }
        config.telemetry_path = telemetry_path.unwrap_or(config.telemetry_path);
        config.web_config_file = web_config_file.or(config.web_config_file);
        config.enable_lifecycle |= self.enable_lifecycle;
        config
    }

    /// What is set in either; `more` stands later on the command line.
    fn and(mut self, more: Self) -> Self {
        let (address, more_address) = (&mut self.address, more.address);
        if !more_address.listen_addresses.is_empty() {
            address.listen_addresses = more_address.listen_addresses;
        }
        address.telemetry_path = more_address.telemetry_path.or(address.telemetry_path.take());
        address.web_config_file = more_address.web_config_file.or(address.web_config_file.take());
        self.enable_lifecycle |= more.enable_lifecycle;
        self.systemd_socket |= more.systemd_socket;
        self
    }

    /// Fails for options that exclude each other.
    fn check(&self) -> Result<(), CommandError> {
        if self.systemd_socket && !self.address.listen_addresses.is_empty() {
            return Err(CommandError::usage(
                "--web.systemd-socket and --web.listen-address exclude each other: leave one of them out.",
            ));
        }
        Ok(())
    }

    /// The sockets that are to be listened on, if they are handed over.
    fn sockets(&self) -> Result<Vec<TcpListener>, CommandError> {
        self.check()?;
        if !self.systemd_socket {
            return Ok(Vec::new());
        }
        let unusable = |error| CommandError::failed(format!("--web.systemd-socket cannot be followed: {error}."));
        systemd::sockets().map_err(unusable)
    }
}

/// Prints a result on stdout.
fn print(text: &[u8]) -> Result<(), CommandError> {
    print_with(|out| out.write_all(text))
}

/// The same for a long one, which is written bit by bit.
fn print_with(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CommandError> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    match write(&mut stdout).and_then(|()| stdout.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| CommandError::failed(format!("The result cannot be printed: {error}"))),
    }
}

/// Says something to the person at the terminal that is no log line.
#[expect(clippy::print_stderr, reason = "this is where commands speak to people")]
fn complain(message: &str) {
    eprintln!("{message}");
}
