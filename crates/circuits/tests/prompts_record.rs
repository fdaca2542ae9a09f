//! The files of a study's prompts: contents, round trips, and rejected files.

mod support;

use std::fs;
use std::path::Path;

use cs_analysis::layout::Layout;
use cs_circuits::prompts::{
    HoldOut, PromptOptions, PromptSet, Protocol, Split, Tokenize, TokenizedPrompt, TokenizedPrompts,
    TracingPair,
};
use cs_circuits::task::Task;
use support::Words;

fn options() -> PromptOptions {
    PromptOptions { n_prompts: Some(60), seed: 11, ..PromptOptions::default() }
}

fn study(folder: &Path, options: &PromptOptions, tokenizers: &[&dyn Tokenize]) -> Result<PromptSet, String> {
    PromptSet::load_or_resolve(folder, &Task::load("ioi").unwrap(), options, tokenizers).map_err(|error| {
        let error = error.to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    })
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_record_reads_back_and_a_further_model_gets_the_same_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("results/prompts");
    let (a, b) = (Words::new("a"), Words::new("b"));
    for protocol in [Protocol::Standard, Protocol::Published] {
        let folder = folder.join(protocol.as_str());
        let options = PromptOptions { protocol, ..options() };
        let first = study(&folder, &options, &[&a]).unwrap();
        let record = fs::read(folder.join("ioi_study.json")).unwrap();
        let again = study(&folder, &options, &[&a]).unwrap();
        assert_eq!(first, again);
        assert_eq!(record, fs::read(folder.join("ioi_study.json")).unwrap());
        let more = study(&folder, &options, &[&a, &b]).unwrap();
        assert_eq!(more.prompts, first.prompts);
        let models: Vec<&str> = more.tokenizers.iter().map(|record| record.model.as_str()).collect();
        assert_eq!(models, ["a", "b"]);
        assert_eq!(more, PromptSet::load(&PromptSet::path(&folder, "ioi")).unwrap());
        assert_eq!(names_in(&folder), ["ioi_study.json"], "a temporary file was left");
    }
}

#[test]
fn a_further_model_that_breaks_the_rule_is_refused_and_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let a = Words::new("a");
    study(folder.path(), &options(), &[&a]).unwrap();
    let error = study(folder.path(), &options(), &[&a, &Words::splitting("b", &["Kate"])]).unwrap_err();
    assert!(error.contains("b: the prompt \" Kate\" breaks the one-token rule"), "{error}");
    assert!(error.contains("' Kate' is split into ' Kat', 'e'") && error.contains("new --out"), "{error}");
    assert_eq!(study(folder.path(), &options(), &[&a]).unwrap().tokenizers.len(), 1);
}

#[test]
fn another_question_than_the_recorded_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let a = Words::new("a");
    study(folder.path(), &options(), &[&a]).unwrap();
    for (asked, expected) in [
        (PromptOptions { seed: 12, ..options() }, "seed 11, but 12 is requested"),
        (PromptOptions { n_prompts: None, ..options() }, "prompts 60, but 480 is requested"),
        (PromptOptions { protocol: Protocol::Published, ..options() }, "protocol standard, but published"),
        (PromptOptions { hold_out: HoldOut::Templates, ..options() }, "held-out pairs, but templates"),
    ] {
        let error = study(folder.path(), &asked, &[&a]).unwrap_err();
        assert!(error.contains(expected) && error.contains("ioi_study.json"), "{error}");
    }
    let changed = Words { hash: "another".to_owned(), ..Words::new("a") };
    let error = study(folder.path(), &options(), &[&changed]).unwrap_err();
    assert!(error.contains("tokenizer") && error.contains("another"), "{error}");
    let mut task = support::name_task("ioi");
    task.title.push('!');
    let error =
        PromptSet::load_or_resolve(folder.path(), &task.into(), &options(), &[&a]).unwrap_err().to_string();
    assert!(error.contains("task hash"), "{error}");
}

