//! Sets of heads, dissociation and tracing on simulated numbers: drawn sets, noise, and round trips of files.

mod common;

use std::collections::BTreeSet;
use std::convert::Infallible;

use common::{meta, normal, quick, scan};
use cs_analysis::ablation::{
    AblationFile, AblationPlan, AblationSettings, Evidence, HeadSet, MATCHED_LEVEL, Outcome, SUMMARY_TABLE,
    Selection, SetKind, TaskOutcomes, evaluate, plan, read_summary, run_random_sets, set_sizes,
    summary_table,
};
use cs_analysis::categories::{ClassifiedModel, classify};
use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::dissociation::{
    DISSOCIATION_TABLE, Dissociation, dissociation, dissociation_table, read_dissociation, scaling,
};
use cs_analysis::joint::{ScanPair, from_scans};
use cs_analysis::layout::Layout;
use cs_analysis::origin::Origin;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_summary::summarise_scan;
use cs_analysis::tracing::{TaskTrace, TracedHead, read_results, summarise, write_results};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A simulated model of 4 layers with 10 heads each.
struct Simulated {
    scans: [PerPromptScan; 2],
    model: ClassifiedModel,
    origin: Origin,
}

impl Simulated {
    fn new(scans: [PerPromptScan; 2], tau: f64) -> Self {
        let [ioi, anti] = scans.each_ref().map(|side| summarise_scan(side, &quick()).unwrap());
        let joint = from_scans(&Contrast::published(), &[ScanPair::new(ioi, anti)]).unwrap();
        let model = classify(&joint, tau).unwrap().models.remove(0);
        let origin = Origin::new(&model.info, &scans[0], scans[0].meta.provenance.clone());
        Self { scans, model, origin }
    }

    fn of_scale(scale: f64, seed: u64) -> Self {
        let make = |task, seed| scan(meta("gpt2", "simulated", task, 4, 10), 60, scale, seed);
        Self::new([make("ioi", seed), make("anti_repeat", seed + 1000)], 0.05)
    }

    fn settings(&self) -> AblationSettings {
        AblationSettings {
            ablation: "zero".into(),
            value_bias: "folded".into(),
            reference: None,
            n_random_sets: 120,
            n_random_prompts: 12,
            tau: 0.05,
            n_resamples: 400,
        }
    }

    /// Effects of sets: sums of their heads' effects, plus `together` per pair of heads.
    fn outcomes(&self, plan: &AblationPlan, together: f32) -> [TaskOutcomes; 2] {
        let outcome = |task: usize, set: &HeadSet, prompts: &[usize]| {
            let scan = &self.scans[task];
            let heads = scan.differences(self.origin.split).heads;
            let held_out = scan.prompts_of(self.origin.split);
            let pairs = (set.len() * set.len().saturating_sub(1) / 2) as f32;
            let value = |&p: &usize| {
                let sum: f64 = set.iter().map(|&(l, h)| heads[(l * 10 + h) as usize][p]).sum();
                scan.base[held_out[p]] + sum as f32 + together * pairs
            };
            let values: Vec<f32> = prompts.iter().map(value).collect();
            Outcome {
                correct: values.iter().map(|&x| x > 1.0).collect(),
                mean_diff: values.clone(),
                logit_diff: values,
            }
        };
        let mut outcomes = [0, 1].map(|task| {
            let scan = &self.scans[task];
            let prompts = scan.prompts_of(self.origin.split);
            let all: Vec<usize> = (0..prompts.len()).collect();
            TaskOutcomes {
                task: scan.meta.task.clone(),
                weights: prompts.iter().map(|&p| scan.weight[p]).collect(),
                n_candidates: 20,
                base: outcome(task, &vec![], &all),
                sets: plan.sets.iter().map(|set| outcome(task, set, &all)).collect(),
                subsample: (0..12).map(|i| 2 * i).collect(),
                random: vec![],
            }
        });
        let places = outcomes[0].subsample.clone();
        let Ok(()) = run_random_sets(plan, &self.settings(), &mut outcomes, &mut |task, sets| {
            Ok::<_, Infallible>(sets.iter().map(|set| outcome(task, set, &places)).collect())
        });
        outcomes
    }

    fn run(&self) -> AblationFile {
        self.run_with(0.0)
    }

    fn run_with(&self, together: f32) -> AblationFile {
        let plan = plan(&Contrast::published(), &self.model, self.settings().n_random_sets, 7);
        let [ioi, anti] = self.outcomes(&plan, together);
        let evidence = Evidence {
            contrast: &Contrast::published(),
            model: &self.model,
            scans: [&self.scans[0], &self.scans[1]],
            plan: &plan,
            outcomes: [&ioi, &anti],
        };
        AblationFile {
            ablation: evaluate(&self.origin, &self.settings(), evidence).unwrap(),
            dissociation: dissociation(&self.origin, &self.settings(), evidence).unwrap(),
        }
    }
}

