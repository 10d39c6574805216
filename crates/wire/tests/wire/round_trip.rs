//! What is encoded is decoded as it was; whatever else the bytes are, nothing panics.

use std::time::Duration;

use batoff_types::message::{LeaseGrant, ToNode};
use batoff_types::{Moment, Seq, Term};
use batoff_wire::{
    decode_from_node, decode_record, decode_to_node, encode_from_node, encode_record, encode_to_node,
};
use proptest::prelude::*;

use super::strategies;

proptest! {
    #[test]
    fn a_record_survives(record in strategies::record(Seq::FIRST)) {
        prop_assert_eq!(decode_record(Seq::FIRST, &encode_record(&record)), Ok(record));
    }

    #[test]
    fn a_message_from_a_node_survives(message in strategies::from_node()) {
        prop_assert_eq!(decode_from_node(&encode_from_node(&message)), Ok(message));
    }

    #[test]
    fn a_message_to_a_node_survives(message in strategies::to_node()) {
        prop_assert_eq!(decode_to_node(&encode_to_node(&message)), Ok(message));
    }

    #[test]
    fn noise_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_record(Seq::FIRST, &bytes);
        let _ = decode_from_node(&bytes);
        let _ = decode_to_node(&bytes);
    }

    #[test]
    fn a_damaged_message_is_read_or_refused(
        message in strategies::to_node(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode_to_node(&message).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode_to_node(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode_to_node(&bytes);
    }
}

#[test]
fn a_lease_is_never_longer_on_the_wire_than_it_was_granted() {
    let grant = |duration| {
        let grant =
            LeaseGrant { echo: Moment::ZERO, duration, term: Term(1), parents_through: None, tail: None };
        match decode_to_node(&encode_to_node(&ToNode::LeaseGrant(grant))) {
            Ok(ToNode::LeaseGrant(grant)) => grant.duration,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(grant(Duration::from_nanos(1_999)), Duration::from_micros(1));
    assert_eq!(grant(Duration::MAX), Duration::from_micros(u64::MAX));
}
