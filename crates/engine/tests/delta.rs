//! The delta form on the CPU against the CPU's own machine: how far effects deviate from float32 by its rounding, on every
//! checkpoint in `tests/golden` and on random models; and what results must not depend on.

mod checkpoints;
mod effects;
mod random;

use checkpoints::{Expected, decoder, golden, heads, loaded, names};
use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement, Stream};
use cs_engine::{Compute, EngineError, Options, Precision, Prompt, Readings};
use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::ModelConfig;
use effects::{apart, effects, experiments, of_plain_run};
use proptest::prelude::*;
use random::{N_KINDS, any_edits, any_model, any_prompts};

#[test]
fn effects_on_every_checkpoint_are_the_processors() {
    for name in names() {
        let cpu = decoder(&name);
        let prompts = Expected::read(&name).prompts();
        // Prompts whose groups have others to average.
        let n_in = |group| prompts.iter().filter(|prompt| prompt.group == group).count();
        let with_others: Vec<Prompt> = prompts.iter().filter(|p| n_in(p.group) > 1).cloned().collect();
        let prompts_of = |what: &str| if what.ends_with("others") { &with_others } else { &prompts };
        let experiments = experiments(&cpu);
        let of_cpu = |(what, branches): &(&str, Vec<Branch>)| effects(&cpu, prompts_of(what), branches);
        let expected: Vec<Vec<f64>> = experiments.iter().map(of_cpu).collect();
        // Maximum and root mean square differences at any prompt, and the maximum difference of heads' Δ, which
        // are means over prompts.
        let bounds = [
            (Precision::F32, 1e-5, 5e-6, 2e-5),
            (Precision::Split, 2e-5, 5e-6, 2e-5),
            (Precision::Half, 5e-3, 1e-3, 2e-3),
        ];
        for (precision, at_most, in_the_mean, of_deltas) in bounds {
            let delta = loaded(&name, &Compute::delta(precision));
            let mut worst = (0.0, 0.0, 0.0);
            for ((what, branches), expected) in experiments.iter().zip(&expected) {
                let found = effects(&delta, prompts_of(what), branches);
                let (most, mean) = apart(expected, &found);
                assert!(
                    most <= at_most && mean <= in_the_mean,
                    "{name}, {precision}, {what}: {most:.1e} and {mean:.1e} of the largest effect"
                );
                worst = (f64::max(worst.0, most), f64::max(worst.1, mean), worst.2);
                if what.starts_with("z ") {
                    let n = prompts_of(what).len();
                    let (most, _) = apart(&over_prompts(expected, n), &over_prompts(&found, n));
                    assert!(most <= of_deltas, "{name}, {precision}, {what}: {most:.1e} of the largest Δ");
                    worst.2 = f64::max(worst.2, most);
                }
            }
            println!(
                "{name:28} {precision:6} {:.1e} at most, {:.1e} in the mean; Δ {:.1e}",
                worst.0, worst.1, worst.2
            );
        }
    }
}

/// Δ of each head: the mean of its effects over prompts.
fn over_prompts(effects: &[f64], n_prompts: usize) -> Vec<f64> {
    effects.chunks_exact(n_prompts).map(|of_head| of_head.iter().sum::<f64>() / n_prompts as f64).collect()
}

/// The formats are those of the checkpoints: wrong ones would still be close.
#[test]
fn logits_of_the_plain_run_are_the_processors() {
    for name in names() {
        let prompts = Expected::read(&name).prompts();
        let logits = |decoder: &Decoder| -> Vec<f64> {
            let readings = Readings::collect(decoder, &prompts, &[], Options::default()).unwrap();
            (0..prompts.len()).flat_map(|p| readings.plain(p).to_vec()).collect()
        };
        let expected = logits(&decoder(&name));
        for precision in Precision::ALL {
            let (most, _) = apart(&expected, &logits(&loaded(&name, &Compute::delta(precision))));
            assert!(most < 5e-6, "{name}, {precision}: {most:.1e}");
        }
    }
}

