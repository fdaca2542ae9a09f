//! Progress bars on standard error: what is being done, the rate, and the time left.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows progress, or nothing at all.
#[derive(Clone, Copy)]
pub struct Display {
    /// Show nothing.
    pub quiet: bool,
}

impl Display {
    /// A bar over `n_heads` heads, titled with the model and the task. It shows itself only on a terminal.
    pub fn scan(self, title: &str, n_heads: u64) -> ScanBar {
        self.bar(title, n_heads, "heads")
    }

    /// A bar over `n` sets of heads.
    pub fn sets(self, title: &str, n: u64) -> ScanBar {
        self.bar(title, n, "sets")
    }

    fn bar(self, title: &str, n: u64, unit: &'static str) -> ScanBar {
        let bar = ProgressBar::with_draw_target(Some(n), self.target());
        let template = format!("{{prefix:28}} {{bar:30}} {{pos:>5}}/{{len}} {unit}  {{msg}}  {{eta}} left");
        bar.set_style(
            ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        ScanBar { bar, n, unit }
    }

    /// A line about a finished step.
    pub fn note(self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    fn target(self) -> ProgressDrawTarget {
        if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
    }
}

/// The bar of one scan or experiment.
pub struct ScanBar {
    bar: ProgressBar,
    n: u64,
    unit: &'static str,
}

impl ScanBar {
    /// Shows that `done` of `total` work is done, as so many heads' or sets' worth: those of early layers are more work.
    pub fn advance(&self, done: u64, total: u64) {
        let items = (self.n as f64 * done as f64 / total.max(1) as f64) as u64;
        self.bar.set_position(items);
        let seconds = self.bar.elapsed().as_secs_f64();
        if seconds > 0.0 {
            self.bar.set_message(format!("{:.1} {}/s", items as f64 / seconds, self.unit));
        }
    }

    /// Ends the bar and returns the seconds it stood.
    pub fn finish(self) -> f64 {
        let seconds = self.bar.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        seconds
    }
}
