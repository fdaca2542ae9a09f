//! Direct effects in scan files and per-prompt files, and their repair by later layers.

mod common;

use common::{meta, normal, quick, scan};
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{ScanFile, Split};
use cs_analysis::scan_summary::summarise_scan;
use cs_analysis::self_repair::self_repair;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn simulated() -> PerPromptScan {
    scan(meta("mine", "a", "ioi", 3, 4), 60, 0.3, 11)
}

/// Half of each effect is direct in these scans, so later layers double every effect.
#[test]
fn compensation_is_the_rest_of_the_effect() {
    let side = simulated();
    let file = summarise_scan(&side, &quick()).unwrap();
    for head in &file.heads {
        for (effect, delta) in
            [(&head.direct, head.delta), (&head.held_out_direct, head.held_out_delta.unwrap())]
        {
            let effect = effect.as_ref().unwrap();
            assert!((effect.direct - 0.5 * delta).abs() < 1e-6);
            assert!((effect.compensation.unwrap() - 0.5 * delta).abs() < 1e-6);
            assert!(
                effect.direct_low.unwrap() < effect.direct && effect.direct < effect.direct_high.unwrap()
            );
            let compensation = effect.compensation_low.unwrap()..=effect.compensation_high.unwrap();
            assert!(compensation.contains(&effect.compensation.unwrap()));
        }
    }
    let repair = self_repair(&side, 0.05).unwrap();
    assert_eq!(repair.split, Split::HeldOut);
    let helping = file.heads.iter().filter(|h| h.direct.as_ref().unwrap().direct <= -0.05).count();
    // Their intervals must lie below 0, too.
    assert!(repair.n_heads > 0 && repair.n_heads <= helping, "{repair:?}");
    assert!(
        (repair.repaired.value.unwrap() + 1.0).abs() < 1e-6,
        "the loss is made twice as large: {repair:?}"
    );
    assert!((repair.compensation + repair.said).abs() < 1e-6);
}

#[test]
fn files_hold_direct_effects_or_leave_them_out() {
    let dir = tempfile::tempdir().unwrap();
    let (side_path, path) = (dir.path().join("side.safetensors"), dir.path().join("scan.json"));
    let with = simulated();
    let without = PerPromptScan { direct: None, ..with.clone() };
    for side in [&with, &without] {
        side.write(&side_path).unwrap();
        assert_eq!(PerPromptScan::read(&side_path).unwrap(), *side);
        let file = summarise_scan(side, &quick()).unwrap();
        file.write(&path).unwrap();
        assert_eq!(ScanFile::read(&path).unwrap(), file);
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let head = &json["heads"][0];
        assert_eq!(head["direct"].is_number(), side.direct.is_some(), "{head}");
        assert_eq!(head["direct_low"].is_number(), side.direct.is_some());
        assert_eq!(head["held_out_direct"]["direct"].is_number(), side.direct.is_some());
    }
    assert_eq!(self_repair(&without, 0.05), None);
    let mut in_head = with.clone();
    in_head.meta.value_bias = "in-head".into();
    assert_eq!(self_repair(&in_head, 0.05), None, "another thing is ablated than the direct effect counts");
    assert_eq!(self_repair(&with, 1e6), None, "no head has such a large direct effect");

    let mut short = with.clone();
    short.direct.as_mut().unwrap().pop();
    let error = short.write(&side_path).unwrap_err().to_string();
    assert!(error.contains("`direct` has 719 entries instead of 720"), "{error}");
    let mut broken = with;
    broken.direct.as_mut().unwrap()[61] = f32::NAN;
    let error = broken.write(&side_path).unwrap_err().to_string();
    assert!(error.contains("direct effect of head L0H1 on prompt 1 is not a finite number"), "{error}");
}

/// With the minimum number of prompts for an interval, and effects whose standard deviation between prompts equals
/// their size.
#[test]
fn intervals_of_what_is_repaired_hold_the_truth() {
    const TRIALS: u64 = 300;
    const TRUTH: f64 = 0.4;
    let mut held = 0;
    for trial in 0..TRIALS {
        let mut rng = ChaCha8Rng::seed_from_u64(trial);
        let mut side = scan(meta("mine", "a", "ioi", 1, 3), 30, 0.0, trial);
        side.weight = vec![1; side.n_distinct()];
        let n = side.n_distinct();
        let direct = side.direct.as_mut().unwrap();
        for (head, (row, direct)) in
            side.ablated.chunks_exact_mut(n).zip(direct.chunks_exact_mut(n)).enumerate()
        {
            for ((x, base), direct) in row.iter_mut().zip(&side.base).zip(direct) {
                let said = (1.0 + head as f64) * (1.0 + normal(&mut rng));
                *direct = -said as f32;
                *x = base + (-said + TRUTH * (1.0 + head as f64) + normal(&mut rng)) as f32;
            }
        }
        let repaired = self_repair(&side, 0.05).unwrap().repaired;
        held += u64::from(repaired.low.unwrap() <= TRUTH && TRUTH <= repaired.high.unwrap());
    }
    let coverage = held as f64 / TRIALS as f64;
    println!("coverage {coverage:.3}");
    // Two and a half standard errors of 300 trials.
    assert!((0.95 - 0.0315..=0.95 + 0.0315).contains(&coverage), "{coverage}");
}
