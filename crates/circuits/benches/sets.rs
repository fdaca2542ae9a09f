//! The cost of ablating many sets of heads: random sets of 1, 2, 4, 8, … heads up to an eighth of them, on both tasks' held-out
//! prompts, compared with the time of the same operations in bare matrix products of the model's widths.
//!
//!     cargo bench --workspace --bench sets [-- FOLDER] [--sets 200] [--prompts 480] [--turns 1]
//!
//! FOLDER is a checkpoint with a tokenizer, by default the largest of `models/`. `--sets` is the number of sets of each
//! size, of which duplicates are run once; operations are those of `cs_engine::cost`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use cs_analysis::ablation::{HeadSet, set_sizes};
use cs_circuits::ablate::{self, ablate_sets};
use cs_circuits::prompts::{PromptOptions, PromptSet, Split, Token, Tokenize, TokenizeError};
use cs_circuits::scan::ScanOptions;
use cs_circuits::task::Task;
use cs_engine::Rates;
use cs_engine::decoder::Decoder;
use cs_model::ModelFiles;
use cs_model::ModelInfo;
use cs_model::spec::ModelSpec;
use cs_model::tokenizer::Tokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

struct Words(Tokenizer);

impl Tokenize for Words {
    fn model(&self) -> &str {
        "model"
    }

    fn hash(&self) -> &str {
        self.0.hash()
    }

    fn bos_id(&self) -> Option<u32> {
        self.0.bos_id()
    }

    fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizeError> {
        Ok(self.0.encode_with_spans(text)?)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError> {
        Ok(self.0.decode(ids)?)
    }
}

/// `n` random sets of each size, without duplicates.
fn random_sets(spec: &ModelSpec, n: usize) -> Vec<HeadSet> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let n_heads_total = spec.n_heads_total();
    let mut sets = BTreeSet::new();
    for size in set_sizes(n_heads_total) {
        for _ in 0..n {
            let mut set = BTreeSet::new();
            while set.len() < size {
                let head = (rng.next_u64() % n_heads_total as u64) as usize;
                set.insert(((head / spec.n_heads) as u32, (head % spec.n_heads) as u32));
            }
            sets.insert(set.into_iter().collect::<HeadSet>());
        }
    }
    sets.into_iter().collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let value = |name: &str, default: usize| {
        let at = args.iter().position(|a| a == name);
        at.and_then(|i| args.get(i + 1)?.parse().ok()).unwrap_or(default)
    };
    let largest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/mini-opt-l");
    let folder = args.first().filter(|a| !a.starts_with("--")).map_or(largest, String::as_str);
    let files = ModelFiles::folder(Path::new(folder)).expect("a checkpoint");
    let mut info = ModelInfo::open(&files).expect("a checkpoint");
    let words = Words(info.tokenizer.take().expect("a tokenizer next to the checkpoint"));
    let spec = &info.config.spec;
    let decoder = Decoder::new(spec.clone(), cs_engine::load(&info.checkpoint).expect("weights"));
    let sets = random_sets(spec, value("--sets", 200));
    let options = PromptOptions { n_prompts: Some(value("--prompts", 480)), ..PromptOptions::default() };
    let go_on = &mut |_| ControlFlow::Continue(());
    for turn in 0..value("--turns", 1) {
        let (mut seconds, mut operations, mut floor) = (0.0, 0.0, 0.0);
        for task in Task::built_in() {
            let task = Task::load(task).expect("a built-in task");
            let prompts = PromptSet::resolve(&task, &options, &[&words]).expect("prompts");
            let prompts = prompts.tokenize(&words).expect("prompts of this tokenizer");
            let cost = ablate::cost(spec, &prompts, (Split::HeldOut, None), &sets, ScanOptions::default());
            let cost = cost.expect("a run that can be made");
            let before = Rates::measure(spec, Duration::from_secs(1));
            let start = Instant::now();
            let outcomes =
                ablate_sets(&decoder, &prompts, (Split::HeldOut, None), &sets, ScanOptions::default(), go_on);
            seconds += start.elapsed().as_secs_f64();
            std::hint::black_box(outcomes.expect("a run that can be made"));
            let after = Rates::measure(spec, Duration::from_secs(1));
            operations += cost.dense + cost.attention;
            floor += cost.dense / before.dense.max(after.dense);
        }
        println!(
            "{}, turn {turn}: {} sets on both tasks in {seconds:.1} s, {:.2} TFLOP, floor {floor:.1} s, share {:.0}%",
            info.name,
            sets.len(),
            operations / 1e12,
            100.0 * floor / seconds
        );
    }
}
