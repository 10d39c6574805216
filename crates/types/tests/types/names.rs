//! Sites, nodes and hostnames.

use batoff_types::{HOSTNAME_BYTES_MAX, HostPattern, Hostname, NodeName, SiteId};
use proptest::prelude::*;

#[test]
fn a_site_is_1_to_64_of_lower_case_letters_digits_and_hyphens() {
    let check = |name: &str, valid| assert_eq!(name.parse::<SiteId>().is_ok(), valid, "{name:?}");
    check("shop", true);
    check("-0-", true);
    check(&"s".repeat(64), true);
    check(&"s".repeat(65), false);
    check("", false);
    check("Shop", false);
    check("shop_1", false);
    check("shop.a", false);
    check("магазин", false);
    check("shop ", false);
}

#[test]
fn a_node_is_a_place_and_a_name_in_it() {
    let node: NodeName = "fra1/edge-03".parse().unwrap();
    assert_eq!((node.pop(), node.node(), node.to_string().as_str()), ("fra1", "edge-03", "fra1/edge-03"));

    let refused = |text: &str| assert!(text.parse::<NodeName>().is_err(), "{text:?}");
    refused("fra1");
    refused("fra1/");
    refused("/edge-03");
    refused("fra1/edge/03");
    refused("FRA1/edge-03");
}

#[test]
fn an_error_names_the_rule_and_what_was_given() {
    let error = NodeName::new("fra1", "Edge").unwrap_err();
    assert_eq!(error.to_string(), r#"node "Edge": must be 1 to 64 of a-z, 0-9 and -"#);
    let error = "x".repeat(10_000).parse::<SiteId>().unwrap_err();
    assert_eq!(error.value.len(), 256);
}

#[test]
fn a_certificate_names_exactly_one_node() {
    let node = NodeName::new("fra1", "edge-03").unwrap();
    assert_eq!(node.spiffe_uri(), "spiffe://batoff/pop/fra1/node/edge-03");

    let refused = |uri: &str| assert_eq!(NodeName::from_spiffe_uri(uri), None, "{uri}");
    refused("");
    refused("spiffe://other/pop/fra1/node/edge-03");
    refused("spiffe://batoff/pop/fra1/node/");
    refused("spiffe://batoff/pop/fra1/node/edge-03/");
    refused("spiffe://batoff/pop/fra1/node/edge-03?x");
    refused("spiffe://batoff/pop/fra1/node/a/node/b");
    refused("spiffe://batoff/pop/fra1/edge-03");
    refused("SPIFFE://batoff/pop/fra1/node/edge-03");
    refused("spiffe://batoff/pop/fra%31/node/edge-03");
}

#[test]
fn a_hostname_is_lower_case_ascii_without_port_or_wildcard() {
    let check = |given: &str, expected: Option<&str>| {
        assert_eq!(given.parse::<Hostname>().ok().as_ref().map(Hostname::as_str), expected, "{given:?}");
    };
    check("A.Example", Some("a.example"));
    check("Пример.рф", Some("xn--e1afmkfd.xn--p1ai"));
    check("xn--e1afmkfd.xn--p1ai", Some("xn--e1afmkfd.xn--p1ai"));
    check("127.1", Some("127.0.0.1"));
    check("[2001:DB8::1]", Some("[2001:db8::1]"));
    check("localhost", Some("localhost"));
    check("www.A.example.", Some("www.a.example"));
    check("127.0.0.1.", Some("127.0.0.1"));
    check("www.a.example..", None);
    check(".", None);
    check("", None);
    check("a.example:80", None);
    check("[::1]:80", None);
    check("::1", None);
    check("https://a.example", None);
    check("a.example/", None);
    check("u@a.example", None);
    check("a b", None);
    check("a%2eb", None);
    check("*.a.example", None);
    check("a.*", None);
    check("\u{ff0a}.a.example", None);
    // The URL standard would drop them, or keep one that nobody sees.
    for invisible in
        ["\u{ad}", "\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{202e}", "\u{feff}", "\u{a0}"]
    {
        for text in ["a{}.example", "{}a.example", "a.example{}", "*.a{}.example"] {
            let text = text.replace("{}", invisible);
            let refused = text.parse::<HostPattern>().unwrap_err();
            assert!(
                refused.rule.contains("invisible") && refused.rule.contains("delete it"),
                "{text:?}: {refused}"
            );
            assert!(!refused.to_string().contains(invisible), "the message shows it: {refused}");
        }
    }
    check("xn--mgba3gch31f060k.com", Some("xn--mgba3gch31f060k.com"));
    check(&"a.".repeat(HOSTNAME_BYTES_MAX), None);
}

#[test]
fn a_wildcard_means_every_name_below_at_any_depth() {
    let check = |pattern: &str, host: &str, expected| {
        let pattern: HostPattern = pattern.parse().unwrap();
        assert_eq!(pattern.matches(&host.parse().unwrap()), expected, "{pattern} {host}");
    };
    check("a.example", "a.example", true);
    check("A.Example", "a.example", true);
    check("a.example", "b.a.example", false);
    check("*.a.example", "b.a.example", true);
    check("*.a.example", "c.b.a.example", true);
    check("*.a.example", "a.example", false);
    check("*.a.example", "ba.example", false);
    check("*.a.example.", "b.a.example", true);
    check("a.example.", "a.example", true);
    check("*.пример.рф", "www.xn--e1afmkfd.xn--p1ai", true);

    let refused = |text: &str| assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
    refused("*");
    refused("*.");
    refused("*a.example");
    refused("a.*.example");
    refused("*.*.example");
    refused("**.a.example");
    refused("*.a.example:80");
}

proptest! {
    #[test]
    fn names_are_read_as_they_are_written(pop in "[a-z0-9-]{1,64}", node in "[a-z0-9-]{1,64}") {
        let name = NodeName::new(&pop, &node).unwrap();
        prop_assert_eq!(name.to_string().parse(), Ok(name.clone()));
        prop_assert_eq!(NodeName::from_spiffe_uri(&name.spiffe_uri()), Some(name));
    }

    #[test]
    fn a_hostname_is_its_own_normal_form(text in "[a-zA-Zа-я0-9.-]{1,20}") {
        let Ok(name) = text.parse::<Hostname>() else { return Ok(()) };
        prop_assert_eq!(name.as_str().parse(), Ok(name.clone()));
        let pattern = HostPattern::Under(name);
        prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
    }

    #[test]
    fn any_text_is_a_name_or_refused(text in ".{0,40}") {
        let _ = text.parse::<HostPattern>();
        let _ = text.parse::<NodeName>();
        let _ = NodeName::from_spiffe_uri(&text);
    }
}
