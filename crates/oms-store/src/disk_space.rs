//! Room on the disk of the data directory. It is measured by whoever owns the disk and asked about
//! before every command: below the reserve none is taken, so that PostgreSQL beside the log, which
//! dies of a full disk, still has room to deliver and to project what was acknowledged.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// See the module.
#[derive(Debug)]
pub struct DiskSpace {
    reserve: u64,
    free: AtomicU64,
}

/// Whether there is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = DiskState))]
#[serde(rename_all = "lowercase")]
pub enum RoomState {
    /// Commands are taken.
    Ok,
    /// The reserve is touched: none is.
    Low,
}

/// Room on the disk of the data directory, as last measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Disk))]
pub struct RoomStatus {
    /// Whether there is enough; where it is `low`, commands are refused.
    pub state: RoomState,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Below so many, commands are refused.
    pub reserve_bytes: u64,
}

impl DiskSpace {
    /// Enough, until it was measured.
    pub fn new(reserve: u64) -> Self {
        Self {
            reserve,
            free: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes in a measurement; whether the answer to [`DiskSpace::is_low`] has changed by it.
    pub fn measured(&self, free: u64) -> bool {
        let before = self.free.swap(free, Ordering::Relaxed);
        (before < self.reserve) != (free < self.reserve)
    }

    /// Whether the reserve is touched.
    pub fn is_low(&self) -> bool {
        self.free.load(Ordering::Relaxed) < self.reserve
    }

    /// As last measured.
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
