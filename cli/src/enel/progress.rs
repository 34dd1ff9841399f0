//! How does a user see that long work goes on? A line on stderr that moves, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// How often the line moves by itself.
const TICK: Duration = Duration::from_millis(120);

/// Work under way; the line goes when this is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Work whose length is not known.
    pub fn spinner(what: impl Into<String>) -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_message(what.into());
        bar.enable_steady_tick(TICK);
        Progress { bar }
    }

    /// Work of `total_bytes` bytes.
    pub fn bytes(what: impl Into<String>, total_bytes: u64) -> Progress {
        Progress::counted(what.into(), total_bytes, "{msg} [{bar:30}] {bytes}/{total_bytes}")
    }

    /// Work of `total` pieces.
    pub fn count(what: impl Into<String>, total: u64) -> Progress {
        Progress::counted(what.into(), total, "{msg} [{bar:30}] {pos}/{len}")
    }

    fn counted(what: String, total: u64, template: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_message(what);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Progress { bar }
    }

    /// How much there is, where that is found out late.
    pub fn length(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// How far it is.
    pub fn at(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// What is being done now.
    pub fn say(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// A line of talk above the moving one.
    pub fn talk(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
