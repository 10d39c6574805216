//! Certificates on disk: when they end, and that their files are others than before.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// How often the files are looked at. A change counts when it is still there at the next look: whoever replaces the
/// certificate and then the key is not caught in between.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The time in which a certificate is good, in seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidTime {
    /// Its first second.
    pub from: u64,
    /// Its last.
    pub until: u64,
}

impl ValidTime {
    /// That of a certificate (DER); `None` for what is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let second = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default();
        let validity = certificate.validity();
        Some(Self { from: second(validity.not_before), until: second(validity.not_after) })
    }

    /// Why a certificate that is good in this time is not now.
    ///
    /// # Errors
    /// It has ended, or is not valid yet, and by how much.
    pub fn check(&self, now: u64) -> Result<(), String> {
        if now > self.until {
            return Err(format!("ended {} ago; renew it with `batoff certs renew`", span(now - self.until)));
        }
        if now < self.from {
            let by = span(self.from - now);
            return Err(format!("is valid only in {by} by this machine's clock; is the clock right?"));
        }
        Ok(())
    }
}

/// The URIs among the names of a certificate (DER): a node's is one of them. None of what is no certificate.
pub fn uris(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let uri = |name: &GeneralName| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.filter_map(uri).collect()
}

/// This machine's time of day, in seconds of Unix time.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A time for people, in its two largest units: `2 h 5 min`.
pub fn span(seconds: u64) -> String {
    let (large, small) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3_600 => ((seconds / 60, "min"), (seconds % 60, "s")),
        3_600..86_400 => ((seconds / 3_600, "h"), (seconds % 3_600 / 60, "min")),
        _ => ((seconds / 86_400, "d"), (seconds % 86_400 / 3_600, "h")),
    };
    match (large, small) {
        ((count, unit), (0, _)) => format!("{count} {unit}"),
        ((count, unit), (rest, smaller)) => format!("{count} {unit} {rest} {smaller}"),
    }
}

/// What tells a file from the one that stood there before: a symlink's target, as Kubernetes exchanges it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Files that may be replaced while the process runs.
#[derive(Debug)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    known: Vec<Option<FileStamp>>,
    /// What they were at the last look, if that was not what is known.
    settling: Option<Vec<Option<FileStamp>>>,
}

impl WatchedFiles {
    /// As they are now.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let known = stamps(&paths);
        Self { paths, known, settling: None }
    }

    /// Whether they are others than before, and have been so since the last look.
    pub fn have_changed(&mut self) -> bool {
        let now = stamps(&self.paths);
        if now == self.known {
            self.settling = None;
            return false;
        }
        let has_settled = self.settling.as_ref() == Some(&now);
        if has_settled {
            self.known = now;
            self.settling = None;
        } else {
            self.settling = Some(now);
        }
        has_settled
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<FileStamp>> {
    let stamp = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some(FileStamp {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_changed_once_they_have_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("cert"), "one").unwrap();
        let mut files = WatchedFiles::new(vec![path("cert"), path("key")]);
        assert!(!files.have_changed());
        fs::write(path("new"), "two").unwrap();
        fs::rename(path("new"), path("cert")).unwrap();
        assert!(!files.have_changed(), "the key may follow");
        fs::write(path("key"), "two").unwrap();
        assert!(!files.have_changed());
        assert!(files.have_changed());
        assert!(!files.have_changed());
        // As Kubernetes does it: the name stays, what it leads to is another one.
        fs::create_dir(path("..1")).unwrap();
        fs::write(path("..1/cert"), "two").unwrap();
        fs::remove_file(path("cert")).unwrap();
        std::os::unix::fs::symlink(path("..1/cert"), path("cert")).unwrap();
        assert!(!files.have_changed());
        assert!(files.have_changed());
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (7_500, "2 h 5 min"),
            (86_400 * 3 + 3_600 * 4, "3 d 4 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
