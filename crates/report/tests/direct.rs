//! Direct effects, self-repair and roles of heads in figures, notes and on the page.

mod common;
#[path = "common/drawn.rs"]
mod drawn;

use cs_analysis::known_models::KNOWN_MODELS;
use cs_analysis::ranged::Ranged;
use cs_analysis::roles::{PatternScores, RolesFile, TaskRoles, TaskScores};
use cs_analysis::scan_file::Split;
use cs_analysis::self_repair::{ModelRepair, SelfRepair};
use cs_analysis::study::Study;
use cs_report::Extras;
use cs_report::figures::describe_all;
use cs_report::html::page;
use cs_report::notes::notes;
use drawn::check;

fn ranged(value: f64) -> Ranged {
    Ranged::new(Some(value), Some((value - 0.1, value + 0.1)))
}

/// Gives every head a direct effect of 60% of its Δ, and every model some heads with roles.
fn measured(study: &mut Study) -> Extras {
    common::with_direct_effects(study);
    let (mut roles, mut repairs) = (Vec::new(), Vec::new());
    let origins: Vec<_> = common::extras(study).attention.into_iter().map(|file| file.origin).collect();
    for (model, origin) in study.effects.models.iter_mut().zip(origins) {
        let mut tasks = Vec::new();
        for task in &mut model.tasks {
            let mut heads = Vec::new();
            for head in &mut task.heads {
                heads.push(TaskScores {
                    layer: head.layer,
                    head: head.head,
                    name_mover: ranged(if head.head == 1 { 0.5 } else { 0.01 }),
                    s_inhibition: ranged(0.2),
                    copy_suppression: ranged(0.02),
                    indirect: ranged(-0.3),
                    attention: [0.6, 0.2],
                });
            }
            let repair = SelfRepair {
                split: Split::HeldOut,
                n_heads: 3,
                said: 1.5,
                compensation: 0.4,
                repaired: ranged(0.25),
            };
            repairs.push(ModelRepair { info: model.info.clone(), task: task.task.clone(), repair });
            tasks.push(TaskRoles { task: task.task.clone(), n_prompts: 240, heads });
        }
        let pattern = |head: &TaskScores| PatternScores {
            layer: head.layer,
            head: head.head,
            previous_token: ranged(if head.head == 0 { 0.9 } else { 0.05 }),
            duplicate_token: ranged(0.02),
            induction: ranged(0.1),
        };
        let heads = tasks[0].heads.iter().map(pattern).collect();
        roles.push(RolesFile::new(origin, (32, 25), heads, tasks));
    }
    study.repairs = repairs;
    Extras { roles, ..Extras::default() }
}

#[test]
fn they_are_drawn_written_and_on_the_page() {
    let known: Vec<_> = KNOWN_MODELS.into_iter().filter(|m| m.n_heads * m.n_layers <= 400).collect();
    let mut study = common::study(&common::joint_csv(&known, 1.0));
    let extras = measured(&mut study);
    let drawings = describe_all(&study, &extras).unwrap();
    let figure = |name: &str| {
        let found = drawings.iter().flatten().find(|figure| figure.name == name);
        found.unwrap_or_else(|| panic!("{name} is not drawn"))
    };
    for name in ["self_repair_vs_scale", "head_roles_vs_scale"] {
        check("direct", figure(name));
    }
    for model in study.models() {
        let figure = figure(&format!("direct_vs_total_{}", model.model));
        check("direct", figure);
        let svg = &figure.svg;
        let texts = roxmltree::Document::parse(svg).unwrap();
        let text: Vec<&str> = texts.descendants().filter_map(|n| n.text()).collect();
        assert!(text.iter().any(|t| t.contains("direct effect (logits)")), "{}", model.model);
    }

    let notes = notes(&study, &extras).unwrap();
    let note = notes.iter().find(|note| note.name == "roles_and_self_repair").expect("a note");
    assert!(
        note.text.contains("gpt2 on IOI: 25% [15%, 35%], over 3 heads that together contribute 1.50 logits."),
        "{}",
        note.text
    );
    study.repairs[0].repair.n_heads = 1;
    let of_one = cs_report::notes::notes(&study, &extras).unwrap();
    assert!(of_one.iter().any(|note| note.text.contains("over 1 head that contributes 1.50 logits.")));
    assert!(
        note.text.contains("| previous token | repeated random tokens | 12 of 144 | L0H0 0.90"),
        "{}",
        note.text
    );
    assert!(note.text.contains("| name mover | IOI | 12 of 144 | L0H1 0.50"), "{}", note.text);
    assert!(note.text.contains("| S-inhibition | IOI | 0 of 144 | – |"), "{}", note.text);

    let html = page(&study, &extras).unwrap();
    assert!(html.contains("\"repair\":[[0.25,") && html.contains("id=\"role-table\""));
    let heads = common::heads_on(&html);
    let own = &heads["models"][0];
    assert!(own["heads"]["t0_direct"].is_array() && own["heads"]["t1_compensation"].is_array());
    // A head's roles: which, on which task, and its score in thousandths.
    assert_eq!(own["roles"][1][0][2], 500.0, "L0H1 moves names: {}", own["roles"][1]);
}

#[test]
fn where_they_were_not_measured_that_is_said() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2"]), 1.0));
    let drawings = describe_all(&study, &Extras::default()).unwrap();
    for name in ["direct_vs_total", "self_repair_vs_scale", "head_roles_vs_scale"] {
        let missing = drawings.iter().filter_map(|d| d.as_ref().err()).find(|m| m.name == name);
        assert!(missing.is_some_and(|m| m.why.len() > 20), "{name}");
    }
    let notes = notes(&study, &Extras::default()).unwrap();
    assert!(notes.iter().all(|note| note.name != "roles_and_self_repair"));
}
