//! Which address a request comes from: the connection's, or what a trusted proxy says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap};

/// The header in which proxies say whom they speak for, each appending the address that it saw.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address. Of `X-Forwarded-For` only what trusted proxies have written is believed: it is read from the
/// end, and the first address that is no trusted proxy is the client.
pub fn of(headers: &HeaderMap, extensions: &Extensions, trusted: &[IpAddr]) -> IpAddr {
    let connection = extensions.get::<ConnectInfo<SocketAddr>>();
    let peer =
        connection.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip()).to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|proxy| proxy.to_canonical() == address);
    if !is_trusted(peer) {
        return peer;
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
    let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut client = peer;
    for hop in hops.iter().rev() {
        let Some(address) = parse(hop) else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address, with or without a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.parse::<IpAddr>().ok();
    let address = bare.or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], trusted: &[&str], expected: &str) {
        let mut request = http::Request::builder();
        for line in forwarded {
            request = request.header(FORWARDED_FOR, *line);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let trusted: Vec<IpAddr> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(of(&parts.headers, &parts.extensions, &trusted).to_string(), expected);
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        check("192.0.2.1", &["203.0.113.9"], &[], "192.0.2.1");
        check("127.0.0.1", &["203.0.113.9"], &["127.0.0.1"], "203.0.113.9");
        check("::ffff:127.0.0.1", &["203.0.113.9:4711"], &["127.0.0.1"], "203.0.113.9");
        check("127.0.0.1", &["198.51.100.7, 203.0.113.9"], &["127.0.0.1"], "203.0.113.9");
        check("127.0.0.1", &["203.0.113.9", "10.0.0.1"], &["127.0.0.1", "10.0.0.1"], "203.0.113.9");
        check("127.0.0.1", &["forged, 10.0.0.1"], &["127.0.0.1", "10.0.0.1"], "10.0.0.1");
        check("127.0.0.1", &[], &["127.0.0.1"], "127.0.0.1");
    }
}
