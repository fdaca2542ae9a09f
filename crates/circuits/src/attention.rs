//! Where heads attend at the last token of a task's prompts.
//!
//! See [`cs_analysis::attention`] for the definitions and the output.

use std::collections::BTreeMap;

use cs_analysis::attention::{
    ExamplePrompt, HeadAttention, N_EXAMPLES, TOP_TEXTS, TaskAttention, TextAttention, TokenRole,
};
use cs_engine::decoder::Decoder;
use cs_engine::{AttentionRow, EngineError, Queries, attention_rows};
use cs_model::spec::ModelSpec;

use crate::prompts::{PromptError, PromptSet, Tokenize, TokenizeError, TokenizedPrompt, TokenizedPrompts};

/// Errors of reading attention.
#[derive(Debug, thiserror::Error)]
pub enum AttentionError {
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`PromptError`].
    #[error(transparent)]
    Prompts(Box<PromptError>),
    /// A token has no text.
    #[error("the tokenizer cannot decode token {id}: {source}")]
    Decode {
        /// The token.
        id: u32,
        /// The tokenizer's reason.
        source: TokenizeError,
    },
    /// The forward pass gave a number that is not finite.
    #[error("the attention of L{layer}H{head} is not a finite number: the model's weights overflow float32")]
    NotFinite {
        /// The layer.
        layer: usize,
        /// The head.
        head: usize,
    },
}

impl From<PromptError> for AttentionError {
    fn from(error: PromptError) -> Self {
        Self::Prompts(Box::new(error))
    }
}

/// Averages the attention of every head of `decoder` at the last token of `prompts`, which are those of `set` (or of one
/// split of it) as tokens of the model of `tokenizer`.
///
/// `observe` receives progress: readings so far, and in total.
///
/// # Errors
/// See [`AttentionError`].
pub fn attend(
    decoder: &Decoder,
    set: &PromptSet,
    prompts: &TokenizedPrompts,
    tokenizer: &dyn Tokenize,
    options: cs_engine::Options,
    observe: &mut dyn FnMut(u64, u64),
) -> Result<TaskAttention, AttentionError> {
    let spec = decoder.spec();
    let roles = set.token_roles(tokenizer, prompts)?;
    let texts = Texts::new(prompts, &roles, tokenizer)?;
    let mut heads = vec![Sums::new(texts.names.len()); spec.n_heads_total()];
    let chosen = examples(prompts);
    let example = |&at: &usize| example(&prompts.prompts[at], &roles[at], spec.n_heads_total(), tokenizer);
    let mut examples: Vec<ExamplePrompt> = chosen.iter().map(example).collect::<Result<_, _>>()?;
    let (mut done, total) = (0, (prompts.prompts.len() * spec.n_layers) as u64);
    attention_rows(decoder, &read(prompts), Queries::Last, options, &mut |seen: AttentionRow<'_>| {
        let (roles, texts) = (&roles[seen.prompt][seen.first..], &texts.of[seen.prompt][seen.first..]);
        let weight = f64::from(prompts.prompts[seen.prompt].weight);
        let of_layer = &mut heads[seen.layer * spec.n_heads..][..spec.n_heads];
        for (head, attention) in of_layer.iter_mut().zip(seen.weights.chunks_exact(seen.n_seen)) {
            head.add(weight, attention, roles, texts);
        }
        if let Some(place) = chosen.iter().position(|&at| at == seen.prompt) {
            let of_layer = &mut examples[place].thousandths[seen.layer * spec.n_heads..][..spec.n_heads];
            for (head, attention) in of_layer.iter_mut().zip(seen.weights.chunks_exact(seen.n_seen)) {
                let shares = attention.iter().map(|&share| (share * 1000.0).round() as u16);
                head[seen.first..].iter_mut().zip(shares).for_each(|(cell, share)| *cell = share);
            }
        }
        done += 1;
        observe(done, total);
    })?;

    let drawn: u64 = prompts.prompts.iter().map(|p| u64::from(p.weight)).sum();
    let mut averaged = Vec::with_capacity(heads.len());
    for (at, sums) in heads.into_iter().enumerate() {
        let (layer, head) = (at / spec.n_heads, at % spec.n_heads);
        if !sums.roles.iter().all(|(sum, _)| sum.is_finite()) {
            return Err(AttentionError::NotFinite { layer, head });
        }
        averaged.push(sums.average(layer, head, drawn as f64, &texts.names));
    }
    Ok(TaskAttention {
        task: prompts.task.clone(),
        n_prompts: drawn,
        n_distinct_prompts: prompts.prompts.len() as u64,
        heads: averaged,
        examples,
    })
}

/// Indices of up to [`N_EXAMPLES`] prompts, of different templates if possible.
fn examples(prompts: &TokenizedPrompts) -> Vec<usize> {
    let template = |at: usize| &prompts.prompts[at].template;
    let mut chosen: Vec<usize> = Vec::new();
    for at in 0..prompts.prompts.len() {
        if chosen.len() < N_EXAMPLES && chosen.iter().all(|&known| template(known) != template(at)) {
            chosen.push(at);
        }
    }
    let others: Vec<usize> = (0..prompts.prompts.len()).filter(|at| !chosen.contains(at)).collect();
    chosen.extend(others.into_iter().take(N_EXAMPLES - chosen.len()));
    chosen.sort_unstable();
    chosen
}

