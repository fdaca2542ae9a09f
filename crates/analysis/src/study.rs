//! Makes every table of the study from scans or from a joint table: the same path for a full run and `analyze`.
//!
//! ```no_run
//! use std::path::{Path, PathBuf};
//! use cs_analysis::joint::MAX_ROWS;
//! use cs_analysis::layout::Layout;
//! use cs_analysis::study::{StudyOptions, analyse_csv};
//!
//! let study = analyse_csv(Path::new("joint.csv"), MAX_ROWS, &StudyOptions::default())?;
//! study.write(&Layout::new("my-study"))?;
//! # Ok::<(), cs_analysis::AnalysisError>(())
//! ```

use std::path::{Path, PathBuf};

use crate::audit::{self, ModelAudit};
use crate::categories::{self, Classified, DEFAULT_TAU, DEFAULT_TOP_K, HeroHead, TAU_SWEEP};
use crate::contrast::Contrast;
use crate::effects::HeadEffects;
use crate::error::{AnalysisError, Result};
use crate::files::write_bytes;
use crate::joint::{self, JointTable, ModelInfo};
use crate::layout::Layout;
use crate::model_measures::{self, ModelCorrelations, ModelMeasures};
use crate::overlap::{Overlap, overlap_table};
use crate::scaling::{self, ScalingLaw};
use crate::self_repair::{ModelRepair, self_repair_table};
use crate::study_scans::StudyScans;
use crate::table::{Table, write_all};
use crate::task_measures::{TaskMeasures, task_measures, task_measures_table};
use crate::transfer::{self, PairTransfer, Pairs};
use crate::winners_curse::{WinnersCurse, winners_curse, winners_curse_table};

/// The options that tables depend on, in addition to the joint table.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyOptions {
    /// Threshold of the categories, in logits.
    pub tau: f64,
    /// Hero heads per family, model and category.
    pub top_k: usize,
    /// Thresholds of the sweep.
    pub tau_sweep: Vec<f64>,
    /// Pairs of models for transfer.
    pub pairs: Pairs,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self {
            tau: DEFAULT_TAU,
            top_k: DEFAULT_TOP_K,
            tau_sweep: TAU_SWEEP.to_vec(),
            pairs: Pairs::Neighbours,
        }
    }
}

/// The joint table of a contrast and everything computed from it without a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ContrastStudy {
    /// The options.
    pub options: StudyOptions,
    /// Every head's effect on both tasks.
    pub joint: JointTable,
    /// Every head's category at [`StudyOptions::tau`].
    pub classified: Classified,
    /// The strongest heads of each model and category.
    pub heroes: Vec<HeroHead>,
    /// The correlation between the tasks in each model.
    pub correlations: Vec<ModelCorrelations>,
    /// The measures to which scaling laws are fitted.
    pub measures: Vec<ModelMeasures>,
    /// Every measure as a function of size.
    pub scaling_laws: Vec<ScalingLaw>,
    /// Transfer of heads between models.
    pub transfers: Vec<PairTransfer>,
    /// How much of the strongest effects remains on held-out prompts.
    pub winners_curse: Vec<WinnersCurse>,
    /// Audits of the joint table.
    pub audits: Vec<ModelAudit>,
    /// The contrast's tables, in the order in which they are made.
    pub tables: Vec<Table>,
}

impl ContrastStudy {
    /// Makes every table of a contrast that needs no model.
    ///
    /// # Errors
    /// If an option is invalid for this table.
    pub fn new(joint: JointTable, options: &StudyOptions) -> Result<Self> {
        let audits = audit::audit(&joint, options.tau);
        Self::audited(joint, audits, options)
    }

    fn audited(joint: JointTable, audits: Vec<ModelAudit>, options: &StudyOptions) -> Result<Self> {
        options.check()?;
        let contrast = joint.contrast.clone();
        let classified = categories::classify(&joint, options.tau)?;
        let heroes = classified.heroes(&joint, options.top_k);
        let correlations = model_measures::correlations(&joint);
        let measures = model_measures::measures(&joint, &classified, &correlations);
        let scaling_laws = scaling::scaling_laws(&contrast, &measures);
        let transfers = transfer::transfers(&joint, &classified, &options.pairs)?;
        let winners_curse = winners_curse(&joint);
        let mut tables = vec![
            joint.to_table(),
            classified.heads_table(),
            classified.summary_table(),
            categories::heroes_table(&contrast, &heroes),
            categories::tau_sweep(&joint, &options.tau_sweep)?,
            model_measures::correlation_table(&contrast, &correlations),
            model_measures::measures_table(&contrast, &measures),
            scaling::scaling_table(&contrast, &scaling_laws),
        ];
        tables.extend(transfer::tables(&joint, &transfers));
        tables.push(winners_curse_table(&contrast, &winners_curse));
        tables.push(audit::audit_table(&contrast, &audits));
        Ok(Self {
            options: options.clone(),
            joint,
            classified,
            heroes,
            correlations,
            measures,
            scaling_laws,
            transfers,
            winners_curse,
            audits,
            tables,
        })
    }

    /// The two tasks.
    #[must_use]
    pub fn contrast(&self) -> &Contrast {
        &self.joint.contrast
    }

    /// The contrast's table whose published counterpart is `name` (the stem of its file).
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        let name = self.contrast().table(name);
        self.tables.iter().find(|t| t.name == name)
    }
}

