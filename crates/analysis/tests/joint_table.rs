//! Joint tables, from scans and from CSV.

mod common;

use std::path::Path;

use common::{from_scans, pairs};
use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::joint::{self, JointTable, MAX_ROWS};
use cs_analysis::study::{ContrastStudy, StudyOptions};

const HEADER: &str = "family,model,layer,head,delta_ioi,delta_anti\n";

fn import(csv: &str) -> cs_analysis::Result<JointTable> {
    let path = Path::new("joint.csv");
    joint::import_reader(csv.as_bytes(), path, MAX_ROWS)?.into_table(path)
}

fn error(csv: &str) -> String {
    let line = import(csv).unwrap_err().to_string();
    assert!(line.starts_with("joint.csv: ") && !line.contains('\n'), "{line}");
    line
}

#[test]
fn models_stand_in_the_studys_order() {
    let table = from_scans(&pairs());
    let names: Vec<&str> = table.models.iter().map(|m| m.info.model.as_str()).collect();
    assert_eq!(names, ["gpt2", "gpt2-medium", "pythia-70m", "tiny-a", "tiny-b"]);
    assert_eq!(table.models[0].info.params_m, Some(124.0));
    assert_eq!(table.models[4].info.params_m, Some(1.234567));
    assert!(table.to_table().to_csv().starts_with(HEADER.trim_end()));
}

#[test]
fn a_csv_in_any_order_gives_the_same_bytes_as_the_scans() {
    let table = from_scans(&pairs());
    let csv = table.to_table().to_csv();
    // Rows reversed, columns reversed, one extra column, numbers padded as by a spreadsheet.
    let mut lines: Vec<String> = csv
        .lines()
        .enumerate()
        .map(|(i, line)| {
            let mut cells: Vec<&str> = line.split(',').collect();
            cells.push(if i == 0 { "my notes" } else { " \"a, b\"" });
            cells.reverse();
            cells.join(",")
        })
        .collect();
    lines[1..].reverse();
    let shuffled = lines.join("\r\n").replace(" \"a, b\"", "\"a, b\"");
    assert!(shuffled != csv);
    let again = import(&shuffled).unwrap();
    assert!(again.to_table().to_csv() == csv);
    let options = StudyOptions::default();
    let (a, b) = (ContrastStudy::new(table, &options).unwrap(), ContrastStudy::new(again, &options).unwrap());
    for (a, b) in a.tables.iter().zip(&b.tables) {
        assert!(a.to_csv() == b.to_csv(), "{}", a.name);
    }
}

#[test]
fn missing_values_stay_missing() {
    let table = import(&format!("{HEADER}gpt2,gpt2,0,0,,0.2\ngpt2,gpt2,0,1,NaN,\ngpt2,gpt2,1.0,0,0.5,0.6\n"))
        .unwrap();
    let csv = table.to_table().to_csv();
    let cells: Vec<Vec<&str>> = csv.lines().skip(1).map(|l| l.split(',').take(6).collect()).collect();
    assert_eq!(cells[0], ["gpt2", "gpt2", "0", "0", "", "0.2"]);
    assert_eq!(cells[1], ["gpt2", "gpt2", "0", "1", "", ""]);
    assert_eq!(cells[2], ["gpt2", "gpt2", "1", "0", "0.5", "0.6"]);
    let study = ContrastStudy::new(table, &StudyOptions::default()).unwrap();
    assert_eq!(study.classified.models[0].n_unclassified, 2);
    assert_eq!(study.classified.heads_table().n_rows(), 1);
}

