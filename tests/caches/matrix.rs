//! The table of what each cache can do, written by the stories themselves.
//!
//! With `BATOFF_CACHE_MATRIX=<folder>` each story leaves its result there, and the last one leaves the whole table in
//! `<folder>/matrix.md`, which `deploy/README.md` shows. Each story is a process of its own under nextest, so the folder
//! is all they share.

use std::collections::BTreeMap;
use std::path::Path;

use crate::feature::Feature;

/// Notes that the story of a feature came to its end: `Ok`, or why the cache cannot do it.
pub fn note(subject: &str, feature: Feature, result: Result<(), &str>) {
    let Some(folder) = std::env::var_os("BATOFF_CACHE_MATRIX") else { return };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("a folder for the table");
    let cell = match result {
        Ok(()) => "yes".to_owned(),
        Err(why) => format!("no: {why}"),
    };
    std::fs::write(folder.join(format!("{subject}.{feature:?}")), cell).expect("a file for the cell");
    // Renamed, so that two stories that end at once do not write into each other's table.
    let draft = folder.join(format!("matrix.{}", std::process::id()));
    std::fs::write(&draft, table(folder)).expect("a file for the table");
    std::fs::rename(&draft, folder.join("matrix.md")).expect("the table in its place");
}

fn table(folder: &Path) -> String {
    let mut cells: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((subject, feature)) = name.split_once('.') else { continue };
        if Feature::ALL.iter().any(|known| format!("{known:?}") == feature) {
            let cell = std::fs::read_to_string(entry.path()).unwrap_or_default();
            cells.entry(subject.to_owned()).or_default().insert(feature.to_owned(), cell);
        }
    }
    let mut text = format!("| | {} |\n", cells.keys().cloned().collect::<Vec<_>>().join(" | "));
    text.push_str(&format!("| --- |{}\n", " --- |".repeat(cells.len())));
    for feature in Feature::ALL {
        text.push_str(&format!("| {} |", feature.title()));
        for column in cells.values() {
            let cell = column.get(&format!("{feature:?}")).map_or("not run", String::as_str);
            text.push_str(&format!(" {cell} |"));
        }
        text.push('\n');
    }
    text
}
