//! Libraries that write whole requests and answers into their lines.

use tracing::{Level, Metadata};

/// Their targets begin so. At `debug` and `trace` pingora writes out the header of each request and each answer, and with
/// them visitors' `Cookie` and `Authorization`.
const SHOW_REQUESTS: [&str; 1] = ["pingora"];

/// Whether a line is one of those that show what visitors send. They are never written, whatever the configured filter
/// says: a log goes to more people than a visitor's session should.
pub(super) fn shows_a_request(line: &Metadata<'_>) -> bool {
    *line.level() > Level::INFO && SHOW_REQUESTS.iter().any(|target| line.target().starts_with(target))
}
