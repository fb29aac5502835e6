//! How much room the disk has.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Bytes that may still be written to the file system of `path` by an ordinary account. What the
/// file system keeps back for root does not count, since PostgreSQL cannot use it.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    // Their widths differ by platform.
    #[allow(clippy::unnecessary_cast, reason = "narrower elsewhere")]
    let (blocks, size) = (stat.blocks_available() as u64, stat.fragment_size() as u64);
    Ok(blocks.saturating_mul(size))
}

/// Whether a write failed because there is no room: on the disk, in the quota, or in the file.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}
