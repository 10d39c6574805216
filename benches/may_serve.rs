//! What the lease check adds to a hit: nanoseconds, all within one run, beside the questions that a hit asks anyway.
//!
//!   cargo bench -p batoff-benches --bench may_serve
//!   cargo bench -p batoff-benches --bench may_serve -- --repeat "may_serve strict" 1000   # for a counter of instructions

use std::hint::black_box;
use std::time::Instant;

use batoff_edge::{Fence, boottime};
use batoff_index::{Index, IndexConfig, Verdict};
use batoff_types::message::LeasePolicy;
use batoff_types::{
    Body, CacheTags, FillToken, Purge, PurgeUrl, Record, Selector, Seq, SiteChange, SiteLimits, Tag, TaskId,
    UnixMillis,
};

/// Rules in force: a purge each, of URLs, prefixes and tags that the object does not have.
const RULES: u64 = 10_000;

/// Tags of the object.
const TAGS: usize = 4;

/// Calls in a round, which is shorter than a turn of the scheduler, and rounds. The median round is printed.
const CALLS: u32 = 2_000;
const ROUNDS: usize = 1_001;

/// A cached object and what is asked about it.
struct Hit {
    index: Index<()>,
    url: PurgeUrl,
    tags: CacheTags,
    token: FillToken,
    /// Serves with or without a lease: never reads the clock.
    available: Fence,
    /// Reads the clock at each hit. It has no lease, which is found out as quickly as that it has one.
    strict: Fence,
}

fn main() -> anyhow::Result<()> {
    let hit = Hit::new()?;
    let cases: [(&str, &dyn Fn() -> bool); 8] = [
        ("rules", &|| hit.rules()),
        ("nothing", &|| true),
        ("monotonic", &|| black_box(Instant::now()).elapsed().is_zero()),
        ("boottime", &|| black_box(boottime()).as_micros() > 0),
        ("may_serve available", &|| hit.available.may_serve()),
        ("may_serve strict", &|| hit.strict.may_serve()),
        ("rules + lease available", &|| hit.rules() && hit.available.may_serve()),
        ("rules + lease strict", &|| hit.rules() && hit.strict.may_serve()),
    ];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--repeat") {
        let [case, times] = &arguments[at + 1..at + 3] else { anyhow::bail!("--repeat CASE TIMES") };
        let run = cases.iter().find(|(known, _)| known == case);
        let (_, run) = run.ok_or_else(|| anyhow::anyhow!("no case {case:?}"))?;
        for _ in 0..times.parse::<u32>()? {
            black_box(run());
        }
        return Ok(());
    }

    let rules = median(&|| hit.rules());
    println!("{RULES} rules, an object with {TAGS} tags; median of {ROUNDS} rounds of {CALLS} calls\n");
    println!("{:<26} {:>8} {:>14}", "", "ns", "of the rules");
    for (name, run) in cases {
        let nanos = median(run);
        println!("{name:<26} {nanos:>8.1} {:>13.0}%", 100.0 * nanos / rules);
    }
    Ok(())
}

/// Nanoseconds a call.
fn median(run: &dyn Fn() -> bool) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..CALLS {
                black_box(run());
            }
            began.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

impl Hit {
    fn new() -> anyhow::Result<Self> {
        let index = Index::new(IndexConfig::default());
        let hostnames = vec!["www.example.test".parse()?];
        let mut records = vec![Body::Site(SiteChange {
            site: "shop".parse()?,
            hostnames: Some(hostnames.clone()),
            affected: hostnames,
            limits: SiteLimits::default(),
        })];
        for n in 0..RULES {
            let selector = match n % 4 {
                0 => Selector::Tag(format!("product-{n}").parse()?),
                1 => Selector::Prefix(format!("https://www.example.test/shop/section-{n}/").parse()?),
                _ => Selector::Url(format!("https://www.example.test/shop/section-7/item-{n}").parse()?),
            };
            records.push(Body::Purge(Purge {
                site: "shop".parse()?,
                selectors: vec![selector],
                soft: false,
            }));
        }
        for (seq, body) in (1..).zip(records) {
            let record = Record {
                seq: Seq::new(seq).ok_or_else(|| anyhow::anyhow!("0 is no seq"))?,
                accepted_at: UnixMillis(0),
                task: TaskId::from_bytes([1; 16]),
                request_id: "bench".into(),
                semantics: 1,
                trace: None,
                body,
            };
            drop(index.apply(&record));
        }
        let hit = Self {
            url: "https://www.example.test/shop/section-7/a-page-with-a-name.html?colour=blue".parse()?,
            tags: (0..TAGS).map(|n| format!("listing-{n}").parse()).collect::<Result<Vec<Tag>, _>>()?.into(),
            // Older than every purge, so that each is looked at.
            token: FillToken { generation: index.generation(), applied: batoff_types::Cursor::new(1) },
            available: Fence::new(LeasePolicy::Serve),
            strict: Fence::new(LeasePolicy::Revalidate),
            index,
        };
        anyhow::ensure!(hit.rules(), "no purge hits the object");
        Ok(hit)
    }

    fn rules(&self) -> bool {
        self.index.check(&self.url, &self.tags, self.token) != Verdict::Gone
    }
}
