//! The two languages that people are answered in, and which of them a reader prefers (RFC 9110, 12.5.4).

/// A language that people are answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Language {
    /// The default.
    #[default]
    English,
    /// Where `Accept-Language` prefers `ru`.
    Russian,
}

impl Language {
    /// The tag for `Content-Language`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Russian => "ru",
        }
    }

    /// The language of that tag.
    pub fn from_tag(tag: &str) -> Option<Self> {
        [Self::English, Self::Russian].into_iter().find(|language| language.tag() == tag)
    }

    /// Reads the lines of `Accept-Language`.
    ///
    /// Russian wins with a higher weight than English, or with the same weight when it is named first. A language that
    /// is not named has the weight of `*`, else 0; when neither is wanted it is English. Malformed members are skipped.
    pub fn negotiate<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut russian = None;
        let mut english = None;
        let mut any = None;
        let members = lines.into_iter().flat_map(|line| line.split(','));
        for (place, member) in members.enumerate() {
            let Some((range, weight)) = parse_member(member) else { continue };
            let primary = range.split('-').next().unwrap_or_default();
            let slot = match primary {
                _ if primary.eq_ignore_ascii_case("ru") => &mut russian,
                _ if primary.eq_ignore_ascii_case("en") => &mut english,
                "*" => &mut any,
                _ => continue,
            };
            if slot.is_none_or(|(known, _)| weight > known) {
                *slot = Some((weight, place));
            }
        }
        let (Some((russian, russian_place)), fallback) =
            (russian, any.map(|(weight, _)| (weight, usize::MAX)))
        else {
            return Self::English;
        };
        let (english, english_place) = english.or(fallback).unwrap_or((0, usize::MAX));
        if russian > 0 && (russian > english || russian == english && russian_place < english_place) {
            Self::Russian
        } else {
            Self::English
        }
    }
}

/// A language range and its weight in thousandths.
fn parse_member(member: &str) -> Option<(&str, u16)> {
    let mut parts = member.split(';');
    let range = parts.next()?.trim();
    if range.is_empty() {
        return None;
    }
    let weight = match parts.next() {
        None => 1_000,
        Some(parameter) => {
            let (name, value) = parameter.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("q") {
                return None;
            }
            parse_weight(value.trim())?
        }
    };
    Some((range, weight))
}

/// `0`, `1`, and up to three decimals.
fn parse_weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, expected: Language) {
        assert_eq!(Language::negotiate([header]), expected, "{header:?}");
    }

    #[test]
    fn russian_is_chosen_where_it_is_preferred() {
        use Language::{English, Russian};
        check("ru", Russian);
        check("RU-ru", Russian);
        check("ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", Russian);
        check("en;q=0.8, ru", Russian);
        check("en;q=0.8 , ru ; q=0.81", Russian);
        check("de, ru;q=0.1", Russian);
        check("ru, *;q=0.5", Russian);
        check("ru,en", Russian);
        check("ru;q=0.9, *", English);
        check("en,ru", English);
        check("en-GB;q=0.9, ru;q=0.8", English);
        check("*", English);
        check("", English);
        check("de", English);
        check("ru;q=0", English);
        check("ru;q=0.000, en;q=0", English);
        check("rus", English);
        check("ru;q=2, en", English);
        check("ru;q=0.1234, en;q=0.1", English);
        check("ru;level=1", English);
    }

    #[test]
    fn several_lines_are_one_list() {
        assert_eq!(Language::negotiate(["en;q=0.5", "ru"]), Language::Russian);
    }
}
