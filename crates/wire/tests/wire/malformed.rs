//! A malformed field is an error that names it.

use batoff_types::{Body, Record, Seq};
use batoff_wire::{WireError, decode_from_node, decode_record, decode_to_node, encode_record};
use proptest::prelude::*;

use super::raw::{Raw, raw};
use super::strategies;

const ULID: [u8; 16] = [7; 16];

#[track_caller]
fn names<T: std::fmt::Debug>(result: Result<T, WireError>, field: &str) {
    let error = result.expect_err(field);
    assert_eq!(error.field, field, "{error}");
    assert!(error.to_string().starts_with(&format!("{field}: ")));
    let status = tonic::Status::from(error.clone());
    assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, error.to_string().as_str()));
}

#[test]
fn a_malformed_record_names_its_field() {
    let check = |record: Raw, field| names(decode_record(Seq::FIRST, record.as_ref()), field);
    let record = || raw().bytes(2, ULID).varint(4, 1);
    let node = |pop, node| raw().bytes(1, pop).bytes(2, node);

    check(raw(), "task");
    check(raw().bytes(2, [7; 15]), "task");
    check(raw().bytes(2, [7; 17]), "task");
    check(record().bytes(5, raw()), "purge.site");
    check(record().bytes(5, raw().bytes(1, "Shop")), "purge.site");
    check(record().bytes(5, raw().bytes(1, "s".repeat(65))), "purge.site");
    check(record().bytes(6, raw()), "site_change.site");
    let hostnames = raw().bytes(1, "a.example").bytes(1, "a.*.example");
    check(record().bytes(6, raw().bytes(1, "shop").bytes(2, hostnames)), "site_change.hostnames[1]");
    check(record().bytes(6, raw().bytes(1, "shop").bytes(3, "a b")), "site_change.affected[0]");
    check(record().bytes(7, node("fra1", "")), "node_registered");
    check(record().bytes(8, node("fra1/x", "edge")), "node_removed");
    check(record().bytes(9, raw()), "replica_set.members");
    check(record().bytes(9, raw().bytes(1, [1, 0])), "replica_set.members[1]");
    check(record().bytes(9, raw().varint(1, 256)), "replica_set.members[0]");
    check(record().bytes(9, raw().bytes(1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])), "replica_set.members");
}

#[test]
fn a_malformed_message_of_a_node_names_its_field() {
    let check = |message: Raw, field| names(decode_from_node(message.as_ref()), field);
    let node = || raw().bytes(1, "fra1").bytes(2, "edge-03");
    let hello = || raw().bytes(1, node()).bytes(2, ULID);

    check(raw(), "body");
    check(raw().bytes(15, raw()), "body");
    check(raw().bytes(1, raw().bytes(2, ULID)), "hello.node");
    check(raw().bytes(1, raw().bytes(1, raw().bytes(1, "fra1")).bytes(2, ULID)), "hello.node");
    check(raw().bytes(1, raw().bytes(1, node()).bytes(2, [])), "hello.instance");
    check(raw().bytes(1, hello().bytes(3, raw().varint(2, 5))), "hello.position.log_id");
    check(raw().bytes(1, hello().bytes(3, raw().bytes(1, ULID).bytes(3, "short"))), "hello.position.task");
    let report = |seq| raw().varint(1, seq).varint(2, 5);
    check(raw().bytes(3, raw().bytes(2, report(1)).bytes(2, report(0))), "ack.reports[1].seq");
    check(raw().bytes(3, raw().bytes(3, raw().bytes(1, "Shop"))), "ack.overflowed[0].site");
    check(raw().bytes(5, raw().varint(3, 0)), "trouble.stuck");
}

#[test]
fn a_malformed_message_to_a_node_names_its_field() {
    let check = |message: Raw, field| names(decode_to_node(message.as_ref()), field);
    let record = || raw().bytes(2, ULID).varint(4, 1);

    check(raw(), "body");
    check(raw().bytes(15, raw()), "body");
    check(raw().bytes(1, raw()), "welcome.log_id");
    let site = |name| raw().bytes(1, name).bytes(2, "a.example").bytes(2, "a.example:80");
    check(raw().bytes(1, raw().bytes(1, ULID).bytes(8, site(""))), "welcome.sites[0].site");
    check(raw().bytes(1, raw().bytes(1, ULID).bytes(8, site("a"))), "welcome.sites[0].hostnames[1]");
    check(raw().bytes(2, raw().bytes(2, record())), "records.first_seq");
    let overflowing = raw().varint(1, u64::MAX).bytes(2, record()).bytes(2, record());
    check(raw().bytes(2, overflowing), "records.first_seq");
    check(raw().bytes(2, raw().varint(1, 1).bytes(2, record()).bytes(2, raw())), "records.records[1].task");
    let bad_site = record().bytes(5, raw().bytes(1, "?"));
    check(raw().bytes(2, raw().varint(1, 1).bytes(2, bad_site)), "records.records[0].purge.site");
    check(raw().bytes(1, raw().bytes(1, ULID).varint(9, 0)), "welcome.replica");
    check(raw().bytes(1, raw().bytes(1, ULID).varint(9, 1)), "welcome.set");
    check(raw().bytes(8, raw().bytes(1, raw().bytes(2, "x"))), "replicas.replicas[0].replica");
    check(raw().bytes(4, raw().bytes(1, [0; 3])), "reset.log_id");
    check(raw().bytes(5, raw()), "count.site");
    let count = |selector| raw().bytes(5, raw().bytes(2, "shop").bytes(3, selector));
    check(count(raw().bytes(1, "ftp://a.example/")), "count.selectors[0].url");
    check(count(raw().bytes(2, "https://a.example/%")), "count.selectors[0].prefix");
    check(count(raw().bytes(3, "a,b")), "count.selectors[0].tag");
    check(count(raw().bytes(4, "a.example/x")), "count.selectors[0].host");
}

#[test]
fn what_is_not_protobuf_names_the_message_and_the_place() {
    let record = raw().bytes(2, ULID).bytes(3, [0xff]);
    let error = decode_record(Seq::FIRST, record.as_ref()).unwrap_err();
    assert_eq!(error.field, "record");
    assert!(error.to_string().contains("Record.request_id"), "{error}");

    let wrong_type = raw().varint(2, 1);
    names(decode_to_node(wrong_type.as_ref()), "to_node");
    names(decode_from_node(wrong_type.as_ref()), "from_node");
    names(decode_from_node(&[0x0a, 0x05, 0x0a]), "from_node");
}

proptest! {
    #[test]
    fn a_truncated_record_is_never_a_smaller_purge(record in strategies::record(Seq::FIRST)) {
        let bytes = encode_record(&record);
        // Cut between two fields it is still protobuf. Then the body is gone, which is a flush, or all that is gone
        // is the trace behind it.
        for cut in 0..bytes.len() {
            if let Ok(read) = decode_record(Seq::FIRST, &bytes[..cut])
                && read.body != Body::Unknown
            {
                prop_assert_eq!(read, Record { trace: None, ..record.clone() });
            }
        }
    }
}
