//! `pytorch_model.bin`, as the real `torch.save` writes it (see `tools/torch_files/make.py`) and as an attacker might.

use std::path::{Path, PathBuf};

use cs_engine::weights::{Linear, Norm, Table, Weights};
use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::ModelConfig;
use proptest::prelude::*;

use crate::checkpoint_file::{assert_names, golden, load, one_line};

fn torch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch").join(name)
}

/// A model's folder: the config of a golden checkpoint, the weights of a folder of `tests/torch`.
fn folder(of_golden: &str, of_torch: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden(of_golden).join("config.json"), folder.path().join("config.json")).unwrap();
    for file in std::fs::read_dir(torch(of_torch)).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

/// All parameters, concatenated.
fn all_values(weights: &Weights) -> Vec<f32> {
    let mut out = weights.embed.to_vec();
    out.extend(&weights.pos_embed);
    out.extend(weights.unembed.iter().flat_map(Table::to_vec));
    let mut linear = |l: &Linear| {
        let (k, n) = (l.weight.k(), l.weight.n());
        out.extend((0..k * n).map(|i| l.weight.get(i / n, i % n)));
        out.extend(l.bias.iter().flatten());
    };
    weights.project_in.iter().chain(&weights.project_out).for_each(&mut linear);
    for layer in &weights.layers {
        let mlp = layer.mlp.as_ref().unwrap();
        [&layer.w_qkv, &layer.w_o, &mlp.w_in, &mlp.w_out].into_iter().for_each(&mut linear);
    }
    let norms = weights.layers.iter().flat_map(|l| [&l.ln1, &l.ln2]).chain([&weights.ln_final]);
    out.extend(norms.flat_map(|Norm { weight, bias }| weight.iter().chain(bias).flatten()));
    out
}

#[test]
fn every_way_of_saving_gives_the_same_model() {
    for (name, of_golden) in [
        ("opt-tied", "opt-postnorm-no-bias"),
        ("gpt2-bf16-strided", "gpt2-bf16"),
        ("gpt2-untied-one-storage", "gpt2-untied"),
        ("neox-parameters", "neox-full-rotary"),
        ("neo-legacy", "neo-old-hub"),
        ("opt-f16-legacy-one-storage", "opt-projected-f16"),
    ] {
        let (checkpoint, weights) = load(folder(of_golden, name).path()).unwrap();
        let (expected, expected_weights) = load(&golden(of_golden)).unwrap();
        assert!(all_values(&weights) == all_values(&expected_weights), "{name}");
        // The hash is over names, types, shapes and values, whatever the file's format.
        assert_eq!(checkpoint.weight_hash(), expected.weight_hash(), "{name}");
        assert_eq!(checkpoint.n_params(), expected.n_params(), "{name}");
    }
}

#[test]
fn shards_of_float64() {
    let folder = folder("gpt2-untied", "gpt2-sharded");
    let (checkpoint, weights) = load(folder.path()).unwrap();
    assert_eq!(checkpoint.dtypes(), ["F64"]);
    let (_, expected) = load(&golden("gpt2-untied")).unwrap();
    assert!(all_values(&weights) == all_values(&expected));

    std::fs::remove_file(folder.path().join("pytorch_model-00002-of-00002.bin")).unwrap();
    let error = one_line(load(folder.path()).err().unwrap());
    assert_names(&error, &["00002-of-00002.bin: no such file", "pytorch_model.bin.index.json lists it"]);
}

#[test]
fn safetensors_come_first() {
    let folder = folder("opt-postnorm-no-bias", "opt-tied");
    std::fs::write(folder.path().join("model.safetensors"), "broken").unwrap();
    assert_names(&one_line(load(folder.path()).err().unwrap()), &["model.safetensors"]);
}

/// Opens and, if that works, loads these bytes as the `pytorch_model.bin` of a golden checkpoint.
fn try_load(of_golden: &str, bytes: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pytorch_model.bin"), bytes).unwrap();
    let config = ModelConfig::open(&ModelFiles::folder(golden(of_golden)).unwrap()).unwrap();
    let files = ModelFiles::folder(folder.path()).unwrap();
    let loaded = Checkpoint::open(&files, &config).and_then(|checkpoint| cs_engine::load(&checkpoint));
    loaded.map(drop).map_err(one_line)
}

