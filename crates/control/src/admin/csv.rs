//! Tables for spreadsheets: RFC 4180, and nothing in them is a formula.

use std::fmt::Write as _;

/// A table with a heading, whose lines end in CR LF.
pub(super) struct Csv {
    text: String,
}

impl Csv {
    /// With these columns.
    pub(super) fn new<const N: usize>(columns: [&str; N]) -> Self {
        let mut csv = Self { text: String::new() };
        csv.add(columns.map(str::to_owned));
        csv
    }

    /// One more line; as many fields as there are columns.
    pub(super) fn add<const N: usize>(&mut self, fields: [String; N]) {
        for (place, field) in fields.iter().enumerate() {
            if place > 0 {
                self.text.push(',');
            }
            self.write(field);
        }
        self.text.push_str("\r\n");
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn write(&mut self, field: &str) {
        // A spreadsheet takes what begins like this for a formula, and what nodes and caches say is nobody's to trust
        // (OWASP, "CSV injection"). None of our figures is negative.
        let guard = if field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { "'" } else { "" };
        if field.contains(['"', ',', '\r', '\n', ';', '\t']) {
            let _ = write!(self.text, "\"{guard}{}\"", field.replace('"', "\"\""));
        } else {
            self.text.push_str(guard);
            self.text.push_str(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be_and_formulas_are_texts() {
        let mut csv = Csv::new(["a", "b"]);
        for [left, right] in [
            ["plain", "two words"],
            ["a,b", "say \"no\""],
            ["=1+1", "@SUM(A1)"],
            ["-x", "+7"],
            ["=HYPERLINK(\"http://evil\",\"x\")", "line\r\nbreak"],
            ["\tx", ""],
        ] {
            csv.add([left.to_owned(), right.to_owned()]);
        }
        assert_eq!(
            csv.finish(),
            "a,b\r\nplain,two words\r\n\"a,b\",\"say \"\"no\"\"\"\r\n'=1+1,'@SUM(A1)\r\n'-x,'+7\r\n\
             \"'=HYPERLINK(\"\"http://evil\"\",\"\"x\"\")\",\"line\r\nbreak\"\r\n\"'\tx\",\r\n"
        );
    }
}
