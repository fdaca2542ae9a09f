//! `task`: the built-in tasks, and example files.

use std::fmt::Write;

use cs_circuits::task::{EXAMPLES, Task, TaskError};

use crate::args::{Example, TaskArgs};
use crate::error::CliError;

/// Lists the built-in tasks, or prints the file of one, or example files.
///
/// # Errors
/// [`TaskError::Unknown`]
pub fn task(args: &TaskArgs) -> Result<String, CliError> {
    match (&args.name, args.example) {
        (Some(name), _) => print(name),
        (None, Some(kind)) => Ok(examples(kind)),
        (None, None) => list(),
    }
}

fn print(name: &str) -> Result<String, CliError> {
    let unknown = || TaskError::Unknown { name: name.to_owned(), known: Task::built_in().join(", ") };
    let (_, text) = Task::built_in_text(&name.replace('-', "_")).ok_or_else(unknown)?;
    Ok(text.to_owned())
}

/// One example verbatim, to be written to a file; or all of them, each under its
/// name.
fn examples(kind: Example) -> String {
    let is_meant = |name: &str| match kind {
        Example::All => true,
        Example::Names => name == "names",
        Example::Template => name == "template",
        Example::Csv => name == "csv",
    };
    let mut text = String::new();
    for (name, file, contents) in EXAMPLES.iter().filter(|(name, ..)| is_meant(name)) {
        if kind == Example::All {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}## {file} (only this one: --example {name})\n");
        }
        text.push_str(contents);
    }
    text
}

fn list() -> Result<String, CliError> {
    let mut text = String::from("Built-in tasks (`circuit-scaling task NAME` prints one):\n");
    for name in Task::built_in() {
        let task = Task::load(name)?;
        let _ = writeln!(text, "  {name:16} {:36} {}", task.title(), first_prompt(&task));
    }
    text.push_str(
        "\nYour own task is a TOML file of templates, or a CSV or JSONL file of prompts: `circuit-scaling task --example`.\n",
    );
    Ok(text)
}

/// The text of a task's first template.
fn first_prompt(task: &Task) -> String {
    match task {
        Task::Names(task) => task.templates.first().map(|template| template.text.to_string()),
        Task::Words(task) => task.templates.first().map(|template| template.text.to_string()),
        Task::Rows(task) => task.rows.first().map(|row| row.clean.clone()),
    }
    .unwrap_or_default()
}