#[test]
fn nothing_in_a_pickle_is_run() {
    for (file, words) in [
        (
            "os-system",
            &[".system, which tensors do not need", "rejected without running anything", "torch.load"][..],
        ),
        ("os-system-legacy", &[".system, which tensors do not need"]),
        ("eval", &["builtin", ".eval, which tensors do not need"]),
        ("exec-in-dict", &["builtin", ".exec, which tensors do not need"]),
        ("getattr", &["builtin", ".getattr, which tensors do not need"]),
        ("import", &["builtin", ".__import__, which tensors do not need"]),
        ("bare", &["is not a torch.save file"]),
        ("nested", &["a dict under \"model\" instead of a state dict", "state_dict() itself"]),
        ("list", &["a list instead of a state dict"]),
        ("number", &["a number under \"step\" instead of a state dict"]),
        ("expanded", &["\"wte.weight\"", "repeats a storage of 1 elements"]),
        ("no-pickle", &["not from torch.save", "no data.pkl"]),
        ("compressed", &["compression method not supported"]),
    ] {
        let bytes = std::fs::read(torch("hostile").join(format!("{file}.bin"))).unwrap();
        let error = try_load("gpt2-untied", &bytes).expect_err(file);
        println!("{error}");
        assert_names(&error, words);
        assert_names(&error, &["pytorch_model.bin: "]);
    }
    for (bytes, word) in [
        (&b""[..], "torch.save"),
        (b"PK", "archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "torch.save"),
    ] {
        assert_names(&try_load("gpt2-untied", bytes).unwrap_err(), &["pytorch_model.bin: ", word]);
    }
}

#[test]
fn truncation_at_every_length() {
    for (file, of_golden) in [("neo-legacy", "neo-old-hub"), ("opt-tied", "opt-postnorm-no-bias")] {
        let whole = std::fs::read(torch(file).join("pytorch_model.bin")).unwrap();
        for len in (0..whole.len()).step_by(whole.len() / 300) {
            try_load(of_golden, &whole[..len]).expect_err("truncated");
        }
    }
}

/// The range of the pickle in an archive, or the first bytes of a legacy file.
fn described(bytes: &[u8]) -> std::ops::Range<usize> {
    let find = |what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    match bytes.starts_with(b"PK") {
        true => find(b"\x80\x02")..find(b"data/0"),
        false => 0..4000,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes of the pickle are replaced. An archive's checksum would catch nearly all changes, so pickles of the
    /// legacy format, which have none, are the harder test.
    #[test]
    fn mutated_pickles(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        file in prop::sample::select(vec!["neo-legacy", "opt-f16-legacy-one-storage", "opt-tied"]),
    ) {
        let mut bytes = std::fs::read(torch(file).join("pytorch_model.bin")).unwrap();
        let range = described(&bytes);
        for (at, byte) in edits {
            bytes[range.start + at.index(range.len())] = byte;
        }
        let of_golden = match file {
            "neo-legacy" => "neo-old-hub",
            "opt-tied" => "opt-postnorm-no-bias",
            _ => "opt-projected-f16",
        };
        let _ = try_load(of_golden, &bytes);
    }

    /// Bytes of the archive's own headers and directory replaced.
    #[test]
    fn mutated_archives(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = std::fs::read(torch("opt-tied/pytorch_model.bin")).unwrap();
        let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        for (at, byte) in edits {
            let at = at.index(bytes.len() - directory + 2000);
            let at = if at < 2000 { at } else { directory + at - 2000 };
            bytes[at] = byte;
        }
        let _ = try_load("opt-postnorm-no-bias", &bytes);
    }

    /// Programs of valid opcodes in any order.
    #[test]
    fn random_pickles(ops in proptest::collection::vec(prop::sample::select(PIECES.to_vec()), 0..60)) {
        let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
        for piece in ops {
            bytes.extend(piece);
        }
        bytes.extend(b".].");
        prop_assert!(try_load("neo-old-hub", &bytes).is_err());
    }
}

/// Opcodes with their arguments.
const PIECES: [&[u8]; 30] = [
    b"}",
    b"]",
    b")",
    b"(",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"a",
    b"e",
    b"s",
    b"u",
    b"q\x00",
    b"h\x00",
    b"r\x01\x00\x00\x00",
    b"j\x01\x00\x00\x00",
    b"R",
    b"Q",
    b"b",
    b"0",
    b"N",
    b"\x88",
    b"K\x02",
    b"J\xff\xff\xff\x7f",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"X\x07\x00\x00\x00storage",
    b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
    b"\x94",
];
