//! From the files of a study's folder to its tables.

mod common;

use common::{meta, normal, quick, scan};
use cs_analysis::categories::DEFAULT_TAU;
use cs_analysis::joint::{from_study, scanned_models};
use cs_analysis::layout::{ANTI_REPEAT, IOI, Layout};
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_summary::summarise_scan;
use cs_analysis::study::{StudyOptions, analyse, analyse_csv};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn write_scan(layout: &Layout, task: &str, model: &str, seed: u64) -> PerPromptScan {
    let side = scan(meta("mine", model, task, 4, 5), 60, 0.08, seed);
    side.write(&layout.per_prompt(task, model)).unwrap();
    summarise_scan(&side, &quick()).unwrap().write(&layout.scan(task, model)).unwrap();
    side
}

#[test]
fn a_study_and_its_joint_table_alone_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, other) = (Layout::new(dir.path().join("study")), Layout::new(dir.path().join("again")));
    for (seed, model) in ["org/a", "b"].into_iter().enumerate() {
        write_scan(&layout, IOI, model, seed as u64);
        write_scan(&layout, ANTI_REPEAT, model, 10 + seed as u64);
    }
    let models = scanned_models(&layout, IOI).unwrap();
    assert_eq!(models.len(), 2);
    let study =
        analyse(from_study(&layout, &models, DEFAULT_TAU).unwrap(), &StudyOptions::default()).unwrap();
    study.write(&layout).unwrap();
    assert!(study.correlations.iter().all(|c| c.pearson.heads_and_prompts
        && c.pearson.prompts.is_some()
        && c.pearson.templates.is_some()
        && c.held_out_spearman.prompts.is_some()
        && c.disattenuated.interval.is_some()));
    assert!(study.classified.models.iter().all(|m| m.n_unstable().is_some()));
    assert_eq!(study.winners_curse.len(), 4);
    let joint = layout.table("joint_ioi_anti_repeat_all");
    analyse_csv(&joint, 1_000, &StudyOptions::default()).unwrap().write(&other).unwrap();
    for file in std::fs::read_dir(layout.tables()).unwrap() {
        let name = file.unwrap().file_name();
        let read = |layout: &Layout| std::fs::read(layout.tables().join(&name)).unwrap();
        assert!(read(&layout) == read(&other), "{name:?}");
    }
}

#[test]
fn any_threshold_gets_its_probabilities() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    write_scan(&layout, IOI, "a", 1);
    write_scan(&layout, ANTI_REPEAT, "a", 2);
    let at = |tau: f64| {
        let joint = from_study(&layout, &["a".into()], tau).unwrap();
        analyse(joint, &StudyOptions { tau, ..StudyOptions::default() }).unwrap()
    };
    let (swept, other) = (at(DEFAULT_TAU), at(0.042));
    assert!(other.classified.models.iter().all(|m| m.n_unstable().is_some()));
    // What does not depend on the threshold is what the scan file says.
    let without_tau = |study: &cs_analysis::study::Study| {
        let table = study.table("joint_ioi_anti_repeat_all").unwrap().to_csv();
        let header: Vec<String> = table.lines().next().unwrap().split(',').map(str::to_owned).collect();
        let keep = |line: &str| {
            let cells = line.split(',').zip(&header).filter(|(_, name)| !name.contains("0.042"));
            cells.map(|(cell, _)| cell).collect::<Vec<_>>().join(",")
        };
        table.lines().map(keep).collect::<Vec<_>>()
    };
    assert_eq!(without_tau(&swept), without_tau(&other));
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    assert!(scanned_models(&layout, IOI).unwrap_err().to_string().contains("results"));
    write_scan(&layout, IOI, "a", 1);
    let error = from_study(&layout, &["a".into()], DEFAULT_TAU).unwrap_err().to_string();
    assert!(error.contains("no scan on anti_repeat") && error.contains("--task anti-repeat"), "{error}");
    write_scan(&layout, ANTI_REPEAT, "a", 2);
    // Without side files the intervals cover heads alone, and the table says so.
    std::fs::remove_file(layout.per_prompt(IOI, "a")).unwrap();
    let study =
        analyse(from_study(&layout, &["a".into()], DEFAULT_TAU).unwrap(), &StudyOptions::default()).unwrap();
    let pearson = study.correlations[0].pearson;
    assert!(!pearson.heads_and_prompts && pearson.prompts.is_none() && pearson.heads.is_some());
    assert!(study.table("corr_vs_scale_cross_family").unwrap().to_csv().contains(",heads,"));
    // A side file of another scan is noticed.
    let mut other = write_scan(&layout, IOI, "a", 1);
    other.meta.seed = 8;
    other.write(&layout.per_prompt(IOI, "a")).unwrap();
    let error = from_study(&layout, &["a".into()], DEFAULT_TAU).unwrap_err().to_string();
    assert!(error.contains("belongs to another scan"), "{error}");
}

#[test]
fn picked_heads_shrink_on_held_out_prompts() {
    // Heads without any effect: what picks them is noise, and nothing of it is left on other prompts.
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (seed, task) in [(1, IOI), (2, ANTI_REPEAT)] {
        let mut side = scan(meta("mine", "null", task, 10, 20), 100, 0.1, seed);
        for ablated in side.ablated.chunks_exact_mut(100) {
            for (ablated, base) in ablated.iter_mut().zip(&side.base) {
                *ablated = base + 0.1 * normal(&mut rng) as f32;
            }
        }
        side.write(&layout.per_prompt(task, "null")).unwrap();
        summarise_scan(&side, &quick()).unwrap().write(&layout.scan(task, "null")).unwrap();
    }
    let study =
        analyse(from_study(&layout, &["null".into()], DEFAULT_TAU).unwrap(), &StudyOptions::default())
            .unwrap();
    for curse in &study.winners_curse {
        assert!(curse.mean_held_out.abs() < 0.35 * curse.mean_abs_delta, "{curse:?}");
    }
}