#[test]
fn sets_match_their_names() {
    let simulated = Simulated::of_scale(0.2, 1);
    let heads = &simulated.model.heads;
    let plan = plan(&Contrast::published(), &simulated.model, 50, 7);
    assert_eq!(plan.sets.iter().collect::<BTreeSet<_>>().len(), plan.sets.len(), "each set is run once");
    let sizes = set_sizes(heads.len());
    assert_eq!(sizes, [1, 2, 4]);
    assert_eq!(plan.comparisons.len(), sizes.len() * Selection::ALL.len());
    let mut of_all = BTreeSet::new();
    for comparison in &plan.comparisons {
        let sets = match &comparison.sets {
            Ok(sets) => sets,
            Err(why) => {
                let n = heads.iter().filter(|h| Some(h.category) == comparison.selection.category()).count();
                assert!(n < comparison.k && why.contains(&n.to_string()), "{n} heads: {why}");
                continue;
            }
        };
        let hero = &plan.sets[sets.hero];
        assert_eq!(hero.len(), comparison.k);
        let weakest = heads.iter().filter(|h| hero.contains(&(h.layer, h.head))).map(|h| h.strength);
        let weakest = weakest.fold(f64::INFINITY, f64::min);
        for head in heads.iter().filter(|h| !hero.contains(&(h.layer, h.head))) {
            let is_chosen = comparison.selection.category().is_none_or(|c| c == head.category);
            assert!(!is_chosen || head.strength <= weakest, "heroes are the strongest");
        }
        let per_layer =
            |set: &[(u32, u32)]| (0..4).map(|l| set.iter().filter(|h| h.0 == l).count()).collect::<Vec<_>>();
        let matched = sets.matched.map(|pool| (pool, SetKind::RandomMatched));
        for (pool, kind) in [(sets.random, SetKind::Random)].into_iter().chain(matched) {
            let pool = &plan.pools[pool];
            assert_eq!((pool.kind, pool.k), (kind, comparison.k));
            for set in &pool.sets {
                assert!(set.is_sorted() && set.iter().collect::<BTreeSet<_>>().len() == comparison.k);
                assert!(kind == SetKind::Random || per_layer(set) == per_layer(hero));
            }
        }
        of_all.insert(sets.random);
    }
    assert_eq!(of_all.len(), sizes.len(), "draws from all heads serve every selection");
    let again = cs_analysis::ablation::plan(&Contrast::published(), &simulated.model, 50, 7);
    assert_eq!(plan, again);
    assert_ne!(
        plan.pools,
        cs_analysis::ablation::plan(&Contrast::published(), &simulated.model, 50, 8).pools
    );
}

/// Random sets are run exactly until they decide nothing any more; layer-matched ones only if sets of all heads leave
/// something to explain.
#[test]
fn sets_are_run_as_long_as_they_decide_something() {
    let simulated = Simulated::of_scale(0.2, 1);
    let file = simulated.run().ablation;
    let n_max = simulated.settings().n_random_sets;
    let mut n_stopped = 0;
    for test in &file.tests {
        let random = file
            .tests
            .iter()
            .find(|t| {
                (&t.selection, t.k, &t.task, &t.measure)
                    == (&test.selection, test.k, &test.task, &test.measure)
                    && t.against == SetKind::Random
            })
            .unwrap();
        if test.against == SetKind::RandomMatched && random.p_value.unwrap() > MATCHED_LEVEL {
            assert_eq!(test.p_value, None, "{test:?}"); // they may have been drawn for another measure
            continue;
        }
        let n_possible = test.n_possible.unwrap() as usize;
        // The hero set itself is one of the possible sets.
        assert!(test.n_random <= n_max.min(n_possible) && test.n_behind_p <= test.n_random);
        let p = test.p_value.unwrap();
        if test.n_behind_p + 1 < n_max.min(n_possible) {
            n_stopped += 1;
            assert!(p > 10.0 / 121.0, "stopped early at p = {p}: {test:?}");
        }
    }
    assert!(n_stopped > 0);
}

