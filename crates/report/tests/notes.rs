//! Notes are made for every kind of study, name their tables, and say nothing that the numbers do not.

mod common;

use cs_analysis::categories::Category;
use cs_analysis::contrast::Contrast;
use cs_analysis::study::Study;
use cs_analysis::table::Table;
use cs_report::Extras;
use cs_report::extras::Experiments;
use cs_report::notes::{Note, answer, best_model, notes};

fn text(study: &Study, name: &str) -> String {
    let all: Vec<Note> = notes(study, &Extras::default()).unwrap();
    all.into_iter().find(|n| n.name == name).unwrap().text
}

#[test]
fn every_study_has_whole_notes() {
    for (case, study) in common::cases() {
        for note in notes(&study, &Extras::default()).unwrap() {
            let place = format!("{case}: {}", note.name);
            for bad in ["NaN", "inf", "None", "Some(", "  ", " 1 models", " 1 heads", " ."] {
                assert!(!note.text.contains(bad), "{place}: {bad:?} in\n{}", note.text);
            }
            for model in &study.contrasts[0].joint.models {
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
    let positive =
        study.contrasts[0].correlations.iter().filter(|c| c.pearson.estimate.unwrap() > 0.0).count();
    let above =
        study.contrasts[0].correlations.iter().filter(|c| c.pearson.shown().unwrap().0.low > 0.0).count();
    let above = cs_report::words::none_or(above);
    let findings = text(&study, "high_level_findings");
    assert!(
        findings.contains(&format!("positive in {positive} of 3 models; of 3 intervals, {above} ")),
        "{findings}"
    );
    assert!(findings.contains("fewer than 4 sizes") && findings.contains("gpt2 (2), opt (1)"), "{findings}");
    let heroes = text(&study, "hero_heads");
    let cards = heroes.lines().filter(|l| l.starts_with("### ")).count();
    let strong = study.contrasts[0].heroes.iter().filter(|h| h.head.category != Category::Weak).count();
    assert_eq!(cards, strong);
}

#[test]
fn all_weak_is_reported() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2"]), 0.001));
    assert!(text(&study, "hero_heads").contains("No head reaches τ on either task."));
    assert!(
        text(&study, "high_level_findings")
            .contains("No model has a shared head. In 1 model all heads are weak.")
    );
}

#[test]
fn a_card_says_where_its_head_attends() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2", "opt-125m"]), 1.0));
    let mut extras = common::extras(&study);
    let hero = study.contrasts[0]
        .heroes
        .iter()
        .find(|h| h.model == "gpt2" && h.head.category != Category::Weak)
        .unwrap();
    let heads = &mut extras.attention[0].tasks[1].heads;
    let head =
        heads.iter_mut().find(|h| (h.layer, h.head) == (hero.head.layer, hero.head.head)).expect("the hero");
    head.mean = [0.04, 0.5, 0.2, 0.1, 0.06, 0.0, 0.0, 0.0, 0.0, 0.1];
    head.sd = [0.01, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    head.texts[0].mean = 0.09;
    // The other model's attention is not known.
    extras.attention.truncate(1);
    let heroes = notes(&study, &extras).unwrap().into_iter().find(|n| n.name == "hero_heads").unwrap().text;
    let line = "- Attention at the last token, anti-repeat: correct name 0.50 ± 0.25, distractor's first mention 0.20 ± 0.00, \
                repeated name 0.10 ± 0.00, other tokens 0.10 ± 0.00; among words other than names, “to” gets the most (0.09)\n";
    assert!(heroes.contains(line), "{heroes}");
    assert!(heroes.contains("over held-out prompts [`attention_at_last_token.csv`]"), "{heroes}");
    assert!(heroes.contains("## opt-125m\n\nThe attention of its heads was not measured"), "{heroes}");
    assert!(!heroes.contains("Not measured in this run: where heads attend"), "{heroes}");
}

/// The outline names the figures that are drawn, and no others.
#[test]
fn the_outline_names_the_figures_that_there_are() {
    for (case, study) in common::cases() {
        let drawn = cs_report::figures::describe_all(&study, &Extras::default()).unwrap();
        let (drawn, missing): (Vec<_>, Vec<_>) = drawn.into_iter().partition(Result::is_ok);
        let drawn: Vec<String> = drawn.into_iter().flatten().map(|figure| figure.name).collect();
        let missing: Vec<String> = missing.into_iter().filter_map(|m| m.err()).map(|m| m.name).collect();
        let outline = text(&study, "results_outline");
        let named: Vec<&str> = outline
            .lines()
            .filter_map(|line| line.strip_prefix("- Figures, in `paper/figs`: "))
            .flat_map(|list| list.trim_end_matches('.').split(", "))
            .map(|name| name.trim_matches('`'))
            .collect();
        let is_of_model = |name: &str| {
            ["scatter_", "heatmap_", "layer_histogram_"].iter().any(|kind| name.starts_with(kind))
        };
        for name in drawn.iter().filter(|name| !is_of_model(name)) {
            assert!(named.contains(&name.as_str()), "{case}: {name} is not named: {named:?}");
        }
        for name in &missing {
            assert!(!named.contains(&name.as_str()), "{case}: {name} is not there: {named:?}");
        }
    }
}

#[test]
fn hero_heads_are_counted_by_what_they_attend_to() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2"]), 1.0));
    let mut extras = common::extras(&study);
    for head in extras.attention[0].tasks.iter_mut().flat_map(|task| &mut task.heads) {
        head.mean = [0.3, 0.6, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    }
    let strong = study.contrasts[0].heroes.iter().filter(|h| h.head.category != Category::Weak).count();
    let findings =
        notes(&study, &extras).unwrap().into_iter().find(|n| n.name == "high_level_findings").unwrap();
    let sentence = format!("On IOI, of {strong} non-weak hero heads: correct name in {strong}.");
    assert!(findings.text.contains(&sentence), "{}", findings.text);
}

/// The text of a finding.
fn said(study: &Study, extras: &Extras, title: &str) -> String {
    let contrast = &study.contrasts[0];
    let findings = cs_report::notes::findings(contrast, &extras.of(contrast.contrast()));
    findings.into_iter().find(|f| f.title == title).unwrap_or_else(|| panic!("{title}")).text
}

#[test]
fn held_out_effects_of_the_other_sign_are_no_size() {
    let csv = "family,model,layer,head,delta_ioi,delta_anti,held_out_delta_ioi,held_out_delta_anti\n\
               gpt2,gpt2,0,0,1.0,-2.0,-0.5,-1.0\ngpt2,gpt2,0,1,-1.0,-2.0,0.5,-2.2\n";
    let text = said(&common::study(csv), &Extras::default(), "Held-out prompts");
    assert!(
        text.contains("is −0.50 to 0.80 (median 0.15 over 2 pairs of model and task); 2 of 4 heads"),
        "{text}"
    );
}

#[test]
fn strongest_heads_are_named_with_their_intervals() {
    let csv = "family,model,layer,head,delta_ioi,delta_anti,delta_ioi_ci_low,delta_ioi_ci_high\n\
               gpt2,gpt2,0,0,1.0,-2.0,0.5,1.5\ngpt2,gpt2,0,1,-0.1,0.2,-0.2,0.1\n";
    let text = said(&common::study(csv), &Extras::default(), "Strongest heads");
    assert!(text.contains("gpt2 L0H0 (Δ IOI +1.000 [+0.500, +1.500], Δ anti-repeat −2.000)"), "{text}");
}

#[test]
fn verbs_agree_with_counts() {
    let csv = "family,model,layer,head,delta_ioi,delta_anti\n\
               gpt2,gpt2,0,0,0,-2.0\ngpt2,gpt2,0,1,-0.1,\ngpt2,gpt2,0,2,-0.1,0.2\n";
    let study = common::study(csv);
    let text = said(&study, &Extras::default(), "Audit of the joint table");
    assert!(text.starts_with("1 effect in the joint table is empty, and 1 row holds an exact 0"), "{text}");
    let mut extras = common::ablated(&["gpt2", "other"]);
    extras.experiments[0].dissociation[1].double_dissociation = None;
    let text = said(&study, &extras, "Dissociation");
    assert!(
        text.contains("in 1 of 1 model with heads of both kinds to ablate; 1 model lacks such heads."),
        "{text}"
    );
    assert!(text.contains("is 0.30 in 2 models; its interval is above 0 in 2."), "{text}");
}

#[test]
fn sets_of_hero_heads_are_judged_by_their_tests() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2"]), 1.0));
    let mut extras = common::ablated(&["gpt2"]);
    let text = said(&study, &extras, "Hero vs. random heads");
    assert!(text.ends_with("on anti-repeat, over held-out prompts."), "{text}");
    let q_values = [Some(0.01), Some(0.2), None, Some(0.5)];
    extras.tables.push(
        Table::new("hero_vs_random_tests")
            .float("q_value", q_values)
            .integer("n_behind_p", [99_usize, 20, 0, 49]),
    );
    let text = said(&study, &extras, "Hero vs. random heads");
    assert!(
        text.contains(" Of 3 tests of a hero set")
            && text.contains("1 has q ≤ 0.05. Random sets are drawn one after the other")
            && text.ends_with(
                "a p-value is based on 20 to 99 of them, so it is at least 0.0200 before adjustment."
            ),
        "{text}"
    );
}

/// Where the clean run lies below the corrupted one, an influence towards it is negative in logits and still brings it back;
/// heads of a model that does not do the task are not counted.
#[test]
fn influences_are_counted_relative_to_the_clean_run() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2", "opt-125m"]), 1.0));
    let traced = vec![
        common::traced("gpt2", 0, [-0.4, 0.5], [-1.0, 2.0]),
        common::traced("gpt2", 1, [0.3, -0.9], [-1.0, 2.0]),
        common::traced("opt-125m", 0, [2.0, 3.0], [4.0, 3.0]),
    ];
    let experiments = vec![Experiments { traced, ..Experiments::none(Contrast::published()) }];
    let extras = Extras { experiments, ..Extras::default() };
    let text = said(&study, &extras, "Causal influence");
    assert!(
        text.contains("On IOI, the interval of the normalised influence")
            && text.contains("above 0 for 2 of 3 hero heads"),
        "{text}"
    );
    assert!(text.contains("and below 0 for 1; 3 have q ≤ 0.05; the largest in absolute value is that of opt-125m L0H0, +0.500 [+0.450, +0.550]."), "{text}");
    // OPT does not do anti-repeat.
    assert!(text.contains("On anti-repeat, ") && text.contains("above 0 for 1 of 2 hero heads"), "{text}");
    assert!(text.contains("the largest in absolute value is that of gpt2 L0H1, −0.450 [−0.500, −0.400]. Left out because they do not do the task: opt-125m."), "{text}");
}

