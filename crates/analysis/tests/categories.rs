//! Categories, summary, heroes and the sweep, on tables small enough to check by hand.

use std::path::Path;

use cs_analysis::categories::{Category, classify, heroes_table, tau_sweep};
use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::joint::{self, JointTable};
use proptest::prelude::*;

fn table(rows: &[(&str, u32, u32, f64, f64)]) -> JointTable {
    let mut csv = String::from("family,model,layer,head,delta_ioi,delta_anti\n");
    for (model, layer, head, ioi, anti) in rows {
        csv += &format!("mine,{model},{layer},{head},{ioi:?},{anti:?}\n");
    }
    let path = Path::new("joint.csv");
    joint::import_reader(csv.as_bytes(), path, 1000).unwrap().into_table(path).unwrap()
}

fn example() -> JointTable {
    table(&[
        ("a", 0, 0, 0.05, -0.05),
        ("a", 0, 1, -0.0501, 0.0499),
        ("a", 0, 2, 0.0, 0.3),
        ("a", 1, 0, 0.01, -0.01),
        ("a", 1, 1, 0.3, 0.0),
        ("a", 1, 2, 0.2, 0.1),
        ("b", 0, 0, 0.0, 0.0),
    ])
}

#[test]
fn thresholds_are_inclusive() {
    let classified = classify(&example(), 0.05).unwrap();
    let categories: Vec<Category> = classified.models[0].heads.iter().map(|h| h.category).collect();
    use Category::{OnlyA, OnlyB, Shared, Weak};
    assert_eq!(categories, [Shared, OnlyA, OnlyB, Weak, OnlyA, Shared]);
    assert_eq!(
        classified.heads_table().to_csv().lines().nth(1).unwrap(),
        "mine,a,0,0,0.05,-0.05,0.05,0.05,0.1,shared,0.05,,,,,,,,,"
    );
}

#[test]
fn the_summary_counts_heads() {
    let csv = classify(&example(), 0.05).unwrap().summary_table().to_csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with(
        "family,model,n_anti_only,n_ioi_only,n_shared,n_weak,frac_anti_only,frac_ioi_only,frac_shared,frac_weak"
    ));
    assert!(
        lines[1].starts_with("mine,a,1,2,2,1,0.16666666666666666,0.3333333333333333,0.3333333333333333,")
    );
    assert!(lines[2].starts_with("mine,b,0,0,0,1,0,0,0,1,"));
}

/// A model that does both tasks has its own thresholds; one that does not do a task has none, and is reported.
#[test]
fn relative_categories_follow_what_the_model_does() {
    let mut csv = String::from(
        "family,model,layer,head,delta_ioi,delta_anti,base_logit_diff_ioi,base_logit_diff_ioi_ci_low,\
         base_logit_diff_ioi_ci_high,accuracy_ioi,base_logit_diff_anti,base_logit_diff_anti_ci_low,\
         base_logit_diff_anti_ci_high,accuracy_anti\n",
    );
    // Thresholds of the first: 0.2 on IOI, 0.02 on anti-repeat.
    let does = [("does", "4,3.5,4.5,0.9,0.4,0.3,0.5,0.6"), ("chance", "0.5,-0.1,1.1,0.1,0.4,0.3,0.5,0.6")];
    let never_right = ("never", "0.5,0.4,0.6,0.2,0.4,0.3,0.5,0");
    let unknown = ("unknown", "4,,,0.9,0.4,,,0.6");
    for (model, performance) in does.into_iter().chain([never_right, unknown]) {
        for (head, deltas) in ["-0.19,0.021", "0.2,0.019", "-0.3,-0.03", "0.1,0"].into_iter().enumerate() {
            csv += &format!("mine,{model},0,{head},{deltas},{performance}\n");
        }
    }
    let path = Path::new("joint.csv");
    let joint = joint::import_reader(csv.as_bytes(), path, 1000).unwrap().into_table(path).unwrap();
    let classified = classify(&joint, 0.05).unwrap();
    use Category::{OnlyA, OnlyB, Shared, Weak};
    for model in &classified.models {
        let found: Vec<Option<Category>> = model.heads.iter().map(|h| h.relative_category).collect();
        if model.info.model == "does" {
            assert_eq!(found, [OnlyB, OnlyA, Shared, Weak].map(Some));
            assert_eq!(model.relative_counts(), Some([1; 4]));
        } else {
            assert!(found.iter().all(Option::is_none), "{}", model.info.model);
            assert_eq!(model.relative_counts(), None);
        }
    }
    let not_done = |name: &str| joint.model(name).unwrap().info.tasks_not_done();
    use Side::{A, B};
    assert_eq!(["does", "chance", "never", "unknown"].map(not_done), [vec![], vec![A], vec![B], vec![]]);
    let csv = classified.summary_table().to_csv();
    let ends =
        |model: &str| csv.lines().find(|l| l.starts_with(&format!("mine,{model},"))).unwrap().to_owned();
    assert!(csv.lines().next().unwrap().ends_with(
        "n_relative_anti_only,n_relative_ioi_only,n_relative_shared,n_relative_weak,tau_relative_ioi,tau_relative_anti,\
         does_ioi,does_anti"
    ));
    assert!(ends("does").ends_with(",1,1,1,1,0.2,0.020000000000000004,true,true"), "{}", ends("does"));
    assert!(ends("chance").ends_with(",,,,,,,false,true"), "{}", ends("chance"));
    assert!(ends("unknown").ends_with(",,,,,,,,"), "{}", ends("unknown"));
}

