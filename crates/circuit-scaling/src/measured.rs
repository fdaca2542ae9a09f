//! Results of a study's parts from other machines, for the stages that would otherwise run models.

use std::collections::HashMap;

use cs_analysis::ablation::{HeadSet, Outcome};
use cs_analysis::attention::TaskAttention;
use cs_analysis::roles::RolesFile;
use cs_analysis::tracing::TaskTrace;
use cs_circuits::prompts::TracingPairs;
use cs_engine::Compute;

use crate::commands::parts::PartsError;

/// A model and a task.
type Of = (String, String);

/// Results by model and task.
#[derive(Default)]
pub struct Measured {
    /// The device that computed them.
    device: Option<String>,
    attention: HashMap<Of, TaskAttention>,
    /// By model.
    roles: HashMap<String, RolesFile>,
    traces: HashMap<Of, Traces>,
    /// On all held-out prompts.
    sets: HashMap<Of, Sets>,
    /// On the subsample for random sets.
    random_sets: HashMap<Of, Sets>,
}

/// Traced heads.
struct Traces {
    /// Logit differences of the clean and the corrupted runs. `[n_pairs]`
    plain: [Vec<f64>; 2],
    /// Influences by head. `[n_pairs]`
    influences: HashMap<(u32, u32), Vec<f64>>,
}

/// Ablated sets.
pub struct Sets {
    /// Without ablation.
    pub base: Outcome,
    /// Outcomes by set.
    pub outcomes: HashMap<HeadSet, Outcome>,
}

impl Measured {
    /// An empty collection for parts computed on `device`.
    pub fn on(device: Option<String>) -> Self {
        Self { device, ..Self::default() }
    }

    /// Checks that missing results can be computed here.
    ///
    /// # Errors
    /// [`PartsError::Device`]
    pub fn check_device(&self, here: &Compute) -> Result<(), PartsError> {
        let here = here.kind();
        match &self.device {
            Some(plan) if *plan != here => Err(PartsError::Device { here, plan: plan.clone() }),
            _ => Ok(()),
        }
    }

    /// Adds a part's attention results.
    pub fn add_attention(&mut self, of: Of, attention: TaskAttention) {
        self.attention.insert(of, attention);
    }

    /// Adds the roles of a model's heads.
    pub fn add_roles(&mut self, model: String, roles: RolesFile) {
        self.roles.insert(model, roles);
    }

    /// Adds traced heads: `plain` are the clean and the corrupted runs.
    pub fn add_traces(
        &mut self,
        of: Of,
        plain: [Vec<f64>; 2],
        influences: impl IntoIterator<Item = ((u32, u32), Vec<f64>)>,
    ) {
        let traces = self.traces.entry(of).or_insert_with(|| Traces { plain, influences: HashMap::new() });
        traces.influences.extend(influences);
    }

    /// Adds ablated sets; `is_subsample` says on which prompts.
    pub fn add_sets(
        &mut self,
        (of, is_subsample): (Of, bool),
        base: Outcome,
        outcomes: impl IntoIterator<Item = (HeadSet, Outcome)>,
    ) {
        let sets = if is_subsample { &mut self.random_sets } else { &mut self.sets };
        let sets = sets.entry(of).or_insert_with(|| Sets { base, outcomes: HashMap::new() });
        sets.outcomes.extend(outcomes);
    }

    /// A model's attention on a task.
    pub fn attention(&self, model: &str, task: &str) -> Option<&TaskAttention> {
        self.attention.get(&(model.to_owned(), task.to_owned()))
    }

    /// The roles of a model's heads.
    pub fn roles(&self, model: &str) -> Option<&RolesFile> {
        self.roles.get(model)
    }

    /// The traces of these heads, if all of them are known.
    pub fn trace(&self, model: &str, pairs: &TracingPairs, heads: &[(u32, u32)]) -> Option<TaskTrace> {
        let traces = self.traces.get(&(model.to_owned(), pairs.task.clone()))?;
        let influence = |head| traces.influences.get(head).cloned();
        let [clean, corrupted] = traces.plain.clone();
        Some(TaskTrace {
            task: pairs.task.clone(),
            clean,
            corrupted,
            influences: heads.iter().map(influence).collect::<Option<_>>()?,
            weights: pairs.pairs.iter().map(|pair| pair.weight).collect(),
            n_left_out: pairs.left_out.len(),
        })
    }

    /// The known results of a model's sets on the held-out prompts of a task, or on its subsample.
    pub fn sets(&self, model: &str, task: &str, is_subsample: bool) -> Option<&Sets> {
        let sets = if is_subsample { &self.random_sets } else { &self.sets };
        sets.get(&(model.to_owned(), task.to_owned()))
    }
}
