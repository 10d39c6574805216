//! What a URL in the configuration may be.

/// Whether it is a URL's scheme, host and port, and no more.
pub(super) fn is_base(url: &str, schemes: &[&str]) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else { return false };
    let is_bare = url.path_and_query().is_none_or(|rest| rest.as_str() == "/");
    let is_known = url.scheme_str().is_some_and(|scheme| schemes.contains(&scheme));
    let has_host = url.authority().is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'));
    is_bare && is_known && has_host
}

pub(super) fn is_own_path(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && is_plain(path)
}

pub(super) fn is_https(url: &str) -> bool {
    let origin_end = url.get(8..).and_then(|rest| rest.find('/')).map_or(url.len(), |end| end + 8);
    is_plain(url) && is_base(&url[..origin_end], &["https"])
}

/// Can stand in a header, and beside others in the content security policy.
fn is_plain(url: &str) -> bool {
    url.bytes().all(|b| b.is_ascii_graphic() && !b"\\;,'\"<>".contains(&b))
}
