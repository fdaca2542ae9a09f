//! Simulated joint tables, with what a real one has: many weak heads, few strong ones in the later layers, intervals and
//! held-out effects.
#![allow(dead_code, reason = "each user takes its own part")]

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cs_analysis::ablation::{SummaryRow, TaskSummary};
use cs_analysis::attention::{
    AttentionFile, ExamplePrompt, HeadAttention, TaskAttention, TextAttention, attention_table,
};
use cs_analysis::contrast::{ANTI_REPEAT, Contrast, IOI};
use cs_analysis::direct::DirectEffect;
use cs_analysis::dissociation::DissociationRow;
use cs_analysis::effects::HeadEffects;
use cs_analysis::joint::{self, JointTable};
use cs_analysis::known_models::{KNOWN_MODELS, KnownModel};
use cs_analysis::model_measures::TaskCorrelation;
use cs_analysis::origin::Origin;
use cs_analysis::overlap::Overlap;
use cs_analysis::ranged::Ranged;
use cs_analysis::scan_file::{Provenance, Split};
use cs_analysis::stats::Interval;
use cs_analysis::study::{ContrastStudy, Study, StudyOptions};
use cs_analysis::table::Table;
use cs_analysis::task_measures::task_measures;
use cs_analysis::tracing::{CausalResult, read_results};
use cs_report::Extras;
use cs_report::extras::{Experiments, RawFile};
use flate2::read::GzDecoder;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Standard normal (Box–Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let mut uniform = || (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0;
    (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
}

/// The joint table, as CSV, of these models. `strength` scales all effects: at 1 some heads of each model are strong, at
/// 0.001 none is.
pub fn joint_csv(models: &[KnownModel], strength: f64) -> String {
    let mut csv = String::from("family,model,layer,head,delta_ioi,delta_anti");
    for task in ["ioi", "anti"] {
        for name in ["delta_{}_ci_low", "delta_{}_ci_high", "held_out_delta_{}", "prob_abs_delta_{}_ge_0.05"]
        {
            csv += &format!(",{}", name.replace("{}", task));
        }
    }
    for task in ["ioi", "anti"] {
        for name in
            ["base_logit_diff_{}", "base_logit_diff_{}_ci_low", "base_logit_diff_{}_ci_high", "accuracy_{}"]
        {
            csv += &format!(",{}", name.replace("{}", task));
        }
    }
    csv += ",protocol,ablation,value_bias,seed\n";
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    for model in models {
        for layer in 0..model.n_layers {
            let depth = f64::from(layer) / f64::from(model.n_layers);
            for head in 0..model.n_heads {
                // Most heads do next to nothing; the strong ones lie around two thirds of the depth.
                let scale = strength * 0.02 * (1.0 + 4.0 * (-((depth - 0.65) / 0.15).powi(2)).exp());
                let shared = normal(&mut rng).powi(3);
                let mut effect = || scale * (0.5 * shared + normal(&mut rng).powi(3));
                let effects = [effect(), effect()];
                let _ = write!(
                    csv,
                    "{},{},{layer},{head},{},{}",
                    model.family, model.name, effects[0], effects[1]
                );
                for delta in effects {
                    let half = 0.15 * delta.abs() + 0.004 * strength;
                    let held_out = 0.95 * delta + 0.5 * half * normal(&mut rng);
                    let probability = ((delta.abs() - 0.05) / half * 2.0 + 0.5).clamp(0.0, 1.0);
                    let _ = write!(csv, ",{},{},{held_out},{probability}", delta - half, delta + half);
                }
                // OPT's models do not do anti-repeat.
                let anti = if model.family == "opt" { "0.1,-0.2,0.4,0.1" } else { "2,1.5,2.5,0.8" };
                csv += &format!(",3,2.5,3.5,0.9,{anti},standard,zero,folded,17\n");
            }
        }
    }
    csv
}

/// The study of a joint table.
pub fn study(csv: &str) -> Study {
    let path = Path::new("joint.csv");
    let table =
        joint::import_reader(csv.as_bytes(), path, joint::MAX_ROWS).unwrap().into_table(path).unwrap();
    Study::of_contrast(ContrastStudy::new(table, &StudyOptions::default()).unwrap())
}

/// Simulated attention of every head of a study, and further tables as large as a full run's.
pub fn extras(study: &Study) -> Extras {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut uniform = move || f64::from(rng.next_u32()) / 4_294_967_296.0;
    let mut head = |layer, head| {
        let mut mean: [f64; 10] = std::array::from_fn(|_| uniform().powi(6));
        let sum: f64 = mean.iter().sum();
        mean.iter_mut().for_each(|m| *m /= sum);
        let texts = [" to", " gave", ","].map(|text| (text, uniform() * mean[9]));
        HeadAttention {
            layer,
            head,
            mean: mean.map(|m| m as f32),
            sd: mean.map(|m| (m * (1.0 - m)) as f32),
            texts: texts.map(|(text, mean)| TextAttention { text: text.into(), mean: mean as f32 }).to_vec(),
        }
    };
    let joint = &study.contrasts[0].joint;
    let files = joint.models.iter().map(|model| {
        let origin = Origin {
            family: model.info.family.clone(),
            model: model.info.model.clone(),
            hf_name: String::new(),
            params_m: model.info.params_m,
            n_layers: model.n_layers(),
            n_heads: 0,
            protocol: "standard".into(),
            seed: 17,
            picked_on: Split::Discovery,
            split: Split::HeldOut,
            provenance: Provenance {
                program_version: "0.1.0".into(),
                weight_hash: "0123456789abcdef".repeat(4),
                options: Default::default(),
            },
        };
        let mut task = |task: &str| TaskAttention {
            task: task.into(),
            n_prompts: 240,
            n_distinct_prompts: 239,
            heads: model.heads.iter().map(|h| head(h.layer, h.head)).collect(),
            examples: examples(model.heads.len()),
        };
        AttentionFile::new(origin, vec![task(IOI), task(ANTI_REPEAT)])
    });
    let attention: Vec<AttentionFile> = files.collect();
    // Ablated sets: for each model, up to eight sizes of five selections and their random counterparts.
    let n_rows = 120 * joint.models.len();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut summary = Table::new("hero_vs_random_ablation_summary").integer("k", 0..n_rows);
    for column in 0..24 {
        let cells: Vec<f64> = (0..n_rows).map(|_| normal(&mut rng)).collect();
        summary = summary.float(format!("figure_{column}"), cells);
    }
    let names: Vec<&str> = joint.models.iter().map(|m| m.info.model.as_str()).collect();
    let raw = RawFile {
        path: "results/ablation/hero_vs_random_ablation.csv".into(),
        what: "every ablated set with its means",
        bytes: 12_430_701,
    };
    Extras {
        tables: vec![attention_table(&attention), summary],
        attention,
        raw: vec![raw],
        ..ablated(&names)
    }
}

/// Three prompts, each head attending to one token of each.
pub fn examples(n_heads: usize) -> Vec<ExamplePrompt> {
    let of = |names: [&str; 2], place: &str| {
        let [a, b] = names;
        let text = format!("<bos> When {a} and {b} went to the {place} , {b} gave a gift to");
        let tokens: Vec<String> = text
            .split(' ')
            .enumerate()
            .map(|(i, w)| if i < 2 { w.into() } else { format!(" {w}") })
            .collect();
        let row = |head: usize| -> Vec<u16> {
            (0..tokens.len())
                .map(|at| if at == head * 7 % tokens.len() { 900 } else { 100 / tokens.len() as u16 })
                .collect()
        };
        let thousandths = (0..n_heads).map(row).collect();
        ExamplePrompt { correct: a.into(), distractor: b.into(), thousandths, tokens }
    };
    vec![of(["Mary", "John"], "store"), of(["Tom", "Kate"], "park"), of(["Raj", "Mia"], "office")]
}

/// Made-up curves of ablated sets and damages for these models.
pub fn ablated(models: &[&str]) -> Extras {
    let ranged = |value: f64, low: f64, high: f64| Ranged::new(Some(value), Some((low, high)));
    let row = |model: &str, k: usize, set_type: &str, value: f64| {
        let k_heads = k as f64;
        let first = TaskSummary {
            acc: ranged(0.5, 0.4, 0.6),
            mean_diff: ranged(value, value - 0.4, value + 0.3),
            sum_delta: Some(0.8 * value - 3.0),
            interaction: ranged(0.05 * k_heads, 0.04 * k_heads, 0.06 * k_heads),
            ..TaskSummary::default()
        };
        let second = TaskSummary {
            acc: Ranged::new(Some(0.7), None),
            mean_diff: Ranged::new(Some(0.5 * value), None),
            sum_delta: Some(0.4 * value - 1.5),
            interaction: Ranged::new(Some(-0.01 * k_heads), None),
            ..TaskSummary::default()
        };
        SummaryRow {
            family: "any".into(),
            model: model.into(),
            k,
            set_type: set_type.into(),
            tasks: [first, second],
            selection: "all".into(),
            status: "measured".into(),
            split: Some(Split::HeldOut),
            ..SummaryRow::default()
        }
    };
    let mut made = Experiments::none(Contrast::published());
    for model in models {
        made.ablated.push(row(model, 0, "baseline", 4.0));
        for k in [1, 2, 5, 10, 20, 50] {
            made.ablated.push(row(model, k, "hero", 4.0 - (k as f64).sqrt()));
            made.ablated.push(row(model, k, "random", 4.0 - 0.02 * k as f64));
        }
        made.dissociation.push(DissociationRow {
            family: "any".into(),
            model: (*model).into(),
            params_m: Some(124.0),
            index: ranged(0.3, 0.1, 0.5),
            index_status: "measured".into(),
            k: 5,
            damage: [
                [ranged(1.5, 1.0, 2.0), ranged(0.2, 0.0, 0.4)],
                [ranged(0.1, -0.2, 0.4), ranged(2.5, 2.0, 3.0)],
            ],
            interaction: Some(3.7),
            interaction_p_value: Some(0.001),
            double_dissociation: Some(true),
            lesion_status: "measured".into(),
        });
    }
    Extras { experiments: vec![made], ..Extras::default() }
}

/// A script element of a page, whose text is data.
pub fn part<'a>(html: &'a str, id: &str) -> &'a str {
    let rest = html.split(&format!("id=\"{id}\">")).nth(1).unwrap_or_else(|| panic!("the page lacks {id}"));
    rest.split("</script>").next().unwrap()
}

