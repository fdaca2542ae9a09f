//! Progress on standard error: bars on a terminal, lines of JSON for programs, or nothing.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bars where standard error is a terminal, a line per finished step anywhere.
    Bars,
    /// One JSON object a line.
    Json,
    /// Nothing.
    Quiet,
}

/// Shows progress.
#[derive(Clone, Copy)]
pub struct Display {
    /// How.
    pub mode: Mode,
    /// Say more about each step.
    pub verbose: bool,
}

impl Display {
    /// A bar over so many `unit`s (heads, sets) of one model and task. It shows itself only on a terminal.
    pub fn bar(self, stage: &'static str, model: &str, task: &str, total: u64, unit: &str) -> Bar {
        let target = match self.mode {
            Mode::Bars => ProgressDrawTarget::stderr(),
            Mode::Json | Mode::Quiet => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        // The bar takes what the terminal's width leaves.
        let template = format!("{{prefix}} {{wide_bar}} {{pos:>4}}/{{len}} {unit}  {{msg:22}}");
        bar.set_style(
            ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_prefix(format!("{stage} · {model} · {task}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        let labels = json!({ "stage": stage, "model": model, "task": task, "unit": unit });
        Bar { bar, total, mode: self.mode, labels, start: Instant::now(), last_line: Cell::new(None) }
    }

    /// A stage begins: `number` of `of`.
    pub fn stage(self, name: &str, number: usize, of: usize) {
        match self.mode {
            Mode::Bars => eprintln!("[{number}/{of}] {name}"),
            Mode::Json => {
                eprintln!("{}", json!({ "event": "stage", "stage": name, "number": number, "of": of }))
            }
            Mode::Quiet => {}
        }
    }

    /// A line about a finished step.
    pub fn note(self, text: &str) {
        match self.mode {
            Mode::Bars => eprintln!("{text}"),
            Mode::Json => eprintln!("{}", json!({ "event": "note", "text": text })),
            Mode::Quiet => {}
        }
    }

    /// A line for those who asked for more.
    pub fn detail(self, text: &str) {
        if self.verbose {
            self.note(text);
        }
    }
}

/// A bar over the bytes of a file on its way.
pub fn download_bar(display: Display, title: &str, bytes: u64) -> ProgressBar {
    let target = match display.mode {
        Mode::Bars => ProgressDrawTarget::stderr(),
        Mode::Json | Mode::Quiet => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    let template = "{prefix:44} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(title.to_owned());
    bar
}

/// The bar of one step.
pub struct Bar {
    bar: ProgressBar,
    total: u64,
    mode: Mode,
    labels: serde_json::Value,
    start: Instant,
    last_line: Cell<Option<Instant>>,
}

impl Bar {
    /// Shows that `done` of `work` is done, as so many units' worth: heads of early layers are more work than others.
    pub fn advance(&self, done: u64, work: u64) {
        let share = done as f64 / work.max(1) as f64;
        let units = self.total as f64 * share;
        self.bar.set_position(units as u64);
        let seconds = self.start.elapsed().as_secs_f64();
        let seconds_left = seconds * (1.0 - share) / share.max(1e-9);
        let left = HumanDuration(Duration::try_from_secs_f64(seconds_left).unwrap_or(Duration::MAX));
        self.bar.set_message(format!("{:.1}/s  {left:#} left", units / seconds.max(1e-9)));
        let is_due = self.last_line.get().is_none_or(|at| at.elapsed() > Duration::from_millis(250));
        if self.mode == Mode::Json && (is_due || done == work) {
            self.last_line.set(Some(Instant::now()));
            let mut line = self.labels.clone();
            line["event"] = json!("progress");
            line["done"] = json!(units);
            line["total"] = json!(self.total);
            line["seconds"] = json!(seconds);
            line["seconds_left"] = json!(seconds_left);
            eprintln!("{line}");
        }
    }

    /// Ends the bar and returns the seconds it stood.
    pub fn finish(self) -> f64 {
        self.bar.finish_and_clear();
        self.start.elapsed().as_secs_f64()
    }
}
