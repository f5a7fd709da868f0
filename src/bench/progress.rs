//! The progress bar, on a terminal's stderr only.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Parts of the bar.
const PARTS: u64 = 1000;

/// A bar, or nothing where nobody would see it.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar if stderr is a terminal.
    pub(super) fn new() -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar =
            ProgressBar::with_draw_target(Some(PARTS), ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:9} {bar:30} {percent:>3} %  {wide_msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress(Some(bar))
    }

    /// What is under way.
    pub(super) fn begin(&self, what: &'static str) {
        if let Some(bar) = &self.0 {
            bar.set_prefix(what);
            bar.set_message("");
            bar.set_position(0);
        }
    }

    /// Shows how much of it is done, from 0 to 1.
    pub(super) fn show(&self, done: f64, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.0 {
            bar.set_message(text());
            bar.set_position((done.clamp(0.0, 1.0) * PARTS as f64) as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
