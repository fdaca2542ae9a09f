//! The one-token rule: a name is used only if `" NAME"` is a single token, and the same one at every mention,
//! in every template, in every compared tokenizer.
//!
//! Otherwise a name may be two tokens in one family and one in another, or, after a stray double space, a
//! different token at its second mention, and families would be compared on different tasks.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::tokenize::{Tokenize, encode, show};
use super::{PromptError, PromptOptions, Token};
use crate::task::{NameTask, Names, Rendered};

/// Why some tokenizers reject a name, a word or a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedName {
    /// The name or word, or `line N` of a file of prompts.
    pub name: String,
    /// The models that share the tokenizer.
    pub models: Vec<String>,
    /// How the tokenizer splits it.
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

/// The possible answers after a text.
pub(super) struct Answers<'a> {
    tokenizer: &'a dyn Tokenize,
    text: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Answers<'a> {
    /// The answers that follow `text`, a prompt.
    pub(super) fn after(tokenizer: &'a dyn Tokenize, text: &'a str) -> Result<Self, PromptError> {
        Ok(Self { tokenizer, text, tokens: encode(tokenizer, text)? })
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        self.text
    }

    /// Tokens of the text.
    pub(super) fn n_before(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens with which `answer`, including its space, continues those of the text; none if it changes
    /// them.
    fn tokens_of(&self, answer: &str) -> Result<Vec<Token>, PromptError> {
        let mut tokens = encode(self.tokenizer, &format!("{}{answer}", self.text))?;
        let goes_on = tokens.len() > self.tokens.len()
            && tokens.iter().zip(&self.tokens).all(|(token, before)| token.id == before.id);
        Ok(if goes_on { tokens.split_off(self.tokens.len()) } else { Vec::new() })
    }

    /// The token of `answer`, including its space, or why there is none: the only token under the one-token rule, the last
    /// one without it.
    pub(super) fn of(&self, answer: &str, one_token: bool) -> Result<Result<u32, String>, PromptError> {
        Ok(match self.tokens_of(answer)?.as_slice() {
            [] => Err(format!("'{answer}' changes the tokens before it")),
            [token] => Ok(token.id),
            [.., last] if !one_token => Ok(last.id),
            several => Err(format!("'{answer}' is split into {}", show(self.tokenizer, several)?)),
        })
    }
}

/// The token of each word after a space, or why it has no unique token.
pub(super) fn one_token_each(
    answers: &Answers<'_>,
    words: &[&str],
) -> Result<Vec<Result<u32, String>>, PromptError> {
    let of_word = |word: &&str| answers.of(&format!(" {word}"), true);
    let tokens = words.iter().map(of_word).collect::<Result<Vec<_>, _>>()?;
    let mut first: HashMap<u32, usize> = HashMap::new();
    let mut shared: HashMap<usize, usize> = HashMap::new();
    for (i, token) in tokens.iter().enumerate() {
        // A tokenizer with an unknown-word token also maps several words to one token.
        if let Ok(token) = token {
            let of_first = *first.entry(*token).or_insert(i);
            if of_first != i {
                shared.insert(i, of_first);
                shared.entry(of_first).or_insert(i);
            }
        }
    }
    let alone = tokens.into_iter().enumerate().map(|(i, token)| match shared.get(&i) {
        Some(&other) => Err(format!("' {}' is the same token as ' {}'", words[i], words[other])),
        None => token,
    });
    Ok(alone.collect())
}

/// The first mention of a name that is not encoded as its single token according to `token_of`, as a reason.
///
/// `tokens` are those of `rendered.text`, without BOS.
pub(super) fn broken_mention(
    tokenizer: &dyn Tokenize,
    tokens: &[Token],
    rendered: &Rendered,
    token_of: impl Fn(&str) -> Option<u32>,
) -> Result<Option<String>, PromptError> {
    for mention in &rendered.mentions {
        let Range { start, end } = mention.span;
        let shown = &rendered.text[start..end];
        let name = shown.trim_start();
        let Some(id) = token_of(name) else { continue };
        let holds_some = |token: &&Token| token.span.start < end && end - name.len() < token.span.end;
        let mut over = tokens.iter().filter(holds_some);
        let is_whole = |token: &Token| token.id == id && start <= token.span.start && token.span.end == end;
        if over.next().is_some_and(is_whole) && over.next().is_none() {
            continue;
        }
        // Include the token of the space before the name, even if spans exclude spaces.
        let first = tokens.iter().rposition(|token| token.span.end <= start).map_or(0, |before| before + 1);
        let last = tokens.iter().rposition(|token| token.span.start < end).map_or(0, |last| last + 1);
        let pieces = show(tokenizer, tokens.get(first..last).unwrap_or_default())?;
        return Ok(Some(format!("'{shown}' at {{{}}} is split into {pieces}", mention.role.as_str())));
    }
    Ok(None)
}

