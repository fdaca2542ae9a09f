//! Names and tokens with tokenizers that add or change characters: which names are one token, their positions, and their
//! answer tokens.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{self, Real, ids};
use cs_analysis::attention::TokenRole;
use cs_circuits::prompts::{PromptOptions, PromptSet, Tokenize};
use cs_circuits::task::Task;
use serde_json::{Value, json};

/// Two names that are not one token in any tokenizer here.
const IN_PIECES: [&str; 2] = ["James", "Robert"];

fn task() -> Task {
    Task::load("ioi").unwrap()
}

/// A tokenizer with a token for every character, and merges that give one token for `space` plus each name
/// except two.
fn bpe(space: &str, normalizer: Value, pre_tokenizer: Value, in_vocabulary: impl Fn(&str) -> String) -> Real {
    let mut vocab: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |token: String| {
        let next = vocab.len();
        vocab.entry(token).or_insert(next);
    };
    ["<unk>", "<s>", "\u{2581}", "\u{120}"].iter().for_each(|token| add((*token).to_owned()));
    (' '..='~').for_each(|c| add(c.to_string()));
    (0..256).for_each(|byte| add(format!("<0x{byte:02X}>")));
    let mut merges: Vec<[String; 2]> = Vec::new();
    for name in support::name_task("ioi").names.all().filter(|name| !IN_PIECES.contains(name)) {
        let mut left = space.to_owned();
        for c in in_vocabulary(name).chars() {
            let pair = [left.clone(), c.to_string()];
            left.push(c);
            add(left.clone());
            if !merges.contains(&pair) {
                merges.push(pair);
            }
        }
    }
    let added = json!([{
        "id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    }]);
    // The post-processor removes spaces from spans, as GPT-NeoX's does.
    let post_processor =
        if pre_tokenizer["trim_offsets"] == true { pre_tokenizer.clone() } else { Value::Null };
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges,
        },
    });
    let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    Real { model: "made".to_owned(), inner, bos_id: 1 }
}

/// Every kind of tokenizer that adds something to a text, by what it does.
fn kinds() -> Vec<(&'static str, Real)> {
    let same = |name: &str| name.to_owned();
    let byte_level = |add: bool, trim: bool| json!({ "type": "ByteLevel", "add_prefix_space": add, "trim_offsets": trim, "use_regex": true });
    let metaspace = |scheme: &str, split: bool| json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": split });
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" });
    let prepend = json!({ "type": "Prepend", "prepend": "\u{2581}" });
    let (g, meta) = ("\u{120}", "\u{2581}");
    vec![
        ("as it is", bpe(g, Value::Null, byte_level(false, true), same)),
        ("a space first", bpe(g, Value::Null, byte_level(true, true), same)),
        ("a space first, spaces in spans", bpe(g, Value::Null, byte_level(true, false), same)),
        ("metaspace always", bpe(meta, Value::Null, metaspace("always", true), same)),
        ("metaspace first, unsplit", bpe(meta, Value::Null, metaspace("first", false), same)),
        ("metaspace never", bpe(meta, Value::Null, metaspace("never", true), same)),
        (
            "Llama 2: prepended and replaced, unsplit",
            bpe(meta, json!({ "type": "Sequence", "normalizers": [prepend, replace] }), Value::Null, same),
        ),
        ("Gemma: replaced, unsplit", bpe(meta, replace, Value::Null, same)),
        (
            "lower case",
            bpe(g, json!({ "type": "Lowercase" }), byte_level(true, true), |name: &str| name.to_lowercase()),
        ),
    ]
}

#[test]
fn names_of_one_token_are_found_whatever_a_tokenizer_puts_into_the_text() {
    for (kind, tokenizer) in kinds() {
        let set = PromptSet::resolve(&task(), &PromptOptions::default(), &[&tokenizer])
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let refused: BTreeSet<&str> = set.refused.iter().map(|refused| refused.name.as_str()).collect();
        assert_eq!(refused, BTreeSet::from(IN_PIECES), "{kind}: {:?}", set.refused);
        let tokenized = set.tokenize(&tokenizer).unwrap();
        let roles = set.token_roles(&tokenizer, &tokenized).unwrap();
        for ((prompt, tokens), roles) in set.prompts.iter().zip(&tokenized.prompts).zip(&roles) {
            // The library's own tokens, and the answer as the token of its continuation.
            assert_eq!(tokens.token_ids[1..], ids(&tokenizer, &prompt.text), "{kind}");
            for (name, id) in
                [(&prompt.correct, tokens.correct_id), (&prompt.distractor, tokens.distractor_id)]
            {
                let mut expected = tokens.token_ids[1..].to_vec();
                expected.push(id);
                assert_eq!(ids(&tokenizer, &format!("{} {name}", prompt.text)), expected, "{kind}");
            }
            // A name's position is its token's position.
            let places = |role: TokenRole| (0..roles.len()).filter(|&k| roles[k] == role).collect::<Vec<_>>();
            let repeated = places(TokenRole::Repeated);
            assert_eq!(repeated.len(), 1, "{kind}: {} {roles:?}", prompt.text);
            assert_eq!(tokens.token_ids[repeated[0]], tokens.distractor_id, "{kind}: {}", prompt.text);
            let correct = places(TokenRole::Correct);
            assert_eq!(correct.len(), 1, "{kind}: {}", prompt.text);
            assert_eq!(tokens.token_ids[correct[0]], tokens.correct_id, "{kind}: {}", prompt.text);
        }
    }
}

#[test]
fn a_name_that_starts_the_text_is_the_answers_token_only_where_a_space_is_put_first() {
    // "{first} met": no space in the text, one in what the tokenizer reads.
    let text = "James met John. John talked to";
    let by_kind: BTreeMap<&str, Vec<u32>> =
        kinds().iter().map(|(kind, tokenizer)| (*kind, ids(tokenizer, &text[10..]))).collect();
    let answer = |kind: &str, tokenizer: &Real| ids(tokenizer, "to John").last() == by_kind[kind].first();
    for (kind, tokenizer) in kinds() {
        let puts_first = !["as it is", "metaspace never", "Gemma: replaced, unsplit"].contains(&kind);
        assert_eq!(answer(kind, &tokenizer), puts_first, "{kind}");
        assert!(tokenizer.encode(text).unwrap().iter().all(|token| token.span.end <= text.len()), "{kind}");
    }
}
