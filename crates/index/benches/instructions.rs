//! Instructions that one `check`, `lookup`, `insert` and `apply` take, counted by Valgrind's callgrind, and compared with
//! the counts that are committed beside this file. On a shared machine they are what stays the same from run to run.
//!
//! `cargo bench -p batoff-index --bench instructions` fails when an operation takes over a tenth more than it did; with
//! `-- --write` it records the counts as they are now.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot go on fails")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;

use batoff_index::{Entry, Index, IndexConfig, Variant};
use batoff_types::{
    Body, CacheTags, FillToken, HostPattern, Purge, PurgeUrl, Record, SEMANTICS_VERSION, Selector, Seq,
    SiteChange, SiteId, SiteLimits, Tag, TaskId, UnixMillis,
};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

/// What an operation may take more than it did.
const TOLERANCE: f64 = 1.10;

const OPERATIONS: [&str; 5] = ["check, 100 rules", "check, 10000 rules", "lookup", "insert", "apply"];

/// Operations counted, within [`counted`].
const COUNTED: usize = 2_000;

/// Runs of which the median counts: hashes are keyed anew in each, so lists are searched in another order, and a lookup
/// varies by some hundredths, once in a while by a tenth.
const RUNS: usize = 5;

const OBJECTS: usize = 4_000;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--run", operation] => run(operation),
        ["--write"] => write(&count_all()),
        [] => compare(&count_all()),
        _ => panic!("{arguments:?}: expected nothing, or --write"),
    }
}

fn count_all() -> BTreeMap<String, u64> {
    OPERATIONS
        .into_iter()
        .map(|operation| {
            let mut counts = [(); RUNS].map(|()| instructions(operation) / COUNTED as u64);
            counts.sort_unstable();
            (operation.to_owned(), counts[RUNS / 2])
        })
        .collect()
}

