//! Task files: the built-in ones, the printed example, and every kind of error.

use cs_circuits::task::{CorrectRule, EXAMPLES, NameTask, Orders, Task};

/// The example of a name task that the program prints, without its leading comment.
fn example() -> String {
    let text = EXAMPLES[0].2;
    text[text.find("name = ").expect("a name")..].to_owned()
}

fn name_task(name_or_text: &str) -> NameTask {
    let task = Task::load(name_or_text).or_else(|_| Task::from_toml(name_or_text, "t.toml")).unwrap();
    task.names().unwrap().clone()
}

#[test]
fn the_built_in_tasks_are_what_the_study_needs() {
    for (name, fewest_templates) in [("ioi", 8), ("anti-repeat", 6), ("anti_repeat", 6)] {
        let task = name_task(name);
        assert_eq!(task.name, name.replace('-', "_"));
        assert!(task.templates.len() >= fewest_templates);
        assert!(task.names.all().count() >= 60);
        assert_eq!((task.orders, task.correct), (Orders::Both, CorrectRule::Other));
    }
    let ioi = name_task("ioi").published.unwrap();
    assert_eq!((ioi.n_prompts, ioi.names.len(), ioi.orders), (200, 15, Orders::First));
    let anti = name_task("anti_repeat").published.unwrap();
    assert_eq!((anti.n_prompts, anti.names.len(), anti.orders), (400, 12, Orders::First));
    assert_eq!(anti.text.as_str(), " {first} met {second}.  {repeated} talked to");
}

#[test]
fn the_example_is_a_task() {
    let task = name_task(&example());
    assert_eq!(
        (task.name.as_str(), task.correct, task.templates.len()),
        ("recall", CorrectRule::Repeated, 2)
    );
    assert_eq!(task.names.min_usable, 20);
    assert!(task.published.is_none());
}

#[test]
fn a_task_is_loaded_from_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my-task.toml");
    std::fs::write(&path, example()).unwrap();
    let task = Task::load(path.to_str().unwrap()).unwrap();
    assert_eq!(task, Task::from_toml(&example(), "README.md").unwrap());
    let missing = Task::load(folder.path().join("none.toml").to_str().unwrap()).unwrap_err().to_string();
    assert!(missing.contains("none.toml: cannot read the task"), "{missing}");
}

#[test]
fn an_unknown_task_lists_the_known_ones() {
    let error = Task::load("iio").unwrap_err().to_string();
    let known = Task::built_in();
    assert!(known.starts_with(&["ioi", "anti_repeat"]), "{known:?}");
    assert_eq!(
        error,
        format!(
            "unknown task `iio`: the built-in tasks are {}; your own task is a file ending in .toml (templates), .csv or \
             .jsonl (prompts): `circuit-scaling task --example` prints one of each",
            known.join(", ")
        )
    );
}

#[test]
fn comments_do_not_change_the_hash_and_words_do() {
    let hash = |text: &str| Task::from_toml(text, "t.toml").unwrap().hash();
    let base = hash(&example());
    assert_eq!(base.len(), 64);
    assert_eq!(base, hash(&format!("# a comment\n{}", example())));
    assert_ne!(base, hash(&example().replace("coat", "hat")));
}

#[test]
fn the_json_form_reads_back() {
    for name in Task::built_in() {
        let task = Task::load(name).unwrap();
        let back: Task = serde_json::from_str(&serde_json::to_string(&task).unwrap()).unwrap();
        assert_eq!(task, back);
    }
}

