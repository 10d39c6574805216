use anyhow::Context;

use super::arguments::Arguments;
use super::measure::Figures;

/// Rows: what to print, the figure's name, and what it is divided by.
const ROWS: [(&str, &str, f64); 24] = [
    ("memory an entry, resident (B)", "bytes an entry, resident", 1.0),
    ("memory an entry, `stats()` (B)", "bytes an entry, stats()", 1.0),
    ("inserts, one thread (k/s)", "inserts a second", 1e3),
    ("`check`, 100 rules, p50 (ns)", "check at 100 rules, p50 ns", 1.0),
    ("`check`, 10,000 rules, p50 (ns)", "check at 10000 rules, p50 ns", 1.0),
    ("`check`, 100,000 rules, p50 (ns)", "check at 100000 rules, p50 ns", 1.0),
    ("… of the objects asked for, not fresh then (%)", "check at 10000 rules, not fresh, %", 1.0),
    ("a dependent memory load (ns)", "a dependent load, ns", 1.0),
    ("lookup, p50 (ns)", "lookup, p50 ns", 1.0),
    ("lookup while objects are swept, p50 (ns)", "lookup while sweeping, p50 ns", 1.0),
    ("objects swept meanwhile (k)", "objects swept meanwhile", 1e3),
    ("purge of a tag in force, p50 (µs)", "tag in force, p50 ns", 1e3),
    ("… p99 (µs)", "tag in force, p99 ns", 1e3),
    ("purge of a prefix in force, p50 (µs)", "prefix in force, p50 ns", 1e3),
    ("… p99 (µs)", "prefix in force, p99 ns", 1e3),
    ("objects of the tag (k)", "tag: objects hit", 1e3),
    ("100 k of the tag listed and removed (ms)", "tag: 100 k listed and removed, ms", 1.0),
    ("… longest call for 1,000 (µs)", "tag: longest call for 1000, us", 1.0),
    ("objects of the prefix (k)", "prefix: objects hit", 1e3),
    ("100 k of the prefix listed and removed (ms)", "prefix: 100 k listed and removed, ms", 1.0),
    ("… longest call for 1,000 (µs)", "prefix: longest call for 1000, us", 1.0),
    ("whole index flushed, in force, p50 (µs)", "flush in force, p50 ns", 1e3),
    ("… p99 (µs)", "flush in force, p99 ns", 1e3),
    ("memory a rule, `stats()` (B)", "bytes a rule, stats()", 1.0),
];

/// Measures each subject in a process of its own, and prints them side by side.
pub fn print(arguments: &Arguments) -> anyhow::Result<()> {
    let peers = arguments.peer_entries;
    let mut subjects = vec![("batoff", arguments.entries)];
    if peers != arguments.entries {
        subjects.push(("batoff", peers));
    }
    subjects.extend(["naive", "moka", "patricia"].map(|peer| (peer, peers)));
    let measured: Vec<Figures> =
        subjects.iter().map(|(name, entries)| run(name, *entries)).collect::<anyhow::Result<_>>()?;

    let names: Vec<_> = subjects.iter().map(|(name, entries)| format!("{name}, {entries}")).collect();
    println!("Time of processor; medians (p50) by the clock, of batches of 100.\n");
    println!("| | {} |", names.join(" | "));
    println!("| --- |{}", " ---: |".repeat(names.len()));
    for (title, name, unit) in ROWS {
        let cells = measured.iter().map(|figures| match figures.get(name) {
            Some(value) => format!("{:.*}", usize::from(value / unit < 100.0), value / unit),
            None => "–".to_owned(),
        });
        println!("| {title} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    let ratio = |name: &str| {
        let figures = measured.first()?;
        Some(figures.get(name)? / figures.get("a dependent load, ns")?)
    };
    if let (Some(quiet), Some(sweeping)) = (ratio("lookup, p50 ns"), ratio("lookup while sweeping, p50 ns")) {
        println!("\nA lookup costs {quiet:.1} dependent loads, {sweeping:.1} while objects are swept.");
    }
    Ok(())
}

fn run(name: &str, entries: usize) -> anyhow::Result<Figures> {
    eprintln!("measuring {name} with {entries} objects");
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["--only", name, "--entries", &entries.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "{name} ended with {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {name} printed"))
}