/// If effects are additive there is no interaction, and the sums explain all differences between sets; if each pair has an
/// additional effect, it is found.
#[test]
fn interactions_are_found_and_sums_remove_variance() {
    let simulated = Simulated::of_scale(0.2, 6);
    for together in [0.0, -0.05] {
        let file = simulated.run_with(together).ablation;
        for row in file.summary.iter().filter(|r| r.k > 0 && r.on(Side::A).delta.is_some()) {
            let on = row.on(Side::A);
            let delta = on.delta.unwrap();
            let expected = f64::from(together) * (row.k * (row.k - 1)) as f64 / 2.0;
            let found = on.interaction.value.unwrap();
            assert!((found - expected).abs() < 1e-4, "{together}: {found} instead of {expected}: {row:?}");
            assert!((delta - on.sum_delta.unwrap() - found).abs() < 1e-9);
            if row.set_type == "random" {
                // Sums explain every difference, so the mean of few sets on few prompts is that of all sets on all prompts.
                assert!(on.variance_removed.unwrap() > 0.999, "{row:?}");
                let heads = simulated.scans[0].differences(simulated.origin.split);
                let means = heads
                    .heads
                    .iter()
                    .map(|h| cs_analysis::stats::bootstrap::weighted_mean(h, &heads.weights));
                let mean = row.k as f64 * means.sum::<f64>() / 40.0 + expected;
                assert!((delta - mean).abs() < 1e-4, "{mean}: {row:?}");
            }
        }
        for area in file.areas.iter().filter(|a| a.measure == "mean_diff" && a.against == SetKind::Random) {
            let Some(value) = area.area else { continue };
            assert!(area.ci_low.unwrap() < value && value < area.ci_high.unwrap());
            assert!(area.variance_removed.unwrap() > 0.999, "{area:?}");
        }
    }
}

/// Heads with effects on one task each, or the same on both, with large prompt noise.
fn noisy_scans(separate: bool, seed: u64) -> [PerPromptScan; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    ["ioi", "anti_repeat"].map(|task| {
        let mut scan = scan(meta("gpt2", "noisy", task, 4, 10), 400, 0.0, seed);
        let n = scan.n_distinct();
        let base = scan.base.clone();
        for (index, row) in scan.ablated.chunks_exact_mut(n).enumerate() {
            let works = match (index % 4, task) {
                (0, _) if !separate => true,
                (0, "ioi") | (1, "anti_repeat") => separate,
                _ => false,
            };
            let effect = if works { -0.4 } else { 0.0 };
            for (x, b) in row.iter_mut().zip(&base) {
                *x = b + (effect + 0.5 * normal(&mut rng)) as f32;
            }
        }
        scan
    })
}

/// With an effect planted in ten of forty heads, the strongest heads differ from random sets, including layer-matched ones, and
/// damage the other task less than random sets do.
#[test]
fn a_planted_effect_is_found() {
    let (mut n_found, mut n_tests) = (0, 0);
    for seed in 0..10 {
        let file = Simulated::new(noisy_scans(true, seed), 0.15).run().ablation;
        for (selection, task) in [("ioi_only", "ioi"), ("anti_only", "anti")] {
            let of = |is_own: bool| {
                let tests = file.tests.iter().filter(move |t| (t.selection.as_str(), t.k) == (selection, 4));
                tests.filter(move |t| t.measure == "mean_diff" && (t.task == task) == is_own)
            };
            assert_eq!(of(true).count(), 2, "sets of all heads, and of the same layers");
            for test in of(true) {
                n_tests += 1;
                n_found += usize::from(test.p_value.is_some_and(|p| p <= 0.05));
                assert!(test.difference.is_none_or(|d| d < -0.5), "{seed}: {test:?}");
            }
            // Random sets damage the other task more.
            for test in of(false) {
                assert!(test.difference.is_none_or(|d| d > 0.0), "{seed}: {test:?}");
            }
        }
    }
    println!("{n_found} of {n_tests} found");
    // Twelve prompts are few for this much noise; by chance it would be one in twenty.
    assert!(5 * n_found >= 4 * n_tests, "{n_found} of {n_tests} found");
}

/// Noise neither raises the index of shared heads nor lowers that of separate ones beyond its interval.
#[test]
fn the_index_is_robust_to_noise() {
    for (separate, truth) in [(true, 1.0), (false, 0.0)] {
        let (mut n_covered, mut sum) = (0, 0.0);
        for seed in 0..20 {
            let simulated = Simulated::new(noisy_scans(separate, seed), 0.15);
            let index = simulated.run().dissociation.index;
            n_covered += usize::from(index.low.unwrap() <= truth && truth <= index.high.unwrap());
            sum += index.value.unwrap();
        }
        let mean = sum / 20.0;
        println!("separate {separate}: mean {mean:.3}, covered {n_covered} of 20");
        assert!((mean - truth).abs() < 0.03, "separate {separate}: mean index {mean}");
        assert!(n_covered >= 16, "separate {separate}: covered {n_covered} of 20");
    }
}

