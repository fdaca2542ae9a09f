//! Scores of head roles, from attention on repeated random tokens and on a task's prompts; [`cs_analysis::roles`] defines them.

use cs_analysis::direct::compares_with_delta;
use cs_analysis::head_id::HeadId;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::roles::{PatternScores, TaskRoles, TaskScores, ranged_means, ranged_products};
use cs_analysis::scan_file::Split;
use cs_analysis::stats::Seed;
use cs_analysis::stats::bootstrap::weighted_mean;
use cs_engine::decoder::Decoder;
use cs_engine::{Cost, EngineError, Options, Prompt, Queries, attention_rows};
use cs_model::spec::ModelSpec;

use crate::prompts::{Draw, TokenizedPrompts};

/// Sequences of repeated random tokens.
const N_SEQUENCES: usize = 32;
/// Maximum number of random tokens in each, before repetition.
const N_RANDOM_TOKENS: usize = 25;
/// Minimum number of random tokens for a meaningful repetition.
const FEWEST_RANDOM_TOKENS: usize = 3;

/// Repeated sequences of different random tokens, starting with one BOS if the model has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatedTokens {
    /// `[n_sequences]`, all of the same length.
    pub sequences: Vec<Vec<u32>>,
    /// Number of random tokens in each, before repetition.
    pub n_random: usize,
}

impl RepeatedTokens {
    /// Draws from `ids`, as many as fit into `n_ctx` tokens; none if that is too few for a score.
    #[must_use]
    pub fn draw(seed: u64, bos: Option<u32>, ids: &[u32], n_ctx: usize) -> Self {
        let room = n_ctx.saturating_sub(usize::from(bos.is_some())) / 2;
        let n_random = N_RANDOM_TOKENS.min(room).min(ids.len());
        if n_random < FEWEST_RANDOM_TOKENS {
            return Self { sequences: vec![], n_random };
        }
        let mut draw = Draw::new("", seed, "repeated random tokens");
        let sequence = |_| {
            let mut random: Vec<u32> = Vec::with_capacity(n_random);
            while random.len() < n_random {
                let id = ids[draw.below(ids.len())];
                if !random.contains(&id) {
                    random.push(id);
                }
            }
            bos.iter().chain(&random).chain(&random).copied().collect()
        };
        Self { sequences: (0..N_SEQUENCES).map(sequence).collect(), n_random }
    }

    fn prompts(&self) -> Vec<Prompt> {
        self.sequences.iter().map(|tokens| Prompt { tokens: tokens.clone(), ..Prompt::default() }).collect()
    }

    /// The cost of [`pattern_scores`] on a model of this shape, without running it: one plain run.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn cost(&self, spec: &ModelSpec, options: Options) -> Result<Cost, EngineError> {
        match self.sequences.is_empty() {
            true => Ok(Cost::default()),
            false => cs_engine::cost(spec, &self.prompts(), &[], options),
        }
    }
}

/// For each query of a sequence, the keys that a previous-token, a duplicate-token and an induction head attend to: the detection
/// patterns of TransformerLens's `head_detector`.
fn detection_patterns(tokens: &[u32]) -> [Vec<Vec<usize>>; 3] {
    let before = |query: usize, after: usize| -> Vec<usize> {
        let same = (0..query).filter(|&key| tokens[key] == tokens[query]);
        same.map(|key| key + after).filter(|&key| key <= query).collect()
    };
    let queries = 0..tokens.len();
    [
        queries.clone().map(|query| query.checked_sub(1).into_iter().collect()).collect(),
        queries.clone().map(|query| before(query, 0)).collect(),
        queries.map(|query| before(query, 1)).collect(),
    ]
}

