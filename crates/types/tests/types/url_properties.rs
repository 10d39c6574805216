//! What must hold for any URL: normal forms are fixed points, and every way to a URL leads to the same one.

use batoff_types::{Hostname, PurgeUrl, Scheme};
use proptest::prelude::*;

/// Text made of the pieces on which normalisers disagree.
pub fn urlish() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        Just("a.example".to_owned()),
        Just("Пример.рф".to_owned()),
        "[a-zA-Z0-9а-я%*._-]{1,12}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){0,3}",
        Just("[2001:DB8::1]".to_owned()),
    ];
    let port = prop_oneof![
        3 => Just(String::new()),
        1 => Just(":443".to_owned()),
        1 => Just(":80".to_owned()),
        1 => ":[0-9]{0,5}",
    ];
    ("[hH]ttps?://", host, port, tail()).prop_map(|(scheme, host, port, tail)| scheme + &host + &port + &tail)
}

/// Path, query and fragment.
pub fn tail() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/"),
        Just("/"),
        Just("."),
        Just(".."),
        Just("%2e"),
        Just("%2E"),
        Just("%"),
        Just("%4"),
        Just("%34"),
        Just("%41"),
        Just("%7e"),
        Just("%c3%A9"),
        Just("%25"),
        Just("%2f"),
        Just("%00"),
        Just("?"),
        Just("#"),
        Just("\\"),
        Just("&"),
        Just("="),
        Just("+"),
        Just(" "),
        Just("'"),
        Just("|"),
        Just("^"),
        Just("я"),
        Just("e"),
        Just("1"),
        Just("index.html"),
        Just("~"),
        Just("@"),
        Just(":"),
        Just("*"),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| {
        let text = pieces.concat();
        if text.is_empty() || text.starts_with(['/', '?', '#', '\\']) { text } else { format!("/{text}") }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_normal_form_is_its_own_normal_form(text in urlish()) {
        let Ok(url) = text.parse::<PurgeUrl>() else { return Ok(()) };
        prop_assert_eq!(url.as_str().parse::<PurgeUrl>(), Ok(url.clone()));
        prop_assert!(url.as_str().is_ascii());
        prop_assert!(!url.as_str().contains([' ', '#']));
        prop_assert_eq!(url.as_str().split_once("://").unwrap().1, url.key());
        prop_assert!(url.key().starts_with(url.host()));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        let _ = text.parse::<PurgeUrl>();
        let _ = PurgeUrl::from_key(&text);
        let _ = PurgeUrl::of_request(Scheme::Http, &text, &text);
    }

    #[test]
    fn a_request_has_the_url_that_a_purge_of_it_names(text in urlish()) {
        let Ok(url) = text.parse::<PurgeUrl>() else { return Ok(()) };
        let (scheme, rest) = text.split_once("://").unwrap();
        let scheme = if scheme.ends_with('s') { Scheme::Https } else { Scheme::Http };
        let at = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        // A target that began with a backslash now has one more slash; the standard reads it as one.
        prop_assume!(!target.starts_with("/\\"));
        prop_assert_eq!(PurgeUrl::of_request(scheme, authority, &target), Ok(url));
    }

    #[test]
    fn a_url_is_found_again_by_its_key(text in urlish()) {
        let Ok(url) = text.parse::<PurgeUrl>() else { return Ok(()) };
        let again = PurgeUrl::from_key(url.key()).unwrap();
        prop_assert_eq!(again.key(), url.key());
        prop_assert_eq!(again.host(), url.host());
    }

    #[test]
    fn the_host_of_a_url_is_a_hostname_by_itself(text in urlish()) {
        let Ok(url) = text.parse::<PurgeUrl>() else { return Ok(()) };
        prop_assert_eq!(url.host().parse::<Hostname>(), Ok(url.hostname()));
    }

    #[test]
    fn escaping_what_need_not_be_escaped_changes_nothing(text in "[a-zA-Z0-9._~-]{1,20}") {
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let plain = format!("https://a.example/x/{text}?{text}").parse::<PurgeUrl>();
        prop_assert_eq!(format!("https://a.example/x/{escaped}?{escaped}").parse::<PurgeUrl>(), plain);
    }
}
