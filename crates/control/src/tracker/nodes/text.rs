/// Bytes of a text from a node that are kept: the name of a cache, a trouble's message.
const TEXT_BYTES_MAX: usize = 1_024;

/// As much of a node's text as is kept and logged.
pub(in crate::tracker) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