/// On a device, a model from float32 parameters in memory is bit-identical to the same model from its file.
#[test]
fn parameters_from_memory_and_files_are_identical_on_a_device() {
    for name in names() {
        let prompts = Expected::read(&name).prompts();
        for precision in Precision::ALL {
            let compute = Compute::delta(precision);
            let (from_file, from_memory) = (loaded(&name, &compute), decoder(&name).on(&compute).unwrap());
            let one = |head| Branch::ablate([head], Replacement::ValueBias);
            let branches: Vec<Branch> = heads(&from_file).into_iter().map(one).collect();
            let run = |decoder| Readings::collect(decoder, &prompts, &branches, Options::default()).unwrap();
            assert_eq!(run(&from_file), run(&from_memory), "{name}, {precision}");
            for layer in 0..from_file.spec().n_layers {
                assert_eq!(from_file.value_bias(layer), decoder(&name).value_bias(layer), "{name}");
            }
        }
    }
}

/// Blocks on a device are released on the host, and cannot be moved to another device.
#[test]
fn blocks_are_in_one_place() {
    let delta = Compute::delta(Precision::Split);
    for on_device in [decoder("gpt2-default").on(&delta).unwrap(), loaded("gpt2-default", &delta)] {
        let matrices = |decoder: &Decoder| decoder.weights().layers[0].w_qkv.weight.k();
        assert_eq!((matrices(&on_device), matrices(&decoder("gpt2-default"))), (0, 15));
        let error = on_device.on(&delta).err().unwrap().to_string();
        assert!(error.contains("are already on delta: load it again"), "{error}");
    }
}

#[test]
fn what_is_read_of_the_plain_run_is_the_processors() {
    for name in names() {
        let prompts = Expected::read(&name).prompts();
        let expected = of_plain_run(&decoder(&name), &prompts);
        for precision in [Precision::Split, Precision::Half] {
            let found = of_plain_run(&loaded(&name, &Compute::delta(precision)), &prompts);
            assert_eq!(expected.len(), found.len());
            for ((what, expected), (_, found)) in expected.iter().zip(&found) {
                let is_close = expected.is_empty() || apart(expected, found).0 < 1e-5;
                assert!(is_close && expected.len() == found.len(), "{name}, {precision}, {what}");
            }
        }
    }
}

#[test]
fn memory_and_threads_change_no_bit() {
    for name in names() {
        let prompts = Expected::read(&name).prompts();
        let delta = loaded(&name, &Compute::delta(Precision::Split));
        for replacement in [Replacement::ValueBias, Replacement::GroupMean, Replacement::Source] {
            let one = |head| Branch::ablate([head], replacement);
            let all = Branch::ablate(heads(&delta), replacement);
            let branches: Vec<Branch> = heads(&delta).into_iter().map(one).chain([all]).collect();
            let run = |threads: usize, memory: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| Readings::collect(&delta, &prompts, &branches, Options { memory }))
            };
            let expected = run(1, 1 << 30).unwrap();
            let Err(EngineError::Memory { need, .. }) = run(1, 1) else {
                panic!("{name}: one byte is enough?")
            };
            for (threads, memory) in [(1, need), (3, 2 * need), (2, 8 * need)] {
                let found = run(threads, memory).unwrap();
                assert_eq!(found, expected, "{name}, {replacement:?}: {threads} threads, {memory} bytes");
            }
        }
    }
}

/// Branches that change nothing have exactly the plain run's logits: a difference of 0 stays 0 through every operation.
#[test]
fn what_changes_nothing_has_no_effect_at_all() {
    for name in names() {
        let mut prompts = Expected::read(&name).prompts();
        prompts.iter_mut().for_each(|p| p.source = Some(p.tokens.clone()));
        for precision in Precision::ALL {
            let delta = loaded(&name, &Compute::delta(precision));
            for stream in Stream::ALL {
                let branch = |head| Branch::patch([head], stream, Replacement::Source);
                let branches: Vec<Branch> = heads(&delta).into_iter().map(branch).collect();
                let found = effects(&delta, &prompts, &branches);
                assert!(found.iter().all(|&x| x == 0.0), "{name}, {precision}, {stream}");
            }
        }
    }
}

