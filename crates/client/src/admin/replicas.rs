//! The control planes beside one log, as the operator's API tells of them.

use serde::{Deserialize, Serialize};

/// The replicas of the control plane, as the one that answers knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicasReport {
    /// The one that answers.
    pub own: u8,
    /// The last record of the log.
    pub tail: u64,
    /// Every record through this one is completed.
    pub done: u64,
    /// Those that count.
    pub members: Vec<u8>,
    /// The last record before they do.
    pub members_from: u64,
    /// Whether that change is completed.
    pub settled: bool,
    /// Each of them, and each other one that was heard of.
    pub replicas: Vec<ReplicaReport>,
}

/// One replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaReport {
    /// Its number.
    pub id: u8,
    /// `member`, `leaving` or `learner`.
    pub role: String,
    /// How nodes reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether it was heard of lately, and may grant leases.
    pub live: bool,
    /// Everything through this record is completed as far as its leases go.
    pub stated: u64,
    /// Records that it has not stated.
    pub lag_records: u64,
    /// Whether it knows that its seat is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seated: Option<bool>,
    /// Milliseconds since it was heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_ms_ago: Option<u64>,
    /// How many times it has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Its build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Strict nodes that it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_nodes: Option<u32>,
    /// Those of them that hold a lease of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_leased: Option<u32>,
    /// Settings that all replicas must have alike, and that it has not as the one that answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
}

/// The record that says which replicas count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaSetWritten {
    /// Its number: they count after it.
    pub seq: u64,
    /// Their numbers.
    pub members: Vec<u8>,
}