fn instructions(operation: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--run", operation])
        .output()
        .expect("valgrind must be installed (apt-get install valgrind)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let (_, collected) = said.rsplit_once("Collected : ").expect("callgrind says what it collected");
    collected.split_whitespace().next().and_then(|count| count.parse().ok()).expect("a count")
}

fn write(counted: &BTreeMap<String, u64>) {
    let mut text = String::from(
        "# Instructions an operation, by `cargo bench -p batoff-index --bench instructions -- --write`.\n",
    );
    for (operation, count) in counted {
        text += &format!("{operation}: {count}\n");
    }
    std::fs::write(BASELINE, &text).expect("the baseline can be written");
    print!("{text}");
}

fn compare(counted: &BTreeMap<String, u64>) {
    let text = std::fs::read_to_string(BASELINE).expect("the baseline is committed beside this program");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let baseline: BTreeMap<&str, u64> = lines
        .map(|line| {
            let (operation, count) = line.split_once(": ").expect("operation: count");
            (operation, count.parse().expect("a count"))
        })
        .collect();
    let mut slower = Vec::new();
    for (operation, &now) in counted {
        let before =
            *baseline.get(operation.as_str()).expect("every operation has a baseline; run with --write");
        println!("{operation}: {now} instructions, {before} in the baseline");
        if now as f64 > before as f64 * TOLERANCE {
            slower.push(operation);
        }
        if (now as f64) < before as f64 / TOLERANCE {
            println!("  better: record it with `-- --write`, or what it won can be lost unseen");
        }
    }
    assert!(
        slower.is_empty(),
        "more than a tenth slower: {slower:?}; if that is meant, run with `-- --write`"
    );
}

struct Bench {
    index: Index<u32>,
    site: SiteId,
    objects: Vec<(PurgeUrl, CacheTags)>,
    old: FillToken,
}

/// What callgrind counts: it is switched on by this function's name.
#[inline(never)]
fn counted(operation: &mut dyn FnMut()) {
    operation();
}

/// In a process of its own: everything that leads to the operation, and the operation so many times.
fn run(operation: &str) {
    let bench = Bench::new();
    match operation {
        "check, 100 rules" => bench.purged(100).check(),
        "check, 10000 rules" => bench.purged(10_000).check(),
        "lookup" => bench.purged(100).lookup(),
        "insert" => bench.insert(),
        "apply" => bench.purged(1_000).apply(),
        _ => panic!("{operation}: expected one of {OPERATIONS:?}"),
    }
}

impl Bench {
    fn new() -> Self {
        let index = Index::new(IndexConfig::default());
        let site: SiteId = "shop".parse().unwrap();
        let hostnames: Vec<HostPattern> = vec!["*.example.com".parse().unwrap()];
        let change = SiteChange {
            site: site.clone(),
            hostnames: Some(hostnames.clone()),
            affected: hostnames,
            limits: SiteLimits::default(),
        };
        drop(index.apply(&record(1, Body::Site(change))));
        let objects = (0..OBJECTS).map(object).collect();
        let old = index.begin_fill();
        let bench = Self { index, site, objects, old };
        for (at, (url, tags)) in bench.objects.iter().enumerate() {
            let entry = Entry {
                url: url.clone(),
                variant: Variant::MAIN,
                tags: tags.clone(),
                token: old,
                locator: at as u32,
            };
            bench.index.insert(entry).unwrap();
        }
        bench
    }

    /// With rules that hit none of the objects: a third each of URLs, tags, prefixes.
    fn purged(self, rules: usize) -> Self {
        for number in OBJECTS..OBJECTS + rules {
            drop(self.index.apply(&self.purge(number)));
        }
        while self.index.sweep(1_000).is_some() {}
        self
    }

    fn purge(&self, number: usize) -> Record {
        let (url, tags) = object(number * 7);
        let selector = match number % 3 {
            0 => Selector::Url(url),
            1 => Selector::Tag(tags.tags[0].clone()),
            _ => Selector::Prefix(
                format!("https://www.shop-{:02}.example.com/old-{number}/", number % 40).parse().unwrap(),
            ),
        };
        let purge = Purge { site: self.site.clone(), selectors: vec![selector], soft: false };
        record(self.index.applied().next().get(), Body::Purge(purge))
    }

    fn check(&self) {
        counted(&mut || {
            for (url, tags) in &self.objects[..COUNTED] {
                black_box(self.index.check(url, tags, self.old));
            }
        });
    }

    fn lookup(&self) {
        counted(&mut || {
            for (url, _) in &self.objects[..COUNTED] {
                black_box(self.index.lookup(url, Variant::MAIN));
            }
        });
    }

    /// Objects that are new.
    fn insert(&self) {
        let token = self.index.begin_fill();
        let made: Vec<_> = (OBJECTS..OBJECTS + COUNTED)
            .map(object)
            .map(|(url, tags)| Entry { url, variant: Variant::MAIN, tags, token, locator: 0 })
            .collect();
        let mut made = made.into_iter();
        counted(&mut || made.by_ref().for_each(|entry| self.index.insert(entry).unwrap()));
    }

    fn apply(&self) {
        let first = self.index.applied().get() + 1;
        let mut records: Vec<_> = (0..COUNTED).map(|number| self.purge(20_000 + number)).collect();
        for (seq, record) in (first..).zip(&mut records) {
            record.seq = Seq::new(seq).unwrap();
        }
        counted(&mut || {
            for record in &records {
                black_box(self.index.apply(record)).is_finished();
            }
        });
    }
}

fn object(number: usize) -> (PurgeUrl, CacheTags) {
    let url = format!(
        "https://www.shop-{:02}.example.com/products/{:03}-jackets/{number:07}/view-{}.webp",
        number % 40,
        number % 300,
        number % 5
    );
    let tags = [
        format!("product:{number}"),
        format!("category:{}", number % 300),
        format!("brand:{}", number % 70),
        format!("color:{}", number % 12),
    ];
    (url.parse().unwrap(), tags.map(|tag| tag.parse::<Tag>().unwrap()).to_vec().into())
}

fn record(seq: u64, body: Body) -> Record {
    Record {
        seq: Seq::new(seq).unwrap(),
        accepted_at: UnixMillis(0),
        task: TaskId::from_bytes([seq as u8; 16]),
        request_id: "bench".into(),
        semantics: SEMANTICS_VERSION,
        trace: None,
        body,
    }
}
