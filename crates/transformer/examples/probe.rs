//! Loads a checkpoint folder and prints, as JSON, how long that took, the memory it peaked at, and logits of the plain
//! run and of single ablated heads. `tools/real_shapes` compares them with Hugging Face Transformers.
//!
//! ```text
//! probe FOLDER REQUEST.json
//! {"prompts": [[2, 5, 9]], "read": [0, 17], "heads": [[0, 3]], "ablated_prompts": 1}
//! ```

use std::time::Instant;

use serde::Deserialize;
use serde_json::json;
use transformer::checkpoint::ModelFiles;
use transformer::engine::{Options, Prompt, Readings};
use transformer::intervention::{Branch, Replacement};
use transformer::model::ModelInfo;

#[derive(Deserialize)]
struct Request {
    /// Token ids.
    prompts: Vec<Vec<u32>>,
    /// Tokens whose logits are printed.
    read: Vec<u32>,
    /// Layer and head.
    heads: Vec<(usize, usize)>,
    /// How many of the prompts, from the first on, are run with each head ablated.
    ablated_prompts: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, request] = arguments.as_slice() else {
        return Err("usage: probe FOLDER REQUEST.json".into());
    };
    let request: Request = serde_json::from_slice(&std::fs::read(request)?)?;

    let started = Instant::now();
    let info = ModelInfo::open(&ModelFiles::folder(folder)?)?;
    let (dtypes, weight_bytes) = (info.checkpoint.dtypes(), info.checkpoint.weight_bytes());
    let model = info.load()?;
    let load_seconds = started.elapsed().as_secs_f64();
    let load_peak_bytes = peak_bytes();

    let prompt = |tokens: &Vec<u32>| Prompt {
        tokens: tokens.clone(),
        source: None,
        group: 0,
        weight: 1.0,
        read: request.read.clone(),
    };
    let prompts: Vec<Prompt> = request.prompts.iter().map(prompt).collect();
    let started = Instant::now();
    let plain = Readings::collect(model.decoder(), &prompts, &[], Options::default())?;
    let ablated = &prompts[..request.ablated_prompts.min(prompts.len())];
    let run = |replacement| {
        let branches: Vec<Branch> =
            request.heads.iter().map(|&head| Branch::ablate([head], replacement)).collect();
        let readings = Readings::collect(model.decoder(), ablated, &branches, Options::default())?;
        // [heads][prompts][read]
        let of_branch = |b| (0..ablated.len()).map(|p| readings.branch(b, p).to_vec()).collect::<Vec<_>>();
        Ok::<_, Box<dyn std::error::Error>>((0..branches.len()).map(of_branch).collect::<Vec<_>>())
    };
    let output = json!({
        "load_seconds": load_seconds,
        "load_peak_bytes": load_peak_bytes,
        "weight_bytes": weight_bytes,
        "n_params": model.n_params(),
        "dtypes": dtypes,
        "plain": (0..prompts.len()).map(|p| plain.plain(p)).collect::<Vec<_>>(),
        "in_head": run(Replacement::Zero)?,
        "folded": run(Replacement::ValueBias)?,
        "run_seconds": started.elapsed().as_secs_f64(),
    });
    println!("{output}");
    Ok(())
}

/// The most memory that this process has held, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
