//! One word, one idea.

use std::collections::BTreeMap;

use super::sources;

/// Names that more than one type has, and how many have it. A name that comes to another type needs a reason here; one
/// that goes away from a type goes from here too, so that the list only becomes shorter.
const HOMONYMS: &[(&str, usize)] = &[
    ("Admitted", 2),
    ("Answer", 3),
    ("Api", 2),
    ("At", 2),
    ("Batch", 2),
    ("Book", 2),
    ("Breach", 2),
    ("Bucket", 2),
    ("CheckArgs", 3),
    ("Class", 2),
    ("Cli", 4),
    ("Command", 3),
    ("Committed", 2),
    ("Config", 3),
    ("Connection", 3),
    ("Counts", 2),
    ("Effect", 2),
    ("Endpoint", 2),
    ("Entry", 2),
    ("Event", 3),
    ("Events", 3),
    ("Failure", 2),
    ("Fetch", 2),
    ("Folder", 2),
    ("Format", 2),
    ("Found", 2),
    ("Gate", 2),
    ("Header", 2),
    ("Heard", 2),
    ("Held", 4),
    ("Include", 2),
    ("Inner", 4),
    ("IssueToken", 2),
    ("IssuedToken", 2),
    ("Item", 2),
    ("Key", 2),
    ("Known", 4),
    ("LateNode", 2),
    ("Lease", 2),
    ("Left", 3),
    ("Limits", 2),
    ("Link", 2),
    ("Locator", 2),
    ("Map", 2),
    ("Mark", 3),
    ("Member", 2),
    ("NewSite", 2),
    ("Newest", 2),
    ("Node", 3),
    ("Object", 2),
    ("Order", 2),
    ("Origin", 3),
    ("Outcome", 2),
    ("Owner", 2),
    ("Page", 5),
    ("Part", 2),
    ("Past", 2),
    ("Path", 3),
    ("Pending", 2),
    ("Plan", 2),
    ("Printer", 2),
    ("Problem", 3),
    ("Progress", 2),
    ("PurgeRequest", 2),
    ("Queue", 3),
    ("Row", 2),
    ("Rule", 2),
    ("Rules", 2),
    ("Running", 2),
    ("Scope", 2),
    ("Section", 2),
    ("Shard", 2),
    ("Shared", 3),
    ("Site", 3),
    ("SiteLimits", 2),
    ("SitePatch", 2),
    ("Slot", 3),
    ("Source", 2),
    ("Standing", 2),
    ("StartError", 2),
    ("State", 7),
    ("Store", 3),
    ("Stored", 2),
    ("Stream", 3),
    ("Submission", 2),
    ("Sweep", 2),
    ("Table", 2),
    ("Tags", 2),
    ("Through", 2),
    ("Timestamp", 2),
    ("Told", 4),
    ("Unreadable", 2),
    ("Walk", 2),
    ("Watch", 2),
    ("Watched", 2),
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
