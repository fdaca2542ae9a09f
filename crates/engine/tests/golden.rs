//! Parity with Hugging Face Transformers and TransformerLens on the checkpoints in `tests/golden` (see its README).
//!
//! Every value must agree to 2e-5 of max(1, the largest in its table); float32 noise on these models is a tenth of that.

mod checkpoints;

use checkpoints::{Expected, TOLERANCE, decoder, differences, golden, heads, names};
use cs_engine::decoder::Decoder;
use cs_engine::forest::Forest;
use cs_engine::intervention::{Branch, Replacement, Stream};
use cs_engine::reference::{self, Edits};
use cs_engine::weights::{Mlp, Weights};
use cs_engine::{Cache, Options, Prompt, Queries, Readings, attention_rows};
use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::ModelConfig;
use cs_model::spec::{
    Activation, BlockLayout, ModelSpec, NormKind, NormPlacement, Positions, QkNorm, Rotary, RotaryPairing,
    RotaryScaling,
};

#[test]
fn there_are_golden_checkpoints() {
    assert!(names().len() >= 48, "only {} golden checkpoints", names().len());
}

#[test]
fn logits_at_every_position() {
    for name in names() {
        let (decoder, expected) = (decoder(&name), Expected::read(&name));
        let prompts = expected.ragged("prompt_tokens");
        let forest = Forest::new(&prompts).unwrap();
        assert!(forest.n_nodes() < prompts.iter().map(Vec::len).sum(), "{name}: nothing is shared");
        let cache = Cache::new(&decoder, &forest).unwrap();
        let nodes = (0..prompts.len()).flat_map(|p| forest.path(forest.end(p)));
        let logits: Vec<f64> = nodes.flat_map(|n| cache.logits(n)).collect();
        expected.check_logits(&decoder, &logits);
    }
}

/// The reference of the property tests.
#[test]
fn the_reference_is_transformers() {
    for name in names() {
        let (decoder, expected) = (decoder(&name), Expected::read(&name));
        let prompts = expected.ragged("prompt_tokens");
        let logits =
            prompts.iter().flat_map(|tokens| reference::run(&decoder, tokens, Edits::default()).logits);
        expected.check_logits(&decoder, &logits.flatten().collect::<Vec<f64>>());
    }
}

#[test]
fn captured_activations() {
    for name in names() {
        let (decoder, expected) = (decoder(&name), Expected::read(&name));
        let prompts = expected.ragged("prompt_tokens");
        let forest = Forest::new(&prompts).unwrap();
        let cache = Cache::new(&decoder, &forest).unwrap();
        let spec = decoder.spec();
        let path = forest.path(forest.end(0));
        let gather = |of: &dyn Fn(usize) -> Vec<f32>, width: usize| -> Vec<f64> {
            let layer = |l| {
                let all = of(l);
                path.iter().flat_map(|&n| all[n as usize * width..][..width].to_vec()).collect::<Vec<f32>>()
            };
            (0..spec.n_layers).flat_map(layer).map(f64::from).collect()
        };
        let (d_model, d_attn, d_kv) = (spec.d_model, spec.d_attn(), spec.d_kv());
        expected.check("resid_pre", &gather(&|l| cache.layer(l).resid_pre.clone(), d_model));
        expected.check("resid_post", &gather(&|l| cache.layer(l).resid_post.clone(), d_model));
        assert_eq!(expected.floats("resid_mid").is_some(), cache.layer(0).resid_mid.is_some(), "{name}");
        if expected.floats("resid_mid").is_some() {
            expected.check("resid_mid", &gather(&|l| cache.layer(l).resid_mid.clone().unwrap(), d_model));
        }
        expected.check("q", &gather(&|l| cache.layer(l).q.clone(), d_attn));
        expected.check("k", &gather(&|l| cache.layer(l).k.clone(), d_kv));
        expected.check("v", &gather(&|l| cache.layer(l).v.clone(), d_kv));
        expected.check("z", &gather(&|l| cache.layer(l).z.clone(), d_attn));
        let row = |l, h, i: usize| {
            let seen = cache.pattern(l, h, path[i]);
            let mut row = vec![0.0; path.len()];
            row[i + 1 - seen.len()..=i].copy_from_slice(&seen);
            row
        };
        let pattern =
            heads(&decoder).into_iter().flat_map(|(l, h)| (0..path.len()).flat_map(move |i| row(l, h, i)));
        expected.check("pattern", &pattern.map(f64::from).collect::<Vec<_>>());

        // Rows of attention are the rows of these, to the bit.
        let tokens = prompts[0].clone();
        let prompt = Prompt { tokens, ..Prompt::default() };
        for (queries, first, n_rows) in [(Queries::Last, path.len() - 1, 1), (Queries::All, 0, path.len())] {
            let mut n_seen = 0;
            attention_rows(
                &decoder,
                std::slice::from_ref(&prompt),
                queries,
                Options::default(),
                &mut |seen| {
                    let at = seen.first + seen.n_seen - 1;
                    assert_eq!(at, first + n_seen % n_rows, "{name}: rows come in order");
                    for (head, weights) in seen.weights.chunks(seen.n_seen).enumerate() {
                        assert_eq!(weights, cache.pattern(seen.layer, head, path[at]), "{name}");
                    }
                    n_seen += 1;
                },
            )
            .unwrap();
            assert_eq!(n_seen, spec.n_layers * n_rows);
        }
    }
}

