//! Every figure of every kind of study is a valid SVG with real text, inside its frame, and becomes the other formats.

mod common;
#[path = "common/drawn.rs"]
mod drawn;

use std::path::Path;

use cs_analysis::contrast::Contrast;
use cs_analysis::known_models::{KNOWN_MODELS, KnownModel};
use cs_analysis::scan_file::Split;
use cs_analysis::study::Study;
use cs_report::Extras;
use cs_report::extras::Experiments;
use cs_report::figures::{Choice, Figure, Format, Style, chosen_colors, describe_all, draw_all, draw_chosen};
use drawn::{are_apart, box_of, check, number, pieces};

#[test]
fn figures_are_valid_and_no_label_is_clipped_or_hidden() {
    for (case, study) in common::cases() {
        let drawings = describe_all(&study, &Extras::default()).unwrap();
        let n_models = study.contrasts[0].joint.models.len();
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
fn figures_of_one_task_and_of_six_are_valid() {
    let known = common::models(&["gpt2", "pythia-160m", "opt-125m"]);
    let six = common::six_tasks(&known);
    for (case, (study, extras)) in [("one task", common::one_task(&known)), ("six tasks", six)] {
        let drawings = describe_all(&study, &extras).unwrap();
        let drawn: Vec<&Figure> = drawings.iter().filter_map(|d| d.as_ref().ok()).collect();
        assert!(drawn.len() > known.len(), "{case}: {} figures", drawn.len());
        for figure in drawn {
            check(case, figure);
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

/// A figure of one's own: its width, title, colours, and no caption; and what is rejected.
#[test]
fn figures_can_be_drawn_in_a_style_of_ones_own() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2", "pythia-160m"]), 1.0));
    let folder = tempfile::tempdir().unwrap();
    let draw = |only: &[&str], style: Style| {
        let choice = Choice { only: only.iter().map(|name| (*name).to_owned()).collect(), style };
        draw_chosen(&study, &Extras::default(), folder.path(), &[Format::Svg], &choice)
    };
    let colors =
        chosen_colors(&study, &[("shared".into(), [1, 2, 3]), ("ioi_only".into(), [4, 5, 6])]).unwrap();
    let style = Style { width_mm: 120.0, title: Some("Mine".into()), caption: false, colors };
    let drawn = draw(&["scatter_gpt2"], style.clone()).unwrap();
    assert_eq!(drawn.names, ["scatter_gpt2"]);
    let svg = std::fs::read_to_string(&drawn.files[0]).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let texts: Vec<&str> =
        document.descendants().filter(|n| n.has_tag_name("text")).filter_map(|n| n.text()).collect();
    assert!(
        texts.iter().any(|t| t.trim() == "Mine") && texts.iter().all(|t| !t.contains("strong heads")),
        "{texts:?}"
    );
    assert_eq!(document.root_element().attribute("width"), Some("120.01mm"));
    assert!(
        svg.contains("#010203")
            && svg.contains("#040506")
            && !svg.contains("#CC79A7")
            && !svg.contains("#0072B2")
    );
    assert!(svg.contains("#D55E00"), "other colours stay");
    // Every figure at the narrowest width, and a wide one, keeps its texts inside.
    for width_mm in [60.0, 170.0] {
        let narrow = Style { width_mm, ..Style::default() };
        assert!(draw(&[], narrow).unwrap().names.len() > 10);
    }
    let refused = |only: &[&str], style: Style| draw(only, style).unwrap_err().to_string();
    let missing = refused(&["scatter"], Style::default());
    assert!(missing.contains("no such figure; it has ") && missing.contains("scatter_gpt2"), "{missing}");
    assert!(refused(&["causal_ioi"], Style::default()).contains("circuit-scaling trace"));
    assert!(refused(&[], style).contains("a title applies to a single figure"));
    let unknown = chosen_colors(&study, &[("blue".into(), [0, 0, 0])]).unwrap_err().to_string();
    assert!(
        unknown.contains("anti_only") && unknown.contains("gpt2") && unknown.contains("weak"),
        "{unknown}"
    );
}

#[test]
fn figures_of_ablated_sets_are_drawn_where_sets_were_ablated() {
    let study = common::study(&common::joint_csv(&KNOWN_MODELS, 1.0));
    let names: Vec<&str> = KNOWN_MODELS.iter().map(|m| m.name).collect();
    let mut extras = common::ablated(&names);
    // Every model's heads do something else.
    for row in extras.experiments[0].ablated.iter_mut().filter(|row| row.set_type.starts_with("hero")) {
        let place = names.iter().position(|name| *name == row.model).unwrap();
        for task in &mut row.tasks {
            for value in [&mut task.mean_diff.value, &mut task.mean_diff.low, &mut task.mean_diff.high] {
                *value = value.map(|v| v - 0.7 * (place % 5) as f64 * row.k as f64);
            }
        }
    }
    let drawings = describe_all(&study, &extras).unwrap();
    let drawn: Vec<&Figure> = drawings.iter().filter_map(|d| d.as_ref().ok()).collect();
    for name in ["hero_vs_random_ablation", "hero_vs_random_ablation_gpt2-xl", "dissociation"] {
        let figure = drawn.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name}"));
        check("ablated", figure);
    }
    // Lines end in the numbers that the caption gives their models; none lies on a line.
    let overview = drawn.iter().find(|f| f.name == "hero_vs_random_ablation").unwrap();
    assert!(
        caption(overview)
            .replace('\u{a0}', " ")
            .contains("1 gpt2, 2 gpt2-medium, 3 gpt2-large, 4 gpt2-xl; 1 pythia-70m"),
        "{}",
        caption(overview)
    );
    let document = roxmltree::Document::parse(&overview.svg).unwrap();
    let is_number = |n: &roxmltree::Node| {
        n.attribute("text-anchor").is_none_or(|a| a == "start")
            && n.text().is_some_and(|t| t.trim().parse::<u32>().is_ok())
    };
    let numbers: Vec<_> =
        document.descendants().filter(|n| n.has_tag_name("text")).filter(is_number).collect();
    assert!(numbers.len() > 28, "{} of 34", numbers.len());
    for (node, line) in numbers.iter().flat_map(|n| pieces(&document).into_iter().map(move |line| (n, line)))
    {
        assert!(are_apart(&box_of(*node), &line), "{:?} lies on {line:?}", node.text());
    }
    let findings = {
        let extras = common::ablated(&names);
        let contrast = &study.contrasts[0];
        cs_report::notes::findings(contrast, &extras.of(contrast.contrast()))
    };
    let said = |title: &str| findings.iter().find(|f| f.title == title).unwrap().text.clone();
    assert!(said("Dissociation").contains("in 17 of 17 models"), "{}", said("Dissociation"));
    assert!(said("Hero vs. random heads").contains("in 17 of 17 models on IOI"));
}

/// Heads of neighbouring models are named without a name lying on another's, however near to each other they are.
#[test]
fn traced_heads_are_named_where_there_is_room() {
    let names = ["gpt2", "gpt2-medium", "pythia-70m", "pythia-160m", "opt-125m", "opt-350m", "gpt-neo-125m"];
    let study = common::study(&common::joint_csv(&common::models(&names), 1.0));
    // The first and the last of each row are the strongest and stand in each other's way: the names of two rows would meet.
    let heads = [-0.33, -0.2, -0.32].into_iter().enumerate().map(|(head, x)| (head as u32, x));
    let traced = names.iter().flat_map(|model| {
        heads
            .clone()
            .map(|(head, influence)| common::traced(model, head, [influence, 0.3 - influence], [1.0, 1.0]))
    });
    let experiments =
        vec![Experiments { traced: traced.collect(), ..Experiments::none(Contrast::published()) }];
    let extras = Extras { experiments, ..Extras::default() };
    let drawings = describe_all(&study, &extras).unwrap();
    for name in ["causal_ioi", "causal_anti"] {
        let figure = drawings.iter().flatten().find(|f| f.name == name).unwrap();
        check("traced", figure);
        let n = figure.svg.matches("\nL0H").count();
        assert!(n >= 5, "{name}: {n} names");
        assert!(caption(figure).starts_with("Largest influence on "), "{}", caption(figure));
    }
}

/// With models of one size there is nothing to draw against it: measures stand in rows, and no point lies beside its model's size.
#[test]
fn models_of_one_size_stand_in_rows() {
    let one = common::models(&["gpt2"]);
    let two = common::study(&common::joint_csv(&one, 1.0));
    let (six, extras) = common::six_tasks(&one);
    let of = |study: &Study, extras: &Extras| -> Vec<Figure> {
        describe_all(study, extras).unwrap().into_iter().flatten().collect()
    };
    let figures = [of(&two, &Extras::default()), of(&six, &extras)].concat();
    let scaling: Vec<&Figure> =
        figures.iter().filter(|f| f.name.ends_with("scal") || f.name.contains("_scal")).collect();
    assert!(scaling.len() >= 8, "{}", scaling.len());
    for figure in scaling {
        check("one size", figure);
        assert!(!figure.svg.contains("parameters"), "{}", figure.name);
        assert!(!caption(figure).contains("sideways"), "{}", caption(figure));
    }
}

/// Models that a figure leaves out are neither in its legend nor counted.
#[test]
fn what_is_left_out_is_not_counted() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2", "gpt2-medium", "opt-125m"]), 1.0));
    let figure = drawn(&study, "relative_head_scaling");
    assert!(caption(&figure).contains("n = 528 heads of 2 models"), "{}", caption(&figure));
    let document = roxmltree::Document::parse(&figure.svg).unwrap();
    let texts: Vec<&str> =
        document.descendants().filter(|n| n.has_tag_name("text")).filter_map(|n| n.text()).collect();
    assert!(texts.iter().all(|t| !t.trim().starts_with("opt")), "{texts:?}");
}

/// The figure of this name, without extras.
fn drawn(study: &Study, name: &str) -> Figure {
    let drawings = describe_all(study, &Extras::default()).unwrap();
    drawings.into_iter().flatten().find(|f| f.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// What stands in the caption.
fn caption(figure: &Figure) -> &str {
    figure.svg.split("<desc>").nth(1).unwrap().split("</desc>").next().unwrap()
}

/// The dashes of guide lines: left, top, right, bottom.
fn dashes(document: &roxmltree::Document) -> Vec<[f64; 4]> {
    let is_dash = |n: &roxmltree::Node| {
        n.attribute("stroke") == Some("#8A8A8A") && n.attribute("stroke-width") == Some("4")
    };
    let lines = document.descendants().filter(|n| n.has_tag_name("polyline")).filter(is_dash);
    let ends = lines.map(|n| {
        let numbers = n.attribute("points").unwrap().split([' ', ',']).filter(|p| !p.is_empty());
        numbers.map(|p| p.parse().unwrap()).collect::<Vec<f64>>()
    });
    ends.filter(|e| e.len() == 4)
        .map(|e| [e[0].min(e[2]), e[1].min(e[3]), e[0].max(e[2]), e[1].max(e[3])])
        .collect()
}

fn text_node<'a, 'd>(document: &'a roxmltree::Document<'d>, words: &str) -> roxmltree::Node<'a, 'd> {
    let is_it = |n: &roxmltree::Node| n.text().is_some_and(|t| t.trim() == words);
    document.descendants().filter(|n| n.has_tag_name("text")).find(is_it).unwrap_or_else(|| panic!("{words}"))
}

#[test]
fn captions_say_what_is_there() {
    let weak = common::study(&common::joint_csv(&common::models(&["gpt2", "opt-125m"]), 0.001));
    for name in ["strong_head_scaling", "phase_space_all_heads", "family_grid", "scatter_gpt2"] {
        let figure = drawn(&weak, name);
        assert!(
            caption(&figure).contains("No head reaches τ on either task"),
            "{name}: {}",
            caption(&figure)
        );
        assert!(!caption(&figure).contains("of heads that are not weak"), "{name}: {}", caption(&figure));
    }
    let one = common::study(&common::joint_csv(&common::models(&["gpt2"]), 1.0));
    for name in ["strong_head_scaling", "phase_space_all_heads", "family_grid", "scatter_gpt2"] {
        let figure = drawn(&one, name);
        assert!(!caption(&figure).contains("No head reaches"), "{name}: {}", caption(&figure));
        assert!(!caption(&figure).contains("in every panel"), "{name}: {}", caption(&figure));
    }
    // Sets of heads are judged on the prompts that there are.
    let ablated = |split| {
        let mut extras = common::ablated(&["gpt2"]);
        extras.experiments[0].ablated.iter_mut().for_each(|row| row.split = split);
        let figures: Vec<Figure> = describe_all(&one, &extras).unwrap().into_iter().flatten().collect();
        let of_sets = figures.iter().filter(|f| f.name.starts_with("hero_vs_random_ablation"));
        of_sets.map(|f| caption(f).to_owned()).collect::<Vec<_>>()
    };
    for (split, words) in [
        (Some(Split::HeldOut), "ver held-out prompts"),
        (Some(Split::All), "ver all prompts (this protocol has no held-out ones)"),
        (None, "ver prompts that the table does not name"),
    ] {
        let captions = ablated(split);
        assert_eq!(captions.len(), 2);
        assert!(captions.iter().all(|c| c.contains(words)), "{words}: {captions:?}");
    }
}

/// With few heads in the target, the mean rank of heads placed at random is well above a half.
#[test]
fn chance_is_where_so_few_heads_would_put_it() {
    let small = |name| KnownModel { name, n_layers: 1, n_heads: 4, ..KNOWN_MODELS[0] };
    let study = common::study(&common::joint_csv(&[small("gpt2"), small("gpt2-medium")], 3.0));
    let figure = drawn(&study, "transfer");
    let document = roxmltree::Document::parse(&figure.svg).unwrap();
    let [zero, one] = ["0.00", "1.00"].map(|label| number(text_node(&document, label), "x"));
    // Dashes within a row, other than the axes and their ticks.
    let upright = dashes(&document).into_iter().filter(|d| d[0] == d[2] && d[0] > zero + 1.0);
    let bottom = number(text_node(&document, "0.00"), "y");
    let shares: Vec<f64> =
        upright.filter(|d| d[3] < bottom - 45.0).map(|d| (d[0] - zero) / (one - zero)).collect();
    assert!(!shares.is_empty());
    assert!(shares.iter().all(|s| (s - 5.0 / 8.0).abs() < 2e-3), "{shares:?}");
}

/// The names of heads keep off the lines at ±τ where there is room beside them.
#[test]
fn names_keep_off_the_lines_at_tau() {
    let csv = "family,model,layer,head,delta_ioi,delta_anti\n\
               gpt2,gpt2,0,0,0.4,0.045\ngpt2,gpt2,0,1,-0.4,-0.045\ngpt2,gpt2,1,0,0.045,0.4\ngpt2,gpt2,1,1,-0.045,-0.4\n";
    let figure = drawn(&common::study(csv), "scatter_gpt2");
    let document = roxmltree::Document::parse(&figure.svg).unwrap();
    let lines = dashes(&document);
    for name in ["L0H0", "L0H1", "L1H0", "L1H1"] {
        let own = box_of(text_node(&document, name));
        for line in &lines {
            let apart = own[2] <= line[0] || line[2] <= own[0] || own[3] <= line[1] || line[3] <= own[1];
            assert!(apart, "{name} at {own:?} lies on {line:?}");
        }
    }
}
