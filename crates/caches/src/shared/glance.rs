//! What can be seen of a cache without storing or removing anything in it, for the doctor: whether it answers, and whether what
//! the daemon needs beside it is there.

use std::io;
use std::path::Path;
use std::time::Duration;

use batoff_program::doctor::Diagnosis;
use tokio::net::{TcpStream, UnixStream};

use super::pipeline::Address;

/// What every finding about a cache belongs to.
pub(crate) const AREA: &str = "caches";

/// How long a cache may take to accept a connection, or to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether somebody listens there: connects, and says nothing.
pub(crate) async fn listens(address: &Address) -> io::Result<()> {
    within(async {
        match address {
            Address::Tcp(address) => TcpStream::connect(address).await.map(drop),
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    })
    .await
}

/// The same with an end.
pub(crate) async fn within<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 2 s")),
    }
}

/// A folder that the daemon writes to all the time and the cache reads: there, or to be made, and in memory. `made_by`: what
/// makes it.
pub(crate) fn folder_in_memory(key: &str, dir: &Path, made_by: &str, report: &mut Diagnosis) {
    let shown = dir.display();
    if !dir.is_dir() {
        let found = format!("{key}: {shown} is not there");
        return report.warn(AREA, found, format!("{made_by}; its folder has to be on a tmpfs, such as /run"));
    }
    if is_on_tmpfs(dir) {
        report.fine(AREA, format!("{key}: {shown} is there, in memory"));
    } else {
        report.warn(
            AREA,
            format!("{key}: {shown} does not lie in memory"),
            "put it on a tmpfs: the daemon writes there ten times a second, and what a reboot leaves there must not count",
        );
    }
}

/// Whether files there cost no disk.
pub(crate) fn is_on_tmpfs(path: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|about| about.f_type == TMPFS_MAGIC)
}
