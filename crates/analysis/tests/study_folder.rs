//! From the files of a study's folder to its tables.

mod common;

use common::{meta, normal, quick, scan};
use cs_analysis::categories::DEFAULT_TAU;
use cs_analysis::contrast::{ANTI_REPEAT, Contrast, IOI};
use cs_analysis::layout::Layout;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_summary::summarise_scan;
use cs_analysis::study::{ContrastStudy, Study, StudyOptions, analyse_csv};
use cs_analysis::study_scans::{StudyScans, scanned_models, scanned_tasks};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn write_scan(layout: &Layout, task: &str, model: &str, seed: u64) -> PerPromptScan {
    let side = scan(meta("mine", model, task, 4, 5), 60, 0.08, seed);
    side.write(&layout.per_prompt(task, model)).unwrap();
    summarise_scan(&side, &quick()).unwrap().write(&layout.scan(task, model)).unwrap();
    side
}

/// The study of the published pair in a folder.
fn study(layout: &Layout, models: &[String], tau: f64) -> cs_analysis::Result<Study> {
    let tasks = [IOI, ANTI_REPEAT].map(str::to_owned);
    let scans = StudyScans::read_all(layout, &tasks, models)?;
    Study::new(&scans, &[Contrast::published()], &StudyOptions { tau, ..StudyOptions::default() })
}

