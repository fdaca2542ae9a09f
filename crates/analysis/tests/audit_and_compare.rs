//! The audit of external tables, and the comparison of two tables.

mod common;

use std::path::Path;

use common::normal;
use cs_analysis::audit::{audit, audit_import, audit_table};
use cs_analysis::compare::compare;
use cs_analysis::contrast::Contrast;
use cs_analysis::joint::{self, Import, JointTable};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const HEADER: &str = "family,model,layer,head,delta_ioi,delta_anti\n";

fn import(csv: &str) -> Import {
    joint::import_reader(csv.as_bytes(), Path::new("joint.csv"), 10_000).unwrap()
}

fn table(csv: &str) -> JointTable {
    import(csv).into_table(Path::new("joint.csv")).unwrap()
}

/// Independent effects of all 144 heads of GPT-2 small: their true correlation is 0.
fn full_scan(seed: u64) -> Vec<(f64, f64)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..144).map(|_| (0.1 * normal(&mut rng), 0.1 * normal(&mut rng))).collect()
}

fn csv_of(deltas: impl IntoIterator<Item = (usize, (f64, f64))>) -> String {
    deltas.into_iter().fold(HEADER.to_owned(), |csv, (i, (ioi, anti))| {
        csv + &format!("gpt2,gpt2,{},{},{ioi},{anti}\n", i / 12, i % 12)
    })
}

/// What the scripts of the published study do: join the 20 heads from either end of each scan, with zeros
/// elsewhere.
fn filled(deltas: &[(f64, f64)]) -> Vec<(usize, (f64, f64))> {
    let top = |key: fn(&(f64, f64)) -> f64| {
        let mut order: Vec<usize> = (0..deltas.len()).collect();
        order.sort_by(|&a, &b| key(&deltas[a]).total_cmp(&key(&deltas[b])));
        [&order[..20], &order[124..]].concat()
    };
    let (ioi, anti) = (top(|d| d.0), top(|d| d.1));
    (0..deltas.len())
        .filter(|i| ioi.contains(i) || anti.contains(i))
        .map(|i| {
            let of = |kept: &[usize], delta: f64| if kept.contains(&i) { delta } else { 0.0 };
            (i, (of(&ioi, deltas[i].0), of(&anti, deltas[i].1)))
        })
        .collect()
}

#[test]
fn a_filled_table_is_detected() {
    let deltas = full_scan(1);
    let rows = filled(&deltas);
    let audited = &audit(&table(&csv_of(rows.clone())), 0.05)[0];
    let n_zero = rows.iter().filter(|(_, d)| d.0 == 0.0).count();
    assert_eq!((audited.n_rows, audited.n_heads_model), (rows.len(), Some(144)));
    assert_eq!(audited.n_zero[0], n_zero);
    assert_eq!(audited.n_measured, rows.len() - audited.n_zero[0] - audited.n_zero[1]);
    assert!(audited.filled.is_none(), "a filled table is not a full scan");
    let sentence = audited.sentence();
    let expected = format!(
        "gpt2: {} rows for a model of 144 heads, {:.0}% exact zeros on ioi",
        rows.len(),
        100.0 * n_zero as f64 / rows.len() as f64
    );
    assert!(sentence.starts_with(&expected), "{sentence}");
    assert!(sentence.contains("comes from zeros that were filled in"), "{sentence}");
    // The audit of the full scan predicts exactly the filled table's values.
    let full = &audit(&table(&csv_of(deltas.into_iter().enumerate())), 0.05)[0];
    let foreseen = full.filled.as_ref().unwrap();
    assert_eq!((foreseen.n_rows, foreseen.corr), (audited.n_rows, audited.corr_all));
    assert_eq!(foreseen.n_zero, audited.n_zero);
    assert_eq!(foreseen.categories, audited.categories_all);
    assert!(full.sentence().contains("would have reported"), "{}", full.sentence());
}

#[test]
fn bad_rows_are_counted() {
    let csv = format!("{HEADER}f,m,0,0,0.1,0.2\nf,m,0,0,0.1,0.2\nf,m,0,1,nan,0.3\nf,m,0,2,,0\n");
    let audited = audit_import(&import(&csv), 0.05);
    let audited = &audited[0];
    assert_eq!((audited.n_rows, audited.n_duplicates), (4, 1));
    assert_eq!((audited.n_missing, audited.n_nan), ([2, 0], [1, 0]));
    assert_eq!((audited.n_zero, audited.n_zero_rows), ([0, 1], 1));
    let sentence = audited.sentence();
    assert!(sentence.contains("too few to tell"), "{sentence}");
    assert_eq!(audit_table(&Contrast::published(), std::slice::from_ref(audited)).n_rows(), 1);
}

#[test]
fn a_table_agrees_with_itself() {
    let t = table(&csv_of(full_scan(2).into_iter().enumerate()));
    let comparison = compare(&t, &t, 0.05).unwrap();
    let model = &comparison.models[0];
    for task in &model.tasks {
        assert_eq!((task.pearson, task.spearman.0), (Some(1.0), Some(1.0)));
        assert_eq!((task.sign_agreement, task.max_abs_difference), (1.0, 0.0));
    }
    assert_eq!(model.category_agreement(), (Some(1.0), Some(1.0)));
    assert_eq!(model.heads.len(), 144);
}

#[test]
fn disagreements_are_listed_largest_first() {
    let a = table(&format!(
        "{HEADER}f,m,0,0,0.1,0.2\nf,m,0,1,-0.3,0.3\nf,m,0,2,0.2,0\nf,m,1,0,0.4,0.1\nf,x,0,0,1,1\n"
    ));
    let b = table(&format!(
        "{HEADER}f,m,0,0,0.1,0.2\nf,m,0,1,0.5,0.3\nf,m,0,2,0.01,0\nf,m,1,1,0.4,0.1\nf,y,0,0,1,1\n"
    ));
    let comparison = compare(&a, &b, 0.05).unwrap();
    assert_eq!(comparison.only, [vec!["x".to_owned()], vec!["y".to_owned()]]);
    let model = &comparison.models[0];
    assert_eq!(model.n_only, [1, 1]);
    let ioi = &model.tasks[0];
    assert_eq!((ioi.n, ioi.disagreements[0].head, ioi.disagreements[1].head), (3, 1, 2));
    assert_eq!(ioi.sign_agreement, 2.0 / 3.0);
    // L0H2: ioi_only (index 1) in a, weak (index 3) in b.
    assert_eq!((model.confusion[1][3], model.confusion[2][2]), (1, 2));
    let names: Vec<String> = comparison.tables().into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["compare_models", "compare_categories", "compare_heads"]);
    let nothing = compare(&a, &table(&format!("{HEADER}f,z,0,0,1,1\n")), 0.05).unwrap_err().to_string();
    assert!(nothing.contains("no model in common: m, x against z"), "{nothing}");
    let of = |name: &str| table(&format!("{HEADER}f,{name},0,0,1,1\n"));
    for (a, b) in [("p@step1", "p@step2"), ("p", "p@step2")] {
        let other = compare(&of(a), &of(b), 0.05).unwrap_err().to_string();
        assert!(other.contains("different weights of the same model, p"), "{other}");
        assert!(other.contains(&format!("{a} against {b}")) && !other.contains("in common"), "{other}");
    }
}
