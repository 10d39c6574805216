use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cpu_time;

/// Bytes of a file: about what nginx stores of the small object here.
const BYTES: usize = 700;

/// Makes files in folders as nginx's (`levels=1:2`), and when they have reached the disk unlinks each: what no way to remove
/// them can do without. How long the second took, and its CPU.
pub fn remove(root: &Path, files: usize, threads: usize) -> anyhow::Result<(Duration, Duration)> {
    for folder in 0..0x1000 {
        fs::create_dir_all(root.join(format!("{:x}/{:02x}", folder >> 8, folder & 0xff)))?;
    }
    let paths: Vec<PathBuf> = (0..files)
        .map(|n| {
            let name =
                format!("{:032x}", (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            root.join(&name[31..]).join(&name[29..31]).join(&name)
        })
        .collect();
    for path in &paths {
        fs::write(path, [b'x'; BYTES])?;
    }
    rustix::fs::sync();
    let (began, before) = (Instant::now(), cpu_time()?);
    std::thread::scope(|scope| {
        let parts: Vec<_> = paths
            .chunks(files.div_ceil(threads).max(1))
            .map(|part| scope.spawn(move || part.iter().try_for_each(fs::remove_file)))
            .collect();
        parts
            .into_iter()
            .try_for_each(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok((began.elapsed(), cpu_time()? - before))
}
