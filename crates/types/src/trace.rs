//! Which trace a purge belongs to, and how W3C Trace Context writes that.

use std::fmt;
use std::str::FromStr;

/// The trace that a purge belongs to, and the span in it of the request that caused it: the parent of what each node does.
/// Whatever has one is traced; what is not traced has none.
///
/// A figure for people. Nothing of what a purge does depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace: 16 bytes, not all of them 0.
    trace: [u8; 16],
    /// The span: 8 bytes, not all of them 0.
    span: [u8; 8],
}

/// A `traceparent` field that a caller sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallersTrace {
    /// The caller's trace, and its span.
    pub parent: TraceParent,
    /// Whether the caller says that it records the trace.
    pub is_sampled: bool,
}

/// The field is not what W3C Trace Context says; it is then as if there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no traceparent as in W3C Trace Context: 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in small letters"
)]
pub struct InvalidTraceParent;

impl TraceParent {
    /// `None` when either is all zeros, which W3C Trace Context forbids.
    pub fn new(trace: [u8; 16], span: [u8; 8]) -> Option<Self> {
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span })
    }

    /// The trace's id.
    pub const fn trace(&self) -> [u8; 16] {
        self.trace
    }

    /// The span's id.
    pub const fn span(&self) -> [u8; 8] {
        self.span
    }

    /// The same trace, another span; `None` when that is all zeros.
    pub fn with_span(&self, span: [u8; 8]) -> Option<Self> {
        Self::new(self.trace, span)
    }

    /// As records have it: the trace's id, and the span's behind it.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..].copy_from_slice(&self.span);
        bytes
    }

    /// The other way round; `None` for anything that is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace, span) = bytes.split_at_checked(16)?;
        Self::new(trace.try_into().ok()?, span.try_into().ok()?)
    }
}

/// The trace's id alone, in hex, as it is looked for.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CallersTrace {
    type Err = InvalidTraceParent;

    /// Reads the value of a `traceparent` field (W3C Trace Context, 3.2). Of a later version the parts of version 00 are read, as
    /// the standard says; what follows them is left.
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.trim_ascii().splitn(5, '-');
        let mut part = || parts.next().ok_or(InvalidTraceParent);
        let [version] = hex(part()?).ok_or(InvalidTraceParent)?;
        let trace = hex(part()?).ok_or(InvalidTraceParent)?;
        let span = hex(part()?).ok_or(InvalidTraceParent)?;
        let [flags] = hex(part()?).ok_or(InvalidTraceParent)?;
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(InvalidTraceParent);
        }
        let parent = TraceParent::new(trace, span).ok_or(InvalidTraceParent)?;
        Ok(Self { parent, is_sampled: flags & 1 == 1 })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes();
    if pairs.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let read = |text: &str| text.parse::<CallersTrace>();
        let plain = read(&format!("00-{TRACE}-00f067aa0ba902b7-01")).unwrap();
        assert!(plain.is_sampled);
        assert_eq!(plain.parent.to_string(), TRACE);
        assert_eq!(plain.parent.span(), [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(!read(&format!("00-{TRACE}-00f067aa0ba902b7-02")).unwrap().is_sampled);
        let later = read(&format!("01-{TRACE}-00f067aa0ba902b7-01-what-comes-later")).unwrap();
        assert_eq!(later, plain);
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-1"),
            format!("00-{TRACE}-00f067aa0ba902bé-01"),
        ] {
            assert_eq!(text.parse::<CallersTrace>(), Err(InvalidTraceParent), "{text}");
        }
    }

    #[test]
    fn it_is_the_same_after_its_bytes() {
        let parent = TraceParent::new([7; 16], [9; 8]).unwrap();
        assert_eq!(TraceParent::from_bytes(&parent.to_bytes()), Some(parent));
        for odd in [&[7; 23][..], &[7; 25], &[0; 24], &[]] {
            assert_eq!(TraceParent::from_bytes(odd), None);
        }
    }
}