/// A prompt whose attention has not been read yet.
fn example(
    prompt: &TokenizedPrompt,
    roles: &[TokenRole],
    n_heads: usize,
    tokenizer: &dyn Tokenize,
) -> Result<ExamplePrompt, AttentionError> {
    let ids = &prompt.token_ids;
    let n_bos = usize::from(roles.first() == Some(&TokenRole::Bos));
    let decode = |ids: &[u32]| {
        let id = ids.last().copied().unwrap_or_default();
        tokenizer.decode(ids).map_err(|source| AttentionError::Decode { id, source })
    };
    let mut tokens = Vec::with_capacity(ids.len());
    for (at, id) in ids.iter().enumerate() {
        let alone = decode(&[*id])?;
        // What a token adds to the text before it: some tokenizers drop the space when decoding a single token.
        let added = if at > n_bos {
            let (before, with) = (decode(&ids[n_bos..at])?, decode(&ids[n_bos..=at])?);
            with.strip_prefix(&before).map(str::to_owned)
        } else {
            None
        };
        tokens.push(added.unwrap_or(alone));
    }
    Ok(ExamplePrompt {
        tokens,
        correct: prompt.correct.clone(),
        distractor: prompt.distractor.clone(),
        thousandths: vec![vec![0; ids.len()]; n_heads],
    })
}

/// The cost of [`attend`] on a model of this shape, without running it: one plain run.
///
/// # Errors
/// See [`EngineError`].
pub fn cost(
    spec: &ModelSpec,
    prompts: &TokenizedPrompts,
    options: cs_engine::Options,
) -> Result<cs_engine::Cost, EngineError> {
    cs_engine::cost(spec, &read(prompts), &[], options)
}

/// The prompts, without logits to read.
fn read(prompts: &TokenizedPrompts) -> Vec<cs_engine::Prompt> {
    let tokens = prompts.prompts.iter().map(|p| p.token_ids.clone());
    tokens.map(|tokens| cs_engine::Prompt { tokens, ..cs_engine::Prompt::default() }).collect()
}

/// The distinct texts of tokens that are neither BOS nor a name.
struct Texts {
    names: Vec<String>,
    /// For each prompt and token, which text it is.
    of: Vec<Vec<Option<usize>>>,
}

impl Texts {
    fn new(
        prompts: &TokenizedPrompts,
        roles: &[Vec<TokenRole>],
        tokenizer: &dyn Tokenize,
    ) -> Result<Self, AttentionError> {
        let mut texts = Self { names: Vec::new(), of: Vec::new() };
        let mut known: BTreeMap<u32, usize> = BTreeMap::new();
        for (prompt, roles) in prompts.prompts.iter().zip(roles) {
            let mut of_prompt = Vec::with_capacity(roles.len());
            for (&id, role) in prompt.token_ids.iter().zip(roles) {
                if role.is_name() || *role == TokenRole::Bos {
                    of_prompt.push(None);
                    continue;
                }
                let at = match known.get(&id) {
                    Some(&at) => at,
                    None => {
                        let text = tokenizer.decode(&[id]);
                        texts.place(text.map_err(|source| AttentionError::Decode { id, source })?)
                    }
                };
                known.insert(id, at);
                of_prompt.push(Some(at));
            }
            texts.of.push(of_prompt);
        }
        Ok(texts)
    }

    /// The index of a text in the list, to which a new one is added.
    fn place(&mut self, text: String) -> usize {
        self.names.iter().position(|known| *known == text).unwrap_or_else(|| {
            self.names.push(text);
            self.names.len() - 1
        })
    }
}

/// One head's attention, summed over prompts.
#[derive(Clone)]
struct Sums {
    /// For each role, the sum and the sum of squares.
    roles: [(f64, f64); TokenRole::ALL.len()],
    texts: Vec<f64>,
}

impl Sums {
    fn new(n_texts: usize) -> Self {
        Self { roles: [(0.0, 0.0); TokenRole::ALL.len()], texts: vec![0.0; n_texts] }
    }

    /// Adds one prompt that was drawn `weight` times.
    fn add(&mut self, weight: f64, attention: &[f32], roles: &[TokenRole], texts: &[Option<usize>]) {
        let mut by_role = [0.0; TokenRole::ALL.len()];
        for ((&attention, &role), text) in attention.iter().zip(roles).zip(texts) {
            let attention = f64::from(attention);
            by_role[role as usize] += attention;
            if let Some(text) = *text {
                self.texts[text] += weight * attention;
            }
        }
        for ((sum, squares), value) in self.roles.iter_mut().zip(by_role) {
            *sum += weight * value;
            *squares += weight * value * value;
        }
    }

    fn average(&self, layer: usize, head: usize, drawn: f64, names: &[String]) -> HeadAttention {
        let mean = self.roles.map(|(sum, _)| sum / drawn);
        let variance = |at: usize| (self.roles[at].1 / drawn - mean[at] * mean[at]).max(0.0);
        let mut order: Vec<usize> = (0..names.len()).filter(|&at| self.texts[at] > 0.0).collect();
        order.sort_by(|&a, &b| self.texts[b].total_cmp(&self.texts[a]).then_with(|| names[a].cmp(&names[b])));
        let text =
            |&at: &usize| TextAttention { text: names[at].clone(), mean: (self.texts[at] / drawn) as f32 };
        HeadAttention {
            layer: layer as u32,
            head: head as u32,
            mean: mean.map(|m| m as f32),
            sd: std::array::from_fn(|at| variance(at).sqrt() as f32),
            texts: order.iter().take(TOP_TEXTS).map(text).collect(),
        }
    }
}
