//! Direct effects on planted circuits: a head's direct contribution is separated from later heads' reactions.

#[path = "planted/mod.rs"]
mod planted;

use cs_analysis::direct::DirectEffect;
use cs_analysis::scan_file::ScanFile;
use cs_analysis::scan_summary::{SummaryOptions, summarise_scan};
use cs_circuits::scan::{self, ScanOptions, ValueBias};
use cs_circuits::{attention, direct};
use planted::{N_HEADS, Planted, Role, World, backup_circuit, full_circuit, scan_with, separate_circuit};

/// The direct contributions of the answering heads at the last token, by name; other heads have none.
const ANSWERS: [&str; 7] = [
    "ioi_mover",
    "ioi_negative_mover",
    "ioi_suppressor",
    "anti_mover",
    "anti_suppressor",
    "repeater",
    "two_faced",
];

fn scan_files(world: &World, model: &Planted, options: ScanOptions) -> [ScanFile; 2] {
    let mut summary = SummaryOptions::default();
    (summary.resampling.n_resamples, summary.resampling.n_permutations) = (200, 200);
    [&world.ioi, &world.anti].map(|prompts| {
        let mut scan = scan_with(&model.decoder, prompts, options);
        scan.meta.ablation = options.ablation.to_string();
        scan.meta.value_bias = options.value_bias.to_string();
        summarise_scan(&scan, &summary).unwrap()
    })
}

/// Checks the direct effects of all heads of a circuit's placements, and that with compensation they make up Δ.
fn check(circuit: fn(&World) -> Vec<Role>, direct_of: fn(&Role, usize) -> f64) {
    let world = World::new();
    for seed in 0..5 {
        let model = Planted::new(&world, circuit(&world), seed);
        for (task, scan) in scan_files(&world, &model, ScanOptions::default()).iter().enumerate() {
            for (index, head) in scan.heads.iter().enumerate() {
                let role = model.role(index / N_HEADS, index % N_HEADS);
                let name = role.map_or("noise", |role| role.name);
                let effect = head.direct.as_ref().expect("a pre-norm model");
                let planted = role.map_or(0.0, |role| direct_of(role, task));
                let near = |found: f64, planted: f64| (found - planted).abs() <= 0.02 + 0.1 * planted.abs();
                assert!(
                    near(effect.direct, planted),
                    "{seed}: {name}, task {task}: {effect:?}, planted {planted}"
                );
                let delta = role.map_or(0.0, |role| role.delta[task]);
                assert!(near(head.delta, delta), "{seed}: {name}: Δ {}, planted {delta}", head.delta);
                assert_eq!(
                    effect.compensation.map(|c| (c - (head.delta - effect.direct)).abs() < 1e-6),
                    Some(true)
                );
                let interval = effect.direct_low.zip(effect.direct_high).expect("an interval");
                assert!(interval.0 <= effect.direct && effect.direct <= interval.1, "{effect:?}");
            }
        }
    }
}

/// A name mover whose ablation is masked by a backup: Δ is 0, the direct effect the planted one.
#[test]
fn a_backup_hides_a_mover_from_ablation_but_not_from_its_direct_effect() {
    check(backup_circuit, |role, _| if role.name == "mover" { -2.0 } else { 0.0 });
    let world = World::new();
    let model = Planted::new(&world, backup_circuit(&world), 7);
    for scan in scan_files(&world, &model, ScanOptions::default()) {
        let (layer, head) = model.head("mover");
        let mover = &scan.heads[layer * N_HEADS + head];
        let DirectEffect { compensation_low, direct_high, .. } = mover.direct.as_ref().unwrap();
        assert!(mover.delta.abs() < 0.05 && direct_high.unwrap() < -1.8, "{mover:?}");
        assert!(compensation_low.unwrap() > 1.8, "the backup makes up for all of it: {mover:?}");
    }
}

#[test]
fn heads_that_answer_have_direct_effects_and_those_that_tell_them_have_none() {
    let of_answering =
        |role: &Role, task: usize| if ANSWERS.contains(&role.name) { role.delta[task] } else { 0.0 };
    check(full_circuit, of_answering);
    check(separate_circuit, of_answering);
}

/// Only zero ablation with folded biases removes exactly what the direct effect counts.
#[test]
fn other_ablations_have_direct_effects_but_no_compensation() {
    let world = World::new();
    let model = Planted::new(&world, full_circuit(&world), 0);
    let options = ScanOptions { value_bias: ValueBias::InHead, ..ScanOptions::default() };
    let [folded, in_head] =
        [ScanOptions::default(), options].map(|options| scan_files(&world, &model, options));
    for (folded, in_head) in folded.iter().zip(&in_head) {
        for (folded, in_head) in folded.heads.iter().zip(&in_head.heads) {
            let (folded, in_head) = (folded.direct.clone().unwrap(), in_head.direct.clone().unwrap());
            assert_eq!(folded.direct, in_head.direct);
            assert!(folded.compensation.is_some() && in_head.compensation.is_none());
        }
    }
}

/// A scan's cost includes them: one plain run more, in addition to the one for accuracy.
#[test]
fn a_scan_costs_one_plain_run_more() {
    let world = World::new();
    let model = Planted::new(&world, full_circuit(&world), 0);
    let (spec, options) = (model.decoder.spec(), ScanOptions::default());
    let plain = attention::cost(spec, &world.ioi, options.engine).unwrap();
    let direct = direct::cost(spec, &world.ioi, options.engine).unwrap();
    let scan = scan::cost(spec, &world.ioi, options).unwrap();
    assert!(direct.dense > plain.dense && direct.dense < 2.0 * plain.dense, "{direct:?}, plain: {plain:?}");
    assert!(scan.dense > 2.0 * plain.dense + direct.dense, "{scan:?}");
}
