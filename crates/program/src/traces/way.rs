//! The way to the collector: where it is, whose certificate it is believed by, and what it is told with each request so that
//! it takes what is sent (a token). Files may be replaced while the process runs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, KeyAndValueRef, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::TracesSection;
use crate::certificates::{LOOK_EVERY, WatchedFiles};
use crate::config::ConfigError;

/// For a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// For an answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The bytes of the file with headers, at most: what servers take of headers in all. A longer one is refused.
const HEADERS_BYTES_MAX: u64 = 8_192;

/// A part of a header's value that is shorter than this is a word such as `Bearer`, and no secret.
const SECRET_BYTES_MIN: usize = 8;

/// Headers that belong to gRPC or to the connection: they would be dropped, or break the request.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// As the files say it that were read last.
#[derive(Clone, Debug)]
pub(super) struct CollectorWay {
    pub(super) endpoint: Endpoint,
    headers: MetadataMap,
}

impl CollectorWay {
    /// Of a section that is valid; without an endpoint there is none.
    ///
    /// # Errors
    /// A file cannot be used: which, why, and the remedy.
    pub(super) fn read(section: &TracesSection) -> Result<Option<Self>, ConfigError> {
        let Some(text) = &section.endpoint else { return Ok(None) };
        let endpoint = endpoint(text, section.ca.as_deref())?;
        let headers = match &section.headers_file {
            Some(path) => read_headers(path).map_err(|problem| {
                let problem = format!("{} cannot be used: {problem}", path.display());
                ConfigError::invalid("traces.headers_file", problem)
            })?,
            None => MetadataMap::new(),
        };
        Ok(Some(Self { endpoint, headers }))
    }

    /// The request with what the collector wants to be told.
    pub(super) fn addressed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request
    }

    /// A text from outside without what stands in the headers: a collector may repeat a token that it refuses.
    pub(super) fn hide(&self, mut text: String) -> String {
        for header in self.headers.iter() {
            let KeyAndValueRef::Ascii(_, value) = header else { continue };
            let parts = value.to_str().unwrap_or_default().split([' ', '\t', ',', '=', ':']);
            for part in parts.filter(|part| part.len() >= SECRET_BYTES_MIN) {
                text = text.replace(part, "…");
            }
        }
        text
    }
}

fn endpoint(text: &str, ca: Option<&Path>) -> Result<Endpoint, ConfigError> {
    let invalid = |key: &str, problem: String| ConfigError::invalid(format!("traces.{key}"), problem);
    let endpoint = Channel::from_shared(text.to_owned())
        .map_err(|error| invalid("endpoint", format!("{text:?}: {error}")))?
        .connect_timeout(CONNECT_MAX)
        .timeout(ANSWER_MAX);
    let Some(path) = ca else { return Ok(endpoint) };
    let unusable = |problem: String| {
        invalid(
            "ca",
            format!("{} cannot be used: {problem}; name a file of certificates in PEM", path.display()),
        )
    };
    let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    if !pem.windows(BEGIN.len()).any(|bytes| bytes == BEGIN) {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    endpoint.tls_config(tls).map_err(|error| unusable(error.to_string()))
}

/// How a certificate begins in PEM (RFC 7468).
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The headers in a file. What is wrong is told by the number of its line, never by what stands there.
fn read_headers(path: &Path) -> Result<MetadataMap, String> {
    let told = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(told)?;
    // Of the file that is open: whoever exchanges it meanwhile is looked at as well. Its group may be the program's.
    if file.metadata().map_err(told)?.permissions().mode() & 0o007 != 0 {
        return Err("it may be read by everyone; chmod 600, or 640 with the program's group".to_owned());
    }
    let mut text = String::new();
    file.by_ref().take(HEADERS_BYTES_MAX + 1).read_to_string(&mut text).map_err(told)?;
    if text.len() as u64 > HEADERS_BYTES_MAX {
        return Err(format!(
            "it has more than {HEADERS_BYTES_MAX} bytes; leave the headers and nothing else"
        ));
    }
    parse_headers(&text)
}

/// One header a line, `name: value`; an empty line, or one that begins with `#`, says nothing.
fn parse_headers(text: &str) -> Result<MetadataMap, String> {
    let mut headers = MetadataMap::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| format!("line {number} {why}");
        let is_none = || wrong("is no header; write `name: value`, such as `authorization: Bearer …`");
        let (name, value) = line.split_once(':').ok_or_else(is_none)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if RESERVED.contains(&name.as_str()) || name.starts_with("grpc-") {
            return Err(wrong("is a header that gRPC sets by itself; take it out"));
        }
        let key = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| is_none())?;
        let mut value =
            AsciiMetadataValue::try_from(value).ok().filter(|value| !value.is_empty()).ok_or_else(is_none)?;
        // Neither shown by `Debug` nor kept in the connection's table of headers.
        value.set_sensitive(true);
        headers.append(key, value);
    }
    if headers.is_empty() {
        return Err("there is no header in it; write one a line, `name: value`".to_owned());
    }
    Ok(headers)
}

/// The way in use, and the files that it was read from.
pub(super) struct WatchedWay {
    section: TracesSection,
    files: Mutex<WatchedFiles>,
    /// Whoever sends looks here before each request.
    way: watch::Sender<CollectorWay>,
}

