//! Draws the prompts of a task of words.
//!
//! 1. A row of a list is used if each of its words, after a space, is a unique single token in every compared tokenizer.
//! 2. The rows of a list are shuffled and dealt alternately to `discovery` and `held_out`, so that held-out prompts have their
//!    own words; lists with fewer than four times as many rows as a template uses are shared.
//! 3. Each split takes half of `n` prompts (`discovery` gets an odd one). Its prompt `i` has template `i mod T` of `T`; for a
//!    template with `swap`, every second prompt is the corrupted text with the answers swapped: `(i mod T + i div T)` odd.
//! 4. A prompt's words are drawn uniformly, with different rows for different numbers of a list, in the list's order if the task
//!    says so. A draw whose text or corrupted text is in the other split is repeated, so that the splits share neither; one that
//!    is already in its own split is repeated up to [`TRIES_FOR_NEW`] times and then adds to that prompt's weight.
//! 5. A reference prompt is the template's, with newly drawn words: the first of [`TRIES_FOR_NEW`] draws that contains neither
//!    of the prompt's answers. The twin for `--reference same` is another draw of the template, swapped or not.

use std::collections::{BTreeMap, BTreeSet};

use super::draw::Draw;
use super::generate::{add_references, merged, templates_of_splits};
use super::one_token::{self, Answers, one_token_each};
use super::tokenize::Tokenize;
use super::{HoldOut, Prompt, PromptError, ReferencePrompt, RefusedName, Split, Twin};
use crate::task::{Drawn, WordList, WordTask, WordTemplate, WordText, has_whole_word};

/// Maximum number of draws for a text that is new in its split.
const TRIES_FOR_NEW: usize = 100;

/// Maximum number of draws for a text that is not in the other split.
const MAX_TRIES: usize = 1000;

type Lists = BTreeMap<String, WordList>;

/// The rows of each list that every tokenizer accepts, and the rejected words.
///
/// # Errors
/// [`PromptError::TooFewNames`] if a list keeps fewer than the task requires, or than two prompts use.
pub(super) fn usable(
    task: &WordTask,
    tokenizers: &[&dyn Tokenize],
) -> Result<(Lists, Vec<RefusedName>), PromptError> {
    let groups = one_token::distinct(tokenizers);
    let mut refused = Vec::new();
    let mut lists = Lists::new();
    for (name, list) in &task.words {
        let mut bad_rows = BTreeSet::new();
        let of_list = refused.len();
        for group in &groups {
            let answers = Answers::after(group.tokenizer, context(task))?;
            for (_, words) in list.columns() {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                for (row, token) in one_token_each(&answers, &words)?.into_iter().enumerate() {
                    if let Err(reason) = token {
                        bad_rows.insert(row);
                        refused.push(RefusedName {
                            name: words[row].to_owned(),
                            models: group.models.clone(),
                            reason,
                        });
                    }
                }
            }
        }
        let keep: Vec<usize> = (0..list.len()).filter(|row| !bad_rows.contains(row)).collect();
        let needed = task.min_usable.min(list.len()).max(2 * task.most_drawn(name));
        if keep.len() < needed {
            let reasons = one_token::reasons(&groups, &refused[of_list..]);
            return Err(PromptError::TooFewNames {
                task: task.name.clone(),
                noun: "words",
                scope: format!("words.{name}").into(),
                usable: keep.len(),
                listed: list.len(),
                needed,
                reasons: reasons.unwrap_or_else(|| "the task lists no more".to_owned()).into(),
                fix: "add words, or compare models that share a tokenizer".into(),
            });
        }
        lists.insert(name.clone(), list.with_rows(&keep));
    }
    Ok((lists, refused))
}

/// The first words of the first template, the context in which words are tried.
fn context(task: &WordTask) -> &str {
    let text = task.templates.first().map_or("", |template| template.text.as_str());
    text.split('{').next().unwrap_or_default().trim_end()
}

