//! The way to standard error: a short queue and a thread, so that whoever logs never waits for whoever reads.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::clean::{Style, clean};
use super::kinds::Kinds;

/// Lines on their way. When nobody reads standard error, further ones are left out, and counted.
const QUEUE_LINES: usize = 8_192;

/// How often it is told which lines were left out.
pub const TELL_EVERY: Duration = Duration::from_secs(10);

static OUT: OnceLock<SyncSender<Item>> = OnceLock::new();

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// What the lines of this process are written to.
#[derive(Clone)]
pub(super) struct Lines {
    style: Style,
    out: SyncSender<Item>,
}

impl Lines {
    /// Starts the thread; `None` if it was started before, or cannot be.
    pub(super) fn open(style: Style, kinds: Kinds) -> Option<Self> {
        let (out, lines) = sync_channel(QUEUE_LINES);
        OUT.set(out.clone()).ok()?;
        let run = move || write_out(&lines, &kinds);
        std::thread::Builder::new().name("log-lines".to_owned()).spawn(run).ok()?;
        Some(Self { style, out })
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// One call a line, as the formatter makes it.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.out.try_send(Item::Line(clean(line, self.style))).is_err() {
            lost("queue");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_out(lines: &Receiver<Item>, kinds: &Kinds) {
    let mut tell_at = Instant::now() + TELL_EVERY;
    loop {
        match lines.recv_timeout(tell_at.saturating_duration_since(Instant::now())) {
            Ok(Item::Line(line)) => {
                if io::stderr().write_all(&line).is_err() {
                    lost("unwritable");
                }
            }
            Ok(Item::Flush(done)) => drop(done.try_send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= tell_at {
            tell_at = Instant::now() + TELL_EVERY;
            for kind in kinds.left_out() {
                metrics::counter!(LOST, "reason" => "rate").increment(kind.lines);
                tracing::warn!(
                    lines = kind.lines,
                    source = kind.target,
                    line = kind.line,
                    "lines of one kind were left out"
                );
            }
        }
    }
}

/// Says what the figures mean, once there is a recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(
        LOST,
        "Log lines that nobody could read: too many of a kind, or standard error stuck"
    );
    for reason in ["rate", "queue", "unwritable"] {
        metrics::counter!(LOST, "reason" => reason).increment(0);
    }
}

const LOST: &str = "batoff_log_lines_lost_total";

fn lost(reason: &'static str) {
    metrics::counter!(LOST, "reason" => reason).increment(1);
}

/// Waits until the lines so far are written, at most `patience`. For the end of a process.
pub fn flush(patience: Duration) {
    let Some(out) = OUT.get() else { return };
    let (done, written) = sync_channel(1);
    let until = Instant::now() + patience;
    let mut item = Item::Flush(done);
    loop {
        match out.try_send(item) {
            Ok(()) => break,
            Err(TrySendError::Full(back)) if Instant::now() < until => {
                item = back;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return,
        }
    }
    let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
}
