//! The bootstrap's time, measured: `cargo test --release --workspace --test speed -- --ignored --nocapture`.
//!
//! Not part of the ordinary run, since it would fail on a busy machine.

mod common;

use std::time::Instant;

use common::{meta, scan};
use cs_analysis::joint::ScanPair;
use cs_analysis::scan_file::Split;
use cs_analysis::scan_summary::{SummaryOptions, summarise_scan};

#[test]
#[ignore = "measures time, so it needs an idle machine"]
fn a_scan_of_1200_heads_on_400_prompts_takes_under_five_seconds() {
    let side = |task, seed| {
        let mut side = scan(meta("gpt2", "gpt2-xl", task, 48, 25), 400, 0.1, seed);
        side.split = vec![Split::All; 400];
        side
    };
    let (ioi, anti) = (side("ioi", 1), side("anti_repeat", 2));
    let start = Instant::now();
    let file = summarise_scan(&ioi, &SummaryOptions::default()).unwrap();
    let elapsed = start.elapsed();
    println!("intervals, p- and q-values, 10,000 resamples and 10,000 flips: {elapsed:?}");
    let other = summarise_scan(&anti, &SummaryOptions::default()).unwrap();
    let start = Instant::now();
    let pair = ScanPair::new(file, other).with_prompts(&ioi, &anti).unwrap();
    assert!(pair.over_prompts.spearman.noise.is_some());
    println!("what prompts say of the correlation: {:?}", start.elapsed());
    assert!(elapsed.as_secs_f64() < 5.0, "{elapsed:?}");
}
