//! The page holds all of a study, small enough to send around; and where there is a browser, it works in it.

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cs_analysis::known_models::KNOWN_MODELS;
use cs_analysis::table::Table;
use cs_report::Extras;
use cs_report::figures::scale::decimal;
use cs_report::html::page;

/// What the page must do in a browser: run when its own script is done, with the outcome in the title.
const SCRIPT: &str = r##"<script>
const errors = [];
const check = (what, holds) => { if (!holds) errors.push(what); };
const choose = (box, value) => { box.value = value; box.dispatchEvent(new Event("change")); };
const at = (id) => document.getElementById(id);
const said = () => at("card").querySelector("h3").textContent.replace(" #", "");
const done = () => {
  document.title = errors.length ? "FAILED: " + errors.join("; ") : "PASSED";
  if (parent !== window) parent.postMessage(document.title, "*");
};
/** Goes back, and waits until the page has followed. */
const back = () => new Promise((resolve) => { addEventListener("popstate", () => setTimeout(resolve), { once: true }); history.back(); });
async function checks() {
  check("script ran to its end", document.documentElement.dataset.ready === "true");
  check("nothing was requested", performance.getEntriesByType("resource").filter((r) => !/^(data|blob):/.test(r.name)).length === 0);
  const study = JSON.parse(at("study").textContent);
  const best = study.models[study.best];
  const pair = study.contrasts[0];
  check("the answer stands first, with its number", at("overview").textContent.replaceAll("\u00a0", " ").includes("r = ") || study.models.length > 1 || study.tasks.length !== 2);
  check("every model has its numbers", at("numbers-table").tBodies[0].rows.length === study.models.length);
  check("the plots open on the best model", said().startsWith(best.name));
  const points = () => at("phase-plot").data.reduce((n, t) => n + t.x.length, 0);
  const boxes = [...document.querySelectorAll("#phase-controls input")];
  const labelled = (text) => boxes.find((b) => b.parentElement.textContent === text);
  const modelBox = document.querySelector("#phase-model select");
  const counted = study.models.map((m, i) => ({ family: m.family, counts: pair.models[i].counts }));
  const of = (c) => counted.reduce((n, m) => n + m.counts[c], 0);
  check("the phase space opens on the best model", points() === counted[study.best].counts.reduce((a, b) => a + b));
  choose(modelBox, "");
  labelled("weak").checked || labelled("weak").click();
  check("all heads are shown", points() === of(0) + of(1) + of(2) + of(3));
  labelled("shared").click();
  check("the category filter works", points() === of(0) + of(1) + of(3));
  labelled("shared").click();
  const family = study.families[0].name;
  labelled(family).click();
  const others = counted.filter((m) => m.family !== family);
  const phaseAxes = ["xaxis", "yaxis"].map((a) => at("phase-plot")._fullLayout[a]);
  const atTau = Math.asinh(1);
  check("the axes reach beyond τ, with ticks", phaseAxes.every((a) => a.range[0] < -atTau && a.range[1] > atTau && a.tickvals.filter((v) => v > a.range[0] && v < a.range[1]).length >= 3));
  check("the family filter works", points() === others.reduce((n, m) => n + m.counts.reduce((a, b) => a + b), 0));
  labelled(family).click();
  const card = at("card");
  at("phase-plot").emit("plotly_click", { points: [{ customdata: [0, 3] }] });
  check("a click on a point opens its card", said().startsWith(study.models[0].name + " L"));
  check("the address names the head", decodeURIComponent(location.hash) === "#" + said().replace(" L", "-L"));
  const shares = [...card.querySelectorAll(".attention td")].map((td) => Number(td.textContent));
  const n = study.tasks.length;
  const sums = study.tasks.map((_, t) => shares.filter((_, i) => i % n === t).reduce((a, b) => a + b, 0));
  check("the card says where the head attends", card.textContent.includes("over held-out prompts") && sums.every((sum) => sum > 0.9 && sum < 1.05));
  check("the card has its rank", /rank \d+ of \d+/.test(card.textContent));
  check("the card has a strip for every task", card.querySelectorAll(".rugs").length === n);
  const map = at("map");
  map.emit("plotly_click", { points: [{ x: 0, y: 0 }] });
  check("a click on the map opens a card", said().endsWith("L0H0"));
  const link = location.hash;
  map.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  check("arrow keys move in the map", said().endsWith("L0H1"));
  map.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  check("Enter focuses the card, and its link is another", document.activeElement === card && location.hash !== link);
  const strong = document.querySelector("#phase-table button");
  if (strong) strong.click();
  check("strong heads have their prompts", !strong || card.querySelectorAll(".prompt").length >= 3 && card.querySelectorAll(".prompt sup").length >= 3);
  const last = study.models.length - 1;
  choose(document.querySelector("#map-model select"), String(last));
  check("the map shows another model", said().startsWith(study.models[last].name) && map.data[0].z.length === study.models[last].n_layers);
  check("all models stand beside each other", study.models.length < 2 || document.querySelectorAll(".tile").length === study.models.length);
  choose(modelBox, String(last));
  check("the model filter works", points() === counted[last].counts.reduce((a, b) => a + b));
  at("numbers-table").querySelector("button").click();
  check("a click on a model shows it everywhere", said().startsWith(study.models[0].name) && modelBox.value === "0");
  const measures = document.querySelector("#scaling-controls select");
  choose(measures, measures.options[1].value);
  check("scaling plots change", at("scaling-plot").layout.yaxis.title.text.includes("Spearman"));
  const tables = JSON.parse(at("tables-data").textContent);
  check("every table is there", document.querySelectorAll("#table-list button").length === tables.filter((t) => t.gz).length && tables.every((t) => t.gz || t.name === "head_effects"));
  if (study.contrasts.length > 1) {
    choose(document.querySelector("#contrast-choice select"), "1");
    const labels = study.contrasts[1].sides.map((t) => study.tasks[t].label);
    check("another contrast can be chosen", at("phase-plot").layout.xaxis.title.text.includes(labels[0]) && location.hash.endsWith(study.contrasts[1].name));
    check("its categories are its own", !boxes[0].isConnected && at("phase-controls").textContent.includes(labels[0] + "-only"));
    const task = document.querySelector("#map-controls select");
    check("the map shows one of its tasks", study.contrasts[1].sides.includes(Number(task.value)));
    check("its phase space stands beside the answer", at("picture").contains(at("phase")) && !at("picture").contains(at("overlap")));
    const sentences = [...document.querySelectorAll(".verdict button")];
    const pressed = () => sentences.findIndex((b) => b.getAttribute("aria-pressed") === "true");
    check("its sentence is marked", sentences.length === 1 + study.contrasts.length && pressed() === 2);
    sentences[1].click();
    const shows = (place) => at("phase-plot").layout.xaxis.title.text.includes(study.tasks[study.contrasts[place].sides[0]].label) && document.querySelector("#contrast-choice select").value === String(place);
    check("a click on a sentence shows its contrast", shows(0) && pressed() === 1 && location.hash === "#contrast=" + study.contrasts[0].name);
    document.querySelectorAll(".verdict")[2].click();
    check("so does one on its numbers", shows(1) && pressed() === 2);
    await back();
    check("back shows the contrast before", shows(0) && pressed() === 1);
    sentences[0].click();
    check("many tasks open on their matrix", at("picture").contains(at("overlap-table")) && pressed() === 0 && !location.hash);
    const ofPair = at("overlap-table").querySelector("button");
    ofPair.click();
    check("a pair in the matrix shows its contrast", location.hash.startsWith("#contrast="));
    sentences[0].click();
  }
  document.querySelector("#numbers-table button").click();
  check("a model has an address", location.hash === "#" + study.models[0].name);
  at("phase-plot").emit("plotly_click", { points: [{ customdata: [last, 1] }] });
  const left = said();
  await back();
  check("back shows the model before", said() !== left && said().startsWith(study.models[0].name + " L"));
  location.hash = "#" + study.models[last].name + "-L0H1";
  await new Promise((resolve) => setTimeout(resolve, 50));
  check("an address opens a head", said() === study.models[last].name + " L0H1");
  location.hash = "#models";
  await new Promise((resolve) => setTimeout(resolve, 50));
  check("a section's address changes nothing else", said() === study.models[last].name + " L0H1");
  document.querySelector("#numbers-table button").click();
  choose(at("theme"), "dark");
  check("dark", getComputedStyle(document.body).backgroundColor === "rgb(22, 24, 28)");
  const plots = [...document.querySelectorAll(".plot")].filter((p) => p.checkVisibility());
  check("every plot fills its width", plots.every((p) => Math.abs(p.querySelector(".main-svg").clientWidth - p.clientWidth) < 2));
  const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll *, nav *"));
  check("no part of the page is wider than the window: " + wide.map((e) => e.tagName + "#" + e.id + "." + e.className), document.documentElement.scrollWidth <= innerWidth && !wide.length);
  const box = (plot, part) => plot.querySelector(part)?.getBoundingClientRect();
  const apart = (a, b) => !a || !b || a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
  check("no legend lies on an axis", plots.every((p) => [".xtitle", ".xaxislayer-above"].every((part) => apart(box(p, ".legend"), box(p, part)))));
  check("the model of the map is named", at("map-note").textContent.startsWith(study.models[0].name + ", " + study.tasks[0].label + ", Δ: "));
  if (pair.ablation.length) {
    check("the ablated model is named", at("ablation-note").textContent.startsWith(study.models[0].name + ", IOI, hero heads from all categories; over held-out prompts."));
    check("what is not on the page is named", at("raw-note").textContent.endsWith("in the study's folder: results/ablation/hero_vs_random_ablation.csv (every ablated set with its means, 11.9 MiB)."));
  }
  const folded = () => document.querySelectorAll("details:not([open])").length;
  const before = folded();
  dispatchEvent(new Event("beforeprint"));
  check("paper shows what is folded", before > 0 && folded() === 0);
  check("every plot is as wide as paper", plots.every((p) => p.querySelector(".main-svg").clientWidth === 680));
  check("paper is light", getComputedStyle(document.body).backgroundColor === "rgb(255, 255, 255)");
  dispatchEvent(new Event("afterprint"));
  await new Promise((resolve) => setTimeout(resolve, 200));
  check("after printing every plot fills its width again", plots.every((p) => Math.abs(p.querySelector(".main-svg").clientWidth - p.clientWidth) < 2));
  check("after printing all is as before", folded() === before && document.documentElement.dataset.theme === "dark");
  check("words without a sense", !/\b(undefined|NaN|null)\b/.test(document.querySelector("main").innerText));
}
addEventListener("ready", async () => {
  try { await checks(); } catch (error) { errors.push(String(error)); }
  done();
});
</script>"##;

