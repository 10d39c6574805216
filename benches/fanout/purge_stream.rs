//! A node's end of `PurgeStream` by hand: the HTTP/2 frames that it needs, and gRPC's five bytes before a message.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use batoff_delivery::{Inbox, InboxConfig};
use batoff_types::message::{Ack, FromNode, Heartbeat, LeasePolicy, ToNode};
use batoff_types::{Cursor, InstanceId, Moment, NodeName, Seq, Term};
use batoff_wire::{decode_record, decode_to_node, encode_from_node};
use ulid::Ulid;

use super::held_lease::HeldLease;
use super::subscribers::Subscriber;
use super::tally::{Came, Tally};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &str = "/batoff.purge.v1.PurgeStream/Connect";

/// Frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A flow-control window before anything is said about it.
const WINDOW: i64 = 65_535;
const WINDOW_MAX: i64 = 0x7fff_ffff;

/// The first byte of a `ToNode` that holds `Records`.
const RECORDS: u8 = 0x12;

/// The name of a subscriber.
pub fn node_name(number: usize) -> anyhow::Result<NodeName> {
    Ok(NodeName::new(&format!("pop{}", number % 10), &format!("edge-{number}"))?)
}

/// A node that applies at once and does nothing else.
pub struct LeanNode {
    hello: FromNode,
    /// Messages of gRPC that are not complete.
    message: Vec<u8>,
    /// What may still be sent: on the connection, on the stream.
    windows: [i64; 2],
    /// What the server may still send; the same for both.
    granted: i64,
    cursor: Cursor,
    acked: Cursor,
    heartbeat: Option<Duration>,
    lease: HeldLease,
}

impl LeanNode {
    pub fn new(number: usize) -> anyhow::Result<Self> {
        let node = node_name(number)?;
        let instance = InstanceId::from_ulid(Ulid::generate());
        let mut inbox = Inbox::new(InboxConfig::new(node, LeasePolicy::Revalidate), instance, None, Term(0));
        Ok(Self {
            hello: FromNode::Hello(inbox.hello()),
            message: Vec::new(),
            windows: [WINDOW; 2],
            granted: WINDOW_MAX,
            cursor: Cursor::START,
            acked: Cursor::START,
            heartbeat: None,
            lease: HeldLease::default(),
        })
    }

    /// Whether there was room in the windows.
    fn send(&mut self, message: &FromNode, out: &mut Vec<u8>) -> bool {
        let bytes = encode_from_node(message);
        let length = bytes.len() + 5;
        if self.windows.iter().any(|window| *window < length as i64) {
            return false;
        }
        self.windows.iter_mut().for_each(|window| *window -= length as i64);
        frame(DATA, 0, 1, length, out);
        out.push(0);
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(&bytes);
        true
    }

    fn frame(
        &mut self,
        (kind, flags, stream): (u8, u8, u32),
        payload: &[u8],
        out: &mut Vec<u8>,
        received: &mut Received<'_>,
    ) -> anyhow::Result<()> {
        match kind {
            DATA => {
                ensure!(flags & PADDED == 0, "padded frames are not expected");
                self.data(payload, received)?;
                self.granted -= payload.len() as i64;
                if self.granted < WINDOW_MAX / 2 {
                    let more = (WINDOW_MAX - self.granted) as u32;
                    for stream in [0, 1] {
                        frame(WINDOW_UPDATE, 0, stream, 4, out);
                        out.extend_from_slice(&more.to_be_bytes());
                    }
                    self.granted = WINDOW_MAX;
                }
                ensure!(flags & END_STREAM == 0, "the server ended the stream");
            }
            HEADERS if flags & END_STREAM != 0 => {
                bail!("the stream was refused: {}", String::from_utf8_lossy(payload))
            }
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.as_chunks::<6>().0 {
                    if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                        let size = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                        self.windows[1] += i64::from(size) - WINDOW;
                    }
                }
                frame(SETTINGS, ACK, 0, 0, out);
            }
            PING if flags & ACK == 0 => {
                frame(PING, ACK, 0, payload.len(), out);
                out.extend_from_slice(payload);
            }
            WINDOW_UPDATE => {
                let more = payload.first_chunk().map_or(0, |bytes| i64::from(u32::from_be_bytes(*bytes)));
                self.windows[usize::from(stream != 0)] += more;
            }
            RST_STREAM => bail!("the server reset the stream: {payload:?}"),
            GOAWAY => bail!("the server ended the connection: {payload:?}"),
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, mut payload: &[u8], received: &mut Received<'_>) -> anyhow::Result<()> {
        if !self.message.is_empty() {
            self.message.extend_from_slice(payload);
            let whole = std::mem::take(&mut self.message);
            let taken = self.messages(&whole, received)?;
            self.message = whole;
            self.message.drain(..taken);
            return Ok(());
        }
        payload = &payload[self.messages(payload, received)?..];
        self.message.extend_from_slice(payload);
        Ok(())
    }

    fn messages(&mut self, bytes: &[u8], received: &mut Received<'_>) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some([_, length @ ..]) = bytes[taken..].first_chunk::<5>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(message) = bytes.get(taken + 5..taken + 5 + length) else { break };
            self.message(message, received)?;
            taken += 5 + length;
        }
        Ok(taken)
    }

    fn message(&mut self, message: &[u8], received: &mut Received<'_>) -> anyhow::Result<()> {
        if message.first() == Some(&RECORDS) {
            received.tally.message();
            return self.records(&message[1..], received);
        }
        match decode_to_node(message)? {
            ToNode::Welcome(welcome) => self.heartbeat = Some(welcome.heartbeat_interval),
            ToNode::Reset(reset) => self.cursor = reset.cursor,
            ToNode::LeaseGrant(grant) => {
                self.lease.answered(grant.echo.as_micros(), grant.duration, received.came, received.tally);
            }
            ToNode::GoAway(away) => bail!("sent away: {:?}", away.reason),
            _ => {}
        }
        Ok(())
    }

    /// Counts what is in a `Records` without building it: `first_seq` is field 1, each record field 2.
    fn records(&mut self, mut bytes: &[u8], received: &mut Received<'_>) -> anyhow::Result<()> {
        let length = varint(&mut bytes)?;
        ensure!(length == bytes.len() as u64, "Records is the only field");
        let mut next = 0;
        while let Some((tag, rest)) = bytes.split_first() {
            bytes = rest;
            let value = varint(&mut bytes)?;
            match tag {
                0x08 => next = value,
                0x12 => {
                    let (record, rest) =
                        bytes.split_at_checked(usize::try_from(value)?).context("cut off")?;
                    bytes = rest;
                    let seq = Seq::new(next).context("a record without a number")?;
                    ensure!(self.cursor.next() == seq, "a gap: {seq} after {}", self.cursor);
                    self.cursor = Cursor::after(seq);
                    received
                        .tally
                        .arrived(next, received.came, || Ok(decode_record(seq, record)?.task.to_string()))?;
                    next += 1;
                }
                other => bail!("field {other:#x} in Records"),
            }
        }
        Ok(())
    }
}