#[test]
fn heroes_are_the_strongest_of_each_category() {
    let joint = example();
    let csv =
        heroes_table(&Contrast::published(), &classify(&joint, 0.05).unwrap().heroes(&joint, 1)).to_csv();
    let first: Vec<String> =
        csv.lines().map(|l| l.split(',').take(8).collect::<Vec<_>>().join(",")).collect();
    assert_eq!(
        first,
        [
            "family,model,category,layer,head,delta_ioi,delta_anti,strength",
            "mine,a,anti_only,0,2,0,0.3,0.3",
            "mine,a,ioi_only,1,1,0.3,0,0.3",
            "mine,a,shared,1,2,0.2,0.1,0.30000000000000004",
            "mine,a,weak,1,0,0.01,-0.01,0.02",
            "mine,b,weak,0,0,0,0,0",
        ]
    );
    // Equal strengths keep the order of layer and head.
    let tied = table(&[("a", 0, 1, 0.2, 0.0), ("a", 0, 0, -0.2, 0.0), ("a", 1, 0, 0.2, 0.0)]);
    let heads: Vec<(u32, u32)> =
        classify(&tied, 0.05).unwrap().heroes(&tied, 2).iter().map(|h| (h.head.layer, h.head.head)).collect();
    assert_eq!(heads, [(0, 0), (0, 1)]);
}

#[test]
fn senseless_thresholds_are_refused() {
    for tau in [0.0, -0.1, f64::NAN, f64::INFINITY] {
        assert!(classify(&example(), tau).unwrap_err().to_string().contains("--tau"));
    }
}

proptest! {
    #[test]
    fn every_head_has_one_category_and_larger_thresholds_only_weaken(
        deltas in prop::collection::vec((-0.2..0.2f64, -0.2..0.2f64), 1..40),
    ) {
        let rows: Vec<_> = (0u32..).zip(&deltas).map(|(i, &(ioi, anti))| ("a", 0, i, ioi, anti)).collect();
        let joint = table(&rows);
        let mut weak = 0;
        for tau in [0.03, 0.05, 0.07, 0.1] {
            let counts = classify(&joint, tau).unwrap().models[0].counts();
            prop_assert_eq!(counts.iter().sum::<usize>(), deltas.len());
            prop_assert!(counts[3] >= weak);
            weak = counts[3];
        }
        prop_assert_eq!(tau_sweep(&joint, &[0.03, 0.1]).unwrap().n_rows(), 2);
    }
}
