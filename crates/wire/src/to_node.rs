//! What nodes are told, as bytes and back; records that are encoded already go in as they are.

use std::time::Duration;

use batoff_types::message::{
    Count, GoAway, GoAwayReason, LeaseGrant, Parents, ReplicaAt, Reset, ResetReason, ToNode, Welcome,
    Whereabouts,
};
use batoff_types::{
    Cursor, HostPattern, LogId, Moment, Record, Replica, ReplicaSet, Seq, SiteId, SiteTable, Term,
};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::pb::to_node::Body;
use crate::{Problem, WireError, field, pb, record, selector};

/// A complete message with records that are already encoded, `first` being the number of the first of them: the same
/// bytes as [`encode_to_node`] of [`ToNode::Records`], without decoding anything.
pub fn records_frame<'a>(first: Seq, encoded: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    const IN_TO_NODE: u32 = 2;
    const FIRST_SEQ: u32 = 1;
    const RECORD: u32 = 2;

    let encoded: Vec<&Bytes> = encoded.into_iter().collect();
    let first_seq_len =
        if encoded.is_empty() { 0 } else { key_len(FIRST_SEQ) + encoded_len_varint(first.get()) };
    let records_len = first_seq_len
        + encoded
            .iter()
            .map(|record| key_len(RECORD) + encoded_len_varint(record.len() as u64) + record.len())
            .sum::<usize>();

    let header_len = key_len(IN_TO_NODE) + encoded_len_varint(records_len as u64);
    let mut frame = BytesMut::with_capacity(header_len + records_len);
    encode_key(IN_TO_NODE, WireType::LengthDelimited, &mut frame);
    encode_varint(records_len as u64, &mut frame);
    if !encoded.is_empty() {
        encode_key(FIRST_SEQ, WireType::Varint, &mut frame);
        encode_varint(first.get(), &mut frame);
    }
    for record in encoded {
        encode_key(RECORD, WireType::LengthDelimited, &mut frame);
        encode_varint(record.len() as u64, &mut frame);
        frame.put_slice(record);
    }
    frame.freeze()
}

/// A message to a node, complete. The records of a [`ToNode::Records`] must be consecutive: only the first one's number
/// is sent.
pub fn encode_to_node(message: &ToNode) -> Bytes {
    let body = match message {
        ToNode::Welcome(welcome) => Body::Welcome(encode_welcome(welcome)),
        ToNode::Records(records) => {
            debug_assert!(
                records.windows(2).all(|pair| pair[0].seq.next() == pair[1].seq),
                "I3: records without a gap"
            );
            Body::Records(pb::Records {
                first_seq: records.first().map_or(0, |first| first.seq.get()),
                records: records.iter().map(record::encode).collect(),
            })
        }
        ToNode::LeaseGrant(grant) => Body::LeaseGrant(pb::LeaseGrant {
            echo_micros: grant.echo.as_micros(),
            duration_micros: field::micros(grant.duration),
            term: grant.term.0,
            parents_through: grant.parents_through.map(Cursor::get),
            tail: grant.tail.map(Cursor::get),
        }),
        ToNode::Reset(reset) => Body::Reset(pb::Reset {
            log_id: reset.log_id.to_bytes().to_vec(),
            cursor: reset.cursor.get(),
            reason: encode_reset_reason(reset.reason).into(),
        }),
        ToNode::Count(count) => Body::Count(pb::Count {
            id: count.id,
            site: count.site.as_str().to_owned(),
            selectors: count.selectors.iter().map(selector::encode).collect(),
            answer_within_micros: count.answer_within.map(field::micros),
        }),
        ToNode::GoAway(go_away) => Body::GoAway(pb::GoAway {
            reason: encode_go_away_reason(go_away.reason).into(),
            reconnect_after_micros: field::micros(go_away.reconnect_after),
            endpoints: go_away.endpoints.iter().map(|endpoint| endpoint.as_ref().to_owned()).collect(),
        }),
        ToNode::Parents(Parents { through, why }) => {
            Body::Parents(pb::Parents { through: through.get(), why: why.clone() })
        }
        ToNode::Replicas(Whereabouts { replicas }) => Body::Replicas(pb::Replicas {
            replicas: replicas
                .iter()
                .map(|ReplicaAt { replica, endpoint }| pb::ReplicaAt {
                    replica: replica.0.into(),
                    endpoint: endpoint.as_ref().to_owned(),
                })
                .collect(),
        }),
    };
    pb::ToNode { body: Some(body) }.encode_to_vec().into()
}

