//! What must hold for any model: random small decoders of every layout, against a plain implementation and against
//! transformations that cannot change a result.

mod plain;

use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement, Stream};
use cs_engine::weights::{LayerNorm, LayerWeights, Linear, Mlp, Weights};
use cs_engine::{EngineError, Options, Prompt, Readings, last_attention};
use cs_kernels::PackedMatrix;
use cs_model::spec::{Activation, BlockLayout, ModelSpec, NormPlacement, Positions};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const D_VOCAB: usize = 11;
const N_CTX: usize = 9;

/// A random model's plain numbers, from which decoders are built.
#[derive(Clone, Debug)]
struct Parts {
    spec: ModelSpec,
    embed: Vec<f32>,
    pos_embed: Vec<f32>,
    layers: Vec<Block>,
    ln_final: [Vec<f32>; 2],
    unembed: Vec<f32>,
}

/// One block's numbers, matrices row-major `[d_in, d_out]`.
#[derive(Clone, Debug)]
struct Block {
    ln1: [Vec<f32>; 2],
    w_qkv: Vec<f32>,
    b_qkv: Vec<f32>,
    w_o: Vec<f32>,
    b_o: Vec<f32>,
    ln2: [Vec<f32>; 2],
    w_in: Vec<f32>,
    b_in: Vec<f32>,
    w_out: Vec<f32>,
    b_out: Vec<f32>,
}

impl Parts {
    fn random(
        seed: u64,
        block: BlockLayout,
        norm: NormPlacement,
        rotary: bool,
        window: Option<usize>,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // A sum of three uniform numbers is close enough to normal.
        let mut normal =
            move || (0..3).map(|_| f64::from(rng.next_u32()) / 2f64.powi(31) - 1.0).sum::<f64>() as f32;
        let (n_layers, n_heads, d_head, d_model, d_mlp) = (3, 3, 6, 10, 13);
        let d_attn = n_heads * d_head;
        let positions = match rotary {
            true => Positions::Rotary { n_dims: 4, base: 100.0 },
            false => Positions::Learned { offset: 1 },
        };
        let spec = ModelSpec {
            n_layers,
            n_heads,
            d_model,
            d_head,
            d_mlp,
            d_vocab: D_VOCAB,
            d_embed: d_model,
            n_ctx: N_CTX,
            positions,
            block,
            norm,
            norm_eps: 1e-5,
            final_norm: true,
            activation: Activation::GeluTanh,
            attn_scale: vec![0.4; n_layers],
            windows: vec![None, window, None],
            tied_unembed: false,
        };
        let mut vector =
            |n: usize, mean: f32, sd: f32| (0..n).map(|_| mean + sd * normal()).collect::<Vec<f32>>();
        let mut layers = Vec::new();
        for _ in 0..n_layers {
            layers.push(Block {
                ln1: [vector(d_model, 1.0, 0.3), vector(d_model, 0.0, 0.3)],
                w_qkv: vector(d_model * 3 * d_attn, 0.0, 0.5),
                b_qkv: vector(3 * d_attn, 0.0, 0.3),
                w_o: vector(d_attn * d_model, 0.0, 0.3),
                b_o: vector(d_model, 0.0, 0.3),
                ln2: [vector(d_model, 1.0, 0.3), vector(d_model, 0.0, 0.3)],
                w_in: vector(d_model * d_mlp, 0.0, 0.4),
                b_in: vector(d_mlp, 0.0, 0.3),
                w_out: vector(d_mlp * d_model, 0.0, 0.4),
                b_out: vector(d_model, 0.0, 0.3),
            });
        }
        Self {
            embed: vector(D_VOCAB * d_model, 0.0, 1.0),
            pos_embed: if rotary { vec![] } else { vector((N_CTX + 1) * d_model, 0.0, 0.5) },
            layers,
            ln_final: [vector(d_model, 1.0, 0.3), vector(d_model, 0.0, 0.3)],
            unembed: vector(D_VOCAB * d_model, 0.0, 1.0),
            spec,
        }
    }

