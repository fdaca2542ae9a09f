//! Encoding, BOS and added tokens, on a tokenizer small enough to know by heart.

use cs_model::ModelFiles;
use cs_model::families::Bos;
use cs_model::tokenizer::{TokenizeError, Tokenizer};
use serde_json::{Value, json};

use crate::tiny::{
    GPT2, OPT, alone, folder, gpt2_json, model_config, opt_files, refused, tokenizer_json, vocab,
};

#[test]
fn both_formats_give_the_same_ids() {
    let json = folder(&[("tokenizer.json", &gpt2_json().to_string())]);
    let vocab = serde_json::Value::Object(vocab(&[], &["<|endoftext|>"])).to_string();
    let merges = crate::tiny::MERGES.join("\n");
    let two = folder(&[("vocab.json", &vocab), ("merges.txt", &merges)]);
    let a = alone(json.path(), GPT2).unwrap();
    let b = alone(two.path(), GPT2).unwrap();
    for text in ["Mary met Bob. Mary", " Mary", "", "naïve\n  😀\u{0}", "MaMaryry  ", "it's 12 o'clock"] {
        let ids = a.encode(text).unwrap();
        assert_eq!(ids, b.encode(text).unwrap(), "{text:?}");
        assert_eq!(a.decode(&ids).unwrap(), text, "nothing is lost");
        assert_eq!(a.encode_with_bos(text).unwrap(), [&[261], &ids[..]].concat());
    }
    for t in [&a, &b] {
        assert_eq!((t.bos_id(), t.vocab_size()), (Some(261), 262));
        assert_eq!(t.single_token(" Mary"), Some(259));
        assert_eq!(t.single_token("Mary"), Some(258));
        assert_eq!((t.single_token(" Bob"), t.single_token("")), (None, None));
        assert_eq!(t.token_text(259).unwrap(), " Mary");
        assert_eq!(t.token_text(262), None);
        assert_eq!(t.decode(&[259, 262]), Err(TokenizeError::UnknownId { id: 262, max_id: 261 }));
    }
}

#[test]
fn opt_has_its_own_bos() {
    let (vocab, merges) = opt_files();
    let bare = folder(&[("vocab.json", &vocab), ("merges.txt", &merges)]);
    assert_eq!(alone(bare.path(), OPT).unwrap().bos_id(), Some(2), "</s>, not <s>");
    let named = folder(&[
        ("vocab.json", &vocab),
        ("merges.txt", &merges),
        (
            "tokenizer_config.json",
            r#"{"bos_token": {"content": "</s>"}, "add_bos_token": true, "add_prefix_space": false}"#,
        ),
        ("special_tokens_map.json", r#"{"bos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"}"#),
    ]);
    let files = ModelFiles::folder(named.path()).unwrap();
    let tokenizer = Tokenizer::from_files(&files, &model_config("opt", 272, Some(2))).unwrap();
    assert_eq!(tokenizer.bos_id(), Some(2));
    // `<s>` is in the vocabulary, but not a special token.
    assert_eq!(tokenizer.encode("a</s><pad>").unwrap().len(), 3);
    assert_eq!(tokenizer.encode("<s>").unwrap().len(), 3);
}

#[test]
fn a_bos_that_the_tokenizer_adds_by_itself_is_not_doubled() {
    let mut json = tokenizer_json(&vocab(&["<s>", "<pad>", "</s>"], &[]), &["</s>"]);
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "</s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
        "special_tokens": { "</s>": { "id": "</s>", "ids": [2], "tokens": ["</s>"] } },
    });
    let dir = folder(&[("tokenizer.json", &json.to_string())]);
    let tokenizer = alone(dir.path(), OPT).unwrap();
    let mary = tokenizer.single_token(" Mary").unwrap();
    assert_eq!(tokenizer.encode(" Mary").unwrap(), [mary]);
    assert_eq!(tokenizer.encode_with_bos(" Mary").unwrap(), [2, mary]);
    assert_eq!(tokenizer.encode_with_bos("</s> Mary").unwrap(), [2, mary], "exactly one");
    assert_eq!(tokenizer.encode_with_bos("").unwrap(), [2]);
}

