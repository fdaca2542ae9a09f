//! Edits of heads for [`Model::logits`](crate::model::Model::logits): replacements for streams of heads.

use cs_analysis::head_id::HeadId;
use cs_circuits::scan::ValueBias;
use cs_engine::Prompt;
use cs_engine::intervention::{Branch, Edit, Replacement, Stream};

use crate::error::CliError;

/// A replacement for one stream of one head, at every position.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadEdit {
    /// The head.
    pub head: HeadId,
    /// The stream.
    pub stream: Stream,
    /// The replacement.
    pub value: Value,
}

/// The replacement of a stream. Prompts are token ids, including BOS.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Zeros, or with [`ValueBias::Folded`] the input-independent part of `z` or `v`.
    Zero(ValueBias),
    /// The stream's values in the runs of other prompts: one of equal length for each prompt, or one for all.
    Source(Vec<Vec<u32>>),
    /// The mean of `z` over those of these prompts that have equal length, position by position.
    Mean(Vec<Vec<u32>>),
}

/// Zero ablation of a head: removes the input-dependent part of its `z`, as in a scan.
pub fn zero(head: HeadId) -> HeadEdit {
    HeadEdit { head, stream: Stream::Z, value: Value::Zero(ValueBias::Folded) }
}

/// Activation patching: a head's stream from the runs of `source`.
pub fn patch(stream: Stream, head: HeadId, source: Vec<Vec<u32>>) -> HeadEdit {
    HeadEdit { head, stream, value: Value::Source(source) }
}

/// Mean ablation of a head over `reference` prompts.
pub fn mean(head: HeadId, reference: Vec<Vec<u32>>) -> HeadEdit {
    HeadEdit { head, stream: Stream::Z, value: Value::Mean(reference) }
}

/// Resample ablation of a head: its `z` from the runs of `source`.
pub fn resample(head: HeadId, source: Vec<Vec<u32>>) -> HeadEdit {
    patch(Stream::Z, head, source)
}

/// Prompts without logits to read, with the sources of `edits`, and the branch that combines all edits.
pub(crate) fn branch(prompts: &[Vec<u32>], edits: &[HeadEdit]) -> Result<(Vec<Prompt>, Branch), CliError> {
    let mut asked: Vec<Prompt> = prompts
        .iter()
        .map(|tokens| Prompt { tokens: tokens.clone(), weight: 1.0, ..Prompt::default() })
        .collect();
    let sources = edits.iter().filter_map(|edit| match &edit.value {
        Value::Source(prompts) => Some(Others { head: edit.head, prompts }),
        _ => None,
    });
    if let Some(source) = the_only(sources, "source")? {
        add_sources(&mut asked, source)?;
    }
    let references = edits.iter().filter_map(|edit| match &edit.value {
        Value::Mean(prompts) => Some(Others { head: edit.head, prompts }),
        _ => None,
    });
    if let Some(reference) = the_only(references, "reference")? {
        add_references(&mut asked, reference)?;
    }
    let edit = |edit: &HeadEdit| Edit {
        layer: edit.head.layer as usize,
        head: edit.head.head as usize,
        stream: edit.stream,
        replacement: match &edit.value {
            Value::Zero(ValueBias::Folded) => Replacement::ValueBias,
            Value::Zero(ValueBias::InHead) => Replacement::Zero,
            Value::Source(_) => Replacement::Source,
            Value::Mean(_) => Replacement::GroupMean,
        },
    };
    Ok((asked, Branch::new(edits.iter().map(edit))))
}

/// The prompts from which an edit takes values.
struct Others<'e> {
    head: HeadId,
    prompts: &'e [Vec<u32>],
}

/// The prompts of all `given`, which must be the same.
fn the_only<'e>(
    given: impl Iterator<Item = Others<'e>>,
    what: &'static str,
) -> Result<Option<Others<'e>>, CliError> {
    let mut first: Option<Others<'e>> = None;
    for others in given {
        match &first {
            None => first = Some(others),
            Some(known) if known.prompts == others.prompts => {}
            Some(_) => {
                return Err(CliError::Edit {
                    head: others.head,
                    problem: format!("its {what} prompts differ from those of earlier edits"),
                    fix: format!("give all edits of one call the same {what}"),
                });
            }
        }
    }
    Ok(first)
}

fn add_sources(asked: &mut [Prompt], Others { head, prompts: source }: Others<'_>) -> Result<(), CliError> {
    if source.len() != 1 && source.len() != asked.len() {
        return Err(CliError::Edit {
            head,
            problem: format!("it has {} source prompts for {} prompts", source.len(), asked.len()),
            fix: "give one source for each prompt, or one for all".to_owned(),
        });
    }
    for (prompt, source) in asked.iter_mut().zip(source.iter().cycle()) {
        prompt.source = Some(source.clone());
    }
    Ok(())
}

/// Prompts of equal length share the mean over the references of that length.
fn add_references(asked: &mut [Prompt], others: Others<'_>) -> Result<(), CliError> {
    let Others { head, prompts: reference } = others;
    let mut lengths: Vec<usize> = Vec::new();
    for (index, prompt) in asked.iter_mut().enumerate() {
        let len = prompt.tokens.len();
        let known = lengths.iter().position(|&l| l == len);
        prompt.group = known.unwrap_or(lengths.len()) as u32;
        let mut of_group = Vec::new();
        if known.is_none() {
            lengths.push(len);
            of_group.extend(reference.iter().filter(|r| r.len() == len).cloned());
            if of_group.is_empty() {
                return Err(CliError::Edit {
                    head,
                    problem: format!(
                        "none of its {} reference prompts has {len} tokens like prompt {index}",
                        reference.len()
                    ),
                    fix: "a mean is taken position by position: give references as long as the prompts"
                        .to_owned(),
                });
            }
        }
        prompt.references = Some(of_group);
    }
    Ok(())
}
