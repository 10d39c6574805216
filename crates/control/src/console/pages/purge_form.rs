//! The form of a new purge: what was typed, and what the API's body would be.

use std::sync::Arc;

use batoff_types::{Selector, SiteId, UrlPrefix};
use serde::Deserialize;

use crate::api::PurgeRequest;
use crate::api::problem::{Code, ItemError, Problem};

/// As browsers send it. Lists are texts with an item a line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PurgeForm {
    /// The site.
    pub site: String,
    /// URLs.
    pub urls: String,
    /// Prefixes.
    pub prefixes: String,
    /// Tags.
    pub tags: String,
    /// Hostnames.
    pub hosts: String,
    /// Present when it is ticked.
    pub everything: String,
    /// `soft` or anything else.
    pub how: String,
    /// The limit; empty for none.
    pub max_objects: String,
    /// What the page has put there, to be told from what the viewer has.
    pub counted: String,
    /// What was typed to confirm.
    pub confirm: String,
    /// Of this form: sent twice, it is one purge.
    pub key: String,
    /// The button.
    #[serde(rename = "do")]
    pub button: String,
}

impl PurgeForm {
    /// Whether nothing is to be purged yet.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.urls, &self.prefixes, &self.tags, &self.hosts];
        self.everything.is_empty() && lists.into_iter().all(|list| list.trim().is_empty())
    }

    /// Whether the button was the one that purges.
    pub fn is_final(&self) -> bool {
        self.button == "purge"
    }

    /// Whether it is to be soft.
    pub fn is_soft(&self) -> bool {
        self.how == "soft"
    }

    /// Fills in what was purged before.
    pub fn fill(&mut self, (site, selectors, soft): &(SiteId, Arc<[Selector]>, bool)) {
        self.site = site.to_string();
        self.how = if *soft { "soft" } else { "hard" }.to_owned();
        for selector in selectors.iter() {
            let list = match selector {
                Selector::Url(_) => &mut self.urls,
                Selector::Prefix(_) => &mut self.prefixes,
                Selector::Tag(_) => &mut self.tags,
                Selector::Host(_) => &mut self.hosts,
                Selector::Everything => {
                    self.everything = "yes".to_owned();
                    continue;
                }
            };
            list.push_str(selector.value());
            list.push('\n');
        }
    }

    /// What the API would be sent.
    pub fn request(&self) -> Result<PurgeRequest, Problem> {
        let lines = |text: &str| -> Vec<String> {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        };
        let request = PurgeRequest {
            urls: lines(&self.urls),
            prefixes: lines(&self.prefixes),
            tags: lines(&self.tags),
            hosts: lines(&self.hosts),
            everything: !self.everything.is_empty(),
            soft: self.is_soft(),
            max_objects: self.limit()?,
        };
        request.checked()
    }

    fn limit(&self) -> Result<Option<u64>, Problem> {
        let digits: String = self.max_objects.chars().filter(|c| !c.is_whitespace()).collect();
        if digits.is_empty() {
            return Ok(None);
        }
        digits.parse().map(Some).map_err(|_| {
            let error = ItemError::at("/max_objects", "must be a whole number, 0 or more, or empty");
            Problem::of_item(Code::InvalidRequest, error.with_value(self.max_objects.clone()))
        })
    }

    /// Fills in the limit from a count, unless the viewer has written one. Where not every node has answered, a limit could
    /// not be kept, so there is none.
    pub fn set_limit(&mut self, total: u64, is_complete: bool) {
        if self.max_objects != self.counted {
            return;
        }
        let limit = total.saturating_add((total / 10).max(10));
        self.max_objects = if is_complete { limit.to_string() } else { String::new() };
        self.counted.clone_from(&self.max_objects);
    }
}

/// Whether it takes away all that is cached under a host, or more.
pub fn empties_a_host(request: &PurgeRequest) -> bool {
    let is_whole = |prefix: &String| {
        let path = UrlPrefix::of_customer(prefix).ok().map(|prefix| prefix.as_str().to_owned());
        let path = path.as_deref().and_then(|text| text.split_once("://")).map(|(_, rest)| rest.to_owned());
        path.is_some_and(|rest| rest.split_once('/').is_none_or(|(_, path)| path.is_empty()))
    };
    request.everything || !request.hosts.is_empty() || request.prefixes.iter().any(is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(urls: &str, prefixes: &str) -> PurgeForm {
        PurgeForm { urls: urls.to_owned(), prefixes: prefixes.to_owned(), ..PurgeForm::default() }
    }

    #[test]
    fn lines_are_items() {
        let request = form(" https://a.test/1 \r\n\r\nhttps://a.test/2", "").request().unwrap();
        assert_eq!(request.urls, ["https://a.test/1", "https://a.test/2"]);
        assert!(form(" \n", "").request().is_err(), "nothing to purge");
        let both = PurgeForm { everything: "yes".to_owned(), ..form("https://a.test/1", "") };
        assert!(both.request().is_err(), "everything stands alone");
    }

    #[test]
    fn what_empties_a_host_is_to_be_confirmed() {
        let empties = |prefix: &str| empties_a_host(&form("", prefix).request().unwrap());
        for prefix in ["https://a.test/", "https://a.test", "http://A.test/./", "https://a.test:8443/"] {
            assert!(empties(prefix), "{prefix}");
        }
        for prefix in ["https://a.test/img/", "https://a.test/?a", "https://a.test/a"] {
            assert!(!empties(prefix), "{prefix}");
        }
        let hosts = PurgeRequest { hosts: vec!["a.test".to_owned()], ..PurgeRequest::default() };
        assert!(empties_a_host(&hosts) && !empties_a_host(&PurgeRequest::default()));
    }

    #[test]
    fn a_limit_follows_the_count_until_somebody_writes_one() {
        let mut form = form("https://a.test/1", "");
        form.set_limit(3, true);
        assert_eq!(form.max_objects, "13");
        form.set_limit(1_000, true);
        assert_eq!(form.max_objects, "1100");
        form.set_limit(1_000, false);
        assert_eq!(form.max_objects, "");
        form.max_objects = "5".to_owned();
        form.set_limit(1_000, true);
        assert_eq!(form.request().unwrap().max_objects, Some(5));
        form.max_objects = "many".to_owned();
        assert!(form.request().is_err());
    }
}
