//! The second half of `attend`: head roles, from attention and direct effects.

use std::fmt::Write;

use cs_analysis::effects::HeadEffects;
use cs_analysis::role_tables::{role_counts, role_tables};
use cs_analysis::roles::{HeadRole, RoleScore, RolesFile};
use cs_analysis::table::write_all;
use cs_circuits::prompts::{Tokenize, TokenizedPrompts};
use cs_circuits::roles::{RepeatedTokens, pattern_scores, task_roles};
use cs_engine::decoder::Decoder;
use serde_json::json;

use super::experiment::{TestedModel, of_each_model};
use crate::digest::Digest256;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::Display;
use crate::study_folder::StudyFolder;

/// Number of heads named for each role.
const NAMED: usize = 5;

/// Scores every head of these models for every role, on all tasks on which they were scanned, unless the folder already has the
/// results, and writes the tables of all models of the study with role results, at a threshold `tau` for effects; returns these.
///
/// # Errors
/// A model that was not scanned or cannot be run, or files that cannot be written.
pub fn score_models(
    folder: &mut StudyFolder,
    effects: &HeadEffects,
    handles: &[ModelHandle],
    (memory, tau): (usize, f64),
    display: Display,
) -> Result<Vec<RolesFile>, CliError> {
    let layout = folder.layout.clone();
    let known = |name: &str| Some(layout.roles(name)).filter(|path| path.exists());
    let files = of_each_model(
        (&layout, effects, handles),
        |tested| score_model(folder, tested, memory, display),
        |name| Ok(known(name).map(|path| RolesFile::read(&path)).transpose()?),
    )?;
    let tables = role_tables(&files, tau);
    folder.add("roles", display, |layout| Ok(write_all(&tables, &layout.tables())?))?;
    Ok(files)
}

/// Scores one model's heads and stores the results in their own file; if that file exists and was made from the same inputs, it is read
/// instead.
fn score_model(
    folder: &mut StudyFolder,
    tested: &TestedModel,
    memory: usize,
    display: Display,
) -> Result<RolesFile, CliError> {
    let name = &tested.handle.name;
    let origin = tested.origin_without_heads();
    let prompts: Vec<_> = (tested.prompts.iter())
        .map(|prompts: &TokenizedPrompts| Digest256::of_file(&tested.layout.prompts(&prompts.task, name)))
        .collect();
    let inputs = Digest256::of(&json!({ "study": tested.inputs(&origin), "prompts": prompts }));
    let step = format!("roles {name}");
    let path = tested.layout.roles(name);
    if folder.is_done(&step, &inputs) {
        display.detail(&format!("{name:16} roles: done"));
        return Ok(RolesFile::read(&path)?);
    }
    let file = match folder.measured.roles(name) {
        Some(known) => known.clone(),
        None => measure_roles(tested, tested.handle.lazy().get()?, memory, display)?,
    };
    file.write(&path)?;
    folder.done(&step, inputs, &[path])?;
    Ok(file)
}

/// Scores one model's heads.
///
/// # Errors
/// A model that cannot be run.
pub fn measure_roles(
    tested: &TestedModel,
    decoder: &Decoder,
    memory: usize,
    display: Display,
) -> Result<RolesFile, CliError> {
    let (name, origin) = (&tested.handle.name, tested.origin_without_heads());
    let options = cs_engine::Options { memory };
    let fault =
        |source: cs_engine::EngineError| CliError::Attend { model: name.clone(), source: source.into() };
    let tokens = repeated_tokens(tested.handle, origin.seed)?;
    let bar = display.bar("roles", name, "", (tested.scans.len() + 1) as u64, "passes");
    let heads = pattern_scores(decoder, &tokens, (origin.seed, name), options).map_err(fault)?;
    let total = tested.scans.len() as u64 + 1;
    let mut tasks = Vec::new();
    for (done, (prompts, scan)) in (1..).zip(tested.prompts.iter().zip(&tested.scans)) {
        let _ = bar.advance(done, total);
        tasks.push(task_roles(decoder, prompts, (scan, tested.split), options).map_err(fault)?);
    }
    let seconds = bar.finish();
    display.note(&format!(
        "{name:16} {:12} roles of {} heads in {seconds:.1} s",
        "",
        decoder.spec().n_heads_total()
    ));
    Ok(RolesFile::new(origin, (tokens.sequences.len(), tokens.n_random), heads, tasks))
}

/// The repeated random tokens for a model's heads.
///
/// # Errors
/// A model without a tokenizer.
pub fn repeated_tokens(handle: &ModelHandle, seed: u64) -> Result<RepeatedTokens, CliError> {
    let (tokenizer, bos) = (handle.tokenizer()?, handle.bos_id());
    let ids: Vec<u32> =
        (0..handle.spec().d_vocab as u32).filter(|&id| tokenizer.is_real(id) && Some(id) != bos).collect();
    Ok(RepeatedTokens::draw(seed, bos, &ids, handle.spec().n_ctx))
}

/// The best heads of each role, model by model.
pub fn describe(files: &[RolesFile], tau: f64) -> String {
    let mut text = String::new();
    for count in role_counts(files, tau).iter().filter(|c| c.n > 0) {
        let Some(file) = files.iter().find(|f| f.origin.model == count.origin.model) else { continue };
        let plays = file.scores(count.role, count.task).into_iter().filter(|s| s.plays(count.role, tau));
        let mut heads: Vec<RoleScore> = plays.collect();
        heads.sort_by(|a, b| b.score.value.partial_cmp(&a.score.value).unwrap_or(std::cmp::Ordering::Equal));
        let named = heads.iter().take(NAMED).filter_map(|s| Some((s.head, s.score.value?)));
        let named: Vec<String> =
            named.map(|((layer, head), score)| format!("L{layer}H{head} {score:.2}")).collect();
        let _ = writeln!(
            text,
            "{:16} {:15} {:19} {:3} of {}: {}",
            count.origin.model,
            count.task,
            count.role.label(),
            count.n,
            count.n_scored,
            named.join(", ")
        );
    }
    if !text.is_empty() {
        let shares = HeadRole::ALL.into_iter().filter(|role| role.is_share()).map(HeadRole::label);
        let _ = writeln!(
            text,
            "Scores of {} heads are shares of attention; the others' are logits.",
            cs_report::words::list(&shares.map(str::to_owned).collect::<Vec<_>>())
        );
    }
    text
}
