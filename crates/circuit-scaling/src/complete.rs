//! Shell completion: the registration scripts, which call this program back, and values that the grammar does not list
//! (models, tasks).

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::Shells;
use cs_analysis::dictionary;
use cs_circuits::task::Task;
use cs_model::families::FAMILIES;

use crate::args::Cli;
use crate::miniatures::MINIATURES;

/// The variable with which a shell's script asks this program for candidates.
const VARIABLE: &str = "CIRCUIT_SCALING_COMPLETE";

/// The program's name.
const NAME: &str = "circuit-scaling";

/// Answers a shell's request for candidates for these arguments and exits; otherwise does nothing.
pub fn answer(args: &[OsString]) {
    let (shells, here) =
        (CompleteEnv::with_factory(Cli::command).var(VARIABLE), std::env::current_dir().ok());
    match shells.try_complete(args.to_vec(), here.as_deref()) {
        Ok(true) => std::process::exit(0),
        Ok(false) => {}
        Err(error) => error.exit(),
    }
}

/// The names of the shells that have a script.
pub fn shells() -> Vec<&'static str> {
    Shells::builtins().names().collect()
}

/// The script that makes a shell ask this program, found via `PATH`. Empty for an unsupported shell.
pub fn script(shell: &str) -> String {
    let mut script = Vec::new();
    if let Some(shell) = Shells::builtins().completer(shell) {
        // Writing to memory does not fail.
        let _ = shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut script);
    }
    String::from_utf8_lossy(&script).into_owned()
}

/// Names of models: bundled ones, well-known ones on the Hub, and folders.
pub fn models() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let shipped = MINIATURES.iter().map(|miniature| miniature.name);
        let known = FAMILIES.iter().flat_map(|family| family.known_models).map(|known| known.name);
        with_paths(current, shipped.chain(known), PathCompleter::dir())
    })
}

/// Names of devices, with GPUs up to the number that most machines have.
pub fn devices() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        ["auto", "cpu", "cuda", "cuda:0", "cuda:1"].map(CompletionCandidate::new).into()
    })
}

/// Names of tasks: the built-in ones, and files.
pub fn tasks() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names: Vec<String> = Task::built_in().iter().map(|name| name.replace('_', "-")).collect();
        with_paths(current, names, PathCompleter::file())
    })
}

/// Names of the built-in tasks.
pub fn built_in_tasks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| Task::built_in().into_iter().map(CompletionCandidate::new).collect())
}

/// Names of tables.
pub fn tables() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let tables = dictionary::tables();
        tables.into_iter().map(|table| CompletionCandidate::new(table.name)).collect()
    })
}

/// The names that start with `current`, then the paths that do.
fn with_paths(
    current: &OsStr,
    names: impl IntoIterator<Item = impl Into<String>>,
    paths: PathCompleter,
) -> Vec<CompletionCandidate> {
    let begins = current.to_string_lossy();
    let names = names.into_iter().map(Into::into).filter(|name: &String| name.starts_with(&*begins));
    names.map(CompletionCandidate::new).chain(paths.complete(current)).collect()
}
