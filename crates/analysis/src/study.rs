//! From a joint table to every table of the study: the one path that both a full run and `analyze` take.
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
use crate::error::{AnalysisError, Result};
use crate::files::write_bytes;
use crate::joint::{self, JointTable};
use crate::layout::Layout;
use crate::model_measures::{self, ModelCorrelations, ModelMeasures};
use crate::parquet_file::{STUDY_PARQUET, write_parquet};
use crate::scaling::{self, ScalingLaw};
use crate::table::Table;
use crate::transfer::{self, PairTransfer, Pairs};
use crate::winners_curse::{WinnersCurse, winners_curse, winners_curse_table};

/// The choices that tables depend on, beside the joint table.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyOptions {
    /// Threshold of the categories, in logits.
    pub tau: f64,
    /// Hero heads per family, model and category.
    pub top_k: usize,
    /// Thresholds of the sweep.
    pub tau_sweep: Vec<f64>,
    /// Which models to follow heads between.
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

/// A joint table and everything that follows from it without a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// The choices made.
    pub options: StudyOptions,
    /// Every head's effect on both tasks.
    pub joint: JointTable,
    /// Every head's category at [`StudyOptions::tau`].
    pub classified: Classified,
    /// The strongest heads of each model and category.
    pub heroes: Vec<HeroHead>,
    /// The correlation between the tasks in each model.
    pub correlations: Vec<ModelCorrelations>,
    /// What scaling laws are fitted to.
    pub measures: Vec<ModelMeasures>,
    /// Every measure against size.
    pub scaling_laws: Vec<ScalingLaw>,
    /// Heads followed from model to model.
    pub transfers: Vec<PairTransfer>,
    /// What held-out prompts leave of the strongest effects.
    pub winners_curse: Vec<WinnersCurse>,
    /// What the joint table is worth.
    pub audits: Vec<ModelAudit>,
    /// All tables, in the order in which they are made.
    pub tables: Vec<Table>,
}

/// Makes every table that needs no model.
///
/// # Errors
/// When an option makes no sense for this table.
pub fn analyse(joint: JointTable, options: &StudyOptions) -> Result<Study> {
    let audits = audit::audit(&joint, options.tau);
    analyse_audited(joint, audits, options)
}

/// Reads a joint table of at most `max_rows` rows and makes every table that needs no model.
///
/// # Errors
/// When the table cannot be read ([`joint::import`]), holds a head twice, or an option makes no sense for it.
pub fn analyse_csv(path: &Path, max_rows: usize, options: &StudyOptions) -> Result<Study> {
    let import = joint::import(path, max_rows)?;
    let audits = audit::audit_import(&import, options.tau);
    analyse_audited(import.into_table(path)?, audits, options)
}

fn analyse_audited(joint: JointTable, audits: Vec<ModelAudit>, options: &StudyOptions) -> Result<Study> {
    if options.top_k == 0 {
        return Err(AnalysisError::Option {
            option: "--top-k",
            problem: "0 heroes are none; use at least 1".into(),
        });
    }
    let classified = categories::classify(&joint, options.tau)?;
    let heroes = classified.heroes(&joint, options.top_k);
    let correlations = model_measures::correlations(&joint);
    let measures = model_measures::measures(&joint, &classified, &correlations);
    let scaling_laws = scaling::scaling_laws(&measures);
    let transfers = transfer::transfers(&joint, &classified, &options.pairs)?;
    let winners_curse = winners_curse(&joint);
    let mut tables = vec![
        joint.to_table(),
        classified.heads_table(),
        classified.summary_table(),
        categories::heroes_table(&heroes),
        categories::tau_sweep(&joint, &options.tau_sweep)?,
        model_measures::correlation_table(&correlations),
        model_measures::measures_table(&measures),
        scaling::scaling_table(&scaling_laws),
    ];
    tables.extend(transfer::tables(&joint, &transfers));
    tables.push(winners_curse_table(&winners_curse));
    tables.push(audit::audit_table(&audits));
    Ok(Study {
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

impl Study {
    /// Writes every table into `paper/tables`: one CSV each, all of them as `study.parquet`, and `provenance.json`.
    /// Returns the paths.
    ///
    /// # Errors
    /// [`AnalysisError::Io`] when one cannot be written.
    pub fn write(&self, layout: &Layout) -> Result<Vec<PathBuf>> {
        let folder = layout.tables();
        self.tables.iter().try_for_each(|table| table.write_csv(&folder))?;
        let mut paths: Vec<PathBuf> = self.tables.iter().map(|table| layout.table(&table.name)).collect();
        let (parquet, provenance) = (folder.join(STUDY_PARQUET), folder.join("provenance.json"));
        write_parquet(&parquet, &self.tables)?;
        write_bytes(&provenance, self.provenance().as_bytes())?;
        paths.extend([parquet, provenance]);
        Ok(paths)
    }

    /// The table of this name (the stem of its file).
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.name == name)
    }

    /// What it takes to make the tables again: program version, options, and each model's origin.
    fn provenance(&self) -> String {
        let StudyOptions { tau, top_k, tau_sweep, pairs } = &self.options;
        let pairs = match pairs {
            Pairs::Neighbours => serde_json::json!("neighbours"),
            Pairs::All => serde_json::json!("all"),
            Pairs::Named(names) => names.iter().map(|(a, b)| format!("{a}:{b}")).collect(),
        };
        let model = |m: &joint::ModelHeads| {
            let info = &m.info;
            serde_json::json!({
                "family": info.family, "model": info.model, "hf_name": info.hf_name, "weight_hash": info.weight_hash,
                "protocol": info.protocol, "seed": info.seed, "ablation": info.ablation, "value_bias": info.value_bias,
                "reference": info.reference,
                "measured_by_version": info.program_version,
            })
        };
        let provenance = serde_json::json!({
            "program_version": env!("CARGO_PKG_VERSION"),
            "options": { "tau": tau, "top_k": top_k, "tau_sweep": tau_sweep, "pairs": pairs },
            "models": self.joint.models.iter().map(model).collect::<Vec<_>>(),
        });
        format!("{provenance:#}\n")
    }
}