/// A phone: a browser's window cannot be as narrow, a frame in it can. The outcome in the frame becomes its own.
const PHONE: &str = r#"<title>nothing came</title><iframe src="report.html" width="360" height="780"></iframe>
<script>addEventListener("message", (event) => { document.title = event.data; });</script>"#;

fn browser() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&paths).flat_map(|p| names.map(|n| p.join(n))).find(|p| p.is_file())
}

/// How long a browser may take over one page before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Opens a page and returns its document after its scripts, and what stood on the console.
fn open(browser: &Path, page: &Path) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let [document, console] = ["document", "console"].map(|name| profile.path().join(name));
    let mut process = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .args([
            "--virtual-time-budget=10000",
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--window-size=1280,900")
        .arg(format!("file://{}", page.display()))
        .stdout(File::create(&document).unwrap())
        .stderr(File::create(&console).unwrap())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            process.kill().unwrap();
            process.wait().unwrap();
            panic!("the browser did not finish {} within {PATIENCE:?}", page.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    (text(&document), text(&console))
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: no Chromium is installed, so the page was not opened in a browser");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let cases = common::cases().into_iter().map(|(case, study)| {
        let extras = common::extras(&study);
        (case, (study, extras))
    });
    let six = [("six tasks", common::six_tasks(&common::models(&["gpt2", "pythia-160m", "opt-125m"])))];
    for (case, (study, extras)) in cases.chain(six) {
        if matches!(case, "one small model" | "sizes unknown") {
            continue;
        }
        let path = folder.path().join("report.html");
        let html = page(&study, &extras).unwrap().replace("<main>", &format!("{SCRIPT}<main>"));
        std::fs::write(&path, html).unwrap();
        let phone = folder.path().join("phone.html");
        std::fs::write(&phone, PHONE).unwrap();
        // Every case in a wide window; the smallest and the largest on a phone too.
        let on_a_phone = matches!(case, "one model" | "17 models" | "six tasks");
        for page in [Some(&path), Some(&phone).filter(|_| on_a_phone)].into_iter().flatten() {
            let place = format!("{case}, {}", page.file_name().unwrap().display());
            let (document, console) = open(&browser, page);
            let title = document.split("<title>").nth(1).and_then(|t| t.split("</title>").next());
            assert_eq!(title, Some("PASSED"), "{place}: {console}");
            let said: Vec<&str> = console.lines().filter(|l| l.contains("CONSOLE")).collect();
            assert!(said.is_empty(), "{place}: {said:?}");
        }
    }
}

