//! Roles of heads: scores against TransformerLens's head detector (`golden/roles.json`), and names on planted circuits.

#[path = "planted/mod.rs"]
mod planted;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cs_analysis::categories::DEFAULT_TAU;
use cs_analysis::origin::Origin;
use cs_analysis::role_tables::{HEAD_ROLES, role_counts, role_tables};
use cs_analysis::roles::{HeadRole, RolesFile};
use cs_analysis::scan_file::{Provenance, Split};
use cs_circuits::roles::{RepeatedTokens, attention_scores, pattern_scores, task_roles};
use cs_engine::Options;
use cs_engine::decoder::Decoder;
use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::ModelConfig;
use planted::{
    N_HEADS, N_LAYERS, Planted, Role, World, backup_circuit, full_circuit, scan_with, separate_circuit,
};

fn decoder(folder: &Path) -> Decoder {
    let files = ModelFiles::folder(folder).unwrap();
    let config = ModelConfig::open(&files).unwrap();
    let weights = cs_engine::load(&Checkpoint::open(&files, &config).unwrap()).unwrap();
    Decoder::new(config.spec, weights)
}

#[test]
fn scores_are_those_of_transformer_lens() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let golden = std::fs::read(root.join("crates/engine/tests/golden/roles.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let models = golden["models"].as_object().unwrap();
    assert_eq!(models.len(), 3);
    for (path, sequences) in models {
        let decoder = decoder(&root.join(path));
        let sequences = sequences.as_array().unwrap();
        let tokens =
            |s: &serde_json::Value| -> Vec<u32> { serde_json::from_value(s["tokens"].clone()).unwrap() };
        let tokens: Vec<Vec<u32>> = sequences.iter().map(tokens).collect();
        let found = attention_scores(&decoder, &tokens, Options::default()).unwrap();
        for (found, name) in found.iter().zip(["previous_token", "duplicate_token", "induction"]) {
            for (at, sequence) in sequences.iter().enumerate() {
                let expected: Vec<f64> = serde_json::from_value(sequence[name].clone()).unwrap();
                assert_eq!(expected.len(), found.len(), "{path}");
                for (head, (found, expected)) in found.iter().zip(expected).enumerate() {
                    let found = found[at];
                    assert!(
                        (found - expected).abs() < 1e-5,
                        "{path}, {name} of head {head}: {found}, not {expected}"
                    );
                }
            }
        }
    }
}

/// The roles of a planted model on both tasks. Random tokens are names, the only tokens that planted heads tell apart.
fn roles_of(world: &World, model: &Planted) -> RolesFile {
    let spec = model.decoder.spec();
    let names: Vec<u32> = world.names().map(|name| name as u32).collect();
    let tokens = RepeatedTokens::draw(0, Some(0), &names, spec.n_ctx);
    assert_eq!((tokens.sequences.len(), tokens.n_random), (32, 7));
    let heads = pattern_scores(&model.decoder, &tokens, (0, "planted"), Options::default()).unwrap();
    let roles = [&world.ioi, &world.anti].map(|prompts| {
        let mut scan = scan_with(&model.decoder, prompts, Default::default());
        (scan.meta.ablation, scan.meta.value_bias) = ("zero".into(), "folded".into());
        task_roles(&model.decoder, prompts, (&scan, Split::HeldOut), Options::default()).unwrap()
    });
    let origin = Origin {
        family: "planted".into(),
        model: "planted".into(),
        hf_name: "planted".into(),
        params_m: None,
        n_layers: N_LAYERS as u32,
        n_heads: N_HEADS as u32,
        protocol: "standard".into(),
        seed: 0,
        picked_on: Split::Discovery,
        split: Split::HeldOut,
        provenance: Provenance {
            program_version: String::new(),
            weight_hash: String::new(),
            options: serde_json::Map::new(),
        },
    };
    RolesFile::new(origin, (tokens.sequences.len(), tokens.n_random), heads, roles.into())
}

/// The planted heads that a role names on a task; an unplanted one is `noise`.
fn named<'m>(model: &'m Planted, file: &RolesFile, role: HeadRole, task: &str) -> Vec<&'m str> {
    let plays = file.scores(role, task).into_iter().filter(|score| score.plays(role, DEFAULT_TAU));
    let name = |(layer, head): (u32, u32)| {
        model.role(layer as usize, head as usize).map_or("noise", |planted| planted.name)
    };
    let mut named: Vec<&str> = plays.map(|score| name(score.head)).collect();
    named.sort_unstable();
    named
}

