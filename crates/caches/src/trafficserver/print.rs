//! Fingerprints of what rules name. `deploy/trafficserver/batoff.lua` computes the same; the test
//! `the_script_and_the_daemon_agree_on_every_url` compares the two.

/// What a fingerprint is of. Two places that shared one would be purged together, never one for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrintOf {
    /// A key `host[:port]/path[?query]`.
    Url = 1,
    /// The beginning of keys.
    Prefix = 2,
    /// A hostname.
    Host = 3,
    /// What hostnames end with.
    Under = 4,
    /// A tag of a site.
    Tag = 5,
    /// A site.
    Site = 6,
    /// A hostname that is a site's. Not a rule: its slot holds the number of the site.
    Owned = 7,
    /// What the hostnames of a site end with; likewise.
    OwnedUnder = 8,
    /// Any tag of a site: what an object with tags that cannot be told apart is hit by.
    AnyTag = 9,
}

impl PrintOf {
    /// The classes of rules; the table keeps the newest seq of each.
    pub(super) const RULES: [Self; 6] =
        [Self::Url, Self::Prefix, Self::Host, Self::Under, Self::Tag, Self::Site];
}

/// 64 bits in two lanes, never both 0. Additions, shifts and exclusive-or only, of 32 bits: what a Lua without 64-bit
/// integers does at full speed, and byte by byte, so that all prefixes of a key cost one walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Print(pub(super) u32, pub(super) u32);

/// Makes fingerprints. The seeds differ from table to table, so that nobody can choose a URL that goes with somebody
/// else's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fingerprinter {
    pub(super) seeds: (u32, u32),
}

impl Fingerprinter {
    pub(super) fn of(self, class: PrintOf, text: &str) -> Print {
        Lanes(self.seeds.0, self.seeds.1).over(text).end(class)
    }

    /// A site by its number; see [`Fingerprinter::site`].
    pub(super) fn of_site(self, number: u64) -> Print {
        self.walk_of(number).end(PrintOf::Site)
    }

    pub(super) fn of_tag(self, number: u64, tag: &str) -> Print {
        self.walk_of(number).over(tag).end(PrintOf::Tag)
    }

    /// The number of a site: 52 bits, so that a double holds it, and not 0.
    pub(super) fn site(self, name: &str) -> u64 {
        let Print(a, b) = self.of(PrintOf::Site, name);
        (u64::from(a >> 12) << 32 | u64::from(b)).max(1)
    }

    /// See [`PrintOf::AnyTag`].
    pub(super) fn of_any_tag(self, number: u64) -> Print {
        self.walk_of(number).end(PrintOf::AnyTag)
    }

    /// The walk over a site's tags begins with the number's two halves.
    const fn walk_of(self, number: u64) -> Lanes {
        Lanes(self.seeds.0 ^ (number & 0xFFFF_FFFF) as u32, self.seeds.1 ^ (number >> 32) as u32)
    }
}

/// The lanes in the middle of a text.
#[derive(Clone, Copy)]
struct Lanes(u32, u32);

impl Lanes {
    fn over(self, text: &str) -> Self {
        text.bytes().fold(self, |Self(a, b), byte| {
            let a = a.wrapping_add(u32::from(byte));
            let a = a.wrapping_add(a << 10);
            let b = b.wrapping_add(u32::from(byte));
            let b = b.wrapping_add(b << 7);
            Self(a ^ a >> 6, b ^ b >> 9)
        })
    }

    const fn end(self, class: PrintOf) -> Print {
        let Self(a, b) = self;
        let a = a ^ (class as u32) << 12;
        let a = a.wrapping_add(a << 3);
        let a = a ^ a >> 11;
        let a = a.wrapping_add(a << 15);
        let b = b ^ (class as u32) << 20;
        let b = b.wrapping_add(b << 5);
        let b = b ^ b >> 13;
        let b = b.wrapping_add(b << 16);
        if a == 0 && b == 0 { Print(1, 0) } else { Print(a, b) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbors_and_classes_have_prints_of_their_own() {
        let printer = Fingerprinter { seeds: (0x1234_5678, 0x9ABC_DEF0) };
        let mut seen = HashSet::new();
        for n in 0..20_000 {
            assert!(seen.insert(printer.of(PrintOf::Url, &format!("www.example.test/{n}"))));
            assert!(seen.insert(printer.of(PrintOf::Prefix, &format!("www.example.test/{n}"))));
            assert!(seen.insert(printer.of_tag(printer.site("mine"), &format!("t{n}"))));
            assert!(seen.insert(printer.of_tag(printer.site("yours"), &format!("t{n}"))));
        }
        let low: HashSet<_> = seen.iter().map(|print| print.0 & 0xFFFF).collect();
        assert!(low.len() > 40_000, "the low bits find the slot: {}", low.len());
    }
}