/// A model with differences beyond float16's range is rejected; bfloat16 and float32 can represent them.
#[test]
fn an_overflow_is_an_error() {
    let mut n_refused = 0;
    for name in ["gpt2-default", "llama-3-rotary"] {
        let huge = |precision| {
            let files = ModelFiles::folder(golden().join(name)).unwrap();
            let config = ModelConfig::open(&files).unwrap();
            let mut weights = cs_engine::load(&Checkpoint::open(&files, &config).unwrap()).unwrap();
            let gain = weights.layers[0].ln2.weight.as_mut().unwrap();
            gain.iter_mut().for_each(|w| *w *= 1e6);
            Decoder::new(config.spec, weights).on(&Compute::delta(precision)).unwrap()
        };
        let prompts = Expected::read(name).prompts();
        for precision in Precision::ALL {
            let delta = huge(precision);
            let branches = [Branch::ablate([(0, 0)], Replacement::Zero)];
            let is_bf16 = name == "llama-3-rotary";
            let refused = precision == Precision::Half || (precision == Precision::Split && !is_bf16);
            let found = Readings::collect(&delta, &prompts, &branches, Options::default());
            assert_eq!(
                matches!(found, Err(EngineError::Overflow)),
                refused,
                "{name}, {precision}: {found:?}"
            );
            n_refused += usize::from(refused);
        }
    }
    assert_eq!(n_refused, 3);
}

fn close(a: &[f64], b: &[f64]) -> bool {
    let scale = a.iter().chain(b).fold(1.0, |m: f64, x| m.max(x.abs()));
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * scale)
}

type Sets = Vec<Vec<(usize, usize, usize)>>;

fn any_sets() -> impl Strategy<Value = Sets> {
    prop::collection::vec(prop::collection::vec((0usize..3, 0usize..3, 0..N_KINDS), 0..5), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any edits of several streams, heads and layers at once, on models of all settings.
    #[test]
    fn any_edits_of_any_model_are_the_processors(
        parts in any_model(), prompts in any_prompts(), sets in any_sets(),
    ) {
        let branches: Vec<Branch> = sets.iter().map(|set| any_edits(set)).collect();
        let collect = |decoder: &Decoder| {
            Readings::collect(decoder, &prompts, &branches, Options::default()).unwrap()
        };
        let expected = collect(&parts.decoder());
        let found = collect(&parts.decoder().on(&Compute::delta(Precision::Split)).unwrap());
        for p in 0..prompts.len() {
            prop_assert!(close(expected.plain(p), found.plain(p)));
            for (b, branch) in branches.iter().enumerate() {
                let (expected, found) = (expected.branch(b, p), found.branch(b, p));
                prop_assert!(close(expected, found), "{:?}: {:?}, not {:?}", branch, found, expected);
            }
        }
    }

    /// Results of a branch or a prompt do not depend, to the bit, on the others.
    #[test]
    fn branches_and_prompts_do_not_depend_on_the_others(
        parts in any_model(), prompts in any_prompts(), sets in any_sets(),
    ) {
        // Means depend on the others.
        let set = |set: &Vec<_>| set.iter().copied().filter(|&(_, _, kind)| kind != 2).collect::<Vec<_>>();
        let branches: Vec<Branch> = sets.iter().map(set).map(|set| any_edits(&set)).collect();
        let delta = parts.decoder().on(&Compute::delta(Precision::Split)).unwrap();
        let collect = |prompts: &[Prompt], branches: &[Branch]| {
            Readings::collect(&delta, prompts, branches, Options::default()).unwrap()
        };
        let together = collect(&prompts, &branches);
        for (b, branch) in branches.iter().enumerate() {
            let alone = collect(&prompts, std::slice::from_ref(branch));
            for p in 0..prompts.len() {
                prop_assert_eq!(alone.branch(0, p), together.branch(b, p), "branch {} of {:?}", b, branches);
            }
        }
        for (p, prompt) in prompts.iter().enumerate() {
            let alone = collect(std::slice::from_ref(prompt), &branches);
            for b in 0..branches.len() {
                prop_assert_eq!(alone.branch(b, 0), together.branch(b, p));
            }
        }
    }
}