/// Attention of every head to the tokens that a previous-token, a duplicate-token and an induction head attend to, averaged over the queries
/// of a sequence that have such a key: `[3]` of `[n_heads_total]` of `[n_sequences]`. NaN if no query of a sequence has one.
///
/// # Errors
/// See [`EngineError`].
pub fn attention_scores(
    decoder: &Decoder,
    sequences: &[Vec<u32>],
    options: Options,
) -> Result<[Vec<Vec<f64>>; 3], EngineError> {
    let spec = decoder.spec();
    let patterns: Vec<_> = sequences.iter().map(|tokens| detection_patterns(tokens)).collect();
    let mut scores: [Vec<Vec<f64>>; 3] =
        std::array::from_fn(|_| vec![vec![0.0; sequences.len()]; spec.n_heads_total()]);
    let prompts: Vec<Prompt> =
        sequences.iter().map(|tokens| Prompt { tokens: tokens.clone(), ..Prompt::default() }).collect();
    attention_rows(decoder, &prompts, Queries::All, options, &mut |row| {
        let query = row.first + row.n_seen - 1;
        for (scores, pattern) in scores.iter_mut().zip(&patterns[row.prompt]) {
            let keys = pattern[query].iter().filter_map(|key| key.checked_sub(row.first));
            let heads = &mut scores[row.layer * spec.n_heads..][..spec.n_heads];
            for (head, attention) in heads.iter_mut().zip(row.weights.chunks_exact(row.n_seen)) {
                head[row.prompt] += keys.clone().map(|key| f64::from(attention[key])).sum::<f64>();
            }
        }
    })?;
    for (which, scores) in scores.iter_mut().enumerate() {
        let n_queries = |p: usize| patterns[p][which].iter().filter(|keys| !keys.is_empty()).count() as f64;
        let n_queries: Vec<f64> = (0..sequences.len()).map(n_queries).collect();
        scores.iter_mut().for_each(|head| head.iter_mut().zip(&n_queries).for_each(|(sum, n)| *sum /= n));
    }
    Ok(scores)
}

/// The scores of every head on repeated random tokens, with intervals over the sequences; none if there are no sequences.
///
/// # Errors
/// See [`EngineError`].
pub fn pattern_scores(
    decoder: &Decoder,
    tokens: &RepeatedTokens,
    (seed, model): (u64, &str),
    options: Options,
) -> Result<Vec<PatternScores>, EngineError> {
    if tokens.sequences.is_empty() {
        return Ok(vec![]);
    }
    let weights = vec![1; tokens.sequences.len()];
    let scores = attention_scores(decoder, &tokens.sequences, options)?;
    let seed = Seed::new(seed, &[model, "repeated random tokens"]);
    let [previous, duplicate, induction] = scores.map(|series| ranged_means(&series, &weights, &seed));
    let ranged = previous.into_iter().zip(duplicate).zip(induction);
    Ok(heads(decoder.spec())
        .zip(ranged)
        .map(|(id, ((previous_token, duplicate_token), induction))| PatternScores {
            layer: id.layer,
            head: id.head,
            previous_token,
            duplicate_token,
            induction,
        })
        .collect())
}

/// Attention from the last token of each prompt to the answer, to the distractor, and to the distractor's second mention. `[3]`
/// of `[n_heads_total]` of `[n_prompts]`; 0 if a prompt has no such token.
///
/// # Errors
/// See [`EngineError`].
pub fn last_attention_to_answers(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    options: Options,
) -> Result<[Vec<Vec<f64>>; 3], EngineError> {
    let spec = decoder.spec();
    let places: Vec<[Vec<usize>; 3]> =
        prompts.prompts.iter().map(|p| answer_places(&p.token_ids, p.correct_id, p.distractor_id)).collect();
    let mut found: [Vec<Vec<f64>>; 3] =
        std::array::from_fn(|_| vec![vec![0.0; places.len()]; spec.n_heads_total()]);
    let asked =
        |p: &crate::prompts::TokenizedPrompt| Prompt { tokens: p.token_ids.clone(), ..Prompt::default() };
    let asked: Vec<Prompt> = prompts.prompts.iter().map(asked).collect();
    attention_rows(decoder, &asked, Queries::Last, options, &mut |row| {
        for (found, places) in found.iter_mut().zip(&places[row.prompt]) {
            let heads = &mut found[row.layer * spec.n_heads..][..spec.n_heads];
            for (head, attention) in heads.iter_mut().zip(row.weights.chunks_exact(row.n_seen)) {
                let seen = places.iter().filter_map(|place| place.checked_sub(row.first));
                head[row.prompt] = seen.map(|place| f64::from(attention[place])).sum();
            }
        }
    })?;
    Ok(found)
}

