//! Prose with code in it: what stands between backticks is code, between two stars strong, and a blank line parts
//! paragraphs. Everything else is text, whatever it looks like.

use std::fmt;

/// HTML that is safe to stand in a page: text was escaped when it was made.
#[derive(Clone, Debug, Default)]
pub struct Rich(String);

impl Rich {
    /// One paragraph, without its element.
    pub fn line(text: &str) -> Self {
        let mut html = String::with_capacity(text.len() + 16);
        for (index, part) in text.split('`').enumerate() {
            if index % 2 == 1 {
                html.push_str("<code>");
                escape(part, &mut html);
                html.push_str("</code>");
                continue;
            }
            for (index, part) in part.split("**").enumerate() {
                html.push_str(if index % 2 == 1 { "<strong>" } else { "" });
                escape(part, &mut html);
                html.push_str(if index % 2 == 1 { "</strong>" } else { "" });
            }
        }
        Self(html)
    }

    /// Paragraphs.
    pub fn paragraphs(text: &str) -> Vec<Self> {
        text.split("\n\n").map(str::trim).filter(|part| !part.is_empty()).map(Self::line).collect()
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Rich {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn escape(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_marked_and_everything_else_is_text() {
        let line = Rich::line("an `a<b>` of **API** & <script>").to_string();
        assert_eq!(line, "an <code>a&lt;b&gt;</code> of <strong>API</strong> &amp; &lt;script&gt;");
        assert_eq!(Rich::paragraphs("one\n\ntwo").len(), 2);
    }
}
