//! Free space on the disk.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Bytes that an ordinary account can still write to the file system of `path`. Blocks reserved for
/// root do not count, because PostgreSQL cannot use them.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    // Their types differ by platform.
    #[allow(clippy::unnecessary_cast, reason = "narrower elsewhere")]
    let (blocks, size) = (stat.blocks_available() as u64, stat.fragment_size() as u64);
    Ok(blocks.saturating_mul(size))
}

/// Whether a write failed for lack of space: of the disk, the quota, or the file size limit.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}
