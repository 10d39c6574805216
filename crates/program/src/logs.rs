//! Log lines, to standard error. Writing one never fails, never waits and never panics, whatever standard error is: a
//! file on a full disk, a pipe whose reader has gone, or one whose reader has stopped reading.
//!
//! ```text
//!  event ─▶ its kind's bucket ─▶ formatted ─▶ cleaned, cut ─▶ queue ─▶ a thread ─▶ standard error
//!              │ empty                                          │ full      │ fails
//!              └────────────────── left out, and counted ───────┴───────────┘
//! ```
//!
//! A kind is a place in the code. So a stranger, or a node that has gone wrong, fills neither the disk nor the lines
//! of others: each kind has [`KIND_BURST`] lines at once and [`KIND_PER_SECOND`] a second, and what was left out is told
//! every [`TELL_EVERY`]. Lines that name a task are the story of a purge; quotas bound them, and they have
//! [`STORY_BURST`].

mod clean;
mod kinds;
mod out;
mod requests;
mod section;

use serde::Deserialize;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub use tracing_subscriber::EnvFilter;

use self::clean::Style;
use self::kinds::Kinds;
pub use self::kinds::{KIND_BURST, KIND_PER_SECOND, STORY_BURST, STORY_PER_SECOND};
use self::out::Lines;
pub use self::out::{TELL_EVERY, describe_metrics, flush};
pub use self::section::LogSection;

/// The longest line, in bytes; what is longer is cut, and says so.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter that a configuration names, as `tracing` reads it: `info`, or `warn,batoff_control=debug`.
///
/// # Errors
/// What is wrong, and what would be right. A word alone must be a level: `tracing` would take any other for the name of a
/// target, show all of its lines, and hide everything else.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |part: &str| LEVELS.contains(&part.to_ascii_lowercase().as_str());
    if let Some(part) =
        text.split(',').map(str::trim).find(|part| !part.contains(['=', '[', ']']) && !is_level(part))
    {
        return Err(format!(
            "{part:?} is no level: write off, error, warn, info, debug or trace, or target=level such as \
             batoff_edge=debug"
        ));
    }
    EnvFilter::try_new(text).map_err(|error| format!("{text:?}: {error}; try \"info\""))
}

/// Installs the log lines of this process. Another subscriber that is there already, as in a test, stays.
pub fn install(filter: EnvFilter, format: Format) {
    let kinds = Kinds::new();
    let style = match format {
        Format::Text => Style::Text,
        Format::Json => Style::Json,
    };
    let Some(lines) = Lines::open(style, kinds.clone()) else { return };
    // Before the kinds count them.
    let filter = filter.and(filter_fn(|line| !requests::shows_a_request(line))).and(kinds);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(lines).with_ansi(false).log_internal_errors(false);
    let installed = match format {
        Format::Text => tracing_subscriber::registry().with(lines.with_filter(filter)).try_init(),
        Format::Json => tracing_subscriber::registry()
            .with(lines.json().flatten_event(true).with_filter(filter))
            .try_init(),
    };
    drop(installed);
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for level in ["info", "Debug", "batoff_edge=debug,info", "batoff_control[purge]=trace,info"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["", "loud", "info,batoff_edge", "batoff_edge=loud"] {
            assert!(filter(level).is_err(), "{level}");
        }
    }
}
