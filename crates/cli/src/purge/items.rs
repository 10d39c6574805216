//! The items of one purge with where each came from, so that a refusal can name a file and a line.

use std::collections::BTreeMap;

use batoff_client::{Client, Error, Problem, PurgeRequest};
use batoff_types::{Hostname, PurgeUrl, UrlPrefix};

use super::input::BadItems;
use crate::exit::Failure;

/// Where a URL came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Argument,
    /// A line, from 1, of a file.
    Line {
        /// Which of [`Items::files`].
        file: usize,
        /// As editors count it.
        number: usize,
    },
}

/// All that is to be purged.
#[derive(Debug, Default)]
pub struct Items {
    /// The items themselves.
    pub purge: PurgeRequest,
    /// The files' names.
    pub files: Vec<String>,
    sources: Vec<Source>,
}

/// Names that one request for their check carries.
const HOSTS_AT_ONCE: usize = 200;

impl Items {
    /// No items yet; only how they are to be purged.
    pub fn of(purge: PurgeRequest) -> Self {
        Self { purge, ..Self::default() }
    }

    /// One more URL.
    pub fn push_url(&mut self, url: &str, source: Source) {
        self.purge.urls.push(url.to_owned());
        self.sources.push(source);
    }

    /// Where the URL came from, for people.
    pub fn source_of_url(&self, at: usize) -> String {
        match self.sources.get(at) {
            Some(Source::Line { file, number }) => {
                format!("{}, line {number}", self.files.get(*file).map_or("", String::as_str))
            }
            Some(Source::Argument) | None => "URL".to_owned(),
        }
    }

    /// How to go on after the first `sent` URLs were accepted, and nothing else: the command that sends the rest.
    pub fn rest_after_urls(&self, sent: usize) -> Option<String> {
        let Some(Source::Line { file, number }) = self.sources.get(sent) else { return None };
        let name = self.files.get(*file)?;
        // Only where the one file is all of it does a line say what is left.
        let whole = self.files.len() == 1 && self.sources.len() == self.purge.items();
        (whole && name != "standard input").then(|| {
            format!("to go on: tail -n +{number} '{name}' | batoff purge --file - (with the same flags)")
        })
    }

    /// Asks the API whether every host is the site's, before the first of several requests: a purge that is split is to
    /// be all or nothing, too. A dry run of one URL a host, which queues nothing.
    pub async fn check_hosts(&self, client: &Client, site: &str) -> Result<(), Failure> {
        let by_host = self.by_host();
        let hosts: Vec<&String> = by_host.keys().collect();
        let mut bad = BadItems::default();
        for part in hosts.chunks(HOSTS_AT_ONCE) {
            let urls = part.iter().map(|host| format!("https://{host}/")).collect();
            let request = PurgeRequest { urls, ..PurgeRequest::default() };
            match client.dry_run(site, &request).await {
                Ok(_) => {}
                Err(Error::Refused(problem)) if problem.code == "invalid_url" => {
                    for error in &problem.errors {
                        let host = place(&error.pointer, "urls").and_then(|at| part.get(at));
                        for what in host.and_then(|host| by_host.get(*host)).into_iter().flatten() {
                            bad.add(what, &error.detail);
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        bad.into_failure()
    }

    /// Each host with the items that have it, as errors name them.
    fn by_host(&self) -> BTreeMap<String, Vec<String>> {
        let mut by_host: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut add = |host: Option<String>, what: String| {
            host.into_iter().for_each(|host| by_host.entry(host).or_default().push(what.clone()));
        };
        for (at, url) in self.purge.urls.iter().enumerate() {
            let host = url.parse::<PurgeUrl>().ok().map(|url| url.host().to_owned());
            add(host, format!("{}: {url:?}", self.source_of_url(at)));
        }
        for prefix in &self.purge.prefixes {
            let host = prefix.parse::<UrlPrefix>().ok().map(|prefix| prefix.host().to_owned());
            add(host, format!("prefix {prefix:?}"));
        }
        for name in &self.purge.hosts {
            add(name.parse::<Hostname>().ok().map(|host| host.to_string()), format!("host {name:?}"));
        }
        by_host
    }

    /// A refusal of the request that begins with the URL `first`, with each bad URL's place in its file.
    pub fn placed(&self, mut problem: Box<Problem>, first: usize) -> Box<Problem> {
        for error in &mut problem.errors {
            if let Some(at) = place(&error.pointer, "urls")
                && let Some(Source::Line { .. }) = self.sources.get(first + at)
            {
                error.pointer = self.source_of_url(first + at);
            }
        }
        problem
    }
}

/// The number in a pointer such as `/urls/50`.
fn place(pointer: &str, list: &str) -> Option<usize> {
    pointer.strip_prefix('/')?.strip_prefix(list)?.strip_prefix('/')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use batoff_client::ProblemItem;

    use super::*;

    fn items() -> Items {
        let mut items = Items { files: vec!["urls.txt".into()], ..Items::default() };
        for number in 1..=450 {
            let source = Source::Line { file: 0, number: number + 1 };
            items.push_url(&format!("https://www.example.com/{number}"), source);
        }
        items
    }

    #[test]
    fn a_refusal_names_file_and_line() {
        let error = ProblemItem { pointer: "/urls/49".into(), detail: "no".into(), ..ProblemItem::default() };
        let problem = Problem { errors: vec![error], ..Problem::default() };
        let placed = items().placed(Box::new(problem), 400);
        assert_eq!(placed.errors[0].pointer, "urls.txt, line 451");
    }

    #[test]
    fn what_is_left_of_a_file_is_said_as_a_command() {
        let rest = items().rest_after_urls(200).unwrap();
        assert!(rest.contains("tail -n +202 'urls.txt' | batoff purge --file -"), "{rest}");
        let mut mixed = items();
        mixed.purge.tags.push("a".into());
        assert_eq!(mixed.rest_after_urls(200), None);
    }

    #[test]
    fn each_host_is_asked_for_once() {
        let by_host = items().by_host();
        assert_eq!(by_host.keys().collect::<Vec<_>>(), ["www.example.com"]);
        assert_eq!(by_host["www.example.com"].len(), 450);
    }
}