/// Replaces `old` by `new` in the example and expects one line with all of `expected`.
fn refused(old: &str, new: &str, expected: &[&str]) {
    let example = example();
    assert!(example.contains(old), "the example lacks {old:?}");
    let error = Task::from_toml(&example.replacen(old, new, 1), "mine.toml").unwrap_err().to_string();
    assert!(error.starts_with("mine.toml"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    for part in expected {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn syntax_and_fields() {
    refused("[names]", "[names", &["line 6"]);
    refused("orders = \"both\"", "order = \"both\"", &["line 3", "unknown field `order`"]);
    refused("orders = \"both\"", "orders = \"any\"", &["line 3", "unknown variant `any`"]);
    refused("title = ", "heading = ", &["heading"]);
    refused("[names]", "[names]\nmin = 3", &["unknown field `min`"]);
    refused("correct = \"repeated\"", "correct = 3", &["line 4"]);
}

#[test]
fn lists_whose_cost_would_outgrow_their_length_are_refused() {
    let list = |n: usize| (0..n).map(|i| format!("\"Nm{i}\", ")).collect::<String>();
    refused("\"James\", ", &list(1000), &["names", "1023 entries", "at most 1000"]);
    refused("\"office\", ", &list(10_000), &["fillers", "10008 entries", "at most 10000"]);
}

#[test]
fn names_of_tasks() {
    for name in ["", "Recall", "re call", "../recall", "1st", "re-call", "x".repeat(41).as_str()] {
        refused("\"recall\"", &format!("{name:?}"), &["`name`", "file name", "lower-case"]);
    }
    for name in ["copy_suppression", "ioi_pairs"] {
        refused("\"recall\"", &format!("{name:?}"), &["`name`", "other result files"]);
    }
    refused("\"Recall of a described person\"", "\" \"", &["`title`: is empty"]);
}

#[test]
fn placeholders() {
    refused("stood {first}", "stood {frist}", &["templates[0].text", "wore_coat", "{first} is missing"]);
    refused("{place} stood", "{plaec} stood", &["unknown placeholder {plaec}", "place", "[fillers]"]);
    refused(". {repeated} wore", ". He wore", &["{repeated} is missing", "again"]);
    refused("{repeated} won", "{second} won", &["{second} occurs 2 times", "templates[1]"]);
    refused(
        "to the {place}, and {repeated} won the prize. The prize",
        "to the {place",
        &["line", "never closed"],
    );
    refused("{repeated} wore", "{first} wore {repeated}'s", &["{first} occurs 2 times"]);
    refused("{first} and {second}. ", "{second} and {first}. ", &["out of order"]);
    refused("\"At the {place} stood {first}", "\"{first}", &["there is no space before {first}"]);
    refused("{repeated} wore", "'{repeated}' wore", &["there is no space before {repeated}"]);
    refused("coat was\"", "coat was \"", &["ends in white space", "answer"]);
    refused("{repeated} wore", "{repeated}\\twore", &["tab"]);
    refused("{place} stood", "{Place} stood", &["bad placeholder {Place}"]);
    refused("{place} stood", "place} stood", &["unmatched"]);
    refused("{place} stood", "{place stood", &["bad placeholder"]);
}

#[test]
fn lists() {
    refused("[\"red\", \"blue\", \"green\", \"black\", \"white\"]", "[]", &["`fillers.colour`: is empty"]);
    refused("\"red\", ", "\"red\", \"red\", ", &["fillers.colour", "\"red\" occurs twice"]);
    refused("\"red\", ", "\"red \", ", &["fillers.colour", "space around"]);
    refused("[fillers]", "[fillers]\nday = [\"Monday\"]", &["fillers.day", "no template has {day}"]);
    refused("[fillers]", "[fillers]\nfirst = [\"one\"]", &["fillers.first", "placeholder of a name"]);
    refused("\"red\", ", "\"Kate\", ", &["fillers.colour", "\"Kate\" is one of the names"]);
    refused("Only ", "Only Kate, ", &["templates[1].text", "\"Kate\" is one of the names"]);
    refused("\"James\", ", "\"James\", \"James\", ", &["names.pool", "twice"]);
    refused("\"James\", ", "\"\", ", &["names.pool", "empty"]);
    refused(
        "[fillers]",
        "partner_pool = [\"Bob\", \"Kate\"]\n[fillers]",
        &["partner_pool", "\"Kate\" is in names.pool"],
    );
    refused(
        "[fillers]",
        "partner_pool = [\"Bob\"]\n[fillers]",
        &["partner_pool", "has 1 name, and at least 2"],
    );
    refused("[fillers]", "min_usable = 1\n[fillers]", &["names.min_usable", "1 is below 4"]);
    refused("\"won_prize\"", "\"wore_coat\"", &["templates[1].id", "earlier template"]);
    refused("\"won_prize\"", "\"won prize\"", &["templates[1].id", "short name"]);
    let second =
        "Only {first} and {second} came to the {place}, and {repeated} won the prize. The prize went to";
    let first = "At the {place} stood {first} and {second}. {repeated} wore a {colour} coat. The name on the {colour} coat was";
    refused(second, first, &["templates[1].text", "earlier template"]);
}

#[test]
fn too_few_names_and_no_templates() {
    let text = "name = \"t\"\ntitle = \"T\"\ntemplates = []\n[names]\npool = [\"A\", \"B\", \"C\"]\n";
    let error = |text: &str| Task::from_toml(text, "t.toml").unwrap_err().to_string();
    assert!(error(text).contains("`names.pool`: has 3 names, and at least 4 are needed"), "{}", error(text));
    let text = text.replace("\"C\"", "\"C\", \"D\"");
    assert!(error(&text).contains("`templates`: is empty"), "{}", error(&text));
}

#[test]
fn published_forms() {
    let with =
        |published: &str| Task::from_toml(&format!("{}\n[published]\n{published}", example()), "t.toml");
    let good =
        "text = \"So {first} met {second}. {repeated} met\"\nn_prompts = 5\nnames = [\"Al\", \"Bo\"]\n";
    assert_eq!(with(good).unwrap().names().unwrap().published.clone().unwrap().n_prompts, 5);
    for (old, new, expected) in [
        ("n_prompts = 5", "n_prompts = 0", "`published.n_prompts`: is 0"),
        ("So ", "At the {place} ", "has the filler {place}"),
        (", \"Bo\"", "", "and at least 2 are needed"),
        ("\"Bo\"", "\"So\"", "\"So\" is one of the names"),
        ("{repeated} met", "They met", "`published.text`: {repeated} is missing"),
    ] {
        let error = with(&good.replace(old, new)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}
