//! NATS core: text lines, and payloads behind them.

use anyhow::{Context, bail};

use super::redis::{ACKS, EVENTS, line, number_of};
use super::subscribers::Subscriber;
use super::tally::{Came, Tally};

/// What a client says first. `echo` off: nobody wants its own.
pub const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false}\r\n";

/// What the server says.
pub enum Spoken<'a> {
    /// A message, wherever it came from.
    Message(&'a [u8]),
    /// It wants to know whether we are there.
    Ping,
    /// It is there.
    Pong,
    /// Anything else.
    Other,
}

/// The first thing that is said in `input`, and its length; `None` while it is not complete.
pub fn parse(input: &[u8]) -> anyhow::Result<Option<(Spoken<'_>, usize)>> {
    let Some((line, head)) = line(input) else { return Ok(None) };
    Ok(Some(match line {
        [b'M', b'S', b'G', b' ', ..] => {
            let length = line.rsplit(|byte| *byte == b' ').next().context("MSG without a length")?;
            let length: usize = std::str::from_utf8(length)?.parse()?;
            let Some(payload) = input.get(head..head + length + 2) else { return Ok(None) };
            (Spoken::Message(&payload[..length]), head + length + 2)
        }
        b"PING" => (Spoken::Ping, head),
        b"PONG" => (Spoken::Pong, head),
        [b'-', ..] => bail!("nats says {}", String::from_utf8_lossy(line)),
        _ => (Spoken::Other, head),
    }))
}

/// `PUB`.
pub fn publish(subject: &str, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// A subscriber of NATS.
pub struct NatsSubscriber {
    name: String,
    ready: bool,
}

impl NatsSubscriber {
    pub fn new(number: usize) -> Self {
        Self { name: number.to_string(), ready: false }
    }
}

impl Subscriber for NatsSubscriber {
    fn greet(&mut self, out: &mut Vec<u8>) -> anyhow::Result<()> {
        out.extend_from_slice(CONNECT);
        out.extend_from_slice(format!("SUB {EVENTS} 1\r\nPING\r\n").as_bytes());
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
        let mut last = None;
        while let Some((spoken, length)) = parse(&input[taken..])? {
            taken += length;
            match spoken {
                Spoken::Message(payload) => {
                    let number = number_of(payload)?;
                    tally.message();
                    tally.arrived(number, came, || Ok(number.to_string()))?;
                    last = Some(number);
                }
                Spoken::Ping => out.extend_from_slice(b"PONG\r\n"),
                Spoken::Pong => self.ready = true,
                Spoken::Other => {}
            }
        }
        if let Some(number) = last {
            publish(ACKS, format!("{} {number}", self.name).as_bytes(), out);
            tally.ack();
        }
        Ok(taken)
    }

    fn is_ready(&self) -> bool {
        self.ready
    }
}
