//! `attend`: where every head attends at the last token, from which the answer is read, and the roles of heads.

use std::fmt::Write;

use cs_analysis::attention::{AttentionFile, HeadAttention, TaskAttention, attention_table};
use cs_analysis::effects::HeadEffects;
use cs_analysis::layout::Layout;
use cs_circuits::prompts::TokenizedPrompts;
use serde_json::json;

use super::experiment::{OpenStudy, StudyHeads, TestedModel, of_each_model};
use super::roles::{self, score_models};
use crate::args::AttendArgs;
use crate::digest::Digest256;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::Display;
use crate::study_folder::StudyFolder;

/// Reads the attention of every head of a study's models and writes the results.
pub fn attend(args: &AttendArgs, display: Display) -> Result<String, CliError> {
    let study = OpenStudy::open(&args.experiment, args.top_k, display)?;
    let mut folder = StudyFolder::open(&args.experiment.study.out)?;
    let memory = args.experiment.memory;
    let files = attend_models(&mut folder, &study.effects, &study.handles, memory, display)?;
    let at = (memory, args.experiment.tau);
    let roles = score_models(&mut folder, &study.effects, &study.handles, at, display)?;
    let mut text = String::new();
    for heads in &study.contrasts {
        text += &heads.titled(&study.contrasts, &describe(heads, &files));
    }
    Ok(text + &roles::describe(&roles, args.experiment.tau) + &where_it_is(&folder.layout, &files))
}

/// Reads the attention of every head of these models on all tasks on which they were scanned, unless the folder already has
/// it, and writes the table of all models of the study with attention results; returns these.
///
/// # Errors
/// A model that was not scanned or cannot be run, or files that cannot be written.
pub fn attend_models(
    folder: &mut StudyFolder,
    effects: &HeadEffects,
    handles: &[ModelHandle],
    memory: usize,
    display: Display,
) -> Result<Vec<AttentionFile>, CliError> {
    let layout = folder.layout.clone();
    let known = |name: &str| Some(layout.attention(name)).filter(|path| path.exists());
    let files = of_each_model(
        (&layout, effects, handles),
        |tested| attend_model(folder, tested, memory, display),
        |name| Ok(known(name).map(|path| AttentionFile::read(&path)).transpose()?),
    )?;
    let table = attention_table(&files);
    folder.add("attend", display, |layout| Ok(table.write(&layout.tables())?.to_vec()))?;
    Ok(files)
}

/// Reads one model's attention and stores it in its own file; if that file exists and was made from the same inputs, it
/// is read instead.
fn attend_model(
    folder: &mut StudyFolder,
    tested: &TestedModel,
    memory: usize,
    display: Display,
) -> Result<AttentionFile, CliError> {
    let name = &tested.handle.name;
    let origin = tested.origin_without_heads();
    let digest = |prompts: &TokenizedPrompts| Digest256::of_file(&tested.layout.prompts(&prompts.task, name));
    let prompts: Vec<_> = tested.prompts.iter().map(digest).collect();
    let inputs = Digest256::of(&json!({ "origin": origin, "prompts": prompts }));
    let step = format!("attend {name}");
    let path = tested.layout.attention(name);
    if folder.is_done(&step, &inputs) {
        display.detail(&format!("{name:16} attention: done"));
        return Ok(AttentionFile::read(&path)?);
    }
    let decoder = tested.handle.lazy();
    let read = |task: usize| -> Result<TaskAttention, CliError> {
        let prompts = tested.prompts[task].restricted_to(tested.split);
        if let Some(known) = folder.measured.attention(name, &prompts.task) {
            return Ok(known.clone());
        }
        let n_heads = tested.handle.spec().n_heads_total();
        let bar = display.bar("attend", name, &prompts.task, n_heads as u64, "heads");
        let options = cs_engine::Options { memory };
        let mut observe = |done, total| {
            // Reading attention is too quick to be worth interrupting.
            let _ = bar.advance(done, total);
        };
        let set = &tested.sets[task];
        let attention = cs_circuits::attention::attend(
            decoder.get()?,
            set,
            &prompts,
            tested.handle,
            options,
            &mut observe,
        )
        .map_err(|source| CliError::Attend { model: name.clone(), source })?;
        let seconds = bar.finish();
        display.note(&format!(
            "{name:16} {:12} attention of {n_heads} heads read in {seconds:.1} s",
            prompts.task
        ));
        Ok(attention)
    };
    let tasks = (0..tested.prompts.len()).map(read).collect::<Result<_, _>>()?;
    let file = AttentionFile::new(origin, tasks);
    file.write(&path)?;
    folder.done(&step, inputs, &[path])?;
    Ok(file)
}

/// Roles shown for each head and task.
const SHOWN: usize = 3;

/// A line per hero head.
fn describe(heads: &StudyHeads, files: &[AttentionFile]) -> String {
    let contrast = heads.contrast();
    let [a, b] = contrast.tasks();
    let mut text = format!("{:16} {:10} {:7} {a:52} {b}\n", "model", "category", "head");
    for hero in &heads.heroes {
        let Some(file) = files.iter().find(|f| f.origin.model == hero.model) else { continue };
        let cell = |task| file.head(task, hero.head.layer, hero.head.head).map_or_else(String::new, heaviest);
        let _ = writeln!(
            text,
            "{:16} {:10} {:7} {:52} {}",
            hero.model,
            contrast.category(hero.head.category),
            format!("L{}H{}", hero.head.layer, hero.head.head),
            cell(a),
            cell(b)
        );
    }
    text
}

/// An explanation of the numbers, and where to find all of them.
fn where_it_is(layout: &Layout, files: &[AttentionFile]) -> String {
    let mut text = String::new();
    if let Some(file) = files.first() {
        let _ = writeln!(
            text,
            "Mean attention at the last token over the {} prompts, in descending order, by role of the token (the result files have more).",
            file.origin.split.as_str()
        );
    }
    let folder = layout.attention_folder();
    let _ =
        writeln!(text, "Every head is in {}, the table in {}", folder.display(), layout.tables().display());
    text
}

/// The roles with the most attention.
fn heaviest(head: &HeadAttention) -> String {
    let roles = head.by_weight();
    let words = roles.iter().take(SHOWN).map(|(role, weight)| format!("{} {weight:.2}", role.name()));
    words.collect::<Vec<_>>().join(", ")
}
