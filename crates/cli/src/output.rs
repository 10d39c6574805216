use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;

/// On terminals with fewer columns tables are not folded to fit: they run over, which is easier to read.
const ARRANGE_FROM_WIDTH: u16 = 60;

/// Writes text to standard output. Whoever read it may be gone (`batoff list | head`): that is a failure, not a panic.
pub fn text(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    write!(out, "{text}{newline}")
        .and_then(|()| out.flush())
        .map_err(|e| Failure::Failed(format!("standard output: {e}")))
}

/// Writes one JSON document as one line.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    text(&serde_json::to_string(value).map_err(|e| Failure::Internal(e.to_string()))?)
}

/// Writes a remark to standard error. It is not worth dying for when nobody listens there.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A table with these headings: with lines on a terminal, bare columns where a script may cut it.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_header(headings.iter().copied());
    if std::io::stdout().is_terminal() {
        table.load_style(presets::UTF8_FULL_CONDENSED);
        // A terminal that does not know its width says 0, and a task's id in a column of one character helps nobody.
        if table.width().is_some_and(|width| width >= ARRANGE_FROM_WIDTH) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
    } else {
        table.load_style(presets::NOTHING);
    }
    table
}

/// Prints the table, or says that there is nothing in it.
pub fn print_table(table: &Table, nothing: &str) -> Result<(), Failure> {
    if table.is_empty() {
        note(nothing);
        return Ok(());
    }
    text(&table.trim_fmt())
}

/// A number that may not be known yet.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1 item`, `2 items`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
