//! What is to be purged, gathered from flags and files and checked before anything is sent.

use std::fmt::Display;
use std::io::Read;
use std::path::Path;

use batoff_client::PurgeRequest;
use batoff_types::{Hostname, PurgeUrl, Tag, UrlPrefix};

use super::items::{Items, Source};
use super::line;
use crate::args::PurgeArgs;
use crate::exit::Failure;
use crate::output;

/// Bytes of one file of URLs; a larger one would take hours of quota and is more likely a mistake.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bad items that are named; of the rest only the number is said.
const NAMED_MAX: usize = 20;

/// All items of the command line and its files. Everything is checked before anything is sent: a purge that is split
/// into several requests should be all or nothing, too, as far as that can be known here.
pub fn collect(args: &PurgeArgs) -> Result<Items, Failure> {
    let mut bad = BadItems::default();
    let mut items = Items::of(PurgeRequest {
        everything: args.everything,
        soft: args.soft,
        max_objects: args.max_objects,
        ..PurgeRequest::default()
    });
    for url in args.positional.iter().chain(&args.url) {
        bad.check_url::<PurgeUrl>(&format!("URL {url:?}"), url);
        items.push_url(url, Source::Argument);
    }
    for prefix in &args.prefix {
        bad.check_url::<UrlPrefix>(&format!("prefix {prefix:?}"), prefix);
        items.purge.prefixes.push(prefix.clone());
    }
    for tag in &args.tag {
        if let Err(error) = Tag::of_customer(tag) {
            bad.add(&format!("tag {tag:?}"), &error);
        }
        items.purge.tags.push(tag.clone());
    }
    for host in &args.host {
        bad.check::<Hostname>(&format!("host {host:?}"), host);
        items.purge.hosts.push(host.clone());
    }
    for path in &args.file {
        let name =
            if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let text = read(path).map_err(|e| Failure::Usage(format!("{name}: {e}")))?;
        let file = items.files.len();
        for (number, url) in line::urls(&text) {
            bad.check_url::<PurgeUrl>(&format!("{name}, line {number}: {url:?}"), url);
            items.push_url(url, Source::Line { file, number });
        }
        items.files.push(name);
    }
    bad.into_failure()?;
    if items.purge.items() == 0 {
        return Err(Failure::Usage(
            "nothing to purge: give --url, --prefix, --tag, --host, --file or --everything".to_owned(),
        ));
    }
    Ok(items)
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

#[derive(Default)]
pub(super) struct BadItems {
    named: Vec<String>,
    count: usize,
}

impl BadItems {
    fn check<T: std::str::FromStr<Err: Display>>(&mut self, what: &str, text: &str) {
        if let Err(error) = text.parse::<T>() {
            self.add(what, &error);
        }
    }

    fn check_url<T: std::str::FromStr<Err: Display>>(&mut self, what: &str, text: &str) {
        match line::mistake(text) {
            Some(mistake) => self.add(what, &mistake),
            None => self.check::<T>(what, text),
        }
    }

    pub(super) fn add(&mut self, what: &str, problem: &impl Display) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("  {what}: {problem}"));
        }
    }

    pub(super) fn into_failure(self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let bad = output::counted(self.count as u64, "bad item");
        let mut text = format!("nothing was purged: {bad}\n{}", self.named.join("\n"));
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

    fn collected(words: &[&str]) -> Result<Items, Failure> {
        match Cli::try_parse_from(["batoff", "purge"].iter().chain(words)).unwrap().command {
            Command::Purge(args) => collect(&args),
            other => panic!("{other:?}"),
        }
    }

    fn of_file(text: &str) -> Result<Items, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("urls");
        std::fs::write(&path, text).unwrap();
        collected(&["--file", path.to_str().unwrap()])
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
        let items = collected(&words).unwrap();
        let url = |name: &str| format!("https://www.example.com/{name}");
        assert_eq!(items.purge.urls, [url("a"), url("b"), url("c")]);
        assert_eq!(items.source_of_url(1), "URL");
        assert!(items.source_of_url(2).ends_with("urls, line 3"), "{}", items.source_of_url(2));
    }

    #[test]
    fn bad_items_are_all_named_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("urls");
        std::fs::write(&path, "https://www.example.com/\nwww.example.com\n").unwrap();
        let error = collected(&["--file", path.to_str().unwrap(), "--tag", "a,b"]).unwrap_err().to_string();
        assert!(error.contains("line 2: \"www.example.com\""), "{error}");
        assert!(error.contains("tag \"a,b\"") && error.contains("2 bad items"), "{error}");
        let one = collected(&["--tag", "a,b"]).unwrap_err().to_string();
        assert!(one.contains("1 bad item\n"), "{one}");
    }

    #[test]
    fn a_comment_behind_white_space_is_a_comment() {
        let items =
            of_file("https://www.example.com/1 # the front page\nhttps://www.example.com/2\t#\n  # no\n")
                .unwrap();
        assert_eq!(items.purge.urls, ["https://www.example.com/1", "https://www.example.com/2"]);
        // Without white space before it, it is the URL's own, and never reaches a server.
        assert_eq!(
            of_file("https://www.example.com/1#top\n").unwrap().purge.urls,
            ["https://www.example.com/1#top"]
        );
    }

    #[test]
    fn inputs_that_nobody_means_are_refused_with_the_remedy() {
        let url = "https://www.example.com";
        for (text, words) in [
            (format!("{url}/a b"), "%20"),
            (format!("{url}/a\tb"), "%09"),
            (format!("{url}/a {url}/b"), "one URL a line"),
            (format!("{url}/a,{url}/b {url}/c"), "one URL a line"),
            (format!("{url}/img/*"), "--prefix"),
            (format!("{url}/a\u{200b}"), "U+200B"),
            (format!("{url}/a\u{a0}"), "U+00A0"),
            (format!("{url}/\u{202e}a"), "U+202E"),
            (format!("{url}/a\u{feff}b"), "U+FEFF"),
        ] {
            let error = of_file(&format!("{url}/\n{text}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(words), "{text:?}: {error}");
            let error = collected(&["--url", &text]).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
        let error = collected(&["--tag", "sale\u{200b}"]).unwrap_err().to_string();
        assert!(error.contains("200b") && error.contains("delete it"), "{error}");
        for host in ["www.exam\u{ad}ple.com", "\u{200b}www.example.com"] {
            let error = collected(&["--host", host]).unwrap_err().to_string();
            assert!(error.contains("invisible") && error.contains("delete it"), "{error}");
            let error = collected(&["--prefix", &format!("https://{host}/")]).unwrap_err().to_string();
            assert!(error.contains("invisible"), "{error}");
        }
        let error = collected(&["--prefix", &format!("{url}/img/*")]).unwrap_err().to_string();
        assert!(error.contains("without the *"), "{error}");
        assert!(collected(&["--url", &format!("{url}/a*b")]).is_ok(), "a star in the middle is a character");
        let error = collected(&["--url", &format!(" {url}/a")]).unwrap_err().to_string();
        assert!(error.contains("white space"), "{error}");
    }

    #[test]
    fn nothing_to_purge_is_a_usage_error() {
        assert!(matches!(collected(&[]), Err(Failure::Usage(_))));
    }
}
