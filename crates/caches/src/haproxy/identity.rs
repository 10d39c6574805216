//! Under which name the daemon knows the process that it drives. It lies in the state directory and in the process: if
//! the two differ, the process holds what this state knows nothing of.

use std::io;
use std::path::Path;

use super::process::Process;
use crate::shared::state_file;

/// In the state directory.
const FILE: &str = "haproxy-process";

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastProcess {
    /// New for each process, and for each run of the daemon: a copy of the state directory is found out by it.
    pub(super) name: String,
    pub(super) process: Process,
}

/// A name that nobody has had.
pub(super) fn name() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// What was remembered last; `None` when there is nothing that can be read.
pub(super) fn read(state: &Path) -> io::Result<Option<LastProcess>> {
    Ok(state_file::read(state, FILE)?.as_deref().and_then(parse))
}

/// Durable when this returns.
pub(super) fn write(state: &Path, known: &LastProcess) -> io::Result<()> {
    let LastProcess { name, process: Process { pid, started, boot } } = known;
    let started = started.map_or_else(|| "-".to_owned(), |started| started.to_string());
    state_file::replace(state, FILE, &format!("{name} {pid} {started} {boot}\n"))
}

fn parse(text: &str) -> Option<LastProcess> {
    let mut words = text.split_ascii_whitespace();
    let (name, pid, started) = (words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?);
    let started = if started == "-" { None } else { Some(started.parse().ok()?) };
    Some(LastProcess { name, process: Process { pid, started, boot: words.next()?.to_owned() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        for started in [Some(77), None] {
            let known = LastProcess { name: name(), process: Process { pid: 12, started, boot: "b".into() } };
            write(dir.path(), &known).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Some(known));
        }
        std::fs::write(dir.path().join(FILE), "torn 1").unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }
}
