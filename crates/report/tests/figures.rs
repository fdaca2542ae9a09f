//! Every figure of every kind of study is a valid SVG with real text, inside its frame, and becomes the other formats.

mod common;

use std::path::Path;

use report::Extras;
use report::figures::page::text_width;
use report::figures::{Figure, Format, describe_all, draw_all};

fn number(node: roxmltree::Node, name: &str) -> f64 {
    node.attribute(name).and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{name} of {node:?}"))
}

/// The box of a text: left, top, right, bottom.
fn box_of(node: roxmltree::Node) -> [f64; 4] {
    let words = node.text().unwrap_or_default().trim();
    let size = number(node, "font-size");
    // text_width measures in units of the page, whose points are 600/72 units.
    let (mut width, height) = (f64::from(text_width(words, size / 600.0 * 72.0)), size);
    let (x, y) = (number(node, "x"), number(node, "y"));
    if let Some(turn) = node.attribute("transform") {
        assert!(turn.starts_with("rotate(270"), "{turn}");
        // Vertical text, always centred.
        std::mem::swap(&mut width, &mut { height });
        let half = f64::from(text_width(words, size / 600.0 * 72.0)) / 2.0;
        return [x, y - half, x + height, y + half];
    }
    let left = match node.attribute("text-anchor") {
        Some("middle") => x - width / 2.0,
        Some("end") => x - width,
        _ => x,
    };
    let top = match node.attribute("dy") {
        Some("0.76em") => y,
        Some("0.5ex") => y - 0.5 * height,
        _ => y - height,
    };
    [left, top, left + width, top + height]
}

fn check(case: &str, figure: &Figure) {
    let place = format!("{case}: {}", figure.name);
    let document = roxmltree::Document::parse(&figure.svg).unwrap_or_else(|e| panic!("{place}: {e}"));
    let root = document.root_element();
    let frame: Vec<f64> = root.attribute("viewBox").unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
    assert_eq!(root.attribute("width"), Some("85.01mm"), "{place}");
    let texts: Vec<roxmltree::Node> = root.descendants().filter(|n| n.has_tag_name("text")).collect();
    assert!(texts.len() > 3, "{place}: {} texts", texts.len());
    let boxes: Vec<([f64; 4], &str)> =
        texts.iter().map(|t| (box_of(*t), t.text().unwrap_or_default().trim())).collect();
    for (node, (own, words)) in texts.iter().zip(&boxes) {
        let points = number(*node, "font-size") / 600.0 * 72.0;
        assert!(points > 6.9, "{place}: {words:?} in {points} points");
        let inside = own[0] >= -1.0 && own[1] >= -1.0 && own[2] <= frame[2] + 1.0 && own[3] <= frame[3] + 1.0;
        assert!(inside, "{place}: {words:?} at {own:?} lies beyond {frame:?}");
    }
    // A margin of a tenth of the height: letters do not fill the boxes they are counted with.
    for (i, (a, one)) in boxes.iter().enumerate() {
        for (b, other) in &boxes[i + 1..] {
            let slack = 8.0;
            let apart =
                a[2] - slack <= b[0] || b[2] - slack <= a[0] || a[3] - slack <= b[1] || b[3] - slack <= a[1];
            assert!(apart, "{place}: {one:?} {a:?} lies on {other:?} {b:?}");
        }
    }
    for attribute in ["NaN", "inf"] {
        assert!(!figure.svg.contains(&format!("\"{attribute}\"")), "{place}: {attribute}");
    }
}

#[test]
fn figures_are_valid_and_no_label_is_clipped_or_hidden() {
    for (case, study) in common::cases() {
        let drawings = describe_all(&study, &Extras::default()).unwrap();
        let n_models = study.joint.models.len();
        let drawn: Vec<&Figure> = drawings.iter().filter_map(|d| d.as_ref().ok()).collect();
        assert!(drawn.len() >= 3 * n_models + 2, "{case}: {} figures of {n_models} models", drawn.len());
        for figure in drawn {
            check(case, figure);
        }
        for missing in drawings.iter().filter_map(|d| d.as_ref().err()) {
            assert!(missing.why.len() > 20, "{case}: {missing:?}");
        }
    }
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let cases = common::cases();
    let missing = |case: &str| -> Vec<String> {
        let study = &cases.iter().find(|c| c.0 == case).unwrap().1;
        let drawings = describe_all(study, &Extras::default()).unwrap();
        drawings.into_iter().filter_map(|d| d.err().map(|m| m.name)).collect()
    };
    let scaling = ["cross_family_correlation_vs_scale", "strong_head_scaling", "concentration_scaling"];
    for name in scaling {
        assert!(missing("sizes unknown").iter().any(|m| m == name), "{name}");
        assert!(missing("one model").iter().all(|m| m != name), "{name}");
    }
    assert!(missing("one model").iter().any(|m| m == "transfer"));
}

#[test]
fn every_format_has_its_size_and_the_same_bytes_each_time() {
    let study = common::study(&common::joint_csv(&common::models(&["pythia-70m"]), 1.0));
    let formats = [Format::Svg, Format::Png, Format::Pdf];
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [first, second] =
        folders.each_ref().map(|f| draw_all(&study, &Extras::default(), f.path(), &formats).unwrap());
    assert_eq!(first.files.len(), 3 * first.names.len());
    for (a, b) in first.files.iter().zip(&second.files) {
        assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "{}", a.display());
    }
    let read = |name: &str| std::fs::read(Path::new(folders[0].path()).join(name)).unwrap();
    let png = read("scatter_pythia-70m.png");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!(number(16), 1004, "85 mm at 300 dots per inch");
    assert_eq!((&png[37..41], number(41)), (&b"pHYs"[..], 11811));
    let pdf = read("scatter_pythia-70m.pdf");
    assert!(pdf.starts_with(b"%PDF") && pdf.windows(8).any(|w| w == b"FontFile"), "text stays text");
}
