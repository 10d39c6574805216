//! What a port means.

pub mod cases;

use batoff_types::{CacheTags, Object, PurgeUrl, Scheme, Selector, SiteId, UrlPrefix};

use self::cases::{PORTS, PortCase};

fn visited(case: &PortCase) -> PurgeUrl {
    PurgeUrl::of_request(Scheme::Http, &format!("www.a.example{}", case.visited), "/x").unwrap()
}

#[track_caller]
fn check(selector: &Selector, url: &PurgeUrl, hits: bool) {
    let site: SiteId = "shop".parse().unwrap();
    let object = Object { site: Some(&site), url, tags: &CacheTags::default() };
    assert_eq!(selector.matches(&site, &object), hits, "{selector:?} {url}");
}

#[test]
fn a_port_other_than_80_and_443_makes_a_url_of_its_own() {
    for case in PORTS {
        let (scheme, port) = case.purged;
        let url: PurgeUrl = format!("{scheme}www.a.example{port}/x").parse().unwrap();
        let prefix: UrlPrefix = format!("{scheme}www.a.example{port}/").parse().unwrap();
        check(&Selector::Host("www.a.example".parse().unwrap()), &visited(&case), true);
        check(&Selector::Url(url), &visited(&case), case.hits);
        check(&Selector::Prefix(prefix), &visited(&case), case.hits);
    }
}

#[test]
fn where_keys_have_no_port_a_purge_hits_whatever_port_it_names() {
    for case in PORTS {
        let (scheme, port) = case.purged;
        let url: PurgeUrl = format!("{scheme}www.a.example{port}/x").parse().unwrap();
        let prefix: UrlPrefix = format!("{scheme}www.a.example{port}/").parse().unwrap();
        let visited = visited(&case);
        let visited = visited.without_port().unwrap_or(visited);
        check(&Selector::Url(url.without_port().unwrap_or(url)), &visited, true);
        check(&Selector::Prefix(prefix.without_port().unwrap_or(prefix)), &visited, true);
    }
    let check = |given: &str, expected: Option<&str>| {
        let url: PurgeUrl = given.parse().unwrap();
        assert_eq!(url.without_port().as_ref().map(PurgeUrl::as_str), expected);
    };
    check("https://a.example:8443/x?y=:1/", Some("https://a.example/x?y=:1/"));
    check("https://[::1]:8443/", Some("https://[::1]/"));
    check("https://[::1]/", None);
    check("https://a.example/x:80/", None);
}