/// Reads a message to a node. Records are widened as [`decode_record`](crate::decode_record) says; a message of an
/// unknown kind is an error (a control plane does not send one to a node that has not said it understands it).
pub fn decode_to_node(bytes: &[u8]) -> Result<ToNode, WireError> {
    let message: pb::ToNode = field::message("to_node", bytes)?;
    Ok(match field::required("body", message.body)? {
        Body::Welcome(welcome) => {
            ToNode::Welcome(decode_welcome(&welcome).map_err(|error| error.within("welcome"))?)
        }
        Body::Records(records) => {
            ToNode::Records(decode_records(&records).map_err(|error| error.within("records"))?)
        }
        Body::LeaseGrant(grant) => ToNode::LeaseGrant(LeaseGrant {
            echo: Moment::from_micros(grant.echo_micros),
            duration: Duration::from_micros(grant.duration_micros),
            term: Term(grant.term),
            parents_through: grant.parents_through.map(Cursor::new),
            tail: grant.tail.map(Cursor::new),
        }),
        Body::Reset(reset) => ToNode::Reset(Reset {
            log_id: field::ulid("reset.log_id", &reset.log_id, LogId::from_bytes)?,
            cursor: Cursor::new(reset.cursor),
            reason: decode_reset_reason(reset.reason()),
        }),
        Body::Count(count) => ToNode::Count(decode_count(&count).map_err(|error| error.within("count"))?),
        Body::GoAway(go_away) => ToNode::GoAway(GoAway {
            reason: decode_go_away_reason(go_away.reason()),
            reconnect_after: Duration::from_micros(go_away.reconnect_after_micros),
            endpoints: go_away.endpoints.into_iter().map(Into::into).collect(),
        }),
        Body::Parents(pb::Parents { through, why }) => {
            ToNode::Parents(Parents { through: Cursor::new(through), why })
        }
        Body::Replicas(replicas) => {
            ToNode::Replicas(decode_replicas(&replicas).map_err(|error| error.within("replicas"))?)
        }
    })
}

fn encode_welcome(welcome: &Welcome) -> pb::Welcome {
    // One that is alone says nothing of it, as none did before there were others.
    let alone = welcome.replica == Replica::ONLY && welcome.set.is_only();
    pb::Welcome {
        log_id: welcome.log_id.to_bytes().to_vec(),
        term: welcome.term.0,
        tail: welcome.tail.get(),
        lease_micros: field::micros(welcome.lease),
        heartbeat_interval_micros: field::micros(welcome.heartbeat_interval),
        reconnect_min_micros: field::micros(welcome.reconnect_min),
        reconnect_max_micros: field::micros(welcome.reconnect_max),
        sites: welcome
            .sites
            .iter()
            .map(|(site, hostnames)| pb::Site {
                site: site.as_str().to_owned(),
                hostnames: hostnames.iter().map(HostPattern::to_string).collect(),
                tags_per_response: welcome.sites.tags_per_response(site.as_str()),
            })
            .collect(),
        replica: (!alone).then_some(welcome.replica.0.into()),
        set: if alone { Vec::new() } else { field::encode_replica_set(&welcome.set) },
    }
}

fn decode_welcome(welcome: &pb::Welcome) -> Result<Welcome, WireError> {
    let mut sites = SiteTable::default();
    for (i, site) in welcome.sites.iter().enumerate() {
        let (id, hostnames) = decode_site(site).map_err(|error| error.within(format_args!("sites[{i}]")))?;
        sites.set(&id, Some(&hostnames));
        sites.set_tags_per_response(id.as_str(), site.tags_per_response);
    }
    Ok(Welcome {
        log_id: field::ulid("log_id", &welcome.log_id, LogId::from_bytes)?,
        term: Term(welcome.term),
        tail: Cursor::new(welcome.tail),
        lease: Duration::from_micros(welcome.lease_micros),
        heartbeat_interval: Duration::from_micros(welcome.heartbeat_interval_micros),
        reconnect_min: Duration::from_micros(welcome.reconnect_min_micros),
        reconnect_max: Duration::from_micros(welcome.reconnect_max_micros),
        sites,
        replica: welcome.replica.map_or(Ok(Replica::ONLY), |number| field::replica("replica", number))?,
        set: match welcome.replica {
            Some(_) => field::replica_set("set", &welcome.set)?,
            None => ReplicaSet::only(),
        },
    })
}