/// All tasks of a study, individually and in contrasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// The options.
    pub options: StudyOptions,
    /// Every effect of every head on every task.
    pub effects: HeadEffects,
    /// How well each task is done, and how concentrated it is in few heads.
    pub task_measures: Vec<TaskMeasures>,
    /// Pairs of tasks whose heads are compared; none for one task.
    pub contrasts: Vec<ContrastStudy>,
    /// Every pair of tasks, model by model, if there are more than two tasks.
    pub overlaps: Vec<Overlap>,
    /// Self-repair, if it was measured.
    pub repairs: Vec<ModelRepair>,
    /// All tables, in the order in which they are made.
    pub tables: Vec<Table>,
}

impl Study {
    /// Makes every table that needs no model, from a study's scans: of all tasks, and of these contrasts of them.
    ///
    /// # Errors
    /// If scans that belong together are inconsistent, or an option is invalid for them.
    pub fn new(scans: &StudyScans, contrasts: &[Contrast], options: &StudyOptions) -> Result<Self> {
        options.check()?;
        let contrast = |c: &Contrast| ContrastStudy::new(scans.joint(c, options.tau)?, options);
        let contrasts = contrasts.iter().map(contrast).collect::<Result<_>>()?;
        let (overlaps, repairs) = (scans.overlaps(options.tau)?, scans.repairs(options.tau));
        Ok(Self::assemble(scans.effects()?, contrasts, (overlaps, repairs), options))
    }

    /// The study of one contrast, given only its joint table.
    #[must_use]
    pub fn of_contrast(contrast: ContrastStudy) -> Self {
        let options = contrast.options.clone();
        Self::assemble(HeadEffects::from_joint(&contrast.joint), vec![contrast], Default::default(), &options)
    }

    fn assemble(
        effects: HeadEffects,
        contrasts: Vec<ContrastStudy>,
        (overlaps, repairs): (Vec<Overlap>, Vec<ModelRepair>),
        options: &StudyOptions,
    ) -> Self {
        let task_measures = task_measures(&effects, options.tau);
        let mut tables = vec![effects.to_table(), task_measures_table(&effects, &task_measures, options.tau)];
        if !overlaps.is_empty() {
            tables.push(overlap_table(&overlaps, options.tau));
        }
        if !repairs.is_empty() {
            tables.push(self_repair_table(&repairs, options.tau));
        }
        tables.extend(contrasts.iter().flat_map(|c| c.tables.clone()));
        Self { options: options.clone(), effects, task_measures, contrasts, overlaps, repairs, tables }
    }

    /// Names of all models, in the study's order.
    pub fn models(&self) -> impl Iterator<Item = &ModelInfo> {
        self.effects.models.iter().map(|m| &m.info)
    }

    /// Writes every table into `paper/tables`, as CSV and as Parquet ([`Table::write`]), and `provenance.json`. Returns the paths.
    ///
    /// # Errors
    /// [`AnalysisError::Io`] when one cannot be written.
    pub fn write(&self, layout: &Layout) -> Result<Vec<PathBuf>> {
        let folder = layout.tables();
        let mut paths = write_all(&self.tables, &folder)?;
        let provenance = folder.join("provenance.json");
        write_bytes(&provenance, self.provenance().as_bytes())?;
        paths.push(provenance);
        Ok(paths)
    }

    /// The table of this name (the stem of its file).
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.name == name)
    }

    /// What is needed to reproduce the tables: program version, options, and each model's origin.
    fn provenance(&self) -> String {
        let StudyOptions { tau, top_k, tau_sweep, pairs } = &self.options;
        let pairs = match pairs {
            Pairs::Neighbours => serde_json::json!("neighbours"),
            Pairs::All => serde_json::json!("all"),
            Pairs::Named(names) => names.iter().map(|(a, b)| format!("{a}:{b}")).collect(),
        };
        let mut options =
            serde_json::json!({ "tau": tau, "top_k": top_k, "tau_sweep": tau_sweep, "pairs": pairs });
        let contrasts: Vec<String> = self.contrasts.iter().map(|c| c.contrast().to_string()).collect();
        // A study of only the published pair keeps the fields of the published layout.
        if contrasts != [Contrast::published().to_string()] || self.effects.tasks.len() > 2 {
            options["tasks"] = serde_json::json!(self.effects.tasks);
            options["contrasts"] = serde_json::json!(contrasts);
        }
        let model = |info: &ModelInfo| {
            serde_json::json!({
                "family": info.family, "model": info.model, "hf_name": info.hf_name, "weight_hash": info.weight_hash,
                "protocol": info.protocol, "seed": info.seed, "ablation": info.ablation, "value_bias": info.value_bias,
                "reference": info.reference,
                "measured_by_version": info.program_version,
            })
        };
        let provenance = serde_json::json!({
            "program_version": env!("CARGO_PKG_VERSION"),
            "options": options,
            "models": self.models().map(model).collect::<Vec<_>>(),
        });
        format!("{provenance:#}\n")
    }
}

impl StudyOptions {
    fn check(&self) -> Result<()> {
        if self.top_k == 0 {
            return Err(AnalysisError::Option { option: "--top-k", problem: "must be at least 1".into() });
        }
        Ok(())
    }
}

/// Reads a joint table of at most `max_rows` rows and makes every table that needs no model.
///
/// # Errors
/// If the table cannot be read ([`joint::import`]), has a head twice, or an option is invalid for it.
pub fn analyse_csv(path: &Path, max_rows: usize, options: &StudyOptions) -> Result<Study> {
    let import = joint::import(path, max_rows)?;
    let audits = audit::audit_import(&import, options.tau);
    Ok(Study::of_contrast(ContrastStudy::audited(import.into_table(path)?, audits, options)?))
}
