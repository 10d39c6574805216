//! Redis pub/sub in its third protocol, in which a subscriber may publish its acks on the same connection.

use anyhow::{Context, bail};

use super::subscribers::Subscriber;
use super::tally::{Came, Tally};

/// What is published.
pub const EVENTS: &str = "events";

/// Where subscribers say how far they are.
pub const ACKS: &str = "acks";

/// Digits of an event's number, at the begin of its payload.
pub const DIGITS: usize = 20;

/// A payload: the number, and as much more as makes it as long as the record of a purge of one URL.
pub fn payload(number: u64) -> Vec<u8> {
    format!("{number:0DIGITS$} https://www.example.com/articles/{number}/headline.html {}", "x".repeat(64))
        .into_bytes()
}

/// The number in a payload.
pub fn number_of(payload: &[u8]) -> anyhow::Result<u64> {
    let digits = payload.get(..DIGITS).context("a payload begins with its number")?;
    Ok(std::str::from_utf8(digits)?.parse()?)
}

/// A command as the protocol has it.
pub fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A message of a channel.
    Message { channel: &'a [u8], payload: &'a [u8] },
    /// A subscription stands.
    Subscribed,
    /// An answer to a command.
    Answer,
}

/// The first thing that is said in `input`, and its length; `None` while it is not complete.
pub fn parse(input: &[u8]) -> anyhow::Result<Option<(Said<'_>, usize)>> {
    let Some((line, head)) = line(input) else { return Ok(None) };
    match line.first() {
        Some(b'-') => bail!("redis says {}", String::from_utf8_lossy(line)),
        Some(b'>') => {
            let count: usize = std::str::from_utf8(&line[1..])?.parse()?;
            let mut end = head;
            let mut words = [&b""[..]; 3];
            for place in 0..count {
                let Some((word, length)) = value(&input[end..])? else { return Ok(None) };
                if let Some(slot) = words.get_mut(place) {
                    *slot = word;
                }
                end += length;
            }
            let said = match words {
                [b"message", channel, payload] => Said::Message { channel, payload },
                _ => Said::Subscribed,
            };
            Ok(Some((said, end)))
        }
        _ => Ok(value(input)?.map(|(_, length)| (Said::Answer, length))),
    }
}

/// One value: its text if it is a simple one, and its length.
fn value(input: &[u8]) -> anyhow::Result<Option<(&[u8], usize)>> {
    let Some((line, head)) = line(input) else { return Ok(None) };
    let count = || -> anyhow::Result<usize> { Ok(std::str::from_utf8(&line[1..])?.parse()?) };
    match line.first() {
        Some(b'$') => {
            let length = count()?;
            Ok(input.get(head..head + length + 2).map(|text| (&text[..length], head + length + 2)))
        }
        Some(kind @ (b'*' | b'%' | b'~' | b'>')) => {
            let values = if *kind == b'%' { 2 * count()? } else { count()? };
            let mut end = head;
            for _ in 0..values {
                let Some((_, length)) = value(&input[end..])? else { return Ok(None) };
                end += length;
            }
            Ok(Some((&[], end)))
        }
        Some(_) => Ok(Some((&line[1..], head))),
        None => bail!("an empty line from redis"),
    }
}

/// A line without its end, and its length with it.
pub fn line(input: &[u8]) -> Option<(&[u8], usize)> {
    let end = input.windows(2).position(|two| two == b"\r\n")?;
    Some((&input[..end], end + 2))
}

/// A subscriber of Redis.
pub struct RedisSubscriber {
    name: String,
    ready: bool,
}

impl RedisSubscriber {
    pub fn new(number: usize) -> Self {
        Self { name: number.to_string(), ready: false }
    }
}

impl Subscriber for RedisSubscriber {
    fn greet(&mut self, out: &mut Vec<u8>) -> anyhow::Result<()> {
        command(&[b"HELLO", b"3"], out);
        command(&[b"SUBSCRIBE", EVENTS.as_bytes()], out);
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
        while let Some((said, length)) = parse(&input[taken..])? {
            taken += length;
            match said {
                Said::Message { payload, .. } => {
                    let number = number_of(payload)?;
                    tally.message();
                    tally.arrived(number, came, || Ok(number.to_string()))?;
                    last = Some(number);
                }
                Said::Subscribed => self.ready = true,
                Said::Answer => {}
            }
        }
        if let Some(number) = last {
            let ack = format!("{} {number}", self.name);
            command(&[b"PUBLISH", ACKS.as_bytes(), ack.as_bytes()], out);
            tally.ack();
        }
        Ok(taken)
    }

    fn is_ready(&self) -> bool {
        self.ready
    }
}
