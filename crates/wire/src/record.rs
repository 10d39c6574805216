//! Records of the log, as bytes and back; where what is not understood becomes wider.

use std::net::IpAddr;

use batoff_types::{
    Body, HostPattern, Purge, Record, SEMANTICS_VERSION, Selector, Seq, SiteChange, SiteLimits, TaskId,
    TraceParent, UnixMillis,
};
use bytes::Bytes;
use prost::Message;

use crate::{WireError, field, pb, selector};

/// The record as it is stored and sent: everything except its number, which its place gives.
pub fn encode_record(record: &Record) -> Bytes {
    encode(record).encode_to_vec().into()
}

/// Who asked for a purge. It stands in the record itself, so that who asked is as durable as what was asked for; only the
/// control plane's audit log reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// Who.
    pub identity: RequesterIdentity,
    /// The client's address.
    pub address: IpAddr,
}

/// Who asks for purges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequesterIdentity {
    /// Whoever holds the token with this public id, the 16 bytes of a ULID.
    Token([u8; 16]),
    /// Who is signed in to the console with the account of this name.
    Account(String),
}

/// The same as [`encode_record`], with who asked for it: 26 bytes more with an IPv4 address, 38 with an IPv6 address, if a
/// token did.
pub fn encode_requested(record: &Record, requester: &Requester) -> Bytes {
    let address = match requester.address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (token, account) = match &requester.identity {
        RequesterIdentity::Token(token) => (token.to_vec(), String::new()),
        RequesterIdentity::Account(name) => (Vec::new(), name.clone()),
    };
    let requester = pb::Requester { token, address, account };
    pb::Record { requester: Some(requester), ..encode(record) }.encode_to_vec().into()
}

/// The same as [`decode_record`], with who asked for it. A requester that cannot be read is none: what a record purges
/// does not depend on it.
pub fn decode_requested(seq: Seq, bytes: &[u8]) -> Result<(Record, Option<Requester>), WireError> {
    let record: pb::Record = field::message("record", bytes)?;
    let requester = record.requester.as_ref().and_then(|requester| {
        let identity = match requester.account.as_str() {
            "" => RequesterIdentity::Token(requester.token.as_slice().try_into().ok()?),
            name => RequesterIdentity::Account(name.to_owned()),
        };
        let address = match requester.address.as_slice() {
            bytes if bytes.len() == 4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            bytes => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        };
        Some(Requester { identity, address })
    });
    Ok((decode(seq, &record)?, requester))
}

/// Reads the record with number `seq`.
///
/// What this build does not understand becomes wider, never narrower:
///
/// | in the record | decoded as |
/// | --- | --- |
/// | a selector of an unknown kind, or with a value outside its grammar | [`Selector::Everything`] |
/// | a purge without selectors | [`Selector::Everything`] |
/// | an unknown kind of record | [`Body::Unknown`] |
/// | a purge whose `semantics` is above [`SEMANTICS_VERSION`] | a hard purge of [`Selector::Everything`] for its site |
/// | a change of a site above it | the change, with all names of the site among `affected` |
/// | a set of control planes above it | the set: no version of it concerns objects |
/// | any other record above it, and a purge or change above it that cannot be read | [`Body::Unknown`] |
///
/// Anything else that is malformed is an error that names the field.
pub fn decode_record(seq: Seq, bytes: &[u8]) -> Result<Record, WireError> {
    decode(seq, &field::message("record", bytes)?)
}

pub fn encode(record: &Record) -> pb::Record {
    pb::Record {
        accepted_at_millis: record.accepted_at.0,
        task: record.task.to_bytes().to_vec(),
        request_id: record.request_id.as_ref().to_owned(),
        semantics: record.semantics,
        body: encode_body(&record.body),
        requester: None,
        trace: record.trace.map(|trace| trace.to_bytes().to_vec()).unwrap_or_default(),
    }
}

pub fn decode(seq: Seq, record: &pb::Record) -> Result<Record, WireError> {
    let body = if record.semantics > SEMANTICS_VERSION {
        match &record.body {
            // Whoever goes on without knowing which they are may serve by the leases of a minority.
            Some(set @ pb::record::Body::ReplicaSet(_)) => decode_body(set)?,
            body => body.as_ref().and_then(|body| widened(body).ok()).unwrap_or(Body::Unknown),
        }
    } else {
        record.body.as_ref().map_or(Ok(Body::Unknown), decode_body)?
    };
    Ok(Record {
        seq,
        accepted_at: UnixMillis(record.accepted_at_millis),
        task: field::ulid("task", &record.task, TaskId::from_bytes)?,
        request_id: record.request_id.as_str().into(),
        semantics: record.semantics,
        // What it purges does not depend on it.
        trace: TraceParent::from_bytes(&record.trace),
        body,
    })
}

