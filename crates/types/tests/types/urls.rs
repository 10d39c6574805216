//! One normal form, case by case.

use batoff_types::InvalidUrl::{
    self, ControlCharacter, Host, Invisible, Malformed, Port, Scheme, TooLong, UserInfo, Wildcard,
};
use batoff_types::{PurgeUrl, Scheme as Requested, URL_BYTES_MAX, UrlPrefix};

/// Text as a customer or a client may write it, and its normal form or what is wrong with it.
#[track_caller]
fn check<'a>(cases: impl IntoIterator<Item = (&'a str, Result<&'a str, InvalidUrl>)>) {
    for (given, expected) in cases {
        let read = given.parse::<PurgeUrl>();
        assert_eq!(read.as_ref().map(PurgeUrl::as_str).map_err(|error| *error), expected, "{given:?}");
    }
}

#[test]
fn scheme_and_host_are_lower_case_and_the_path_is_kept() {
    check([
        ("https://a.example/x", Ok("https://a.example/x")),
        ("HTTPS://A.Example/X", Ok("https://a.example/X")),
        ("hTTp://A.EXAMPLE/x?Q=1", Ok("http://a.example/x?Q=1")),
    ]);
}

#[test]
fn an_international_host_and_its_ascii_form_are_one() {
    check([
        ("https://пример.рф/", Ok("https://xn--e1afmkfd.xn--p1ai/")),
        ("https://ПРИМЕР.РФ/", Ok("https://xn--e1afmkfd.xn--p1ai/")),
        ("https://xn--e1afmkfd.xn--p1ai/", Ok("https://xn--e1afmkfd.xn--p1ai/")),
        ("https://XN--E1AFMKFD.XN--P1AI/", Ok("https://xn--e1afmkfd.xn--p1ai/")),
        ("https://%D0%BF%D1%80%D0%B8%D0%BC%D0%B5%D1%80.рф/", Ok("https://xn--e1afmkfd.xn--p1ai/")),
        ("https://www.пример.рф:8443/", Ok("https://www.xn--e1afmkfd.xn--p1ai:8443/")),
        ("https://bücher.example/", Ok("https://xn--bcher-kva.example/")),
        ("https://faß.example/", Ok("https://xn--fa-hia.example/")),
        ("https://пример。рф/", Ok("https://xn--e1afmkfd.xn--p1ai/")),
        ("https://ａ.example/", Ok("https://a.example/")),
        ("https://a\u{ad}b.example/", Ok("https://ab.example/")),
        ("https://xn--a/", Err(Host)),
    ]);
}

#[test]
fn the_default_ports_go_under_either_scheme_and_others_stay() {
    check([
        ("https://a.example:443/", Ok("https://a.example/")),
        ("http://a.example:80/", Ok("http://a.example/")),
        ("https://a.example:80/", Ok("https://a.example/")),
        ("http://a.example:443/", Ok("http://a.example/")),
        ("https://a.example:/", Ok("https://a.example/")),
        ("https://a.example:08443/", Ok("https://a.example:8443/")),
        ("https://a.example:65535/", Ok("https://a.example:65535/")),
        ("https://a.example:65536/", Err(Port)),
        ("https://a.example:x/", Err(Port)),
        ("https://a.example:-1/", Err(Port)),
    ]);
}

#[test]
fn an_empty_path_is_a_slash_and_a_fragment_is_dropped() {
    check([
        ("https://a.example", Ok("https://a.example/")),
        ("https://a.example?q", Ok("https://a.example/?q")),
        ("https://a.example#f", Ok("https://a.example/")),
        ("https://a.example/x#", Ok("https://a.example/x")),
        ("https://a.example/x?q#f?g", Ok("https://a.example/x?q")),
        ("https://a.example/x%23f", Ok("https://a.example/x%23f")),
    ]);
}

