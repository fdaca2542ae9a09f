//! The same inputs and seed give the same numbers, regardless of threads and other models.

mod common;

use common::{from_scans, meta, pairs, quick, scan};
use cs_analysis::scan_summary::summarise_scan;
use cs_analysis::study::{ContrastStudy, StudyOptions};
use cs_analysis::table::Table;

fn with_threads<T: Send>(n: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(work)
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let side = scan(meta("gpt2", "gpt2", "ioi", 12, 25), 61, 0.1, 1);
    let summary = |n| with_threads(n, || summarise_scan(&side, &quick()).unwrap());
    assert!(summary(1) == summary(3));
    let study =
        |n| with_threads(n, || ContrastStudy::new(from_scans(&pairs()), &StudyOptions::default()).unwrap());
    let (one, three) = (study(1), study(3));
    assert!(one.tables.iter().map(Table::to_csv).eq(three.tables.iter().map(Table::to_csv)));
}

#[test]
fn a_models_figures_do_not_depend_on_the_others() {
    let all = pairs();
    let alone = ContrastStudy::new(from_scans(&all[2..3]), &StudyOptions::default()).unwrap();
    let together = ContrastStudy::new(from_scans(&all), &StudyOptions::default()).unwrap();
    let name = &alone.joint.models[0].info.model;
    assert_eq!(
        alone.correlations[0],
        together.correlations.iter().find(|c| c.info.model == *name).unwrap().clone()
    );
    assert_eq!(alone.joint.models[0], *together.joint.model(name).unwrap());
}

#[test]
fn another_seed_gives_other_resamples_of_the_same_estimates() {
    let mut side = scan(meta("gpt2", "gpt2", "ioi", 2, 2), 40, 0.1, 1);
    let first = summarise_scan(&side, &quick()).unwrap();
    side.meta.seed += 1;
    let second = summarise_scan(&side, &quick()).unwrap();
    for (a, b) in first.heads.iter().zip(&second.heads) {
        assert_eq!(a.delta, b.delta);
        assert_ne!(a.delta_ci_low, b.delta_ci_low);
    }
}
