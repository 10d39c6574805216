//! From the strings of a request to selectors in normal form: all of them, or a refusal that names each bad one.

use batoff_types::{Hostname, PurgeUrl, Selector, SelectorKind, SiteId, SiteTable, Tag, UrlPrefix};

use super::problem::{Code, ItemError, Problem};
use super::purge_body::PurgeRequest;

/// URLs in one request; also tags, and items of every kind together. Over it: `400 too_many_items`.
pub const ITEMS_MAX: usize = 200;

/// Prefixes, hosts and `everything` together in one request: the burst of their quota. Over it: `400 too_many_items`.
pub const PREFIXES_MAX: usize = 60;

/// How much of the site's two quotas a request takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// URL and tag items.
    pub items: u32,
    /// Prefix, host and *everything* items.
    pub prefixes: u32,
}

impl Cost {
    /// What these selectors cost.
    pub fn of(selectors: &[Selector]) -> Self {
        let mut cost = Self::default();
        for selector in selectors {
            match selector.kind() {
                SelectorKind::Url | SelectorKind::Tag => cost.items += 1,
                SelectorKind::Prefix | SelectorKind::Host | SelectorKind::Everything => cost.prefixes += 1,
            }
        }
        cost
    }
}

/// Checks the limits, then every item.
///
/// `burst` is the most that the site's quotas can ever give at once: a request over it could never be accepted, so it is
/// refused for its size and not sent into an endless loop of 429.
pub fn selectors(
    request: &PurgeRequest,
    site: &SiteId,
    table: &SiteTable,
    burst: Cost,
) -> Result<Vec<Selector>, Problem> {
    check_limits(request, burst)?;
    let mut reading =
        ItemReader { site, table, selectors: Vec::new(), code: None, errors: Vec::new(), foreign_only: true };
    for (place, text) in request.urls.iter().enumerate() {
        reading.url(place, text);
    }
    for (place, text) in request.prefixes.iter().enumerate() {
        reading.prefix(place, text);
    }
    for (place, text) in request.tags.iter().enumerate() {
        reading.tag(place, text);
    }
    for (place, text) in request.hosts.iter().enumerate() {
        reading.host(place, text);
    }
    if request.everything {
        reading.selectors.push(Selector::Everything);
    }
    reading.finish()
}

fn check_limits(request: &PurgeRequest, burst: Cost) -> Result<(), Problem> {
    let PurgeRequest { urls, prefixes, tags, hosts, .. } = request;
    let prefix_like = prefixes.len() + hosts.len() + usize::from(request.everything);
    let items = urls.len() + tags.len();
    let items_max = ITEMS_MAX.min(burst.items as usize);
    let prefixes_max = PREFIXES_MAX.min(burst.prefixes as usize);
    let limits = [
        ("/urls", urls.len(), items_max, "URLs"),
        ("/tags", tags.len(), items_max, "tags"),
        ("", items, items_max, "URLs and tags together"),
        ("/prefixes", prefix_like, prefixes_max, "prefixes, hosts and everything together"),
        ("", items + prefix_like, ITEMS_MAX, "items"),
    ];
    let errors: Vec<_> = limits
        .into_iter()
        .filter(|&(_, count, max, _)| count > max)
        .map(|(pointer, count, max, what)| {
            ItemError::at(pointer, format!("{count} {what}; at most {max} a request: split it"))
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Problem::of_items(Code::TooManyItems, errors)) }
}

struct ItemReader<'a> {
    site: &'a SiteId,
    table: &'a SiteTable,
    selectors: Vec<Selector>,
    code: Option<Code>,
    errors: Vec<ItemError>,
    foreign_only: bool,
}

