//! What the documents name is there: files, anchors, crates and tests. And README stays a front door.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use feature::Feature;

#[allow(dead_code, reason = "its titles are all that is needed here")]
#[path = "caches/feature.rs"]
mod feature;

/// README is read from its first line to its last by somebody who does not know yet whether to stay.
const README_LINES_MAX: usize = 180;

/// Of a line that is not a table's.
const LINE_CHARS_MAX: usize = 120;

/// What a visitor sees first. Beside it there are only files whose names begin with a dot.
const TOP_LEVEL: [&str; 8] =
    ["Cargo.lock", "Cargo.toml", "README.md", "benches", "crates", "deploy", "proto", "tests"];

#[test]
fn what_the_documents_name_is_there() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = document.text();
        for link in links(&text) {
            if let Err(why) = document.follow(link) {
                wrong.push(format!("{}: the link {link}: {why}", document.name));
            }
        }
        for path in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_./{},*-".contains(c))) {
            let path = path.trim_end_matches(['.', ',', '/']);
            for path in alternatives(path).filter(|path| is_ours(path)) {
                if !document.finds(&path) {
                    wrong.push(format!("{}: there is no {path}", document.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn commands_name_benchmarks_and_test_binaries_that_exist() {
    let manifests = files().into_iter().filter(|file| file.ends_with("Cargo.toml"));
    let manifests: String = manifests.map(|file| read(&root().join(file))).collect();
    let mut wrong = Vec::new();
    for document in documents() {
        let text = document.text();
        let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c == '`').collect();
        for pair in words.windows(2).filter(|pair| matches!(pair[0], "--bench" | "--test")) {
            if pair[1] != "NAME" && !manifests.contains(&format!("name = \"{}\"", pair[1])) {
                wrong.push(format!("{}: there is no target of {} {}", document.name, pair[0], pair[1]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tests_that_the_documents_name_exist() {
    let sources = files().into_iter().filter(|file| file.ends_with(".rs"));
    let sources: Vec<String> = sources.map(|file| read(&root().join(file))).collect();
    let text = read(&root().join("tests/README.md"));
    let mut wrong = Vec::new();
    // Names of tests are claims, so they have many words; a star stands for the rest of one.
    for code in spans(&text).filter(|code| code.matches('_').count() >= 3) {
        let name = code.rsplit("::").next().unwrap_or(code).trim_end_matches('*');
        if !sources.iter().any(|source| source.contains(name)) {
            wrong.push(name.to_owned());
        }
    }
    assert!(wrong.is_empty(), "tests/README.md names tests that are not there: {wrong:#?}");
}

#[test]
fn the_map_has_every_crate() {
    let readme = read(&root().join("README.md"));
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
    for folder in fs::read_dir(root().join("crates")).unwrap().flatten() {
        let name = format!("`{}`", folder.file_name().to_string_lossy());
        let has = rows.iter().any(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&name)));
        assert!(has, "README's map has no row for {name}");
    }
}

#[test]
fn the_table_of_caches_has_a_row_for_each_feature() {
    let text = read(&root().join("deploy/README.md"));
    for feature in Feature::ALL {
        let row = format!("| {} |", feature.title());
        let has = text.lines().any(|line| line.starts_with(&row));
        assert!(
            has,
            "deploy/README.md lacks {row}: BATOFF_CACHE_MATRIX=<folder> ./tests/run --test caches writes the table"
        );
    }
}

#[test]
fn documents_can_be_read() {
    let readme = read(&root().join("README.md")).lines().count();
    assert!(readme <= README_LINES_MAX, "README has {readme} lines; move what is not for everybody");
    let mut wide = Vec::new();
    for document in documents() {
        for (number, line) in document.text().lines().enumerate() {
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX && !line.starts_with('|') {
                wide.push(format!("{}:{} has {chars} characters", document.name, number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

#[test]
fn the_top_level_is_as_agreed() {
    let found: BTreeSet<String> = files()
        .iter()
        .filter_map(|file| file.split('/').next())
        .filter(|name| !name.starts_with('.'))
        .map(str::to_owned)
        .collect();
    assert_eq!(found, TOP_LEVEL.map(str::to_owned).into(), "what is new has a place below one of these");
}

/// A Markdown file, by its path from the root.
struct Document {
    name: String,
}

impl Document {
    fn text(&self) -> String {
        read(&root().join(&self.name))
    }

    fn folder(&self) -> PathBuf {
        root().join(&self.name).parent().unwrap().to_owned()
    }

    /// Whether the target of a link of this document is there.
    fn follow(&self, link: &str) -> Result<(), String> {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() { root().join(&self.name) } else { self.folder().join(path) };
        if !target.exists() {
            return Err("there is no such file".to_owned());
        }
        let is_document = target.extension().is_some_and(|extension| extension == "md");
        let has_heading = || is_document && anchors(&read(&target)).any(|known| known == anchor);
        if anchor.is_empty() || has_heading() {
            Ok(())
        } else {
            Err("the file has no such heading".to_owned())
        }
    }

    /// Whether a path is there, seen from the root or from this document.
    fn finds(&self, path: &str) -> bool {
        let path = path.trim_start_matches("./");
        [root(), self.folder()].iter().any(|folder| match path.split_once('*') {
            None => folder.join(path).exists(),
            Some((before, after)) => files().iter().any(|file| {
                let file = root().join(file);
                let file = file.strip_prefix(folder).map(|file| file.to_string_lossy().into_owned());
                file.is_ok_and(|file| file.starts_with(before) && file.ends_with(after))
            }),
        })
    }
}

fn documents() -> Vec<Document> {
    let all = files().into_iter().filter(|file| file.ends_with(".md"));
    let all: Vec<Document> = all.map(|name| Document { name }).collect();
    assert!(all.len() >= 5, "the documents were not found");
    all
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files of the project, by their paths from the root: those that git has or would add.
fn files() -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = String::from_utf8(output.stdout).expect("paths are text");
    all.lines().filter(|file| root().join(file).exists()).map(str::to_owned).collect()
}

/// The targets of links that stay in the project.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains("://"))
}

/// What stands between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// As GitHub makes them from headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// `a-{b,c}.d` as `a-b.d` and `a-c.d`.
fn alternatives(path: &str) -> impl Iterator<Item = String> {
    let cut = path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let all = match cut {
        None => vec![path.to_owned()],
        Some((before, (inside, after))) => {
            inside.split(',').map(|word| format!("{before}{word}{after}")).collect()
        }
    };
    all.into_iter()
}

/// Whether a path names something of the project, rather than of the machine that it runs on.
fn is_ours(path: &str) -> bool {
    let path = path.trim_start_matches("./");
    let first = path.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| TOP_LEVEL.contains(&first) || matches!(first, ".ci" | ".config"))
}
