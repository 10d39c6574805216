//! What nginx says of answers that it has not stored.
//!
//! nginx stores what may be stored and keeps what it had when an answer may not be: a page that the origin has taken back
//! (404, `no-store`, `Set-Cookie`, …) would be served stale for ever. So the fill hop writes a line for each answer to a
//! request for something stale, unless the origin failed or confirmed it, as a datagram to `run_dir/notes` (nginx takes it
//! for its log). Such an answer ends what is stale (RFC 9111, 4.3.3): if it did not take its place, it is taken out here. A
//! note that is lost is followed by another with the next visitor.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use batoff_types::PurgeUrl;
use parking_lot::Mutex;
use tokio::net::UnixDatagram;

use super::register::Register;

/// The socket's name in `run_dir`.
const FILE: &str = "notes";

/// What stands before a URL: `tag=batoff` in nginx's configuration.
const TAG: &[u8] = b"batoff: ";

/// The longest line: nginx takes requests of 8 KiB, or 32 KiB where it was told to. What is longer is cut, and no URL of ours.
const LINE_BYTES: usize = 40 * 1024;

/// Between two looks at whether the socket is still there.
const LOOK: Duration = Duration::from_secs(1);

/// The reader of the notes.
pub(super) struct Notes {
    path: PathBuf,
    /// Whom nginx runs as, if that is not this process.
    reader: Option<u32>,
    trouble: Mutex<Option<String>>,
}

impl Notes {
    /// For a cache directory that belongs to `owner`.
    pub(super) fn new(run_dir: &Path, owner: u32) -> Self {
        let reader = (owner != rustix::process::geteuid().as_raw()).then_some(owner);
        Self { path: run_dir.join(FILE), reader, trouble: Mutex::default() }
    }

    /// What keeps notes from being heard.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Reads for ever.
    pub(super) async fn run(&self, register: &Arc<Register>) {
        loop {
            match self.open() {
                Ok((socket, place)) => {
                    *self.trouble.lock() = None;
                    self.read(&socket, place, register).await;
                }
                Err(error) => {
                    let trouble =
                        format!("{}: {error}; what the origin takes back stays stale", self.path.display());
                    *self.trouble.lock() = Some(trouble);
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Until somebody has removed the socket.
    async fn read(&self, socket: &UnixDatagram, place: (u64, u64), register: &Arc<Register>) {
        let mut line = vec![0; LINE_BYTES];
        loop {
            match tokio::time::timeout(LOOK, socket.recv(&mut line)).await {
                Ok(Ok(read)) => {
                    let Some(url) = url(&line[..read]) else { continue };
                    let register = Arc::clone(register);
                    let _ = tokio::task::spawn_blocking(move || taken_back(&register, &url)).await;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "notes of nginx cannot be read");
                    tokio::time::sleep(LOOK).await;
                    return;
                }
                Err(_) if self.place().is_ok_and(|now| now == place) => {}
                Err(_) => return,
            }
        }
    }

    fn open(&self) -> io::Result<(UnixDatagram, (u64, u64))> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(&self.path)?;
        // Who writes here can take out what is stale and nothing else. nginx's user may; others where that user cannot be
        // given the socket.
        let given = match self.reader {
            Some(reader) => std::os::unix::fs::chown(&self.path, Some(reader), None).is_ok(),
            None => true,
        };
        let mode = if given { 0o600 } else { 0o622 };
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(mode))?;
        Ok((socket, self.place()?))
    }

    fn place(&self) -> io::Result<(u64, u64)> {
        let about = std::fs::symlink_metadata(&self.path)?;
        Ok((about.dev(), about.ino()))
    }
}

fn taken_back(register: &Register, url: &PurgeUrl) {
    match register.taken_back(url) {
        Ok(0) => {}
        Ok(files) => {
            metrics::counter!("batoff_edge_nginx_taken_back_total").increment(files);
            tracing::debug!(%url, files, "the origin has taken back what was stale");
        }
        Err(error) => {
            tracing::warn!(%url, %error, "what the origin has taken back stays stale until it is asked again")
        }
    }
}

/// `<190>Nov 29 23:59:01 batoff: www.example.com/path?query`
fn url(line: &[u8]) -> Option<PurgeUrl> {
    let at = line.windows(TAG.len()).position(|part| part == TAG)? + TAG.len();
    let named = std::str::from_utf8(&line[at..]).ok()?.trim_end();
    format!("http://{named}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn a_note_names_a_url() {
        let named = |line: &str| url(line.as_bytes()).map(|url| url.as_str().to_owned());
        assert_eq!(
            named("<190>Nov 29 23:59:01 batoff: a.test/x?y=1").as_deref(),
            Some("http://a.test/x?y=1")
        );
        assert_eq!(
            named("<190>Nov  1 00:00:00 batoff: a.test/batoff: /").as_deref(),
            Some("http://a.test/batoff:%20/")
        );
        assert_eq!(named("<190>Nov 29 23:59:01 nginx: a.test/x"), None);
        assert_eq!(named("batoff: "), None);
    }
}
