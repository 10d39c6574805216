//! The fill token, kept in the stored response's header.

use batoff_types::{Cursor, FillToken, Generation};
use http::{HeaderMap, HeaderName};

/// `<generation>.<applied>`. Written over whatever the origin says, and never passed on.
pub(crate) const X_BATOFF_FILL: HeaderName = HeaderName::from_static("x-batoff-fill");

pub(crate) fn write(token: FillToken) -> String {
    format!("{}.{}", token.generation.0, token.applied.get())
}

/// `None` when there is none, or none that this build wrote.
pub(crate) fn read(headers: &HeaderMap) -> Option<FillToken> {
    let (generation, applied) = headers.get(X_BATOFF_FILL)?.to_str().ok()?.split_once('.')?;
    let generation = Generation(generation.parse().ok()?);
    Some(FillToken { generation, applied: Cursor::new(applied.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_not() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_BATOFF_FILL, value.parse().unwrap());
            read(&headers)
        };
        let token = FillToken { generation: Generation(u64::MAX), applied: Cursor::new(42) };
        assert_eq!(read(&write(token)), Some(token));
        for value in ["", "1", "1.", ".1", "1.x", "1.2.3"] {
            assert_eq!(read(value), None, "{value:?}");
        }
        assert_eq!(super::read(&HeaderMap::new()), None);
    }
}
