//! Numbers, places, identities and moments.

use std::time::Duration;

use batoff_types::{Cursor, LogId, Moment, Seq, TaskId, UnixMillis};
use proptest::prelude::*;

#[test]
fn a_cursor_stands_between_two_records() {
    let (second, third) = (Seq::new(2).unwrap(), Seq::new(3).unwrap());
    assert_eq!(Cursor::after(second), Cursor::before(third));
    assert_eq!(Cursor::before(Seq::FIRST), Cursor::START);

    let cursor = Cursor::after(second);
    assert_eq!((cursor.last(), cursor.next()), (Some(second), third));
    assert!(cursor.covers(second) && !cursor.covers(third));
    assert_eq!((Cursor::START.last(), Cursor::START.next()), (None, Seq::FIRST));
}

#[test]
fn no_record_has_number_zero_and_the_last_number_has_no_next() {
    assert_eq!(Seq::new(0), None);
    let last = Seq::new(u64::MAX).unwrap();
    assert_eq!(last.next(), last);
    assert_eq!(Cursor::new(u64::MAX).next(), last);
}

#[test]
fn places_and_numbers_are_told_apart_in_logs() {
    assert_eq!(format!("{:?} {:?}", Seq::FIRST, Cursor::new(3)), "#1 |3");
    assert_eq!(format!("{} {}", Seq::FIRST, Cursor::new(3)), "1 3");
}

#[test]
fn an_identity_has_one_spelling() {
    let text = "01JF7M2KZ7YH9Q4K0P2BDH9W3Y";
    assert_eq!(text.parse::<TaskId>().unwrap().to_string(), text);

    let refused = |text: &str| assert!(text.parse::<TaskId>().is_err(), "{text:?}");
    refused("");
    refused(&text.to_lowercase());
    refused(&text[1..]);
    refused("01JF7M2KZ7YH9Q4K0P2BDH9W3YY");
    refused("01JF7M2KZ7YH9Q4K0P2BDH9W3I");
    refused("01JF7M2KZ7YH9Q4K0P2BDH9W3U");
    refused("01JF7M2KZ7YH9Q4K0P2BDH9W3-");
    // 130 bits: the two highest would be dropped, and this would be another spelling of the first.
    refused("81JF7M2KZ7YH9Q4K0P2BDH9W3Y");
    refused("Z1JF7M2KZ7YH9Q4K0P2BDH9W3Y");
    refused("ЯЯЯЯЯЯЯЯЯЯЯЯЯ");
    assert_eq!("7ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse(), Ok(LogId::from_bytes([0xff; 16])));
}

#[test]
fn a_moment_saturates_rather_than_wraps() {
    let late = Moment::from_micros(u64::MAX);
    assert_eq!(late + Duration::from_secs(1), late);
    assert_eq!(Moment::ZERO.since(late), Duration::ZERO);
    assert_eq!((Moment::ZERO + Duration::from_millis(3)).since(Moment::ZERO), Duration::from_millis(3));
    assert_eq!(format!("{:?}", Moment::from_micros(1_000_250)), "1.000250s");
    assert_eq!(UnixMillis(1_999).as_secs(), 1);
}

proptest! {
    #[test]
    fn an_identity_is_read_as_it_is_written(bytes in any::<[u8; 16]>()) {
        let id = TaskId::from_bytes(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(id.to_bytes(), bytes);
        prop_assert_eq!(TaskId::from_ulid(id.ulid()), id);
    }

    #[test]
    fn what_is_read_is_written_the_same(text in "[0-9A-Z]{26}") {
        let Ok(id) = text.parse::<TaskId>() else { return Ok(()) };
        prop_assert_eq!(id.to_string(), text);
    }

    #[test]
    fn order_of_identities_is_order_of_their_text(one in any::<[u8; 16]>(), other in any::<[u8; 16]>()) {
        let (one, other) = (TaskId::from_bytes(one), TaskId::from_bytes(other));
        prop_assert_eq!(one.cmp(&other), one.to_string().cmp(&other.to_string()));
    }
}