#[test]
fn bad_tables_give_a_clear_one_line_error() {
    assert!(error("").contains("empty"));
    assert!(error("\n\n").contains("empty"));
    assert!(error(HEADER).contains("no rows"));
    assert!(error("family,model,layer,head,delta_ioi\ngpt2,gpt2,0,0,1\n").contains("no column `delta_anti`"));
    assert!(error("family;model;layer;head;delta_ioi;delta_anti\n").contains("commas"));
    assert!(error("family,model,layer,head,delta_ioi,delta_anti,layer\n").contains("`layer` occurs 2 times"));
    let with = |row: &str| error(&format!("{HEADER}gpt2,gpt2,0,0,0.1,0.2\n{row}\n"));
    let text = with("gpt2,gpt2,0,1,abc,0.2");
    assert!(text.contains("line 3, column `delta_ioi`") && text.contains("`abc` is not a number"), "{text}");
    assert!(with("gpt2,gpt2,0,1,inf,0.2").contains("infinite"));
    assert!(with("gpt2,gpt2,-1,1,0.1,0.2").contains("column `layer`: -1 is negative"));
    assert!(with("gpt2,gpt2,0.5,1,0.1,0.2").contains("not a whole number"));
    assert!(with("gpt2,gpt2,nan,1,0.1,0.2").contains("not a whole number"));
    assert!(with("gpt2,gpt2,1e9,1,0.1,0.2").contains("more than any model has"));
    assert!(with("gpt2,gpt2,,1,0.1,0.2").contains("empty"));
    assert!(with("gpt2,,0,1,0.1,0.2").contains("column `model`: empty"));
    assert!(with("gpt2,gpt2,0,1,0.1").contains("line 3: 5 cells under 6 columns"));
    let twice = with("gpt2,gpt2,0,0,0.3,0.2");
    assert!(twice.contains("lines 2 and 3: both hold gpt2 L0H0"), "{twice}");
    let family = with("opt,gpt2,0,1,0.1,0.2");
    assert!(family.contains("family `opt` here and `gpt2` on line 2"), "{family}");
    let binary = joint::import_reader(&b"family,model\xff\n"[..], Path::new("joint.csv"), 10);
    assert!(binary.unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn ten_million_rows_are_refused_before_they_fill_the_memory() {
    // An endless table at the default limit: the reader must stop on its own.
    struct Endless {
        rows: Vec<u8>,
        at: usize,
    }
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.at == self.rows.len() {
                self.rows = b"gpt2,m,7,3,0.5,0.25\n".repeat(1000);
                self.at = 0;
            }
            let n = buffer.len().min(self.rows.len() - self.at);
            buffer[..n].copy_from_slice(&self.rows[self.at..self.at + n]);
            self.at += n;
            Ok(n)
        }
    }
    let endless = Endless { rows: HEADER.into(), at: 0 };
    let refused = joint::import_reader(endless, Path::new("joint.csv"), MAX_ROWS).unwrap_err().to_string();
    assert!(refused.contains("more than 1000000 rows") && refused.contains("--max-rows"), "{refused}");
}

#[test]
fn duplicates_and_nans_are_counted_for_the_audit() {
    let csv = format!("{HEADER}f,m,0,0,0.1,nan\nf,m,0,1,NaN,NaN\nf,m,0,0,0.1,0.3\nf,m,0,0,0.1,0.4\n");
    let import = joint::import_reader(csv.as_bytes(), Path::new("joint.csv"), MAX_ROWS).unwrap();
    assert_eq!(import.duplicates.len(), 2);
    assert_eq!(import.duplicates[1].lines, [2, 5]);
    assert_eq!(import.n_nan[&("m".to_owned(), Side::B)], 2);
    assert_eq!(import.table.n_rows(), 4);
}

#[test]
fn scans_that_do_not_fit_are_refused() {
    let refused = |change: &dyn Fn(&mut Vec<joint::ScanPair>)| {
        let mut pairs = pairs();
        change(&mut pairs);
        joint::from_scans(&Contrast::published(), &pairs).unwrap_err().to_string()
    };
    assert!(
        refused(&|p| p[0].scans[1].meta.ablation = "mean".into())
            .contains("`ablation` is `zero` for ioi and `mean`")
    );
    assert!(refused(&|p| p[0].scans[1].meta.provenance.weight_hash = "other".into()).contains("weight_hash"));
    assert!(refused(&|p| p[0].scans[1].meta.task = "ioi".into()).contains("its task is `ioi`"));
    assert!(refused(&|p| p[1] = p[0].clone()).contains("given twice"));
    assert!(refused(&|p| p.clear()).contains("no scans"));
    let mixed = refused(&|p| {
        p[1].scans[0].meta.protocol = "published".into();
        p[1].scans[1].meta.protocol = "published".into();
    });
    assert!(mixed.contains("pythia-70m and tiny-b") && mixed.contains("`protocol`"), "{mixed}");
}
