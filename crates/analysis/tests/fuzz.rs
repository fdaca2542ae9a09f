//! Mutated tables and scan files: whatever they hold, reading them ends in a table or in one line.
//! `FUZZ_RUNS=1000000` tries more.

mod common;
#[path = "../../transformer/tests/mutation/mod.rs"]
mod mutation;

use std::path::Path;

use analysis::joint::import_reader;
use analysis::per_prompt::PerPromptScan;
use analysis::scan_file::ScanFile;
use analysis::scan_summary::summarise_scan;
use mutation::{mutants, runs};

#[test]
fn fuzz_joint_csv() {
    let good = "family,model,layer,head,delta_ioi,delta_anti,abs_delta_ioi,strength,category\n\
        gpt2,gpt2,0,0,0.125,-0.5,0.125,0.625,shared\ngpt2,gpt2,0,1,0.01,,0.01,,\npythia,\"pythia-70m\",3,7,1e-3,2,0.001,2.001,weak\n";
    for bytes in mutants(good.as_bytes(), runs(20_000)) {
        let path = Path::new("joint.csv");
        if let Err(error) = import_reader(&bytes[..], path, 1000).and_then(|import| import.into_table(path)) {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}

#[test]
fn fuzz_scan_files() {
    let folder = tempfile::tempdir().unwrap();
    let scan = common::scan(common::meta("gpt2", "gpt2", "ioi", 2, 3), 12, 1.0, 0);
    let json = folder.path().join("scan.json");
    summarise_scan(&scan, &common::quick()).unwrap().write(&json).unwrap();
    let good = std::fs::read(&json).unwrap();
    for bytes in mutants(&good, runs(2000)) {
        std::fs::write(&json, bytes).unwrap();
        if let Err(error) = ScanFile::read(&json) {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
    let side = folder.path().join("scan.safetensors");
    scan.write(&side).unwrap();
    let good = std::fs::read(&side).unwrap();
    for bytes in mutants(&good, runs(2000)) {
        std::fs::write(&side, bytes).unwrap();
        if let Err(error) = PerPromptScan::read(&side) {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
