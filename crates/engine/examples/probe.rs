//! Loads a checkpoint folder and prints, as JSON, how long that took, the memory it peaked at, and logits of the plain
//! run and with the `z` of single heads zeroed. `tools/real_shapes` compares them with Hugging Face Transformers.
//!
//! ```text
//! probe FOLDER REQUEST.json
//! {"prompts": [[2, 5, 9]], "read": [0, 17], "heads": [[0, 3]]}
//! ```

use std::time::Instant;

use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement};
use cs_engine::{Options, Prompt, Readings};
use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::ModelConfig;
use cs_model::error::LoadError;
use cs_model::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Request {
    /// Token ids.
    prompts: Vec<Vec<u32>>,
    /// Tokens whose logits are printed.
    read: Vec<u32>,
    /// Layers and heads to zero, one at a time.
    #[serde(default)]
    heads: Vec<(usize, usize)>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, request] = arguments.as_slice() else {
        return Err("usage: probe FOLDER REQUEST.json".into());
    };
    let request: Request = serde_json::from_slice(&std::fs::read(request)?)?;

    let files = ModelFiles::folder(folder)?;
    let started = Instant::now();
    let config = ModelConfig::open(&files)?;
    let checkpoint = Checkpoint::open(&files, &config)?;
    let decoder = Decoder::new(config.spec.clone(), cs_engine::load(&checkpoint)?);
    let load_seconds = started.elapsed().as_secs_f64();
    let load_peak_bytes = peak_bytes();
    // What a scan does in addition.
    let started = Instant::now();
    checkpoint.weight_hash();
    let hash_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let tokenizer_seconds = match Tokenizer::from_files(&files, &config) {
        Err(LoadError::MissingFile { .. }) => None,
        parsed => parsed.map(|_| Some(started.elapsed().as_secs_f64()))?,
    };

    let prompt = |tokens: &Vec<u32>| Prompt {
        tokens: tokens.clone(),
        source: None,
        group: 0,
        weight: 1.0,
        references: None,
        read: request.read.clone(),
    };
    let prompts: Vec<Prompt> = request.prompts.iter().map(prompt).collect();
    let started = Instant::now();
    let branches: Vec<Branch> =
        request.heads.iter().map(|&head| Branch::ablate([head], Replacement::Zero)).collect();
    let readings = Readings::collect(&decoder, &prompts, &branches, Options::default())?;
    let all_prompts = |logits: &dyn Fn(usize) -> Vec<f64>| (0..prompts.len()).map(logits).collect::<Vec<_>>();
    let output = json!({
        "load_seconds": load_seconds,
        "load_peak_bytes": load_peak_bytes,
        "hash_seconds": hash_seconds,
        "tokenizer_seconds": tokenizer_seconds,
        "weight_bytes": checkpoint.weight_bytes(),
        "n_params": checkpoint.n_params(),
        "dtypes": checkpoint.dtypes(),
        "plain": all_prompts(&|p| readings.plain(p).to_vec()),
        "zeroed": (0..branches.len())
            .map(|b| all_prompts(&|p| readings.branch(b, p).to_vec()))
            .collect::<Vec<_>>(),
        "run_seconds": started.elapsed().as_secs_f64(),
    });
    println!("{output}");
    Ok(())
}

/// The peak memory of this process, if the system reports it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
