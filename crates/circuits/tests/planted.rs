//! The scan on models with a known circuit: it names exactly the planted heads, and a broken scan is detected.

#[path = "planted/mod.rs"]
mod planted;

use std::collections::BTreeSet;

use cs_analysis::categories::{Category, DEFAULT_TAU};
use cs_circuits::prompts::{Reference, TokenizedPrompts};
use cs_circuits::scan::{Ablation, ScanOptions, ValueBias};
use planted::{
    Failure, N_HEADS, N_LAYERS, Planted, Role, World, deltas, failures, full_circuit, plain_scan, scan_with,
    separate_circuit, shared_circuit,
};

/// Scans `n_placements` placements of a circuit and requires that all results are right.
fn check_circuit(circuit: fn(&World) -> Vec<Role>, n_placements: u64) {
    let world = World::new();
    let mut placements = BTreeSet::new();
    let (mut weakest_planted, mut strongest_other) = (f64::INFINITY, 0.0f64);
    for seed in 0..n_placements {
        let model = Planted::new(&world, circuit(&world), seed);
        placements.insert(model.heads.iter().map(|placed| (placed.layer, placed.head)).collect::<Vec<_>>());

        let scans = [&world.ioi, &world.anti].map(|prompts| plain_scan(&model.decoder, prompts));
        for scan in &scans {
            assert!(
                scan.base_correct.iter().all(|&correct| correct),
                "the planted model answers every prompt"
            );
        }
        let found = scans.each_ref().map(deltas);
        let wrong = failures(&model, [&found[0], &found[1]], DEFAULT_TAU);
        assert!(wrong.is_empty(), "placement {seed}:\n{}", lines(&wrong));

        for index in 0..N_LAYERS * N_HEADS {
            let role = model.role(index / N_HEADS, index % N_HEADS);
            if role.is_none() {
                let effects =
                    scans[0].ablated_head(index).iter().zip(&scans[0].base).map(|(a, b)| (a - b).abs());
                assert!(
                    effects.fold(0.0, f32::max) > 1e-4,
                    "placement {seed}: a noise head does nothing at all"
                );
            }
            for (task, found) in found.iter().enumerate() {
                let size = found[index].abs();
                if role.is_some_and(|role| role.delta[task] != 0.0) {
                    weakest_planted = weakest_planted.min(size);
                } else {
                    strongest_other = strongest_other.max(size);
                }
            }
        }
    }
    assert_eq!(placements.len() as u64, n_placements, "every placement is another one");
    println!("weakest planted |Δ| {weakest_planted:.4}, strongest other |Δ| {strongest_other:.4}");
}

fn lines(failures: &[Failure]) -> String {
    failures.iter().map(|failure| format!("  {failure}\n")).collect()
}

#[test]
fn the_scan_names_exactly_the_planted_heads() {
    check_circuit(full_circuit, 50);
}

#[test]
fn separate_heads_are_named() {
    check_circuit(separate_circuit, 10);
}

#[test]
fn shared_heads_are_named() {
    check_circuit(shared_circuit, 10);
}

/// The expected table is consistent, and has helping and harming heads in every category.
#[test]
fn the_table_agrees_with_the_planted_heads() {
    let world = World::new();
    for circuit in [full_circuit, separate_circuit, shared_circuit] {
        for role in circuit(&world) {
            let category = Category::of(role.delta, DEFAULT_TAU);
            assert_eq!(category, role.category, "{}", role.name);
        }
    }
    let roles = full_circuit(&world);
    for category in Category::ALL {
        assert!(roles.iter().any(|role| role.category == category), "{category:?}");
    }
    let has = |task: usize, sign: f64| roles.iter().any(|role| role.delta[task] * sign > 0.0);
    for task in 0..2 {
        assert!(has(task, 1.0) && has(task, -1.0), "{}", planted::TASKS[task]);
    }
}

/// Δ of all heads on both tasks.
type Deltas = [Vec<f64>; 2];
/// Scans both tasks of a model with an error.
type BrokenScan = fn(&World, &Planted) -> Deltas;

