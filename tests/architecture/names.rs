//! One word, one idea.

use std::collections::BTreeMap;

use super::sources;

/// Names that more than one type has, and how many have it. A name that comes to another type needs a reason here; one
/// that goes away from a type goes from here too, so that the list only becomes shorter.
const HOMONYMS: &[(&str, usize)] = &[
    // One idea, written down at both ends of a wire: the client's documents and the control plane's, and the page that the
    // daemon writes and caches read. A name of its own on either side would hide that they are the same.
    ("Breach", 2),
    ("Counts", 2),
    ("Effect", 2),
    ("Endpoint", 2),
    ("Events", 3),
    ("Include", 2),
    ("IssueToken", 2),
    ("IssuedToken", 2),
    ("Item", 2),
    ("LateNode", 2),
    ("NewSite", 2),
    ("Page", 4),
    ("Problem", 3),
    ("PurgeRequest", 2),
    ("Scope", 2),
    ("Site", 3),
    ("SiteLimits", 2),
    ("SitePatch", 2),
    ("Submission", 2),
    ("Timestamp", 2),
    // One idea, of one cache or of one origin after the other: nobody reads two kinds at once, and whoever has read one
    // finds his way in the next by the names.
    ("Answer", 3),
    ("Book", 3),
    ("CheckArgs", 3),
    ("Folder", 2),
    ("Found", 2),
    ("Link", 2),
    ("Origin", 3),
    ("Source", 2),
    // The field's word for it, in crates (or private to files) that do not meet: each program has its configuration, its
    // command line and its state behind a lock, a roster and a trie have nodes, a log and a cache are stores.
    ("Api", 2),
    ("Bucket", 2),
    ("Cli", 4),
    ("Command", 3),
    ("Committed", 2),
    ("Config", 3),
    ("Connection", 3),
    ("Event", 3),
    ("Failure", 2),
    ("Format", 2),
    ("Held", 2),
    ("Inner", 3),
    ("Limits", 2),
    ("Locator", 2),
    ("Mark", 2),
    ("Node", 2),
    ("Opened", 2),
    ("Path", 2),
    ("Pending", 3),
    ("Plan", 2),
    ("Progress", 2),
    ("Row", 2),
    ("Rule", 2),
    ("Running", 2),
    ("Shared", 4),
    ("StartError", 2),
    ("State", 7),
    ("Store", 3),
    ("Through", 2),
];

#[test]
fn one_word_is_one_idea() {
    let mut counts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    for entry in std::fs::read_dir(crates).expect("there are crates").flatten() {
        let name = entry.file_name().into_string().expect("a name in ASCII");
        for source in sources::of(&name).into_values() {
            for type_name in source.text.lines().filter_map(declared) {
                counts.entry(type_name.to_owned()).or_default().push(source.path.display().to_string());
            }
        }
    }
    counts.retain(|_, files| files.len() > 1);
    let allowed: BTreeMap<&str, usize> = HOMONYMS.iter().copied().collect();
    for (name, files) in &counts {
        let most = allowed.get(name.as_str()).copied().unwrap_or(1);
        assert!(files.len() <= most, "{name} names {} types, where {most} may: {files:#?}", files.len());
    }
    for (name, listed) in allowed {
        let there = counts.get(name).map_or(1, Vec::len);
        assert_eq!(
            there, listed,
            "{name} has become rarer: make its number in tests/architecture/names.rs {there}"
        );
    }
}

/// The type that this line declares, unless it is inside something.
fn declared(line: &str) -> Option<&str> {
    let after = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    let after = after.strip_prefix("unsafe ").unwrap_or(after);
    let name =
        ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|kind| after.strip_prefix(kind))?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}
