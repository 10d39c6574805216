use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// How far a purge of several requests has been sent: a bar on a terminal, nothing where nobody looks.
pub struct Progress {
    bar: ProgressBar,
    visible: bool,
}

impl Progress {
    /// For so many requests with so many items together.
    pub fn new(requests: usize, items: usize) -> Self {
        let visible = requests > 1 && std::io::stderr().is_terminal();
        let bar = if visible { ProgressBar::new(items as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} items  {elapsed}  {msg}") {
            bar.set_style(style);
        }
        Self { bar, visible }
    }

    /// A request with so many items is durable.
    pub fn accepted(&self, items: usize) {
        self.bar.inc(items as u64);
    }

    /// The quota is used up for so long.
    pub fn waiting_for_quota(&self, pause: Duration) {
        let text = format!("quota used up, going on in {} s", pause.as_secs());
        if self.visible {
            self.bar.set_message(text);
        } else {
            output::note(&format!("batoff: {text}"));
        }
    }

    /// The quota's pause is over.
    pub fn sending(&self) {
        self.bar.set_message("");
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
