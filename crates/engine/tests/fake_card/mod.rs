//! Tests that run in a process of their own, with the fake driver.

use std::process::{Command, Output};

/// Runs a test of this program again with the fake driver and these settings.
pub fn again(test: &str, settings: &[(&str, &str)]) -> Output {
    let program = std::env::current_exe().expect("the running test");
    let output = Command::new(program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("CIRCUIT_SCALING_CUDA_DRIVER", cs_fake_cuda_driver::library())
        .envs(settings.iter().copied())
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "{test}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    print!("{printed}");
    output
}
