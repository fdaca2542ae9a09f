//! What the program says: nouns agree with their numbers, there is one kind of apostrophe, and no phrase that readers stumbled over.

mod common;

use std::fs;

use common::{files, program, succeeds};

/// Nouns that follow numbers.
const NOUNS: [&str; 39] = [
    "prompts",
    "tokens",
    "models",
    "heads",
    "figures",
    "notes",
    "tables",
    "parts",
    "rows",
    "words",
    "sets",
    "names",
    "templates",
    "layers",
    "pairs",
    "families",
    "tasks",
    "columns",
    "groups",
    "draws",
    "sizes",
    "machines",
    "lines",
    "files",
    "scans",
    "answers",
    "cards",
    "threads",
    "bytes",
    "tokenizers",
    "tensors",
    "shards",
    "roles",
    "values",
    "laws",
    "seconds",
    "categories",
    "contrasts",
    "heroes",
];

/// Occurrences of `1 heads` and the like: `1`, words without a number, then a plural.
fn disagreements(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let trimmed = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let is_wrong = |pair: &&[&str]| {
        let one = pair[0].trim_start_matches(['(', '[', '*', '_', '"']);
        one == "1" && !pair[1].starts_with(['-', '(']) && NOUNS.contains(&trimmed(pair[1]).as_str())
    };
    words.windows(2).filter(is_wrong).map(|pair| pair.join(" ")).collect()
}

/// Phrases that are not plain English or say nothing, each with a reason to be looked for: it once stood somewhere.
const STUMBLES: [&str; 23] = [
    "that is none",
    "that are none",
    "which is none",
    "that are no ",
    "are no law",
    "is no threshold",
    "0 heroes",
    "of which 0",
    "in 0 all",
    "0 of 0",
    "the up to",
    "a little apart sideways",
    "owes nothing",
    "as busy as",
    "lay then",
    "mend it",
    "to mend",
    "copy suppression task",
    "subject 0",
    "undefined",
    "none is not",
    "some(",
    "’",
];

/// The lines in which such a phrase stands.
fn stumbles(text: &str) -> Vec<String> {
    let has_one = |line: &&str| STUMBLES.iter().any(|phrase| line.to_lowercase().contains(phrase));
    text.lines().filter(has_one).map(str::to_owned).collect()
}

/// What the program says of itself and of whatever can be wrong.
#[test]
fn help_and_errors_are_in_plain_words() {
    assert_eq!(stumbles("The up to 5 strongest heads\nall is well"), ["The up to 5 strongest heads"]);
    let dir = tempfile::tempdir().unwrap();
    let (pages, _) = succeeds(&["man", "--out", "man"], dir.path());
    let mut said = pages + &succeeds(&["tables"], dir.path()).0 + include_str!("bad_inputs/expected.txt");
    let manual = files(&dir.path().join("man"));
    assert!(manual.len() > 20, "{} pages", manual.len());
    for page in manual.values() {
        // Roff writes an apostrophe as \\[aq] or \\*(Aq, and a hyphen as \\-; a page's first line has its section, 1.
        let text = String::from_utf8_lossy(page);
        let lines = text.lines().filter(|line| !line.starts_with(".TH "));
        let plain = lines.collect::<Vec<_>>().join("\n");
        said += &plain.replace("\\[aq]", "'").replace("\\*(Aq", "'").replace("\\-", "-");
    }
    let wrong = [stumbles(&said), disagreements(&said)].concat();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_a_small_study_says_is_in_plain_words() {
    assert_eq!(disagreements("21 heads, 1 head, (1 heads of 1 models)."), ["(1 heads", "1 models)."]);
    let dir = tempfile::tempdir().unwrap();
    let task = "name = \"one\"\n[words]\nw = [\"a\"]\n[[templates]]\ntext = \"{w}\"\n";
    fs::write(dir.path().join("one.toml"), task).unwrap();
    fs::write(
        dir.path().join("one.csv"),
        "clean,corrupted,correct,distractor\nAlice met,Bob met, Bob, Alice\n",
    )
    .unwrap();
    let joint = "family,model,layer,head,delta_ioi,delta_anti\ngpt2,one,0,0,0.5,0.1\n";
    fs::write(dir.path().join("joint.csv"), joint).unwrap();
    let few = ["--models", "mini-gpt2-s", "--effort", "quick", "--prompts", "24", "--random-sets", "4"];
    let run = |args: &[&str]| {
        let output = program(args, dir.path());
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    };
    let mut said = run(&[&["run", "-v", "--out", "study"], &few[..]].concat());
    for line in [
        "joint --out study",
        "heroes --out study",
        "plot --out study",
        "notes --out study",
        "parts --parts 1 --models mini-gpt2-s --prompts 24 --out parts",
        "status --out parts",
        "part 1 --out parts",
        "gather --out parts",
        "parts --parts 1 --dry-run --models mini-gpt2-s --prompts 24",
        "scan -v --models mini-gpt2-s --task ioi --heads L0H0 --prompts 2 --out few",
        "scan -v --models mini-gpt2-s --task one.toml",
        "scan -v --models mini-gpt2-s --task one.csv",
        "scan -v --models mini-gpt2-s --task ioi --prompts 1",
        "plan --models mini-gpt2-s --prompts 24",
        "predict mini-gpt2-s a",
        "inspect mini-gpt2-s",
        "models",
        "analyze joint.csv --out audit",
        "compare joint.csv joint.csv --out compared",
    ] {
        said += &format!("\n# {line}\n{}", run(&line.split(' ').collect::<Vec<_>>()));
    }
    let wrong = [stumbles(&said), disagreements(&said)].concat();
    assert!(wrong.is_empty(), "{wrong:#?} in\n{said}");
    for (path, bytes) in files(dir.path()) {
        if path.extension().is_some_and(|e| e == "md" || e == "csv" || e == "svg") {
            let text = String::from_utf8_lossy(&bytes);
            let wrong = [stumbles(&text), disagreements(&text)].concat();
            assert!(wrong.is_empty(), "{wrong:#?} in {}", path.display());
        }
    }
}
