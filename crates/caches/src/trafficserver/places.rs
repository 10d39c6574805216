//! Under which fingerprints a rule stands, so that the script finds it by what Traffic Server shows it of a request.
//!
//! Traffic Server does not distinguish, nor tell its origin, an empty query (`/a?`), empty parameters (`/a;`) and slashes
//! that lead the path (`//a`). The script sees the URL without them, so rules are written for that.

use std::collections::BTreeSet;

use batoff_index::{Place, Rule, Snapshot};
use batoff_types::{HostPattern, PurgeUrl, SiteTable};

use super::print::{Fingerprinter, Print, PrintOf};

/// One slot of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleEntry {
    pub(super) class: PrintOf,
    pub(super) print: Print,
    /// The length of a prefix: the script looks for prefixes of lengths that are there.
    pub(super) prefix_bytes: usize,
    /// A seq, or the number of a site; 0: none.
    pub(super) hard: u64,
    pub(super) soft: u64,
}

/// The entries of one rule. That of the whole cache has none: it is the table's floor.
pub(super) fn of_rule(printer: Fingerprinter, rule: &Rule) -> Vec<RuleEntry> {
    let seq = |seq: Option<batoff_types::Seq>| seq.map_or(0, batoff_types::Seq::get);
    let entry = |class, print, prefix_bytes| RuleEntry {
        class,
        print,
        prefix_bytes,
        hard: seq(rule.hard),
        soft: seq(rule.soft),
    };
    let plain = |class, text: &str| entry(class, printer.of(class, text), 0);
    match &rule.place {
        Place::Whole => Vec::new(),
        Place::Site(site) => {
            vec![entry(PrintOf::Site, printer.of_site(printer.site(site.as_str())), 0)]
        }
        Place::Host(HostPattern::Exact(host)) => vec![plain(PrintOf::Host, host.as_str())],
        Place::Host(HostPattern::Under(parent)) => vec![plain(PrintOf::Under, parent.as_str())],
        Place::Url(key) => vec![plain(PrintOf::Url, &as_shown(key))],
        Place::Overflow(site) => {
            vec![entry(PrintOf::AnyTag, printer.of_any_tag(printer.site(site.as_str())), 0)]
        }
        Place::Tag(site, tag) => {
            vec![entry(PrintOf::Tag, printer.of_tag(printer.site(site.as_str()), tag.as_str()), 0)]
        }
        Place::Prefix(prefix) => {
            let shown = prefix_as_shown(prefix);
            let prefixes = shown
                .prefixes
                .iter()
                .map(|text| entry(PrintOf::Prefix, printer.of(PrintOf::Prefix, text), text.len()));
            let urls = shown.urls.iter().map(|text| plain(PrintOf::Url, text));
            prefixes.chain(urls).collect()
        }
    }
}

/// The entries of everything that an index knows, and the seq before which nothing may be served.
pub(super) fn of_snapshot(printer: Fingerprinter, snapshot: &Snapshot) -> (Vec<RuleEntry>, u64) {
    let mut floor = snapshot.forgotten_through.get();
    let mut entries = of_sites(printer, &snapshot.sites);
    for rule in &snapshot.rules {
        if rule.place == Place::Whole {
            // The script takes something stale for gone here.
            let newest = rule.hard.max(rule.soft);
            floor = floor.max(newest.map_or(0, batoff_types::Seq::get));
        }
        entries.extend(of_rule(printer, rule));
    }
    (entries, floor)
}

fn of_sites(printer: Fingerprinter, sites: &SiteTable) -> Vec<RuleEntry> {
    let mut entries = Vec::new();
    for (site, names) in sites.iter() {
        let number = printer.site(site.as_str());
        for name in names {
            let (class, text) = match name {
                HostPattern::Exact(host) => (PrintOf::Owned, host.as_str()),
                HostPattern::Under(parent) => (PrintOf::OwnedUnder, parent.as_str()),
            };
            let print = printer.of(class, text);
            entries.push(RuleEntry { class, print, prefix_bytes: 0, hard: number, soft: 0 });
        }
    }
    entries
}

/// A key as the script makes it of what it is shown.
pub(super) fn as_shown(key: &str) -> String {
    let mut key = key.to_owned();
    loop {
        let reduced = reduce(&key);
        // Without the end there may be something to be normalised again: `/a/..;`.
        let normal = PurgeUrl::from_key(&reduced).map_or(reduced, |url| url.key().to_owned());
        if normal == key {
            return key;
        }
        key = normal;
    }
}

/// Prefixes, and URLs beside them, that together hit what the prefix hits.
#[derive(Debug, Default, PartialEq, Eq)]
struct PrefixAsShown {
    prefixes: BTreeSet<String>,
    urls: BTreeSet<String>,
}

fn prefix_as_shown(prefix: &str) -> PrefixAsShown {
    let mut shown = PrefixAsShown::default();
    let (authority, target) = split(prefix);
    let target = one_slash(target);
    match target.split_once('?') {
        Some((path, query)) => {
            let path = without_empty_parameters(path);
            if query.is_empty() {
                shown.urls.insert(as_shown(&format!("{authority}{path}")));
            }
            shown.prefixes.insert(format!("{authority}{path}?{query}"));
        }
        None => {
            let path = without_empty_parameters(&target);
            if path.len() < target.len() {
                shown.urls.insert(as_shown(&format!("{authority}{path}")));
                shown.prefixes.insert(format!("{authority}{path}?"));
            }
            shown.prefixes.insert(format!("{authority}{target}"));
        }
    }
    shown
}

/// Without what Traffic Server does not show.
fn reduce(key: &str) -> String {
    let (authority, target) = split(key);
    let target = one_slash(target);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = without_empty_parameters(path);
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{authority}{path}{mark}{query}")
}

fn split(key: &str) -> (&str, &str) {
    key.split_at(key.find('/').unwrap_or(key.len()))
}

fn one_slash(target: &str) -> String {
    format!("/{}", target.trim_start_matches('/'))
}

fn without_empty_parameters(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or_default();
    match last.split_once(';') {
        Some((_, "")) => &path[..path.len() - 1],
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_traffic_server_shows_it() {
        for (key, shown) in [
            ("a.b/", "a.b/"),
            ("a.b/x?y;", "a.b/x?y;"),
            ("a.b///x//y", "a.b/x//y"),
            ("a.b/x?", "a.b/x"),
            ("a.b/x??", "a.b/x??"),
            ("a.b/x;?y", "a.b/x?y"),
            ("a.b/x;;", "a.b/x;;"),
            ("a.b/x;/y;", "a.b/x;/y"),
            ("a.b/x/..;", "a.b/"),
        ] {
            assert_eq!(as_shown(key), shown, "{key}");
        }
    }

    #[test]
    fn a_prefix_hits_what_it_hit_in_full() {
        let check = |prefix: &str, prefixes: &[&str], urls: &[&str]| {
            let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let expected = PrefixAsShown { prefixes: set(prefixes), urls: set(urls) };
            assert_eq!(prefix_as_shown(prefix), expected, "{prefix}");
        };
        check("a.b/", &["a.b/"], &[]);
        check("a.b/x", &["a.b/x"], &[]);
        check("a.b//x", &["a.b/x"], &[]);
        check("a.b/x?", &["a.b/x?"], &["a.b/x"]);
        check("a.b/x?y", &["a.b/x?y"], &[]);
        check("a.b/x;", &["a.b/x;", "a.b/x?"], &["a.b/x"]);
        check("a.b/x;?y=", &["a.b/x?y="], &[]);
    }
}