#[test]
fn every_single_head_intervention() {
    let cases = [
        ("zero_in_head", Stream::Z, Replacement::Zero),
        ("zero_folded", Stream::Z, Replacement::ValueBias),
        ("mean_diff", Stream::Z, Replacement::GroupMean),
        ("patch_z", Stream::Z, Replacement::Source),
        ("patch_v", Stream::V, Replacement::Source),
        ("patch_q", Stream::Q, Replacement::Source),
        ("patch_k", Stream::K, Replacement::Source),
        ("patch_pattern", Stream::Pattern, Replacement::Source),
    ];
    for name in names() {
        let (decoder, expected) = (decoder(&name), Expected::read(&name));
        let prompts = expected.prompts();
        expected.check_prompts("base_diff", &differences(&decoder, &prompts, &[Branch::new([])], 1 << 30));
        for (tensor, stream, replacement) in cases {
            let branch = |head| Branch::patch([head], stream, replacement);
            let branches: Vec<Branch> = heads(&decoder).into_iter().map(branch).collect();
            expected.check_prompts(tensor, &differences(&decoder, &prompts, &branches, 1 << 30));
        }
    }
}

/// A mean over one reference is a patch from it.
#[test]
fn a_mean_over_the_partner_alone_is_a_patch() {
    for name in names() {
        let (decoder, expected) = (decoder(&name), Expected::read(&name));
        let mut prompts = expected.prompts();
        for (group, prompt) in (0..).zip(&mut prompts) {
            (prompt.group, prompt.references) = (group, prompt.source.take().map(|partner| vec![partner]));
        }
        let branch = |head| Branch::ablate([head], Replacement::GroupMean);
        let branches: Vec<Branch> = heads(&decoder).into_iter().map(branch).collect();
        expected.check_prompts("patch_z", &differences(&decoder, &prompts, &branches, 1 << 30));
    }
}

#[test]
fn zeroing_agrees_with_transformer_lens() {
    let mut n_compared = 0;
    for name in names() {
        let (decoder, expected) = (decoder(&name), Expected::read(&name));
        if expected.floats("tl_zero_folded").is_none() {
            continue;
        }
        n_compared += 1;
        let branch = |head| Branch::ablate([head], Replacement::ValueBias);
        let branches: Vec<Branch> = heads(&decoder).into_iter().map(branch).collect();
        expected
            .check_prompts("tl_zero_folded", &differences(&decoder, &expected.prompts(), &branches, 1 << 30));
    }
    assert!(n_compared >= 8, "only {n_compared} checkpoints have values of TransformerLens");
}

#[test]
fn zeroing_agrees_with_both_ways_of_a_transformer_lens_4_bridge() {
    let bridge: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden().join("bridge.json")).unwrap()).unwrap();
    assert_eq!(bridge["transformer_lens"], "4.3.0");
    let checkpoints = bridge["checkpoints"].as_object().unwrap();
    assert_eq!(checkpoints.len(), 6, "one of each family that the study compares, and two others");
    let mut furthest = 0.0;
    for (name, tables) in checkpoints {
        let (decoder, prompts) = (decoder(name), Expected::read(name).prompts());
        let ablated = |replacement| {
            let branch = |head| Branch::ablate([head], replacement);
            let branches: Vec<Branch> = heads(&decoder).into_iter().map(branch).collect();
            differences(&decoder, &prompts, &branches, 1 << 30)
        };
        let of_bridge = |table: &str| -> Vec<f64> {
            let rows = tables[table].as_array().unwrap().iter();
            rows.flat_map(|row| row.as_array().unwrap()).map(|x| x.as_f64().unwrap()).collect()
        };
        let apart = |a: &[f64], b: &[f64]| {
            assert_eq!(a.len(), b.len(), "{name}");
            let scale = a.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max)
        };
        let (in_head, folded) = (ablated(Replacement::Zero), ablated(Replacement::ValueBias));
        for (table, own) in [("default", &in_head), ("compatibility_mode", &folded)] {
            let worst = apart(&of_bridge(table), own);
            assert!(worst < TOLERANCE, "{name}, {table}: {worst}");
        }
        furthest = f64::max(furthest, apart(&in_head, &folded));
    }
    assert!(furthest > 0.1, "the two must be told apart: {furthest}");
}

