use batoff_client::{ITEMS_PER_REQUEST_MAX, PREFIXES_PER_REQUEST_MAX, PurgeRequest, REQUEST_BYTES_MAX};

/// Bytes of items in one request. The rest of the body's limit is left to JSON's own signs and to escaped characters;
/// 200 URLs of the greatest length would not fit.
const ITEM_BYTES_MAX: usize = REQUEST_BYTES_MAX / 2;

/// One purge as requests that each keep the API's limits, in the items' order.
pub fn split(purge: &PurgeRequest) -> Vec<PurgeRequest> {
    let empty =
        || PurgeRequest { soft: purge.soft, max_objects: purge.max_objects, ..PurgeRequest::default() };
    if purge.everything {
        return vec![PurgeRequest { everything: true, ..empty() }];
    }
    let mut requests = vec![empty()];
    let mut bytes = 0;
    let lists: [(&[String], Add, bool); 4] = [
        (&purge.urls, PurgeRequest::url, false),
        (&purge.tags, PurgeRequest::tag, false),
        (&purge.prefixes, PurgeRequest::prefix, true),
        (&purge.hosts, PurgeRequest::host, true),
    ];
    for (items, add, prefix_like) in lists {
        for item in items {
            let last = requests.last().map_or((0, 0), |last| (last.items(), last.prefix_like()));
            let full = last.0 >= ITEMS_PER_REQUEST_MAX
                || prefix_like && last.1 >= PREFIXES_PER_REQUEST_MAX
                || bytes + item.len() > ITEM_BYTES_MAX && last.0 > 0;
            if full {
                requests.push(empty());
                bytes = 0;
            }
            bytes += item.len();
            if let Some(request) = requests.last_mut() {
                *request = add(std::mem::take(request), item.clone());
            }
        }
    }
    requests
}

type Add = fn(PurgeRequest, String) -> PurgeRequest;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("https://www.example.com/{n}")).collect()
    }

    fn sizes(purge: &PurgeRequest) -> Vec<(usize, usize)> {
        split(purge).iter().map(|request| (request.items(), request.prefix_like())).collect()
    }

    #[test]
    fn what_fits_is_one_request() {
        let purge = PurgeRequest { urls: names(140), prefixes: names(60), soft: true, ..Default::default() };
        assert_eq!(split(&purge), [purge]);
    }

    #[test]
    fn urls_and_tags_go_by_200() {
        let purge = PurgeRequest { urls: names(350), tags: names(60), ..Default::default() };
        assert_eq!(sizes(&purge), [(200, 0), (200, 0), (10, 0)]);
    }

    #[test]
    fn prefixes_and_hosts_go_by_60() {
        let purge =
            PurgeRequest { urls: names(10), prefixes: names(100), hosts: names(30), ..Default::default() };
        assert_eq!(sizes(&purge), [(70, 60), (60, 60), (10, 10)]);
    }

    #[test]
    fn everything_is_alone() {
        let purge = PurgeRequest { everything: true, soft: true, ..Default::default() };
        assert_eq!(split(&purge), [purge]);
    }

    #[test]
    fn no_body_grows_over_the_limit_and_nothing_is_lost_or_reordered() {
        let urls: Vec<_> = names(500).into_iter().map(|url| url + &"é".repeat(4_000)).collect();
        let requests = split(&PurgeRequest { urls: urls.clone(), ..Default::default() });
        assert!(
            requests.iter().all(|request| serde_json::to_vec(request).unwrap().len() < REQUEST_BYTES_MAX)
        );
        assert_eq!(requests.into_iter().flat_map(|request| request.urls).collect::<Vec<_>>(), urls);
    }
}
