//! The 17 published models the study was designed around: nominal sizes, shapes, and the order of tables.

/// One published checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KnownModel {
    /// Family: `gpt2`, `pythia`, `opt` or `gpt-neo`.
    pub family: &'static str,
    /// Short name, as on the command line and in tables.
    pub name: &'static str,
    /// The Hugging Face id of the short name.
    pub hf_name: &'static str,
    /// Nominal size in millions of parameters.
    pub params_m: f64,
    /// Number of blocks.
    pub n_layers: u32,
    /// Attention heads per block.
    pub n_heads: u32,
}

const fn known(
    family: &'static str,
    name: &'static str,
    hf_name: &'static str,
    params_m: f64,
    n_layers: u32,
    n_heads: u32,
) -> KnownModel {
    KnownModel { family, name, hf_name, params_m, n_layers, n_heads }
}

/// All known models in the order in which tables list them.
pub const KNOWN_MODELS: [KnownModel; 17] = [
    known("gpt2", "gpt2", "openai-community/gpt2", 124.0, 12, 12),
    known("gpt2", "gpt2-medium", "openai-community/gpt2-medium", 355.0, 24, 16),
    known("gpt2", "gpt2-large", "openai-community/gpt2-large", 774.0, 36, 20),
    known("gpt2", "gpt2-xl", "openai-community/gpt2-xl", 1558.0, 48, 25),
    known("pythia", "pythia-70m", "EleutherAI/pythia-70m-deduped", 70.0, 6, 8),
    known("pythia", "pythia-160m", "EleutherAI/pythia-160m-deduped", 160.0, 12, 12),
    known("pythia", "pythia-410m", "EleutherAI/pythia-410m-deduped", 410.0, 24, 16),
    known("pythia", "pythia-1b", "EleutherAI/pythia-1b-deduped", 1000.0, 16, 8),
    known("pythia", "pythia-1.4b", "EleutherAI/pythia-1.4b-deduped", 1400.0, 24, 16),
    known("pythia", "pythia-2.8b", "EleutherAI/pythia-2.8b-deduped", 2800.0, 32, 32),
    known("opt", "opt-125m", "facebook/opt-125m", 125.0, 12, 12),
    known("opt", "opt-350m", "facebook/opt-350m", 350.0, 24, 16),
    known("opt", "opt-1.3b", "facebook/opt-1.3b", 1300.0, 24, 32),
    known("opt", "opt-2.7b", "facebook/opt-2.7b", 2700.0, 32, 32),
    known("gpt-neo", "gpt-neo-125m", "EleutherAI/gpt-neo-125m", 125.0, 12, 12),
    known("gpt-neo", "gpt-neo-1.3b", "EleutherAI/gpt-neo-1.3B", 1300.0, 24, 16),
    known("gpt-neo", "gpt-neo-2.7b", "EleutherAI/gpt-neo-2.7B", 2700.0, 32, 20),
];

/// The known model with this short name or Hugging Face id, ignoring case and any `@` revision.
#[must_use]
pub fn find(name: &str) -> Option<&'static KnownModel> {
    let (bare, _) = split_revision(name);
    KNOWN_MODELS.iter().find(|m| m.name.eq_ignore_ascii_case(bare) || m.hf_name.eq_ignore_ascii_case(bare))
}

/// A model's name without its revision, and the revision: `pythia-70m@step1000` is `pythia-70m` at `step1000`.
#[must_use]
pub fn split_revision(name: &str) -> (&str, Option<&str>) {
    name.split_once('@').map_or((name, None), |(bare, revision)| (bare, Some(revision)))
}

/// A family's rank in tables: the four known ones first, in the study's order, then the others.
#[must_use]
pub fn family_rank(family: &str) -> usize {
    ["gpt2", "pythia", "opt", "gpt-neo"].iter().position(|f| *f == family).unwrap_or(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_counts_are_those_of_the_study() {
        let heads: Vec<u32> = KNOWN_MODELS.iter().map(|m| m.n_layers * m.n_heads).collect();
        let study = [144, 384, 720, 1200, 48, 144, 384, 128, 384, 1024, 144, 384, 768, 1024, 144, 384, 640];
        assert_eq!(heads, study);
    }

    #[test]
    fn names_match_whatever_their_case() {
        assert_eq!(find("GPT-Neo-1.3B").unwrap().params_m, 1300.0);
        assert_eq!(find("eleutherai/pythia-70m-deduped").unwrap().name, "pythia-70m");
        assert!(find("gpt2-tiny").is_none());
        assert_eq!(find("pythia-70m@step1000").unwrap().name, "pythia-70m");
    }
}