#[test]
fn odd_studies_open_without_an_error() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: no Chromium is installed, so the page was not opened in a browser");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let odd = common::cases().into_iter().filter(|c| matches!(c.0, "one small model" | "sizes unknown"));
    let odd = odd.map(|(case, study)| (case, (study, Extras::default())));
    for (case, (study, extras)) in
        odd.chain([("one task", common::one_task(&common::models(&["gpt2", "opt-125m"])))])
    {
        let path = folder.path().join("report.html");
        std::fs::write(&path, page(&study, &extras).unwrap()).unwrap();
        let (document, console) = open(&browser, &path);
        assert!(document.contains("data-ready=\"true\""), "{case}: {console}");
        assert!(!console.contains("CONSOLE"), "{case}: {console}");
    }
}

#[test]
fn the_page_is_whole_small_and_always_the_same() {
    let two = common::study(&common::joint_csv(&KNOWN_MODELS, 1.0));
    let extras_of_two = common::extras(&two);
    for (study, extras) in [(two, extras_of_two), common::six_tasks(&KNOWN_MODELS)] {
        let html = page(&study, &extras).unwrap();
        assert!(html.len() < 6_000_000, "{} bytes", html.len());
        eprintln!("{} tasks: {} bytes", study.effects.tasks.len(), html.len());
        if let Some(folder) = std::env::var_os("PAGES_TO_LOOK_AT") {
            let name = format!("{}-tasks.html", study.effects.tasks.len());
            std::fs::write(Path::new(&folder).join(name), &html).unwrap();
        }
        assert_eq!(html, page(&study, &extras).unwrap());
        // Nothing is loaded from anywhere: no element names a source.
        let own = html.split("<script>").next().unwrap();
        assert!(!own.contains("src=") && !own.contains("http:") && !own.contains("https:"));
        for mark in
            ["/*STYLE*/", "/*DATA*/", "/*TABLES*/", "/*HEADS*/", "/*PLOTLY*/", "/*SCRIPTS*/", "<!--ANSWER-->"]
        {
            assert!(!html.contains(mark), "{mark}");
        }
    }
}

