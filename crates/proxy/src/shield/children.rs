//! Who may ask this node as a parent: the addresses that the operator has named.

use std::net::IpAddr;

use ipnet::IpNet;

/// The addresses whose word about purges is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Children(Vec<IpNet>);

impl Children {
    /// From addresses and networks such as `192.0.2.7` and `2001:db8::/32`; the error is the rule that is broken.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, String> {
        texts.iter().map(|text| network(text.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a connection from `address` is one of theirs.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.split_once('/').map_or(text, |(address, _)| address).parse::<IpAddr>();
    let address = address.map_err(|_| format!("{text:?} is not an address or a network like 10.0.0.0/8"))?;
    let alone = IpNet::from(address);
    let network: IpNet = if text.contains('/') {
        text.parse()
            .map_err(|_| format!("{text:?}: a prefix length is at most {}", alone.max_prefix_len()))?
    } else {
        alone
    };
    if network.prefix_len() == 0 {
        return Err(format!("{text:?} is everybody, and a child can go past the cache; name the children"));
    }
    if network.trunc() != network {
        return Err(format!("{text:?} has bits beyond its prefix length"));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_known_by_its_address() {
        let children = Children::parse(&["10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]).unwrap();
        for (address, is_child) in [
            ("10.1.255.3", true),
            ("10.2.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:192.0.2.7", true),
            ("2001:db8:5::1", true),
            ("2001:db9::1", false),
            ("a01::", false),
        ] {
            assert_eq!(children.contain(address.parse().unwrap()), is_child, "{address}");
        }
    }

    #[test]
    fn a_list_that_says_nothing_or_everything_is_refused() {
        for (text, rule) in [
            ("example.net", "not an address"),
            ("10.0.0.0/33", "at most 32"),
            ("::/129", "at most 128"),
            ("10.0.0.0/x", "at most 32"),
            ("0.0.0.0/0", "everybody"),
            ("::/0", "everybody"),
            ("10.0.0.1/8", "beyond"),
        ] {
            assert!(Children::parse(&[text]).unwrap_err().contains(rule), "{text}");
        }
    }
}
