//! What nodes say, as bytes and back.

use std::time::Duration;

use batoff_types::message::{
    Ack, Counted, FromNode, Heartbeat, Hello, IndexSize, LeasePolicy, Overflowed, Position, RecordReport,
    Trouble,
};
use batoff_types::{Cursor, InstanceId, LogId, Moment, Seq, TaskId};
use bytes::Bytes;
use prost::Message;

use crate::pb::from_node::Body;
use crate::{WireError, field, pb};

/// A message from a node, complete.
pub fn encode_from_node(message: &FromNode) -> Bytes {
    let body = match message {
        FromNode::Hello(hello) => Body::Hello(encode_hello(hello)),
        FromNode::Heartbeat(heartbeat) => Body::Heartbeat(pb::Heartbeat {
            sent_at_micros: heartbeat.sent_at.as_micros(),
            cursor: heartbeat.cursor.get(),
            index: heartbeat.index.map(|IndexSize { objects, bytes }| pb::IndexSize { objects, bytes }),
            fill_in_after_micros: heartbeat.fill_in_after.map(field::micros),
        }),
        FromNode::Ack(ack) => Body::Ack(pb::Ack {
            cursor: ack.cursor.get(),
            reports: ack.reports.iter().map(encode_report).collect(),
            overflowed: ack.overflowed.iter().map(encode_overflowed).collect(),
        }),
        FromNode::Counted(counted) => Body::Counted(pb::Counted {
            id: counted.id,
            objects: counted.objects.clone(),
            uncounted: counted.uncounted.clone(),
        }),
        FromNode::Trouble(trouble) => Body::Trouble(pb::Trouble {
            cache: trouble.cache.clone(),
            message: trouble.message.clone(),
            stuck: trouble.stuck.map(Seq::get),
        }),
    };
    pb::FromNode { body: Some(body) }.encode_to_vec().into()
}

/// Reads a message from a node. A policy that is not known is [`LeasePolicy::Serve`]: such a node is never counted as
/// fenced. A message of an unknown kind is an error; a node does not send one before it knows that it is understood.
pub fn decode_from_node(bytes: &[u8]) -> Result<FromNode, WireError> {
    let message: pb::FromNode = field::message("from_node", bytes)?;
    Ok(match field::required("body", message.body)? {
        Body::Hello(hello) => FromNode::Hello(decode_hello(hello).map_err(|error| error.within("hello"))?),
        Body::Heartbeat(heartbeat) => FromNode::Heartbeat(Heartbeat {
            sent_at: Moment::from_micros(heartbeat.sent_at_micros),
            cursor: Cursor::new(heartbeat.cursor),
            index: heartbeat.index.map(|pb::IndexSize { objects, bytes }| IndexSize { objects, bytes }),
            fill_in_after: heartbeat.fill_in_after_micros.map(Duration::from_micros),
        }),
        Body::Ack(ack) => FromNode::Ack(decode_ack(&ack).map_err(|error| error.within("ack"))?),
        Body::Counted(pb::Counted { id, objects, uncounted }) => {
            FromNode::Counted(Counted { id, objects, uncounted })
        }
        Body::Trouble(trouble) => FromNode::Trouble(Trouble {
            cache: trouble.cache,
            message: trouble.message,
            stuck: trouble.stuck.map(|seq| field::seq("trouble.stuck", seq)).transpose()?,
        }),
    })
}

fn encode_hello(hello: &Hello) -> pb::Hello {
    let policy = match hello.policy {
        LeasePolicy::Serve => pb::LeasePolicy::Serve,
        LeasePolicy::Revalidate => pb::LeasePolicy::Revalidate,
    };
    pb::Hello {
        node: Some(field::encode_node(&hello.node)),
        instance: hello.instance.to_bytes().to_vec(),
        position: hello.position.map(|position| pb::Position {
            log_id: position.log_id.to_bytes().to_vec(),
            cursor: position.cursor.get(),
            task: position.task.map(|task| task.to_bytes().to_vec()),
        }),
        protocol: hello.protocol,
        semantics: hello.semantics,
        version: hello.version.clone(),
        caches: hello.caches.clone(),
        policy: policy.into(),
        parents: hello.parents.iter().map(field::encode_parent).collect(),
        connection: hello.connection,
    }
}

fn decode_hello(hello: pb::Hello) -> Result<Hello, WireError> {
    let policy = match hello.policy() {
        pb::LeasePolicy::Serve | pb::LeasePolicy::Unspecified => LeasePolicy::Serve,
        pb::LeasePolicy::Revalidate => LeasePolicy::Revalidate,
    };
    let parent = |(i, parent)| field::parent(&format!("parents[{i}]"), parent);
    let parents = hello.parents.iter().enumerate().map(parent).collect::<Result<_, _>>()?;
    Ok(Hello {
        node: field::node("node", &field::required("node", hello.node)?)?,
        instance: field::ulid("instance", &hello.instance, InstanceId::from_bytes)?,
        position: hello
            .position
            .map(|position| decode_position(&position).map_err(|error| error.within("position")))
            .transpose()?,
        protocol: hello.protocol,
        semantics: hello.semantics,
        version: hello.version,
        caches: hello.caches,
        policy,
        parents,
        connection: hello.connection,
    })
}

fn decode_position(position: &pb::Position) -> Result<Position, WireError> {
    Ok(Position {
        log_id: field::ulid("log_id", &position.log_id, LogId::from_bytes)?,
        cursor: Cursor::new(position.cursor),
        task: position
            .task
            .as_deref()
            .map(|task| field::ulid("task", task, TaskId::from_bytes))
            .transpose()?,
    })
}

fn encode_report(report: &RecordReport) -> pb::RecordReport {
    pb::RecordReport {
        seq: report.seq.get(),
        objects: report.objects,
        last: report.last,
        in_force_micros: field::micros(report.in_force_after),
        evicted_micros: field::micros(report.evicted_after),
    }
}

fn encode_overflowed(overflowed: &Overflowed) -> pb::Overflowed {
    pb::Overflowed {
        site: overflowed.site.to_string(),
        objects: overflowed.objects,
        since_micros: field::micros(overflowed.since),
    }
}

fn decode_ack(ack: &pb::Ack) -> Result<Ack, WireError> {
    let report = |(i, report): (usize, &pb::RecordReport)| {
        Ok(RecordReport {
            seq: field::seq("seq", report.seq).map_err(|error| error.within(format_args!("reports[{i}]")))?,
            objects: report.objects,
            last: report.last,
            in_force_after: Duration::from_micros(report.in_force_micros),
            evicted_after: Duration::from_micros(report.evicted_micros),
        })
    };
    let overflowed = |(i, overflowed): (usize, &pb::Overflowed)| {
        let site = field::parsed("site", &overflowed.site)
            .map_err(|error| error.within(format_args!("overflowed[{i}]")))?;
        let since = Duration::from_micros(overflowed.since_micros);
        Ok(Overflowed { site, objects: overflowed.objects, since })
    };
    Ok(Ack {
        cursor: Cursor::new(ack.cursor),
        reports: ack.reports.iter().enumerate().map(report).collect::<Result<_, _>>()?,
        overflowed: ack.overflowed.iter().enumerate().map(overflowed).collect::<Result<_, _>>()?,
    })
}