/// The text behind compressed data of a page.
pub fn unpacked(data: &str) -> String {
    let mut text = String::new();
    let bytes = STANDARD.decode(data).unwrap();
    GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

/// What a page knows of single heads.
pub fn heads_on(html: &str) -> serde_json::Value {
    serde_json::from_str(&unpacked(part(html, "heads-data"))).unwrap()
}

/// Known models by name.
pub fn models(names: &[&str]) -> Vec<KnownModel> {
    KNOWN_MODELS.into_iter().filter(|m| names.contains(&m.name)).collect()
}

/// Studies that differ in what there is to show.
pub fn cases() -> Vec<(&'static str, Study)> {
    let six_columns = |csv: String| -> String {
        csv.lines().map(|l| l.split(',').take(6).collect::<Vec<_>>().join(",") + "\n").collect()
    };
    let unknown =
        |csv: String| csv.replace("gpt2,gpt2,", "mine,a & b <c>,").replace("opt,opt-125m,", "mine,d,");
    vec![
        ("one model", study(&joint_csv(&models(&["gpt2"]), 1.0))),
        (
            "one small model",
            study(&joint_csv(&[KnownModel { n_layers: 1, n_heads: 2, ..KNOWN_MODELS[0] }], 1.0)),
        ),
        ("one family", study(&joint_csv(&models(&["pythia-70m", "pythia-160m", "pythia-410m"]), 1.0))),
        ("all weak", study(&joint_csv(&models(&["gpt2", "opt-125m"]), 0.001))),
        ("six columns", study(&six_columns(joint_csv(&models(&["gpt2", "pythia-160m"]), 1.0)))),
        ("sizes unknown", study(&unknown(joint_csv(&models(&["gpt2", "opt-125m"]), 1.0)))),
        ("17 models", study(&joint_csv(&KNOWN_MODELS, 1.0))),
    ]
}

/// Gives every head a direct effect of 60% of its Δ.
pub fn with_direct_effects(study: &mut Study) {
    for head in study.effects.models.iter_mut().flat_map(|m| &mut m.tasks).flat_map(|t| &mut t.heads) {
        let delta = head.effect.delta.unwrap();
        let detail = head.effect.detail.as_mut().unwrap();
        let compensation = Some(0.4 * delta);
        detail.direct = Some(DirectEffect {
            direct: 0.6 * delta,
            direct_low: Some(0.6 * delta - 0.01),
            direct_high: Some(0.6 * delta + 0.01),
            compensation,
            compensation_low: compensation,
            compensation_high: compensation,
        });
    }
}

/// The tasks of [`six_tasks`].
pub const SIX: [&str; 6] = [IOI, ANTI_REPEAT, "induction", "agreement", "coloured_objects", "gender"];

/// Six tasks on these models, two contrasts of them, and what was measured beside.
pub fn six_tasks(models: &[KnownModel]) -> (Study, Extras) {
    let path = Path::new("joint.csv");
    // Each two tasks are another simulated pair: stronger ones, and other heads.
    let joints: Vec<JointTable> = [1.0, 0.7, 1.4]
        .into_iter()
        .map(|strength| {
            let csv = joint_csv(models, strength);
            joint::import_reader(csv.as_bytes(), path, joint::MAX_ROWS).unwrap().into_table(path).unwrap()
        })
        .collect();
    let mut effects = HeadEffects::from_joint(&joints[0]);
    effects.tasks = SIX.map(String::from).to_vec();
    for (index, joint) in joints.iter().enumerate().skip(1) {
        for (model, more) in effects.models.iter_mut().zip(HeadEffects::from_joint(joint).models) {
            for (mut task, name) in more.tasks.into_iter().zip(&SIX[2 * index..]) {
                task.task = (*name).to_owned();
                // Of another pair another head is the strong one.
                let mut rolled: Vec<_> = task.heads.iter().map(|h| h.effect.clone()).collect();
                rolled.rotate_left(5 * index);
                task.heads.iter_mut().zip(rolled).for_each(|(head, effect)| head.effect = effect);
                model.tasks.push(task);
            }
        }
    }
    let mut second = joints[2].clone();
    second.contrast = Contrast::new("coloured_objects", "gender").unwrap();
    let options = StudyOptions::default();
    let contrasts = [joints[0].clone(), second].map(|joint| ContrastStudy::new(joint, &options).unwrap());
    let correlation = |estimate: f64| TaskCorrelation {
        estimate: Some(estimate),
        prompts: Some(Interval { low: estimate - 0.1, high: estimate + 0.08 }),
        ..contrasts[0].correlations[0].pearson
    };
    let mut overlaps = Vec::new();
    for model in &effects.models {
        for (at, a) in SIX.iter().enumerate() {
            for (further, b) in SIX[at + 1..].iter().enumerate() {
                let shared = 0.8 - 0.2 * further as f64;
                overlaps.push(Overlap {
                    info: model.info.clone(),
                    contrast: Contrast::new(a, b).unwrap(),
                    n_heads: model.tasks[at].heads.len(),
                    pearson: correlation(shared),
                    spearman: correlation(0.9 * shared),
                    n_strong: [12, 9],
                    n_shared: Ranged::new(Some(7.0), Some((5.0, 9.0))),
                    jaccard: Ranged::new(
                        Some(shared.max(0.0)),
                        Some(((shared - 0.1).max(0.0), shared.max(0.0) + 0.1)),
                    ),
                });
            }
        }
    }
    let mut study = Study {
        task_measures: task_measures(&effects, options.tau),
        tables: vec![effects.to_table()],
        effects,
        overlaps,
        repairs: Vec::new(),
        contrasts: contrasts.into(),
        options,
    };
    with_direct_effects(&mut study);
    let mut extras = extras(&study);
    for file in &mut extras.attention {
        file.tasks = SIX.map(|task| TaskAttention { task: task.into(), ..file.tasks[0].clone() }).to_vec();
    }
    (study, extras)
}

/// The first of [`six_tasks`] alone.
pub fn one_task(models: &[KnownModel]) -> (Study, Extras) {
    let (mut study, mut extras) = six_tasks(models);
    study.effects.tasks.truncate(1);
    study.effects.models.iter_mut().for_each(|model| model.tasks.truncate(1));
    study.task_measures = task_measures(&study.effects, study.options.tau);
    study.tables = vec![study.effects.to_table()];
    study.contrasts.clear();
    study.overlaps.clear();
    extras.experiments.clear();
    extras.attention.iter_mut().for_each(|file| file.tasks.truncate(1));
    (study, extras)
}

/// A traced head: its influence on either task in logits, relative to that of the clean run, which is `gap` of each.
pub fn traced(model: &str, head: u32, influences: [f64; 2], gap: [f64; 2]) -> CausalResult {
    let task = |influence: f64, gap: f64| {
        let normalised = influence / gap;
        serde_json::json!({
            "ci_low": influence - 0.05, "ci_high": influence + 0.05, "p_value": 0.001, "q_value": 0.01,
            "normalised": normalised, "normalised_ci_low": normalised - 0.05, "normalised_ci_high": normalised + 0.05,
            "clean_logit_diff_mean": gap / 2.0, "corrupted_logit_diff_mean": -gap / 2.0,
            "n_pairs": 240, "n_left_out": 0, "weights": [],
        })
    };
    let value = serde_json::json!({
        "family": "any", "model": model, "hf_name": "", "category": "shared", "layer": 0, "head": head,
        "mean_ioi_influence": influences[0], "mean_anti_influence": influences[1],
        "ioi_influences": [], "anti_influences": [], "delta_ioi": 0.1, "delta_anti": 0.1, "strength": 0.2, "rank": 0,
        "stream": "v", "ioi": task(influences[0], gap[0]), "anti": task(influences[1], gap[1]),
        "resampling": { "n_resamples": 100, "n_permutations": 100, "level": 0.95 }, "note": "",
        "origin": {
            "family": "any", "model": model, "hf_name": "", "params_m": null, "n_layers": 1, "n_heads": 4,
            "protocol": "standard", "seed": 0, "picked_on": "discovery", "split": "held_out",
            "provenance": { "program_version": "0.1.0", "weight_hash": "" },
        },
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::json!([value]).to_string()).unwrap();
    read_results(file.path(), &Contrast::published()).unwrap().remove(0)
}
