use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::sync::CancellationToken;

use crate::output::note;

/// How often a log is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Shows what is appended to a log from now on, until `stop`.
///
/// The programs write to their files themselves: a log that went through this process would be lost with it, and would
/// stop them when nobody reads our standard error.
pub fn follow(name: String, path: PathBuf, stop: CancellationToken) {
    let from = std::fs::metadata(&path).map_or(0, |file| file.len());
    tokio::spawn(async move {
        // A log that cannot be read is not shown; it is still where its name says.
        let _ = stop.run_until_cancelled(show(&name, &path, from)).await;
    });
}

async fn show(name: &str, path: &Path, from: u64) -> std::io::Result<()> {
    while !tokio::fs::try_exists(path).await? {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let mut file = File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(from)).await?;
    let (mut pending, mut piece) = (Vec::new(), [0; 8 * 1024]);
    loop {
        let read = file.read(&mut piece).await?;
        if read == 0 {
            tokio::time::sleep(POLL_INTERVAL).await;
            continue;
        }
        pending.extend_from_slice(&piece[..read]);
        while let Some(end) = pending.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            note(&format!("{name}: {}", String::from_utf8_lossy(&line).trim_end()));
        }
    }
}