#[test]
fn a_bos_only_if_the_tokenizer_adds_one() {
    let bare = tokenizer_json(&vocab(&["<s>", "<pad>", "</s>"], &[]), &["<s>", "</s>"]);
    let piece = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let sequence = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let template = |single: Vec<Value>| {
        let mut json = bare.clone();
        let special = |token: &str, id: u32| json!({ "id": token, "ids": [id], "tokens": [token] });
        json["post_processor"] = json!({
            "type": "TemplateProcessing", "single": single,
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { "<s>": special("<s>", 0), "</s>": special("</s>", 2) },
        });
        json
    };
    let open = |json: &Value, config: Value| {
        let config = with_bos_token(config).to_string();
        let dir = folder(&[("tokenizer.json", &json.to_string()), ("tokenizer_config.json", &config)]);
        alone(dir.path(), Bos::AsTokenizer)
    };
    let first = template(vec![piece("<s>"), sequence.clone(), piece("</s>")]);
    let tokenizer = open(&first, json!({})).unwrap();
    assert_eq!((tokenizer.bos_id(), tokenizer.notes().len()), (Some(0), 0));
    let mary = tokenizer.single_token(" Mary").unwrap();
    assert_eq!(tokenizer.encode_with_bos(" Mary").unwrap(), [0, mary], "and no </s> after it");
    assert_eq!(tokenizer.encode_with_bos("<s> Mary").unwrap(), [0, mary], "exactly one");

    let none = open(&template(vec![sequence.clone(), piece("</s>")]), json!({})).unwrap();
    assert_eq!((none.bos_id(), none.encode_with_bos(" Mary").unwrap()), (None, vec![mary]));
    assert_eq!(none.encode_with_bos("").unwrap(), [0; 0]);
    // A declared BOS is not added before a text for that reason alone.
    assert_eq!(open(&bare, json!({})).unwrap().bos_id(), None);
    assert_eq!(open(&bare, json!({ "add_bos_token": false })).unwrap().bos_id(), None);
    assert_eq!(open(&bare, json!({ "add_bos_token": true })).unwrap().bos_id(), Some(0));

    // The two files disagree.
    let off = open(&first, json!({ "add_bos_token": false })).unwrap();
    assert_eq!(off.bos_id(), Some(0));
    assert!(
        off.notes()[0].contains("add_bos_token") && off.notes()[0].contains("puts one"),
        "{:?}",
        off.notes()
    );
    let two = template(vec![piece("<s>"), piece("</s>"), sequence]);
    refused(open(&two, json!({})), &["tokenizer.json", "puts 2 tokens before a text"]);
}

fn with_bos_token(mut config: Value) -> Value {
    config["bos_token"] = json!("<s>");
    config
}

#[test]
fn characters_that_would_be_dropped_are_rejected() {
    let mut json = gpt2_json();
    // The bytes 0x04 and 0xF1, which SmolLM2's tokenizer lacks.
    for byte in ["\u{104}", "\u{f1}"] {
        json["model"]["vocab"].as_object_mut().unwrap().remove(byte).unwrap();
    }
    let dir = folder(&[("tokenizer.json", &json.to_string())]);
    let tokenizer = alone(dir.path(), GPT2).unwrap();
    assert!(tokenizer.encode("\u{5}ñ😀\u{f0000}").is_ok());
    for (text, character) in [("a\u{4}b", '\u{4}'), ("a\u{40000}", '\u{40000}')] {
        let expected = TokenizeError::UnknownCharacter { text: text.to_owned(), character };
        assert_eq!(tokenizer.encode(text), Err(expected.clone()));
        assert_eq!(tokenizer.encode_with_spans(text), Err(expected));
    }
    json["model"]["vocab"].as_object_mut().unwrap().remove("Ċ").unwrap();
    let dir = folder(&[("tokenizer.json", &json.to_string())]);
    refused(alone(dir.path(), GPT2), &["no token for every byte", "Ċ"]);
}

