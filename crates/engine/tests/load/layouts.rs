//! One model in every file layout that repositories use.

use std::collections::BTreeMap;

use cs_engine::model::Model;
use cs_model::ModelFiles;
use cs_model::ModelInfo;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::ModelConfig;

use crate::checkpoint_file::{Folder, Raw, assert_names, golden, load, one_line, serialize};

const INDEX: &str = "model.safetensors.index.json";

/// Splits a checkpoint into shards and writes them with an index that `edit` may change.
fn write_sharded(folder: &Folder, n: usize, edit: impl FnOnce(&mut serde_json::Value)) -> tempfile::TempDir {
    let dir = folder.write();
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let mut weight_map = BTreeMap::new();
    for shard in 0..n {
        let file = format!("model-{:05}-of-{n:05}.safetensors", shard + 1);
        let part: BTreeMap<String, Raw> = folder
            .tensors
            .iter()
            .enumerate()
            .filter(|(i, _)| i % n == shard)
            .map(|(_, (name, raw))| (name.clone(), raw.clone()))
            .collect();
        std::fs::write(dir.path().join(&file), serialize(part.iter())).unwrap();
        weight_map.extend(part.into_keys().map(|name| (name, file.clone())));
    }
    let mut index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": weight_map });
    edit(&mut index);
    std::fs::write(dir.path().join(INDEX), index.to_string()).unwrap();
    dir
}

#[test]
fn prefixes_and_shards_change_nothing() {
    for (name, prefixes) in [
        ("gpt2-default", &["transformer.", ""][..]),
        ("neox-parallel", &["gpt_neox.", ""]),
        ("opt-prenorm", &["model.decoder.", "decoder.", "model.", ""]),
        ("neo-alternating", &["transformer.", ""]),
    ] {
        let folder = Folder::golden(name);
        let (checkpoint, weights) = folder.load().unwrap();
        for prefix in prefixes {
            let mut renamed = folder.clone();
            renamed.tensors = folder
                .tensors
                .iter()
                .map(|(name, raw)| match name.strip_prefix(prefixes[0]) {
                    Some(bare) => (format!("{prefix}{bare}"), raw.clone()),
                    None => (name.clone(), raw.clone()),
                })
                .collect();
            let (other, other_weights) = renamed.load().unwrap();
            assert_eq!(other.weight_hash(), checkpoint.weight_hash(), "{name} with {prefix:?}");
            assert_eq!(other_weights.embed, weights.embed);
        }
        for n in [1, 2, 5] {
            let (sharded, sharded_weights) = load(write_sharded(&folder, n, |_| ()).path()).unwrap();
            assert_eq!(sharded.weight_hash(), checkpoint.weight_hash(), "{name} in {n} shards");
            assert_eq!(sharded.n_params(), checkpoint.n_params());
            assert_eq!(sharded_weights.unembed(), weights.unembed());
        }
    }
}

#[test]
fn the_hash_tells_values_names_and_types_apart() {
    let folder = Folder::golden("gpt2-default");
    let hash = |folder: &Folder| folder.load().unwrap().0.weight_hash().to_owned();
    let original = hash(&folder);
    assert_eq!(original.len(), 64);

    let mut changed = folder.clone();
    changed.tensor("transformer.h.2.mlp.c_fc.bias").bytes[0] ^= 1;
    assert_ne!(hash(&changed), original, "one bit of one value");

    let mut swapped = folder.clone();
    let first = swapped.tensor("transformer.h.0.ln_1.weight").clone();
    *swapped.tensor("transformer.h.0.ln_1.weight") = swapped.tensor("transformer.h.1.ln_1.weight").clone();
    *swapped.tensor("transformer.h.1.ln_1.weight") = first;
    assert_ne!(hash(&swapped), original, "two parameters swapped");

    let mut with_mask = folder.clone();
    with_mask
        .tensors
        .insert("transformer.h.0.attn.bias".into(), Raw::f32(&[1, 1, 2, 2], [1.0, 0.0, 1.0, 1.0]));
    assert_eq!(hash(&with_mask), original, "a mask is not a parameter");
}

#[test]
fn a_tied_copy_may_be_stored_if_it_is_equal() {
    let mut folder = Folder::golden("gpt2-default");
    let before = folder.load().unwrap().0.n_params();
    let embed = folder.tensor("transformer.wte.weight").clone();
    folder.tensors.insert("lm_head.weight".into(), embed);
    assert_eq!(folder.load().unwrap().0.n_params(), before);

    folder.tensor("lm_head.weight").bytes[17] ^= 0x40;
    assert_names(
        &folder.error(),
        &["lm_head.weight", "differs from the embedding", "tie_word_embeddings", "false"],
    );

    folder.config["tie_word_embeddings"] = false.into();
    let (checkpoint, weights) = folder.load().unwrap();
    assert!(checkpoint.n_params() > before);
    assert_ne!(weights.unembed(), &weights.embed);
}

