//! Whose a hostname is, against a list that is searched from end to end.

use batoff_types::{HostPattern, Hostname, SiteChange, SiteId, SiteLimits, SiteTable};
use proptest::prelude::*;

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

fn patterns(names: &[&str]) -> Vec<HostPattern> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn table(sites: &[(&str, &[&str])]) -> SiteTable {
    let mut table = SiteTable::default();
    for (name, names) in sites {
        table.set(&site(name), Some(&patterns(names)));
    }
    table
}

#[track_caller]
fn owned(table: &SiteTable, host: &str, owner: Option<&str>) {
    assert_eq!(table.owner(host).map(SiteId::as_str), owner, "{host}");
}

#[test]
fn the_most_specific_name_wins() {
    let table = table(&[
        ("wide", &["*.example"]),
        ("narrow", &["*.a.example", "a.example"]),
        ("one", &["www.a.example"]),
    ]);
    owned(&table, "www.a.example", Some("one"));
    owned(&table, "x.www.a.example", Some("narrow"));
    owned(&table, "img.a.example", Some("narrow"));
    owned(&table, "a.example", Some("narrow"));
    owned(&table, "b.example", Some("wide"));
    owned(&table, "example", None);
    owned(&table, "a.other", None);
    owned(&table, "", None);
}

#[test]
fn how_many_tags_are_read_is_the_sites_setting() {
    let mut table = table(&[("shop", &["*.shop.example"]), ("news", &["news.example"])]);
    let change = |tags_per_response| SiteChange {
        site: site("shop"),
        hostnames: Some(patterns(&["*.shop.example"])),
        affected: Vec::new(),
        limits: SiteLimits { tags_per_response, ..SiteLimits::default() },
    };
    for (set, read) in [(Some(64), 64), (Some(5_000), 1_024), (None, 16)] {
        table.apply(&change(set));
        let asked = ["www.shop.example", "news.example", "nobody.example"].map(|host| table.tags_max(host));
        assert_eq!(asked, [read, 16, 16], "{set:?}");
        assert_eq!(table.tags_per_response("shop"), set);
    }
}

#[test]
fn a_name_moves_to_the_site_that_claims_it_last() {
    let mut table = table(&[("old", &["a.example", "b.example"]), ("new", &["c.example"])]);
    table.apply(&SiteChange {
        site: site("new"),
        hostnames: Some(patterns(&["c.example", "a.example"])),
        affected: patterns(&["a.example"]),
        limits: SiteLimits::default(),
    });
    owned(&table, "a.example", Some("new"));
    assert_eq!(table.hostnames("old"), Some(patterns(&["b.example"]).as_slice()));
    assert_eq!(table.claimant(&"a.example".parse().unwrap()), Some(&site("new")));

    // Setting the old owner anew does not take the name back, unless it says so.
    table.set(&site("old"), Some(&patterns(&["b.example"])));
    owned(&table, "a.example", Some("new"));
}

#[test]
fn an_exact_name_and_a_wildcard_are_two_claims() {
    let mut table = table(&[("a", &["a.example"]), ("b", &["*.a.example"])]);
    owned(&table, "a.example", Some("a"));
    owned(&table, "x.a.example", Some("b"));
    assert_eq!(table.claimant(&"*.a.example".parse().unwrap()), Some(&site("b")));
    table.set(&site("b"), None);
    owned(&table, "a.example", Some("a"));
    owned(&table, "x.a.example", None);
}

#[test]
fn a_removed_site_owns_nothing_and_uncovers_the_wildcard_above_it() {
    let mut table = table(&[("wide", &["*.example"]), ("one", &["a.example"])]);
    table.set(&site("one"), None);
    owned(&table, "a.example", Some("wide"));
    assert_eq!(table.hostnames("one"), None);
    assert_eq!(table.iter().map(|(site, _)| site.as_str()).collect::<Vec<_>>(), ["wide"]);
    table.set(&site("one"), None);
    assert_eq!(table.iter().count(), 1);
}

#[test]
fn a_site_may_own_no_name_or_say_one_twice() {
    let mut table = table(&[("none", &[]), ("twice", &["a.example", "a.example"])]);
    assert_eq!(table.hostnames("none"), Some([].as_slice()));
    assert_eq!(table.hostnames("twice"), Some(patterns(&["a.example"]).as_slice()));
    table.set(&site("none"), Some(&patterns(&["a.example"])));
    assert_eq!(table.hostnames("twice"), Some([].as_slice()));
}

/// All claims in their order; the last one of a pattern counts.
#[derive(Debug, Default)]
struct Naive(Vec<(SiteId, Vec<HostPattern>)>);

impl Naive {
    fn set(&mut self, site: &SiteId, names: Option<&[HostPattern]>) {
        self.0.retain(|(other, _)| other != site);
        let Some(names) = names else { return };
        for (_, claimed) in &mut self.0 {
            claimed.retain(|name| !names.contains(name));
        }
        self.0.push((site.clone(), names.to_vec()));
    }

    fn owner(&self, host: &Hostname) -> Option<&SiteId> {
        let specificity = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Under(name) => name.as_str().len(),
        };
        self.0
            .iter()
            .flat_map(|(site, names)| names.iter().map(move |name| (site, name)))
            .filter(|(_, name)| name.matches(host))
            .max_by_key(|(_, name)| specificity(name))
            .map(|(site, _)| site)
    }
}

fn name() -> impl Strategy<Value = HostPattern> {
    r"(\*\.)?([ab]\.){0,2}[ab]\.example".prop_map(|text| text.parse().unwrap())
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_list_after_any_changes(
        changes in proptest::collection::vec(
            ("[a-d]", proptest::option::weighted(0.8, proptest::collection::btree_set(name(), 0..4))),
            0..20,
        ),
        hosts in proptest::collection::vec("([ab]\\.){0,4}example", 1..20),
    ) {
        let (mut table, mut naive) = (SiteTable::default(), Naive::default());
        for (id, names) in changes {
            let (id, names) = (site(&id), names.map(|names| names.into_iter().collect::<Vec<_>>()));
            table.set(&id, names.as_deref());
            naive.set(&id, names.as_deref());
        }
        for host in hosts {
            prop_assert_eq!(table.owner(&host), naive.owner(&host.parse().unwrap()), "{}", host);
        }
        for (id, names) in &naive.0 {
            prop_assert_eq!(table.hostnames(id.as_str()), Some(names.as_slice()));
            prop_assert!(names.iter().all(|name| table.claimant(name) == Some(id)));
        }
        prop_assert_eq!(table.iter().count(), naive.0.len());

        // Handed over site by site, as a Welcome does, it is the same table.
        let mut handed_over = SiteTable::default();
        for (id, names) in table.iter() {
            handed_over.set(id, Some(names));
        }
        prop_assert_eq!(handed_over, table);
    }
}
