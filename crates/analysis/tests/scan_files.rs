//! Scan files and their per-prompt files.

mod common;

use common::{meta, quick, scan};
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{ScanFile, Split};
use cs_analysis::scan_summary::summarise_scan;

#[test]
fn files_read_back_exactly_and_are_written_the_same_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let side = scan(meta("gpt2", "tiny", "ioi", 3, 5), 33, 0.1, 1);
    let file = summarise_scan(&side, &quick()).unwrap();
    let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
    side.write(&a).unwrap();
    side.write(&b).unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    assert_eq!(PerPromptScan::read(&a).unwrap(), side);
    let json = dir.path().join("scan.json");
    file.write(&json).unwrap();
    assert_eq!(ScanFile::read(&json).unwrap(), file);
    assert_eq!(summarise_scan(&PerPromptScan::read(&a).unwrap(), &quick()).unwrap(), file);
}

#[test]
fn deltas_are_weighted_means_of_the_split() {
    let mut side = scan(meta("gpt2", "tiny", "ioi", 1, 2), 3, 0.1, 1);
    side.base = vec![1.0, 2.0, 4.0];
    side.ablated = vec![0.0, 2.0, 3.0, /* head 1 */ 2.0, 2.5, 4.0];
    side.weight = vec![3, 1, 1];
    side.split = vec![Split::Discovery, Split::Discovery, Split::HeldOut];
    side.base_correct = vec![true, false, true];
    let file = summarise_scan(&side, &quick()).unwrap();
    assert_eq!(file.split, Split::Discovery);
    assert_eq!((file.baseline.n_prompts, file.baseline.n_distinct_prompts), (4, 2));
    assert_eq!(file.baseline.base_logit_diff_mean, 1.25);
    assert_eq!(file.baseline.base_accuracy, 0.75);
    let deltas: Vec<f64> = file.heads.iter().map(|h| h.delta).collect();
    assert_eq!(deltas, [-0.75, 0.875]);
    let held_out: Vec<f64> = file.heads.iter().map(|h| h.held_out_delta.unwrap()).collect();
    assert_eq!(held_out, [-1.0, 0.0]);
    assert_eq!(file.held_out.as_ref().unwrap().base_accuracy, 1.0);
    assert_eq!(file.top_suppressor_candidates[0], file.heads[0]);
    assert_eq!(file.top_anti_suppressors[0], file.heads[1]);
}

/// One prompt per split: only means, and nothing that needs a second one.
#[test]
fn one_prompt_gives_no_interval() {
    let mut side = scan(meta("gpt2", "tiny", "ioi", 2, 3), 2, 0.1, 1);
    side.weight = vec![1; 2];
    let file = summarise_scan(&side, &quick()).unwrap();
    assert!(
        file.baseline.base_logit_diff_ci_low.is_none()
            && file.baseline.performance().does_task() != Some(true)
    );
    for head in &file.heads {
        let ends = [
            head.delta_ci_low,
            head.delta_ci_high,
            head.delta_low_templates,
            head.delta_high_templates,
            head.held_out_ci_low,
            head.held_out_low_templates,
        ];
        assert!(ends.iter().chain(&head.prob_abs_delta_ge_tau).all(Option::is_none), "{head:?}");
        assert!(head.delta.is_finite() && head.p_value == Some(1.0));
    }
    // Enough prompts of one template: no interval over templates.
    let mut side = scan(meta("gpt2", "tiny", "ioi", 2, 3), 40, 0.1, 1);
    side.template = vec![4; 40];
    let file = summarise_scan(&side, &quick()).unwrap();
    assert!(file.heads.iter().all(|h| h.delta_ci_low.is_some() && h.delta_low_templates.is_none()));
    assert_eq!(file.baseline.n_templates, 1);
}

#[test]
fn without_a_split_there_are_no_held_out_figures() {
    let mut side = scan(meta("gpt2", "tiny", "ioi", 1, 2), 4, 0.1, 1);
    side.split = vec![Split::All; 4];
    let file = summarise_scan(&side, &quick()).unwrap();
    assert_eq!(file.split, Split::All);
    assert!(file.held_out.is_none() && file.heads.iter().all(|h| h.held_out_delta.is_none()));
}

#[test]
fn bad_scans_are_refused_with_the_reason() {
    let good = || scan(meta("gpt2", "tiny", "ioi", 2, 2), 6, 0.1, 1);
    let error = |change: &dyn Fn(&mut PerPromptScan)| {
        let mut side = good();
        change(&mut side);
        summarise_scan(&side, &quick()).unwrap_err().to_string()
    };
    assert!(error(&|s| s.ablated[7] = f32::NAN).contains("prompt 1 without head L0H1"));
    assert!(error(&|s| s.base[2] = f32::INFINITY).contains("prompt 2"));
    assert!(error(&|s| s.weight[3] = 0).contains("weight 0"));
    assert!(error(&|s| s.ablated.truncate(5)).contains("`ablated` has 5 entries instead of 24"));
    assert!(error(&|s| s.split = vec![Split::HeldOut; 6]).contains("held out"));
    assert!(error(&|s| s.split[0] = Split::All).contains("some to none"));
}

#[test]
fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for bytes in [&b""[..], b"{", b"\xff\xff\xff\xff\xff\xff\xff\xff{}", b"{\"model_name\": 3}"] {
        std::fs::write(&path, bytes).unwrap();
        for error in [ScanFile::read(&path).unwrap_err(), PerPromptScan::read(&path).unwrap_err()] {
            let line = error.to_string();
            assert!(
                line.contains(&*path.to_string_lossy()) && line.contains("scan the model again"),
                "{line}"
            );
        }
    }
    let missing = ScanFile::read(&dir.path().join("none.json")).unwrap_err().to_string();
    assert!(missing.contains("cannot read"), "{missing}");
    // A head dropped from a scan file is noticed.
    let mut file = summarise_scan(&scan(meta("gpt2", "tiny", "ioi", 2, 2), 6, 0.1, 1), &quick()).unwrap();
    file.heads.remove(1);
    std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    let line = ScanFile::read(&path).unwrap_err().to_string();
    assert!(line.contains("number of heads 3, but 2 × 2"), "{line}");
}
