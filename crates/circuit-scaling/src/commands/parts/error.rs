//! What can go wrong between the parts of a study.

use std::path::PathBuf;

/// Why a study's parts cannot be made, done or gathered.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// There is nothing to do a part of.
    #[error(
        "{folder} has no plan of parts: cut the study with `circuit-scaling parts --parts N --out {folder}`"
    )]
    NoPlan {
        /// The study.
        folder: PathBuf,
    },
    /// Another study, or another number of parts, was planned here.
    #[error(
        "{plan} is the plan of another study or of another number of parts: remove the folder it lies in to cut anew, or \
         choose another folder with --out"
    )]
    OtherPlan {
        /// The plan.
        plan: PathBuf,
    },
    /// The plan is another program's.
    #[error(
        "{plan} was made by version {made} of the program, and this is {here}: do all of a study with one version, or cut it \
         anew"
    )]
    Version {
        /// The plan.
        plan: PathBuf,
        /// Who made it.
        made: String,
        /// Who reads it.
        here: &'static str,
    },
    /// Nobody said which part.
    #[error(
        "say which part: `circuit-scaling part 1`, or start it as an array job, whose index stands in {variables}",
        variables = super::part::INDICES.map(|(name, _)| name).join(", ")
    )]
    NoIndex,
    /// No list of parts.
    #[error("`{text}` names no parts: write their numbers, from 1, as in 3 or 2-5,9")]
    BadIndex {
        /// What stands there instead.
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
    /// Somebody does the part already.
    #[error("part {part} is being done already, {by}: leave it to that one, or end that one first")]
    Busy {
        /// The part.
        part: usize,
        /// Who, and when last heard of.
        by: String,
    },
    /// A model is not the one that the plan was made for.
    #[error(
        "the weights of {model} here ({here}) are not those of the plan ({plan}): use the same checkpoint everywhere, or cut \
         the study anew"
    )]
    Weights {
        /// The model.
        model: String,
        /// Hash here.
        here: String,
        /// Hash there.
        plan: String,
    },
    /// A file of the study is not the one that the plan was made from.
    #[error("{file} is not the one that the plan was made from: copy the study's folder again, all of it")]
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
    /// Some parts are not there.
    #[error("{problems}; do {which} with `{redo}`, then gather again")]
    Missing {
        /// Which, and what is known of them.
        problems: String,
        /// `it` or `them`.
        which: &'static str,
        /// The command.
        redo: String,
    },
    /// `sbatch` would not take the job.
    #[error("sbatch: {problem}; the job scripts are in {folder}, to be changed and submitted by hand")]
    Sbatch {
        /// What it says.
        problem: String,
        /// Where the scripts are.
        folder: PathBuf,
    },
    /// An option for `sbatch` that cannot stand in a script.
    #[error(
        "--sbatch {text:?} is not a line of options: write them as for sbatch, such as \"--partition=long --account=me\""
    )]
    SbatchOption {
        /// The option.
        text: String,
    },
    /// A study without anything to cut.
    #[error(
        "the stages of this study run no model, or all scans are done: nothing is left to cut; use `circuit-scaling run`"
    )]
    Nothing,
}
