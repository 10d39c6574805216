//! etcd's messages, and short ways to write the ones that are sent.

#[allow(missing_docs, clippy::all, reason = "generated from proto/etcd.proto")]
mod generated {
    tonic::include_proto!("etcdserverpb");
}

use bytes::Bytes;

pub(crate) use self::generated::*;

/// A response that says which cluster and which revision it is of.
pub(crate) trait Headed {
    fn header(&self) -> Option<&ResponseHeader>;

    /// The revision of the answer; 0 when it says none.
    fn revision(&self) -> i64 {
        self.header().map_or(0, |header| header.revision)
    }
}

macro_rules! headed {
    ($($response:ty)*) => {
        $(impl Headed for $response {
            fn header(&self) -> Option<&ResponseHeader> {
                self.header.as_ref()
            }
        })*
    };
}

headed! {
    RangeResponse PutResponse DeleteRangeResponse TxnResponse CompactionResponse WatchResponse LeaseGrantResponse
    LeaseRevokeResponse LeaseKeepAliveResponse MemberListResponse AlarmResponse StatusResponse AuthenticateResponse
}

/// A range of keys: those from `begin` on that are less than `end`. An empty `end`: only `begin` itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) begin: Bytes,
    pub(crate) end: Bytes,
}

impl KeyRange {
    pub(crate) fn one(key: Bytes) -> Self {
        Self { begin: key, end: Bytes::new() }
    }

    /// All keys that begin with `prefix`, which is not empty and ends with no 0xFF.
    pub(crate) fn below(prefix: Bytes) -> Self {
        let end = successor(&prefix);
        Self { begin: prefix, end }
    }

    /// Those of this range after `key`.
    pub(crate) fn after(&self, key: &[u8]) -> Self {
        Self { begin: [key, &[0]].concat().into(), end: self.end.clone() }
    }

    pub(crate) fn read(&self, limit: i64) -> RangeRequest {
        RangeRequest {
            key: self.begin.clone(),
            range_end: self.end.clone(),
            limit,
            ..RangeRequest::default()
        }
    }

    pub(crate) fn delete(&self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.begin.clone(), range_end: self.end.clone() }
    }
}

/// The first key that no longer begins with `prefix`; `\0`, which etcd takes for "to the end", when there is none.
pub(crate) fn successor(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xFF);
    match kept {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(&[0]),
    }
}

pub(crate) fn put(key: Bytes, value: impl Into<Bytes>) -> RequestOp {
    leased_put(key, value, 0)
}

pub(crate) fn leased_put(key: Bytes, value: impl Into<Bytes>, lease: i64) -> RequestOp {
    op(request_op::Request::RequestPut(PutRequest { key, value: value.into(), lease }))
}

pub(crate) fn read(request: RangeRequest) -> RequestOp {
    op(request_op::Request::RequestRange(request))
}

pub(crate) fn delete(range: &KeyRange) -> RequestOp {
    op(request_op::Request::RequestDeleteRange(range.delete()))
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The key's last write is of this revision; 0: there is no such key.
pub(crate) fn if_modified_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key,
        target_union: Some(compare::TargetUnion::ModRevision(revision)),
    }
}

/// The key is there.
pub(crate) fn if_there(key: Bytes) -> Compare {
    Compare {
        result: compare::CompareResult::Greater.into(),
        target: compare::CompareTarget::Create.into(),
        key,
        target_union: Some(compare::TargetUnion::CreateRevision(0)),
    }
}

impl TxnResponse {
    /// What the `at`th operation read; nothing when it was no read.
    pub(crate) fn kvs(&self, at: usize) -> &[KeyValue] {
        match self.responses.get(at).and_then(|response| response.response.as_ref()) {
            Some(response_op::Response::ResponseRange(range)) => &range.kvs,
            _ => &[],
        }
    }
}
