//! The one-token rule: a name takes part only if `" NAME"` is one and the same token at every mention of it, in
//! every template, in every compared tokenizer.
//!
//! Without it a name may be two tokens in one family and one in another, or, after a stray double space, another
//! token at its second mention: families would be compared on different tasks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tokenize::{Tokenize, decode, encode};
use super::{PromptError, PromptOptions};
use crate::task::{Names, Rendered, Task};

/// Why some tokenizers refuse a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedName {
    /// The name.
    pub name: String,
    /// The models that share the tokenizer.
    pub models: Vec<String>,
    /// What the tokenizer makes of the name.
    pub reason: String,
}

/// Models that share a tokenizer.
pub(super) struct SharedTokenizer<'a> {
    pub(super) tokenizer: &'a dyn Tokenize,
    pub(super) models: Vec<String>,
}

/// Groups tokenizers by their hash, in order of first appearance.
pub(super) fn distinct<'a>(tokenizers: &[&'a dyn Tokenize]) -> Vec<SharedTokenizer<'a>> {
    let mut groups: Vec<SharedTokenizer<'a>> = Vec::new();
    for &tokenizer in tokenizers {
        let model = tokenizer.model().to_owned();
        match groups.iter_mut().find(|group| group.tokenizer.hash() == tokenizer.hash()) {
            Some(group) => group.models.push(model),
            None => groups.push(SharedTokenizer { tokenizer, models: vec![model] }),
        }
    }
    groups
}

/// The one token of `" NAME"`, or why there is none.
pub(super) fn answer_token(tokenizer: &dyn Tokenize, name: &str) -> Result<Result<u32, String>, PromptError> {
    let answer = format!(" {name}");
    let ids = encode(tokenizer, &answer)?;
    let &[id] = ids.as_slice() else {
        return Ok(Err(format!("'{answer}' is {}", show(&pieces(tokenizer, &ids)?))));
    };
    // A tokenizer with an unknown-word token has one token for every name.
    let text = decode(tokenizer, &[id])?;
    Ok(if text == answer { Ok(id) } else { Err(format!("'{answer}' becomes the token '{text}'")) })
}

/// The first mention for which `token_of` gives a token that does not stand there, as a reason.
///
/// `ids` are the tokens of `rendered.text`, without BOS.
pub(super) fn broken_mention(
    tokenizer: &dyn Tokenize,
    ids: &[u32],
    rendered: &Rendered,
    token_of: impl Fn(&str) -> Option<u32>,
) -> Result<Option<String>, PromptError> {
    for mention in &rendered.mentions {
        let shown = &rendered.text[mention.span.clone()];
        let Some(token) = token_of(shown.trim_start()) else { continue };
        let mut stands = false;
        for k in (0..ids.len()).filter(|&k| ids[k] == token) {
            if decode(tokenizer, &ids[..k])?.len() == mention.span.start {
                stands = true;
                break;
            }
        }
        if !stands {
            let mut start = 0;
            let mut over = Vec::new();
            for k in 0..ids.len() {
                let end = decode(tokenizer, &ids[..=k])?.len();
                if start < mention.span.end && mention.span.start < end {
                    over.push(decode(tokenizer, &ids[k..=k])?);
                }
                start = end;
            }
            return Ok(Some(format!("'{shown}' at {{{}}} is {}", mention.role.as_str(), show(&over))));
        }
    }
    Ok(None)
}

fn pieces(tokenizer: &dyn Tokenize, ids: &[u32]) -> Result<Vec<String>, PromptError> {
    ids.iter().map(|&id| decode(tokenizer, &[id])).collect()
}

fn show(pieces: &[String]) -> String {
    let quoted: Vec<String> = pieces.iter().map(|piece| format!("'{piece}'")).collect();
    format!("split into {}", quoted.join(", "))
}

/// The names that every tokenizer accepts, and the others with the reason of each tokenizer that refuses them.
///
/// Each name is tried at each place of each template, with the first word of each filler; the prompts that are drawn
/// are checked once more as they are.
///
/// # Errors
/// [`PromptError::TooFewNames`] where fewer are left than the task or `options` demand.
pub(super) fn usable_names(
    task: &Task,
    options: &PromptOptions,
    tokenizers: &[&dyn Tokenize],
) -> Result<(Names, Vec<RefusedName>), PromptError> {
    let mut refused: Vec<RefusedName> = Vec::new();
    let groups = distinct(tokenizers);
    for group in &groups {
        let mut owners: BTreeMap<u32, &str> = BTreeMap::new();
        for (i, name) in task.names.all().enumerate() {
            let reason = match answer_token(group.tokenizer, name)? {
                Err(reason) => Some(reason),
                Ok(token) => match owners.insert(token, name) {
                    Some(owner) => Some(format!("' {name}' is the same token as ' {owner}'")),
                    None => refusal(task, group.tokenizer, name, i, token)?,
                },
            };
            if let Some(reason) = reason {
                refused.push(RefusedName { name: name.to_owned(), models: group.models.clone(), reason });
            }
        }
    }
    let keep = |list: &[String]| -> Vec<String> {
        list.iter().filter(|name| refused.iter().all(|refusal| refusal.name != **name)).cloned().collect()
    };
    let names = Names {
        pool: keep(&task.names.pool),
        partner_pool: keep(&task.names.partner_pool),
        pair_step: task.names.pair_step,
        min_usable: options.min_names.unwrap_or(task.names.min_usable),
    };
    enough(task, &names, &groups, &refused)?;
    Ok((names, refused))
}

