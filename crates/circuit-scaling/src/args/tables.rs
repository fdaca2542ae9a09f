//! Options for a study's folder, and for the tables and figures made from it.

use std::path::PathBuf;

use clap::Args;
use cs_analysis::AnalysisError;
use cs_analysis::study::StudyOptions;
use cs_analysis::transfer::Pairs;

use super::DEFAULT_OUT;
use super::parsers::{at_least_one, figure_width, named_color, threshold};

/// The folder of a study.
#[derive(Debug, Args, Clone)]
pub struct StudyArgs {
    /// Folder of the study
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    pub out: PathBuf,
}

/// Which tasks of a study are compared with each other.
#[derive(Debug, Args, Clone, Default)]
pub struct ContrastArgs {
    /// Pairs of tasks to compare, separated by commas; by default ioi:anti-repeat if the study has both, else every pair of up
    /// to four tasks
    #[arg(long, value_name = "A:B", value_delimiter = ',')]
    pub contrast: Vec<String>,
}

/// Options of the tables that need no model.
#[derive(Debug, Args, Clone)]
pub struct TableArgs {
    /// The study's folder
    #[command(flatten)]
    pub study: StudyArgs,
    /// Tasks to compare
    #[command(flatten)]
    pub contrasts: ContrastArgs,
    /// Threshold of the categories, in logits: a head counts for a task if |Δ| is at least this
    #[arg(long, default_value_t = cs_analysis::categories::DEFAULT_TAU, value_parser = threshold, allow_negative_numbers = true)]
    pub tau: f64,
    /// Hero heads per model and category
    #[arg(long, value_name = "K", value_parser = at_least_one, default_value_t = cs_analysis::categories::DEFAULT_TOP_K)]
    pub top_k: usize,
    /// Models for transfer: `all`, or BASE:TARGET pairs separated by commas; by default each model with the next size of
    /// its family, and each pair of families at their nearest sizes
    #[arg(long, value_name = "PAIRS", value_delimiter = ',')]
    pub pairs: Vec<String>,
}

impl TableArgs {
    /// The options that tables depend on.
    ///
    /// # Errors
    /// `--pairs` that are not `all` or `BASE:TARGET`.
    pub fn options(&self) -> Result<StudyOptions, AnalysisError> {
        let pairs = Pairs::parse(&self.pairs)?;
        Ok(StudyOptions { tau: self.tau, top_k: self.top_k, pairs, ..StudyOptions::default() })
    }
}

/// Options of `analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// A joint table: family,model,layer,head,delta_ioi,delta_anti (or delta_ of two other tasks) and any further columns, rows in
    /// any order
    #[arg(value_name = "JOINT.csv")]
    pub joint: PathBuf,
    /// The folder for the tables, and how they are made
    #[command(flatten)]
    pub tables: TableArgs,
    /// Reject a table with more rows
    #[arg(long, value_name = "N", default_value_t = cs_analysis::joint::MAX_ROWS)]
    pub max_rows: usize,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A joint table, or the folder of a study or of `analyze`
    pub a: PathBuf,
    /// Another one for the same models
    pub b: PathBuf,
    /// Tasks to compare the studies on
    #[command(flatten)]
    pub contrasts: ContrastArgs,
    /// Threshold of the categories, in logits
    #[arg(long, default_value_t = cs_analysis::categories::DEFAULT_TAU, value_parser = threshold, allow_negative_numbers = true)]
    pub tau: f64,
    /// Folder for the tables
    #[arg(long, value_name = "DIR", default_value = "circuit-scaling-comparison")]
    pub out: PathBuf,
}

/// Options of `plot`. With a width, a title, colours or no caption, figures are written to `paper/figs/styled`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// The study's folder, and how its heads are classified
    #[command(flatten)]
    pub tables: TableArgs,
    /// Also write each figure as PDF, for LaTeX
    #[arg(long)]
    pub pdf: bool,
    /// Draw only these figures, named as in paper/figs without .png, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Width of a figure, such as 85mm, 17cm or 3.3in; figures in a custom style go to paper/figs/styled
    #[arg(long, value_name = "WIDTH", default_value = "85mm", value_parser = figure_width)]
    pub width: f64,
    /// Title that replaces the figure's own, for a single figure; "" for none
    #[arg(long, value_name = "TEXT", requires = "only")]
    pub title: Option<String>,
    /// Omit the caption, for a document that has its own
    #[arg(long)]
    pub no_caption: bool,
    /// Colours of categories, tasks and families, separated by commas: ioi_only=#0072b2,shared=#888888,gpt2=#000000
    #[arg(long, visible_alias = "colors", value_name = "NAME=#RRGGBB", value_delimiter = ',', value_parser = named_color)]
    pub colours: Vec<(String, [u8; 3])>,
}
