//! `completions` and `man`: what packages hold in addition to the program, made from its own arguments.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, CommandError, print};

#[derive(Debug, Args)]
pub(super) struct CompletionsOptions {
    /// The shell that reads them.
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManOptions {
    /// Write the page into this directory, which has to be there, and one for each command beside it.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints the script that completes this program's arguments; returns the exit code.
pub(super) fn shell(options: &CompletionsOptions) -> Result<u8, CommandError> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name.clone(), &mut script);
    // For bash it spells the hyphens of a program in two ways, so that nothing is completed after a
    // command: https://github.com/clap-rs/clap/issues/6421.
    let script = String::from_utf8_lossy(&script).replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    print(script.as_bytes()).map(|()| 0)
}

/// Prints the manual page, or writes all of them; returns the exit code.
pub(super) fn man(options: &ManOptions) -> Result<u8, CommandError> {
    if let Some(directory) = &options.directory {
        let unwritten = |error| format!("The manual pages cannot be written into {}: {error}", directory.display());
        clap_mangen::generate_to(documented(), directory).map_err(|error| CommandError::failed(unwritten(error)))?;
        return Ok(0);
    }
    let mut page = Vec::new();
    Man::new(documented()).render(&mut page).map_err(CommandError::failed)?;
    print(&page).map(|()| 0)
}

/// `help` explains itself at the terminal and needs no page of its own.
fn documented() -> clap::Command {
    // The long version names the compiler, which would change the pages from one build to the next.
    Cli::command().version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

    use clap::{CommandFactory as _, Parser as _};

    use super::{super::Cli, documented};

    #[test]
    fn every_command_teaches_with_examples_that_it_understands() {
        let program = documented();
        let commands = std::iter::once(&program).chain(program.get_subcommands());
        for command in commands {
            let name = command.get_name();
            let help = command.get_after_help().unwrap_or_else(|| panic!("{name} has no examples")).to_string();
            let examples = help.lines().filter_map(|line| line.strip_prefix("    "));
            let examples: Vec<&str> = examples.filter(|line| line.starts_with("cloudflare-cert-exporter")).collect();
            assert!(examples.len() >= 2, "{name}: {help}");
            for example in examples {
                let arguments = example.split([' ']).take_while(|word| !matches!(*word, "|" | ">" | "&&"));
                Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{example}\n{error}"));
            }
        }
    }

    #[test]
    fn the_arguments_contradict_each_other_nowhere() {
        Cli::command().debug_assert();
    }
}
