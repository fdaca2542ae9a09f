//! Progress on standard error: bars on a terminal, lines of JSON for programs, or nothing.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::stop;

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bars if standard error is a terminal; always a line per finished step.
    Bars,
    /// One JSON object per line.
    Json,
    /// Nothing.
    Quiet,
}

/// Shows progress.
#[derive(Clone, Copy)]
pub struct Display {
    /// How.
    pub mode: Mode,
    /// Print more about each step.
    pub verbose: bool,
    /// The expected time of the whole run, if estimated.
    pub whole: Option<&'static Whole>,
    /// Receives the progress of a part of a study.
    pub share: Option<&'static Share>,
}

/// Progress of something that consists of steps of known size.
#[derive(Default)]
pub struct Share(Mutex<ShareOf>);

#[derive(Default, Clone, Copy)]
struct ShareOf {
    /// The size of earlier steps, and of the current step.
    before: f64,
    step: f64,
    /// How much of the current step is done.
    done: f64,
}

impl Share {
    /// Begins a step of size `step`, after steps with a total size of `before`.
    pub fn begin(&self, before: f64, step: f64) {
        *self.lock() = ShareOf { before, step, done: 0.0 };
    }

    /// Sets how much of the step is done.
    fn advance(&self, done: f64) {
        self.lock().done = done;
    }

    /// How much of the whole is done.
    pub fn get(&self) -> f64 {
        let of = self.lock();
        of.before + of.step * of.done
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ShareOf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run's steps, each a stage of a model, with the time that each is expected to take.
pub struct Whole {
    steps: Vec<Step>,
    start: Instant,
    /// The current step, and when it began.
    now: Mutex<Option<(usize, Instant)>>,
}

/// A stage of a model.
pub struct Step {
    /// The stage's name.
    pub stage: &'static str,
    /// The model.
    pub model: String,
    /// Expected seconds.
    pub seconds: f64,
}

impl Whole {
    /// Creates the steps; the first begins now.
    pub fn new(steps: Vec<Step>) -> Self {
        Self { steps, start: Instant::now(), now: Mutex::new(None) }
    }

    /// Remaining seconds of all steps, given that the current step expects to take `own` more; `None` for a step without an
    /// estimate.
    fn seconds_left(&self, stage: &str, model: &str, own: f64) -> Option<f64> {
        let at = self.steps.iter().position(|step| step.stage == stage && step.model == model)?;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match *now {
            Some((step, begun)) if step == at => begun,
            _ => now.insert((at, Instant::now())).1,
        };
        let sum = |steps: &[Step]| steps.iter().map(|step| step.seconds).sum::<f64>();
        // The finished steps show how much slower or faster than expected this machine is.
        let expected = sum(&self.steps[..at]);
        let taken = (begun - self.start).as_secs_f64();
        let pace = if expected > 2.0 { taken / expected } else { 1.0 };
        let of_step = pace * self.steps[at].seconds - begun.elapsed().as_secs_f64();
        Some(of_step.max(own) + pace * sum(&self.steps[at + 1..]))
    }
}

impl Display {
    /// A bar over `total` units (heads, sets) of one model and task. It is only shown on a terminal.
    pub fn bar(self, stage: &'static str, model: &str, task: &str, total: u64, unit: &str) -> Bar {
        let target = match self.mode {
            Mode::Bars => ProgressDrawTarget::stderr(),
            Mode::Json | Mode::Quiet => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        // The bar takes the rest of the terminal's width.
        let template = format!("{{prefix}} {{wide_bar}} {{pos:>4}}/{{len}} {unit}  {{msg:36}}");
        bar.set_style(
            ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_prefix(format!("{stage} · {model} · {task}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        let labels = json!({ "stage": stage, "model": model, "task": task, "unit": unit });
        let (start, last_line) = (Instant::now(), Cell::new(None));
        let model = model.to_owned();
        let (whole, share) = (self.whole, self.share);
        Bar { bar, total, mode: self.mode, labels, start, last_line, whole, share, stage, model }
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

    /// A line that the user must see, also printed in quiet runs.
    pub fn warn(self, text: &str) {
        if matches!(self.mode, Mode::Quiet) {
            eprintln!("{text}");
        }
        self.note(text);
    }

    /// A line for verbose output.
    pub fn detail(self, text: &str) {
        if self.verbose {
            self.note(text);
        }
    }
}

/// A bar for the download of a file.
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
    whole: Option<&'static Whole>,
    share: Option<&'static Share>,
    stage: &'static str,
    model: String,
}

impl Bar {
    /// Shows that `done` of `work` is done, converted to units: heads of early layers are more work than others. Returns
    /// whether to continue.
    pub fn advance(&self, done: u64, work: u64) -> ControlFlow<()> {
        let share = done as f64 / work.max(1) as f64;
        if let Some(of_part) = self.share {
            of_part.advance(share);
        }
        let units = self.total as f64 * share;
        self.bar.set_position(units as u64);
        let seconds = self.start.elapsed().as_secs_f64();
        let seconds_left = seconds * (1.0 - share) / share.max(1e-9);
        let human = |seconds| HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let whole = self.whole.and_then(|whole| whole.seconds_left(self.stage, &self.model, seconds_left));
        let of_all = whole.map_or_else(String::new, |left| format!(", {:#} of all", human(left)));
        let speed = units / seconds.max(1e-9);
        self.bar.set_message(format!("{speed:.1}/s  {:#} left{of_all}", human(seconds_left)));
        let is_due = self.last_line.get().is_none_or(|at| at.elapsed() > Duration::from_millis(250));
        if self.mode == Mode::Json && (is_due || done == work) {
            self.last_line.set(Some(Instant::now()));
            let mut line = self.labels.clone();
            line["event"] = json!("progress");
            line["done"] = json!(units);
            line["total"] = json!(self.total);
            line["seconds"] = json!(seconds);
            line["seconds_left"] = json!(seconds_left);
            line["whole_seconds_left"] = json!(whole);
            eprintln!("{line}");
        }
        stop::check()
    }

    /// Removes the bar and returns the seconds since it was shown.
    pub fn finish(self) -> f64 {
        self.bar.finish_and_clear();
        self.start.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_the_whole_goes_on_beyond_the_step() {
        let step = |stage, model: &str, seconds| Step { stage, model: model.into(), seconds };
        let whole =
            Whole::new(vec![step("scan", "a", 10.0), step("scan", "b", 20.0), step("ablate", "a", 30.0)]);
        let left = |stage, model, own| whole.seconds_left(stage, model, own);
        assert!((left("scan", "a", 1.0).unwrap() - 60.0).abs() < 0.5);
        // A step that is slower than expected reports its own time.
        assert!((left("scan", "a", 100.0).unwrap() - 150.0).abs() < 0.5);
        // Ten seconds' worth were done in no time: the rest will be as fast.
        assert!(left("scan", "b", 3.0).unwrap() < 3.5);
        assert_eq!(left("report", "a", 1.0), None);
    }
}