    fn decoder(&self) -> Decoder {
        let spec = &self.spec;
        let (d_model, d_attn, d_mlp) = (spec.d_model, spec.d_attn(), spec.d_mlp);
        let linear = |w: &[f32], b: &[f32], d_in: usize, d_out: usize| Linear {
            weight: PackedMatrix::from_rows(w, d_in, d_out),
            bias: Some(b.to_vec()),
        };
        let norm = |[w, b]: &[Vec<f32>; 2]| LayerNorm { weight: Some(w.clone()), bias: Some(b.clone()) };
        let layers = self.layers.iter().map(|b| LayerWeights {
            ln1: norm(&b.ln1),
            w_qkv: linear(&b.w_qkv, &b.b_qkv, d_model, 3 * d_attn),
            w_o: linear(&b.w_o, &b.b_o, d_attn, d_model),
            ln2: norm(&b.ln2),
            mlp: Some(Mlp {
                w_in: linear(&b.w_in, &b.b_in, d_model, d_mlp),
                w_out: linear(&b.w_out, &b.b_out, d_mlp, d_model),
            }),
        });
        let weights = Weights {
            embed: self.embed.clone(),
            pos_embed: self.pos_embed.clone(),
            project_in: None,
            layers: layers.collect(),
            ln_final: norm(&self.ln_final),
            project_out: None,
            unembed: Some(self.unembed.clone()),
        };
        Decoder::new(spec.clone(), weights)
    }

    /// The same model with its heads in another order: new head `h` is old head `order[h]`.
    fn with_heads_permuted(&self, order: &[usize]) -> Self {
        let mut new = self.clone();
        let (d_head, d_attn, d_model) = (self.spec.d_head, self.spec.d_attn(), self.spec.d_model);
        for (new, old) in new.layers.iter_mut().zip(&self.layers) {
            for (to, &from) in order.iter().enumerate() {
                for i in 0..d_head {
                    for third in 0..3 {
                        let (to, from) =
                            (third * d_attn + to * d_head + i, third * d_attn + from * d_head + i);
                        new.b_qkv[to] = old.b_qkv[from];
                        for row in 0..d_model {
                            new.w_qkv[row * 3 * d_attn + to] = old.w_qkv[row * 3 * d_attn + from];
                        }
                    }
                    let (to, from) = ((to * d_head + i) * d_model, (from * d_head + i) * d_model);
                    new.w_o[to..to + d_model].copy_from_slice(&old.w_o[from..from + d_model]);
                }
            }
        }
        new
    }

    /// Scales a head's values by `c` and its output matrix by `1 / c`.
    fn with_values_scaled(&self, layer: usize, head: usize, c: f32) -> Self {
        let mut new = self.clone();
        let (d_head, d_attn, d_model) = (self.spec.d_head, self.spec.d_attn(), self.spec.d_model);
        let block = &mut new.layers[layer];
        for i in head * d_head..(head + 1) * d_head {
            block.b_qkv[2 * d_attn + i] *= c;
            (0..d_model).for_each(|row| block.w_qkv[row * 3 * d_attn + 2 * d_attn + i] *= c);
            block.w_o[i * d_model..(i + 1) * d_model].iter_mut().for_each(|w| *w /= c);
        }
        new
    }

    fn with_no_output(&self, layer: usize, head: usize) -> Self {
        let mut new = self.clone();
        let (d_head, d_model) = (self.spec.d_head, self.spec.d_model);
        new.layers[layer].w_o[head * d_head * d_model..(head + 1) * d_head * d_model].fill(0.0);
        new
    }
}

fn any_model() -> impl Strategy<Value = Parts> {
    let layouts = prop_oneof![
        Just((BlockLayout::Sequential, NormPlacement::Pre)),
        Just((BlockLayout::Parallel, NormPlacement::Pre)),
        Just((BlockLayout::Sequential, NormPlacement::Post)),
    ];
    let window = prop_oneof![Just(None), (1usize..5).prop_map(Some)];
    (any::<u64>(), layouts, any::<bool>(), window)
        .prop_map(|(seed, (block, norm), rotary, window)| Parts::random(seed, block, norm, rotary, window))
}

