//! The shares into which hosts are cut, so that nginx asks one question about its lease and its host.
//!
//! nginx cuts `$host` by two `split_clients` of its configuration (`deploy/nginx/batoff-http.conf`), which this does after
//! it: it takes MurmurHash2 of the text and looks in which part of all 32-bit numbers that lies. There are as many shares
//! for ten hosts as for a million, and for hosts that nobody has heard of yet; a host that is held back takes with it
//! those of its share, about one in a thousand.

use std::fmt;

/// Parts of each of the two.
const PARTS: u16 = 32;

/// How they are called.
const DIGITS: &[u8; PARTS as usize] = b"0123456789abcdefghijklmnopqrstuv";

/// Each part but the last, which has the rest, is `3.12%`; nginx counts in hundredths of a per cent and rounds down.
const PART: u32 = (312 * 0xffff_ffff_u64 / 10_000) as u32;

/// One of all shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share(u16);

impl Share {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..PARTS * PARTS).map(Self)
    }

    /// That of a host, as `$host` names it: in lower case, without a port.
    pub(super) fn of(host: &str) -> Self {
        Self(part_of(host) * PARTS + part_of(&format!("{host}/")))
    }
}

/// The name of its folder: `$batoff_share_a$batoff_share_b`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |part: u16| char::from(DIGITS[usize::from(part % PARTS)]);
        write!(f, "{}{}", digit(self.0 / PARTS), digit(self.0))
    }
}

fn part_of(text: &str) -> u16 {
    let part = u16::try_from(murmur2(text.as_bytes()) / PART).unwrap_or(PARTS);
    part.min(PARTS - 1)
}

/// MurmurHash2 with the seed 0, as nginx has it.
fn murmur2(text: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // A hostname has 255 bytes at most.
    let mut hash = text.len() as u32;
    let (fours, rest) = text.as_chunks::<4>();
    for four in fours {
        let mut k = u32::from_le_bytes(*four).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What nginx 1.22.1 answers with `return 200 $batoff_share_a$batoff_share_b`.
    #[test]
    fn hosts_are_cut_as_nginx_cuts_them() {
        for (host, share) in [
            ("x.y", "pi"),
            ("a.test", "1a"),
            ("127.0.0.1", "md"),
            ("www.example.com", "o0"),
            ("shop.example.net", "79"),
            ("a12.b34.example.org", "kn"),
            ("xn--bcher-kva.example", "nj"),
            ("a-long-hostname-with-many-letters.cdn.customers.example.com", "ae"),
        ] {
            assert_eq!(Share::of(host).to_string(), share, "{host}");
        }
    }

    #[test]
    fn hosts_are_cut_evenly() {
        let mut hosts = vec![0; usize::from(PARTS * PARTS)];
        for n in 0..100_000 {
            hosts[usize::from(Share::of(&format!("www{n}.example.com")).0)] += 1;
        }
        let (fewest, most) = (hosts.iter().min().unwrap(), hosts.iter().max().unwrap());
        assert!(*fewest > 30 && *most < 200, "{fewest} to {most} of 100,000 hosts, not about 98");
    }

    #[test]
    fn shares_have_names_of_their_own() {
        let names: BTreeSet<_> = Share::all().map(|share| share.to_string()).collect();
        assert_eq!(names.len(), 1_024);
        assert!(names.contains("00") && names.contains("vv"));
    }
}
