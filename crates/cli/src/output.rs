//! What the command prints: text for people, tables that fit the terminal, JSON for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;
use crate::russian::tell;

/// Writes text to standard output. Whoever read it may be gone (`batoff list | head`): that is a failure, not a panic.
pub fn text(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    write!(out, "{text}{newline}").and_then(|()| out.flush()).map_err(unwritten)
}

fn unwritten(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Failed(format!("standard output: {error}")),
    }
}

/// Writes bytes to standard output as they are.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(unwritten)
}

/// Writes one JSON document as one line.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    text(&serde_json::to_string(value).map_err(|e| Failure::Internal(e.to_string()))?)
}

/// Writes a remark to standard error. It is not worth dying for when nobody listens there.
pub fn note(text: &str) {
    document(&tell(text));
}

/// Writes one JSON document to standard error, where failures go.
pub fn document(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes sentences for people to standard output.
pub fn say(sentences: &str) -> Result<(), Failure> {
    text(&tell(sentences))
}

/// Asks on the terminal; what was typed, without white space around it.
pub fn ask(question: &str) -> Result<String, Failure> {
    let _ = write!(std::io::stderr(), "{}", tell(question));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| Failure::Failed(format!("standard input: {e}")))?;
    Ok(answer.trim().to_owned())
}

/// What becomes of a column when the terminal is too narrow for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// It stays as it is. For what names a thing: half an id is none.
    Stay,
    /// Its text goes on in the next line.
    Wrap,
    /// It goes; the highest number first.
    Go(u8),
}

/// A table: with lines on a terminal, bare columns where a script may cut it.
pub struct Columns {
    table: Table,
    narrow: Vec<Narrow>,
}

/// A table with these headings.
pub fn table<const N: usize>(columns: [(&str, Narrow); N]) -> Columns {
    let mut table = Table::new();
    table.set_header(columns.map(|(heading, _)| tell(heading).into_owned()));
    table.load_style(if std::io::stdout().is_terminal() {
        presets::UTF8_FULL_CONDENSED
    } else {
        presets::NOTHING
    });
    Columns { table, narrow: columns.map(|(_, narrow)| narrow).to_vec() }
}

impl Columns {
    /// One more row.
    pub fn add_row<T: ToString, const N: usize>(&mut self, cells: [T; N]) {
        self.table.add_row(cells.map(|cell| cell.to_string()));
    }

    /// The table as it is, whatever the terminal's width.
    pub fn text(&self) -> String {
        self.table.trim_fmt()
    }

    /// Prints the table, or says that there is nothing in it.
    pub fn print(mut self, nothing: &str) -> Result<(), Failure> {
        if self.table.is_empty() {
            note(nothing);
            return Ok(());
        }
        if std::io::stdout().is_terminal() {
            // A terminal that does not know its width says 0.
            let width = self.table.width().filter(|width| *width > 0);
            width.into_iter().for_each(|width| self.fit(width));
        }
        text(&self.table.trim_fmt())
    }

    /// Takes columns away until the rest fits, wraps what may be wrapped, and lets what is then still too long run over
    /// the edge.
    fn fit(&mut self, width: u16) {
        let widths = self.table.column_max_content_widths();
        let mut shown: Vec<usize> = (0..self.narrow.len()).collect();
        // A space on both sides and a line between; of what wraps no more is asked than its heading.
        let least = |column: usize| match self.narrow[column] {
            Narrow::Wrap => widths[column].min(WRAPPED_MIN),
            Narrow::Stay | Narrow::Go(_) => widths[column],
        };
        let needed = |shown: &[usize]| shown.iter().map(|column| least(*column) + 3).sum::<u16>() + 1;
        while needed(&shown) > width
            && let Some((at, _)) = shown
                .iter()
                .enumerate()
                .filter_map(|(at, column)| match self.narrow[*column] {
                    Narrow::Go(order) => Some((at, order)),
                    Narrow::Stay | Narrow::Wrap => None,
                })
                .max_by_key(|(_, order)| *order)
        {
            shown.remove(at);
        }
        let fits = needed(&shown) <= width;
        self.table.set_width(width);
        if fits {
            self.table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for (at, narrow) in self.narrow.iter().enumerate() {
            let Some(column) = self.table.column_mut(at) else { continue };
            if !shown.contains(&at) {
                column.set_constraint(ColumnConstraint::Hidden);
            } else if *narrow != Narrow::Wrap {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
    }
}

/// Characters that a column of wrapped text has at least.
const WRAPPED_MIN: u16 = 20;

/// A number that may not be known yet.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1 item`, `2 items`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01JF7M2KZ7YH9Q4K0P2BDH9W3Y";

    fn tasks(width: u16) -> String {
        let mut table = table([
            ("TASK", Narrow::Stay),
            ("STATE", Narrow::Stay),
            ("ITEMS", Narrow::Go(2)),
            ("STARTED", Narrow::Go(1)),
            ("NODES CONFIRMED", Narrow::Go(3)),
        ]);
        table.table.load_style(presets::UTF8_FULL_CONDENSED);
        table.add_row([ID, "in_progress", "200", "2026-04-20T08:12:31Z", "3/3"]);
        table.fit(width);
        table.table.to_string()
    }

    #[test]
    fn columns_go_and_ids_never_wrap() {
        for width in [30, 46, 60, 80, 120] {
            let text = tasks(width);
            assert!(text.contains(ID) && text.contains("in_progress"), "{width}:\n{text}");
            let fits = text.lines().all(|line| line.chars().count() <= usize::from(width));
            assert!(fits || width < 46, "{width}:\n{text}");
        }
        assert!(tasks(120).contains("NODES CONFIRMED") && !tasks(80).contains("NODES CONFIRMED"));
        assert!(tasks(80).contains("STARTED") && !tasks(46).contains("STARTED"));
    }

    #[test]
    fn long_texts_wrap_beside_ids_that_do_not() {
        let mut table = table([("NODE", Narrow::Stay), ("CURSOR", Narrow::Go(1)), ("TROUBLE", Narrow::Wrap)]);
        table.add_row(["fra1/edge-03", "4711", &"the cache does not answer ".repeat(8)]);
        table.fit(60);
        let text = table.table.to_string();
        assert!(text.contains("fra1/edge-03") && text.contains("4711"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    }
}
