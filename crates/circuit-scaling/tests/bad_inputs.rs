//! User errors, tried as a user would, with the message that the program prints.
//!
//! The messages are in `bad_inputs/expected.txt`; `UPDATE_EXPECTED=1 cargo test --release --workspace --test
//! bad_inputs` rewrites it. Read the changes before committing them.

#![cfg(unix)] // some messages contain the system's own

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{GREETING, checkpoint, files, program};
use serde_json::{Value, json};

/// A bad input: its name, a function that makes it in a folder with a valid `model`, and the command line.
type Case = (&'static str, fn(&Path), &'static [&'static str]);

const INSPECT: &[&str] = &["inspect", "model"];
const RUN: &[&str] = &["run", "--models", "model", "--prompts", "40"];
const AFTER: &[&str] = &["run", "--models", "mini-gpt2-m,model"];
const SCAN: &[&str] = &["scan", "--models", "model", "--task", "ioi"];
const TASK: &[&str] = &["scan", "--models", "mini-gpt2-m", "--task", "task.toml", "--prompts", "20"];
const PROMPTS: &[&str] = &["scan", "--models", "mini-gpt2-m", "--task", "prompts.csv"];
const RESAMPLE: &[&str] =
    &["scan", "--models", "mini-gpt2-m", "--task", "prompts.csv", "--ablation", "resample"];
const TRACE: &[&str] = &["run", "--models", "mini-gpt2-m", "--tasks", "ioi,prompts.csv", "--effort", "quick"];
const STUDY: &[&str] = &["run", "--study", "study.toml"];
const ANALYZE: &[&str] = &["analyze", "joint.csv"];

fn nothing(_: &Path) {}

fn write(folder: &Path, file: &str, content: impl AsRef<[u8]>) {
    fs::write(folder.join(file), content).unwrap();
}

fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap();
    change(&mut value);
    write(folder, file, value.to_string());
}

fn config(folder: &Path, key: &str, value: Value) {
    edit(folder, "model/config.json", |config| config[key] = value);
}

/// Changes a safetensors header (the data stay), or the data.
fn weights(folder: &Path, change: impl FnOnce(&mut Value, &mut Vec<u8>)) {
    let bytes = fs::read(folder.join("model/model.safetensors")).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let mut data = bytes[8 + n..].to_vec();
    change(&mut header, &mut data);
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    write(folder, "model/model.safetensors", [&length[..], header.as_bytes(), &data].concat());
}

/// Replaces the weights by one of the hostile files of `tools/torch_files`.
fn pickle(folder: &Path, name: &str) {
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/torch/hostile");
    remove(folder, "model/model.safetensors");
    fs::copy(hostile.join(format!("{name}.bin")), folder.join("model/pytorch_model.bin")).unwrap();
}

fn remove(folder: &Path, file: &str) {
    fs::remove_file(folder.join(file)).unwrap();
}

/// Shards of safetensors, with an index.
fn index(folder: &Path, content: &str) {
    remove(folder, "model/model.safetensors");
    write(folder, "model/model.safetensors.index.json", content);
}

fn task(folder: &Path, change: impl FnOnce(String) -> String) {
    write(folder, "task.toml", change(GREETING.to_owned()));
}

const ROWS: &str = "clean,corrupted,correct,distractor\n\
                    \"When Mary and John went home, John gave a gift to\",\"When Mary and John went home, Mary gave a gift to\",Mary,John\n\
                    On Monday Paul met Kate. Kate talked to,On Monday Paul met Kate. Paul talked to,Paul,Kate\n";

fn rows(folder: &Path, change: impl FnOnce(&str) -> String) {
    write(folder, "prompts.csv", change(ROWS));
}

const JOINT: &str =
    "family,model,layer,head,delta_ioi,delta_anti\ngpt2,gpt2,0,0,0.1,0.2\ngpt2,gpt2,0,1,0.3,-0.1\n";

const CASES: &[Case] = &[
    // config.json
    ("config: none", |f| remove(f, "model/config.json"), INSPECT),
    ("config: empty", |f| write(f, "model/config.json", ""), INSPECT),
    ("config: no JSON", |f| write(f, "model/config.json", "{\"n_layer\": 2,"), INSPECT),
    ("config: a list", |f| write(f, "model/config.json", "[1, 2]"), INSPECT),
    ("config: not UTF-8", |f| write(f, "model/config.json", [0xff, 0xfe, b'{']), INSPECT),
    ("config: no architecture", |f| config(f, "model_type", Value::Null), INSPECT),
    ("config: another architecture", |f| config(f, "model_type", json!("bert")), INSPECT),
    ("config: heads that do not divide the width", |f| config(f, "n_head", json!(7)), INSPECT),
    ("config: no layers", |f| config(f, "n_layer", json!(0)), INSPECT),
    ("config: a negative number of layers", |f| config(f, "n_layer", json!(-3)), INSPECT),
    (
        "config: more layers than any machine holds",
        |f| config(f, "n_layer", json!(1_000_000_000_000u64)),
        INSPECT,
    ),
    ("config: a width beyond 64 bits", |f| config(f, "n_embd", json!(1e30)), INSPECT),
    ("config: a number as text", |f| config(f, "n_embd", json!("96")), INSPECT),
    (
        "config: an activation that is not computed here",
        |f| config(f, "activation_function", json!("mish")),
        INSPECT,
    ),
    ("config: a negative epsilon", |f| config(f, "layer_norm_epsilon", json!(-1.0)), INSPECT),
    // Weights
    ("weights: none", |f| remove(f, "model/model.safetensors"), INSPECT),
    (
        "weights: a folder",
        |f| {
            remove(f, "model/model.safetensors");
            fs::create_dir(f.join("model/model.safetensors")).unwrap();
        },
        INSPECT,
    ),
    ("weights: empty", |f| write(f, "model/model.safetensors", ""), INSPECT),
    ("weights: shorter than a header", |f| write(f, "model/model.safetensors", [9, 0, 0]), INSPECT),
    (
        "weights: a header that would be longer than the file",
        |f| write(f, "model/model.safetensors", [0xff; 64]),
        INSPECT,
    ),
    (
        "weights: a header that is no JSON",
        |f| write(f, "model/model.safetensors", b"\x04\0\0\0\0\0\0\0nope"),
        INSPECT,
    ),
    (
        "weights: cut in half",
        |f| {
            let bytes = fs::read(f.join("model/model.safetensors")).unwrap();
            write(f, "model/model.safetensors", &bytes[..bytes.len() / 2]);
        },
        INSPECT,
    ),
    (
        "weights: wrong offsets",
        |f| weights(f, |h, _| h["transformer.wpe.weight"]["data_offsets"] = json!([0, u64::MAX])),
        INSPECT,
    ),
    (
        "weights: a wrong shape",
        |f| weights(f, |h, _| h["transformer.wpe.weight"]["shape"] = json!([u64::MAX, u64::MAX])),
        INSPECT,
    ),
    ("weights: of another config", |f| config(f, "n_inner", json!(77)), INSPECT),
    ("weights: one tensor missing", |f| config(f, "n_layer", json!(99)), INSPECT),
    ("weights: one tensor too many", |f| config(f, "n_layer", json!(1)), INSPECT),
    (
        "weights: integers",
        |f| weights(f, |h, _| h["transformer.wpe.weight"]["dtype"] = json!("I16")),
        INSPECT,
    ),
    (
        "weights: not a number",
        |f| {
            weights(f, |h, data| {
                let at = h["transformer.wte.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
                data[at..at + 2].copy_from_slice(&[0, 0x7e]); // a float16 NaN
            })
        },
        RUN,
    ),
    (
        "weights: a Git LFS pointer",
        |f| {
            write(
                f,
                "model/model.safetensors",
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            )
        },
        INSPECT,
    ),
    ("weights: larger than memory", larger_than_memory, RUN),
    ("weights: larger than memory, after a model that is not", larger_than_memory, AFTER),
    ("weights: larger than memory, one task", larger_than_memory, SCAN),
    ("weights: larger than memory, one prompt", larger_than_memory, &["predict", "model", "When John"]),
    ("index: no JSON", |f| index(f, "not json"), INSPECT),
    ("index: no map", |f| index(f, "{}"), INSPECT),
    (
        "index: a shard that is missing",
        |f| index(f, r#"{"weight_map": {"wte.weight": "gone.safetensors"}}"#),
        INSPECT,
    ),
    (
        "index: a shard above the folder",
        |f| index(f, r#"{"weight_map": {"wte.weight": "../../secret"}}"#),
        INSPECT,
    ),
    ("index: a shard anywhere", |f| index(f, r#"{"weight_map": {"wte.weight": "/etc/passwd"}}"#), INSPECT),
    ("pickle: os.system", |f| pickle(f, "os-system"), INSPECT),
    ("pickle: os.system, in the old format", |f| pickle(f, "os-system-legacy"), INSPECT),
    ("pickle: eval", |f| pickle(f, "eval"), INSPECT),
    ("pickle: without torch", |f| pickle(f, "bare"), INSPECT),
    ("pickle: a whole training state", |f| pickle(f, "nested"), INSPECT),
    ("pickle: a tensor of a terabyte from four bytes", |f| pickle(f, "expanded"), INSPECT),
    ("pickle: compressed", |f| pickle(f, "compressed"), INSPECT),
    ("pickle: another zip archive", |f| pickle(f, "no-pickle"), INSPECT),
    (
        "pickle: a web page",
        |f| {
            remove(f, "model/model.safetensors");
            write(f, "model/pytorch_model.bin", "<!DOCTYPE html><html>Sign in</html>");
        },
        INSPECT,
    ),
    // Tokenizer
    ("tokenizer: none", |f| remove(f, "model/tokenizer.json"), INSPECT),
    ("tokenizer: empty object", |f| write(f, "model/tokenizer.json", "{}"), INSPECT),
    ("tokenizer: no JSON", |f| write(f, "model/tokenizer.json", "{\"model\": "), INSPECT),
    (
        "tokenizer: not byte-level BPE",
        |f| edit(f, "model/tokenizer.json", |t| t["model"]["type"] = json!("WordPiece")),
        INSPECT,
    ),
    (
        "tokenizer: ids beyond the model",
        |f| edit(f, "model/tokenizer.json", |t| t["model"]["vocab"]["far"] = json!(60_000)),
        INSPECT,
    ),
    (
        "tokenizer: a BOS that it does not have",
        |f| {
            for file in ["model/tokenizer_config.json", "model/special_tokens_map.json"] {
                edit(f, file, |t| t["bos_token"] = json!("<begin>"));
            }
        },
        INSPECT,
    ),
    ("tokenizer: settings that are a number", |f| write(f, "model/tokenizer_config.json", "7"), INSPECT),
    (
        "tokenizer: merges missing",
        |f| {
            remove(f, "model/tokenizer.json");
            write(f, "model/vocab.json", "{\"a\": 0}");
        },
        INSPECT,
    ),
    // Names of models
    ("model: no such name", nothing, &["inspect", "gpt2-tiny"]),
    ("model: no such folder", nothing, &["inspect", "./my-gpt2"]),
    ("model: not downloaded, offline", nothing, &["inspect", "gpt2-xl"]),
    (
        "model: not downloaded, offline, at a revision",
        nothing,
        &["inspect", "EleutherAI/pythia-70m@step1000"],
    ),
    ("model: an id with a space", nothing, &["inspect", "some one/model"]),
    ("model: a revision that leads elsewhere", nothing, &["inspect", "gpt2", "--revision", "../../x"]),
    ("model: a file", |f| write(f, "file", "x"), &["inspect", "./file"]),
    ("model: an empty folder", |f| fs::create_dir(f.join("empty")).unwrap(), &["inspect", "empty"]),
    ("model: twice", nothing, &["run", "--models", "mini-gpt2-m,model,./model"]),
    ("prompt: longer than the model reads", nothing, &["predict", "model", LONG]),
    // Tasks
    ("task: no such name", nothing, &["scan", "--models", "model", "--task", "greetings"]),
    ("task: no such file", nothing, TASK),
    ("task: no TOML", |f| task(f, |t| t + "]]"), TASK),
    ("task: an unknown field", |f| task(f, |t| "colour = 3\n".to_owned() + &t), TASK),
    ("task: no templates", |f| task(f, |t| t.split("[[templates]]").next().unwrap().to_owned()), TASK),
    ("task: no one is repeated", |f| task(f, |t| t.replace("{repeated}", "he")), TASK),
    ("task: a filler without words", |f| task(f, |t| t.replace("morning", "{time}")), TASK),
    ("task: a name in both lists", |f| task(f, |t| t.replace("\"Tom\"", "\"John\"")), TASK),
    (
        "task: a name that is a path",
        |f| task(f, |t| t.replace("name = \"greeting\"", "name = \"../x\"")),
        TASK,
    ),
    (
        "task: too few names",
        |f| {
            task(f, |t| {
                t.replace(", \"Anna\", \"Mark\", \"Kate\", \"Jack\", \"Jane\", \"Peter\", \"Simon\"", "")
            })
        },
        TASK,
    ),
    // Files of prompts
    ("prompts: empty", |f| write(f, "prompts.csv", ""), PROMPTS),
    ("prompts: other columns", |f| rows(f, |r| r.replace("distractor", "other")), PROMPTS),
    (
        "prompts: ids of a tokenizer",
        |f| rows(f, |r| r.replace("correct,distractor", "correct_idx,incorrect_idx")),
        PROMPTS,
    ),
    ("prompts: not UTF-8", |f| write(f, "prompts.csv", [ROWS.as_bytes(), b"\xff,,a,b\n"].concat()), PROMPTS),
    ("prompts: a NUL byte", |f| rows(f, |r| r.replace("On Monday", "On\0Monday")), PROMPTS),
    (
        "prompts: a comma without quotation marks",
        |f| rows(f, |r| r.replace("Kate talked", "Later, Kate talked")),
        PROMPTS,
    ),
    ("prompts: no answer", |f| rows(f, |r| r.replace(",Paul,Kate", ",,Kate")), PROMPTS),
    (
        "prompts: one prompt with two answers",
        |f| rows(f, |r| r.to_owned() + "On Monday Paul met Kate. Kate talked to,,Paul,Mary\n"),
        PROMPTS,
    ),
    (
        "prompts: one row",
        |f| rows(f, |r| r.lines().take(2).map(|line| line.to_owned() + "\n").collect()),
        PROMPTS,
    ),
    (
        "prompts: answers of several tokens",
        |f| {
            rows(f, |r| r.replace(",Paul,Kate", ",Paulina,Katerina").replace(",Mary,John", ",Marylou,Johnny"))
        },
        PROMPTS,
    ),
    (
        "prompts: longer than the model reads",
        |f| rows(f, |r| r.replace("On Monday", &"On Monday ".repeat(200))),
        PROMPTS,
    ),
    ("prompts: nothing to resample with", |f| rows(f, |r| r.replace("corrupted", "note")), RESAMPLE),
    ("prompts: nothing to trace with", |f| rows(f, |r| r.replace("corrupted", "note")), TRACE),
    (
        "prompts: corrupted ones of other lengths",
        |f| rows(f, |r| r.replace("Kate. Paul talked", "Kate. Then Paul talked")),
        RESAMPLE,
    ),
    (
        "prompts: no published form",
        |f| rows(f, str::to_owned),
        &["scan", "--models", "mini-gpt2-m", "--task", "prompts.csv", "--protocol", "published"],
    ),
    ("prompts: another kind of file", nothing, &["scan", "--models", "model", "--task", "prompts.json"]),
    (
        "prompts: a built-in task's name",
        |f| write(f, "ioi.csv", ROWS),
        &["scan", "--models", "mini-gpt2-m", "--task", "ioi.csv"],
    ),
    (
        "task: words that a tokenizer does not know",
        nothing,
        &["scan", "--models", "mini-gpt2-m", "--task", "greater-than"],
    ),
    // A study's file
    ("study: no such file", nothing, STUDY),
    ("study: no TOML", |f| write(f, "study.toml", "seed = "), STUDY),
    ("study: an unknown field", |f| write(f, "study.toml", "seed = 2\nseeds = 3"), STUDY),
    ("study: a number as text", |f| write(f, "study.toml", "prompts = \"many\""), STUDY),
    ("study: an unknown protocol", |f| write(f, "study.toml", "protocol = \"mine\""), STUDY),
    ("study: a negative threshold", |f| write(f, "study.toml", "tau = -1.0"), STUDY),
    // Tables
    ("joint: no such file", nothing, ANALYZE),
    ("joint: empty", |f| write(f, "joint.csv", ""), ANALYZE),
    ("joint: no rows", |f| write(f, "joint.csv", JOINT.lines().next().unwrap()), ANALYZE),
    ("joint: a column missing", |f| write(f, "joint.csv", JOINT.replace(",delta_anti", ",anti")), ANALYZE),
    ("joint: text for a number", |f| write(f, "joint.csv", JOINT.replace("0.3", "lots")), ANALYZE),
    ("joint: infinite", |f| write(f, "joint.csv", JOINT.replace("0.3", "inf")), ANALYZE),
    ("joint: a head twice", |f| write(f, "joint.csv", JOINT.replace("0,1,0.3", "0,0,0.3")), ANALYZE),
    ("joint: a negative layer", |f| write(f, "joint.csv", JOINT.replace("gpt2,0,1", "gpt2,-1,1")), ANALYZE),
    ("joint: a short row", |f| write(f, "joint.csv", format!("{JOINT}gpt2,gpt2,1\n")), ANALYZE),
    ("joint: binary", |f| write(f, "joint.csv", [0u8, 0xff, 0x80, b'\n']), ANALYZE),
    ("compare: a folder without a table", nothing, &["compare", "model", "model"]),
    ("joint: no scans", nothing, &["joint", "--out", "nowhere"]),
    (
        "joint: a scan that is no JSON",
        |f| {
            fs::create_dir_all(f.join("s/results")).unwrap();
            write(f, "s/results/copy_suppression_logitdiff_scan_x.json", "{\"model_name\": ");
        },
        &["joint", "--out", "s"],
    ),
    // Options
    ("options: no prompts", nothing, &["run", "--models", "model", "--prompts", "0"]),
    ("options: an unknown ablation", nothing, &["run", "--ablation", "knockout"]),
    ("options: unknown reference prompts", nothing, &["run", "--reference", "abd"]),
    (
        "options: too few prompts for a mean over the others",
        nothing,
        &["run", "--models", "model", "--prompts", "20", "--ablation", "mean", "--reference", "same"],
    ),
    ("options: memory in words", nothing, &["run", "--memory", "lots"]),
    (
        "options: too little memory",
        nothing,
        &["run", "--models", "model", "--prompts", "40", "--memory", "1K"],
    ),
    (
        "options: a folder that cannot be made",
        |f| write(f, "file", "x"),
        &["run", "--models", "model", "--out", "file/study"],
    ),
    (
        "options: a pair without a colon",
        |f| write(f, "joint.csv", JOINT),
        &["analyze", "joint.csv", "--pairs", "gpt2"],
    ),
    (
        "options: pairs with a model that is not there",
        |f| write(f, "joint.csv", JOINT),
        &["analyze", "joint.csv", "--pairs", "gpt2:gpt2-xl"],
    ),
];

/// More words than any bundled model has positions.
const LONG: &str = include_str!("bad_inputs/long_prompt.txt");

/// A model of 8.6 TB as float32, in a sparse file: every size in its config is allowed. (Hashing or reading the file would
/// take an hour.)
fn larger_than_memory(folder: &Path) {
    const D_MLP: u64 = 1 << 24;
    const N_LAYERS: usize = 1000;
    config(folder, "n_inner", json!(D_MLP));
    config(folder, "n_layer", json!(N_LAYERS));
    weights(folder, |header, data| {
        data.clear();
        let tensors = header.as_object_mut().unwrap();
        let first = "transformer.h.0.";
        tensors.retain(|name, _| !name.starts_with("transformer.h.") || name.starts_with(first));
        let layer: Vec<_> = tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix(first)?, t))).collect();
        let copies = (1..N_LAYERS).flat_map(|i| {
            layer.iter().map(move |&(name, tensor)| (format!("transformer.h.{i}.{name}"), tensor.clone()))
        });
        let copies: Vec<(String, Value)> = copies.collect();
        tensors.extend(copies);
        let mut end = 0;
        for (name, tensor) in tensors.iter_mut().filter(|(name, _)| *name != "__metadata__") {
            let axis = if name.ends_with("mlp.c_fc.weight") { 1 } else { 0 };
            if name.ends_with("mlp.c_proj.weight") || name.contains("mlp.c_fc") {
                tensor["shape"][axis] = json!(D_MLP);
            }
            let sizes = tensor["shape"].as_array().unwrap();
            let start = end;
            end += 2 * sizes.iter().map(|n| n.as_u64().unwrap()).product::<u64>();
            tensor["data_offsets"] = json!([start, end]);
        }
    });
    let path = folder.join("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..]).unwrap();
    let ends = header.as_object().unwrap().values().filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    let length = bytes.len() as u64 + ends.max().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
}

/// The program's output and exit code, without numbers that depend on this machine.
fn tried((name, make, args): &Case) -> String {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    make(folder.path());
    let output = program(args, folder.path());
    let error = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code();
    assert!(matches!(code, Some(1 | 2)), "{name}: {:?}\n{error}", output.status);
    assert!(!error.contains("panicked"), "{name}: {error}");
    assert!(output.stdout.is_empty(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
    // A stage reports its start before it fails; of clap's messages, the first line is enough.
    let lines: Vec<&str> = error
        .lines()
        .filter(|line| line.starts_with("circuit-scaling: ") || line.starts_with("error: "))
        .collect();
    assert_eq!(lines.len(), 1, "{name}: {error}");
    let mut line = lines[0].to_owned();
    if let (Some(from), Some(to)) = (line.find(" of memory, but only "), line.find(" are free")) {
        line.replace_range(from + " of memory, but only ".len()..to, "N");
    }
    // Each thread needs its own scratch memory.
    if let (Some(from), Some(to)) = (line.find(": "), line.find(" bytes of working memory are needed"))
        && let Some(number) = line[from + 2..to].find(": ")
    {
        line.replace_range(from + 2 + number + 2..to, "N");
    }
    let shown: Vec<&str> = args.iter().map(|arg| if arg.len() > 80 { "LONG" } else { arg }).collect();
    format!("# {name}\n$ circuit-scaling {}\n{line}\n\n", shown.join(" "))
}

#[test]
fn a_model_larger_than_memory_is_rejected_before_another_is_scanned() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    larger_than_memory(folder.path());
    let output = program(AFTER, folder.path());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("takes 8062.6 GiB of memory"), "{error}");
    let study = files(&folder.path().join("circuit-scaling-study"));
    let written: Vec<_> = study.keys().filter(|path| path.starts_with("results")).collect();
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn messages_are_as_expected() {
    let mut shown = String::new();
    let mut wrong = Vec::new();
    for case in CASES {
        match std::panic::catch_unwind(|| tried(case)) {
            Ok(lines) => shown += &lines,
            Err(_) => wrong.push(case.0),
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(CASES.len() >= 40);
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_inputs/expected.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &shown).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    for (found, expected) in shown.split("\n\n").zip(expected.split("\n\n")) {
        assert_eq!(found, expected);
    }
    assert_eq!(shown, expected);
}
