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
}

pub(super) fn encode(record: &SeatRecord) -> Vec<u8> {
    rows::json(&SeatRow {
        term: record.term.0,
        process: record.process.to_string(),
        place: record.place.as_deref().map(str::to_owned),
        waited: record.waited,
    })
}

pub(super) fn decode(value: &[u8]) -> Result<SeatRecord, &'static str> {
    let row: SeatRow = serde_json::from_slice(value).map_err(|_| "it is no row of a seat")?;
    Ok(SeatRecord {
        term: Term(row.term),
        process: row.process.parse().map_err(|_| "it names no process")?,
        place: row.place.map(Arc::from),
        waited: row.waited,
    })
}

#[cfg(test)]
mod tests {
    use batoff_types::InstanceId;

    use super::*;

    #[test]
    fn a_row_says_what_was_written() {
        for place in [None, Some(Arc::from("boot 1:2"))] {
            let record =
                SeatRecord { term: Term(7), process: InstanceId::from_bytes([9; 16]), place, waited: true };
            assert_eq!(decode(&encode(&record)), Ok(record));
        }
        assert!(decode(b"{}").is_err() && decode(b"").is_err());
    }
}
