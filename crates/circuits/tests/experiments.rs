//! Causal tracing, ablated sets and dissociation on models whose circuit is known.

#[path = "experiments/mod.rs"]
mod experiments;
#[path = "planted/mod.rs"]
mod planted;

use cs_analysis::ablation::{ALL_HEADS, HeadSet, MEASURED, SetKind};
use cs_analysis::categories::DEFAULT_TAU;
use cs_analysis::contrast::{ANTI_REPEAT, Category, IOI, Side};
use cs_analysis::tracing::{TracedHead, correlations, summarise};
use cs_circuits::ablate::{AblateError, ablate_sets, subsample};
use cs_circuits::prompts::{Reference, Split, TokenizedPrompts};
use cs_circuits::scan::{Ablation, ScanOptions};
use cs_circuits::trace::{TraceError, trace};
use cs_engine::intervention::Stream;
use experiments::{RESAMPLING, Scanned, go_on};
use planted::{N_HEADS, N_LAYERS, Planted, Role, World, full_circuit, separate_circuit, shared_circuit};

fn all_heads() -> HeadSet {
    (0..N_LAYERS as u32).flat_map(|l| (0..N_HEADS as u32).map(move |h| (l, h))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean influence of every head on both tasks, and of its name in the circuit.
fn influences(world: &World, model: &Planted, stream: Stream) -> Vec<(Option<&'static str>, [f64; 2])> {
    let heads = all_heads();
    let traces = [&world.ioi, &world.anti].map(|prompts| {
        let pairs = prompts.tracing_pairs(Split::All);
        assert_eq!(pairs.pairs.len(), prompts.prompts.len(), "every prompt has a twin");
        trace(&model.decoder, &pairs, &heads, stream, cs_engine::Options::default(), &mut go_on)
            .expect("a trace")
    });
    for trace in &traces {
        let swapped = mean(&trace.clean) + mean(&trace.corrupted);
        assert!(swapped.abs() < 0.1, "a twin asks the same with the names swapped: {swapped}");
    }
    let of_head = |(at, &(l, h)): (usize, &(u32, u32))| {
        let role = model.role(l as usize, h as usize).map(|role| role.name);
        (role, traces.each_ref().map(|trace| mean(&trace.influences[at])))
    };
    heads.iter().enumerate().map(of_head).collect()
}

/// Influences that follow from the wiring. Clean and corrupted prompts differ only in the repeated name S2.
///
/// - `v` matters for heads that read S2: `s_inhibition` passes on the clean name, so that everything that depends on it
///   is reversed (twice each mover's share); suppressors and `repeater` write the clean name instead of the other.
/// - `z` and `q` at the last position, and `pattern`, matter for movers: with them patched, a mover answers as in the
///   clean run.
fn planted_influence(role: &str, stream: Stream) -> Option<[f64; 2]> {
    let both = |ioi: f64, anti: f64| Some([2.0 * ioi, 2.0 * anti]);
    let at_last_position = match role {
        "ioi_mover" => both(3.0, 0.0),
        "ioi_negative_mover" => both(-0.8, 0.0),
        "anti_mover" => both(0.0, 2.0),
        _ => None,
    };
    match (role, stream) {
        ("s_inhibition", Stream::V | Stream::Z) => both(3.0 - 0.8, 2.0 - 0.4),
        ("ioi_suppressor", Stream::V | Stream::Z) => both(1.6, 0.0),
        ("anti_suppressor", Stream::V | Stream::Z) => both(0.0, 1.2),
        ("repeater", Stream::V | Stream::Z) => both(-0.6, -0.6),
        // On IOI it reads S2; on anti-repeat it works like a mover.
        ("two_faced", Stream::V) => both(0.4, 0.0),
        ("two_faced", Stream::Z) => both(0.4, -0.4),
        ("two_faced", Stream::Q | Stream::Pattern) => both(0.0, -0.4),
        (_, Stream::Z | Stream::Q | Stream::Pattern) => at_last_position.or(Some([0.0; 2])),
        (_, Stream::V) => Some([0.0; 2]),
        _ => None,
    }
}

#[test]
fn tracing_gives_the_planted_answer() {
    let world = World::new();
    for seed in 0..5 {
        let model = Planted::new(&world, full_circuit(&world), seed);
        for stream in [Stream::V, Stream::Z, Stream::Q, Stream::Pattern] {
            for (role, found) in influences(&world, &model, stream) {
                // `duplicate` and `previous` mark positions: on `z` and `pattern` they mark the same ones in both runs.
                let expected = planted_influence(role.unwrap_or("noise"), stream).expect("an answer");
                for (found, expected) in found.iter().zip(expected) {
                    assert!(
                        (found - expected).abs() <= 0.03 + 0.1 * expected.abs(),
                        "placement {seed}, {stream}, {}: {found:+.3}, not {expected:+.3}",
                        role.unwrap_or("noise")
                    );
                }
            }
        }
    }
}

#[test]
fn normalised_influence_is_the_share_of_the_answer_that_comes_back() {
    let world = World::new();
    let model = Planted::new(&world, full_circuit(&world), 0);
    let scanned = Scanned::new(&world, &model.decoder, DEFAULT_TAU);
    let heads: Vec<TracedHead> = scanned.classified.models[0]
        .heads
        .iter()
        .map(|head| TracedHead { head: head.clone(), rank: None })
        .collect();
    let traces = scanned.prompts.map(|prompts| {
        let pairs = prompts.tracing_pairs(Split::HeldOut);
        trace(&model.decoder, &pairs, &all_heads(), Stream::V, cs_engine::Options::default(), &mut go_on)
            .unwrap()
    });
    let results = {
        let contrast = &scanned.classified.contrast;
        summarise(contrast, &scanned.origin, "v", &heads, traces.each_ref(), &RESAMPLING, &[])
    }
    .unwrap();
    let (layer, head) = model.head("s_inhibition");
    let result = &results[layer * N_HEADS + head];
    assert_eq!((result.layer as usize, result.head as usize), (layer, head));
    // 4.4 of the 7.2 logits between clean and corrupted, on IOI; 3.2 of 4.4 on anti-repeat.
    for (side, expected) in [(Side::A, 4.4 / 7.2), (Side::B, 3.2 / 4.4)] {
        let influence = &result.on(side).figures;
        let found = influence.normalised.unwrap();
        assert!((found - expected).abs() < 0.02, "{found} instead of {expected}");
        assert!(
            influence.normalised_ci_low.unwrap() <= found && found <= influence.normalised_ci_high.unwrap()
        );
        assert!(influence.p_value < 0.01 && influence.ci_low.unwrap() > 0.0);
    }
    assert!(result.note.contains("only 16 pairs on ioi"), "{}", result.note);
    let on = result.on(Side::A);
    assert_eq!(on.influences.len(), on.figures.weights.len());
    let over_all = correlations(&results);
    assert_eq!(over_all.len(), 4);
    assert!(over_all.iter().all(|c| c.n_heads == N_LAYERS * N_HEADS && c.pearson.0.is_some()));
}

/// Ablating a category of the separate circuit destroys its own task and does not affect the other, for hero sets and for
/// lesions; the index is 1.
#[test]
fn separate_circuits_dissociate() {
    let world = World::new();
    for seed in 0..3 {
        let model = Planted::new(&world, separate_circuit(&world), seed);
        let (ablation, dissociation) = Scanned::new(&world, &model.decoder, DEFAULT_TAU).ablation(100, seed);
        let baseline = &ablation.summary[0];
        assert_eq!(baseline.set_type, "baseline");
        assert!(baseline.tasks.iter().all(|task| task.acc.value == Some(1.0)));
        let row = |set_type: &str, k| {
            ablation
                .summary
                .iter()
                .find(|r| r.set_type == set_type && r.k == k)
                .expect("a row of the summary")
        };
        for k in [1, 2] {
            // The strongest heads of either task remove at least 2/3 of a mover's share and all of a suppressor's.
            for (set, own, other) in
                [("hero_ioi_only", Side::A, Side::B), ("hero_anti_only", Side::B, Side::A)]
            {
                let row = row(set, k);
                let (own, other) = (row.on(own), row.on(other));
                assert!(own.delta.unwrap() < -2.0 && other.delta.unwrap().abs() < 0.05, "{seed}: {row:?}");
            }
            let ioi = row("hero_ioi_only", k);
            let [own, other] = ioi.tasks;
            assert!(own.acc.value.unwrap() < 0.5 && other.acc.value == Some(1.0), "{seed}: {ioi:?}");
            // No head of this circuit is shared, which is reported for every kind of set.
            for kind in [SetKind::Hero, SetKind::Random] {
                let shared = row(&format!("{}_shared", kind.name()), k);
                assert!(
                    shared.on(Side::A).acc.value.is_none() && shared.status == "no head is shared",
                    "{shared:?}"
                );
            }
        }
        assert!(ablation.notes.iter().any(|n| n.contains("no head is shared")), "{:?}", ablation.notes);
        // On the other task they are not hero heads, so their layers explain nothing there.
        let matched =
            ablation.tests.iter().filter(|t| t.against == SetKind::RandomMatched && t.task == "anti");
        let matched: Vec<_> = matched.filter(|t| t.selection == "ioi_only").collect();
        assert!(
            !matched.is_empty() && matched.iter().all(|t| t.status.starts_with("not drawn")),
            "{matched:?}"
        );
        let area = ablation.areas.iter().find(|a| {
            (a.selection.as_str(), a.against) == ("ioi_only", SetKind::Random)
                && a.task == "ioi"
                && a.measure == "mean_diff"
        });
        let area = area.expect("an area");
        assert!(area.ci_low.unwrap() > 0.5 && area.sizes == [1, 2], "{area:?}");

        let index = dissociation.index;
        assert!((index.value.unwrap() - 1.0).abs() < 0.01, "placement {seed}: {index:?}");
        assert_eq!(dissociation.double_dissociation, Some(true));
        assert!(dissociation.interaction_p_value.unwrap() < 1e-6);
        // Δ of the whole circuits: 2 + 1.6 and 2.4 + 1.2 logits.
        assert_eq!(dissociation.k, 4);
        for task in 0..2 {
            let (own, other) = (dissociation.damage[task][task], dissociation.damage[1 - task][task]);
            assert!((own.value.unwrap() - 3.6).abs() < 0.2, "{own:?}");
            assert!(other.value.unwrap().abs() < 0.05, "{other:?}");
        }
    }
}

#[test]
fn a_shared_circuit_does_not_dissociate() {
    let world = World::new();
    for seed in 0..3 {
        let model = Planted::new(&world, shared_circuit(&world), seed);
        let (ablation, dissociation) = Scanned::new(&world, &model.decoder, DEFAULT_TAU).ablation(100, seed);
        let index = dissociation.index;
        assert_eq!(dissociation.index_status, MEASURED);
        assert!(index.low.unwrap() <= 0.0 && index.high.unwrap() >= 0.0, "placement {seed}: {index:?}");
        assert_eq!(index.value, Some(0.0));
        assert_eq!(dissociation.lesion_status, "no ioi_only head helps its task");
        assert_eq!(dissociation.double_dissociation, None);
        // The hero heads are the circuit: at every k they have larger effects than any random set, on both tasks.
        for test in ablation.tests.iter().filter(|t| t.selection == ALL_HEADS && t.measure == "mean_diff") {
            if let Some(difference) = test.difference {
                assert!(difference < -0.5, "placement {seed}: {test:?}");
            }
        }
    }
}

/// Heads of both kinds: the index is in between, and its interval contains the value given by the planted effects.
#[test]
fn the_index_of_a_mixed_circuit_is_that_of_its_planted_effects() {
    let world = World::new();
    let circuit = full_circuit(&world);
    let total = |task: usize, keep: fn(&Role) -> bool| -> f64 {
        circuit.iter().filter(|role| keep(role)).map(|role| role.delta[task].powi(2)).sum()
    };
    let works: fn(&Role) -> bool = |role| role.category != Category::Weak;
    let share = |task, keep: fn(&Role) -> bool| total(task, keep) / total(task, works);
    let ioi_only: fn(&Role) -> bool = |role| role.category == Category::OnlyA;
    let anti_only: fn(&Role) -> bool = |role| role.category == Category::OnlyB;
    let planted = 0.5 * (share(0, ioi_only) - share(1, ioi_only) + share(1, anti_only) - share(0, anti_only));
    assert!((0.2..0.8).contains(&planted), "{planted}");
    for seed in 0..5 {
        let model = Planted::new(&world, full_circuit(&world), seed);
        let (_, dissociation) = Scanned::new(&world, &model.decoder, DEFAULT_TAU).ablation(50, seed);
        let found = dissociation.index.value.unwrap();
        assert!((found - planted).abs() < 0.02, "placement {seed}: {found:.3}, planted {planted:.3}");
    }
}

/// A hero set of one head has that head's Δ on the held-out prompts, bit for bit as the scan has it.
#[test]
fn a_set_of_one_is_its_head() {
    let world = World::new();
    let model = Planted::new(&world, full_circuit(&world), 3);
    let scanned = Scanned::new(&world, &model.decoder, DEFAULT_TAU);
    let sets: Vec<HeadSet> = all_heads().into_iter().map(|head| vec![head]).collect();
    for (prompts, scan) in scanned.prompts.iter().zip(&scanned.scans) {
        let options = ScanOptions::default();
        let outcomes =
            ablate_sets(&model.decoder, prompts, (Split::HeldOut, None), &sets, options, &mut go_on).unwrap();
        let held_out = scan.prompts_of(cs_analysis::scan_file::Split::HeldOut);
        let pick = |all: &[f32]| held_out.iter().map(|&p| all[p]).collect::<Vec<f32>>();
        assert_eq!(outcomes.base.logit_diff, pick(&scan.base));
        for (index, set) in outcomes.sets.iter().enumerate() {
            assert_eq!(set.logit_diff, pick(scan.ablated_head(index)), "head {index}");
        }
        let correct: Vec<bool> = held_out.iter().map(|&p| scan.base_correct[p]).collect();
        assert_eq!(outcomes.base.correct, correct);
    }
    let (ablation, _) = scanned.ablation(10, 0);
    let row = ablation.summary.iter().find(|r| r.set_type == "hero" && r.k == 1).unwrap();
    let raw = ablation.rows.iter().find(|r| r.kind == SetKind::Hero && r.k == 1).unwrap();
    let (layer, head) = raw.heads[0];
    for (scan, delta) in scanned.scans.iter().zip(row.tasks.map(|task| task.delta)) {
        let differences = scan.differences(cs_analysis::scan_file::Split::HeldOut);
        let expected = cs_analysis::stats::bootstrap::weighted_mean(
            &differences.heads[layer as usize * N_HEADS + head as usize],
            &differences.weights,
        );
        assert_eq!(delta, Some(expected));
    }
}

/// Neither the order of a set's heads, nor the order of the sets, nor other sets in the same run change a bit.
#[test]
fn order_does_not_matter() {
    let world = World::new();
    let model = Planted::new(&world, full_circuit(&world), 4);
    let sets: Vec<HeadSet> = vec![vec![(0, 1), (2, 3), (3, 5)], vec![(1, 1)], vec![(0, 0), (0, 5), (3, 2)]];
    for (ablation, reference) in [
        (Ablation::Zero, Reference::Abc),
        (Ablation::Mean, Reference::Abc),
        (Ablation::Mean, Reference::Same),
        (Ablation::Resample, Reference::Abc),
        (Ablation::Resample, Reference::Same),
    ] {
        let options = ScanOptions { ablation, reference, ..ScanOptions::default() };
        // On a subset of the prompts, each prompt has the same value as among all.
        let places = subsample(&world.ioi, Split::HeldOut, 5, options);
        let all_are_needed = ablation == Ablation::Mean && reference == Reference::Same;
        assert_eq!(places.len() == 5, !all_are_needed);
        let some = (Split::HeldOut, Some(&places[..]));
        let few = ablate_sets(&model.decoder, &world.ioi, some, &sets, options, &mut go_on).unwrap();
        let all = ablate_sets(&model.decoder, &world.ioi, (Split::HeldOut, None), &sets, options, &mut go_on)
            .unwrap();
        for (few, all) in few.sets.iter().zip(&all.sets) {
            assert_eq!(*few, all.at(&places), "{ablation}");
        }
        let run = |sets: &[HeadSet]| {
            ablate_sets(&model.decoder, &world.ioi, (Split::HeldOut, None), sets, options, &mut go_on)
                .unwrap()
        };
        let forwards = run(&sets);
        let reversed: Vec<HeadSet> =
            sets.iter().rev().map(|set| set.iter().rev().copied().collect()).collect();
        let backwards = run(&reversed);
        for (a, b) in forwards.sets.iter().zip(backwards.sets.iter().rev()) {
            assert_eq!(a, b, "{ablation}");
        }
        for (set, outcome) in sets.iter().zip(&forwards.sets) {
            assert_eq!(&run(std::slice::from_ref(set)).sets[0], outcome, "{ablation}");
        }
    }
}

#[test]
fn patching_a_prompt_from_itself_changes_nothing() {
    let world = World::new();
    let model = Planted::new(&world, full_circuit(&world), 5);
    let mut pairs = world.ioi.tracing_pairs(Split::HeldOut);
    pairs.pairs.iter_mut().for_each(|pair| pair.corrupted_token_ids = pair.clean_token_ids.clone());
    for stream in Stream::ALL {
        let trace =
            trace(&model.decoder, &pairs, &all_heads(), stream, cs_engine::Options::default(), &mut go_on);
        let trace = trace.unwrap();
        assert_eq!(trace.clean, trace.corrupted);
        // A pattern is recomputed with another order of additions.
        let most = if stream == Stream::Pattern { 1e-4 } else { 0.0 };
        let largest = trace.influences.iter().flatten().fold(0.0, |m: f64, x| m.max(x.abs()));
        assert!(largest <= most, "{stream}: {largest}");
    }
}

#[test]
fn impossible_experiments_are_errors() {
    let world = World::new();
    let model = Planted::new(&world, separate_circuit(&world), 0);
    let decoder = &model.decoder;

    let mut alone: TokenizedPrompts = world.ioi.clone();
    alone.candidates.truncate(1);
    let options = ScanOptions::default();
    let error = ablate_sets(decoder, &alone, (Split::HeldOut, None), &[], options, &mut go_on).unwrap_err();
    assert!(matches!(error, AblateError::FewCandidates { n: 1, .. }), "{error}");
    let error = error.to_string();
    assert!(["ioi", "planted", "2 or more"].iter().all(|word| error.contains(word)), "{error}");

    let mut unpaired = world.anti.tracing_pairs(Split::HeldOut);
    unpaired.pairs.clear();
    let memory = cs_engine::Options::default();
    let error = trace(decoder, &unpaired, &all_heads(), Stream::V, memory, &mut go_on).unwrap_err();
    assert!(
        matches!(error, TraceError::NoPairs { .. }) && error.to_string().contains("anti_repeat"),
        "{error}"
    );

    // At a threshold that no head reaches, all are weak: sets of all heads only, no index, no lesions.
    let scanned = Scanned::new(&world, decoder, 1000.0);
    let (ablation, dissociation) = scanned.ablation(10, 0);
    for selection in ["shared", "ioi_only", "anti_only"] {
        let said = format!("no head is {selection}: no set of 1 or more");
        assert!(ablation.notes.contains(&said), "{:?}", ablation.notes);
    }
    assert_eq!((dissociation.index.value, dissociation.k), (None, 0));
    assert_eq!(dissociation.index_status, "every head is weak");
    assert_eq!(dissociation.lesion_status, "no ioi_only head helps its task");

    // An eighth of seven heads is less than one head.
    let mut few = scanned.classified.models[0].clone();
    few.heads.truncate(7);
    let plan = cs_analysis::ablation::plan(&scanned.classified.contrast, &few, 10, 0);
    assert!(plan.comparisons.is_empty());
    assert_eq!(plan.notes, ["too few heads, 7: sets are of up to an eighth of the heads"]);

    let full = Scanned::new(&world, decoder, DEFAULT_TAU);
    let tasks = [IOI, ANTI_REPEAT];
    assert_eq!(full.prompts.map(|p| p.task.as_str()), tasks);
}
