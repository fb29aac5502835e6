//! Free space on the disk of the data directory. Measured by the process that owns the disk and
//! checked before every command: below the reserve commands are refused, so that PostgreSQL on the
//! same disk, which stops when the disk is full, can still deliver and project what was
//! acknowledged.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// The space as last measured, with the reserve.
#[derive(Debug)]
pub struct DiskSpace {
    reserve: u64,
    free: AtomicU64,
}

/// Whether commands are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = DiskState))]
#[serde(rename_all = "lowercase")]
pub enum RoomState {
    /// Enough: commands are accepted.
    Ok,
    /// Below the reserve: commands are refused.
    Low,
}

/// Free space as last measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Disk))]
pub struct RoomStatus {
    /// Whether commands are accepted.
    pub state: RoomState,
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Commands are refused below so many bytes.
    pub reserve_bytes: u64,
}

impl DiskSpace {
    /// With so many bytes as reserve; counts as enough until it is measured.
    pub fn new(reserve: u64) -> Self {
        Self {
            reserve,
            free: AtomicU64::new(u64::MAX),
        }
    }

    /// Records a measurement; returns whether it has changed [`DiskSpace::is_low`].
    pub fn measured(&self, free: u64) -> bool {
        let before = self.free.swap(free, Ordering::Relaxed);
        (before < self.reserve) != (free < self.reserve)
    }

    /// Whether free space is below the reserve.
    pub fn is_low(&self) -> bool {
        self.free.load(Ordering::Relaxed) < self.reserve
    }

    /// The space as last measured.
    pub fn status(&self) -> RoomStatus {
        let free_bytes = self.free.load(Ordering::Relaxed);
        RoomStatus {
            state: if free_bytes < self.reserve {
                RoomState::Low
            } else {
                RoomState::Ok
            },
            free_bytes,
            reserve_bytes: self.reserve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_reserve_there_is_no_room_and_changes_are_told() {
        let room = DiskSpace::new(100);
        assert!(!room.is_low());
        assert!(!room.measured(100));
        assert!(room.measured(99) && room.is_low());
        assert!(!room.measured(0) && room.is_low());
        assert_eq!(room.status().state, RoomState::Low);
        assert!(room.measured(100) && !room.is_low());
        let none = DiskSpace::new(0);
        assert!(!none.measured(0) && !none.is_low());
    }
}