#[test]
fn dot_segments_are_resolved_escaped_or_not() {
    check([
        ("https://a.example/b/../c", Ok("https://a.example/c")),
        ("https://a.example/b/./c", Ok("https://a.example/b/c")),
        ("https://a.example/b/..", Ok("https://a.example/")),
        ("https://a.example/b/.", Ok("https://a.example/b/")),
        ("https://a.example/../../c", Ok("https://a.example/c")),
        ("https://a.example/b/%2e%2E/c", Ok("https://a.example/c")),
        ("https://a.example/b/.%2e/c", Ok("https://a.example/c")),
        ("https://a.example/b/%2e/c", Ok("https://a.example/b/c")),
        ("https://a.example/b/%252e%252e/c", Ok("https://a.example/b/%252e%252e/c")),
        ("https://a.example/b/.../c", Ok("https://a.example/b/.../c")),
        ("https://a.example/.b/c..", Ok("https://a.example/.b/c..")),
        ("https://a.example//b///c", Ok("https://a.example//b///c")),
        ("https://a.example//..", Ok("https://a.example/")),
        ("https://a.example/x?../y", Ok("https://a.example/x?../y")),
    ]);
}

#[test]
fn escapes_are_in_upper_case_and_those_of_unreserved_characters_resolved() {
    check([
        ("https://a.example/caf%c3%a9", Ok("https://a.example/caf%C3%A9")),
        ("https://a.example/%7euser%2D%5f%2e", Ok("https://a.example/~user-_.")),
        ("https://a.example/%41%61%30", Ok("https://a.example/Aa0")),
        ("https://a.example/?%41=%7e&%2f=%2F", Ok("https://a.example/?A=~&%2F=%2F")),
        ("https://a.example/a%2fb", Ok("https://a.example/a%2Fb")),
        ("https://a.example/a%20b%00", Ok("https://a.example/a%20b%00")),
        ("https://a.example/%25%34%31", Ok("https://a.example/%2541")),
        ("https://a.example/%ff%fe", Ok("https://a.example/%FF%FE")),
    ]);
}

#[test]
fn a_percent_that_begins_no_escape_stays() {
    check([
        ("https://a.example/100%", Ok("https://a.example/100%")),
        ("https://a.example/%zz%4", Ok("https://a.example/%zz%4")),
        ("https://a.example/?%", Ok("https://a.example/?%")),
        // Resolved, the digit would make an escape of what stands before it: another URL.
        ("https://a.example/%%34", Ok("https://a.example/%%34")),
        ("https://a.example/%%34%31", Ok("https://a.example/%%341")),
        ("https://a.example/%4%31", Ok("https://a.example/%4%31")),
        ("https://a.example/%%7e", Ok("https://a.example/%~")),
    ]);
}

#[test]
fn a_query_keeps_its_order_and_its_emptiness() {
    check([
        ("https://a.example/?", Ok("https://a.example/?")),
        ("https://a.example?", Ok("https://a.example/?")),
        ("https://a.example/x?b=2&a=1&&b", Ok("https://a.example/x?b=2&a=1&&b")),
        ("https://a.example/x?a+b=c%20d", Ok("https://a.example/x?a+b=c%20d")),
        ("https://a.example/x?a=https://b.example/?c", Ok("https://a.example/x?a=https://b.example/?c")),
        ("https://a.example/x?'\"<>", Ok("https://a.example/x?%27%22%3C%3E")),
    ]);
}

#[test]
fn what_is_not_ascii_is_escaped_in_path_and_query_alike() {
    check([
        ("https://a.example/товар", Ok("https://a.example/%D1%82%D0%BE%D0%B2%D0%B0%D1%80")),
        ("https://a.example/?я=ё", Ok("https://a.example/?%D1%8F=%D1%91")),
        ("https://a.example/%D1%8f", Ok("https://a.example/%D1%8F")),
        ("https://a.example/a b", Ok("https://a.example/a%20b")),
        ("https://a.example/🦀", Ok("https://a.example/%F0%9F%A6%80")),
        // Composed and decomposed are two names, as they are for the origin.
        ("https://a.example/e\u{301}", Ok("https://a.example/e%CC%81")),
    ]);
}