#[test]
fn sets_of_heads_over_several_layers() {
    for name in names() {
        let (decoder, expected) = (decoder(&name), Expected::read(&name));
        let (layers, of_layer, offsets) =
            (expected.ints("set_layer"), expected.ints("set_head"), expected.ints("set_offsets"));
        let set = |range: &[u32]| -> Vec<(usize, usize)> {
            let members = range[0] as usize..range[1] as usize;
            members.map(|i| (layers[i] as usize, of_layer[i] as usize)).collect()
        };
        let sets: Vec<_> = offsets.windows(2).map(set).collect();
        let cases = [
            ("set_zero_in_head", Replacement::Zero),
            ("set_zero_folded", Replacement::ValueBias),
            ("set_patch_z", Replacement::Source),
        ];
        for (tensor, replacement) in cases {
            let branch = |set: &Vec<_>| Branch::ablate(set.iter().copied(), replacement);
            let branches: Vec<Branch> = sets.iter().map(branch).collect();
            expected.check_prompts(tensor, &differences(&decoder, &expected.prompts(), &branches, 1 << 30));
        }
    }
}

#[test]
fn memory_and_threads_change_no_bit() {
    for name in names() {
        let (decoder, prompts) = (decoder(&name), Expected::read(&name).prompts());
        for replacement in [Replacement::ValueBias, Replacement::GroupMean, Replacement::Source] {
            let one = |head| Branch::ablate([head], replacement);
            let all = Branch::ablate(heads(&decoder), replacement);
            let branches: Vec<Branch> = heads(&decoder).into_iter().map(one).chain([all]).collect();
            let run = |threads: usize, memory: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| differences(&decoder, &prompts, &branches, memory))
            };
            let reference = run(1, 1 << 30);
            // The smallest memory in which the longest prompt fits gives the smallest chunks and stacks.
            let too_small = Readings::collect(&decoder, &prompts, &branches, Options { memory: 1 });
            let Err(cs_engine::EngineError::Memory { need, .. }) = too_small else {
                panic!("{name}: one byte is enough?")
            };
            for (threads, memory) in [(1, need), (1, 2 * need), (3, 4 * need), (4, 1 << 30)] {
                let same =
                    run(threads, memory).iter().zip(&reference).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(
                    same,
                    "{name}, {replacement:?}: {threads} threads and {memory} bytes change the result"
                );
            }
        }
    }
}

/// A change of a model's settings or weights; `false` if it does not apply to the model.
type Change = fn(&mut ModelSpec, &mut Weights) -> bool;

/// Sets a field, and returns whether that changed it.
fn set<T: PartialEq>(field: &mut T, value: T) -> bool {
    let changes = *field != value;
    *field = value;
    changes
}

fn rotary(spec: &mut ModelSpec) -> Option<&mut Rotary> {
    match &mut spec.positions {
        Positions::Rotary(rotary) => Some(rotary),
        Positions::Learned { .. } => None,
    }
}