/// Scans with one error each.
fn broken_scans() -> Vec<(&'static str, BrokenScan)> {
    vec![
        ("a head's number is off by one", |world, model| {
            scan_both(world, model).map(|mut found| {
                found.chunks_exact_mut(N_HEADS).for_each(|layer| layer.rotate_right(1));
                found
            })
        }),
        ("a layer's number is off by one", |world, model| {
            scan_both(world, model).map(|mut found| {
                found.rotate_right(N_HEADS);
                found
            })
        }),
        ("layers and heads are transposed", |world, model| {
            scan_both(world, model)
                .map(|found| (0..found.len()).map(|i| found[i % N_LAYERS * N_HEADS + i / N_LAYERS]).collect())
        }),
        ("Δ is without − with", |world, model| {
            scan_both(world, model).map(|found| found.into_iter().map(|delta| -delta).collect())
        }),
        ("correct and distractor are swapped", |world, model| {
            scan_edited(world, model, |prompts| {
                for prompt in &mut prompts.prompts {
                    std::mem::swap(&mut prompt.correct_id, &mut prompt.distractor_id);
                }
            })
        }),
        ("the tasks are swapped", |world, model| {
            let [ioi, anti] = scan_both(world, model);
            [anti, ioi]
        }),
        ("logits are read one token early", |world, model| {
            scan_edited(world, model, |prompts| {
                for prompt in &mut prompts.prompts {
                    prompt.token_ids.pop();
                    prompt.resample_token_ids = None;
                }
            })
        }),
        ("BOS is missing", |world, model| {
            scan_edited(world, model, |prompts| {
                for prompt in &mut prompts.prompts {
                    prompt.token_ids.remove(0);
                    prompt.resample_token_ids = None;
                }
            })
        }),
        ("every prompt has the first one's tokens", |world, model| {
            scan_edited(world, model, |prompts| {
                let first = prompts.prompts[0].token_ids.clone();
                for prompt in &mut prompts.prompts {
                    prompt.token_ids.clone_from(&first);
                    prompt.resample_token_ids = None;
                }
            })
        }),
        ("value biases count with the head", |world, model| {
            let options = ScanOptions { value_bias: ValueBias::InHead, ..ScanOptions::default() };
            [&world.ioi, &world.anti].map(|prompts| deltas(&scan_with(&model.decoder, prompts, options)))
        }),
        ("only the three strongest heads of each task are kept, the others get 0", |world, model| {
            scan_both(world, model).map(|found| {
                let mut sizes: Vec<f64> = found.iter().map(|delta| delta.abs()).collect();
                sizes.sort_by(|a, b| b.total_cmp(a));
                found.into_iter().map(|delta| if delta.abs() >= sizes[2] { delta } else { 0.0 }).collect()
            })
        }),
        ("another model was scanned", |world, model| {
            let there = |placed: &planted::Placed| (placed.layer, placed.head);
            let other = (1000..)
                .map(|seed| Planted::new(world, full_circuit(world), seed))
                .find(|other| other.heads.iter().map(there).ne(model.heads.iter().map(there)));
            scan_both(world, &other.expect("another placement"))
        }),
        ("nothing is ablated", |_, _| [vec![0.0; N_LAYERS * N_HEADS], vec![0.0; N_LAYERS * N_HEADS]]),
    ]
}

fn scan_both(world: &World, model: &Planted) -> Deltas {
    scan_edited(world, model, |_| {})
}

fn scan_edited(world: &World, model: &Planted, edit: fn(&mut TokenizedPrompts)) -> Deltas {
    [&world.ioi, &world.anti].map(|prompts| {
        let mut prompts = prompts.clone();
        edit(&mut prompts);
        deltas(&plain_scan(&model.decoder, &prompts))
    })
}

#[test]
fn a_broken_scan_is_caught() {
    let world = World::new();
    for seed in 0..3 {
        let model = Planted::new(&world, full_circuit(&world), seed);
        let [ioi, anti] = scan_both(&world, &model);
        assert!(failures(&model, [&ioi, &anti], DEFAULT_TAU).is_empty(), "the correct scan has no failures");
        for (what, broken) in broken_scans() {
            let [ioi, anti] = broken(&world, &model);
            let wrong = failures(&model, [&ioi, &anti], DEFAULT_TAU);
            assert!(!wrong.is_empty(), "placement {seed}: not noticed: {what}");
            println!("placement {seed}: {what}: {} of {} heads wrong", wrong.len(), ioi.len());
            print!("{}", lines(&wrong[..wrong.len().min(3)]));
        }
    }
}

/// Resample ablation from prompts that repeat a name only removes information about names: it finds the heads that carry
/// names.
#[test]
fn resample_ablation_finds_the_heads_that_carry_names() {
    let world = World::new();
    let (ablation, reference) = (Ablation::Resample, Reference::Same);
    let options = ScanOptions { ablation, reference, ..ScanOptions::default() };
    let model = Planted::new(&world, full_circuit(&world), 0);
    let found = [&world.ioi, &world.anti].map(|prompts| deltas(&scan_with(&model.decoder, prompts, options)));
    for name in
        ["ioi_mover", "ioi_negative_mover", "ioi_suppressor", "anti_mover", "anti_suppressor", "repeater"]
    {
        let (layer, head) = model.head(name);
        let role = model.role(layer, head).expect("a role");
        for (found, planted) in found.iter().zip(role.delta) {
            // Two other names are moved or suppressed, which does not affect the logit difference: equivalent to zero.
            let found = found[layer * N_HEADS + head];
            assert!(
                (found - planted).abs() < 0.02 + 0.03 * planted.abs(),
                "{name}: {found:+.3}, not {planted:+.3}"
            );
        }
    }
    // The flag does not depend on the names: patched from another prompt, it is unchanged.
    for name in ["duplicate", "previous"] {
        let (layer, head) = model.head(name);
        assert!(found.iter().all(|found| found[layer * N_HEADS + head].abs() < DEFAULT_TAU), "{name}");
    }
}