#[test]
fn models_that_do_not_do_a_task_are_named() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2", "opt-125m", "opt-350m"]), 1.0));
    let text = said(&study, &Extras::default(), "Categories of heads");
    assert!(
        text.contains("the heads of 1 model are ")
            && text.contains("as far as is known: opt-125m and opt-350m."),
        "{text}"
    );
    let outline = self::text(&study, "results_outline");
    let row =
        |model: &str| outline.lines().find(|l| l.starts_with(&format!("| {model} |"))).unwrap().to_owned();
    assert!(row("opt-125m").ends_with("| anti-repeat |") && row("gpt2").ends_with("| – |"), "{outline}");
    let law = outline.lines().find(|l| l.contains("shared heads at relative thresholds")).unwrap();
    assert!(law.contains("left out: opt-125m and opt-350m"), "{law}");
}

/// A joint table of one model of 12 × 12 heads: on the second task each head's effect is what `second` makes of its first and of another
/// number of its own.
fn planted(second: fn(f64, f64) -> f64) -> Study {
    let mut csv = String::from("family,model,layer,head,delta_ioi,delta_anti\n");
    let noise = |n: u32| f64::from(n.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) - 0.5;
    for head in 0..144u32 {
        let (first, other) = (noise(head + 1), noise(1000 + 7 * head));
        csv += &format!("gpt2,gpt2,{},{},{first},{}\n", head / 12, head % 12, second(first, other));
    }
    common::study(&csv)
}

