//! Broken checkpoints: each gives a one-line error that names the file, the tensor and the fix.

use cs_model::ModelFiles;
use cs_model::ModelInfo;
use safetensors::Dtype;

use crate::checkpoint_file::{Folder, Raw, assert_names, load, one_line};

fn gpt2() -> Folder {
    Folder::golden("gpt2-default")
}

/// The message for a folder with this `model.safetensors`.
fn error_of_weights(bytes: &[u8]) -> String {
    let dir = gpt2().write();
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    one_line(load(dir.path()).err().expect("these weights must be refused"))
}

#[test]
fn missing_files() {
    let error = ModelFiles::folder("no/such/folder").unwrap_err();
    assert_names(&one_line(error), &["no/such/folder", "no such model folder", "config.json"]);

    let dir = gpt2().write();
    let error = ModelFiles::folder(dir.path().join("config.json")).unwrap_err();
    assert_names(&one_line(error), &["config.json: no such model folder"]);

    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let error = one_line(load(dir.path()).err().unwrap());
    assert_names(&error, &["model.safetensors: no such file", "shards and their index"]);

    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    let error = one_line(load(dir.path()).err().unwrap());
    assert_names(&error, &["config.json: no such file", "model.safetensors"]);
}

#[test]
fn files_that_are_not_weights() {
    let dir = gpt2().write();
    let weights = dir.path().join("model.safetensors");
    std::fs::remove_file(&weights).unwrap();
    std::fs::create_dir(&weights).unwrap();
    assert_names(
        &one_line(load(dir.path()).err().unwrap()),
        &["model.safetensors: cannot be read", "not a regular file"],
    );
}

#[test]
fn truncation_at_every_length() {
    let whole = gpt2().serialize();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let lengths = (0..16).chain([100, header - 1, header, header + 1, whole.len() / 2, whole.len() - 1]);
    for len in lengths {
        let error = error_of_weights(&whole[..len]);
        assert_names(&error, &["model.safetensors", "truncated", "fetch it again"]);
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_names(&error_of_weights(&longer), &["model.safetensors", "does not match its", "fetch it again"]);
}

#[test]
fn headers_that_lie() {
    // One tensor of two float32 values, with an arbitrary header.
    let file = |header: &str, data: &[u8]| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    };
    let one = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    for (header, words) in [
        (one("F32", "[2]", 0, 1 << 40), &["offsets disagree with its shape"][..]),
        (one("F32", "[2000000]", 0, 8_000_000), &["does not match its"]),
        (one("F32", "[3]", 0, 8), &["offsets disagree with its shape"]),
        (one("F32", "[2]", 8, 0), &["\"a\"", "run backwards"]),
        (one("F32", "[1]", 4, 8), &["\"a\"", "leave a gap"]),
        (one("F32", "[1]", 0, 4), &["does not match its"]),
        (one("F32", "[4611686018427387904, 4]", 0, 8), &["broken safetensors header", "overflow"]),
        (one("F99", "[2]", 0, 8), &["broken safetensors header", "F99"]),
        (one("F32", "[-2]", 0, 8), &["broken safetensors header"]),
        ("{\"a\":".to_owned(), &["broken safetensors header"]),
        ("[]".to_owned(), &["broken safetensors header"]),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#
                .to_owned(),
            &["\"b\"", "overlap"],
        ),
    ] {
        let error = error_of_weights(&file(&header, &[0; 8]));
        assert_names(&error, &["model.safetensors", "fetch it again"]);
        assert_names(&error, words);
    }
    assert_names(&error_of_weights(&u64::MAX.to_le_bytes()), &["not a safetensors file", "100 MB"]);
    assert_names(
        &error_of_weights(&[0x10, 0, 0, 0, 0, 0, 0, 0, b'{']),
        &["truncated", "longer than its 9 bytes"],
    );
    assert_names(&error_of_weights(&file("\u{0}\u{1}", b"")), &["broken safetensors header"]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n";
    assert_names(&error_of_weights(pointer.as_bytes()), &["Git LFS pointer", "git lfs pull"]);
}

