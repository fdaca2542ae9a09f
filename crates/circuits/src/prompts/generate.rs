//! Draws the texts of a task of names. Tokenizers are only used for twins and reference prompts of equal length.
//!
//! `standard`, for `n` prompts with a seed:
//!
//! 1. The usable names give unordered pairs (one name from each list, or two from the only list). The pairs are
//!    shuffled and dealt alternately to `discovery` and `held_out`, so no pair, and hence no text, is in both.
//! 2. Each split takes half of `n` (`discovery` gets an odd one) and has all templates; if templates are held out, they are shuffled and
//!    dealt alternately like the pairs, and each split has only its own. Its prompt `i` has template `i mod T` and, the orders
//!    alternating, order `(i mod T + i div T) mod R`, for `T` templates and `R` orders: every template × order occurs equally often, to
//!    within one.
//! 3. Prompt `i` takes the next pair of the split's shuffled pairs, which are reshuffled when they run out; a coin
//!    flip decides which name comes first; each filler is drawn uniformly from its list.
//! 4. The resampled twin's pair is drawn uniformly from the split's pairs that share no name with the prompt's (from
//!    all pairs if the split has no such pair); another coin flip decides which comes first.
//! 5. A reference prompt has its first and second name like a twin, and its third name is drawn uniformly from those in
//!    neither it nor the prompt. Each prompt has as many as are needed to bring its template to [`REFERENCES_PER_TEMPLATE`].
//!
//! `published`: ordered pairs of two different names are drawn uniformly with replacement, and orders alternate if the form
//! has both. A twin's two names and a reference prompt's three are drawn uniformly from those with as many tokens, position
//! by position, as the prompt's (see [`Fitting`]).
//!
//! The first prompts of a split, and the first reference of each, are independent of `n`.

use std::collections::BTreeMap;

use super::draw::Draw;
use super::fitting::Fitting;
use super::tokenize::Tokenize;
use super::{HoldOut, Prompt, PromptError, Protocol, REFERENCES_PER_TEMPLATE, ReferencePrompt, Split, Twin};
use crate::task::{NameTask, Names, Order, Pattern, Published};

/// Two names, in order of mention.
type Pair<'a> = (&'a str, &'a str);

/// Prompts of the protocol `standard`, equal texts merged.
pub(super) fn standard(
    task: &NameTask,
    names: &Names,
    seed: u64,
    hold_out: HoldOut,
    n: usize,
) -> Result<Vec<Prompt>, PromptError> {
    let mut pairs = unordered_pairs(names, &task.names);
    Draw::new(&task.name, seed, "pairs").shuffle(&mut pairs);
    let every_second = |start| pairs.iter().copied().skip(start).step_by(2).collect::<Vec<_>>();
    let [of_discovery, of_held_out] = templates_of_splits(&task.name, &task.templates, seed, hold_out);
    let mut prompts = Vec::new();
    for (split, own, templates, n) in [
        (Split::Discovery, every_second(0), of_discovery, n.div_ceil(2)),
        (Split::HeldOut, every_second(1), of_held_out, n / 2),
    ] {
        let mut draw = Draw::new(&task.name, seed, split.as_str());
        let mut twins = Draw::new(&task.name, seed, &format!("{} resample", split.as_str()));
        let mut order_of_pairs = own.clone();
        let mut drawn = Vec::with_capacity(n);
        for i in 0..n {
            let turn = i % own.len().max(1);
            if turn == 0 {
                draw.shuffle(&mut order_of_pairs);
            }
            let Some(&pair) = order_of_pairs.get(turn) else { break };
            let (first, second) = flip(pair, draw.coin());
            let round = i / templates.len();
            let template = templates[i % templates.len()];
            let orders = task.orders.as_slice();
            let order = orders[(i % templates.len() + round) % orders.len()];
            let fillers = template
                .text
                .fillers()
                .into_iter()
                .filter_map(|key| {
                    let list = task.fillers.get(key)?;
                    Some((key.to_owned(), list.get(draw.below(list.len()))?.clone()))
                })
                .collect();
            let twin = other_pair(&mut twins, &own, (first, second))
                .or_else(|| other_pair(&mut twins, &pairs, (first, second)));
            let form = Form { id: &template.id, pattern: &template.text, split };
            drawn.extend(prompt(task, &form, order, (first, second), fillers, twin));
        }
        let mut distinct = merged(drawn);
        add_references(&task.name, seed, &mut distinct, |draw, prompt| {
            let template = task.templates.iter().find(|template| template.id == prompt.template);
            let abc = three_names(draw, &own, &pairs, names, (&prompt.first, &prompt.second));
            Ok(template.zip(abc).and_then(|(template, abc)| reference(&template.text, abc, &prompt.fillers)))
        })?;
        prompts.extend(distinct);
    }
    Ok(prompts)
}

