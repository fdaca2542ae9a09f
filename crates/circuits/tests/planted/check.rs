//! Checks a scan against the planted model.

use std::fmt;
use std::ops::ControlFlow;

use cs_analysis::categories::Category;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{Provenance, ScanMeta};
use cs_circuits::prompts::TokenizedPrompts;
use cs_circuits::scan::{ScanOptions, scan};
use cs_engine::decoder::Decoder;

use super::model::{N_HEADS, Planted};

/// The tasks, in the order of [`super::Role::delta`].
pub const TASKS: [&str; 2] = ["ioi", "anti_repeat"];

/// Tolerance of Δ against the arithmetic, which ignores the noise heads' contributions to logits.
const TOLERANCE: f64 = 0.02;
/// The same relative to Δ: noise also shifts the attention of a head that attends to several names equally.
const RELATIVE_TOLERANCE: f64 = 0.1;

/// A wrong result of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Layer and head.
    pub head: (usize, usize),
    /// The head's role; `None` for noise.
    pub role: Option<&'static str>,
    /// What is wrong.
    pub kind: FailureKind,
    /// Δ on both tasks, as scanned.
    pub found: [f64; 2],
    /// Δ on both tasks, as planted.
    pub planted: [f64; 2],
}

/// The error in a head's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A planted head was classified as weak.
    Missed,
    /// A head without effect was not classified as weak.
    FalseAlarm,
    /// A planted head got the wrong category.
    WrongCategory,
    /// Help was taken for harm, or harm for help.
    WrongSign,
    /// Category and sign are right, but Δ does not follow from the wiring.
    WrongSize,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((layer, head), role) = (self.head, self.role.unwrap_or("noise"));
        let ([ioi, anti], [planted_ioi, planted_anti]) = (self.found, self.planted);
        write!(f, "{:?} L{layer}H{head} {role}: Δ {ioi:+.3} {anti:+.3}, ", self.kind)?;
        write!(f, "planted {planted_ioi:+.3} {planted_anti:+.3}")
    }
}

/// All errors in the heads' Δ, at most one per head; `found` has one row per task, ordered by layer and head.
pub fn failures(planted: &Planted, found: [&[f64]; 2], tau: f64) -> Vec<Failure> {
    let n_heads_total = planted.decoder.spec().n_heads_total();
    assert_eq!(found.map(<[f64]>::len), [n_heads_total; 2], "one Δ for each head and task");
    let check = |index: usize| {
        let head = (index / N_HEADS, index % N_HEADS);
        let found = found.map(|deltas| deltas[index]);
        let role = planted.role(head.0, head.1);
        let (expected, category) =
            role.map_or(([0.0; 2], Category::Weak), |role| (role.delta, role.category));
        let kind = fault(found, expected, category, tau)?;
        Some(Failure { head, role: role.map(|role| role.name), kind, found, planted: expected })
    };
    (0..n_heads_total).filter_map(check).collect()
}

fn fault(found: [f64; 2], planted: [f64; 2], category: Category, tau: f64) -> Option<FailureKind> {
    let found_category = Category::of(found, tau);
    let pairs = || found.into_iter().zip(planted);
    let far = |(found, planted): (f64, f64)| {
        // The negation also catches NaN.
        let near = (found - planted).abs() <= TOLERANCE + RELATIVE_TOLERANCE * planted.abs();
        !near
    };
    match (category, found_category) {
        (Category::Weak, Category::Weak) => None,
        (Category::Weak, _) => Some(FailureKind::FalseAlarm),
        (_, Category::Weak) => Some(FailureKind::Missed),
        (planted, found) if planted != found => Some(FailureKind::WrongCategory),
        _ if pairs().any(|(found, planted)| planted.abs() >= tau && found * planted < 0.0) => {
            Some(FailureKind::WrongSign)
        }
        _ if pairs().any(far) => Some(FailureKind::WrongSize),
        _ => None,
    }
}

/// Δ of each head: its weighted mean over all prompts, ordered by layer and head.
pub fn deltas(scan: &PerPromptScan) -> Vec<f64> {
    let n: f64 = scan.weight.iter().copied().map(f64::from).sum();
    let weighted = |ablated: &[f32]| {
        let differences = ablated.iter().zip(&scan.base).map(|(a, b)| f64::from(*a) - f64::from(*b));
        differences.zip(&scan.weight).map(|(d, &weight)| d * f64::from(weight)).sum::<f64>() / n
    };
    (0..scan.n_scanned_heads()).map(|head| weighted(scan.ablated_head(head))).collect()
}

/// The default scan.
pub fn plain_scan(decoder: &Decoder, prompts: &TokenizedPrompts) -> PerPromptScan {
    scan_with(decoder, prompts, ScanOptions::default())
}

/// A scan with other options.
pub fn scan_with(decoder: &Decoder, prompts: &TokenizedPrompts, options: ScanOptions) -> PerPromptScan {
    let meta = ScanMeta {
        model_name: "planted".into(),
        hf_name: "planted".into(),
        family: "planted".into(),
        task: prompts.task.clone(),
        protocol: prompts.protocol.to_string(),
        seed: 0,
        value_bias: String::new(),
        reference: None,
        ablation: String::new(),
        n_layers: 0,
        n_heads: 0,
        n_params: None,
        device: None,
        precision: None,
        only_heads: None,
        note: String::new(),
        provenance: Provenance {
            program_version: String::new(),
            weight_hash: String::new(),
            options: serde_json::Map::new(),
        },
    };
    scan(decoder, prompts, meta, options, &mut |_| ControlFlow::Continue(())).expect("a scan")
}
