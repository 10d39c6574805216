//! The source files of a crate, and which of its own files each one imports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where a module stands in its crate: `["tracker", "sla"]`; the crate's root is empty.
pub type Module = Vec<String>;

/// A source file, without what is in it for tests only.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// The files of the crate in `crates/<name>/src` that are not tests.
pub fn of(name: &str) -> BTreeMap<Module, Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(name).join("src");
    let mut sources = BTreeMap::new();
    read(&root, &mut Vec::new(), &mut sources);
    assert!(sources.len() > 1, "{} has no sources", root.display());
    sources
}

fn read(folder: &Path, inside: &mut Module, sources: &mut BTreeMap<Module, Source>) {
    for entry in std::fs::read_dir(folder).expect("the crate has sources").flatten() {
        let path = entry.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in ASCII").to_owned();
        if stem == "tests" {
            continue;
        }
        inside.push(stem);
        if path.is_dir() {
            read(&path, inside, sources);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let whole = std::fs::read_to_string(&path).expect("sources are text");
            let text = super::without_tests(&whole).to_owned();
            let module = if inside.as_slice() == ["lib"] { Vec::new() } else { inside.clone() };
            sources.insert(module, Source { path, text });
        }
        inside.pop();
    }
}

/// Which files of the crate each file imports from. A program's `main` is left out: it may import anything.
pub fn imports(sources: &BTreeMap<Module, Source>) -> BTreeMap<Module, BTreeSet<Module>> {
    sources
        .iter()
        .filter(|(module, _)| *module != &["main"])
        .map(|(module, source)| {
            let code = code_of(&source.text);
            let named = paths(&code).into_iter().filter_map(|path| resolve(module, &path, sources));
            (module.clone(), named.filter(|target| target != module).collect())
        })
        .collect()
}

/// The file that holds what `path`, written in `module`, names.
fn resolve(module: &Module, path: &[String], sources: &BTreeMap<Module, Source>) -> Option<Module> {
    let mut named = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        _ => return None,
    };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => drop(named.pop()),
            part => named.push(part.to_owned()),
        }
    }
    while !sources.contains_key(&named) {
        named.pop()?;
    }
    Some(named)
}

/// All paths in the code that begin with `crate`, `self` or `super`, with those in braces written out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = ["crate::", "self::", "super::"].iter().filter_map(|start| rest.find(start)).min() {
        let begins = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let (tree, length) = tree(&rest[at..]);
        if begins {
            found.extend(tree);
        }
        rest = &rest[at + length.max(1)..];
    }
    found
}

/// The paths of one tree of imports at the beginning of `code`, and how many bytes it takes.
fn tree(code: &str) -> (Vec<Vec<String>>, usize) {
    let mut stem = Vec::new();
    let mut at = 0;
    loop {
        let name: String = code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        at += name.len();
        if !name.is_empty() {
            stem.push(name);
        }
        let Some(after) = code[at..].strip_prefix("::") else { return (vec![stem], at) };
        at += 2;
        if after.starts_with('{') {
            let (branches, length) = branches(&code[at..]);
            let whole = branches.into_iter().map(|branch| [stem.clone(), branch].concat()).collect();
            return (whole, at + length);
        }
        if !after.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return (vec![stem], at);
        }
    }
}

fn branches(code: &str) -> (Vec<Vec<String>>, usize) {
    let mut found = Vec::new();
    let mut at = 1;
    while let Some(next) = code[at..].chars().next() {
        if next == '}' {
            return (found, at + 1);
        }
        if next.is_alphanumeric() || next == '_' {
            let (some, length) = tree(&code[at..]);
            found.extend(some);
            at += length;
            // `as Name`
            at += code[at..].find([',', '}']).unwrap_or(0);
        } else {
            at += next.len_utf8();
        }
    }
    (found, at)
}

/// Without comments, and without those paths that only say who may see something.
fn code_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    lines.join("\n").replace("(in crate::", "(in ")
}

#[test]
fn paths_are_found_with_their_braces_written_out() {
    let code = "use crate::a::{self, b::{C, D as E}, F};\nfn f(x: super::g::H) -> crate::i { x.self::j }";
    let found: Vec<String> = paths(code).iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::a::self",
        "crate::a::b::C",
        "crate::a::b::D",
        "crate::a::F",
        "super::g::H",
        "crate::i",
        "self::j",
    ];
    assert_eq!(found, expected);
}