#[test]
fn addresses_are_hosts() {
    check([
        ("http://127.0.0.1:8080/x", Ok("http://127.0.0.1:8080/x")),
        ("http://127.1/", Ok("http://127.0.0.1/")),
        ("http://0x7f.0.0.1/", Ok("http://127.0.0.1/")),
        ("https://[2001:DB8:0:0::1]/", Ok("https://[2001:db8::1]/")),
        ("https://[::1]:8443/", Ok("https://[::1]:8443/")),
        ("https://1.2.3.256/", Err(Host)),
        ("https://[::1/", Err(Host)),
        ("https://[::g]/", Err(Host)),
    ]);
}

#[test]
fn backslashes_and_outer_spaces_are_read_as_browsers_do() {
    check([
        (r"https://a.example\b\c", Ok("https://a.example/b/c")),
        (r"https://a.example/?b\c", Ok(r"https://a.example/?b\c")),
        ("  https://a.example/b ", Ok("https://a.example/b")),
        ("https://a.example/b%20", Ok("https://a.example/b%20")),
    ]);
}

#[test]
fn one_dot_behind_the_host_goes() {
    check([
        ("https://a.example./", Ok("https://a.example/")),
        ("https://a.example.:8443/x", Ok("https://a.example:8443/x")),
        ("https://пример.рф。/", Ok("https://xn--e1afmkfd.xn--p1ai/")),
        ("https://a.example%2e/", Ok("https://a.example/")),
        ("https://a.example../", Err(Host)),
        ("https://./", Err(Host)),
        ("https://127.0.0.1./", Ok("https://127.0.0.1/")),
    ]);
}

#[test]
fn what_no_customer_means_is_refused_with_the_remedy() {
    let check = |text: &str, expected: Option<InvalidUrl>| {
        assert_eq!(PurgeUrl::of_customer(text).err(), expected, "{text:?}");
        assert_eq!(UrlPrefix::of_customer(text).err(), expected, "{text:?}");
        if expected.is_some_and(|error| error != ControlCharacter) {
            assert!(text.parse::<PurgeUrl>().is_ok(), "a visitor may ask for it: {text:?}");
        }
    };
    for invisible in [
        '\u{a0}', '\u{ad}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{202a}',
        '\u{202e}', '\u{2028}', '\u{2060}', '\u{2066}', '\u{2069}', '\u{3000}', '\u{feff}', '\u{61c}',
        '\u{2009}',
    ] {
        check(&format!("https://a.example/x{invisible}"), Some(Invisible));
        check(&format!("https://a.example/{invisible}x"), Some(Invisible));
        check(&format!("https://a.example/?{invisible}x"), Some(Invisible));
    }
    for text in [
        "https://a.example/img/*",
        "https://a.example/*",
        "https://a.example/img/* ",
        "https://a.example/?a=*",
    ] {
        check(text, Some(Wildcard));
    }
    check("https://a.example/*/x", None);
    check("https://a.example/a b", None);
    check("https://a.example/x%E2%80%8B", None);
    check("https://a.example/img/%2A", None);
    check("https://a.example/😀/товар", None);
    assert!(Wildcard.to_string().contains("`prefixes`"));
}

