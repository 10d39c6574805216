//! The cache index, beside what one would otherwise use: memory, speed, and how soon a purge is in force.
//!
//! `cargo bench -p batoff-benches --bench index -- [--entries 10000000] [--peer-entries 1000000]` prints a table;
//! `-- --minutes 10` runs a mixed workload instead and reports memory as it goes. Each subject is measured in a process
//! of its own, one after the other, all within one run.

#[path = "index/arguments.rs"]
mod arguments;
#[path = "index/batoff.rs"]
mod batoff;
#[path = "index/measure.rs"]
mod measure;
#[path = "index/mixed.rs"]
mod mixed;
#[path = "index/moka_tags.rs"]
mod moka_tags;
#[path = "index/naive.rs"]
mod naive;
#[path = "index/patricia.rs"]
mod patricia;
#[path = "index/table.rs"]
mod table;
#[path = "index/workload.rs"]
mod workload;

use arguments::Arguments;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse()?;
    if let Some(subject) = &arguments.only {
        let figures = match subject.as_str() {
            "batoff" => batoff::measure(arguments.entries)?,
            "naive" => naive::measure(arguments.entries),
            "moka" => moka_tags::measure(arguments.entries)?,
            "patricia" => patricia::measure(arguments.entries),
            other => anyhow::bail!("--only {other}: expected batoff, naive, moka or patricia"),
        };
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    match arguments.minutes {
        Some(minutes) => mixed::run(arguments.entries, minutes),
        None => table::print(&arguments),
    }
}