/// The templates of discovery and of held-out prompts.
pub(super) fn templates_of_splits<'t, T>(
    task: &str,
    templates: &'t [T],
    seed: u64,
    hold_out: HoldOut,
) -> [Vec<&'t T>; 2] {
    let mut templates: Vec<&T> = templates.iter().collect();
    if hold_out == HoldOut::Pairs {
        return [templates.clone(), templates];
    }
    Draw::new(task, seed, "templates").shuffle(&mut templates);
    [0, 1].map(|start| templates.iter().copied().skip(start).step_by(2).collect())
}

/// Prompts of the protocol `published`, equal texts merged.
pub(super) fn published(
    task: &NameTask,
    published: &Published,
    seed: u64,
    n: usize,
    tokenizers: &[&dyn Tokenize],
) -> Result<Vec<Prompt>, PromptError> {
    let names: Vec<&str> = published.names.iter().map(String::as_str).collect();
    let ordered: Vec<Pair<'_>> =
        names.iter().flat_map(|&a| names.iter().filter(move |&&b| a != b).map(move |&b| (a, b))).collect();
    let orders = published.orders.as_slice();
    let form = Form { id: Protocol::PUBLISHED_TEMPLATE, pattern: &published.text, split: Split::All };
    let mut draw = Draw::new(&task.name, seed, "published");
    let drawn = (0..n)
        .filter_map(|i| {
            let pair = *ordered.get(draw.below(ordered.len()))?;
            prompt(task, &form, orders[i % orders.len()], pair, BTreeMap::new(), None)
        })
        .collect();
    let mut prompts = merged(drawn);
    let fitting = Fitting::new(&published.text, &published.names, &task.names, tokenizers)?;
    for (i, prompt) in prompts.iter_mut().enumerate() {
        let mut draw = Draw::new(&task.name, seed, &format!("published resample {i}"));
        let (order, fillers) = (prompt.order.unwrap_or(Order::First), &prompt.fillers);
        // The third position repeats a name.
        let roles: [&[usize]; 2] = if order == Order::First { [&[0, 2], &[1]] } else { [&[0], &[1, 2]] };
        let twin = |names: &[&str]| {
            let twin = form.twin(order, (names[0], names[1]), fillers)?;
            Some((twin.clone(), twin.text))
        };
        prompt.resample = fitting.draw(&mut draw, prompt, &roles, twin)?;
    }
    add_references(&task.name, seed, &mut prompts, |draw, prompt| {
        let abc = |names: &[&str]| {
            let found = reference(form.pattern, [names[0], names[1], names[2]], &prompt.fillers)?;
            Some((found.clone(), found.text))
        };
        fitting.draw(draw, prompt, &[&[0], &[1], &[2]], abc)
    })?;
    Ok(prompts)
}

/// Draws reference prompts for each of a split's distinct prompts, until `draw_one` has no more.
pub(super) fn add_references(
    task: &str,
    seed: u64,
    prompts: &mut [Prompt],
    mut draw_one: impl FnMut(&mut Draw, &Prompt) -> Result<Option<ReferencePrompt>, PromptError>,
) -> Result<(), PromptError> {
    let mut of_template: BTreeMap<String, usize> = BTreeMap::new();
    for prompt in prompts.iter() {
        *of_template.entry(prompt.template.clone()).or_default() += 1;
    }
    for (i, prompt) in prompts.iter_mut().enumerate() {
        let mut draw = Draw::new(task, seed, &format!("{} reference {i}", prompt.split.as_str()));
        for _ in 0..REFERENCES_PER_TEMPLATE.div_ceil(of_template[&prompt.template]) {
            let Some(reference) = draw_one(&mut draw, prompt)? else { break };
            prompt.references.push(reference);
        }
    }
    Ok(())
}

