//! The dictionary of tables: it has every table and column of a study, and `docs/tables.md` is up to date.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{fails, succeeds};
use cs_analysis::dictionary;

#[test]
fn docs_tables_md_is_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let (said, _) = succeeds(&["tables"], dir.path());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tables.md");
    let on_disk = fs::read_to_string(path).unwrap_or_default();
    assert!(on_disk == said, "regenerate it: circuit-scaling tables > docs/tables.md");
    let (one, _) = succeeds(&["tables", "ioi_induction_dissociation.csv"], dir.path());
    assert!(one.starts_with("## `dissociation`") && said.contains(&one), "{one}");
    fails(&["tables", "nothing"], dir.path(), &["nothing", "lists them all"]);
}

#[test]
fn every_table_and_column_of_a_study_is_in_the_dictionary() {
    let dir = tempfile::tempdir().unwrap();
    let run = |line: &str| succeeds(&line.split(' ').collect::<Vec<_>>(), dir.path());
    run(
        "run -q --models mini-gpt2-m,mini-opt-s --tasks ioi,anti-repeat,induction --contrast ioi:anti-repeat,ioi:induction --effort \
         quick --prompts 24 --random-sets 4 --out s",
    );
    run("trace -q --all-heads --stream z --out s");
    run("compare -q s s --out compared");
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for folder in ["s", "compared"] {
        for file in fs::read_dir(dir.path().join(folder).join("paper/tables")).unwrap() {
            let path = file.unwrap().path();
            let Some(stem) = path.to_str().and_then(|p| p.strip_suffix(".csv")) else { continue };
            let stem = Path::new(stem).file_name().unwrap().to_str().unwrap();
            let Some(table) = dictionary::find(stem) else {
                problems.push(format!("no table {stem}"));
                continue;
            };
            let b = if stem.contains("ioi_induction") { "induction" } else { "anti" };
            let categories = [&format!("{b}_only"), "ioi_only", "shared", "weak"].map(str::to_owned);
            let header = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
            for column in header.split(',') {
                if table.column(column, ["ioi", b], &categories).is_none() {
                    problems.push(format!("{stem}: no column {column}"));
                }
            }
            // The dictionary has no columns that the table lacks.
            for (pattern, _) in &table.columns {
                let one = dictionary::TableMeaning { columns: vec![(pattern, "")], ..table.clone() };
                if !header.split(',').any(|column| one.column(column, ["ioi", b], &categories).is_some()) {
                    problems.push(format!("{stem}: {pattern} is not there"));
                }
            }
            seen.insert(table.name);
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let unseen: Vec<_> =
        dictionary::tables().into_iter().map(|t| t.name).filter(|t| !seen.contains(t)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}
