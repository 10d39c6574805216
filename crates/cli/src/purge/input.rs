use std::fmt::Display;
use std::io::Read;
use std::path::Path;

use batoff_client::PurgeRequest;
use batoff_types::{Hostname, PurgeUrl, Tag, UrlPrefix};

use crate::args::PurgeArgs;
use crate::exit::Failure;

/// Bytes of one file of URLs; a larger one would take hours of quota and is more likely a mistake.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bad items that are named; of the rest only the number is said.
const NAMED_MAX: usize = 20;

/// All items of the command line and its files. Everything is checked before anything is sent: a purge that is split
/// into several requests should be all or nothing, too, as far as that can be known here.
pub fn collect(args: &PurgeArgs) -> Result<PurgeRequest, Failure> {
    let mut bad = BadItems::default();
    let mut purge = PurgeRequest {
        everything: args.everything,
        soft: args.soft,
        max_objects: args.max_objects,
        ..PurgeRequest::default()
    };
    for url in args.positional.iter().chain(&args.url) {
        bad.check::<PurgeUrl>(&format!("URL {url:?}"), url);
        purge.urls.push(url.clone());
    }
    for prefix in &args.prefix {
        bad.check::<UrlPrefix>(&format!("prefix {prefix:?}"), prefix);
        purge.prefixes.push(prefix.clone());
    }
    for tag in &args.tag {
        bad.check::<Tag>(&format!("tag {tag:?}"), tag);
        purge.tags.push(tag.clone());
    }
    for host in &args.host {
        bad.check::<Hostname>(&format!("host {host:?}"), host);
        purge.hosts.push(host.clone());
    }
    for path in &args.file {
        let name =
            if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let text = read(path).map_err(|e| Failure::Usage(format!("{name}: {e}")))?;
        for (number, url) in urls(&text) {
            bad.check::<PurgeUrl>(&format!("{name}, line {number}: {url:?}"), url);
            purge.urls.push(url.to_owned());
        }
    }
    bad.into_failure()?;
    if purge.items() == 0 {
        return Err(Failure::Usage(
            "nothing to purge: give --url, --prefix, --tag, --host, --file or --everything".to_owned(),
        ));
    }
    Ok(purge)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    let read = input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The lines that are URLs, with their numbers as editors count them.
fn urls(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    lines
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[derive(Default)]
struct BadItems {
    named: Vec<String>,
    count: usize,
}

impl BadItems {
    fn check<T: std::str::FromStr<Err: Display>>(&mut self, what: &str, text: &str) {
        if let Err(error) = text.parse::<T>() {
            self.count += 1;
            if self.named.len() < NAMED_MAX {
                self.named.push(format!("  {what}: {error}"));
            }
        }
    }

    fn into_failure(self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let mut text = format!("nothing was purged: {} bad items\n{}", self.count, self.named.join("\n"));
        if self.count > self.named.len() {
            text.push_str(&format!("\n  and {} more", self.count - self.named.len()));
        }
        Err(Failure::Failed(text))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn collected(words: &[&str]) -> Result<PurgeRequest, Failure> {
        match Cli::try_parse_from(["batoff", "purge"].iter().chain(words)).unwrap().command {
            Command::Purge(args) => collect(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_ways_to_name_a_url_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("urls");
        std::fs::write(&path, "\u{feff}# deploy 7\n\nhttps://www.example.com/c \r\n").unwrap();
        let words = [
            "https://www.example.com/a",
            "--url",
            "https://www.example.com/b",
            "--file",
            path.to_str().unwrap(),
        ];
        let purge = collected(&words).unwrap();
        let url = |name: &str| format!("https://www.example.com/{name}");
        assert_eq!(purge.urls, [url("a"), url("b"), url("c")]);
    }

    #[test]
    fn bad_items_are_all_named_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("urls");
        std::fs::write(&path, "https://www.example.com/\nwww.example.com\n").unwrap();
        let error = collected(&["--file", path.to_str().unwrap(), "--tag", "a,b"]).unwrap_err().to_string();
        assert!(error.contains("line 2: \"www.example.com\""), "{error}");
        assert!(error.contains("tag \"a,b\""), "{error}");
    }

    #[test]
    fn nothing_to_purge_is_a_usage_error() {
        assert!(matches!(collected(&[]), Err(Failure::Usage(_))));
    }
}