#[test]
fn tensors_that_do_not_fit() {
    let mut folder = gpt2();
    folder.tensors.remove("transformer.h.1.attn.c_proj.weight");
    let error = folder.error();
    assert_names(
        &error,
        &["model.safetensors", "\"h.1.attn.c_proj.weight\"", "[15, 15]", "missing", "config.json"],
    );

    let mut folder = gpt2();
    let n_ctx = folder.tensor("transformer.wpe.weight").shape[0];
    *folder.tensor("transformer.wpe.weight") = Raw::f32(&[8, 15], vec![0.5; 120]);
    let expected = format!("[{n_ctx}, 15]");
    let error = folder.error();
    assert_names(
        &error,
        &["model.safetensors", "\"transformer.wpe.weight\"", "[8, 15]", &expected, "config.json"],
    );

    // The right number of elements, transposed.
    let mut folder = gpt2();
    folder.tensor("transformer.h.0.mlp.c_fc.weight").shape = vec![60, 15];
    assert_names(&folder.error(), &["h.0.mlp.c_fc.weight", "[60, 15]", "[15, 60]"]);

    let mut folder = gpt2();
    let ln = folder.tensor("transformer.ln_f.weight").clone();
    folder.tensors.insert("transformer.h.3.ln_1.weight".into(), ln);
    assert_names(&folder.error(), &["\"transformer.h.3.ln_1.weight\"", "no place in gpt2", "config.json"]);

    let mut folder = gpt2();
    folder.tensors.insert("transformer.h.0.attn.c_attn.lora_A.weight".into(), Raw::f32(&[1], [1.0]));
    assert_names(&folder.error(), &["lora_A", "no place in gpt2", "merge the adapter"]);

    let mut folder = gpt2();
    let ln = folder.tensor("transformer.ln_f.weight").clone();
    folder.tensors.insert("ln_f.weight".into(), ln);
    assert_names(&folder.error(), &["under two names", "\"ln_f.weight\"", "\"transformer.ln_f.weight\""]);

    let mut folder = gpt2();
    folder.config["tie_word_embeddings"] = false.into();
    assert_names(&folder.error(), &["\"lm_head.weight\"", "15]", "missing"]);

    // A bias that the config excludes would change the result.
    let mut folder = Folder::golden("opt-prenorm");
    folder.config["enable_bias"] = false.into();
    assert_names(&folder.error(), &["bias", "no place in opt"]);

    let mut folder = gpt2();
    let raw = folder.tensor("transformer.h.0.ln_2.bias");
    raw.dtype = Dtype::I32;
    assert_names(&folder.error(), &["h.0.ln_2.bias", "stored as I32", "float16"]);
}

#[test]
fn non_finite_values() {
    for (name, index) in [
        ("transformer.wte.weight", 33),
        ("transformer.wpe.weight", 0),
        ("transformer.h.2.attn.c_attn.weight", 15 * 45 - 1),
        ("transformer.h.0.attn.c_attn.bias", 44),
        ("transformer.h.1.mlp.c_proj.weight", 700),
        ("transformer.ln_f.bias", 3),
    ] {
        for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, " inf "), (f32::NEG_INFINITY, "-inf")] {
            let mut folder = gpt2();
            folder.tensor(name).bytes[4 * index..][..4].copy_from_slice(&value.to_le_bytes());
            let error = folder.error();
            assert_names(&error, &["model.safetensors", name, word, &format!("element {index};"), "damaged"]);
        }
    }
    let mut folder = Folder::golden("neox-pythia-f16");
    let name = "gpt_neox.layers.1.attention.query_key_value.weight";
    folder.tensor(name).bytes[10..12].copy_from_slice(&0x7e00u16.to_le_bytes());
    assert_names(&folder.error(), &[name, "NaN", "element 5;"]);

    let mut folder = gpt2();
    let raw = folder.tensor("transformer.ln_f.weight");
    raw.dtype = Dtype::F64;
    raw.bytes = [1.0, 1e300].into_iter().chain([1.0; 13]).flat_map(f64::to_le_bytes).collect();
    assert_names(&folder.error(), &["transformer.ln_f.weight", "inf", "element 1;"]);
}

#[test]
fn a_config_of_another_model() {
    let mut folder = gpt2();
    folder.config = Folder::golden("opt-prenorm").config;
    let error = folder.error();
    assert_names(
        &error,
        &["model.safetensors", "\"embed_tokens.weight\"", "missing", "config.json that belongs"],
    );

    let mut folder = gpt2();
    folder.config["model_type"] = "bert".into();
    assert_names(&folder.error(), &["config.json", "model_type", "\"bert\"", "gpt2, gpt_neox, opt, gpt_neo"]);

    let mut folder = gpt2();
    folder.config["n_layer"] = 2.into();
    assert_names(&folder.error(), &["h.2.", "no place in gpt2"]);

    let dir = gpt2().write();
    std::fs::write(dir.path().join("config.json"), "{\"model_type\": \"gpt2\", ").unwrap();
    let files = ModelFiles::folder(dir.path()).unwrap();
    let error = one_line(ModelInfo::open(&files).err().unwrap());
    assert_names(&error, &["config.json", "not valid JSON", "fetch"]);
}
