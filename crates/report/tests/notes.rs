//! Notes are made for every kind of study, name their tables, and say nothing that the numbers do not.

mod common;

use analysis::study::Study;
use report::Extras;
use report::notes::{Note, notes};

fn text(study: &Study, name: &str) -> String {
    let all: Vec<Note> = notes(study, &Extras::default());
    all.into_iter().find(|n| n.name == name).unwrap().text
}

#[test]
fn every_study_has_whole_notes() {
    for (case, study) in common::cases() {
        for note in notes(&study, &Extras::default()) {
            let place = format!("{case}: {}", note.name);
            for bad in ["NaN", "inf", "None", "Some(", "  ", "1 models", "1 heads", " ."] {
                assert!(!note.text.contains(bad), "{place}: {bad:?} in\n{}", note.text);
            }
            for model in &study.joint.models {
                assert!(note.text.contains(&model.info.model), "{place}: {}", model.info.model);
            }
        }
        // Every claim names a file, and that file is a table of this study.
        for line in text(&study, "high_level_findings").lines().filter(|l| l.starts_with("- **")) {
            let (_, sources) = line.rsplit_once('[').unwrap_or_else(|| panic!("{case}: no source: {line}"));
            for source in sources.trim_end_matches(']').split(", ").map(|s| s.trim_matches('`')) {
                let stem = source.strip_suffix(".csv").unwrap_or(source);
                assert!(study.table(stem).is_some() || source.starts_with("results/"), "{case}: {source}");
            }
        }
    }
}

#[test]
fn counts_in_sentences_are_those_of_the_numbers() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2", "gpt2-medium", "opt-125m"]), 1.0));
    let positive = study.correlations.iter().filter(|c| c.pearson.estimate.unwrap() > 0.0).count();
    let above = study.correlations.iter().filter(|c| c.pearson.interval.unwrap().low > 0.0).count();
    let findings = text(&study, "high_level_findings");
    assert!(
        findings.contains(&format!("positive in {positive} of 3 models; of 3 intervals, {above} ")),
        "{findings}"
    );
    assert!(findings.contains("fewer than 4 sizes") && findings.contains("gpt2 (2), opt (1)"), "{findings}");
    let heroes = text(&study, "hero_heads");
    let cards = heroes.lines().filter(|l| l.starts_with("### ")).count();
    let strong = study.heroes.iter().filter(|h| h.head.category.name() != "weak").count();
    assert_eq!(cards, strong);
}

#[test]
fn all_weak_is_said() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2"]), 0.001));
    assert!(text(&study, "hero_heads").contains("No head reaches τ on either task."));
    assert!(
        text(&study, "high_level_findings")
            .contains("0 of 1 model have at least one shared head; in 1 all heads are weak")
    );
}