/// Why `name`, whose token is `token`, does not stand as that token somewhere.
fn refusal(
    task: &Task,
    tokenizer: &dyn Tokenize,
    name: &str,
    index: usize,
    token: u32,
) -> Result<Option<String>, PromptError> {
    // Any other name will do beside it: only the mentions of `name` itself are looked at.
    let others: Vec<&str> = task.names.all().filter(|other| *other != name).collect();
    let Some(&other) = others.get(index % others.len().max(1)) else { return Ok(None) };
    let fillers =
        task.fillers.iter().filter_map(|(key, list)| Some((key.clone(), list.first()?.clone()))).collect();
    for template in &task.templates {
        for order in task.orders.as_slice() {
            for (first, second) in [(name, other), (other, name)] {
                let (repeated, _) = order.repeated_and_other(first, second);
                let Some(rendered) = template.text.render(first, second, repeated, &fillers) else {
                    continue;
                };
                let ids = encode(tokenizer, &rendered.text)?;
                let token_of = |mentioned: &str| (mentioned == name).then_some(token);
                if let Some(reason) = broken_mention(tokenizer, &ids, &rendered, token_of)? {
                    return Ok(Some(format!("{reason} in template {:?}", template.id)));
                }
            }
        }
    }
    Ok(None)
}

/// Whether enough names are left, in all and in each list.
fn enough(
    task: &Task,
    left: &Names,
    groups: &[SharedTokenizer<'_>],
    refused: &[RefusedName],
) -> Result<(), PromptError> {
    let fewest = if task.names.partner_pool.is_empty() { 4 } else { 2 };
    let mut counts = vec![
        ("names", left.all().count(), task.names.all().count(), left.min_usable),
        ("names.pool", left.pool.len(), task.names.pool.len(), fewest),
    ];
    if !task.names.partner_pool.is_empty() {
        counts.push(("names.partner_pool", left.partner_pool.len(), task.names.partner_pool.len(), fewest));
    }
    let Some(&(scope, usable, listed, needed)) = counts.iter().find(|(_, usable, _, needed)| usable < needed)
    else {
        return Ok(());
    };
    let mut by_group: Vec<(usize, String)> = groups
        .iter()
        .filter_map(|group| {
            let mut mine = refused.iter().filter(|refusal| refusal.models == group.models);
            let example = mine.next()?;
            let count = 1 + mine.count();
            let who = match group.models.as_slice() {
                [only] => only.clone(),
                [first, others @ ..] => format!("{first} (and {} more with its tokenizer)", others.len()),
                [] => return None,
            };
            Some((count, format!("{who} refuses {count}, as {}", example.reason)))
        })
        .collect();
    by_group.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let (reasons, mend) = if by_group.is_empty() {
        ("the task lists no more".to_owned(), "add names, or lower names.min_usable in the task")
    } else {
        let reasons: Vec<String> = by_group.into_iter().take(3).map(|(_, reason)| reason).collect();
        (reasons.join("; "), "reword the template, add names, or compare models that share a tokenizer")
    };
    Err(PromptError::TooFewNames {
        task: task.name.clone(),
        scope: scope.to_owned(),
        usable,
        listed,
        needed,
        reasons,
        mend: mend.to_owned(),
    })
}

/// The token that answers for each of `names`: the only token of `" NAME"` under the one-token rule, the last one
/// without it.
pub(super) fn answer_ids<'n>(
    tokenizer: &dyn Tokenize,
    names: impl Iterator<Item = &'n str>,
    one_token: bool,
) -> Result<BTreeMap<&'n str, Result<u32, String>>, PromptError> {
    names
        .map(|name| {
            let id = if one_token {
                answer_token(tokenizer, name)?
            } else {
                let ids = encode(tokenizer, &format!(" {name}"))?;
                ids.last().copied().ok_or_else(|| format!("' {name}' is no token at all"))
            };
            Ok((name, id))
        })
        .collect()
}
