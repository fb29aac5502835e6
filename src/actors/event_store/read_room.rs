//! The memory that events take between being read and being done with, bounded over all who read: a
//! page of a history or the rebuilding of a state holds up to some mebibytes, and nothing bounds how
//! many of them clients ask for at once.
//!
//! Light reads, which are nearly all, take no room, so that they never wait for heavy ones. Whoever
//! needs more room than he has gives up his own before he waits: nobody waits while he holds some.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics;

/// Reads of up to so many bytes take no room: of as many of them as there are requests at once, 32 MiB.
const LIGHT: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub struct ReadRoom {
    bytes: Arc<Semaphore>,
    max: usize,
}

impl ReadRoom {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        let max = bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Arc::new(Self {
            bytes: Arc::new(Semaphore::new(max)),
            max,
        })
    }

    /// A place with room for so many bytes, once there is some.
    pub async fn place(self: &Arc<Self>, bytes: usize) -> ReadPlace {
        let mut place = ReadPlace {
            room: Some(self.clone()),
            held: None,
            bytes: 0,
        };
        place.wait_for(bytes).await;
        place
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> usize {
        self.max - self.bytes.available_permits()
    }

    /// What is taken of the semaphore for so many bytes; more than there is works alone.
    fn permits(&self, bytes: usize) -> u32 {
        if bytes <= LIGHT {
            return 0;
        }
        u32::try_from(bytes.min(self.max)).unwrap_or(u32::MAX)
    }
}

/// Room for what was read, until it is dropped.
#[derive(Debug, Default)]
pub struct ReadPlace {
    room: Option<Arc<ReadRoom>>,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl ReadPlace {
    /// Room for so many bytes in all, where there is some at once.
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let Some(room) = &self.room else {
            return true;
        };
        let missing = room.permits(bytes).saturating_sub(self.permits());
        if missing > 0 {
            let Ok(more) = room.bytes.clone().try_acquire_many_owned(missing) else {
                return false;
            };
            match &mut self.held {
                Some(held) => held.merge(more),
                held => *held = Some(more),
            }
            metrics::read_bytes(room.taken());
        }
        self.bytes = self.bytes.max(bytes);
        true
    }

    /// Waits for room for so many bytes in all; what it had is given up meanwhile.
    pub async fn wait_for(&mut self, bytes: usize) {
        if self.try_grow(bytes) {
            return;
        }
        let Some(room) = self.room.clone() else {
            return;
        };
        self.held = None;
        // It is never closed.
        self.held = room
            .bytes
            .clone()
            .acquire_many_owned(room.permits(bytes))
            .await
            .ok();
        self.bytes = bytes;
        metrics::read_bytes(room.taken());
    }

    /// Gives up the room beyond so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let Some(room) = &self.room else {
            return;
        };
        self.bytes = self.bytes.min(bytes);
        let spare = self.permits().saturating_sub(room.permits(bytes));
        if spare == 0 {
            return;
        }
        let given_up = self
            .held
            .as_mut()
            .and_then(|held| held.split(spare as usize));
        drop(given_up);
        metrics::read_bytes(room.taken());
    }

    fn permits(&self) -> u32 {
        self.held
            .as_ref()
            .map_or(0, |held| held.num_permits() as u32)
    }
}

impl Drop for ReadPlace {
    fn drop(&mut self) {
        if let (Some(room), Some(held)) = (&self.room, self.held.take()) {
            drop(held);
            metrics::read_bytes(room.taken());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn law_13_what_is_read_at_once_is_bounded_and_light_reads_never_wait() {
        let room = ReadRoom::new(1 << 20);
        let large = room.place(1 << 30).await;
        assert_eq!(
            room.taken(),
            1 << 20,
            "larger than the room: it works alone"
        );
        assert!(timeout(SOON, room.place(100_000)).await.is_err());
        assert!(timeout(SOON, room.place(LIGHT)).await.is_ok());
        drop(large);
        let small = timeout(SOON, room.place(100_000)).await;
        assert_eq!(room.taken(), 100_000);
        drop(small);
        assert_eq!(room.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_room_that_is_not_needed_is_given_up() {
        let room = ReadRoom::new(1 << 20);
        let mut place = room.place(1 << 30).await;
        assert!(timeout(SOON, room.place(100_000)).await.is_err());
        place.shrink(200_000);
        assert_eq!(room.taken(), 200_000);
        place.shrink(300_000);
        assert_eq!(room.taken(), 200_000, "that takes none");
        let other = timeout(SOON, room.place(100_000)).await;
        assert!(other.is_ok());
        place.shrink(LIGHT);
        assert_eq!(room.taken(), 100_000);
        assert!(place.try_grow(250_000));
        drop((place, other));
        assert_eq!(room.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_nobody_waits_for_more_room_while_he_holds_some() {
        let room = ReadRoom::new(1 << 20);
        let mut one = room.place(600_000).await;
        let mut other = room.place(400_000).await;
        assert!(!one.try_grow(700_000) && one.try_grow(610_000));
        // Both need more than is left: each in its turn gets it.
        let (one, other) = timeout(SOON, async {
            tokio::join!(
                async {
                    one.wait_for(900_000).await;
                    tokio::task::yield_now().await;
                    drop(one);
                },
                async {
                    other.wait_for(900_000).await;
                    drop(other);
                }
            )
        })
        .await
        .expect("nobody waits for ever");
        assert_eq!((one, other), ((), ()));
        assert_eq!(room.taken(), 0);
    }
}
