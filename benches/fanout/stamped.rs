//! Reading from a socket with the kernel's word for when the bytes came.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rustix::time::{ClockId, clock_gettime};

use super::tally::{Came, now_ns};

/// Reads, and turns the kernel's time of day into the clock that everything else is measured by.
pub struct StampedReader {
    control: Vec<u8>,
    /// From `CLOCK_MONOTONIC` to `CLOCK_REALTIME`, in nanoseconds.
    apart_ns: i128,
}

impl StampedReader {
    pub fn new() -> Self {
        let mut reader = Self { control: nix::cmsg_space!(TimeSpec), apart_ns: 0 };
        reader.compare_clocks();
        reader
    }

    /// From now on the kernel notes when this socket's bytes come.
    pub fn stamp(socket: &impl AsFd) -> io::Result<()> {
        Ok(setsockopt(socket, sockopt::ReceiveTimestampns, &true)?)
    }

    /// To be done now and then: the time of day is adjusted.
    pub fn compare_clocks(&mut self) {
        let real = clock_gettime(ClockId::Realtime);
        self.apart_ns =
            i128::from(real.tv_sec) * 1_000_000_000 + i128::from(real.tv_nsec) - i128::from(now_ns());
    }

    /// How many bytes were read, and when the last of them had come. Of bytes that came at different times the kernel tells
    /// the latest, so what was read late counts as having come late rather than the other way round.
    pub fn read(&mut self, socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, Came)> {
        let mut into = [IoSliceMut::new(buffer)];
        let message =
            recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut self.control), MsgFlags::empty())?;
        let read_ns = now_ns();
        let arrived = message.cmsgs()?.find_map(|one| match one {
            ControlMessageOwned::ScmTimestampns(at) => {
                let real = i128::from(at.tv_sec()) * 1_000_000_000 + i128::from(at.tv_nsec());
                u64::try_from(real - self.apart_ns).ok()
            }
            _ => None,
        });
        Ok((message.bytes, Came { arrived_ns: arrived.unwrap_or(read_ns).min(read_ns), read_ns }))
    }
}