/// The names that every tokenizer accepts, and the others with each rejecting tokenizer's reason.
///
/// Each name is tried at each position of each template, with the first word of each filler; drawn prompts are
/// checked again.
///
/// # Errors
/// [`PromptError::TooFewNames`] if fewer are left than the task or `options` require.
pub(super) fn usable_names(
    task: &NameTask,
    options: &PromptOptions,
    tokenizers: &[&dyn Tokenize],
) -> Result<(Names, Vec<RefusedName>), PromptError> {
    let mut refused: Vec<RefusedName> = Vec::new();
    let groups = distinct(tokenizers);
    let fillers = first_fillers(task);
    let context = task.templates.first().zip(task.names.pool.first());
    let context = context.and_then(|(template, name)| template.text.render(name, name, name, &fillers));
    let context = context.map_or_else(String::new, |rendered| rendered.text);
    for group in &groups {
        let answers = Answers::after(group.tokenizer, &context)?;
        let names: Vec<&str> = task.names.all().collect();
        for (i, (&name, token)) in names.iter().zip(one_token_each(&answers, &names)?).enumerate() {
            let reason = match token {
                Err(reason) => Some(reason),
                Ok(token) => refusal(task, group.tokenizer, name, i, token)?,
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

/// The first word of each list of fillers.
fn first_fillers(task: &NameTask) -> BTreeMap<String, String> {
    task.fillers.iter().filter_map(|(key, list)| Some((key.clone(), list.first()?.clone()))).collect()
}

/// Why `name` is not encoded as its token `token` somewhere.
fn refusal(
    task: &NameTask,
    tokenizer: &dyn Tokenize,
    name: &str,
    index: usize,
    token: u32,
) -> Result<Option<String>, PromptError> {
    // The other name does not matter: only mentions of `name` itself are checked.
    let others: Vec<&str> = task.names.all().filter(|other| *other != name).collect();
    let Some(&other) = others.get(index % others.len().max(1)) else { return Ok(None) };
    let fillers = first_fillers(task);
    for template in &task.templates {
        for order in task.orders.as_slice() {
            for (first, second) in [(name, other), (other, name)] {
                let (repeated, _) = order.repeated_and_other(first, second);
                let Some(rendered) = template.text.render(first, second, repeated, &fillers) else {
                    continue;
                };
                let tokens = encode(tokenizer, &rendered.text)?;
                let token_of = |mentioned: &str| (mentioned == name).then_some(token);
                if let Some(reason) = broken_mention(tokenizer, &tokens, &rendered, token_of)? {
                    return Ok(Some(format!("{reason} in template {:?}", template.id)));
                }
            }
        }
    }
    Ok(None)
}

/// Whether enough names are left, in total and in each list.
fn enough(
    task: &NameTask,
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
    let (reasons, fix) = match reasons(groups, refused) {
        None => ("the task lists no more".to_owned(), "add names, or lower names.min_usable in the task"),
        Some(reasons) => {
            (reasons, "reword the template, add names, or compare models that share a tokenizer")
        }
    };
    Err(PromptError::TooFewNames {
        task: task.name.clone(),
        noun: "names",
        scope: scope.into(),
        usable,
        listed,
        needed,
        reasons: reasons.into(),
        fix: fix.into(),
    })
}

/// Which tokenizers reject how many, with an example for each of the three strictest; `None` if none does.
pub(super) fn reasons(groups: &[SharedTokenizer<'_>], refused: &[RefusedName]) -> Option<String> {
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
    let shown: Vec<String> = by_group.into_iter().take(3).map(|(_, reason)| reason).collect();
    (!shown.is_empty()).then(|| shown.join("; "))
}
