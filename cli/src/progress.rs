//! How far a long command is: a bar on a terminal, a line per stage in a log.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::time::Instant;

/// Progress, shared by all threads.
pub(crate) struct Progress {
    bar: ProgressBar,
    stage: Mutex<Option<(&'static str, Instant)>>,
}

impl Progress {
    /// Shows itself on stderr.
    pub(crate) fn new() -> Self {
        Self { bar: ProgressBar::new(0), stage: Mutex::new(None) }
    }

    /// Begins a stage of `length` steps.
    pub(crate) fn stage(&self, name: &'static str, length: u64) {
        self.done();
        if self.bar.is_hidden() {
            eprintln!("{name}: {length} steps");
        }
        self.bar.reset();
        self.bar.set_length(length);
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:40} {percent:>3} %  {eta} left") {
            self.bar.set_style(style);
        }
        self.bar.set_message(name);
        *self.lock() = Some((name, Instant::now()));
    }

    /// Some steps are done.
    pub(crate) fn advance(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// Ends the current stage.
    pub(crate) fn done(&self) {
        if let Some((name, since)) = self.lock().take() {
            self.bar.finish_and_clear();
            eprintln!("{name}: done in {:.1} s", since.elapsed().as_secs_f64());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(&'static str, Instant)>> {
        self.stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