/// What comes with one read.
struct Received<'a> {
    came: Came,
    tally: &'a mut Tally,
}

impl Subscriber for LeanNode {
    fn greet(&mut self, out: &mut Vec<u8>) -> anyhow::Result<()> {
        out.extend_from_slice(PREFACE);
        frame(SETTINGS, 0, 0, 6, out);
        out.extend_from_slice(&INITIAL_WINDOW_SIZE.to_be_bytes());
        out.extend_from_slice(&(WINDOW_MAX as u32).to_be_bytes());
        frame(WINDOW_UPDATE, 0, 0, 4, out);
        out.extend_from_slice(&((WINDOW_MAX - WINDOW) as u32).to_be_bytes());
        // HPACK (RFC 7541): POST and http from the static table, the rest as literals that are not indexed.
        let mut headers = vec![0x83, 0x86];
        for (name, value) in [(4, PATH), (1, "localhost"), (31, "application/grpc")] {
            match name {
                31 => headers.extend([0x0f, 31 - 15]),
                name => headers.push(name),
            }
            headers.push(value.len() as u8);
            headers.extend_from_slice(value.as_bytes());
        }
        headers.extend_from_slice(b"\0\x02te\x08trailers");
        frame(HEADERS, END_HEADERS, 1, headers.len(), out);
        out.extend_from_slice(&headers);
        let hello = self.hello.clone();
        ensure!(self.send(&hello, out), "the Hello is larger than a window");
        Ok(())
    }

    fn receive(
        &mut self,
        input: &[u8],
        came: Came,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> anyhow::Result<usize> {
        let mut taken = 0;
        let mut received = Received { came, tally };
        while let Some([a, b, c, kind, flags, stream @ ..]) = input[taken..].first_chunk::<9>() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(payload) = input.get(taken + 9..taken + 9 + length) else { break };
            let stream = u32::from_be_bytes(*stream);
            self.frame((*kind, *flags, stream), payload, out, &mut received)?;
            taken += 9 + length;
        }
        if self.cursor > self.acked {
            let ack = FromNode::Ack(Ack { cursor: self.cursor, reports: Vec::new(), overflowed: Vec::new() });
            if self.send(&ack, out) {
                self.acked = self.cursor;
                tally.ack();
            }
        }
        Ok(taken)
    }

    fn is_ready(&self) -> bool {
        self.lease.was_held()
    }

    fn speak(&mut self, due_ns: u64, now_ns: u64, out: &mut Vec<u8>) -> anyhow::Result<Option<u64>> {
        // Until its Welcome is there, it looks again soon.
        let Some(every) = self.heartbeat else { return Ok(Some(now_ns + 1_000_000)) };
        let sent_at = Moment::from_micros(now_ns / 1_000);
        if self.send(
            &FromNode::Heartbeat(Heartbeat {
                sent_at,
                cursor: self.cursor,
                index: None,
                fill_in_after: None,
            }),
            out,
        ) {
            self.acked = self.cursor;
            self.lease.sent(sent_at.as_micros(), due_ns);
        }
        Ok(Some(now_ns + u64::try_from(every.as_nanos())?))
    }

    fn end(&self, now_ns: u64, tally: &mut Tally) {
        self.lease.count_if_over(now_ns, tally);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn varint(bytes: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().context("cut off in a number")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}
