//! `Selector::matches` is the specification of what a purge hits; this is its table.

use batoff_types::{CacheTags, Object, Selector, SelectorKind, SiteId};

fn url(text: &str) -> Selector {
    Selector::Url(text.parse().unwrap())
}

fn prefix(text: &str) -> Selector {
    Selector::Prefix(text.parse().unwrap())
}

fn tag(text: &str) -> Selector {
    Selector::Tag(text.parse().unwrap())
}

fn host(text: &str) -> Selector {
    Selector::Host(text.parse().unwrap())
}

/// Whether a purge of site `shop` hits an object with tags `a` and `b`, owned by `owner`.
#[track_caller]
fn check(selector: &Selector, owner: Option<&str>, object: &str, expected: bool) {
    let shop: SiteId = "shop".parse().unwrap();
    let owner: Option<SiteId> = owner.map(|site| site.parse().unwrap());
    let tags = CacheTags::parse([&b"a,b"[..]]);
    let object = Object { site: owner.as_ref(), url: &object.parse().unwrap(), tags: &tags };
    assert_eq!(selector.matches(&shop, &object), expected, "{selector:?} {object:?}");
}

#[test]
fn a_url_hits_itself_under_both_schemes() {
    let shop = Some("shop");
    check(&url("https://a.example/x?q=1"), shop, "https://a.example/x?q=1", true);
    check(&url("https://a.example/x?q=1"), shop, "http://a.example/x?q=1", true);
    check(&url("https://a.example/%78"), shop, "https://A.example:443/x#f", true);
    check(&url("https://a.example/x"), shop, "https://a.example/x?", false);
    check(&url("https://a.example/x"), shop, "https://a.example/x/", false);
    check(&url("https://a.example/x"), shop, "https://a.example/X", false);
    check(&url("https://a.example/x"), shop, "https://a.example:8443/x", false);
    check(&url("https://a.example/x?a&b"), shop, "https://a.example/x?b&a", false);
}

#[test]
fn a_prefix_hits_what_begins_with_it() {
    let shop = Some("shop");
    check(&prefix("https://a.example/im"), shop, "http://a.example/img/x", true);
    check(&prefix("https://a.example/im"), shop, "https://a.example/i", false);
    check(&prefix("https://a.example"), shop, "https://a.example/", true);
    check(&prefix("https://a.example"), shop, "https://b.a.example/", false);
}

#[test]
fn a_host_hits_everything_under_it_on_any_port() {
    let shop = Some("shop");
    check(&host("a.example"), shop, "https://a.example/x", true);
    check(&host("a.example"), shop, "http://a.example:8080/", true);
    check(&host("a.example"), shop, "https://b.a.example/", false);
    check(&host("a.example"), shop, "https://a.example./", true);
}

#[test]
fn names_hit_whoever_owns_them_now() {
    for owner in [None, Some("other")] {
        check(&url("https://a.example/x"), owner, "https://a.example/x", true);
        check(&prefix("https://a.example/"), owner, "https://a.example/x", true);
        check(&host("a.example"), owner, "https://a.example/x", true);
    }
}

#[test]
fn a_tag_and_everything_hit_only_what_the_site_owns_now() {
    for selector in [tag("a"), tag("b"), Selector::Everything] {
        check(&selector, Some("shop"), "https://a.example/x", true);
        check(&selector, Some("other"), "https://a.example/x", false);
        check(&selector, None, "https://a.example/x", false);
    }
    check(&tag("c"), Some("shop"), "https://a.example/x", false);
    check(&tag("A"), Some("shop"), "https://a.example/x", false);
}

#[test]
fn an_object_whose_tags_overflow_is_hit_by_every_tag_of_its_site() {
    let (shop, other): (SiteId, SiteId) = ("shop".parse().unwrap(), "other".parse().unwrap());
    let url = "https://a.example/x".parse().unwrap();
    let line = (0..17).map(|n| format!("tag-{n}")).collect::<Vec<_>>().join(",");
    for header in [line.as_bytes(), b"a tag with spaces", b"a,\xff"] {
        let tags = CacheTags::parse([header]);
        let object = |owner| Object { site: owner, url: &url, tags: &tags };
        for text in ["tag-16", "tag-0", "never-seen"] {
            assert!(tag(text).matches(&shop, &object(Some(&shop))), "{text}");
            assert!(!tag(text).matches(&shop, &object(Some(&other))), "{text}");
            assert!(!tag(text).matches(&shop, &object(None)), "{text}");
        }
    }
    let all = CacheTags::parse([b"a".as_slice()]);
    assert!(tag("b").matches(&shop, &Object { site: Some(&shop), url: &url, tags: &all.cut() }));
}

#[test]
fn kinds_have_the_names_of_the_api() {
    let selectors = [
        url("https://a.example/"),
        prefix("https://a.example/i"),
        tag("a"),
        host("a.example"),
        Selector::Everything,
    ];
    for (selector, kind) in selectors.iter().zip(SelectorKind::ALL) {
        assert_eq!(selector.kind(), kind);
        assert_eq!(SelectorKind::from_name(kind.as_str()), Some(kind));
    }
    assert_eq!(SelectorKind::from_name("urls"), None);
    let values: Vec<&str> = selectors.iter().map(Selector::value).collect();
    assert_eq!(values, ["https://a.example/", "https://a.example/i", "a", "a.example", ""]);
}
