//! Subscribers in a process of their own: one thread, one epoll, nothing that the contenders would have to share their cores
//! with more than needed. Told what to do by lines on standard input.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::arguments::Contender;
use super::nats::NatsSubscriber;
use super::purge_stream::LeanNode;
use super::redis::RedisSubscriber;
use super::sealed::{Sealed, Sealing};
use super::stamped::StampedReader;
use super::tally::{Came, Tally, now_ns};

/// The first argument of this process; contender, address, number and, for TLS, the folder of the certificates follow.
pub const SUBSCRIBERS: &str = "--subscribers";

/// What is read at once. Larger than what any message here needs, so that one read nearly always empties a socket.
const READ_BYTES: usize = 64 * 1024;

/// Standard input in the epoll.
const COMMANDS: Token = Token(usize::MAX);

/// How often it looks who has something to say by itself.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One end of one contender's protocol.
pub trait Subscriber {
    /// What it says first.
    fn greet(&mut self, out: &mut Vec<u8>) -> anyhow::Result<()>;

    /// Takes what has come, and answers. Returns how many bytes were taken; the rest is shown again with what follows.
    fn receive(
        &mut self,
        input: &[u8],
        came: Came,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> anyhow::Result<usize>;

    /// Whether it follows.
    fn is_ready(&self) -> bool;

    /// What it says at times by itself, which was due at `_due_ns`; when next, in nanoseconds of the clock. `None`: never.
    fn speak(&mut self, _due_ns: u64, _now_ns: u64, _out: &mut Vec<u8>) -> anyhow::Result<Option<u64>> {
        Ok(None)
    }

    /// What is counted is told next.
    fn end(&self, _now_ns: u64, _tally: &mut Tally) {}
}

struct Socket {
    stream: TcpStream,
    sealed: Option<Sealed>,
    subscriber: Box<dyn Subscriber>,
    /// What has come and is not complete.
    rest: Vec<u8>,
    out: Vec<u8>,
    speaks_at: u64,
    ready: bool,
}

/// The whole process.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [contender, address, count, folder @ ..] = arguments else {
        bail!("{SUBSCRIBERS} CONTENDER ADDRESS COUNT [FOLDER]")
    };
    let sealing = folder.first().map(|folder| Sealing::from(Path::new(folder))).transpose()?;
    let contender = Contender::named(contender)?;
    let address: SocketAddr = address.parse().context("an address")?;
    let count: usize = count.parse().context("a number of subscribers")?;
    let most = batoff_program::descriptors::raise();
    ensure!(count + 64 < most, "{count} subscribers need as many open files, and {most} may be: ulimit -n");
    Subscribers::connect(contender, address, count, sealing.as_ref())?.serve()
}

struct Subscribers {
    poll: Poll,
    sockets: Vec<Socket>,
    tally: Tally,
    waiting: usize,
    reader: StampedReader,
    buffer: Vec<u8>,
    /// What was sealed in `buffer`.
    opened: Vec<u8>,
}

