//! Which of a response's fields are kept, and which of a confirmation's are taken over.

use http::header::{self, HeaderName};
use pingora::Result;
use pingora::http::ResponseHeader;

/// Fields that are about one connection (RFC 9110, section 7.6.1) or one proxy, and so are not kept (RFC 9111, section
/// 3.1).
const NOT_KEPT: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields that describe the kept body, which a confirmation does not bring (RFC 9111, section 3.2).
const OF_THE_BODY: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    // What it confirms is the response that this one names.
    header::ETAG,
];

/// Fields that frame the message on its way; the transport sees to them.
const OF_THE_FRAME: [HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];

/// Takes out the fields that `Connection` names: they were for this proxy (RFC 9110, section 7.6.1).
pub(super) fn drop_nominated(response: &mut ResponseHeader) {
    let lines = response.headers.get_all(header::CONNECTION).iter();
    let named: Vec<HeaderName> = lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !OF_THE_FRAME.contains(name) && *name != header::CONTENT_LENGTH)
        .collect();
    for name in &named {
        response.remove_header(name);
    }
}

/// The header as it is kept.
pub(super) fn kept(mut response: ResponseHeader) -> ResponseHeader {
    for name in &NOT_KEPT {
        response.remove_header(name);
    }
    response
}

/// The kept header after a confirmation: each field of the `304` in place of the kept ones of its name (RFC 9111,
/// section 3.2), but for those that it cannot speak of.
pub(super) fn confirmed(kept: &ResponseHeader, confirmation: &ResponseHeader) -> Result<ResponseHeader> {
    let mut fresh = kept.clone();
    // How old it was when it came then says nothing any more.
    fresh.remove_header(&header::AGE);
    for name in confirmation.headers.keys() {
        if NOT_KEPT.contains(name) || OF_THE_BODY.contains(name) {
            continue;
        }
        fresh.remove_header(name);
        for value in confirmation.headers.get_all(name) {
            fresh.append_header(name, value)?;
        }
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            header.append_header(*name, *value).unwrap();
        }
        header
    }

    fn all<'a>(header: &'a ResponseHeader, name: &str) -> Vec<&'a str> {
        header.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn fields_of_a_connection_are_not_kept() {
        let mut response = header(&[
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=9"),
            ("proxy-authenticate", "Basic"),
            ("transfer-encoding", "chunked"),
            ("x-end", "2"),
        ]);
        drop_nominated(&mut response);
        assert_eq!(all(&response, "transfer-encoding"), ["chunked"], "the frame is still needed");
        let kept = kept(response);
        assert_eq!(kept.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-end"]);
    }

    #[test]
    fn the_length_of_a_body_cannot_be_named_away() {
        let mut response =
            header(&[("connection", "Content-Length, Transfer-Encoding"), ("content-length", "3")]);
        drop_nominated(&mut response);
        assert_eq!(all(&response, "content-length"), ["3"]);
    }

    #[test]
    fn a_confirmation_replaces_what_it_names_and_says_nothing_of_the_body() {
        let kept = header(&[
            ("x-a", "old"),
            ("x-a", "older"),
            ("x-b", "kept"),
            ("age", "100"),
            ("etag", "\"1\""),
            ("content-length", "7"),
            ("content-encoding", "br"),
        ]);
        let confirmation = header(&[
            ("x-a", "new"),
            ("x-c", "one"),
            ("x-c", "two"),
            ("etag", "\"2\""),
            ("content-length", "0"),
            ("content-encoding", "gzip"),
            ("keep-alive", "timeout=5"),
        ]);
        let fresh = confirmed(&kept, &confirmation).unwrap();
        for (name, values) in [
            ("x-a", &["new"][..]),
            ("x-b", &["kept"]),
            ("x-c", &["one", "two"]),
            ("age", &[]),
            ("etag", &["\"1\""]),
            ("content-length", &["7"]),
            ("content-encoding", &["br"]),
            ("keep-alive", &[]),
        ] {
            assert_eq!(all(&fresh, name), values, "{name}");
        }
    }
}
