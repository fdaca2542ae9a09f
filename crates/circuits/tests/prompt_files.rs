//! Prompt files: what is read, what is rejected, and how rows are used.

mod support;

use std::collections::BTreeSet;
use std::time::Instant;

use cs_circuits::prompts::{
    HoldOut, PromptOptions, PromptSet, Protocol, Reference, Split, Tokenize, TokenizedPrompts,
};
use cs_circuits::task::{EXAMPLES, Row, RowTask, Task};
use support::Words;

const GOOD: &str = "clean,corrupted,correct,distractor\n\
                    The sky is,The grass is,blue,green\n\
                    The grass is,The sky is,green,blue\n\
                    The snow is,The coal is,white,black\n\
                    The coal is,The snow is,black,white\n";

fn read(text: impl AsRef<[u8]>, file: &str) -> Result<RowTask, String> {
    RowTask::from_bytes(text.as_ref(), file).map_err(|error| error.to_string())
}

fn rows(text: impl AsRef<[u8]>) -> Vec<Row> {
    read(text, "p.csv").unwrap().rows
}

/// Expects one line that names the file and has all of `parts`.
fn refused(text: impl AsRef<[u8]>, file: &str, parts: &[&str]) {
    let error = read(text, file).unwrap_err();
    assert!(error.starts_with(file) && !error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

fn resolve(text: &str, options: &PromptOptions, tokenizer: &Words) -> Result<PromptSet, String> {
    let task = Task::Rows(read(text, "p.csv")?);
    PromptSet::resolve(&task, options, &[tokenizer]).map_err(|error| error.to_string())
}

fn tokens(text: &str, tokenizer: &Words) -> TokenizedPrompts {
    resolve(text, &PromptOptions::default(), tokenizer).unwrap().tokenize(tokenizer).unwrap()
}

/// `n` rows of two groups.
fn many(n: usize) -> String {
    let row = |i| format!("The w{i} is,The v{i} is,a{},b{},g{}\n", i % 7, i % 5, i % 2);
    format!("clean,corrupted,correct,distractor,group\n{}", (0..n).map(row).collect::<String>())
}

#[test]
fn the_example_is_read_and_drawn() {
    let (.., text) = EXAMPLES[2];
    let task = read(text, "prompts.csv").unwrap();
    assert_eq!((task.name.as_str(), task.n_rows, task.unused_columns.len()), ("prompts", 12, 0));
    let words = Words::new("words");
    let set = PromptSet::resolve(&Task::Rows(task), &PromptOptions::default(), &[&words]).unwrap();
    let tokens = set.tokenize(&words).unwrap();
    assert_eq!(tokens.n_drawn(Split::Discovery), 6);
    assert_eq!(tokens.n_templates, 2);
    assert_eq!(tokens.tracing_pairs(Split::All).pairs.len(), 12);
    assert_eq!(set.token_roles(&words, &tokens).unwrap().len(), 12);
}

#[test]
fn forms_of_the_same_file_are_the_same_task() {
    let good = read(GOOD, "p.csv").unwrap();
    let lines: Vec<String> = good
        .rows
        .iter()
        .map(|r| {
            format!(
                r#"{{"prompt": "{}", "corrupt": "{}", "answers": [" {}"], "wrong_answers": ["{}"]}}"#,
                r.clean, r.corrupted[0], r.correct, r.distractor
            )
        })
        .collect();
    for (text, file) in [
        (GOOD.replace('\n', "\r\n"), "p.csv"),
        (format!("\u{feff}{GOOD}"), "p.csv"),
        (GOOD.replace('\n', "\n\n"), "p.csv"),
        (
            GOOD.replacen("clean,corrupted,correct,distractor", "Prompt, counterfactual ,label,Incorrect", 1),
            "p.csv",
        ),
        (GOOD.replace(",blue,green", ", blue, green"), "p.csv"),
        (GOOD.replace("The sky is", "\"The sky is\""), "p.csv"),
        (lines.join("\n"), "p.jsonl"),
        (lines.join("\r\n"), "p.jsonl"),
    ] {
        let task = read(&text, file).unwrap();
        assert_eq!(task.rows_hash, good.rows_hash, "{text}");
    }
    assert_ne!(read(GOOD.replace("sky", "sea"), "p.csv").unwrap().rows_hash, good.rows_hash);
}

#[test]
fn an_answers_space() {
    let row = |text: &str| rows(text).remove(0);
    // The same with and without a space in the file.
    for answers in ["Mary,John", " Mary, John", " Mary,John"] {
        let row = row(&format!("clean,correct,distractor\nHe gave it to,{answers}\n"));
        assert_eq!((row.correct.as_str(), row.distractor.as_str(), row.glued), ("Mary", "John", false));
    }
    // After a prompt that ends in a space, as written.
    let after = row("clean,correct,distractor\n\"He said:\n\",Mary,John\n");
    assert_eq!((after.correct.as_str(), after.glued), ("Mary", true));
    // Given in the file.
    let year = row("clean,correct,distractor,space\nfrom 1732 to 17,45,12,no\n");
    assert_eq!((year.correct.as_str(), year.glued), ("45", true));
    let head = "clean,correct,distractor,space\n";
    refused(
        format!("{head}to 17, 45,12,no\n"),
        "p.csv",
        &["line 2", "`space` says that there is none before \" 45\""],
    );
    refused(
        format!("{head}to 17,45,12,maybe\n"),
        "p.csv",
        &["line 2", "\"maybe\"", "true, false or nothing"],
    );
    // The token of the whole answer.
    let words = Words::new("words");
    let text = "clean,correct,distractor,space\nto (,ab,cd,no\nso (,cd,ab,no\nat,ab,cd,\non,cd,ab,yes\n";
    let tokens = tokens(text, &words);
    for prompt in &tokens.prompts {
        let space = if prompt.text.ends_with('(') { "" } else { " " };
        assert_eq!(words.decode(&[prompt.correct_id]).unwrap(), format!("{space}{}", prompt.correct));
    }
    assert_eq!(tokens.candidates.len(), 4, "with and without a space: {:?}", tokens.candidates);
}

#[test]
fn files_that_are_not_prompt_files() {
    refused("", "p.csv", &["is empty", "circuit-scaling task --example"]);
    refused(" \n\n", "p.jsonl", &["is empty"]);
    refused("clean,correct,distractor\n", "p.csv", &["no row"]);
    refused(
        "a,b\n1,2\n",
        "p.csv",
        &["no column `clean`, `correct`, `distractor`", "`a`, `b`", "separated by commas"],
    );
    refused("clean;correct;distractor\nA;b;c\n", "p.csv", &["semicolons", "commas"]);
    refused("clean\tcorrect\tdistractor\nA\tb\tc\n", "p.csv", &["tabs", "commas"]);
    refused(
        "clean,corrupted,correct_idx,incorrect_idx\nA,B,12,13\n",
        "ioi_eap.csv",
        &["`correct_idx` holds numbers of one tokenizer", "`correct` and `distractor`"],
    );
    refused(
        "clean,prompt,correct,distractor\nA,B,c,d\n",
        "p.csv",
        &["`clean` and `prompt` both mean `clean`"],
    );
    refused(&b"clean,correct,distractor\nA,b,c\nB\xff,b,c\n"[..], "p.csv", &["line 3", "not UTF-8"]);
    refused("clean,correct,distractor\nA,b,c\nB\0,b,c\n", "p.csv", &["line 3", "NUL"]);
    refused(
        "{\"clean\": \"A\\u0000\", \"correct\": \"b\", \"distractor\": \"c\"}\n",
        "p.jsonl",
        &["line 1", "NUL"],
    );
    refused("[1]\n", "p.jsonl", &["line 1", "not a JSON object"]);
    refused(GOOD, "1st.csv", &["\"1st\"", "rename the file"]);
    refused(GOOD, "ioi.csv", &["\"ioi\" belong to something else", "rename the file"]);
    assert_eq!(read(GOOD, "some/My-file 2.CSV").unwrap().name, "my_file_2");
    for (name, part) in [("p.json", "unknown task"), ("p.tsv", ".csv or .jsonl")] {
        let error = Task::load(name).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_broken_row_is_named_by_its_line() {
    let with = |row: &str| {
        format!("clean,corrupted,correct,distractor,group,split,weight\nA,B,c,d,g,,\n\n{row}\nX,Y,c,d,g,,\n")
    };
    for (row, parts) in [
        (",B,c,d,g,,", ["line 4", "no `clean`"]),
        ("C,B,,d,g,,", ["line 4", "no `correct`"]),
        ("C,B,c,,g,,", ["line 4", "no `distractor`"]),
        ("C,B,c,d,,,", ["line 4", "no `group`"]),
        ("C,B,c,d", ["line 4", "has 4 values"]),
        ("C,B,c,d,g,,,9", ["line 4", "has 8 values"]),
        ("C,B,c, c,g,,", ["line 4", "both \"c\""]),
        ("C,B,c,\" \",g,,", ["line 4", "\" \" is empty"]),
        ("C,B,\"c \",d,g,,", ["line 4", "ends in space"]),
        ("C,C,c,d,g,,", ["line 4", "`corrupted` is the prompt itself"]),
        ("C,B,c,d,g,dev,", ["line 4", "unknown split \"dev\""]),
        ("C,B,c,d,g,,0", ["line 4", "`weight`"]),
        ("C,B,c,d,g,,1.5", ["line 4", "`weight`"]),
        ("A,B,c,e,g,,", ["line 4", "the prompt of line 2 with other answers"]),
        ("A,B,c,d,h,,", ["line 4", "the prompt of line 2 of another group"]),
        ("A,B,c,d,g,test,", ["line 4", "the prompt of line 2 in another split"]),
    ] {
        refused(with(row), "p.csv", &parts);
    }
    let line = r#"{"clean": "A", "correct": "b", "distractor": "c"}"#;
    refused(format!("{line}\n{{\"clean\": \"B\""), "p.jsonl", &["line 2", "not a JSON object"]);
    refused(
        format!("{line}\n{}", line.replace("\"b\"", "[\"b\", \"d\"]")),
        "p.jsonl",
        &["line 2", "list of 2"],
    );
    refused(format!("{line}\n{}", line.replace("\"b\"", "null")), "p.jsonl", &["line 2", "no `correct`"]);
}

#[test]
fn equal_rows_are_one_prompt_with_a_weight() {
    let text = "clean,corrupted,correct,distractor,weight\nA,B,c,d,2\nE,F,c,d,\nA,G,c,d,3\nA,B,c,d,\n";
    let rows = rows(text);
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].weight, &rows[0].corrupted[..]), (6, &["B".to_owned(), "G".to_owned()][..]));
    let set = resolve(text, &PromptOptions::default(), &Words::new("words")).unwrap();
    assert_eq!((set.n_prompts, set.prompts.len()), (7, 2));
    let over = "clean,correct,distractor,weight\nA,c,d,4294967295\nA,c,d,1\n";
    refused(over, "p.csv", &["line 3", "above 4,294,967,295"]);
}

#[test]
fn splits_are_balanced_within_groups_unless_the_file_says_so() {
    let words = Words::new("words");
    let count = |set: &PromptSet, split, group: &str| {
        set.prompts.iter().filter(|p| p.split == split && p.template == group).count()
    };
    let set = resolve(&many(40), &PromptOptions::default(), &words).unwrap();
    for (split, group) in [(Split::Discovery, "g0"), (Split::Discovery, "g1"), (Split::HeldOut, "g0")] {
        assert_eq!(count(&set, split, group), 10);
    }
    let seed = |seed| {
        resolve(&many(40), &PromptOptions { seed, ..PromptOptions::default() }, &words).unwrap().prompts
    };
    assert_eq!(seed(3), seed(3));
    assert_ne!(seed(3), seed(4));
    // Whole groups.
    let hold_out = PromptOptions { hold_out: HoldOut::Templates, ..PromptOptions::default() };
    let set = resolve(&many(40), &hold_out, &words).unwrap();
    assert_eq!(count(&set, Split::Discovery, "g0") % 20 + count(&set, Split::Discovery, "g1") % 20, 0);
    assert!(resolve(GOOD, &hold_out, &words).unwrap_err().contains("at least 2 templates"));
    // Fewer prompts than rows, still balanced over groups.
    let few = PromptOptions { n_prompts: Some(9), ..PromptOptions::default() };
    let set = resolve(&many(40), &few, &words).unwrap();
    assert_eq!((set.limit, set.prompts.len()), (Some(9), 9));
    assert_eq!(set.prompts.iter().filter(|p| p.split == Split::Discovery).count(), 5);
    assert!((2..=3).contains(&count(&set, Split::Discovery, "g0")));
    let all = resolve(&many(40), &PromptOptions { n_prompts: Some(100), ..few.clone() }, &words).unwrap();
    assert_eq!((all.limit, all.prompts.len()), (None, 40));
    // As given.
    let given = GOOD.replace("distractor\n", "distractor,split\n").replace(",green\n", ",green,test\n");
    let given = given
        .replace("green,blue\n", "green,blue,train\n")
        .replace("black\n", "black,\n")
        .replace("black,white\n", "black,white,\n");
    let set = resolve(&given, &PromptOptions::default(), &words).unwrap();
    let of = |text: &str| set.prompts.iter().find(|p| p.text == text).unwrap().split;
    assert_eq!((of("The sky is"), of("The grass is")), (Split::HeldOut, Split::Discovery));
    let one_sided = "clean,correct,distractor,split\nA,c,d,train\nB,c,d,train\n";
    let error = resolve(one_sided, &PromptOptions::default(), &words).unwrap_err();
    assert!(error.contains("in the split held_out"), "{error}");
}

#[test]
fn rows_that_a_tokenizer_refuses_are_named_and_too_few_is_an_error() {
    // All four rows have one of these two words.
    let error = resolve(GOOD, &PromptOptions::default(), &Words::splitting("strict", &["white", "blue"]))
        .unwrap_err();
    assert!(error.contains("0 of 4 prompts can be used: strict refuses 4"), "{error}");
    assert!(error.contains("in line 2 ' blue' is split into ' blu', 'e'"), "{error}");
    assert!(error.contains("must be one token in every compared tokenizer"), "{error}");
    let strict = Words::splitting("strict", &["a6"]);
    let set = resolve(&many(40), &PromptOptions::default(), &strict).unwrap();
    let refused: BTreeSet<&str> = set.refused.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(refused.len(), 5, "{refused:?}");
    assert!(refused.contains("line 8"), "{refused:?}");
    assert!(set.refused[0].reason.contains("is split into"), "{:?}", set.refused[0]);
    assert_eq!(set.prompts.len(), 35);
    for text in ["clean,correct,distractor\nA,c,d\n", "clean,correct,distractor\nA,c,d\nA,c,d\n"] {
        let error = resolve(text, &PromptOptions::default(), &Words::new("words")).unwrap_err();
        assert!(error.contains("1 of 1 prompt can be used") && error.contains("at least 2"), "{error}");
    }
    let published = PromptOptions { protocol: Protocol::Published, ..PromptOptions::default() };
    let error = resolve(GOOD, &published, &Words::new("words")).unwrap_err();
    assert!(error.contains("no published form") && error.contains("--protocol standard"), "{error}");
}

#[test]
fn corrupted_prompts_serve_as_references_and_tracing_pairs() {
    let words = Words::new("words");
    let good = tokens(GOOD, &words);
    good.require_means(Split::All, Reference::Abc).unwrap();
    good.require_resample(Split::All, Reference::Abc).unwrap();
    for prompt in &good.prompts {
        assert_eq!(prompt.resampled(Reference::Abc), prompt.corrupted_token_ids.as_deref());
    }
    let pairs = good.tracing_pairs(Split::All);
    assert_eq!((pairs.pairs.len(), pairs.left_out.len()), (4, 0));
    // One with another length is left out, and counted.
    let uneven = tokens(&GOOD.replace("The sky is,The grass is", "The sky is,The wet grass is"), &words);
    let pairs = uneven.tracing_pairs(Split::All);
    assert_eq!((pairs.pairs.len(), &pairs.left_out[..]), (3, &["The sky is".to_owned()][..]));
    let error = uneven.require_resample(Split::All, Reference::Abc).unwrap_err().to_string();
    assert!(error.contains("1 of 4 prompts") && error.contains("no `corrupted` is as long"), "{error}");
    // None at all.
    let without: String =
        GOOD.lines().map(|l| format!("{}\n", l.replacen(l.split(',').nth(1).unwrap(), "", 1))).collect();
    let without = without.replacen("clean,,", "clean,corrupted,", 1);
    let without = tokens(&without, &words);
    for error in [
        without.require_resample(Split::All, Reference::Abc).unwrap_err().to_string(),
        without.require_means(Split::All, Reference::Abc).unwrap_err().to_string(),
    ] {
        assert!(error.contains("4 of 4 prompts") && error.contains("`corrupted`"), "{error}");
    }
    assert!(without.tracing_pairs(Split::All).pairs.is_empty());
    // Other prompts of the task need none.
    let many = tokens(&many(40), &words);
    many.require_means(Split::All, Reference::Same).unwrap();
    many.require_resample(Split::All, Reference::Same).unwrap();
    for prompt in &many.prompts {
        assert_ne!(prompt.resampled(Reference::Same), Some(&prompt.token_ids[..]));
    }
}

#[test]
fn a_prompt_longer_than_the_model_reads_is_named() {
    let tokens = tokens(
        &GOOD.replace("The coal is,", &format!("{}is,", "The coal ".repeat(30))),
        &Words::new("words"),
    );
    let longest = tokens.prompts.iter().map(|p| p.token_ids.len()).max().unwrap();
    tokens.require_fit(longest).unwrap();
    let error = tokens.require_fit(longest - 1).unwrap_err().to_string();
    assert!(
        error.contains("\"The coal The coal") && error.contains("reads at most 61: shorten it"),
        "{error}"
    );
}

#[test]
fn a_record_needs_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::new("words");
    let task = Task::Rows(read(many(40), "mine.csv").unwrap());
    for n_prompts in [None, Some(10)] {
        let folder = folder.path().join(format!("{n_prompts:?}"));
        let options = PromptOptions { n_prompts, ..PromptOptions::default() };
        let set = PromptSet::load_or_resolve(&folder, &task, &options, &[&words]).unwrap();
        let recorded = PromptSet::load(&PromptSet::path(&folder, "mine")).unwrap();
        assert_eq!((&recorded.prompts, recorded.task.hash()), (&set.prompts, task.hash()));
        let other = Words::new("other");
        let again =
            PromptSet::load_or_resolve(&folder, &recorded.task, &recorded.options(), &[&words, &other])
                .unwrap();
        assert_eq!((again.prompts, again.tokenizers.len()), (set.prompts, 2));
        let asked = PromptOptions { n_prompts: Some(12), ..options.clone() };
        let error = PromptSet::load_or_resolve(&folder, &task, &asked, &[&words]).unwrap_err().to_string();
        assert!(error.contains("12 is requested now"), "{error}");
        let changed = Task::Rows(read(many(41), "mine.csv").unwrap());
        let error =
            PromptSet::load_or_resolve(&folder, &changed, &options, &[&words]).unwrap_err().to_string();
        assert!(error.contains("task hash"), "{error}");
    }
}

#[test]
fn a_hundred_thousand_rows_are_read_in_a_second() {
    let row = |i| {
        format!("\"When the {i}th guest came in, everybody knew that it was\",The {i},red,blue,g{}\n", i % 9)
    };
    let text: String = (0..100_000).map(row).collect();
    let text = format!("clean,corrupted,correct,distractor,group\n{text}");
    let start = Instant::now();
    assert_eq!(rows(&text).len(), 100_000);
    let seconds = start.elapsed().as_secs_f64();
    println!("100,000 rows, {} bytes: {seconds:.2} s", text.len());
    // Far more than the one second of an idle machine, so that the test passes on a busy one.
    assert!(seconds < 20.0, "{seconds}");
}
