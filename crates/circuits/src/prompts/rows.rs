//! Chooses the prompts of a file of prompts.
//!
//! 1. A row is used if its two answers are distinct single tokens in every compared tokenizer.
//! 2. Rows without a split are shuffled within their group and dealt alternately to `discovery` and `held_out`, one group after
//!    the other; if groups are held out, the groups are shuffled and dealt instead.
//! 3. If fewer rows are requested, each split takes half (`discovery` gets an odd one), taking its shuffled groups in
//!    turn.
//! 4. Prompts are in the order of the file, `discovery` first. The twin for `--reference same` is drawn uniformly from the other
//!    rows of the split and group that are equally long in every tokenizer.

use cs_analysis::words::counted;
use std::collections::BTreeMap;

use super::draw::Draw;
use super::one_token::{self, Answers, SharedTokenizer};
use super::tokenize::{Tokenize, encode};
use super::{
    Chosen, HoldOut, Names, Prompt, PromptError, PromptOptions, ReferencePrompt, RefusedName, Split, Twin,
    continuation,
};
use crate::task::{Row, RowTask};

/// A row that every tokenizer accepts.
struct Usable<'a> {
    row: &'a Row,
    /// Tokens of the prompt in each tokenizer.
    lengths: Vec<usize>,
}

/// Chooses rows, and their splits.
///
/// # Errors
/// [`PromptError::TooFewRows`] if fewer than two rows or less than half of them can be used, or a split has none;
/// [`PromptError::NotPublished`]; a tokenizer that fails.
pub(super) fn choose(
    task: &RowTask,
    options: &PromptOptions,
    tokenizers: &[&dyn Tokenize],
) -> Result<Chosen, PromptError> {
    options.no_published_form(&task.name)?;
    let asked = options.drawn(&task.name, super::MAX_PROMPTS)?;
    let groups = one_token::distinct(tokenizers);
    let mut usable = Vec::new();
    let mut refused = Vec::new();
    for row in &task.rows {
        match lengths_or_reason(row, &groups)? {
            Ok(lengths) => usable.push(Usable { row, lengths }),
            Err(refusal) => refused.push(refusal),
        }
    }
    let too_few = |problem: String, fix: &'static str| PromptError::TooFewRows {
        task: task.name.clone(),
        problem,
        fix,
    };
    if usable.len() < 2 || usable.len() < refused.len() {
        let of = format!("{} of {} can be used", usable.len(), counted(task.rows.len(), "prompt", "prompts"));
        return Err(match one_token::reasons(&groups, &refused) {
            None => too_few(of, "give at least 2, one for each split"),
            Some(reasons) => too_few(
                format!("{of}: {reasons}"),
                "answers must be one token in every compared tokenizer: change them, or compare models that share a tokenizer",
            ),
        });
    }
    let n_usable = usable.len();
    let splits = splits(task, options, &usable);
    let mut prompts = Vec::new();
    for (split, of_split, n) in
        [(Split::Discovery, &splits[0], asked.div_ceil(2)), (Split::HeldOut, &splits[1], asked / 2)]
    {
        if of_split.is_empty() {
            let problem = format!("no prompt that can be used is in the split {split}");
            return Err(too_few(problem, "give each split at least one, or leave the column `split` out"));
        }
        let mut chosen = in_turn(&usable, of_split);
        chosen.truncate(n);
        chosen.sort_unstable();
        let mut twins = Draw::new(&task.name, options.seed, &format!("{} resample", split.as_str()));
        let mut alike: BTreeMap<(&str, &[usize]), Vec<usize>> = BTreeMap::new();
        for &i in &chosen {
            alike.entry((&usable[i].row.group, &usable[i].lengths)).or_default().push(i);
        }
        for &i in &chosen {
            let Usable { row, lengths } = &usable[i];
            let others: &[usize] = alike.get(&(row.group.as_str(), &lengths[..])).map_or(&[], Vec::as_slice);
            // Draw one of all but the last, and use the last in place of the row itself.
            let twin = others.split_last().and_then(|(&last, before)| {
                let &drawn = before.get(twins.below(before.len()))?;
                Some(usable[if drawn == i { last } else { drawn }].row)
            });
            prompts.push(prompt(row, split, twin));
        }
    }
    let limit = options.n_prompts.filter(|_| prompts.len() < n_usable);
    Ok(Chosen { names: Names::none(), refused, prompts, limit })
}

