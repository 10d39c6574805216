//! A publisher of Redis or NATS, and a listener to the acks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::arguments::{Contender, Offered};
use super::nats::{self, Spoken};
use super::redis::{self, ACKS, EVENTS, Said, payload};
use super::submit::{Submitted, events};
use super::tally::now_ns;

/// How long acks are waited for.
const ACK_PATIENCE: Duration = Duration::from_secs(30);

/// Publishes a load to `nodes` subscribers, and waits until all have acknowledged all.
pub fn publish(
    contender: Contender,
    address: &str,
    nodes: usize,
    load: Offered,
    seconds: u32,
) -> anyhow::Result<Submitted> {
    let count = usize::try_from(events(load, seconds))?;
    let done = Arc::new(AtomicUsize::new(0));
    let mut acks = greeted(contender, address, true)?;
    let listener = {
        let (stream, done) = (acks.try_clone()?, Arc::clone(&done));
        std::thread::spawn(move || listen(contender, stream, nodes, count, &done))
    };
    let mut publisher = greeted(contender, address, false)?;
    let answers = {
        let stream = publisher.try_clone()?;
        (contender == Contender::Redis).then(|| std::thread::spawn(move || answers(stream, count)))
    };
    let begun = Instant::now();
    let mut sent = Vec::with_capacity(count);
    let mut out = Vec::new();
    for number in 0..count {
        if let Offered::Rate(rate) = load {
            let at = begun + Duration::from_secs(1) * u32::try_from(number)? / rate;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
        out.clear();
        let payload = payload(number as u64);
        match contender {
            Contender::Redis => redis::command(&[b"PUBLISH", EVENTS.as_bytes(), &payload], &mut out),
            _ => nats::publish(EVENTS, &payload, &mut out),
        }
        sent.push(now_ns());
        publisher.write_all(&out)?;
    }
    let begun = Instant::now();
    while done.load(Ordering::Relaxed) < count && begun.elapsed() < ACK_PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    acks.flush()?;
    acks.shutdown(Shutdown::Both)?;
    let completed = listener.join().map_err(|_| anyhow::anyhow!("the listener to acks panicked"))??;
    let mut all = Submitted::default();
    if let Some(answers) = answers {
        let at = answers.join().map_err(|_| anyhow::anyhow!("the reader of answers panicked"))??;
        all.answers = at.iter().zip(&sent).map(|(at, sent)| at.saturating_sub(*sent)).collect();
    }
    publisher.shutdown(Shutdown::Both)?;
    all.sent = sent.into_iter().enumerate().map(|(number, at)| (number.to_string(), at)).collect();
    all.completed = completed;
    Ok(all)
}

/// A connection that has said what is said first.
fn greeted(contender: Contender, address: &str, listens: bool) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut out = Vec::new();
    match contender {
        Contender::Redis if listens => {
            redis::command(&[b"HELLO", b"3"], &mut out);
            redis::command(&[b"SUBSCRIBE", ACKS.as_bytes()], &mut out);
        }
        Contender::Redis => {}
        _ => {
            out.extend_from_slice(nats::CONNECT);
            if listens {
                out.extend_from_slice(format!("SUB {ACKS} 1\r\n").as_bytes());
            }
        }
    }
    stream.write_all(&out)?;
    Ok(stream)
}

/// When each publication was answered.
fn answers(mut stream: TcpStream, count: usize) -> anyhow::Result<Vec<u64>> {
    let mut at = Vec::with_capacity(count);
    let mut buffer = vec![0; 64 * 1024];
    let mut rest = Vec::new();
    while at.len() < count {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the broker closed the publisher's connection");
        let now = now_ns();
        rest.extend_from_slice(&buffer[..read]);
        let mut taken = 0;
        while let Some((_, length)) = redis::parse(&rest[taken..])? {
            taken += length;
            at.push(now);
        }
        rest.drain(..taken);
    }
    Ok(at)
}

/// When all had acknowledged each. Ends with the connection.
fn listen(
    contender: Contender,
    mut stream: TcpStream,
    nodes: usize,
    count: usize,
    done: &AtomicUsize,
) -> anyhow::Result<HashMap<String, u64>> {
    let mut cursors = vec![0; nodes];
    let mut acked = vec![0; count];
    let mut completed = HashMap::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut rest = Vec::new();
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(completed);
        }
        let now = now_ns();
        rest.extend_from_slice(&buffer[..read]);
        let mut taken = 0;
        loop {
            let ack = match contender {
                Contender::Redis => redis::parse(&rest[taken..])?.map(|(said, length)| match said {
                    Said::Message { payload, .. } => (Some(payload), length),
                    Said::Subscribed | Said::Answer => (None, length),
                }),
                _ => nats::parse(&rest[taken..])?.map(|(spoken, length)| match spoken {
                    Spoken::Message(payload) => (Some(payload), length),
                    Spoken::Ping | Spoken::Pong | Spoken::Other => (None, length),
                }),
            };
            let Some((ack, length)) = ack else { break };
            taken += length;
            let Some(ack) = ack else { continue };
            let (node, number) = std::str::from_utf8(ack)?.split_once(' ').context("an ack")?;
            let cursor = cursors.get_mut(node.parse::<usize>()?).context("an unknown subscriber")?;
            let through: usize = number.parse::<usize>()? + 1;
            let news = *cursor..through.min(count).max(*cursor);
            for (event, acked) in news.clone().zip(&mut acked[news]) {
                *acked += 1;
                if *acked == nodes {
                    completed.insert(event.to_string(), now);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            *cursor = through.max(*cursor);
        }
        rest.drain(..taken);
    }
}