/// The positions of the answer and the distractor in a prompt, and of the distractor's second mention.
fn answer_places(tokens: &[u32], correct: u32, distractor: u32) -> [Vec<usize>; 3] {
    let places = |id: u32| (0..tokens.len()).filter(move |&at| tokens[at] == id).collect::<Vec<_>>();
    let of_distractor = places(distractor);
    let again = of_distractor.iter().skip(1).copied().collect();
    [places(correct), of_distractor, again]
}

/// The scores of every head on a task's prompts of one split, with intervals over prompts. `scan` is the model's scan on all prompts of
/// the task, with the direct contribution of each head.
///
/// # Errors
/// See [`EngineError`].
pub fn task_roles(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    (scan, split): (&PerPromptScan, Split),
    options: Options,
) -> Result<TaskRoles, EngineError> {
    let of_split = prompts.restricted_to(split);
    let [to_answer, to_distractor, to_repeated] = last_attention_to_answers(decoder, &of_split, options)?;
    let weights: Vec<u32> = of_split.prompts.iter().map(|p| p.weight).collect();
    let seed = Seed::new(scan.meta.seed, &[&scan.meta.model_name, &prompts.task, split.as_str(), "roles"]);
    let n_heads = decoder.spec().n_heads_total();
    let none = || vec![Default::default(); n_heads];

    // A head's contribution is minus its direct effect. A scan of some heads has no rows for the others.
    let direct = scan.direct_differences(split).filter(|direct| direct.len() == n_heads);
    let added: Option<Vec<Vec<f64>>> =
        direct.as_ref().map(|direct| direct.iter().map(|head| head.iter().map(|d| -d).collect()).collect());
    let times_added = |attention: &[Vec<f64>]| match &added {
        Some(added) => ranged_products(attention, added, &weights, &seed),
        None => none(),
    };
    let indirect = match &direct {
        Some(direct) if compares_with_delta(&scan.meta) => {
            let less = |(delta, direct): (&Vec<f64>, &Vec<f64>)| {
                delta.iter().zip(direct).map(|(a, b)| a - b).collect()
            };
            let series: Vec<Vec<f64>> = scan.differences(split).heads.iter().zip(direct).map(less).collect();
            ranged_means(&series, &weights, &seed)
        }
        _ => none(),
    };
    let has = |which: usize| -> Vec<usize> {
        let places =
            |p: &crate::prompts::TokenizedPrompt| answer_places(&p.token_ids, p.correct_id, p.distractor_id);
        (0..weights.len()).filter(|&p| !places(&of_split.prompts[p])[which].is_empty()).collect()
    };
    // A score to which no prompt applies is missing, not 0.
    let [answered, distracted, repeated] = [has(0), has(1), has(2)];
    let name_mover = if answered.is_empty() { none() } else { times_added(&to_answer) };
    let copy_suppression = if distracted.is_empty() { none() } else { times_added(&to_distractor) };
    let some = |head: &Vec<f64>| repeated.iter().map(|&p| head[p]).collect();
    let of_repeated: Vec<u32> = repeated.iter().map(|&p| weights[p]).collect();
    let s_inhibition = ranged_means(&to_repeated.iter().map(some).collect::<Vec<_>>(), &of_repeated, &seed);

    let scores = |(at, id): (usize, HeadId)| TaskScores {
        layer: id.layer,
        head: id.head,
        name_mover: name_mover[at],
        s_inhibition: s_inhibition[at],
        copy_suppression: copy_suppression[at],
        indirect: indirect[at],
        attention: [&to_answer, &to_distractor].map(|to| weighted_mean(&to[at], &weights)),
    };
    Ok(TaskRoles {
        task: prompts.task.clone(),
        n_prompts: weights.iter().map(|&w| u64::from(w)).sum(),
        heads: heads(decoder.spec()).enumerate().map(scores).collect(),
    })
}

fn heads(spec: &ModelSpec) -> impl Iterator<Item = HeadId> {
    HeadId::all(spec.n_layers as u32, spec.n_heads as u32)
}