#[test]
fn a_changed_record_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let a = Words::new("a");
    let path = study(folder.path(), &options(), &[&a]).unwrap().save(folder.path()).unwrap();
    let record = fs::read_to_string(&path).unwrap();
    let value: serde_json::Value = serde_json::from_str(&record).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = value.clone();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
        PromptSet::load(&path).unwrap_err().to_string()
    };
    for (field, expected) in [
        ("/prompts/3/text", "prompts[3]"),
        ("/prompts/0/correct", "prompts[0]"),
        ("/prompts/0/corrupted_text", "prompts[0]"),
        ("/prompts/5/resample/text", "prompts[5]"),
        ("/prompts/4/references/0/text", "prompts[4]"),
        ("/prompts/4/references/0/third", "prompts[4]"),
        ("/prompts/1/first", "prompts[1]"),
        ("/prompts/2/template", "prompts[2]"),
        ("/task_hash", "task_hash"),
        ("/task/name", "task"),
        ("/task/templates/0/id", "task"),
        ("/protocol", "unknown variant"),
    ] {
        let error = changed(&|value| *value.pointer_mut(field).unwrap() = "Something Else".into());
        assert!(error.contains("ioi_study.json") && error.contains(expected), "{field}: {error}");
    }
    for (field, expected) in [("/n_prompts", "weights sum to 60"), ("/prompts/0/weight", "61")] {
        let error = changed(&|value| *value.pointer_mut(field).unwrap() = 2.into());
        assert!(error.contains("ioi_study.json") && error.contains(expected), "{field}: {error}");
    }
    let error = changed(&|value| value["format"] = 1.into());
    assert!(error.contains("this version of the program reads 2"), "{error}");
    let error = changed(&|value| value["prompts"][1] = value["prompts"][0].clone());
    assert!(error.contains("occurs twice"), "{error}");
    let error = changed(&|value| value["prompts"][0]["split"] = "all".into());
    assert!(error.contains("prompts[0]"), "{error}");
    fs::write(&path, &record[..record.len() / 2]).unwrap();
    let error = PromptSet::load(&path).unwrap_err().to_string();
    assert!(error.contains("line ") && error.contains("remove the file"), "{error}");
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn tokens(folder: &Path, tokenizer: &Words) -> TokenizedPrompts {
    study(folder, &options(), &[tokenizer]).unwrap().tokenize(tokenizer).unwrap()
}

#[test]
fn prompt_lines_have_the_fields_in_their_order_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(folder.path(), &Words::new("a-1.b_c"));
    let path = tokens.write(&Layout::new(folder.path())).unwrap();
    assert_eq!(path.file_name().unwrap(), "ioi_a-1.b_c.jsonl");
    let lines = lines(&path);
    assert_eq!(lines.len(), tokens.prompts.len());
    for (line, prompt) in lines.iter().zip(&tokens.prompts) {
        assert_eq!(&serde_json::from_str::<TokenizedPrompt>(line).unwrap(), prompt);
        in_order(
            line,
            &["text", "token_ids", "correct", "correct_id", "distractor", "distractor_id", "weight", "split"],
        );
    }
}

#[test]
fn pair_lines_have_the_fields_in_their_order_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = tokens(folder.path(), &Words::new("a")).tracing_pairs(Split::HeldOut);
    let path = pairs.write(&Layout::new(folder.path())).unwrap();
    assert_eq!(path.file_name().unwrap(), "ioi_pairs_a.jsonl");
    let lines = lines(&path);
    assert_eq!(lines.len(), 30);
    for (line, pair) in lines.iter().zip(&pairs.pairs) {
        assert_eq!(&serde_json::from_str::<TracingPair>(line).unwrap(), pair);
        assert_eq!(pair.clean_token_ids.len(), pair.corrupted_token_ids.len());
        in_order(
            line,
            &[
                "clean_text",
                "corrupted_text",
                "clean_token_ids",
                "corrupted_token_ids",
                "correct",
                "correct_id",
                "distractor",
                "distractor_id",
                "weight",
            ],
        );
    }
}

/// The line's first fields are these.
fn in_order(line: &str, fields: &[&str]) {
    let mut at = 0;
    for field in fields {
        let key = format!("\"{field}\":");
        let found = line.find(&key).unwrap_or_else(|| panic!("{field} is missing"));
        assert!(found >= at, "{field} is out of order");
        at = found;
    }
    assert!(line.starts_with(&format!("{{\"{}\":", fields[0])));
}

#[test]
fn paths_that_cannot_be_written_and_names_that_no_file_can_have() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let tokenizer = Words::new("a");
    let error = study(&file, &options(), &[&tokenizer]).unwrap_err();
    assert!(error.contains("file: cannot create the folder"), "{error}");
    // Any folder name becomes a valid file name, as for scans.
    let layout = Layout::new(folder.path());
    for model in ["EleutherAI/pythia-70m", "../a", ".hidden", "a b", "модель", "a@v1"] {
        let mut tokens = tokens(folder.path(), &tokenizer);
        tokens.model = model.to_owned();
        let inside = folder.path().join("results/prompts");
        assert_eq!(tokens.write(&layout).unwrap().parent().unwrap(), inside, "{model}");
        assert_eq!(
            tokens.tracing_pairs(Split::All).write(&layout).unwrap().parent().unwrap(),
            inside,
            "{model}"
        );
        assert!(layout.prompts("ioi", model).is_file());
    }
}
