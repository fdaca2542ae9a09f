//! What every figure must be: a valid SVG with real text, none of it cut, clipped or hidden.
#![allow(dead_code, reason = "each user takes its own part")]

use std::path::Path;

use cs_report::figures::Figure;
use cs_report::figures::page::text_width;

pub fn number(node: roxmltree::Node, name: &str) -> f64 {
    node.attribute(name).and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{name} of {node:?}"))
}

/// The box of a text: left, top, right, bottom.
pub fn box_of(node: roxmltree::Node) -> [f64; 4] {
    let words = node.text().unwrap_or_default().trim();
    let size = number(node, "font-size");
    // text_width measures in units of the page, whose points are 600/72 units.
    let (width, height) = (f64::from(text_width(words, size / 600.0 * 72.0)), size);
    let (x, y) = (number(node, "x"), number(node, "y"));
    if let Some(turn) = node.attribute("transform") {
        assert!(turn.starts_with("rotate(270"), "{turn}");
        // Vertical text, always centred.
        return [x, y - width / 2.0, x + height, y + width / 2.0];
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

pub fn check(case: &str, figure: &Figure) {
    let place = format!("{case}: {}", figure.name);
    if let Some(folder) = std::env::var_os("FIGURES_TO_LOOK_AT") {
        let name = format!("{case}--{}.svg", figure.name.replace('/', "--"));
        std::fs::write(Path::new(&folder).join(name), &figure.svg).unwrap();
    }
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
        assert!(!words.contains('…'), "{place}: {words:?} was cut to fit");
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

/// The pieces of all lines but the palest guides: left, top, right, bottom.
pub fn pieces(document: &roxmltree::Document) -> Vec<[f64; 4]> {
    let mut all = Vec::new();
    let is_pale = |n: &roxmltree::Node| n.attribute("stroke") == Some("#E4E4E4");
    let lines = document.descendants().filter(|n| n.has_tag_name("polyline"));
    for line in lines.filter(|n| !is_pale(n)) {
        let numbers = line.attribute("points").unwrap().split([' ', ',']).filter(|p| !p.is_empty());
        let points: Vec<f64> = numbers.map(|p| p.parse().unwrap()).collect();
        for ends in points.chunks(2).collect::<Vec<_>>().windows(2) {
            let at = |share: f64, side: usize| ends[0][side] + share * (ends[1][side] - ends[0][side]);
            for piece in 0..40 {
                let [from, to] = [piece, piece + 1].map(|i| f64::from(i) / 40.0);
                let (x, y) = ([at(from, 0), at(to, 0)], [at(from, 1), at(to, 1)]);
                all.push([x[0].min(x[1]), y[0].min(y[1]), x[0].max(x[1]), y[0].max(y[1])]);
            }
        }
    }
    all
}

/// Whether two boxes touch nowhere, but for a tenth of a letter's height.
pub fn are_apart(a: &[f64; 4], b: &[f64; 4]) -> bool {
    let slack = 6.0;
    a[2] - slack <= b[0] || b[2] - slack <= a[0] || a[3] - slack <= b[1] || b[3] - slack <= a[1]
}
