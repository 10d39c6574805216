//! The beginning of a cache file, as nginx on 64-bit little-endian machines writes it: format version 5, unchanged from
//! 1.18 to 1.29.

use batoff_types::{CacheTags, Cursor, FillToken, Generation, TAGS_PER_RESPONSE_LIMIT};

/// The format version that this reads.
const VERSION: u64 = 5;

/// The version of a file that we have made unservable.
pub(super) const SPOILED: u64 = 0;

/// The second until which a file is fresh that was made stale: no clock that is put back comes before it. 0 would mean that
/// nginx has not decided yet.
pub(super) const STALE: i64 = 1;

/// Where nginx's structure ends and the line with the key begins.
const STRUCT_BYTES: usize = 0x150;

const KEY_INTRODUCTION: &[u8] = b"\nKEY: ";

/// A first read of this many bytes is nearly always enough: nginx's own limit is `proxy_buffer_size`, 4 KiB by default.
pub(super) const FIRST_READ: usize = 4_096;

/// Where `valid_sec`, `updating_sec`, `error_sec` and `last_modified` lie, eight bytes each.
pub(super) const TIMES_AT: u64 = 0x08;

/// What is read of a cache file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) times: Times,
    /// The value of `proxy_cache_key`.
    pub(super) key: Vec<u8>,
    /// What stands in the response's `Cache-Tag`.
    pub(super) tags: CacheTags,
    /// What the fill hop wrote when the fetch began; `None` without one, or with several.
    pub(super) stamp: Option<Stamp>,
    /// When the fetch began by the wall clock, in milliseconds, if the fill hop said so.
    pub(super) began_ms: Option<u64>,
    /// It must not be served stale (RFC 9111, 5.2.2.2 and 5.2.2.8).
    pub(super) must_revalidate: bool,
}

/// The times in the structure, in seconds of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// Fresh before this.
    pub(super) valid: i64,
    /// How much longer it may be served while it is updated.
    pub(super) updating: i64,
    /// How much longer it may be served when the origin fails.
    pub(super) error: i64,
    /// `Last-Modified`; -1 without one. nginx refuses to refresh a file in place when this has changed under it.
    pub(super) last_modified: i64,
}

/// A fill token with the identity of the daemon that gave it: tokens of another one say nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) daemon: u64,
    pub(super) token: FillToken,
    /// Which run of the daemon: a state directory that was put back to an earlier state has the same identity.
    pub(super) run: u32,
}

/// Why a file says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It ends too early: it is being written, or was torn. Read again with at least this many bytes.
    Short(usize),
    /// Made unservable by us, to be removed.
    Spoiled,
    /// Not this format: another version of nginx, another word size, or no cache file.
    Foreign,
}

impl FileHeader {
    /// Whether a file that begins so was made unservable.
    pub(super) fn is_spoiled(bytes: &[u8]) -> bool {
        u64_at(bytes, 0) == Ok(SPOILED)
    }

    /// From the first bytes of the file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        match u64_at(bytes, 0)? {
            VERSION => {}
            SPOILED => return Err(HeaderError::Spoiled),
            _ => return Err(HeaderError::Foreign),
        }
        let (header_start, body_start) = (usize_at(bytes, 0x36)?, usize_at(bytes, 0x38)?);
        let key_start = STRUCT_BYTES + KEY_INTRODUCTION.len();
        if header_start <= key_start || body_start < header_start {
            return Err(HeaderError::Foreign);
        }
        if bytes.len() < body_start {
            return Err(HeaderError::Short(body_start));
        }
        if bytes[STRUCT_BYTES..key_start] != *KEY_INTRODUCTION || bytes[header_start - 1] != b'\n' {
            return Err(HeaderError::Foreign);
        }
        let response = Response::read(&bytes[header_start..body_start]);
        Ok(Self {
            times: Times::parse(&bytes[8..40]).ok_or(HeaderError::Foreign)?,
            key: bytes[key_start..header_start - 1].to_vec(),
            tags: CacheTags::parse_up_to(TAGS_PER_RESPONSE_LIMIT, response.tags),
            stamp: response.stamp,
            began_ms: response.began_ms,
            must_revalidate: response.must_revalidate,
        })
    }
}

/// What matters of the response's header.
#[derive(Default)]
struct Response<'a> {
    tags: Vec<&'a [u8]>,
    stamp: Option<Stamp>,
    began_ms: Option<u64>,
    must_revalidate: bool,
}

impl<'a> Response<'a> {
    fn read(text: &'a [u8]) -> Self {
        let mut read = Self::default();
        let mut stamps = 0;
        for line in text.split(|&b| b == b'\n') {
            let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"cache-tag") {
                read.tags.push(value);
            } else if name.eq_ignore_ascii_case(b"x-fill-gen") {
                stamps += 1;
                read.stamp = Stamp::parse(value);
            } else if name.eq_ignore_ascii_case(b"x-fill-start") {
                read.began_ms = seconds_as_millis(value);
            } else if name.eq_ignore_ascii_case(b"cache-control") {
                let directives = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                read.must_revalidate |= directives.into_iter().any(forbids_stale);
            }
        }
        if stamps != 1 {
            // The origin's own, or a shield's that was not hidden: nobody can say which one is ours.
            read.stamp = None;
        }
        read
    }
}

fn forbids_stale(directive: &[u8]) -> bool {
    [b"must-revalidate".as_slice(), b"proxy-revalidate"]
        .iter()
        .any(|name| directive.eq_ignore_ascii_case(name))
}