/// Prompts over a tiny vocabulary, so that they share prefixes; each with a source of its length.
fn any_prompts() -> impl Strategy<Value = Vec<Prompt>> {
    let token = 0u32..4;
    let tokens = proptest::collection::vec((token.clone(), token), 1..N_CTX);
    let prompt = tokens.prop_map(|pairs| {
        let (tokens, source): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
        let group = tokens.len() as u32;
        Prompt { tokens, source: Some(source), group, weight: 1.0, read: (0..D_VOCAB as u32).collect() }
    });
    proptest::collection::vec(prompt, 1..7)
}

fn heads(parts: &Parts) -> Vec<(usize, usize)> {
    (0..parts.spec.n_layers).flat_map(|l| (0..parts.spec.n_heads).map(move |h| (l, h))).collect()
}

fn ablations(parts: &Parts, replacement: Replacement) -> Vec<Branch> {
    heads(parts).into_iter().map(|head| Branch::ablate([head], replacement)).collect()
}

fn collect(parts: &Parts, prompts: &[Prompt], branches: &[Branch]) -> Readings {
    Readings::collect(&parts.decoder(), prompts, branches, Options::default()).unwrap()
}

fn close(a: &[f64], b: &[f64]) -> bool {
    let scale = a.iter().chain(b).fold(1.0, |m: f64, x| m.max(x.abs()));
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * scale)
}

/// Attention at each prompt's last token: by prompt, layer and head, over the positions from `first` on; in the order in which
/// a layer's prompts came.
type LastAttention = Vec<(usize, usize, usize, Vec<Vec<f32>>)>;

fn attention(parts: &Parts, prompts: &[Prompt], memory: usize) -> Result<LastAttention, EngineError> {
    let mut found = Vec::new();
    last_attention(&parts.decoder(), prompts, Options { memory }, &mut |seen| {
        let heads = seen.weights.chunks(seen.n_seen).map(<[f32]>::to_vec).collect();
        found.push((seen.layer, seen.prompt, seen.first, heads));
    })?;
    found.sort_by_key(|of_prompt| of_prompt.0); // stable: prompts keep their order
    Ok(found)
}