/// Prompts of both splits, equal texts merged.
///
/// # Errors
/// [`PromptError::TooFewTexts`]
pub(super) fn draw(
    task: &WordTask,
    lists: &Lists,
    seed: u64,
    hold_out: HoldOut,
    n: usize,
) -> Result<Vec<Prompt>, PromptError> {
    let [of_discovery, of_held_out] = templates_of_splits(&task.name, &task.templates, seed, hold_out);
    let lists = lists_of_splits(task, lists, seed);
    let mut prompts = Vec::new();
    let mut of_other_split = BTreeSet::new();
    for (split, templates, lists, n) in [
        (Split::Discovery, of_discovery, &lists[0], n.div_ceil(2)),
        (Split::HeldOut, of_held_out, &lists[1], n / 2),
    ] {
        let writer = Writer { task, lists };
        let mut draw = Draw::new(&task.name, seed, split.as_str());
        let mut twins = Draw::new(&task.name, seed, &format!("{} resample", split.as_str()));
        let mut own = BTreeSet::new();
        let mut drawn = Vec::with_capacity(n);
        for i in 0..n {
            let (place, round) = (i % templates.len(), i / templates.len());
            let template = templates[place];
            let swapped = template.swap && (place + round) % 2 == 1;
            let written = (0..MAX_TRIES).find_map(|at| {
                let written = writer.write(template, swapped, &mut draw)?;
                let is_free = written.texts().all(|text| !of_other_split.contains(text));
                (is_free && (at >= TRIES_FOR_NEW || !own.contains(&written.text))).then_some(written)
            });
            let Some(written) = written else {
                return Err(PromptError::TooFewTexts {
                    task: task.name.clone(),
                    template: template.id.clone(),
                    n: drawn.len(),
                });
            };
            own.extend(written.texts().cloned());
            let twin = (0..TRIES_FOR_NEW).find_map(|_| {
                let swapped = template.swap && twins.coin();
                writer.write(template, swapped, &mut twins).filter(|twin| twin.text != written.text)
            });
            let Written { text, corrupted, answers } = written;
            drawn.push(Prompt {
                corrupted_text: Some(corrupted),
                resample: twin.map(|twin| Twin {
                    first: String::new(),
                    second: String::new(),
                    text: twin.text,
                }),
                ..Prompt::of_text(text, answers, split, &template.id)
            });
        }
        let mut distinct = merged(drawn);
        add_references(&task.name, seed, &mut distinct, |draw, prompt| {
            let template = templates.iter().find(|template| template.id == prompt.template);
            Ok(template.and_then(|template| writer.reference(template, prompt, draw)))
        })?;
        prompts.extend(distinct);
        of_other_split = own;
    }
    Ok(prompts)
}

/// The rows of each list used by discovery and by held-out prompts.
fn lists_of_splits(task: &WordTask, lists: &Lists, seed: u64) -> [Lists; 2] {
    let mut splits = [Lists::new(), Lists::new()];
    for (name, list) in lists {
        let mut rows: Vec<usize> = (0..list.len()).collect();
        Draw::new(&task.name, seed, &format!("rows of {name}")).shuffle(&mut rows);
        let is_dealt = list.len() >= 4 * task.most_drawn(name);
        for (start, split) in splits.iter_mut().enumerate() {
            let mut own = rows.clone();
            if is_dealt {
                own = own.into_iter().skip(start).step_by(2).collect();
            }
            own.sort_unstable();
            split.insert(name.clone(), list.with_rows(&own));
        }
    }
    splits
}

/// A prompt, its corrupted version, and its answers.
struct Written {
    text: String,
    corrupted: String,
    answers: [String; 2],
}

impl Written {
    fn texts(&self) -> impl Iterator<Item = &String> {
        [&self.text, &self.corrupted].into_iter()
    }
}

struct Writer<'a> {
    task: &'a WordTask,
    lists: &'a Lists,
}

impl Writer<'_> {
    /// Different rows of each list that a template draws from.
    fn rows<'t>(&self, template: &'t WordTemplate, draw: &mut Draw) -> Drawn<'t> {
        let of_list = |(list, n): (&'t str, usize)| {
            let n_rows = self.lists.get(list).map_or(0, WordList::len);
            let mut rows: Vec<usize> = (0..n_rows).collect();
            // The first steps of a Fisher–Yates shuffle.
            for place in 0..n.min(n_rows) {
                let other = place + draw.below(n_rows - place);
                rows.swap(place, other);
            }
            rows.truncate(n);
            if self.task.ordered.iter().any(|ordered| ordered == list) {
                rows.sort_unstable();
            }
            (list, rows)
        };
        template.n_drawn().into_iter().map(of_list).collect()
    }

    /// One draw of a template; `None` only if a list is too short, or if both answers are the same word.
    fn write(&self, template: &WordTemplate, swapped: bool, draw: &mut Draw) -> Option<Written> {
        let rows = self.rows(template, draw);
        let fill = |text: &WordText| text.render(self.lists, &rows);
        let (mut text, mut corrupted) = (fill(&template.text)?, fill(&template.corrupted)?);
        let mut answers = [fill(&template.correct)?, fill(&template.distractor)?];
        if swapped {
            std::mem::swap(&mut text, &mut corrupted);
            answers.reverse();
        }
        (answers[0] != answers[1]).then_some(Written { text, corrupted, answers })
    }

    /// A reference prompt, without either answer of `prompt` if there are enough other words.
    fn reference(
        &self,
        template: &WordTemplate,
        prompt: &Prompt,
        draw: &mut Draw,
    ) -> Option<ReferencePrompt> {
        let form = template.reference.as_ref().unwrap_or(&template.corrupted);
        let mut text = None;
        for _ in 0..TRIES_FOR_NEW {
            let drawn = form.render(self.lists, &self.rows(template, draw))?;
            let answers = [&prompt.correct, &prompt.distractor];
            let is_free = !answers.iter().any(|answer| has_whole_word(&drawn, answer));
            text = Some(drawn);
            if is_free {
                break;
            }
        }
        let none = String::new;
        text.map(|text| ReferencePrompt { first: none(), second: none(), third: none(), text })
    }
}
