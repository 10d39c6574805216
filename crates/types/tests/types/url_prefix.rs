//! Prefixes: the same normal form, matched byte by byte.

use batoff_types::InvalidUrl::{self, EndsInEscape, Host, Scheme, UserInfo};
use batoff_types::{PurgeUrl, UrlPrefix};
use proptest::prelude::*;

use super::url_properties::{tail, urlish};

#[test]
fn a_prefix_is_in_normal_form_and_names_a_whole_host() {
    let check = |given: &str, expected: Result<&str, InvalidUrl>| {
        let read = given.parse::<UrlPrefix>();
        assert_eq!(read.as_ref().map(UrlPrefix::as_str).map_err(|error| *error), expected, "{given:?}");
    };
    check("https://A.example/Img", Ok("https://a.example/Img"));
    check("https://a.example", Ok("https://a.example/"));
    check("https://a.example/x?page=", Ok("https://a.example/x?page="));
    check("https://a.example/x?", Ok("https://a.example/x?"));
    check("https://пример.рф/т", Ok("https://xn--e1afmkfd.xn--p1ai/%D1%82"));
    check("https://a.example/%d1", Ok("https://a.example/%D1"));
    check("https://a.example/a/../b", Ok("https://a.example/b"));
    check("https://a.example/x#f", Ok("https://a.example/x"));
    check("https://a.example/%", Err(EndsInEscape));
    check("https://a.example/%d", Err(EndsInEscape));
    check("https://a.example/?%4", Err(EndsInEscape));
    check("https://a.example/%g", Ok("https://a.example/%g"));
    check("https://", Err(Host));
    check("https://*.a.example/", Err(Host));
    check("https://u@a.example/", Err(UserInfo));
    check("a.example/", Err(Scheme));
}

#[test]
fn a_prefix_matches_by_bytes_under_either_scheme() {
    let check = |prefix: &str, url: &str, expected| {
        let hit = prefix.parse::<UrlPrefix>().unwrap().matches(&url.parse().unwrap());
        assert_eq!(hit, expected, "{prefix} {url}");
    };
    check("https://www.example.com/im", "http://www.example.com/img/a", true);
    check("https://www.example.com/img/", "https://www.example.com/img", false);
    check("https://www.example.com/Img", "https://www.example.com/img/", false);
    check("https://www.example.co", "https://www.example.com/", false);
    check("https://www.example.com", "https://www.example.com/", true);
    check("https://www.example.com", "https://www.example.com:8443/", false);
    check("https://www.example.com:8443/", "https://www.example.com:8443/x", true);
    check("https://www.example.com/x", "https://www.example.com/x?y", true);
    check("https://www.example.com/x?", "https://www.example.com/x", false);
    check("https://www.example.com/%d1", "https://www.example.com/я", true);
    check("https://www.example.com/%d0", "https://www.example.com/я", false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_prefix_agrees_with_the_beginning_of_the_normal_form(prefix in urlish(), url in urlish()) {
        let (Ok(prefix), Ok(url)) = (prefix.parse::<UrlPrefix>(), url.parse::<PurgeUrl>()) else { return Ok(()) };
        let without_scheme = |text: &str| text.split_once("://").map(|(_, rest)| rest.to_owned()).unwrap();
        let expected = without_scheme(url.as_str()).starts_with(&without_scheme(prefix.as_str()));
        prop_assert_eq!(prefix.matches(&url), expected);
    }

    #[test]
    fn every_beginning_of_a_url_behind_its_host_hits_it(tail in tail(), cut in any::<prop::sample::Index>()) {
        let url: PurgeUrl = format!("https://a.example{tail}").parse().unwrap();
        let host_end = "https://a.example/".len();
        let cut = host_end + cut.index(url.as_str().len() - host_end + 1);
        let beginning = &url.as_str()[..cut];
        // Cut behind a dot it may end in a dot segment, which resolves to something shorter, and so hits as well.
        match beginning.parse::<UrlPrefix>() {
            Ok(prefix) => prop_assert!(prefix.matches(&url), "{prefix} {url}"),
            Err(error) => prop_assert_eq!(error, EndsInEscape),
        }
    }

    #[test]
    fn a_prefix_is_its_own_normal_form(text in urlish()) {
        let Ok(prefix) = text.parse::<UrlPrefix>() else { return Ok(()) };
        prop_assert_eq!(prefix.as_str().parse::<UrlPrefix>(), Ok(prefix.clone()));
        prop_assert_eq!(prefix.host(), prefix.hostname().to_string());
    }
}
