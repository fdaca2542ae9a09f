//! From a model to everything that experiments say of it, as the program does it.
//!
//! Include it with `#[path = "experiments/mod.rs"] mod experiments;`, beside `planted`.
#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use analysis::ablation::{
    AblationPlan, AblationSettings, ModelAblation, Selection, TaskOutcomes, evaluate, plan,
};
use analysis::categories::{Classified, DEFAULT_TAU, classify};
use analysis::dissociation::{Dissociation, Evidence, dissociation};
use analysis::joint::{ScanPair, from_scans};
use analysis::origin::Origin;
use analysis::per_prompt::PerPromptScan;
use analysis::scan_file::{Provenance, Resampling};
use analysis::scan_summary::{SummaryOptions, summarise_scan};
use circuits::ablate::ablate_sets;
use circuits::prompts::{Split, TokenizedPrompts};
use circuits::scan::ScanOptions;
use cs_engine::decoder::Decoder;

use crate::planted::{World, plain_scan};

/// Few resamples: tests look at what is measured, the statistics have tests of their own.
pub const RESAMPLING: Resampling = Resampling { n_resamples: 400, n_permutations: 400, level: 0.95 };

/// A scanned model.
pub struct Scanned<'a> {
    pub decoder: &'a Decoder,
    pub prompts: [&'a TokenizedPrompts; 2],
    pub scans: [PerPromptScan; 2],
    pub classified: Classified,
    pub origin: Origin,
}

impl<'a> Scanned<'a> {
    pub fn new(world: &'a World, decoder: &'a Decoder, tau: f64) -> Self {
        let prompts = [&world.ioi, &world.anti];
        let scans = prompts.map(|prompts| plain_scan(decoder, prompts));
        let options = SummaryOptions { resampling: RESAMPLING, taus: vec![DEFAULT_TAU] };
        let [ioi, anti] = scans.each_ref().map(|scan| summarise_scan(scan, &options).expect("a scan file"));
        let joint = from_scans(&[ScanPair::new(ioi, anti)]).expect("a joint table");
        let classified = classify(&joint, tau).expect("categories");
        let provenance = Provenance {
            program_version: String::new(),
            weight_hash: String::new(),
            options: Default::default(),
        };
        let origin = Origin::new(&classified.models[0], &scans[0], provenance);
        Self { decoder, prompts, scans, classified, origin }
    }

    /// The sets to ablate, with another seed for each model.
    pub fn plan(&self, n_random_sets: usize, seed: u64) -> AblationPlan {
        plan(&self.classified.models[0], n_random_sets, seed)
    }

    pub fn settings(&self, n_random_sets: usize) -> AblationSettings {
        AblationSettings {
            ablation: "zero".into(),
            value_bias: "folded".into(),
            n_random_sets,
            tau: self.classified.tau,
            n_resamples: RESAMPLING.n_resamples,
        }
    }

    /// What the plan's sets give on both tasks' held-out prompts.
    pub fn outcomes(&self, plan: &AblationPlan) -> [TaskOutcomes; 2] {
        self.prompts.map(|prompts| {
            let options = ScanOptions::default();
            ablate_sets(self.decoder, prompts, Split::HeldOut, &plan.sets, options, &mut go_on)
                .expect("outcomes")
        })
    }

    /// Hero sets of all heads alone, for speed: nothing else of the plan is run.
    pub fn ablation_of_all_heads(&self, n_random_sets: usize, seed: u64) -> ModelAblation {
        let mut plan = self.plan(n_random_sets, seed);
        plan.comparisons.retain(|c| c.selection == Selection::All);
        let mut used = BTreeSet::new();
        for sets in plan.comparisons.iter().flat_map(|c| &c.sets) {
            used.insert(sets.hero);
            for arm in [&sets.random, &sets.matched] {
                used.extend(arm.others.iter().flatten().chain(&arm.permuted));
            }
        }
        let mut small = plan.clone();
        small.sets = used.iter().map(|&at| plan.sets[at].clone()).collect();
        let outcomes = self.outcomes(&small).map(|outcomes| {
            let mut sets = vec![outcomes.base.clone(); plan.sets.len()];
            used.iter().zip(outcomes.sets).for_each(|(&at, outcome)| sets[at] = outcome);
            TaskOutcomes { sets, ..outcomes }
        });
        evaluate(&self.origin, &self.settings(n_random_sets), &plan, &outcomes[0], &outcomes[1])
            .expect("an ablation")
    }

    pub fn ablation(&self, n_random_sets: usize, seed: u64) -> (ModelAblation, Dissociation) {
        let plan = self.plan(n_random_sets, seed);
        let [ioi, anti] = self.outcomes(&plan);
        let settings = self.settings(n_random_sets);
        let evidence = Evidence {
            model: &self.classified.models[0],
            scans: [&self.scans[0], &self.scans[1]],
            plan: &plan,
            outcomes: [&ioi, &anti],
        };
        let ablation = evaluate(&self.origin, &settings, &plan, &ioi, &anti).expect("an ablation");
        (ablation, dissociation(&self.origin, &settings, evidence).expect("a dissociation"))
    }
}

/// Takes note of no progress.
pub fn go_on<T>(_: T) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
