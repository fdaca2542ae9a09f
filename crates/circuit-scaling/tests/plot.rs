//! `plot` and its options: figures, widths, folders, and rejected values.

mod common;

use std::fs;
use std::path::Path;

use common::{command, fails, files, succeeds};

/// A joint table of a model of 4 × 4 heads, and the study of it in `study`.
fn analysed(folder: &Path) {
    let mut csv = String::from("family,model,params_m,layer,head,delta_ioi,delta_anti\n");
    for head in 0..16 {
        let [a, b] = [head * 7 % 16, head * 5 % 16].map(|n| f64::from(n) / 8.0 - 1.0);
        csv += &format!("gpt2,gpt2,124,{},{},{a},{b}\n", head / 4, head % 4);
    }
    fs::write(folder.join("joint.csv"), csv).unwrap();
    succeeds(&["analyze", "joint.csv", "--quiet", "--out", "study"], folder);
}

fn plot(folder: &Path, options: &[&str]) -> (String, String) {
    succeeds(&[&["plot", "--quiet", "--out", "study"], options].concat(), folder)
}

/// Width in millimetres of an SVG, a PNG and a PDF.
fn widths(styled: &Path, name: &str) -> [f64; 3] {
    let svg = fs::read_to_string(styled.join(format!("{name}.svg"))).unwrap();
    let svg = svg.split("width=\"").nth(1).unwrap().split("mm\"").next().unwrap().parse().unwrap();
    let png = fs::read(styled.join(format!("{name}.png"))).unwrap();
    let pixels = u32::from_be_bytes(png[16..20].try_into().unwrap());
    let at = png.windows(4).position(|w| w == b"pHYs").unwrap() + 4;
    let per_metre = u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    let pdf = fs::read(styled.join(format!("{name}.pdf"))).unwrap();
    let pdf = String::from_utf8_lossy(&pdf).into_owned();
    let media_box = pdf.split("/MediaBox").nth(1).unwrap().split(']').next().unwrap();
    let points: f64 =
        media_box.trim_start_matches([' ', '[']).split_whitespace().nth(2).unwrap().parse().unwrap();
    [svg, 1000.0 * f64::from(pixels) / f64::from(per_metre), points / 72.0 * 25.4]
}

#[test]
fn styled_figures_have_the_requested_width_and_a_separate_folder() {
    let dir = tempfile::tempdir().unwrap();
    analysed(dir.path());
    let before = files(&dir.path().join("study/paper/figs"));
    let styled = dir.path().join("study/paper/figs/styled");
    for (width, mm) in
        [("120mm", 120.0), ("17cm", 170.0), ("3.3in", 83.82), ("60mm", 60.0), ("250 mm", 250.0)]
    {
        let (said, _) = plot(dir.path(), &["--only", "scatter_gpt2", "--pdf", "--width", width]);
        assert!(said.contains("1 figure is in study/paper/figs/styled"), "{said}");
        for found in widths(&styled, "scatter_gpt2") {
            assert!((found - mm).abs() < 0.15, "{width}: {found} mm");
        }
    }
    // All at once: a title, no caption, two colours and two figures.
    let text = |name: &str| fs::read_to_string(styled.join(name)).unwrap();
    plot(
        dir.path(),
        &[
            "--only",
            "scatter_gpt2",
            "--title",
            "Mine & yours",
            "--no-caption",
            "--colors",
            "shared=#010203, ioi_only=#040506",
        ],
    );
    let svg = text("scatter_gpt2.svg");
    let shown = svg.replace(svg.split("<desc>").nth(1).unwrap().split("</desc>").next().unwrap(), "");
    assert!(
        shown.contains("Mine &amp; yours") && !shown.contains("Pearson") && svg.contains("Pearson"),
        "{svg}"
    );
    assert!(svg.contains("#010203") && !svg.contains("#CC79A7"), "colours take each other's place");
    plot(dir.path(), &["--only", "heatmap_gpt2,family_grid", "--no-caption"]);
    plot(dir.path(), &["--only", "heatmap_gpt2", "--title", ""]);
    assert!(!text("heatmap_gpt2.svg").split("</desc>").nth(1).unwrap().contains(">\ngpt2\n"), "no title");
    assert!(text("family_grid.svg").contains("<text"));
    // Nothing else was changed.
    let mut now = files(&dir.path().join("study/paper/figs"));
    now.retain(|path, _| !path.starts_with("styled"));
    assert!(now == before, "{:?}", now.keys());
    // In the default style it goes to the study's own figures.
    let (said, _) = plot(dir.path(), &["--only", "scatter_gpt2", "--width", "85mm"]);
    assert!(said.contains("1 figure is in study/paper/figs\n"), "{said}");
}

#[test]
fn plot_rejects_what_it_cannot_draw() {
    let dir = tempfile::tempdir().unwrap();
    analysed(dir.path());
    let before = files(&dir.path().join("study"));
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--only", "scatter"], &["scatter", "scatter_gpt2"]),
        (&["--only", "scatter_gpt2.png"], &["scatter_gpt2"]),
        (&["--only", "causal_ioi"], &["circuit-scaling trace"]),
        (&["--title", "x"], &["--only"]),
        (&["--title", "x", "--only", "scatter_gpt2,family_grid"], &["a title applies to a single figure"]),
        (&["--width", "85"], &["85mm"]),
        (&["--width", "59mm"], &["60 to 250"]),
        (&["--width", "10in"], &["60 to 250"]),
        (&["--width=-85mm"], &["60 to 250"]),
        (&["--colours", "shared=red"], &["shared=#888888"]),
        (&["--colours", "blue=#000000"], &["blue", "ioi_only"]),
        (&["--colours", "shared"], &["shared=#888888"]),
    ];
    for (options, words) in cases {
        fails(&[&["plot", "--out", "study"], options].concat(), dir.path(), words);
    }
    assert!(files(&dir.path().join("study")) == before, "something was written");
}

/// A run does not change styled figures, and reports that they are older than the study; changes made by hand are
/// kept.
#[test]
fn a_run_leaves_styled_figures_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = |models: &str| {
        let options =
            ["--tasks", "ioi", "--effort", "quick", "--tau", "0.5", "--out", "study", "--models", models];
        let output = command(&[&["run"], &options[..]].concat(), dir.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    assert!(!run("mini-gpt2-s").contains("styled"));
    let figure = dir.path().join("study/paper/figs/styled/effects_mini-gpt2-s.svg");
    plot(dir.path(), &["--only", "effects_mini-gpt2-s", "--width", "60mm"]);
    let own = fs::read_to_string(&figure).unwrap();
    // The study's own threshold, not the program's.
    assert!(own.contains("hinders by τ = 0.5 logits"), "{own}");
    let other = plot(dir.path(), &["--only", "effects_mini-gpt2-s", "--width", "60mm", "--tau", "0.25"]);
    assert!(fs::read_to_string(&figure).unwrap().contains("τ = 0.25 logits"), "{other:?}");
    fs::write(&figure, "mine").unwrap();
    let said = run("mini-gpt2-m");
    assert!(said.contains("paper/figs/styled are older than the study"), "{said}");
    assert!(!run("mini-gpt2-m").contains("are older than the study"), "nothing was drawn again");
    assert_eq!(fs::read_to_string(&figure).unwrap(), "mine");
    let (_, said) = plot(dir.path(), &["--only", "effects_mini-gpt2-s", "--width", "60mm"]);
    assert!(said.contains("kept as study/edited/paper/figs/styled/effects_mini-gpt2-s.svg"), "{said}");
    assert_eq!(fs::read_to_string(&figure).unwrap(), own);
}
