//! `completions`, `man` and `tables`: documentation for shells, `man` and readers.

use clap::CommandFactory;
use clap_mangen::Man;
use cs_analysis::dictionary;
use cs_analysis::files::write_bytes;

use crate::args::{Cli, CompletionsArgs, ManArgs, TablesArgs};
use crate::complete;
use crate::error::CliError;

/// A shell's completion script.
pub fn completions(args: &CompletionsArgs) -> String {
    complete::script(&args.shell)
}

/// The program's manual page, or in a folder also those of all subcommands.
///
/// # Errors
/// A page that cannot be written.
pub fn man(args: &ManArgs) -> Result<String, CliError> {
    // `help` is listed on the program's page and needs no separate one.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.out else { return page(&command) };
    let mut n_pages = 0;
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        write_bytes(&folder.join(format!("{name}.1")), page(command)?.as_bytes())?;
        n_pages += 1;
    }
    Ok(format!("{n_pages} manual pages are in {}\n", folder.display()))
}

/// A command's manual page in roff.
fn page(command: &clap::Command) -> Result<String, CliError> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page).map_err(CliError::Man)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Prints the meanings of tables and columns, in Markdown.
pub fn tables(args: &TablesArgs) -> Result<String, CliError> {
    let Some(name) = &args.name else { return Ok(dictionary::to_markdown()) };
    let stem = name.strip_suffix(".csv").unwrap_or(name);
    let table = dictionary::find(stem).ok_or_else(|| CliError::NoTable { name: name.clone() })?;
    Ok(table.to_markdown())
}
