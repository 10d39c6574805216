/// The first character of `text` that has no shape of its own, as copying from a document leaves it behind: white space
/// beyond ASCII, zero-width characters, direction marks and other format characters (Unicode's
/// Default_Ignorable_Code_Point, without the selectors that belong to a visible neighbour).
///
/// What a person has typed or pasted to name something is refused with it: it would hit something else than is seen.
pub fn invisible(text: &str) -> Option<char> {
    if text.is_ascii() {
        return None;
    }
    text.chars().find(|character| is_invisible(*character))
}

const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{1680}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180e}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'
    )
}