fn prompt(row: &Row, split: Split, twin: Option<&Row>) -> Prompt {
    let answers = [row.correct.clone(), row.distractor.clone()];
    let none = String::new;
    let reference =
        |text: &String| ReferencePrompt { first: none(), second: none(), third: none(), text: text.clone() };
    Prompt {
        glued: row.glued,
        weight: row.weight,
        corrupted_text: row.corrupted.first().cloned(),
        resample: twin.map(|twin| Twin { first: none(), second: none(), text: twin.clean.clone() }),
        references: row.corrupted.iter().map(reference).collect(),
        ..Prompt::of_text(row.clean.clone(), answers, split, &row.group)
    }
}

/// Number of tokens of a row's prompt in each tokenizer, or the first tokenizer that rejects it.
fn lengths_or_reason(
    row: &Row,
    groups: &[SharedTokenizer<'_>],
) -> Result<Result<Vec<usize>, RefusedName>, PromptError> {
    let mut lengths = Vec::with_capacity(groups.len());
    for group in groups {
        let reason = match length_or_reason(row, group.tokenizer) {
            Ok(Ok(length)) => {
                lengths.push(length);
                continue;
            }
            Ok(Err(reason)) => reason,
            Err(PromptError::BosInText { .. }) => "it contains the tokenizer's BOS token".to_owned(),
            Err(error) => return Err(error),
        };
        let name = format!("line {}", row.line);
        return Ok(Err(RefusedName {
            reason: format!("in {name} {reason}"),
            name,
            models: group.models.clone(),
        }));
    }
    Ok(Ok(lengths))
}

fn length_or_reason(row: &Row, tokenizer: &dyn Tokenize) -> Result<Result<usize, String>, PromptError> {
    let answers = Answers::after(tokenizer, &row.clean)?;
    let mut ids = Vec::new();
    for answer in [&row.correct, &row.distractor] {
        match answers.of(&continuation(answer, row.glued), true)? {
            Ok(id) => ids.push(id),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    if ids[0] == ids[1] {
        return Ok(Err(format!("'{}' and '{}' are the same token", row.correct, row.distractor)));
    }
    for corrupted in &row.corrupted {
        encode(tokenizer, corrupted)?;
    }
    Ok(Ok(answers.n_before()))
}

/// Indices of the rows of discovery and of held-out prompts, shuffled.
fn splits(task: &RowTask, options: &PromptOptions, usable: &[Usable<'_>]) -> [Vec<usize>; 2] {
    let mut splits = [Vec::new(), Vec::new()];
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, Usable { row, .. }) in usable.iter().enumerate() {
        let place = *known.entry(&row.group).or_insert_with(|| {
            groups.push((&row.group, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(i);
    }
    let mut draw = Draw::new(&task.name, options.seed, "splits");
    if options.hold_out == HoldOut::Templates {
        draw.shuffle(&mut groups);
    }
    let mut dealt = 0;
    for (turn, (_, mut members)) in groups.into_iter().enumerate() {
        draw.shuffle(&mut members);
        for i in members {
            let place = match (usable[i].row.split, options.hold_out) {
                (Some(split), _) => usize::from(split == Split::HeldOut),
                (None, HoldOut::Templates) => turn % 2,
                (None, HoldOut::Pairs) => {
                    dealt += 1;
                    (dealt - 1) % 2
                }
            };
            splits[place].push(i);
        }
    }
    splits
}

/// Rows taking the groups in turn, in the order of `places`.
fn in_turn(usable: &[Usable<'_>], places: &[usize]) -> Vec<usize> {
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ordered: Vec<(usize, usize)> = places
        .iter()
        .map(|&i| {
            let turn = turns.entry(&usable[i].row.group).or_default();
            *turn += 1;
            (*turn, i)
        })
        .collect();
    // Stable: groups keep their order within a turn.
    ordered.sort_by_key(|&(turn, _)| turn);
    ordered.into_iter().map(|(_, i)| i).collect()
}
