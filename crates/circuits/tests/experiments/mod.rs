//! Runs all experiments on a model, as the program does.
//!
//! Include it with `#[path = "experiments/mod.rs"] mod experiments;`, beside `planted`.
#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::convert::Infallible;
use std::ops::ControlFlow;

use cs_analysis::ablation::{
    AblationPlan, AblationSettings, Evidence, ModelAblation, TaskOutcomes, evaluate, plan, run_random_sets,
};
use cs_analysis::categories::{Classified, DEFAULT_TAU, classify};
use cs_analysis::contrast::Contrast;
use cs_analysis::dissociation::{Dissociation, dissociation};
use cs_analysis::joint::{ScanPair, from_scans};
use cs_analysis::origin::Origin;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{Provenance, Resampling};
use cs_analysis::scan_summary::{SummaryOptions, summarise_scan};
use cs_circuits::ablate::{ablate_sets, subsample};
use cs_circuits::prompts::{Split, TokenizedPrompts};
use cs_circuits::scan::ScanOptions;
use cs_engine::decoder::Decoder;

use crate::planted::{World, plain_scan};

/// Few resamples: these tests check measurements; statistics have separate tests.
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
        let joint = from_scans(&Contrast::published(), &[ScanPair::new(ioi, anti)]).expect("a joint table");
        let classified = classify(&joint, tau).expect("categories");
        let provenance = Provenance {
            program_version: String::new(),
            weight_hash: String::new(),
            options: Default::default(),
        };
        let origin = Origin::new(&classified.models[0].info, &scans[0], provenance);
        Self { decoder, prompts, scans, classified, origin }
    }

    /// The sets to ablate, with another seed for each model.
    pub fn plan(&self, n_random_sets: usize, seed: u64) -> AblationPlan {
        plan(&self.classified.contrast, &self.classified.models[0], n_random_sets, seed)
    }

    pub fn settings(&self, n_random_sets: usize) -> AblationSettings {
        AblationSettings {
            ablation: "zero".into(),
            value_bias: "folded".into(),
            reference: None,
            n_random_sets,
            n_random_prompts: 8,
            tau: self.classified.tau,
            n_resamples: RESAMPLING.n_resamples,
        }
    }

    /// Results of the plan's sets on both tasks' held-out prompts, with random sets for as long as they decide something.
    pub fn outcomes(&self, plan: &AblationPlan, settings: &AblationSettings) -> [TaskOutcomes; 2] {
        let options = ScanOptions::default();
        let run = |prompts: &TokenizedPrompts, places: Option<&[usize]>, sets: &[_]| {
            ablate_sets(self.decoder, prompts, (Split::HeldOut, places), sets, options, &mut go_on)
                .expect("outcomes")
        };
        let mut outcomes = self.prompts.map(|prompts| TaskOutcomes {
            subsample: subsample(prompts, Split::HeldOut, settings.n_random_prompts, options),
            ..run(prompts, None, &plan.sets)
        });
        let places = outcomes.each_ref().map(|o| o.subsample.clone());
        let Ok(()) = run_random_sets(plan, settings, &mut outcomes, &mut |task, sets| {
            Ok::<_, Infallible>(run(self.prompts[task], Some(&places[task]), sets).sets)
        });
        outcomes
    }

    pub fn ablation(&self, n_random_sets: usize, seed: u64) -> (ModelAblation, Dissociation) {
        let plan = self.plan(n_random_sets, seed);
        let settings = self.settings(n_random_sets);
        let outcomes = self.outcomes(&plan, &settings);
        let evidence = Evidence {
            contrast: &self.classified.contrast,
            model: &self.classified.models[0],
            scans: [&self.scans[0], &self.scans[1]],
            plan: &plan,
            outcomes: [&outcomes[0], &outcomes[1]],
        };
        let ablation = evaluate(&self.origin, &settings, evidence).expect("an ablation");
        (ablation, dissociation(&self.origin, &settings, evidence).expect("a dissociation"))
    }
}

/// Ignores progress.
pub fn go_on<T>(_: T) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