impl WatchedWay {
    /// Of a section that is valid; without an endpoint there is none.
    ///
    /// # Errors
    /// As [`CollectorWay::read`].
    pub(super) fn read(section: &TracesSection) -> Result<Option<Arc<Self>>, ConfigError> {
        // Looked at first: what changes while it is read is read again.
        let files = Mutex::new(WatchedFiles::new(paths(section)));
        let Some(way) = CollectorWay::read(section)? else { return Ok(None) };
        Ok(Some(Arc::new(Self { section: section.clone(), files, way: watch::Sender::new(way) })))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<CollectorWay> {
        self.way.subscribe()
    }

    pub(super) fn has_files(&self) -> bool {
        !paths(&self.section).is_empty()
    }

    /// Reads the files again. When they cannot be used, what was read before stays in use.
    pub(super) fn reload(&self) {
        match CollectorWay::read(&self.section) {
            Ok(Some(way)) => {
                self.way.send_replace(way);
                tracing::info!("the collector's authority and headers reloaded");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the collector's authority and headers not reloaded; the old ones stay in use");
            }
        }
    }

    /// Reads the files again whenever they have changed, until the process stops.
    pub(super) async fn follow_files(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let own = Arc::clone(&self);
            // A disk may take its time.
            let looking = tokio::task::spawn_blocking(move || {
                if own.files.lock().have_changed() {
                    own.reload();
                }
            });
            if let Err(error) = looking.await {
                tracing::error!(%error, "defect: the collector's files are not looked at any more");
                return;
            }
        }
    }
}

impl std::fmt::Debug for WatchedWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchedWay").field("section", &self.section).finish_non_exhaustive()
    }
}

fn paths(section: &TracesSection) -> Vec<PathBuf> {
    [&section.ca, &section.headers_file].into_iter().flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn section(headers_file: &Path) -> TracesSection {
        TracesSection {
            endpoint: Some("http://127.0.0.1:4317".to_owned()),
            headers_file: Some(headers_file.to_owned()),
            ..TracesSection::default()
        }
    }

    fn written(folder: &tempfile::TempDir, text: &str, mode: u32) -> PathBuf {
        let path = folder.path().join("headers");
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn refusal(path: &Path) -> String {
        CollectorWay::read(&section(path)).expect_err("a refusal").to_string()
    }

    #[test]
    fn an_authority_that_cannot_be_used_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for ca in [file.path(), Path::new("/nowhere/ca.pem")] {
            let error = endpoint("https://collector:4317", Some(ca)).unwrap_err().to_string();
            assert!(error.contains("traces.ca") && error.contains(&ca.display().to_string()), "{error}");
        }
    }

    #[test]
    fn headers_go_with_each_request_and_are_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let text = "# of the tenant\n\nAuthorization: Bearer secret-token\nx-scope: cdn\nx-scope: b\n";
        let path = written(&folder, text, 0o640);
        let way = CollectorWay::read(&section(&path)).unwrap().unwrap();
        let request = way.addressed(());
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer secret-token");
        assert_eq!(request.metadata().get_all("x-scope").iter().count(), 2);
        let watched = WatchedWay::read(&section(&path)).unwrap().unwrap();
        let shown = format!("{request:?} {way:?} {watched:?}");
        assert!(!shown.contains("secret-token"), "{shown}");
        assert_eq!(way.hide("no Bearer secret-token here".to_owned()), "no Bearer … here");
    }

    #[test]
    fn a_file_that_everyone_may_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o604, 0o606] {
            let error = refusal(&written(&folder, "authorization: Bearer secret-token", mode));
            assert!(error.contains("headers_file") && error.contains("chmod 600"), "{error}");
        }
        assert!(refusal(&folder.path().join("nowhere")).contains("No such file"));
    }

    #[test]
    fn what_is_no_header_is_named_by_its_line_and_not_by_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        for (text, part) in [
            ("", "no header"),
            ("# only\n", "no header"),
            ("a: b\nsecret-token", "line 2"),
            (": secret-token", "line 1"),
            ("authorization:", "line 1"),
            ("authorization: secret-token\u{7f}", "line 1"),
            ("a b: secret-token", "line 1"),
            ("key-bin: secret-token", "line 1"),
            ("te: secret-token", "gRPC sets"),
            ("Grpc-Timeout: 1S", "gRPC sets"),
        ] {
            let error = refusal(&written(&folder, text, 0o600));
            assert!(error.contains(part) && !error.contains("secret-token"), "{text:?}: {error}");
        }
        let long = format!("a: {}", "b".repeat(HEADERS_BYTES_MAX as usize));
        assert!(refusal(&written(&folder, &long, 0o600)).contains("bytes"));
    }

    #[test]
    fn what_cannot_be_used_never_takes_the_place_of_what_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(&folder, "authorization: one", 0o600);
        let watched = WatchedWay::read(&section(&path)).unwrap().unwrap();
        let ways = watched.subscribe();
        let in_use =
            || ways.borrow().addressed(()).metadata().get("authorization").cloned().expect("the header");
        written(&folder, "authorization: two", 0o644);
        watched.reload();
        assert_eq!(in_use(), "one");
        written(&folder, "authorization: two", 0o600);
        watched.reload();
        assert_eq!(in_use(), "two");
    }
}