const ALL_REPLACEMENTS: [Replacement; 4] =
    [Replacement::Zero, Replacement::ValueBias, Replacement::GroupMean, Replacement::Source];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn forest_is_the_plain_forward_pass(parts in any_model(), prompts in any_prompts()) {
        let readings = collect(&parts, &prompts, &ablations(&parts, Replacement::Zero));
        for (p, prompt) in prompts.iter().enumerate() {
            prop_assert!(close(readings.plain(p), &plain::logits(&parts, &prompt.tokens, None)));
            for (b, head) in heads(&parts).into_iter().enumerate() {
                prop_assert!(close(readings.branch(b, p), &plain::logits(&parts, &prompt.tokens, Some(head))));
            }
        }
    }

    #[test]
    fn attention_at_the_last_token_is_that_of_the_plain_forward_pass(
        parts in any_model(), prompts in any_prompts(),
    ) {
        let found = attention(&parts, &prompts, Options::default().memory).unwrap();
        prop_assert_eq!(found.len(), prompts.len() * parts.spec.n_layers);
        for (layer, prompt, first, heads) in &found {
            let tokens = &prompts[*prompt].tokens;
            let expected = plain::last_attention(&parts, tokens);
            prop_assert_eq!(heads.len(), parts.spec.n_heads);
            for (found, expected) in heads.iter().zip(&expected[layer * parts.spec.n_heads..]) {
                let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
                prop_assert_eq!((first + found.len(), found.len()), (tokens.len(), expected.len()));
                prop_assert!(close(&found, expected), "L{}: {:?}, not {:?}", layer, found, expected);
            }
        }
        // Memory for as few prompts at a time as possible: the same bits, in the same order.
        let least = (8..).map(|bits| 1 << bits).find(|&memory| attention(&parts, &prompts, memory).is_ok());
        prop_assert_eq!(&attention(&parts, &prompts, least.unwrap()).unwrap(), &found);
    }

    #[test]
    fn permuting_heads_permutes_results(parts in any_model(), prompts in any_prompts()) {
        let order = [2, 0, 1];
        let permuted = parts.with_heads_permuted(&order);
        for replacement in ALL_REPLACEMENTS {
            let old = collect(&parts, &prompts, &ablations(&parts, replacement));
            let new = collect(&permuted, &prompts, &ablations(&permuted, replacement));
            for p in 0..prompts.len() {
                for layer in 0..parts.spec.n_layers {
                    for (to, from) in order.iter().enumerate() {
                        prop_assert!(close(new.branch(layer * 3 + to, p), old.branch(layer * 3 + from, p)));
                    }
                }
            }
        }
    }

    #[test]
    fn scaling_values_against_outputs_changes_nothing(
        parts in any_model(), prompts in any_prompts(), layer in 0usize..3, head in 0usize..3, c in 0.25f32..4.0,
    ) {
        let scaled = parts.with_values_scaled(layer, head, c);
        for replacement in ALL_REPLACEMENTS {
            let branches = ablations(&parts, replacement);
            let (old, new) = (collect(&parts, &prompts, &branches), collect(&scaled, &prompts, &branches));
            for p in 0..prompts.len() {
                prop_assert!((0..branches.len()).all(|b| close(old.branch(b, p), new.branch(b, p))));
            }
        }
    }

    #[test]
    fn a_head_without_output_has_no_effect_at_all(
        parts in any_model(), prompts in any_prompts(), layer in 0usize..3, head in 0usize..3,
    ) {
        let silent = parts.with_no_output(layer, head);
        for replacement in ALL_REPLACEMENTS {
            let readings = collect(&silent, &prompts, &[Branch::ablate([(layer, head)], replacement)]);
            for p in 0..prompts.len() {
                prop_assert_eq!(readings.plain(p), readings.branch(0, p)); // to the bit
            }
        }
    }

    #[test]
    fn patching_from_the_same_run_changes_nothing(parts in any_model(), mut prompts in any_prompts()) {
        prompts.iter_mut().for_each(|p| p.source = Some(p.tokens.clone()));
        for stream in [Stream::Q, Stream::K, Stream::V, Stream::Z] {
            let branches: Vec<Branch> =
                heads(&parts).into_iter().map(|h| Branch::patch([h], stream, Replacement::Source)).collect();
            let readings = collect(&parts, &prompts, &branches);
            for p in 0..prompts.len() {
                for b in 0..branches.len() {
                    prop_assert_eq!(readings.plain(p), readings.branch(b, p)); // to the bit
                }
            }
        }
    }

    /// A pattern is made of scores that are computed again: the same up to rounding.
    #[test]
    fn patching_a_pattern_from_the_same_run_changes_nothing(parts in any_model(), mut prompts in any_prompts()) {
        prompts.iter_mut().for_each(|p| p.source = Some(p.tokens.clone()));
        let patch = |h| Branch::patch([h], Stream::Pattern, Replacement::Source);
        let branches: Vec<Branch> = heads(&parts).into_iter().map(patch).collect();
        let readings = collect(&parts, &prompts, &branches);
        for p in 0..prompts.len() {
            for b in 0..branches.len() {
                prop_assert!(close(readings.plain(p), readings.branch(b, p)));
            }
        }
    }

    /// Attention is all that passes between positions, so with every head's z from the source, a position whose token is
    /// the source's is as in the source, and any other is not.
    #[test]
    fn patching_every_z_restores_the_source_where_tokens_agree(
        parts in any_model(), mut prompts in any_prompts(),
    ) {
        let mut sources = prompts.clone();
        for (p, (prompt, source)) in prompts.iter_mut().zip(&mut sources).enumerate() {
            source.tokens = prompt.source.clone().unwrap_or_else(|| prompt.tokens.clone());
            let last = prompt.tokens.len() - 1;
            if p % 2 == 0 {
                source.tokens[last] = prompt.tokens[last];
            }
            prompt.source = Some(source.tokens.clone());
        }
        let everything = Branch::patch(heads(&parts), Stream::Z, Replacement::Source);
        let readings = collect(&parts, &prompts, &[everything]);
        let clean = collect(&parts, &sources, &[]);
        for (p, (prompt, source)) in prompts.iter().zip(&sources).enumerate() {
            let agree = prompt.tokens.last() == source.tokens.last();
            prop_assert_eq!(close(readings.branch(0, p), clean.plain(p)), agree, "prompt {}", p);
        }
    }

    #[test]
    fn a_prompt_does_not_feel_the_others(parts in any_model(), prompts in any_prompts()) {
        let branches: Vec<Branch> = [Replacement::ValueBias, Replacement::Source]
            .into_iter()
            .flat_map(|r| ablations(&parts, r))
            .collect();
        let together = collect(&parts, &prompts, &branches);
        for (p, prompt) in prompts.iter().enumerate() {
            let alone = collect(&parts, std::slice::from_ref(prompt), &branches);
            prop_assert_eq!(alone.plain(0), together.plain(p)); // to the bit
            for b in 0..branches.len() {
                prop_assert_eq!(alone.branch(b, 0), together.branch(b, p));
            }
        }
    }

    /// Branches that begin alike are run together until they part; no bit of a result may show it, whatever else is run with
    /// a branch and however little memory there is.
    #[test]
    fn a_branch_does_not_feel_the_others(
        parts in any_model(),
        mut prompts in any_prompts(),
        sets in prop::collection::vec((prop::collection::vec((0usize..3, 0usize..3), 0..5), 0usize..6), 1..12),
    ) {
        for prompt in &mut prompts {
            prompt.source = Some(prompt.tokens.iter().map(|t| (t + 1) % D_VOCAB as u32).collect());
        }
        let branches = |streams: &[Stream]| -> Vec<Branch> {
            let one = |(heads, kind): &(Vec<(usize, usize)>, usize)| match kind % streams.len() {
                0 => Branch::ablate(heads.iter().copied(), Replacement::ValueBias),
                i => Branch::patch(heads.iter().copied(), streams[i], Replacement::Source),
            };
            sets.iter().map(one).collect()
        };
        let z_alone = branches(&[Stream::Z, Stream::Z]);
        let all_streams = branches(&[Stream::Z, Stream::Z, Stream::Q, Stream::K, Stream::V, Stream::Pattern]);
        for branches in [z_alone, all_streams] {
            let together = collect(&parts, &prompts, &branches);
            let decoder = parts.decoder();
            let least = match Readings::collect(&decoder, &prompts, &branches, Options { memory: 0 }) {
                Err(EngineError::Memory { need, .. }) => need,
                other => panic!("no memory was enough: {other:?}"),
            };
            let tight = Readings::collect(&decoder, &prompts, &branches, Options { memory: least }).unwrap();
            prop_assert_eq!(&tight, &together);
            for (i, branch) in branches.iter().enumerate() {
                let alone = collect(&parts, &prompts, std::slice::from_ref(branch));
                for p in 0..prompts.len() {
                    prop_assert_eq!(alone.branch(0, p), together.branch(i, p), "branch {} of {:?}", i, branches);
                }
            }
        }
    }

    #[test]
    fn a_weight_is_that_many_prompts(parts in any_model(), prompts in any_prompts()) {
        let twice: Vec<Prompt> = prompts.iter().flat_map(|p| [p.clone(), p.clone()]).collect();
        let mut weighted = prompts.clone();
        weighted.iter_mut().for_each(|p| p.weight = 2.0);
        let branches = ablations(&parts, Replacement::GroupMean);
        let (a, b) = (collect(&parts, &twice, &branches), collect(&parts, &weighted, &branches));
        for p in 0..prompts.len() {
            for branch in 0..branches.len() {
                prop_assert!(close(a.branch(branch, 2 * p), b.branch(branch, p)));
            }
        }
    }
}
