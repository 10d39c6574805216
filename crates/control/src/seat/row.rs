//! The row of a seat: the process that took it last.

use std::sync::Arc;

use batoff_delivery::SeatRecord;
use batoff_types::Term;
use serde::{Deserialize, Serialize};

use crate::store::rows;

#[derive(Serialize, Deserialize)]
struct SeatRow {
    term: u64,
    process: String,
    place: Option<String>,
    waited: bool,
    /// Left out by programs that did not know it.
    #[serde(default)]
    released: bool,
}

pub(super) fn encode(record: &SeatRecord) -> Vec<u8> {
    rows::json(&SeatRow {
        term: record.term.0,
        process: record.process.to_string(),
        place: record.place.as_deref().map(str::to_owned),
        waited: record.waited,
        released: record.released,
    })
}

pub(super) fn decode(value: &[u8]) -> Result<SeatRecord, &'static str> {
    let row: SeatRow = serde_json::from_slice(value).map_err(|_| "it is no row of a seat")?;
    Ok(SeatRecord {
        term: Term(row.term),
        process: row.process.parse().map_err(|_| "it names no process")?,
        place: row.place.map(Arc::from),
        waited: row.waited,
        released: row.released,
    })
}

#[cfg(test)]
mod tests {
    use batoff_types::InstanceId;

    use super::*;

    #[test]
    fn a_row_says_what_was_written() {
        for (place, released) in [(None, false), (Some(Arc::from("boot 1:2")), true)] {
            let process = InstanceId::from_bytes([9; 16]);
            let record = SeatRecord { term: Term(7), process, place, waited: true, released };
            assert_eq!(decode(&encode(&record)), Ok(record));
        }
    }

    #[test]
    fn the_row_of_a_program_that_released_nothing_is_read() {
        let process = InstanceId::from_bytes([9; 16]);
        let row = format!(r#"{{"term":7,"process":"{process}","place":null,"waited":true}}"#);
        let record = SeatRecord { term: Term(7), process, place: None, waited: true, released: false };
        assert_eq!(decode(row.as_bytes()), Ok(record));
        assert!(decode(b"{}").is_err() && decode(b"").is_err());
    }
}