fn encode_body(body: &Body) -> Option<pb::record::Body> {
    Some(match body {
        Body::Purge(purge) => pb::record::Body::Purge(pb::Purge {
            site: purge.site.as_str().to_owned(),
            selectors: purge.selectors.iter().map(selector::encode).collect(),
            soft: purge.soft,
        }),
        Body::Site(change) => pb::record::Body::SiteChange(encode_site_change(change)),
        Body::NodeRegistered(node) => pb::record::Body::NodeRegistered(field::encode_node(node)),
        Body::NodeRemoved(node) => pb::record::Body::NodeRemoved(field::encode_node(node)),
        Body::ReplicaSet(set) => {
            pb::record::Body::ReplicaSet(pb::ReplicaSet { members: field::encode_replica_set(set) })
        }
        Body::Unknown => return None,
    })
}

fn decode_body(body: &pb::record::Body) -> Result<Body, WireError> {
    Ok(match body {
        pb::record::Body::Purge(purge) => {
            Body::Purge(decode_purge(purge).map_err(|error| error.within("purge"))?)
        }
        pb::record::Body::SiteChange(change) => {
            Body::Site(decode_site_change(change).map_err(|error| error.within("site_change"))?)
        }
        pb::record::Body::NodeRegistered(node) => Body::NodeRegistered(field::node("node_registered", node)?),
        pb::record::Body::NodeRemoved(node) => Body::NodeRemoved(field::node("node_removed", node)?),
        pb::record::Body::ReplicaSet(set) => {
            Body::ReplicaSet(field::replica_set("replica_set.members", &set.members)?)
        }
    })
}

/// A body of a semantics version that this build does not have: what it may mean at most.
fn widened(body: &pb::record::Body) -> Result<Body, WireError> {
    Ok(match decode_body(body)? {
        Body::Purge(Purge { site, .. }) => {
            Body::Purge(Purge { site, selectors: vec![Selector::Everything], soft: false })
        }
        // The table of sites must move on all the same: a node that lost track of it would miss purges by tag.
        Body::Site(mut change) => {
            for name in change.hostnames.iter().flatten() {
                if !change.affected.contains(name) {
                    change.affected.push(name.clone());
                }
            }
            Body::Site(change)
        }
        Body::NodeRegistered(_) | Body::NodeRemoved(_) | Body::ReplicaSet(_) | Body::Unknown => Body::Unknown,
    })
}

fn decode_purge(purge: &pb::Purge) -> Result<Purge, WireError> {
    let mut selectors: Vec<Selector> = purge.selectors.iter().map(selector::decode_or_everything).collect();
    if selectors.is_empty() {
        selectors.push(Selector::Everything);
    }
    Ok(Purge { site: field::parsed("site", &purge.site)?, selectors, soft: purge.soft })
}

fn encode_site_change(change: &SiteChange) -> pb::SiteChange {
    let limits = &change.limits;
    pb::SiteChange {
        site: change.site.as_str().to_owned(),
        hostnames: change
            .hostnames
            .as_deref()
            .map(|names| pb::Hostnames { patterns: names.iter().map(HostPattern::to_string).collect() }),
        affected: change.affected.iter().map(HostPattern::to_string).collect(),
        limits: (*limits != SiteLimits::default()).then_some(pb::SiteLimits {
            items_per_minute: limits.items_per_minute,
            prefixes_per_minute: limits.prefixes_per_minute,
            tags_per_response: limits.tags_per_response,
        }),
    }
}

fn decode_site_change(change: &pb::SiteChange) -> Result<SiteChange, WireError> {
    let limits = change.limits.unwrap_or_default();
    Ok(SiteChange {
        site: field::parsed("site", &change.site)?,
        hostnames: change
            .hostnames
            .as_ref()
            .map(|names| field::patterns("hostnames", &names.patterns))
            .transpose()?,
        affected: field::patterns("affected", &change.affected)?,
        limits: SiteLimits {
            items_per_minute: limits.items_per_minute,
            prefixes_per_minute: limits.prefixes_per_minute,
            tags_per_response: limits.tags_per_response,
        },
    })
}
