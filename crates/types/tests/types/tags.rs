//! Tags, and the header that carries them.

use batoff_types::InvalidTag::{self, Character, Empty, Invisible, TooLong};
use batoff_types::{CacheTags, TAG_BYTES_MAX, TAGS_PER_RESPONSE_LIMIT, TAGS_PER_RESPONSE_MAX, Tag};
use proptest::prelude::*;

#[test]
fn a_tag_is_visible_and_has_no_comma() {
    let check = |text: &str, expected: Result<(), InvalidTag>| {
        assert_eq!(text.parse::<Tag>().map(|tag| assert_eq!(tag.as_str(), text)), expected, "{text:?}");
    };
    check("product:42", Ok(()));
    check("!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~", Ok(()));
    check("товар:42", Ok(()));
    check(&"x".repeat(TAG_BYTES_MAX), Ok(()));
    check(&"x".repeat(TAG_BYTES_MAX + 1), Err(TooLong));
    check(&"я".repeat(TAG_BYTES_MAX / 2 + 1), Err(TooLong));
    check("", Err(Empty));
    check("a,b", Err(Character));
    check("a b", Err(Character));
    check(" a", Err(Character));
    check("a\u{a0}b", Err(Character));
    check("a\tb", Err(Character));
    check("a\u{7f}", Err(Character));
}

#[test]
fn a_customer_names_no_tag_with_a_character_that_nobody_sees() {
    for invisible in
        ['\u{ad}', '\u{200b}', '\u{200d}', '\u{200e}', '\u{202e}', '\u{2060}', '\u{feff}', '\u{3164}']
    {
        for text in [format!("sale{invisible}"), format!("{invisible}sale"), format!("sa{invisible}le")] {
            assert_eq!(Tag::of_customer(&text), Err(Invisible), "{text:?}");
            assert!(text.parse::<Tag>().is_ok(), "an origin may have written it: {text:?}");
        }
    }
    assert_eq!(Tag::of_customer("a\u{a0}b"), Err(Character));
    for text in ["product:42", "товар:42", "❤\u{fe0f}"] {
        assert_eq!(Tag::of_customer(text), text.parse(), "{text:?}");
    }
}

#[test]
fn tags_are_case_sensitive_and_not_normalised() {
    assert_ne!("A".parse::<Tag>(), "a".parse::<Tag>());
    assert_ne!("\u{e9}".parse::<Tag>(), "e\u{301}".parse::<Tag>());
}

#[test]
fn a_header_is_read_member_by_member() {
    let check = |lines: &[&str], expected: &[&str], ignored| {
        let read = CacheTags::parse(lines.iter().map(|line| line.as_bytes()));
        let tags: Vec<&str> = read.tags.iter().map(Tag::as_str).collect();
        assert_eq!((tags.as_slice(), read.ignored), (expected, ignored), "{lines:?}");
    };
    check(&[], &[], 0);
    check(&[""], &[], 0);
    check(&["a"], &["a"], 0);
    check(&["a, b,c"], &["a", "b", "c"], 0);
    check(&[" \ta \t,\t b "], &["a", "b"], 0);
    check(&[",,a,,", " , "], &["a"], 0);
    check(&["b, a", "c"], &["b", "a", "c"], 0);
    check(&["a,b,a", "a"], &["a", "b"], 0);
    check(&["A,a"], &["A", "a"], 0);
    check(&["a b, c"], &["c"], 1);
    check(&[&"x".repeat(TAG_BYTES_MAX + 1), "c"], &["c"], 1);
    check(&["товар"], &["товар"], 0);
}

#[test]
fn members_over_the_limit_are_counted_and_not_taken() {
    let line = |count: usize| (0..count).map(|i| format!("tag-{i}")).collect::<Vec<_>>().join(",");
    let read = CacheTags::parse([line(TAGS_PER_RESPONSE_MAX).as_bytes()]);
    assert_eq!((read.tags.len(), read.ignored), (TAGS_PER_RESPONSE_MAX, 0));

    let read = CacheTags::parse([line(TAGS_PER_RESPONSE_MAX + 3).as_bytes(), b"tag-0"]);
    assert_eq!((read.tags.len(), read.ignored), (TAGS_PER_RESPONSE_MAX, 3));
    assert_eq!(read.tags.last().map(Tag::as_str), Some("tag-15"));
}

#[test]
fn a_site_may_have_more_tags_read() {
    let line = (0..1_100).map(|i| format!("t{i}")).collect::<Vec<_>>().join(",");
    for most in [0, 1, 17, TAGS_PER_RESPONSE_LIMIT] {
        let read = CacheTags::parse_up_to(most, [line.as_bytes(), b"t0"]);
        assert_eq!((read.tags.len(), read.overflows()), (most, true), "{most}");
        let whole = CacheTags::parse_up_to(TAGS_PER_RESPONSE_LIMIT, [line.as_bytes()]);
        assert_eq!(whole.limited_to(most), CacheTags::parse_up_to(most, [line.as_bytes()]), "{most}");
    }
    let fits = CacheTags::parse_up_to(1_100, [line.as_bytes(), line.as_bytes()]);
    assert_eq!((fits.tags.len(), fits.overflows()), (1_100, false));
    assert!(fits.cut().overflows());
}

#[test]
fn bytes_that_are_no_text_are_ignored_by_themselves() {
    let read = CacheTags::parse([b"a,\xff\xfe,b".as_slice()]);
    assert_eq!((read.tags.len(), read.ignored), (2, 1));
}

proptest! {
    #[test]
    fn joining_lines_with_a_comma_changes_nothing(lines in proptest::collection::vec("[ab, \t\u{7f}я]{0,12}", 0..5)) {
        let apart = CacheTags::parse(lines.iter().map(|line| line.as_bytes()));
        prop_assert_eq!(CacheTags::parse([lines.join(",").as_bytes()]), apart);
    }

    #[test]
    fn any_header_stays_within_the_limits(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let read = CacheTags::parse([bytes.as_slice()]);
        prop_assert!(read.tags.len() <= TAGS_PER_RESPONSE_MAX);
        for tag in &read.tags {
            prop_assert_eq!(tag.as_str().parse::<Tag>(), Ok(tag.clone()));
        }
    }
}
