//! Progress: a bar on a terminal, otherwise a plain line at intervals; nothing for scripts.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;

/// Interval between two plain lines, so that the log of a long run stays readable.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub struct Progress {
    bar: ProgressBar,
    output: Output,
    what: String,
    done: u64,
    total: u64,
    last_line: Instant,
}

impl Progress {
    /// Starts to show `what`, of `total` steps.
    pub fn new(output: Output, what: &str, total: u64) -> Self {
        let bar = if output.is_live() {
            ProgressBar::new(total)
        } else {
            ProgressBar::hidden()
        };
        let template = "{msg:24} [{bar:30}] {pos}/{len}  {per_sec}  {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Self {
            bar,
            output,
            what: what.to_owned(),
            done: 0,
            total,
            last_line: Instant::now(),
        }
    }

    /// `steps` more are done.
    pub fn advance(&mut self, steps: u64) {
        self.done += steps;
        self.bar.inc(steps);
        if !self.output.is_live() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.line();
        }
    }

    /// Shows `done` of `total` steps of the current phase, `what`.
    pub fn show(&mut self, what: &str, done: u64, total: u64) {
        self.total = total;
        self.bar.set_length(total);
        what.clone_into(&mut self.what);
        self.bar.set_message(what.to_owned());
        if done < self.done {
            self.done = done;
            self.bar.set_position(done);
        }
        self.advance(done - self.done);
    }

    /// Ends the display.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        self.line();
    }

    fn line(&self) {
        let Self {
            what, done, total, ..
        } = self;
        self.output.note(&format!("{what}: {done}/{total}"));
    }
}