#[test]
fn files_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let simulated = Simulated::of_scale(0.08, 3);
    let file = simulated.run();

    let contrast = &Contrast::published();
    let path = layout.model_ablation(contrast, "simulated");
    file.write(&path).unwrap();
    assert_eq!(AblationFile::read(&path, contrast).unwrap(), file);
    std::fs::write(&path, "{\"ablation\": 3").unwrap();
    let error = AblationFile::read(&path, contrast).unwrap_err().to_string();
    assert!(error.contains("ablation_simulated.json") && error.contains("delete the file"), "{error}");

    summary_table(contrast, std::slice::from_ref(&file.ablation)).write(&layout.tables()).unwrap();
    assert_eq!(read_summary(&layout.table(SUMMARY_TABLE), contrast).unwrap(), file.ablation.summary);
    let csv = std::fs::read_to_string(layout.table(SUMMARY_TABLE)).unwrap();
    assert!(
        csv.starts_with("family,model,k,set_type,acc_ioi,mean_diff_ioi,acc_anti,mean_diff_anti,"),
        "{csv}"
    );
    std::fs::write(layout.table(SUMMARY_TABLE), "family,model,k\na,b,many\n").unwrap();
    let error = read_summary(&layout.table(SUMMARY_TABLE), contrast).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");

    dissociation_table(contrast, std::slice::from_ref(&file.dissociation)).write(&layout.tables()).unwrap();
    let rows = read_dissociation(&layout.table(DISSOCIATION_TABLE), contrast).unwrap();
    let d = &file.dissociation;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].index, rows[0].damage), (d.index, d.damage));
    assert_eq!(rows[0].interaction, d.interaction.value);
    assert_eq!((rows[0].double_dissociation, rows[0].k), (d.double_dissociation, d.k));
}

#[test]
fn traces_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let simulated = Simulated::of_scale(0.2, 4);
    let heads: Vec<TracedHead> = simulated.model.heads[..5]
        .iter()
        .map(|head| TracedHead { head: head.clone(), rank: Some(0) })
        .collect();
    let trace = |task: &str, n: usize| TaskTrace {
        task: task.into(),
        clean: (0..n).map(|i| 2.0 + i as f64 / 100.0).collect(),
        corrupted: (0..n).map(|i| -2.0 + i as f64 / 50.0).collect(),
        influences: (0..5)
            .map(|h| (0..n).map(|i| h as f64 * 0.5 + (i * 37 % 11) as f64 / 11.0 - 0.5).collect())
            .collect(),
        weights: vec![2; n],
        n_left_out: 3,
    };
    let resampling = quick().resampling;
    let (ioi, anti) = (trace("ioi", 110), trace("anti_repeat", 40));
    let contrast = &Contrast::published();
    let summarise =
        |ioi: &TaskTrace| summarise(contrast, &simulated.origin, "v", &heads, [ioi, &anti], &resampling, &[]);
    let results = summarise(&ioi).unwrap();
    let path = dir.path().join("results.json");
    write_results(&path, &results).unwrap();
    assert_eq!(read_results(&path, contrast).unwrap(), results);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 7, "a head a line");
    assert!(
        results[0].note.contains("only 80 pairs on anti_repeat") && !results[0].note.contains("pairs on ioi")
    );
    assert!(results[0].note.contains("differs in length: 3 prompts of ioi"), "{}", results[0].note);
    let strongest = &results[4];
    let on = strongest.on(Side::A);
    let gap = on.figures.clean_logit_diff_mean - on.figures.corrupted_logit_diff_mean;
    assert!((on.figures.normalised.unwrap() - on.mean / gap).abs() < 1e-12);
    assert!(on.figures.p_value < 0.02 && on.figures.n_pairs == 220);

    write_results(&path, &[]).unwrap();
    assert!(read_results(&path, contrast).unwrap().is_empty());
    let mut broken = results.clone();
    broken[1].tasks[0].influences.pop();
    write_results(&path, &broken).unwrap();
    let error = read_results(&path, contrast).unwrap_err().to_string();
    assert!(error.contains("L0H1") && error.contains("ioi_influences"), "{error}");
    let none = TaskTrace { weights: vec![], ..ioi.clone() };
    let error = summarise(&none).unwrap_err();
    assert!(error.to_string().contains("no prompt has a corrupted version"), "{error}");
}

/// The index falls with size in this simulated family, and the law finds it.
#[test]
fn dissociation_scales() {
    let first = Simulated::of_scale(0.2, 5).run().dissociation;
    let models: Vec<Dissociation> = [(70.0, 0.8), (160.0, 0.71), (410.0, 0.6), (1000.0, 0.52), (2800.0, 0.4)]
        .into_iter()
        .map(|(params_m, index)| {
            let mut model = first.clone();
            model.origin.params_m = Some(params_m);
            model.index.value = Some(index);
            model
        })
        .collect();
    let laws = scaling(&models);
    let law = laws.iter().find(|l| l.measure == "dissociation_index" && l.family == "gpt2").unwrap();
    let line = law.line.as_ref().unwrap();
    assert!(line.slope < -0.2 && line.slope > -0.3 && line.p_value < 0.01, "{line:?}");
}
