//! Reading one field: either a value that is valid, or an error that names the field.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use batoff_types::{HostPattern, NodeName, Parent, Replica, ReplicaSet, Seq};

use crate::{Problem, WireError, pb};

/// Reads the bytes as the generated message `M`, called `name` in errors.
pub fn message<M: prost::Message + Default>(name: &str, bytes: &[u8]) -> Result<M, WireError> {
    M::decode(bytes).map_err(|error| WireError::new(name, Problem::NotProtobuf(error.to_string())))
}

pub fn required<T>(field: &str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or_else(|| WireError::new(field, Problem::Missing))
}

/// Reads text that has a grammar of its own.
pub fn parsed<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|error: T::Err| WireError::new(field, Problem::Grammar(error.to_string())))
}

/// Reads the 16 bytes of an identity.
pub fn ulid<T>(field: &str, bytes: &[u8], from: impl FnOnce([u8; 16]) -> T) -> Result<T, WireError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(from(bytes)),
        Err(_) => Err(WireError::new(field, Problem::UlidLength(bytes.len()))),
    }
}

pub fn seq(field: &str, number: u64) -> Result<Seq, WireError> {
    Seq::new(number).ok_or_else(|| WireError::new(field, Problem::Seq))
}

pub fn patterns(field: &str, texts: &[String]) -> Result<Vec<HostPattern>, WireError> {
    texts.iter().enumerate().map(|(i, text)| parsed(&format!("{field}[{i}]"), text)).collect()
}

pub fn node(field: &str, node: &pb::Node) -> Result<NodeName, WireError> {
    NodeName::new(&node.pop, &node.node)
        .map_err(|error| WireError::new(field, Problem::Grammar(error.to_string())))
}

pub fn encode_node(node: &NodeName) -> pb::Node {
    pb::Node { pop: node.pop().to_owned(), node: node.node().to_owned() }
}

/// A node, or without its name the whole PoP.
pub fn parent(field: &str, parent: &pb::Node) -> Result<Parent, WireError> {
    if parent.node.is_empty() {
        let invalid = |error: batoff_types::InvalidName| Problem::Grammar(error.to_string());
        return Parent::pop(&parent.pop).map_err(|error| WireError::new(field, invalid(error)));
    }
    node(field, parent).map(Parent::Node)
}

pub fn encode_parent(parent: &Parent) -> pb::Node {
    match parent {
        Parent::Node(node) => encode_node(node),
        Parent::Pop(pop) => pb::Node { pop: (**pop).to_owned(), node: String::new() },
    }
}

/// Reads the number of a control plane.
pub fn replica(field: &str, number: u32) -> Result<Replica, WireError> {
    match u8::try_from(number) {
        Ok(number @ 1..) => Ok(Replica(number)),
        _ => Err(WireError::new(field, Problem::Replica)),
    }
}

/// Reads the numbers of those that count.
pub fn replica_set(field: &str, numbers: &[u32]) -> Result<ReplicaSet, WireError> {
    let one = |(i, number): (usize, &u32)| replica(&format!("{field}[{i}]"), *number);
    let members: Vec<_> = numbers.iter().enumerate().map(one).collect::<Result<_, _>>()?;
    ReplicaSet::new(members).map_err(|error| WireError::new(field, Problem::Grammar(error.to_string())))
}

pub fn encode_replica_set(set: &ReplicaSet) -> Vec<u32> {
    set.members().iter().map(|replica| u32::from(replica.0)).collect()
}

/// Rounded down, so that a lease is never longer on the wire than it was granted; at most `u64::MAX`.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
