//! The commands of a document, chapter by chapter, with what they are said to print.

use std::fs;

use crate::root;

/// A command as somebody types it at a prompt, and what he is told to expect.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    /// `…` stands for anything, also for many lines.
    pub printed: String,
}

/// The steps of the chapter with this heading in a document: what stands in its blocks of ```` ```console ````.
pub fn steps(document: &str, heading: &str) -> Vec<Step> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let begin = format!("\n## {heading}\n");
    let (_, chapter) =
        text.split_once(&begin).unwrap_or_else(|| panic!("{document} has no chapter {heading:?}"));
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let steps = blocks(chapter).flat_map(of_block).collect::<Vec<_>>();
    assert!(!steps.is_empty(), "{document}: nothing to do in {heading:?}");
    steps
}

fn blocks(chapter: &str) -> impl Iterator<Item = &str> {
    let begun = chapter.split("```console\n").skip(1);
    begun.map(|rest| rest.split("\n```").next().unwrap_or_default())
}

fn of_block(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut goes_on = false;
    for line in block.lines() {
        match (line.strip_prefix("# "), steps.last_mut()) {
            (Some(command), _) => {
                steps.push(Step { command: command.to_owned(), printed: String::new() });
                goes_on = command.ends_with('\\');
            }
            (None, Some(step)) if goes_on => {
                step.command = format!("{}\n{line}", step.command);
                goes_on = line.ends_with('\\');
            }
            (None, Some(step)) => step.printed = format!("{}{line}\n", step.printed),
            (None, None) => panic!("what is to type this? {line}"),
        }
    }
    steps
}

impl Step {
    /// Whether that was printed.
    pub fn is_met_by(&self, printed: &str) -> bool {
        let mut rest = printed.trim();
        let wanted = self.printed.trim();
        let mut parts = wanted.split('…').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let Some(after) = rest.strip_prefix(first) else { return false };
        rest = after;
        let mut last = first;
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
            last = part;
        }
        // Only dots at the end let something follow.
        rest.trim().is_empty() || (wanted.ends_with('…') && last.is_empty())
    }
}

#[test]
fn what_is_printed_is_compared_but_for_dots() {
    let step = |printed: &str| Step { command: String::new(), printed: printed.to_owned() };
    assert!(step("a\nb\n").is_met_by("a\nb\n"));
    assert!(step("").is_met_by("\n") && !step("").is_met_by("a"));
    assert!(step("a\n…\n").is_met_by("a\nb\nc\n") && step("…\nc\n").is_met_by("a\nb\nc\n"));
    assert!(step("…").is_met_by("") && step("…").is_met_by("a"));
    assert!(step("…b…\n").is_met_by("a b c") && !step("…d…\n").is_met_by("a b c"));
    assert!(!step("a\n").is_met_by("a\nb\n") && !step("b\n").is_met_by("a\nb\n"));
    assert!(!step("…\nb\n").is_met_by("a\nb\nc\n"));
}

#[test]
fn a_block_is_commands_and_what_they_print() {
    let steps = of_block("# one \\\n    two\nsaid\n# three\n");
    let made =
        |command: &str, printed: &str| Step { command: command.to_owned(), printed: printed.to_owned() };
    assert_eq!(steps, [made("one \\\n    two", "said\n"), made("three", "")]);
}