#[test]
fn what_is_no_purgeable_url_says_why() {
    check([
        ("", Err(Scheme)),
        ("a.example/x", Err(Scheme)),
        ("/x", Err(Scheme)),
        ("//a.example/x", Err(Scheme)),
        ("a.example:80/x", Err(Scheme)),
        ("ftp://a.example/", Err(Scheme)),
        ("ws://a.example/", Err(Scheme)),
        ("file:///etc/passwd", Err(Scheme)),
        ("javascript:alert(1)", Err(Scheme)),
        ("https://", Err(Host)),
        ("https://?q", Err(Host)),
        ("https://:443/", Err(Host)),
        ("https://a b.example/", Err(Host)),
        ("https://a<b.example/", Err(Host)),
        ("https://*.a.example/x", Err(Host)),
        ("https://%2a.a.example/x", Err(Host)),
        ("https://user@a.example/", Err(UserInfo)),
        ("https://user:password@a.example/", Err(UserInfo)),
        ("https://:password@a.example/", Err(UserInfo)),
        ("https://@a.example/", Err(UserInfo)),
        ("https://:@a.example/", Err(UserInfo)),
        (r"https://a.example\@b.example/", Ok("https://a.example/@b.example/")),
        ("https://a.example/@b", Ok("https://a.example/@b")),
        ("https://a.example?@b", Ok("https://a.example/?@b")),
        ("https://a.example/\tb", Err(ControlCharacter)),
        ("https://a.example/b\n", Err(ControlCharacter)),
        ("https://a.exa\rmple/", Err(ControlCharacter)),
        ("https://a.example/\0", Err(ControlCharacter)),
        ("https://a.example/\u{7f}", Err(ControlCharacter)),
        ("https://a.example/\u{85}", Err(ControlCharacter)),
    ]);
}

#[test]
fn the_length_is_limited_as_given_and_in_normal_form() {
    let padded = |filler: &str, bytes: usize| {
        let front = "https://a.example/";
        format!("{front}{}", filler.repeat((bytes - front.len()) / filler.len()))
    };
    let fits = padded("x", URL_BYTES_MAX);
    check([
        (fits.as_str(), Ok(fits.as_str())),
        (&padded("x", URL_BYTES_MAX + 1), Err(TooLong)),
        // Two bytes as given, six when escaped.
        (&padded("я", URL_BYTES_MAX / 2), Err(TooLong)),
    ]);
    let host = format!("https://{}.example/", "a.".repeat(130).trim_end_matches('.'));
    check([(host.as_str(), Err(Host))]);
}

#[test]
fn two_urls_share_a_key_when_only_the_scheme_differs() {
    let key = |text: &str| text.parse::<PurgeUrl>().unwrap().key().to_owned();
    assert_eq!(key("http://a.example:80/x?q"), "a.example/x?q");
    assert_eq!(key("https://a.example:443/x?q"), "a.example/x?q");
    assert_eq!(key("https://a.example:8443/"), "a.example:8443/");

    let url: PurgeUrl = "https://[::1]:8443/x".parse().unwrap();
    assert_eq!((url.host(), url.hostname().as_str()), ("[::1]", "[::1]"));
}

#[test]
fn a_request_cannot_pass_part_of_its_target_for_a_host() {
    let check = |authority, target, expected: Result<&str, InvalidUrl>| {
        let url = PurgeUrl::of_request(Requested::Https, authority, target);
        assert_eq!(url.as_ref().map(PurgeUrl::key).map_err(|error| *error), expected, "{authority} {target}");
    };
    check("A.example:443", "/x?q", Ok("a.example/x?q"));
    check("a.example", "//b.example/x", Ok("a.example//b.example/x"));
    check("", "/b.example/x", Err(Host));
    check("", "//b.example/x", Err(Host));
    check("a.example/y", "/x", Err(Host));
    check("a.example?", "/x", Err(Host));
    check("a.example#", "/x", Err(Host));
    check(r"a.example\", "/x", Err(Host));
    check("user@a.example", "/x", Err(UserInfo));
    check("a.example", ".b.example/x", Err(Malformed));
    check("a.example", ":80/x", Err(Malformed));
    check("a.example", "", Err(Malformed));
    check("a.example", "*", Err(Malformed));
    check("a.example", "https://a.example/x", Err(Malformed));
}

#[test]
fn a_key_has_a_host_and_fits_if_its_url_did() {
    let check = |key: &str, expected| assert_eq!(PurgeUrl::from_key(key).map(|_| ()), expected, "{key:?}");
    check("a.example/x", Ok(()));
    check("/b.example/x", Err(Host));
    check("", Err(Malformed));
    check("a.example", Err(Malformed));

    let longest = format!("a.example/{}", "x".repeat(URL_BYTES_MAX - "http://a.example/".len()));
    assert_eq!(PurgeUrl::from_key(&longest).map(|url| url.key().to_owned()), Ok(longest));
}