/// On every placement, each role names exactly the heads planted for it, on IOI and on anti-repeat.
fn check(circuit: fn(&World) -> Vec<Role>, planted: &[(HeadRole, [&[&str]; 2])]) {
    let world = World::new();
    let planted: BTreeMap<HeadRole, [&[&str]; 2]> = planted.iter().copied().collect();
    for seed in 0..8 {
        let model = Planted::new(&world, circuit(&world), seed);
        let file = roles_of(&world, &model);
        for role in HeadRole::ALL {
            for (at, task) in ["ioi", "anti_repeat"].into_iter().enumerate() {
                let expected = planted.get(&role).map_or(&[][..], |tasks| tasks[at]);
                assert_eq!(
                    named(&model, &file, role, task),
                    expected,
                    "placement {seed}: {role:?} on {task}"
                );
            }
        }
        // The tables say the same.
        let [roles, ..] = role_tables(std::slice::from_ref(&file), DEFAULT_TAU);
        assert_eq!((roles.name.as_str(), roles.n_rows()), (HEAD_ROLES, 2 * N_LAYERS * N_HEADS));
        for count in role_counts(std::slice::from_ref(&file), DEFAULT_TAU) {
            let names = named(&model, &file, count.role, count.task);
            assert_eq!((count.n, count.n_scored), (names.len(), N_LAYERS * N_HEADS));
        }
    }
}

#[test]
fn roles_name_the_planted_heads_and_no_other() {
    use HeadRole::{
        CopySuppression, DuplicateToken, NameMover, NegativeNameMover, PreviousToken, SInhibition,
    };
    check(
        full_circuit,
        &[
            (PreviousToken, [&["previous"]; 2]),
            (DuplicateToken, [&["duplicate"]; 2]),
            (SInhibition, [&["s_inhibition"]; 2]),
            (NameMover, [&["ioi_mover"], &["anti_mover"]]),
            // On anti-repeat it suppresses the answer, on IOI the repeated name.
            (NegativeNameMover, [&["ioi_negative_mover"], &["two_faced"]]),
            (CopySuppression, [&["ioi_suppressor", "two_faced"], &["anti_suppressor"]]),
        ],
    );
    check(
        separate_circuit,
        &[
            (PreviousToken, [&["anti_previous", "ioi_previous"]; 2]),
            (SInhibition, [&["ioi_inhibition"], &["anti_inhibition"]]),
            (NameMover, [&["ioi_mover"], &["anti_mover"]]),
            (CopySuppression, [&["ioi_suppressor"], &["anti_suppressor"]]),
        ],
    );
}

/// A mover whose ablation has no effect is still named; its idle backup is not.
#[test]
fn a_mover_with_a_backup_is_a_mover() {
    check(
        backup_circuit,
        &[
            (HeadRole::DuplicateToken, [&["duplicate"]; 2]),
            (HeadRole::SInhibition, [&["s_inhibition"]; 2]),
            (HeadRole::NameMover, [&["mover"]; 2]),
        ],
    );
}

#[test]
fn random_tokens_are_distinct_repeated_and_fit_the_model() {
    let ids: Vec<u32> = (10..60).collect();
    let drawn = RepeatedTokens::draw(3, Some(2), &ids, 1024);
    assert_eq!(drawn, RepeatedTokens::draw(3, Some(2), &ids, 1024));
    assert_ne!(drawn, RepeatedTokens::draw(4, Some(2), &ids, 1024));
    assert_eq!(drawn.n_random, 25);
    for tokens in &drawn.sequences {
        let (first, again) = tokens[1..].split_at(25);
        assert!(tokens[0] == 2 && first == again && first.iter().all(|id| ids.contains(id)));
        let mut different = first.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 25);
    }
    // Without BOS, and with a short context; a context that is too short gives no score.
    let short = RepeatedTokens::draw(3, None, &ids, 9);
    assert!(short.n_random == 4 && short.sequences.iter().all(|tokens| tokens.len() == 8));
    assert!(RepeatedTokens::draw(3, Some(2), &ids, 6).sequences.is_empty());
    assert!(RepeatedTokens::draw(3, None, &ids[..2], 100).sequences.is_empty());
}