/// The checkpoints are only useful if they reveal settings that are read or computed wrongly.
#[test]
fn every_wrong_setting_is_seen() {
    let changes: [(&str, Change); 20] = [
        ("gain without 1 +", |s, _| {
            s.norm_kind == NormKind::RmsOnePlus && set(&mut s.norm_kind, NormKind::Rms)
        }),
        ("layer norm for RMS norm", |s, _| {
            s.norm_kind == NormKind::Rms && set(&mut s.norm_kind, NormKind::Layer)
        }),
        ("no norm before branches", |s, _| {
            s.norm == NormPlacement::PreAndBranch && set(&mut s.norm, NormPlacement::Branch)
        }),
        ("no norm after branches", |s, _| {
            s.norm == NormPlacement::PreAndBranch && set(&mut s.norm, NormPlacement::Pre)
        }),
        ("norms after additions", |s, w| {
            w.layers.iter_mut().for_each(|l| {
                l.ln1 = l.ln1_post.clone().unwrap_or_default();
                l.ln2 = l.ln2_post.clone().unwrap_or_default();
            });
            s.norm == NormPlacement::Branch && set(&mut s.norm, NormPlacement::Post)
        }),
        ("eps", |s, _| s.norm_eps > 5e-4 && set(&mut s.norm_eps, 1e-5)),
        ("no norms of q and k", |s, _| set(&mut s.qk_norm, QkNorm::None)),
        ("norms of q and k swapped", |s, w| {
            w.layers.iter_mut().for_each(|l| std::mem::swap(&mut l.q_norm, &mut l.k_norm));
            s.qk_norm == QkNorm::PerHead
        }),
        ("embedding not scaled", |s, _| set(&mut s.embed_scale, None)),
        ("scores not capped", |s, _| set(&mut s.attn_softcap, None)),
        ("logits not capped", |s, _| set(&mut s.logit_softcap, None)),
        ("no windows", |s, _| {
            let all = vec![None; s.n_layers];
            set(&mut s.windows, all)
        }),
        ("scale by d_head", |s, _| {
            let scale = vec![(s.d_head as f32).powf(-0.5); s.n_layers];
            set(&mut s.attn_scale, scale)
        }),
        ("rotary pairs", |s, _| {
            let other = |pairing| match pairing {
                RotaryPairing::Halves => RotaryPairing::Interleaved,
                RotaryPairing::Interleaved => RotaryPairing::Halves,
            };
            rotary(s).is_some_and(|r| {
                let pairing = other(r.pairing);
                r.n_dims > 2 && set(&mut r.pairing, pairing)
            })
        }),
        ("rotary not scaled", |s, _| {
            let plain = |r: &mut Rotary| {
                let before = r.clone();
                r.frequencies.iter_mut().for_each(|f| f.scaling = RotaryScaling::None);
                *r != before
            };
            rotary(s).is_some_and(plain)
        }),
        ("one rotary base", |s, _| {
            let of_layer = vec![0; s.n_layers];
            rotary(s).is_some_and(|r| set(&mut r.of_layer, of_layer))
        }),
        ("activation", |s, _| {
            let other = match s.activation {
                Activation::GeluErf => Activation::GeluTanh,
                Activation::GeluTanh => Activation::GeluErf,
                Activation::Relu | Activation::Silu => Activation::GeluTanh,
            };
            set(&mut s.activation, other)
        }),
        ("gate and input swapped", |s, w| {
            let swap = |mlp: &mut Mlp| {
                if let Some(gate) = &mut mlp.w_gate {
                    std::mem::swap(gate, &mut mlp.w_in);
                }
            };
            w.layers.iter_mut().filter_map(|l| l.mlp.as_mut()).for_each(swap);
            s.gated_mlp
        }),
        ("MLP after attention", |s, _| {
            s.block == BlockLayout::ParallelOneNorm && set(&mut s.block, BlockLayout::Sequential)
        }),
        ("no unembedding bias", |_, w| w.unembed_bias.take().is_some_and(|b| b.iter().any(|&b| b != 0.0))),
    ];
    for (what, change) in changes {
        let mut n_seen = 0;
        for name in names() {
            let files = ModelFiles::folder(golden().join(&name)).unwrap();
            let config = ModelConfig::open(&files).unwrap();
            let mut weights = cs_engine::load(&Checkpoint::open(&files, &config).unwrap()).unwrap();
            let mut spec = config.spec.clone();
            if !change(&mut spec, &mut weights) {
                continue;
            }
            let expected = Expected::read(&name);
            let decoder = Decoder::new(spec, weights);
            let tokens = expected.ragged("prompt_tokens").swap_remove(0);
            let forest = Forest::new(std::slice::from_ref(&tokens)).unwrap();
            let cache = Cache::new(&decoder, &forest).unwrap();
            let found: Vec<f64> = (0..tokens.len()).flat_map(|node| cache.logits(node as u32)).collect();
            let all = expected.floats("logits").unwrap();
            let scale = all.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            n_seen +=
                usize::from(found.iter().zip(&all).any(|(a, b)| (a - b).abs() > 5.0 * TOLERANCE * scale));
        }
        assert!(n_seen > 0, "{what}: no checkpoint shows it");
        println!("{what}: {n_seen}");
    }
}