#[test]
fn the_answer_is_what_the_numbers_say() {
    let verdict = |second: fn(f64, f64) -> f64| {
        let study = planted(second);
        let answer = answer(&study, &Extras::default());
        assert_eq!(answer.question, "Do the same attention heads do IOI and anti-repeat?");
        assert_eq!(answer.points.len(), 1);
        let r = cs_report::words::correlation(&study.contrasts[0].correlations[0].pearson);
        assert!(answer.points[0].numbers.contains(&format!("over 144 heads at r = {r}.")), "{answer:?}");
        answer.points[0].verdict.clone()
    };
    assert_eq!(verdict(|a, b| a + 0.1 * b), "The same heads do IOI and anti-repeat.");
    assert_eq!(verdict(|a, b| a + 2.0 * b), "IOI and anti-repeat share some of their heads.");
    assert_eq!(verdict(|_, b| b), "No sign that the same heads do IOI and anti-repeat.");
    assert_eq!(verdict(|a, b| -a + 0.1 * b), "Heads that help IOI hinder anti-repeat.");
}

#[test]
fn the_answer_of_many_models_and_tasks_leaves_out_what_is_not_done() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2", "gpt2-medium", "opt-125m"]), 1.0));
    let two = answer(&study, &Extras::default());
    assert_eq!(best_model(&study), 1, "the larger of those that do both");
    assert!(two.points[0].numbers.starts_with("In gpt2-medium, "), "{two:?}");
    assert!(two.points[0].numbers.contains("Over 2 models, r is "), "of those that do both: {two:?}");
    assert!(two.points[0].verdict.contains("cannot be told"), "intervals over heads are wide: {two:?}");
    assert_eq!(
        two.caution.as_deref(),
        Some("opt-125m does not do anti-repeat: what its heads do there says little.")
    );

    let known = common::models(&["gpt2", "opt-125m"]);
    let (one, extras) = common::one_task(&known);
    let one = answer(&one, &extras);
    assert_eq!(one.question, "Which attention heads do IOI?");
    assert!(one.points[0].verdict.contains("of the 144 heads of "), "{one:?}");
    assert!(one.points[0].numbers.starts_with("The strongest: L"), "{one:?}");

    let (six, extras) = common::six_tasks(&known);
    let six = answer(&six, &extras);
    assert_eq!(six.question, "Which of 6 tasks share their attention heads?");
    assert_eq!(six.points.len(), 3, "all tasks, and two contrasts");
    assert!(six.points[0].verdict == "In gpt2, 14 of 15 pairs of tasks share heads.", "{six:?}");
    assert!(six.points[2].verdict.contains("coloured-objects and gender"), "{six:?}");
}
