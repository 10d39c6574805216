//! `X-Request-Id`: the caller's when it is sane, else ours. It stands in every reply, every log line and in the record.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

/// The header.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id taken over from a caller, in characters. A longer one is replaced by ours.
pub const LENGTH_MAX: usize = 128;

/// The id of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The caller's id when there is exactly one and it is 1 to 128 of `A-Z a-z 0-9 - _ . : / + = @`; else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(HEADER).iter();
        let given = lines.next().filter(|_| lines.next().is_none()).and_then(|line| line.to_str().ok());
        match given {
            Some(text) if is_sane(text) => Self(text.into()),
            _ => Self((&*ulid::Ulid::generate().array_to_str(&mut [0; ulid::ULID_LEN])).into()),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id for a record.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

fn is_sane(text: &str) -> bool {
    (1..=LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, line.parse().unwrap());
        }
        RequestId::of(&headers).as_str().to_owned()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        assert_eq!(of(&["deploy-42/step:3"]), "deploy-42/step:3");
        let long = "x".repeat(LENGTH_MAX + 1);
        let replaced: [&[&str]; 5] = [&[], &[""], &["a b"], &[&long], &["a", "b"]];
        for lines in replaced {
            let id = of(lines);
            assert_eq!(id.len(), 26, "{lines:?} gave {id}");
        }
    }
}
