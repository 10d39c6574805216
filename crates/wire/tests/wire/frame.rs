//! Records that were encoded once are joined into a message without touching them again.

use batoff_types::message::ToNode;
use batoff_types::{Record, Seq};
use batoff_wire::{decode_to_node, encode_record, encode_to_node, records_frame};
use bytes::Bytes;
use proptest::prelude::*;

use super::strategies;

fn joined(records: &[Record]) -> Bytes {
    let encoded: Vec<Bytes> = records.iter().map(encode_record).collect();
    records_frame(records.first().map_or(Seq::FIRST, |record| record.seq), &encoded)
}

proptest! {
    #[test]
    fn a_joined_frame_is_the_message_byte_by_byte(records in strategies::records()) {
        let frame = joined(&records);
        prop_assert_eq!(&frame, &encode_to_node(&ToNode::Records(records.clone())));
        prop_assert_eq!(decode_to_node(&frame), Ok(ToNode::Records(records)));
    }
}

#[test]
fn a_frame_takes_any_part_of_a_shared_tail() {
    let tail: Vec<Bytes> = (0..3).map(|_| Bytes::new()).collect();
    // An empty payload is no record: its task is missing, and the error says which of them it was.
    let error = decode_to_node(&records_frame(Seq::FIRST, tail.iter().skip(1))).unwrap_err();
    assert_eq!(error.field, "records.records[0].task");
}