#[test]
fn truncation_and_padding_settings_are_dropped() {
    let mut json = gpt2_json();
    json["truncation"] =
        json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    json["padding"] = json!({
        "strategy": { "Fixed": 9 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "!",
    });
    let dir = folder(&[("tokenizer.json", &json.to_string())]);
    let tokenizer = alone(dir.path(), GPT2).unwrap();
    assert_eq!(tokenizer.encode(" Mary Mary Mary").unwrap(), [259; 3]);
}

#[test]
fn added_tokens_are_respected() {
    let json = gpt2_json().to_string();
    let config = json!({ "added_tokens_decoder": {
        "263": { "content": "    ", "normalized": true, "special": false },
        "262": { "content": "<|tool|>", "normalized": false, "special": true },
    } });
    let dir = folder(&[("tokenizer.json", &json), ("tokenizer_config.json", &config.to_string())]);
    let tokenizer = alone(dir.path(), GPT2).unwrap();
    let space = tokenizer.single_token(" ").unwrap();
    let a = tokenizer.single_token("a").unwrap();
    assert_eq!(tokenizer.encode("a     a<|tool|>").unwrap(), [a, 263, space, a, 262]);
    assert_eq!(tokenizer.vocab_size(), 264);

    let dir = folder(&[("tokenizer.json", &json), ("added_tokens.json", r#"{"<|tool|>": 262}"#)]);
    assert_eq!(alone(dir.path(), GPT2).unwrap().encode("<|tool|>").unwrap(), [262]);

    // An impossible id.
    let dir = folder(&[("tokenizer.json", &json), ("added_tokens.json", r#"{"<|tool|>": 300}"#)]);
    refused(alone(dir.path(), GPT2), &["tokenizer.json", "has 262 as the id of \"<|tool|>\"", "300"]);

    // A padding token without a row in the model is ignored unless it is given an id.
    let dir = folder(&[("tokenizer.json", &json), ("tokenizer_config.json", r#"{"pad_token": "[PAD]"}"#)]);
    assert_eq!(alone(dir.path(), GPT2).unwrap().vocab_size(), 262);
}

#[test]
fn a_space_before_the_first_word_as_the_config_says() {
    let json = gpt2_json().to_string();
    let dir =
        folder(&[("tokenizer.json", &json), ("tokenizer_config.json", r#"{"add_prefix_space": true}"#)]);
    assert_eq!(alone(dir.path(), GPT2).unwrap().encode("Mary Mary").unwrap(), [259, 259]);
}

#[test]
fn every_source_of_the_bos() {
    let json = gpt2_json().to_string();
    let id = |files: &[(&str, &str)], bos| {
        let dir = folder(files);
        let files = ModelFiles::folder(dir.path()).unwrap();
        Tokenizer::from_files(&files, &model_config("gpt2", 300, bos)).map(|t| t.bos_id().unwrap())
    };
    let tokenizer = ("tokenizer.json", json.as_str());
    assert_eq!(id(&[tokenizer], None).unwrap(), 261);
    assert_eq!(id(&[tokenizer], Some(261)).unwrap(), 261);
    assert_eq!(id(&[tokenizer], Some(7)).unwrap(), 7, "config.json decides if nothing else does");
    assert_eq!(id(&[tokenizer], Some(290)).unwrap(), 261, "an id without a token is ignored");
    let map = ("special_tokens_map.json", r#"{"bos_token": "!"}"#);
    assert_eq!(id(&[tokenizer, map], None).unwrap(), 0);
    let config = ("tokenizer_config.json", r#"{"bos_token": {"content": "<|endoftext|>"}}"#);
    assert_eq!(
        id(&[tokenizer, map, config], None).unwrap(),
        0,
        "as in Transformers, the older file has priority"
    );
    let listed = json!({ "bos_token": "<|endoftext|>", "added_tokens_decoder": {} }).to_string();
    let listed = ("tokenizer_config.json", listed.as_str());
    assert_eq!(id(&[tokenizer, map, listed], None).unwrap(), 261, "unless the config lists the added tokens");
    let words = ["special_tokens_map.json", "\"!\"", "id 0", "config.json", "\"bos_token_id\": 261"];
    refused(id(&[tokenizer, map], Some(261)), &words);
    let unknown = ("tokenizer_config.json", r#"{"bos_token": "<bos>"}"#);
    refused(id(&[tokenizer, unknown], None), &["tokenizer_config.json", "\"<bos>\"", "does not have"]);
    refused(
        alone(folder(&[tokenizer]).path(), OPT),
        &["tokenizer.json", "no BOS", "\"</s>\"", "tokenizer_config.json"],
    );
}

#[test]
fn the_hash_is_of_the_contents() {
    let hash = |json: &serde_json::Value| {
        let dir = folder(&[("tokenizer.json", &json.to_string())]);
        alone(dir.path(), GPT2).unwrap().hash().to_owned()
    };
    let json = gpt2_json();
    assert_eq!(hash(&json), hash(&json));
    let mut reordered = json.clone();
    reordered["truncation"] =
        json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    assert_eq!(hash(&reordered), hash(&json), "what is dropped does not count");
    let mut fewer = json.clone();
    fewer["model"]["merges"].as_array_mut().unwrap().pop();
    assert_ne!(hash(&fewer), hash(&json));
}
