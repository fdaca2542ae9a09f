//! Errors of studies in parts.

use std::path::PathBuf;

/// Errors of planning, running or gathering a study's parts.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// There is no plan.
    #[error(
        "{folder} has no plan of parts: divide the study with `circuit-scaling parts --parts N --out {folder}`"
    )]
    NoPlan {
        /// The study.
        folder: PathBuf,
    },
    /// Another study, or another number of parts, was planned here.
    #[error(
        "{plan} is the plan of another study or of another number of parts: remove its folder to divide the study \
         again, or choose another folder with --out"
    )]
    OtherPlan {
        /// The plan.
        plan: PathBuf,
    },
    /// The plan was made by another version.
    #[error(
        "{plan} was made by version {made} of the program, and this is {here}: run the whole study with one version, or \
         divide it again"
    )]
    Version {
        /// The plan.
        plan: PathBuf,
        /// The version that made it.
        made: String,
        /// This version.
        here: &'static str,
    },
    /// No part was given.
    #[error(
        "give a part: `circuit-scaling part 1`, or start it as an array job, which sets {variables}",
        variables = super::part::INDICES.map(|(name, _)| name).join(", ")
    )]
    NoIndex,
    /// Not a list of parts.
    #[error("`{text}` is not a list of parts: give their numbers, from 1, as in 3 or 2-5,9")]
    BadIndex {
        /// The given text.
        text: String,
    },
    /// There is no such part.
    #[error("there is no part {part}: the last one is {n}")]
    NoSuchPart {
        /// Its number.
        part: usize,
        /// How many there are.
        n: usize,
    },
    /// The part is already running.
    #[error("part {part} is already running, {by}: wait for it, or stop it first")]
    Busy {
        /// The part.
        part: usize,
        /// By whom, with its last sign of life.
        by: String,
    },
    /// A model differs from the plan.
    #[error(
        "the weights of {model} here ({here}) are not those of the plan ({plan}): use the same checkpoint everywhere, or \
         divide the study again"
    )]
    Weights {
        /// The model.
        model: String,
        /// Hash here.
        here: String,
        /// Hash there.
        plan: String,
    },
    /// A file of the study differs from the plan.
    #[error(
        "{file} is not the one that the plan was made from: copy the study's folder again, with all its files"
    )]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// Results of different devices are not mixed.
    #[error(
        "this machine computes on {here}, and the other parts of the study on {plan}, whose results differ from it in their last \
         bits: use a machine of that kind"
    )]
    Device {
        /// The device here.
        here: String,
        /// Theirs.
        plan: String,
    },
    /// Some parts are missing.
    #[error("{problems}; run {which} with `{redo}`, then gather again")]
    Missing {
        /// Which ones, and what is known about them.
        problems: String,
        /// `it` or `them`.
        which: &'static str,
        /// The command.
        redo: String,
    },
    /// `sbatch` rejected the job.
    #[error("sbatch: {problem}; the job scripts are in {folder}, where you can edit and submit them by hand")]
    Sbatch {
        /// Its message.
        problem: String,
        /// Where the scripts are.
        folder: PathBuf,
    },
    /// An option for `sbatch` that cannot be put in a script.
    #[error(
        "--sbatch {text:?} is not a line of options: write them as for sbatch, for example \"--partition=long --account=me\""
    )]
    SbatchOption {
        /// The option.
        text: String,
    },
    /// A study without work to divide.
    #[error(
        "the stages of this study run no model, or all scans are done: there is nothing to divide; use `circuit-scaling run`"
    )]
    Nothing,
}