/// The tables on a page: names, and their content where the page carries it.
fn tables(html: &str) -> Vec<(String, Option<String>)> {
    let data: serde_json::Value = serde_json::from_str(common::part(html, "tables-data")).unwrap();
    let table =
        |t: &serde_json::Value| (t["name"].as_str().unwrap().into(), t["gz"].as_str().map(common::unpacked));
    data.as_array().unwrap().iter().map(table).collect()
}

#[test]
fn every_table_can_be_had_from_the_page_unless_it_would_grow_too_large() {
    let study = common::study(&common::joint_csv(&KNOWN_MODELS, 1.0));
    let extras = common::extras(&study);
    let on_page = tables(&page(&study, &extras).unwrap());
    let all: Vec<&Table> = study.tables.iter().chain(&extras.tables).collect();
    assert_eq!(on_page.len(), all.len());
    for (table, (name, csv)) in all.iter().zip(&on_page) {
        // The long table comes last: of a study this large there is no room for it.
        if name == "head_effects" {
            continue;
        }
        let csv = csv.as_deref().unwrap_or_else(|| panic!("{name} is left out"));
        assert_eq!(*name, table.name);
        assert_eq!(csv.lines().count(), 1 + table.n_rows(), "{name}");
        assert_eq!(csv.lines().next(), table.to_csv().lines().next(), "{name}");
    }
    // A table that is far too large is named, and the page stays small.
    let noise = (0..1_500_000u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761)));
    let huge = Table::new("huge").float("x", noise);
    let html = page(&study, &Extras { tables: vec![huge], ..Extras::default() }).unwrap();
    assert!(html.len() < 6_000_000, "{} bytes", html.len());
    assert!(*tables(&html).last().unwrap() == ("huge".to_owned(), None), "the table is on the page");
}

/// What the page rounds is as good as unrounded: 0.0905 is shown as the notes show the number that it stands for.
#[test]
fn numbers_come_to_the_page_as_if_unrounded() {
    let study = common::study(&common::joint_csv(&common::models(&["gpt2", "opt-125m"]), 1.0));
    let html = page(&study, &Extras::default()).unwrap();
    let data: serde_json::Value = serde_json::from_str(common::part(&html, "study")).unwrap();
    let heads = common::heads_on(&html);
    for (model, shown) in study.contrasts[0].joint.models.iter().zip(heads["models"].as_array().unwrap()) {
        let column = &shown["heads"]["t0_delta"];
        let per_unit = column[0].as_f64().unwrap();
        for (head, packed) in model.heads.iter().zip(column[1].as_array().unwrap()) {
            let (delta, packed) = (head.effects[0].delta.unwrap(), packed.as_f64().unwrap() / per_unit);
            assert!((delta - packed).abs() < 1.5e-5);
            assert_eq!(decimal(packed, 3), decimal(delta, 3));
        }
    }
    assert_eq!(
        data["contrasts"][0]["models"][0]["pearson"][0].as_f64(),
        study.contrasts[0].correlations[0].pearson.estimate
    );
    assert_eq!(data["models"][1]["not_done"], serde_json::json!(["anti-repeat"]));
    assert_eq!(data["best"], 0, "the only model that does both tasks");
}

#[test]
fn names_cannot_end_the_script() {
    let csv = common::joint_csv(&common::models(&["gpt2"]), 1.0)
        .replace("gpt2,gpt2,", "gpt2,</script><script>alert(1)</script>,");
    let html = page(&common::study(&csv), &Extras::default()).unwrap();
    assert!(!html.contains("</script><script>alert"), "a model's name ends the data");
}