#[test]
fn broken_indices_are_refused() {
    let folder = Folder::golden("gpt2-default");
    let error = |edit: &dyn Fn(&mut serde_json::Value)| {
        let dir = write_sharded(&folder, 2, edit);
        std::fs::write(dir.path().join("notes.txt"), "no shard").unwrap();
        one_line(load(dir.path()).err().expect("this index must be refused"))
    };
    let place = |shard: &'static str| {
        move |index: &mut serde_json::Value| index["weight_map"]["transformer.wte.weight"] = shard.into()
    };
    for outside in ["../model.safetensors", "/etc/passwd", "a/../../b", "..", "C:\\x", "./x", ""] {
        assert_names(
            &error(&place(outside)),
            &[INDEX, "outside the model's folder", &format!("{outside:?}")],
        );
    }
    let missing = error(&place("model-00003-of-00002.safetensors"));
    assert_names(&missing, &["model-00003-of-00002.safetensors: no such file", "index.json lists it"]);
    assert_names(&error(&place("notes.txt")), &["notes.txt", "not a safetensors file"]);
    let elsewhere = error(&|index| {
        let map = index["weight_map"].as_object_mut().unwrap();
        map.insert("transformer.h.9.ln_1.weight".into(), "model-00001-of-00002.safetensors".into());
    });
    assert_names(&elsewhere, &[INDEX, "transformer.h.9.ln_1.weight", "which does not contain it"]);
    assert_names(&error(&|index| *index = serde_json::json!({ "weights": {} })), &[INDEX, "weight_map"]);

    let dir = write_sharded(&folder, 2, |_| ());
    let all = dir.path().join("model-00002-of-00002.safetensors");
    std::fs::write(all, folder.serialize()).unwrap();
    assert_names(&one_line(load(dir.path()).err().unwrap()), &[INDEX, "shards that both contain tensor"]);
}

#[test]
fn embedded_files_load_like_a_folder() {
    let read = |file: &str| -> &'static [u8] {
        Box::leak(std::fs::read(golden("neox-parallel").join(file)).unwrap().into_boxed_slice())
    };
    let files: &'static [(&str, &[u8])] = Box::leak(Box::new([
        ("config.json", read("config.json")),
        ("model.safetensors", read("model.safetensors")),
    ]));
    let embedded = ModelFiles::embedded("tiny", files);
    let folder = ModelFiles::folder(golden("neox-parallel")).unwrap();
    let (a, b) = (Model::load(&embedded).unwrap(), Model::load(&folder).unwrap());
    assert_eq!((a.name(), b.name()), ("tiny", "neox-parallel"));
    assert_eq!(a.weight_hash(), b.weight_hash());
    assert_eq!(a.spec(), b.spec());
    assert!(a.tokenizer().is_none());
    let truncated = Box::leak(Box::new([files[0], ("model.safetensors", &files[1].1[..1000])]));
    let error = ModelInfo::open(&ModelFiles::embedded("tiny", truncated)).err().unwrap();
    assert_names(&one_line(error), &["tiny/model.safetensors", "truncated"]);
}

#[test]
fn headers_alone_answer_what_inspect_asks() {
    let files = ModelFiles::folder(golden("gpt2-f16")).unwrap();
    let config = ModelConfig::open(&files).unwrap();
    let checkpoint = Checkpoint::open(&files, &config).unwrap();
    assert_eq!(checkpoint.dtypes(), ["F16"]);
    assert_eq!(checkpoint.weight_bytes(), 4 * checkpoint.n_params());
}

#[cfg(unix)]
#[test]
fn links_may_only_lead_into_the_folder_or_the_cache() {
    use std::os::unix::fs::symlink;

    let folder = Folder::golden("gpt2-default");
    let (good, elsewhere) = (folder.write(), tempfile::tempdir().unwrap());
    for file in ["config.json", "model.safetensors"] {
        // Python's layout of the cache.
        let repository = elsewhere.path().join(format!("models--org--{}", file.len()));
        let (blob, snapshot) = (repository.join("blobs/ab12"), repository.join("snapshots/0123"));
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::copy(good.path().join(file), &blob).unwrap();
        let dir = folder.write();
        let path = dir.path().join(file);
        let relink = |target: &std::path::Path| {
            std::fs::remove_file(&path).unwrap();
            symlink(target, &path).unwrap();
        };
        relink(&blob);
        load(dir.path()).unwrap();
        symlink("../../blobs/ab12", snapshot.join(file)).unwrap();
        let files = ModelFiles::folder(&snapshot).unwrap();
        assert!(files.read(file).unwrap().is_some());
        // A snapshot's links may lead anywhere in its cache, but not out of it.
        let anywhere = elsewhere.path().join(format!("anywhere-{file}"));
        std::fs::copy(&blob, &anywhere).unwrap();
        for (target, is_read) in [(&anywhere, true), (&good.path().join(file), false)] {
            std::fs::remove_file(snapshot.join(file)).unwrap();
            symlink(target, snapshot.join(file)).unwrap();
            assert_eq!(files.read(file).is_ok(), is_read, "{}", target.display());
        }
        // For any other folder, links into a cache are not allowed.
        relink(&anywhere);
        load(dir.path()).err().expect("a link into a cache, but not to its blobs");

        std::fs::copy(&blob, dir.path().join("inside")).unwrap();
        relink("inside".as_ref());
        load(dir.path()).unwrap();

        relink(&good.path().join(file));
        let error = one_line(load(dir.path()).err().expect("a link to another folder"));
        assert_names(&error, &[file, "is a link to", "outside the model's folder", "put the file itself"]);
    }
    // A folder that is itself a link is allowed.
    let link = elsewhere.path().join("link");
    symlink(good.path(), &link).unwrap();
    load(&link).unwrap();
}