impl Subscribers {
    fn connect(
        contender: Contender,
        address: SocketAddr,
        count: usize,
        sealing: Option<&Sealing>,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            let subscriber: Box<dyn Subscriber> = match contender {
                Contender::Batoff => Box::new(LeanNode::new(number)?),
                Contender::Redis => Box::new(RedisSubscriber::new(number)),
                Contender::Nats => Box::new(NatsSubscriber::new(number)),
            };
            let stream = std::net::TcpStream::connect(address);
            let mut stream = stream.with_context(|| format!("subscriber {number} to {address}"))?;
            stream.set_nodelay(true)?;
            let sealed = sealing.map(|sealing| sealing.shake(number, &mut stream)).transpose()?;
            stream.set_nonblocking(true)?;
            StampedReader::stamp(&stream)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            let (rest, out) = (Vec::new(), Vec::new());
            let mut socket = Socket { stream, sealed, subscriber, rest, out, speaks_at: 0, ready: false };
            socket.subscriber.greet(&mut socket.out)?;
            socket.flush()?;
            sockets.push(socket);
        }
        let commands = std::io::stdin().as_raw_fd();
        poll.registry().register(&mut SourceFd(&commands), COMMANDS, Interest::READABLE)?;
        Ok(Self {
            poll,
            sockets,
            tally: Tally::default(),
            waiting: count,
            reader: StampedReader::new(),
            buffer: vec![0; READ_BYTES],
            opened: Vec::new(),
        })
    }

    fn serve(mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut looked_at = 0;
        loop {
            match self.poll.poll(&mut events, Some(LOOK_EVERY)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("epoll"),
            }
            for event in &events {
                match event.token() {
                    COMMANDS if !self.command()? => return Ok(()),
                    COMMANDS => {}
                    Token(number) => while self.read(number)? {},
                }
            }
            // Not after every event: to look through all of them costs more than what a heartbeat waits.
            let now = now_ns();
            if u128::from(now - looked_at) >= LOOK_EVERY.as_nanos() {
                looked_at = now;
                self.reader.compare_clocks();
                for socket in &mut self.sockets {
                    if now >= socket.speaks_at {
                        let next = socket.subscriber.speak(socket.speaks_at, now, &mut socket.out)?;
                        socket.speaks_at = next.unwrap_or(u64::MAX);
                        socket.flush()?;
                    }
                }
            }
        }
    }

    /// Whether there may be more to read: a read that does not fill the buffer has emptied the socket (epoll(7)).
    fn read(&mut self, number: usize) -> anyhow::Result<bool> {
        let Some(socket) = self.sockets.get_mut(number) else { return Ok(false) };
        let (read, came) = match self.reader.read(&socket.stream, &mut self.buffer) {
            Ok((0, _)) => bail!("subscriber {number}: the server closed the connection"),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error).with_context(|| format!("subscriber {number}")),
        };
        self.tally.read(came);
        let mut fresh = &self.buffer[..read];
        if let Some(sealed) = &mut socket.sealed {
            self.opened.clear();
            sealed.open(fresh, &mut self.opened)?;
            fresh = &self.opened;
        }
        let whole: &[u8] = if socket.rest.is_empty() {
            fresh
        } else {
            socket.rest.extend_from_slice(fresh);
            &socket.rest
        };
        let taken = socket
            .subscriber
            .receive(whole, came, &mut socket.out, &mut self.tally)
            .with_context(|| format!("subscriber {number}"))?;
        if socket.rest.is_empty() {
            socket.rest.extend_from_slice(&fresh[taken..]);
        } else {
            socket.rest.drain(..taken);
        }
        socket.flush()?;
        if !socket.ready && socket.subscriber.is_ready() {
            socket.ready = true;
            self.waiting -= 1;
            if self.waiting == 0 {
                say("ready")?;
            }
        }
        Ok(read == READ_BYTES)
    }

    /// False when there is nobody left who could tell.
    fn command(&mut self) -> anyhow::Result<bool> {
        let mut line = [0; 256];
        let read = std::io::stdin().read(&mut line)?;
        for command in std::str::from_utf8(&line[..read])?.lines() {
            match command {
                "begin" => {
                    self.tally.begin();
                    say("begun")?;
                }
                "report" => {
                    let now = now_ns();
                    self.sockets.iter().for_each(|socket| socket.subscriber.end(now, &mut self.tally));
                    say(&self.tally.report().to_string())?;
                }
                other => bail!("{other:?} is no command"),
            }
        }
        Ok(read > 0)
    }
}

impl Socket {
    /// Writes what there is to say. What the kernel does not take now is said with what comes next.
    fn flush(&mut self) -> anyhow::Result<()> {
        if let Some(sealed) = &mut self.sealed {
            return sealed.write(&mut self.out, &mut self.stream);
        }
        if self.out.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.out) {
            Ok(written) => drop(self.out.drain(..written)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("writing"),
        }
        Ok(())
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