impl ItemReader<'_> {
    fn url(&mut self, place: usize, text: &str) {
        match PurgeUrl::of_customer(text) {
            Ok(url) if self.owns(url.host()) => self.selectors.push(Selector::Url(url)),
            Ok(url) => self.foreign("urls", place, text, url.host()),
            Err(error) => self.malformed(Code::InvalidUrl, "urls", place, text, format!("URL {error}")),
        }
    }

    fn prefix(&mut self, place: usize, text: &str) {
        match UrlPrefix::of_customer(text) {
            Ok(prefix) if self.owns(prefix.host()) => self.selectors.push(Selector::Prefix(prefix)),
            Ok(prefix) => self.foreign("prefixes", place, text, prefix.host()),
            Err(error) => {
                self.malformed(Code::InvalidUrl, "prefixes", place, text, format!("prefix {error}"))
            }
        }
    }

    fn tag(&mut self, place: usize, text: &str) {
        match Tag::of_customer(text) {
            Ok(tag) => self.selectors.push(Selector::Tag(tag)),
            Err(error) => self.malformed(Code::InvalidTag, "tags", place, text, error.to_string()),
        }
    }

    fn host(&mut self, place: usize, text: &str) {
        match text.parse::<Hostname>() {
            Ok(host) if self.owns(host.as_str()) => self.selectors.push(Selector::Host(host)),
            Ok(host) => self.foreign("hosts", place, text, host.as_str()),
            Err(error) => {
                self.malformed(Code::InvalidUrl, "hosts", place, text, format!("hostname {}", error.rule))
            }
        }
    }

    fn owns(&self, host: &str) -> bool {
        self.table.owner(host) == Some(self.site)
    }

    fn foreign(&mut self, list: &str, place: usize, text: &str, host: &str) {
        // A name that a wildcard of ours covers, but that another site owns by a more specific one, is foreign too; the
        // text is the same, for whose it is, is not ours to tell.
        let detail = format!("host {host} is not a hostname of site {}", self.site);
        self.report(Code::InvalidUrl, list, place, text, detail);
    }

    fn malformed(&mut self, code: Code, list: &str, place: usize, text: &str, detail: String) {
        self.foreign_only = false;
        self.report(code, list, place, text, detail);
    }

    fn report(&mut self, code: Code, list: &str, place: usize, text: &str, detail: String) {
        self.code.get_or_insert(code);
        self.errors.push(ItemError::at(format!("/{list}/{place}"), detail).with_value(text));
    }

    /// The first bad item gives the code.
    fn finish(self) -> Result<Vec<Selector>, Problem> {
        let Some(code) = self.code else { return Ok(self.selectors) };
        let mut problem = Problem::of_items(code, self.errors);
        if self.foreign_only {
            problem.title = Some(["URL does not belong to the site", "URL не принадлежит сайту"]);
        }
        Err(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: Cost = Cost { items: 10_000, prefixes: 60 };

    fn read(request: &PurgeRequest) -> Result<Vec<Selector>, Problem> {
        let shop: SiteId = "shop".parse().unwrap();
        let mut table = SiteTable::default();
        let names = ["www.example.com", "*.img.example.com", "пример.рф"];
        table.set(&shop, Some(&names.map(|name| name.parse().unwrap())));
        table.set(&"other".parse().unwrap(), Some(&["private.img.example.com".parse().unwrap()]));
        selectors(request, &shop, &table, BURST)
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_nobody_means_is_refused_with_the_remedy() {
        for (text, remedy) in [
            ("https://www.example.com/img/*", "`prefixes`"),
            ("https://www.example.com/a\u{200b}", "percent-escape"),
            ("https://www.example.com/\u{a0}a", "percent-escape"),
            ("https://www.example.com/a\u{202e}b", "percent-escape"),
            ("\u{feff}https://www.example.com/a", "percent-escape"),
        ] {
            let url = PurgeRequest { urls: strings(&[text]), ..PurgeRequest::default() };
            let prefix = PurgeRequest { prefixes: strings(&[text]), ..PurgeRequest::default() };
            for (request, pointer) in [(url, "/urls/0"), (prefix, "/prefixes/0")] {
                let problem = read(&request).unwrap_err();
                assert_eq!(problem.code, Code::InvalidUrl, "{text:?}");
                assert_eq!(problem.errors[0].pointer.as_deref(), Some(pointer), "{text:?}");
                assert!(problem.errors[0].detail.contains(remedy), "{:?}", problem.errors[0].detail);
            }
        }
        let tag = PurgeRequest { tags: strings(&["fine", "sale\u{200b}"]), ..PurgeRequest::default() };
        let problem = read(&tag).unwrap_err();
        assert_eq!((problem.code, problem.errors[0].pointer.as_deref()), (Code::InvalidTag, Some("/tags/1")));
        assert!(problem.errors[0].detail.contains("delete it"), "{:?}", problem.errors[0].detail);
        let spaced =
            PurgeRequest { urls: strings(&["https://www.example.com/a b"]), ..PurgeRequest::default() };
        assert_eq!(read(&spaced).unwrap()[0].value(), "https://www.example.com/a%20b");
        let dotted = PurgeRequest { hosts: strings(&["www.example.com."]), ..PurgeRequest::default() };
        assert_eq!(
            read(&dotted).unwrap()[0].value(),
            "www.example.com",
            "the dot of the root is no other name"
        );
    }

    #[test]
    fn items_come_out_in_normal_form_and_in_order() {
        let request = PurgeRequest {
            urls: strings(&["HTTPS://WWW.example.com:443/a/../b#c", "https://пример.рф/"]),
            prefixes: strings(&["http://a.img.example.com/x"]),
            tags: strings(&["product:42"]),
            hosts: strings(&["WWW.Example.com"]),
            ..PurgeRequest::default()
        };
        let selectors = read(&request).unwrap();
        let values: Vec<_> = selectors.iter().map(|s| (s.kind().as_str(), s.value())).collect();
        assert_eq!(
            values,
            [
                ("url", "https://www.example.com/b"),
                ("url", "https://xn--e1afmkfd.xn--p1ai/"),
                ("prefix", "http://a.img.example.com/x"),
                ("tag", "product:42"),
                ("host", "www.example.com"),
            ]
        );
        assert_eq!(Cost::of(&selectors), Cost { items: 3, prefixes: 2 });
    }

    #[test]
    fn each_bad_item_is_named_with_what_was_sent() {
        let request = PurgeRequest {
            urls: strings(&["https://www.example.com/", "https://evil.example/"]),
            prefixes: strings(&["https://www.example.com/%", "https://www.example.co"]),
            tags: strings(&["fine", "a,b", ""]),
            hosts: strings(&["private.img.example.com", "https://www.example.com/"]),
            ..PurgeRequest::default()
        };
        let problem = read(&request).unwrap_err();
        assert_eq!(problem.code, Code::InvalidUrl);
        let pointers: Vec<_> = problem.errors.iter().filter_map(|error| error.pointer.as_deref()).collect();
        assert_eq!(
            pointers,
            ["/urls/1", "/prefixes/0", "/prefixes/1", "/tags/1", "/tags/2", "/hosts/0", "/hosts/1"]
        );
        assert_eq!(problem.errors[0].value.as_deref(), Some("https://evil.example/"));
        assert_eq!(problem.errors[0].detail, "host evil.example is not a hostname of site shop");
    }

    #[test]
    fn the_title_says_foreign_when_nothing_else_is_wrong() {
        let foreign = PurgeRequest { urls: strings(&["https://evil.example/"]), ..PurgeRequest::default() };
        assert_eq!(read(&foreign).unwrap_err().title.unwrap()[0], "URL does not belong to the site");
        let malformed = PurgeRequest { urls: strings(&["ftp://evil.example/"]), ..PurgeRequest::default() };
        assert_eq!(read(&malformed).unwrap_err().title, None);
        let tag = PurgeRequest { tags: strings(&["a b"]), ..PurgeRequest::default() };
        assert_eq!(read(&tag).unwrap_err().code, Code::InvalidTag);
    }

    #[test]
    fn limits_come_before_the_items() {
        let many = |count| vec!["not a url".to_owned(); count];
        let code = |request: PurgeRequest| read(&request).unwrap_err().code;
        let request = PurgeRequest::default;
        assert_eq!(code(PurgeRequest { urls: many(200), ..request() }), Code::InvalidUrl);
        assert_eq!(code(PurgeRequest { urls: many(201), ..request() }), Code::TooManyItems);
        assert_eq!(code(PurgeRequest { urls: many(100), tags: many(101), ..request() }), Code::TooManyItems);
        assert_eq!(code(PurgeRequest { prefixes: many(60), ..request() }), Code::InvalidUrl);
        assert_eq!(
            code(PurgeRequest { prefixes: many(30), hosts: many(31), ..request() }),
            Code::TooManyItems
        );
        assert_eq!(code(PurgeRequest { urls: many(141), hosts: many(60), ..request() }), Code::TooManyItems);
    }
}