/// Three different names for a reference prompt, none of them the prompt's if there are enough others.
fn three_names<'a>(
    draw: &mut Draw,
    own: &[Pair<'a>],
    pairs: &[Pair<'a>],
    names: &'a Names,
    prompt: Pair<'a>,
) -> Option<[&'a str; 3]> {
    let (first, second) = other_pair(draw, own, prompt)
        .or_else(|| other_pair(draw, pairs, prompt))
        .unwrap_or_else(|| flip(prompt, draw.coin()));
    let free = |taken: &[&str]| names.all().filter(|name| !taken.contains(name)).collect::<Vec<_>>();
    let mut thirds = free(&[first, second, prompt.0, prompt.1]);
    if thirds.is_empty() {
        thirds = free(&[first, second]);
    }
    let &third = thirds.get(draw.below(thirds.len()))?;
    Some([first, second, third])
}

/// The reference prompt with these names; `None` only if a filler is missing.
fn reference(
    pattern: &Pattern,
    [first, second, third]: [&str; 3],
    fillers: &BTreeMap<String, String>,
) -> Option<ReferencePrompt> {
    let text = pattern.render(first, second, third, fillers)?.text;
    let [first, second, third] = [first, second, third].map(str::to_owned);
    Some(ReferencePrompt { first, second, third, text })
}

/// The parts of a prompt that its template fixes.
struct Form<'a> {
    id: &'a str,
    pattern: &'a Pattern,
    split: Split,
}

impl Form<'_> {
    fn twin(
        &self,
        order: Order,
        (first, second): Pair<'_>,
        fillers: &BTreeMap<String, String>,
    ) -> Option<Twin> {
        let (repeated, _) = order.repeated_and_other(first, second);
        let text = self.pattern.render(first, second, repeated, fillers)?.text;
        Some(Twin { first: first.to_owned(), second: second.to_owned(), text })
    }
}

/// One prompt of weight 1. `None` only if a filler is missing, which [`crate::task::Task::validate`] rules out.
fn prompt(
    task: &NameTask,
    form: &Form<'_>,
    order: Order,
    (first, second): Pair<'_>,
    fillers: BTreeMap<String, String>,
    twin: Option<Pair<'_>>,
) -> Option<Prompt> {
    let (repeated, other) = order.repeated_and_other(first, second);
    let (correct, distractor) = task.correct.correct_and_distractor(repeated, other);
    let text = form.pattern.render(first, second, repeated, &fillers)?.text;
    let answers = [correct, distractor].map(str::to_owned);
    Some(Prompt {
        order: Some(order),
        first: first.to_owned(),
        second: second.to_owned(),
        corrupted_text: Some(form.pattern.render(first, second, other, &fillers)?.text),
        resample: twin.and_then(|pair| form.twin(order, pair, &fillers)),
        fillers,
        ..Prompt::of_text(text, answers, form.split, form.id)
    })
}

/// Merges equal texts into one prompt with the sum of their weights, at the position of the first.
pub(super) fn merged(drawn: Vec<Prompt>) -> Vec<Prompt> {
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let mut distinct: Vec<Prompt> = Vec::new();
    for prompt in drawn {
        match place.get(&prompt.text) {
            Some(&i) => distinct[i].weight += prompt.weight,
            None => {
                place.insert(prompt.text.clone(), distinct.len());
                distinct.push(prompt);
            }
        }
    }
    distinct
}

/// Every possible pair of a prompt, in the order of the lists. `all` are the task's names, whose indices decide which
/// pairs are allowed; `usable` are the names in use.
fn unordered_pairs<'a>(usable: &'a Names, all: &Names) -> Vec<Pair<'a>> {
    let (pool, partners) = (&usable.pool, &usable.partner_pool);
    let place = |name: &String| {
        let place_in = |list: &[String]| list.iter().position(|other| other == name);
        place_in(&all.pool).or_else(|| place_in(&all.partner_pool)).unwrap_or(0)
    };
    let mut pairs = Vec::new();
    for (i, a) in pool.iter().enumerate() {
        let others = if partners.is_empty() { &pool[i + 1..] } else { partners };
        let allowed = others.iter().filter(|&b| (place(a) + place(b)).is_multiple_of(usable.pair_step));
        pairs.extend(allowed.map(|b| (a.as_str(), b.as_str())));
    }
    pairs
}

fn other_pair<'a>(draw: &mut Draw, pairs: &[Pair<'a>], pair: Pair<'_>) -> Option<Pair<'a>> {
    let free: Vec<Pair<'a>> = pairs.iter().copied().filter(|other| share_no_name(*other, pair)).collect();
    let &other = free.get(draw.below(free.len()))?;
    Some(flip(other, draw.coin()))
}

fn flip((a, b): Pair<'_>, swap: bool) -> Pair<'_> {
    if swap { (b, a) } else { (a, b) }
}

fn share_no_name((a, b): Pair<'_>, (c, d): Pair<'_>) -> bool {
    a != c && a != d && b != c && b != d
}