fn decode_site(site: &pb::Site) -> Result<(SiteId, Vec<HostPattern>), WireError> {
    Ok((field::parsed("site", &site.site)?, field::patterns("hostnames", &site.hostnames)?))
}

fn decode_records(records: &pb::Records) -> Result<Vec<Record>, WireError> {
    let numbered = |(i, record): (usize, &pb::Record)| {
        let number = records.first_seq.checked_add(i as u64).filter(|_| records.first_seq > 0);
        let seq = number.and_then(Seq::new).ok_or_else(|| WireError::new("first_seq", Problem::Seq))?;
        record::decode(seq, record).map_err(|error| error.within(format_args!("records[{i}]")))
    };
    records.records.iter().enumerate().map(numbered).collect()
}

fn decode_replicas(replicas: &pb::Replicas) -> Result<Whereabouts, WireError> {
    let at = |(i, at): (usize, &pb::ReplicaAt)| {
        let replica = field::replica("replica", at.replica)
            .map_err(|error| error.within(format_args!("replicas[{i}]")))?;
        Ok(ReplicaAt { replica, endpoint: at.endpoint.as_str().into() })
    };
    Ok(Whereabouts { replicas: replicas.replicas.iter().enumerate().map(at).collect::<Result<_, _>>()? })
}

fn decode_count(count: &pb::Count) -> Result<Count, WireError> {
    let selector = |(i, selector): (usize, &pb::Selector)| {
        selector::decode(selector).map_err(|error| error.within(format_args!("selectors[{i}]")))
    };
    Ok(Count {
        id: count.id,
        site: field::parsed("site", &count.site)?,
        selectors: count.selectors.iter().enumerate().map(selector).collect::<Result<_, _>>()?,
        answer_within: count.answer_within_micros.map(Duration::from_micros),
    })
}

const fn encode_reset_reason(reason: ResetReason) -> pb::ResetReason {
    match reason {
        ResetReason::New => pb::ResetReason::New,
        ResetReason::ForeignLog => pb::ResetReason::ForeignLog,
        ResetReason::Trimmed => pb::ResetReason::Trimmed,
        ResetReason::BeyondTail => pb::ResetReason::BeyondTail,
        ResetReason::RecordDiffers => pb::ResetReason::RecordDiffers,
        ResetReason::Other => pb::ResetReason::Unspecified,
    }
}

const fn decode_reset_reason(reason: pb::ResetReason) -> ResetReason {
    match reason {
        pb::ResetReason::New => ResetReason::New,
        pb::ResetReason::ForeignLog => ResetReason::ForeignLog,
        pb::ResetReason::Trimmed => ResetReason::Trimmed,
        pb::ResetReason::BeyondTail => ResetReason::BeyondTail,
        pb::ResetReason::RecordDiffers => ResetReason::RecordDiffers,
        pb::ResetReason::Unspecified => ResetReason::Other,
    }
}

const fn encode_go_away_reason(reason: GoAwayReason) -> pb::GoAwayReason {
    match reason {
        GoAwayReason::Draining => pb::GoAwayReason::Draining,
        GoAwayReason::Replaced => pb::GoAwayReason::Replaced,
        GoAwayReason::Removed => pb::GoAwayReason::Removed,
        GoAwayReason::Protocol => pb::GoAwayReason::Protocol,
    }
}

const fn decode_go_away_reason(reason: pb::GoAwayReason) -> GoAwayReason {
    match reason {
        pb::GoAwayReason::Draining | pb::GoAwayReason::Unspecified => GoAwayReason::Draining,
        pb::GoAwayReason::Replaced => GoAwayReason::Replaced,
        pb::GoAwayReason::Removed => GoAwayReason::Removed,
        pb::GoAwayReason::Protocol => GoAwayReason::Protocol,
    }
}
