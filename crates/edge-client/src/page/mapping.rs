//! The one place that maps memory.
#![expect(unsafe_code, reason = "a file cannot be mapped, nor a mapping read, in safe Rust")]

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use batoff_wire::local::page::{BLOCK_BYTES, BLOCK_WORDS, PAGE_BYTES, SEQUENCE_AT};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A page of the daemon's, read-only.
///
/// Another process writes it. So it is only ever read word by word, atomically, and what comes out may be a mixture,
/// which the sequence and the checksum tell. If somebody cuts the file short, reading it ends the process (`SIGBUS`); the
/// contract forbids that.
#[derive(Debug)]
pub struct Mapping {
    words: NonNull<AtomicU64>,
}

// SAFETY: the mapping is never written through, lives until drop whichever thread that happens on, and its words are
// only read as atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.size() < PAGE_BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than a page"));
        }
        // SAFETY: no address is asked for, so no memory of this process is replaced.
        let start =
            unsafe { mmap(std::ptr::null_mut(), PAGE_BYTES, ProtFlags::READ, MapFlags::SHARED, &file, 0)? };
        let words = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { words })
    }

    /// A copy of the block, and the sequence as it stands after copying.
    pub fn copy(&self) -> ([u8; BLOCK_BYTES], u64) {
        let mut bytes = [0; BLOCK_BYTES];
        for (at, eight) in bytes.chunks_exact_mut(8).enumerate() {
            eight.copy_from_slice(&self.word(at).load(Ordering::Acquire).to_ne_bytes());
        }
        fence(Ordering::Acquire);
        (bytes, u64::from_le(self.word(SEQUENCE_AT / 8).load(Ordering::Acquire)))
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at < BLOCK_WORDS);
        // SAFETY: the mapping is PAGE_BYTES long, starts at a page of memory and so aligned, lives as long as `self`, and
        // any 8 bytes are a valid AtomicU64.
        unsafe { self.words.add(at).as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and nobody holds a reference into it any more. It cannot fail for a mapping
        // that exists.
        let _ = unsafe { munmap(self.words.as_ptr().cast(), PAGE_BYTES) };
    }
}
