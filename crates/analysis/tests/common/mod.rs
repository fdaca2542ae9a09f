//! Simulated scans for tests.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod planted;

use cs_analysis::contrast::Contrast;
use cs_analysis::joint::{self, JointTable, ScanPair};
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{Provenance, ScanMeta, Split};
use cs_analysis::scan_summary::{SummaryOptions, summarise_scan};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Uniform in (0, 1).
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

/// Standard normal (Box–Muller).
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (-2.0 * uniform(rng).ln()).sqrt() * (std::f64::consts::TAU * uniform(rng)).cos()
}

pub fn meta(family: &str, model: &str, task: &str, n_layers: u32, n_heads: u32) -> ScanMeta {
    ScanMeta {
        model_name: model.into(),
        hf_name: format!("org/{model}"),
        family: family.into(),
        task: task.into(),
        protocol: "standard".into(),
        seed: 7,
        value_bias: "folded".into(),
        reference: None,
        ablation: "zero".into(),
        n_layers,
        n_heads,
        n_params: Some(1_234_567),
        device: None,
        precision: None,
        only_heads: None,
        note: "simulated".into(),
        provenance: Provenance {
            program_version: "0.1.0".into(),
            weight_hash: "sha256:00ff".into(),
            options: serde_json::Map::new(),
        },
    }
}

/// A scan with effects of about `scale`, half its prompts held out, some drawn twice.
pub fn scan(meta: ScanMeta, n_distinct: usize, scale: f64, seed: u64) -> PerPromptScan {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let base: Vec<f32> = (0..n_distinct).map(|_| (2.0 + normal(&mut rng)) as f32).collect();
    let mut ablated = Vec::new();
    for _ in 0..meta.n_layers * meta.n_heads {
        let effect = scale * normal(&mut rng);
        ablated.extend(base.iter().map(|&b| (f64::from(b) + effect + 0.5 * scale * normal(&mut rng)) as f32));
    }
    // Half of each effect is direct.
    let direct = ablated.iter().zip(base.iter().cycle()).map(|(a, b)| 0.5 * (a - b)).collect();
    PerPromptScan {
        meta,
        direct: Some(direct),
        base_correct: base.iter().map(|&b| b > 1.0).collect(),
        base,
        ablated,
        weight: (0..n_distinct).map(|i| 1 + u32::from(i % 7 == 0)).collect(),
        template: (0..n_distinct as u32).map(|i| i / 2 % 5).collect(),
        split: (0..n_distinct).map(|i| if i % 2 == 0 { Split::Discovery } else { Split::HeldOut }).collect(),
    }
}

/// Both scans of a simulated model.
pub fn pair(family: &str, model: &str, n_layers: u32, n_heads: u32, seed: u64) -> ScanPair {
    let make = |task: &str, seed| scan(meta(family, model, task, n_layers, n_heads), 40, 0.08, seed);
    let (ioi, anti) = (make("ioi", seed), make("anti_repeat", seed + 1000));
    let file = |side| summarise_scan(side, &quick()).unwrap();
    ScanPair::new(file(&ioi), file(&anti)).with_prompts(&ioi, &anti).unwrap()
}

/// The joint table of simulated models, of the published pair.
pub fn from_scans(pairs: &[ScanPair]) -> JointTable {
    joint::from_scans(&Contrast::published(), pairs).unwrap()
}

/// Few resamples, for tests that do not check them.
pub fn quick() -> SummaryOptions {
    let mut options = SummaryOptions::default();
    options.resampling.n_resamples = 200;
    options.resampling.n_permutations = 200;
    options
}

/// A study of three families.
pub fn pairs() -> Vec<ScanPair> {
    vec![
        pair("pythia", "pythia-70m", 6, 8, 3),
        pair("mine", "tiny-b", 2, 3, 4),
        pair("gpt2", "gpt2-medium", 24, 16, 2),
        pair("mine", "tiny-a", 2, 4, 5),
        pair("gpt2", "gpt2", 12, 12, 1),
    ]
}
