//! What nginx calls its files.

use std::fmt;

use super::config::Levels;

/// Digits of an MD5 in hex.
const DIGITS: usize = 32;

/// The name of a cache file: the MD5 of its key or, for all variants of a response but the first, of the variant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileName(pub(super) [u8; 16]);

/// What a name in the cache directory stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A response that can be served.
    Object(FileName),
    /// One that is being received: the name that it will get, a dot, a number.
    InFlight(InFlight),
    /// None of nginx's.
    Other,
}

/// A file that is being written, with `use_temp_path=off`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    becomes: FileName,
    suffix: Box<str>,
}

impl Named {
    pub(super) fn parse(name: &[u8]) -> Self {
        let (digits, suffix) = name.split_at(name.len().min(DIGITS));
        let Some(file) = FileName::parse(digits) else { return Self::Other };
        match suffix {
            [] => Self::Object(file),
            [b'.', number @ ..] if !number.is_empty() && number.iter().all(u8::is_ascii_digit) => {
                let suffix = String::from_utf8_lossy(suffix).into_owned().into();
                Self::InFlight(InFlight { becomes: file, suffix })
            }
            _ => Self::Other,
        }
    }
}

impl FileName {
    fn parse(digits: &[u8]) -> Option<Self> {
        if digits.len() != DIGITS {
            return None;
        }
        let mut name = [0; 16];
        for (byte, pair) in name.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| match pair[at] {
                digit @ b'0'..=b'9' => Some(digit - b'0'),
                digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Some(Self(name))
    }

    /// Where it lies below the cache directory.
    pub(super) fn path(&self, levels: Levels) -> String {
        let name = self.to_string();
        let mut path = String::with_capacity(DIGITS + 8);
        let mut end = DIGITS;
        for digits in levels.digits() {
            path.push_str(&name[end - digits..end]);
            path.push('/');
            end -= digits;
        }
        path.push_str(&name);
        path
    }
}

impl InFlight {
    /// Where it lies below the cache directory.
    pub(super) fn path(&self, levels: Levels) -> String {
        self.becomes.path(levels) + &self.suffix
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Levels {
    /// The folders that hold files, below the cache directory, each with all above it.
    pub(super) fn folders(self) -> Vec<String> {
        let mut folders = vec![String::new()];
        for digits in self.digits() {
            let width = digits;
            let count = 16_u32.pow(u32::try_from(digits).unwrap_or(2));
            folders = folders
                .iter()
                .flat_map(|above| (0..count).map(move |number| format!("{above}{number:0width$x}/")))
                .collect();
        }
        folders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> Levels {
        Levels::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn levels_are_taken_from_the_end_of_the_name() {
        let Named::Object(name) = Named::parse(b"b7f54b2df7773722d382f4809d65084f") else {
            panic!("an object")
        };
        assert_eq!(name.path(levels("1:2")), "f/84/b7f54b2df7773722d382f4809d65084f");
        assert_eq!(name.path(levels("2:2:2")), "4f/08/65/b7f54b2df7773722d382f4809d65084f");
        assert_eq!(levels("1:2").folders().len(), 4096);
        assert!(levels("1:2").folders().contains(&"f/84/".to_owned()));
        assert!(Levels::try_from("3".to_owned()).is_err() && Levels::try_from("1:2:1:1".to_owned()).is_err());
    }

    #[test]
    fn only_what_nginx_names_is_taken_for_its_files() {
        let name = "b7f54b2df7773722d382f4809d65084f";
        assert!(matches!(Named::parse(name.as_bytes()), Named::Object(_)));
        let Named::InFlight(file) = Named::parse(format!("{name}.0000000012").as_bytes()) else {
            panic!("in flight")
        };
        assert_eq!(file.path(levels("1")), format!("f/{name}.0000000012"));
        for other in [&name[1..], "", "core", &format!("{name}.x"), &format!("{name}."), &name.to_uppercase()]
        {
            assert_eq!(Named::parse(other.as_bytes()), Named::Other, "{other}");
        }
    }
}
