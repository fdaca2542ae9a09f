//! Loading peaks at no more than 1.2 times the float32 weights, and for a GPU at the tables that the CPU looks up plus two
//! blocks. A separate test binary with one process per test, since the peak is the process's.

#![cfg(target_os = "linux")]

use std::io::{BufWriter, Write};
use std::path::Path;

use cs_engine::decoder::Decoder;
use cs_engine::model::Model;
use cs_engine::{Compute, Precision, check_memory};
use cs_model::ModelFiles;
use cs_model::ModelInfo;
use cs_model::error::LoadError;

/// A field of `/proc/self/status` in bytes.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Writes a GPT-2 of this many blocks without holding it in memory; `size` bytes per element, all of them zero.
fn write_gpt2(folder: &Path, n_layers: usize, d_model: usize, d_vocab: usize, dtype: &str, size: usize) {
    let config = serde_json::json!({
        "model_type": "gpt2", "n_layer": n_layers, "n_embd": d_model, "n_head": 8, "n_positions": 64, "vocab_size": d_vocab,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut shapes = vec![
        ("wte.weight".to_owned(), vec![d_vocab, d_model]),
        ("wpe.weight".to_owned(), vec![64, d_model]),
        ("ln_f.weight".to_owned(), vec![d_model]),
        ("ln_f.bias".to_owned(), vec![d_model]),
    ];
    for layer in 0..n_layers {
        for (name, d_in, d_out) in [
            ("attn.c_attn", d_model, 3 * d_model),
            ("attn.c_proj", d_model, d_model),
            ("mlp.c_fc", d_model, 4 * d_model),
            ("mlp.c_proj", 4 * d_model, d_model),
        ] {
            shapes.push((format!("h.{layer}.{name}.weight"), vec![d_in, d_out]));
            shapes.push((format!("h.{layer}.{name}.bias"), vec![d_out]));
        }
        for name in ["ln_1", "ln_2"] {
            shapes.push((format!("h.{layer}.{name}.weight"), vec![d_model]));
            shapes.push((format!("h.{layer}.{name}.bias"), vec![d_model]));
        }
    }
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for (name, shape) in shapes {
        let end = offset + size * shape.iter().product::<usize>();
        header.insert(
            name,
            serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] }),
        );
        offset = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = BufWriter::new(std::fs::File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.flush().unwrap();
    // What is not written is zeros, and takes no room on most disks.
    file.get_ref().set_len((8 + header.len() + offset) as u64).unwrap();
}

/// Runs a test of this program again, on a checkpoint of the given type.
fn again(test: &str, dtype: &str) {
    let program = std::env::current_exe().expect("the running test");
    let output = std::process::Command::new(program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("DTYPE", dtype)
        .env("CIRCUIT_SCALING_CUDA_DRIVER", cs_fake_cuda_driver::library())
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "{test}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    print!("{printed}");
}

/// The requested type, and the size of its elements in bytes.
fn dtype() -> (String, usize) {
    let dtype = std::env::var("DTYPE").unwrap_or_else(|_| "F32".to_owned());
    let size = if dtype == "F32" { 4 } else { 2 };
    (dtype, size)
}

/// The fake GPU's memory belongs to this process, so arrays on it count too.
#[test]
fn loading_for_a_gpu_holds_two_blocks() {
    ["BF16", "F16", "F32"].into_iter().for_each(|dtype| again("on_a_card", dtype));
}

#[test]
#[ignore = "run by `loading_for_a_gpu_holds_two_blocks`"]
fn on_a_card() {
    let compute = Compute::choose(&"cuda".parse().unwrap(), None).unwrap();
    let (n_layers, d_model, d_vocab) = (24, 512, 20_000);
    let (dtype, size) = dtype();
    let folder = tempfile::tempdir().unwrap();
    write_gpt2(folder.path(), n_layers, d_model, d_vocab, &dtype, size);
    let info = ModelInfo::open(&ModelFiles::folder(folder.path()).unwrap()).unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let decoder = Decoder::load(info.config.spec, &info.checkpoint, &compute).unwrap();
    let loading = status("VmHWM") - before;
    // Zeros are exact in half precision, whatever the stored type.
    let block = 2 * 12 * d_model * d_model;
    let bound = n_layers * block + size * d_vocab * d_model + 2 * block;
    let weights = info.checkpoint.weight_bytes();
    println!("{dtype}: float32 weights {weights}, on the GPU and the host {bound}, peak {loading}");
    assert!(loading > bound * 8 / 10, "{dtype}: {loading} of {bound}");
    assert!(loading < bound * 11 / 10, "{dtype}: {loading} of {bound}");
    assert!(decoder.note().is_none());
}

/// A model of 800 GB as float32 has room beside a card, as far as the program's memory goes.
#[test]
fn memory_checks_depend_on_the_device() {
    again("asked_for", "F16");
}

#[test]
#[ignore = "run by `memory_checks_depend_on_the_device`"]
fn asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (n_layers, d_model, d_vocab) = (4000, 2048, 5000);
    write_gpt2(folder.path(), n_layers, d_model, d_vocab, "F16", 2);
    let checkpoint = ModelInfo::open(&ModelFiles::folder(folder.path()).unwrap()).unwrap().checkpoint;
    let card = Compute::choose(&"cuda".parse().unwrap(), None).unwrap();
    check_memory(&checkpoint, &card).unwrap();
    for (compute, times) in [(Compute::cpu(), 1), (Compute::delta(Precision::Split), 2)] {
        let Err(LoadError::Memory { need, .. }) = check_memory(&checkpoint, &compute) else {
            panic!("{}", compute.kind())
        };
        assert_eq!(need, times * 4 * checkpoint.n_params() as u64);
    }
}

#[test]
fn peak_is_near_the_weights() {
    ["F16", "F32"].into_iter().for_each(|dtype| again("on_the_processor", dtype));
}

#[test]
#[ignore = "run by `peak_is_near_the_weights`"]
fn on_the_processor() {
    let (dtype, size) = dtype();
    let folder = tempfile::tempdir().unwrap();
    write_gpt2(folder.path(), 12, 512, 20_000, &dtype, size);
    let info = ModelInfo::open(&ModelFiles::folder(folder.path()).unwrap()).unwrap();
    let weights = info.checkpoint.weight_bytes();
    assert!(weights > 150 << 20);

    // Resets the peak to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let model = Model::from_info(info).unwrap();
    let loading = status("VmHWM") - before;
    model.weight_hash();
    let hashing = status("VmHWM") - before;
    println!("{dtype}: weights {weights}, peak {loading} bytes, with the hash {hashing}");
    // Bounded from both sides, to check the measurement itself.
    assert!(loading > weights * 9 / 10, "{dtype}: {loading} of {weights}");
    assert!(loading < weights * 12 / 10, "{dtype}: {loading} of {weights}");
    assert!(hashing < weights * 12 / 10, "{dtype}: {hashing} of {weights} with the hash");
}
