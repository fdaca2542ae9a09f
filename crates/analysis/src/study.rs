//! From a joint table to every table of the study: the one path that both a full run and `analyze` take.

use crate::categories::{self, Classified, DEFAULT_TAU, DEFAULT_TOP_K, HeroHead, TAU_SWEEP};
use crate::error::Result;
use crate::joint::JointTable;
use crate::layout::Layout;
use crate::table::Table;

/// The choices that tables depend on, beside the joint table.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyOptions {
    /// Threshold of the categories, in logits.
    pub tau: f64,
    /// Hero heads per family, model and category.
    pub top_k: usize,
    /// Thresholds of the sweep.
    pub tau_sweep: Vec<f64>,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self { tau: DEFAULT_TAU, top_k: DEFAULT_TOP_K, tau_sweep: TAU_SWEEP.to_vec() }
    }
}

/// A joint table and everything that follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// Every head's effect on both tasks.
    pub joint: JointTable,
    /// Every head's category at [`StudyOptions::tau`].
    pub classified: Classified,
    /// The strongest heads of each model and category.
    pub heroes: Vec<HeroHead>,
    /// All tables, in the order in which they are made.
    pub tables: Vec<Table>,
}

/// Makes every table that needs no model.
///
/// # Errors
/// When an option makes no sense.
pub fn analyse(joint: JointTable, options: &StudyOptions) -> Result<Study> {
    let classified = categories::classify(&joint, options.tau)?;
    let heroes = classified.heroes(options.top_k);
    let tables = vec![
        joint.to_table(),
        classified.heads_table(),
        classified.summary_table(),
        categories::heroes_table(&heroes),
        categories::tau_sweep(&joint, &options.tau_sweep)?,
    ];
    Ok(Study { joint, classified, heroes, tables })
}

impl Study {
    /// Writes every table as CSV into `paper/tables`.
    ///
    /// # Errors
    /// [`crate::AnalysisError::Io`] when one cannot be written.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        self.tables.iter().try_for_each(|table| table.write_csv(&layout.tables()))
    }

    /// The table of this name (the stem of its file).
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.name == name)
    }
}
