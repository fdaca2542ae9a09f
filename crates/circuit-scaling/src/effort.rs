//! The effort of a study: numbers of prompts, random sets and resamples, set together or individually.

use clap::{Args, ValueEnum};
use cs_analysis::ablation::{DEFAULT_RANDOM_PROMPTS, DEFAULT_RANDOM_SETS};
use cs_analysis::scan_file::Resampling;
use cs_analysis::scan_summary::SummaryOptions;
use cs_circuits::prompts::Protocol;

/// Presets for prompts, random sets and resamples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Effort {
    /// For a first look
    Quick,
    /// For a result
    #[default]
    Standard,
    /// For a paper
    Thorough,
}

impl Effort {
    /// Name on the command line and in `study.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Thorough => "thorough",
        }
    }

    /// One of three values, in order of effort.
    fn pick<T>(self, [quick, standard, thorough]: [T; 3]) -> T {
        match self {
            Self::Quick => quick,
            Self::Standard => standard,
            Self::Thorough => thorough,
        }
    }
}

/// The options of everything that resamples.
#[derive(Debug, Args, Clone)]
pub struct EffortArgs {
    /// Prompts, random sets and resamples together: 160, 100 and 2,000 (quick), 480, 200 and 10,000 (standard), or 960, 1,000
    /// and 20,000 (thorough); each can be set individually
    #[arg(long, value_enum, default_value_t)]
    pub effort: Effort,
    /// Bootstrap resamples and sign flips of the prompts
    #[arg(long, value_name = "N", value_parser = resamples)]
    pub resamples: Option<u32>,
}

impl EffortArgs {
    /// Prompts per task, if set by the effort: the published protocol has its own number.
    pub fn prompts(&self, protocol: Protocol) -> Option<usize> {
        let prompts = self.effort.pick([Some(160), None, Some(960)]);
        prompts.filter(|_| protocol == Protocol::Standard)
    }

    /// Bootstrap resamples and sign flips.
    pub fn resampling(&self) -> Resampling {
        let standard = SummaryOptions::default().resampling;
        let n = self.resamples.unwrap_or(self.effort.pick([2_000, standard.n_resamples, 20_000]));
        Resampling { n_resamples: n, n_permutations: n, ..standard }
    }
}

/// The options of random sets.
#[derive(Debug, Args, Clone)]
pub struct SetArgs {
    /// Maximum number of random sets of each kind and size for comparison with hero sets
    #[arg(long, value_name = "N", value_parser = random_sets)]
    pub random_sets: Option<usize>,
    /// Maximum number of held-out prompts per task on which random sets are run
    #[arg(long, value_name = "N", value_parser = random_prompts)]
    pub random_prompts: Option<u32>,
}

impl SetArgs {
    /// Maximum number of random sets of each kind and size.
    pub fn random_sets(&self, effort: Effort) -> usize {
        self.random_sets.unwrap_or(effort.pick([100, DEFAULT_RANDOM_SETS, 1_000]))
    }

    /// Maximum number of prompts on which random sets are run.
    pub fn random_prompts(&self, effort: Effort) -> usize {
        let standard = DEFAULT_RANDOM_PROMPTS;
        self.random_prompts.map_or(effort.pick([standard, standard, 2 * standard]), |n| n as usize)
    }
}

/// A number of resamples.
pub fn resamples(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|n| (100..=10_000_000).contains(n))
        .ok_or_else(|| "give a whole number from 100 to 10000000".into())
}

/// A number of prompts for random sets.
pub fn random_prompts(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|&n| n >= 2).ok_or_else(|| "give a whole number of at least 2".into())
}

/// A number of random sets.
pub fn random_sets(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (2..=100_000).contains(n))
        .ok_or_else(|| "give a whole number from 2 to 100000; at least 200 for a claim".into())
}