impl Stamp {
    /// From a path that ends in what [`Stamp::folder`] gives.
    pub(super) fn parse(path: &[u8]) -> Option<Self> {
        let path = std::str::from_utf8(path).ok()?;
        let mut parts = path.rsplit('/').next()?.splitn(4, '-');
        let daemon = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (generation, applied) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let token = FillToken { generation: Generation(generation), applied: Cursor::new(applied) };
        // Earlier versions named no run: it was an earlier one.
        let run = parts.next().map_or(Some(0), |run| u32::from_str_radix(run, 16).ok())?;
        Some(Self { daemon, token, run })
    }

    /// The name of the folder that nginx writes into what it fetches.
    pub(super) fn folder(&self) -> String {
        let Self { daemon, token, run } = self;
        format!("{daemon:016x}-{}-{}-{run:08x}", token.generation.0, token.applied)
    }
}

impl Times {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let at =
            |index: usize| Some(i64::from_le_bytes(bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?));
        Some(Self { valid: at(0)?, updating: at(1)?, error: at(2)?, last_modified: at(3)? })
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (eight, value) in
            bytes.chunks_exact_mut(8).zip([self.valid, self.updating, self.error, self.last_modified])
        {
            eight.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, HeaderError> {
    let eight = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok());
    eight.map(u64::from_le_bytes).ok_or(HeaderError::Short(FIRST_READ))
}

fn usize_at(bytes: &[u8], at: usize) -> Result<usize, HeaderError> {
    let two = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
    two.map(|two| usize::from(u16::from_le_bytes(two))).ok_or(HeaderError::Short(FIRST_READ))
}

/// `1795325813.091` as milliseconds.
fn seconds_as_millis(text: &[u8]) -> Option<u64> {
    let (seconds, millis) = std::str::from_utf8(text).ok()?.split_once('.')?;
    let millis: u64 = (millis.len() == 3).then(|| millis.parse().ok())??;
    seconds.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(key: &str, response: &str) -> Vec<u8> {
        let mut bytes = vec![0; STRUCT_BYTES];
        bytes[0] = 5;
        let times = Times { valid: 2_000, updating: 0, error: 0, last_modified: -1 };
        bytes[8..40].copy_from_slice(&times.to_bytes());
        bytes.extend_from_slice(format!("\nKEY: {key}\n").as_bytes());
        let header_start = u16::try_from(bytes.len()).unwrap();
        bytes.extend_from_slice(response.as_bytes());
        let body_start = u16::try_from(bytes.len()).unwrap();
        bytes[0x36..0x38].copy_from_slice(&header_start.to_le_bytes());
        bytes[0x38..0x3a].copy_from_slice(&body_start.to_le_bytes());
        bytes.extend_from_slice(b"Cache-Tag: of-the-body\n");
        bytes
    }

    #[test]
    fn key_tags_and_stamp_are_read() {
        let read = FileHeader::parse(&file(
            "https://a.test/x",
            "HTTP/1.1 200 OK\r\ncache-TAG: a, b\r\nCache-Tag:c\r\nX-Fill-Gen: /run/b/gen/00000000000000ff-3-17-0000000a\r\n\
             X-Fill-Start: 1795325813.091\r\nCache-Control: max-age=5, Must-Revalidate\r\n\r\n",
        ))
        .unwrap();
        assert_eq!(read.key, b"https://a.test/x");
        assert_eq!(read.tags.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let stamp = read.stamp.unwrap();
        assert_eq!(
            (stamp.daemon, stamp.token.generation, stamp.token.applied.get()),
            (255, Generation(3), 17)
        );
        assert_eq!(stamp.folder(), "00000000000000ff-3-17-0000000a");
        assert_eq!(Stamp::parse(b"/g/ff-3-17").map(|earlier| earlier.run), Some(0));
        assert!(read.must_revalidate);
        assert_eq!((read.times.valid, read.times.last_modified), (2_000, -1));
        assert_eq!(read.began_ms, Some(1_795_325_813_091));
    }

    #[test]
    fn a_stamp_that_is_not_ours_alone_is_none() {
        for lines in [
            "X-Fill-Gen: /g/ff-1-2\r\nX-Fill-Gen: /g/ff-1-9\r\n",
            "X-Fill-Gen: \r\n",
            "X-Fill-Gen: /g/cur\r\n",
        ] {
            let read = FileHeader::parse(&file("k", &format!("HTTP/1.1 200 OK\r\n{lines}\r\n"))).unwrap();
            assert_eq!(read.stamp, None, "{lines}");
        }
    }

    #[test]
    fn what_is_not_whole_or_not_this_format_is_told_apart() {
        let whole = file("https://a.test/x", "HTTP/1.1 200 OK\r\n\r\n");
        let mut foreign = whole.clone();
        foreign[0] = 6;
        let mut spoiled = whole.clone();
        spoiled[..8].fill(0);
        assert_eq!(FileHeader::parse(&foreign), Err(HeaderError::Foreign));
        assert_eq!(FileHeader::parse(&spoiled), Err(HeaderError::Spoiled));
        assert_eq!(FileHeader::parse(&whole[..370]), Err(HeaderError::Short(378)));
        for end in 0..378 {
            assert!(matches!(FileHeader::parse(&whole[..end]), Err(HeaderError::Short(_))), "{end}");
        }
    }
}