/// The study of one model, without tables that do not belong to a contrast.
fn contrast_of(layout: &Layout, model: &str, tau: f64) -> cs_analysis::Result<ContrastStudy> {
    Ok(study(layout, &[model.to_owned()], tau)?.contrasts.remove(0))
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
    let study = study(&layout, &models, DEFAULT_TAU).unwrap();
    study.write(&layout).unwrap();
    let study = &study.contrasts[0];
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
        // A joint table does not have prompts, results on held-out prompts, or direct effects.
        if ["head_effects.csv", "self_repair.csv", "parquet"].iter().any(|of_scans| name == *of_scans) {
            continue;
        }
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
    let at = |tau: f64| contrast_of(&layout, "a", tau).unwrap();
    let (swept, other) = (at(DEFAULT_TAU), at(0.042));
    assert!(other.classified.models.iter().all(|m| m.n_unstable().is_some()));
    // Results that do not depend on the threshold are those of the scan file.
    let without_tau = |study: &ContrastStudy| {
        let table = study.joint.to_table().to_csv();
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
    let error = contrast_of(&layout, "a", DEFAULT_TAU).unwrap_err().to_string();
    assert!(error.contains("no scan on anti_repeat") && error.contains("--task anti-repeat"), "{error}");
    write_scan(&layout, ANTI_REPEAT, "a", 2);
    // Without per-prompt files the intervals are over heads only, and the table says so.
    std::fs::remove_file(layout.per_prompt(IOI, "a")).unwrap();
    let study = contrast_of(&layout, "a", DEFAULT_TAU).unwrap();
    let pearson = study.correlations[0].pearson;
    assert!(!pearson.heads_and_prompts && pearson.prompts.is_none() && pearson.heads.is_some());
    assert!(study.table("corr_vs_scale_cross_family").unwrap().to_csv().contains(",heads,"));
    // A per-prompt file from another scan is detected.
    let mut other = write_scan(&layout, IOI, "a", 1);
    other.meta.seed = 8;
    other.write(&layout.per_prompt(IOI, "a")).unwrap();
    let error = contrast_of(&layout, "a", DEFAULT_TAU).unwrap_err().to_string();
    assert!(error.contains("belongs to another scan"), "{error}");
}

#[test]
fn picked_heads_shrink_on_held_out_prompts() {
    // Heads without any effect: they are selected by noise, which is gone on other prompts.
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
    let study = contrast_of(&layout, "null", DEFAULT_TAU).unwrap();
    for curse in &study.winners_curse {
        assert!(curse.mean_held_out.abs() < 0.35 * curse.mean_abs_delta, "{curse:?}");
    }
}

/// Three tasks: every one in the long table, every two in the matrix, contrasts under their own names.
#[test]
fn a_study_of_three_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    for (at, task) in ["recall", IOI, "induction"].into_iter().enumerate() {
        for (seed, model) in ["a", "b"].into_iter().enumerate() {
            write_scan(&layout, task, model, 10 * at as u64 + seed as u64);
        }
    }
    let tasks = scanned_tasks(&layout).unwrap();
    assert_eq!(tasks, [IOI, "induction", "recall"]);
    let models = ["a", "b"].map(str::to_owned);
    let scans = StudyScans::read_all(&layout, &tasks, &models).unwrap();
    let contrasts = Contrast::choose::<&str>(&[], &tasks).unwrap();
    assert_eq!(contrasts.len(), 3);
    let study = Study::new(&scans, &contrasts, &StudyOptions::default()).unwrap();
    let written = study.write(&layout).unwrap();
    assert_eq!(written.iter().collect::<std::collections::BTreeSet<_>>().len(), written.len());

    // Two models of 20 heads on three tasks and two splits.
    let effects = study.table("head_effects").unwrap();
    assert_eq!(effects.n_rows(), 2 * 20 * 3 * 2);
    let csv = effects.to_csv();
    let columns = "family,model,layer,head,task,split,delta,delta_low,delta_high,delta_low_templates,\
                   delta_high_templates,p,q,direct,base_logit_diff,";
    assert!(csv.starts_with(columns), "{}", csv.lines().next().unwrap());
    assert!(csv.contains("\nmine,b,3,4,recall,held_out,"), "{csv}");

    // The joint table of a contrast is a view of the long table.
    let joint = std::fs::read_to_string(layout.table("joint_ioi_induction_all")).unwrap();
    assert!(joint.starts_with("family,model,layer,head,delta_ioi,delta_induction,"), "{joint}");
    for (model, row) in study.contrasts[0].joint.rows() {
        let of_model = study.effects.model(&model.model).unwrap();
        for (task, effect) in [IOI, "induction"].into_iter().zip(&row.effects) {
            assert_eq!(of_model.on(task).unwrap().effect(row.layer, row.head), Some(effect));
        }
    }
    // It reads back unchanged; it has no direct effects.
    let again =
        analyse_csv(&layout.table("joint_ioi_induction_all"), 1_000, &StudyOptions::default()).unwrap();
    let joint = |s: &Study| s.contrasts[0].joint.to_table().to_csv();
    assert!(joint(&again) == joint(&study));
    let tables =
        |s: &Study| s.contrasts[0].tables.iter().map(|t| (t.name.clone(), t.to_csv())).collect::<Vec<_>>();
    assert!(tables(&again) == tables(&study));

    assert_eq!(study.overlaps.len(), 2 * 3);
    let overlap = &study.overlaps[0];
    assert_eq!((overlap.info.model.as_str(), overlap.contrast.to_string().as_str()), ("a", "ioi:induction"));
    assert_eq!(overlap.pearson, study.contrasts[0].correlations[0].pearson);
    let counts = study.contrasts[0].classified.models[0].counts();
    assert_eq!(overlap.n_shared.value, Some(counts[2] as f64));
    assert_eq!(overlap.n_strong, [counts[1] + counts[2], counts[0] + counts[2]]);
    let union = (counts[0] + counts[1] + counts[2]) as f64;
    let (low, high) = overlap.jaccard.ends().unwrap();
    assert!((overlap.jaccard.value.unwrap() - counts[2] as f64 / union).abs() < 1e-12);
    assert!(0.0 <= low && low < high && high <= 1.0, "{overlap:?}");
}

/// One task has effects and measures, and nothing that needs two tasks.
#[test]
fn a_study_of_one_task() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    write_scan(&layout, "induction", "a", 1);
    let tasks = scanned_tasks(&layout).unwrap();
    let scans = StudyScans::read_all(&layout, &tasks, &["a".to_owned()]).unwrap();
    let study = Study::new(&scans, &[], &StudyOptions::default()).unwrap();
    study.write(&layout).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(layout.tables())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let wanted = ["head_effects.csv", "parquet", "provenance.json", "self_repair.csv", "task_measures.csv"];
    assert_eq!(names, wanted);
    assert_eq!(study.task_measures[0].n_heads, 20);
}
