//! A study of all 17 models at their real head counts, from a joint table as written by another program: six columns,
//! no statistics.

mod common;

use std::path::Path;

use common::normal;
use cs_analysis::joint::{self, JointTable};
use cs_analysis::known_models::KNOWN_MODELS;
use cs_analysis::layout::Layout;
use cs_analysis::parquet_file::PARQUET;
use cs_analysis::scaling::POOLED;
use cs_analysis::study::{ContrastStudy, Study, StudyOptions, analyse_csv};
use cs_analysis::table::Values;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Heavy-tailed effects shared by the tasks, more so in larger models.
fn published_layout() -> String {
    let mut csv = String::from("family,model,layer,head,delta_ioi,delta_anti\n");
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    for known in &KNOWN_MODELS {
        let scale = 0.01 * known.params_m.log10();
        for layer in 0..known.n_layers {
            for head in 0..known.n_heads {
                let shared = scale * normal(&mut rng).powi(3);
                let (ioi, anti) = (shared + scale * normal(&mut rng), shared + scale * normal(&mut rng));
                csv += &format!("{},{},{layer},{head},{ioi},{anti}\n", known.family, known.name);
            }
        }
    }
    csv
}

fn table(csv: &str) -> JointTable {
    let path = Path::new("joint.csv");
    joint::import_reader(csv.as_bytes(), path, 100_000).unwrap().into_table(path).unwrap()
}

fn texts<'a>(study: &'a ContrastStudy, table: &str, column: &str) -> Vec<&'a str> {
    match study.table(table).unwrap().column(column) {
        Some(Values::Text(cells)) => cells.iter().map(|c| c.as_deref().unwrap_or("")).collect(),
        other => panic!("{table}.{column}: {other:?}"),
    }
}

/// The first columns that every table must have.
const FIRST_COLUMNS: [(&str, &str); 8] = [
    ("joint_ioi_anti_repeat_all", "family,model,layer,head,delta_ioi,delta_anti"),
    (
        "joint_ioi_anti_repeat_heads",
        "family,model,layer,head,delta_ioi,delta_anti,abs_delta_ioi,abs_delta_anti,strength,category",
    ),
    (
        "head_category_summary",
        "family,model,n_anti_only,n_ioi_only,n_shared,n_weak,frac_anti_only,frac_ioi_only,frac_shared,frac_weak",
    ),
    ("hero_heads_for_paper", "family,model,category,layer,head,delta_ioi,delta_anti,strength"),
    ("corr_vs_scale_cross_family", "family,model,params_m,corr"),
    (
        "ioi_transfer_generic",
        "base_family,base_model,tgt_family,tgt_model,layer,head,base_abs_delta_ioi,tgt_abs_delta_ioi,tgt_rank,\
         tgt_frac_rank,missing_in_target_index",
    ),
    (
        "anti_transfer_generic",
        "base_family,base_model,tgt_family,tgt_model,layer,head,base_abs_delta_anti,tgt_abs_delta_anti,tgt_rank,\
         tgt_frac_rank,missing_in_target_index",
    ),
    ("scaling_laws", "measure,family,slope,slope_ci_low,slope_ci_high,r_squared,n"),
];

#[test]
fn a_published_table_gives_every_table_and_the_same_ones_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Layout::new(dir.path().join("a")), Layout::new(dir.path().join("b")));
    let csv = published_layout();
    let study = ContrastStudy::new(table(&csv), &StudyOptions::default()).unwrap();
    let all = Study::of_contrast(study.clone());
    all.write(&first).unwrap();
    // From the first study's joint table, with its rows reversed.
    let written = std::fs::read_to_string(first.table("joint_ioi_anti_repeat_all")).unwrap();
    let mut lines: Vec<&str> = written.lines().collect();
    lines[1..].reverse();
    let reversed = dir.path().join("reversed.csv");
    std::fs::write(&reversed, lines.join("\n")).unwrap();
    analyse_csv(&reversed, 100_000, &StudyOptions::default()).unwrap().write(&second).unwrap();
    let files = |folder: std::path::PathBuf| -> Vec<_> {
        std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).filter(|path| path.is_file()).collect()
    };
    let (csv, parquet) = (files(first.tables()), files(first.tables().join(PARQUET)));
    assert_eq!(csv.len(), all.tables.len() + 1, "a file for each table, and provenance.json");
    assert_eq!(parquet.len(), all.tables.len());
    for path in csv.iter().chain(&parquet) {
        let other = second.tables().join(path.strip_prefix(first.tables()).unwrap());
        assert!(std::fs::read(path).unwrap() == std::fs::read(other).unwrap(), "{path:?}");
    }
    for (name, columns) in FIRST_COLUMNS {
        let csv = study.table(name).unwrap().to_csv();
        let header = csv.lines().next().unwrap();
        assert!(format!("{header},").starts_with(&format!("{columns},")), "{name}: {header}");
    }
}

#[test]
fn models_are_paired_with_the_next_size_and_across_families() {
    let study = ContrastStudy::new(table(&published_layout()), &StudyOptions::default()).unwrap();
    let mut pairs: Vec<String> = texts(&study, "transfer_tests", "base_model")
        .into_iter()
        .zip(texts(&study, "transfer_tests", "tgt_model"))
        .map(|(base, target)| format!("{base}>{target}"))
        .collect();
    pairs.truncate(pairs.len() / 2);
    assert_eq!(
        pairs,
        [
            "gpt2>gpt2-medium",
            "gpt2-medium>gpt2-large",
            "gpt2-large>gpt2-xl",
            "pythia-70m>pythia-160m",
            "pythia-160m>pythia-410m",
            "pythia-410m>pythia-1b",
            "pythia-1b>pythia-1.4b",
            "pythia-1.4b>pythia-2.8b",
            "opt-125m>opt-350m",
            "opt-350m>opt-1.3b",
            "opt-1.3b>opt-2.7b",
            "gpt-neo-125m>gpt-neo-1.3b",
            "gpt-neo-1.3b>gpt-neo-2.7b",
            "gpt2-xl>pythia-1.4b",
            "gpt2>opt-125m",
            "gpt2>gpt-neo-125m",
            "pythia-2.8b>opt-2.7b",
            "pythia-2.8b>gpt-neo-2.7b",
            "opt-125m>gpt-neo-125m",
        ]
    );
}

#[test]
fn scaling_laws_find_the_growth_that_was_put_in() {
    let study = ContrastStudy::new(table(&published_layout()), &StudyOptions::default()).unwrap();
    let law = |measure: &str, family: &str| {
        study.scaling_laws.iter().find(|l| l.measure == measure && l.family == family).unwrap().clone()
    };
    let pooled = law("frac_strong", POOLED);
    let line = pooled.line.unwrap();
    assert!(line.slope_interval.low > 0.0 && pooled.q_value.unwrap() < 0.01, "{line:?}");
    assert_eq!(line.n, 17);
    assert!(law("frac_strong", "gpt2").line.is_ok());
    let neo = law("frac_strong", "gpt-neo").line.unwrap_err();
    assert_eq!(neo, "not estimable: 3 sizes, at least 4 needed");
    let held_out = law("held_out_corr", POOLED).line.unwrap_err();
    assert!(held_out.contains("0 models"), "{held_out}");
}
