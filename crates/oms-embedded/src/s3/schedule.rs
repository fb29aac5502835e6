//! When a checkpoint is due.

use parking_lot::{Condvar, Mutex};

use super::checkpoint::LogEnd;

#[derive(Debug)]
struct State {
    end: LogEnd,
    /// Records written since the last checkpoint.
    records: u64,
    bytes: u64,
    checkpoint_bytes: u64,
    stop: bool,
}

/// What was written since the last checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Unsaved {
    /// Where the log ended.
    pub end: LogEnd,
    records: u64,
    bytes: u64,
}

/// When the upkeep thread has to work: told by the writer, waited for by that thread.
#[derive(Debug)]
pub struct Schedule {
    state: Mutex<State>,
    wake: Condvar,
    checkpoint_records: u64,
    checkpoint_file_bytes: u64,
}

impl Schedule {
    /// Starts at `end`, with `records` replayed since the last checkpoint, of which one is due after
    /// at least so many records or bytes.
    pub fn new(
        end: LogEnd,
        records: u64,
        checkpoint_bytes: u64,
        (checkpoint_records, checkpoint_file_bytes): (u64, u64),
    ) -> Self {
        Self {
            state: Mutex::new(State {
                end,
                records,
                bytes: 0,
                checkpoint_bytes,
                stop: false,
            }),
            wake: Condvar::new(),
            checkpoint_records,
            checkpoint_file_bytes,
        }
    }

    /// Records that a batch was written; the log now ends at `end`.
    pub fn written(&self, records: u64, bytes: u64, end: LogEnd) {
        let mut state = self.state.lock();
        state.end = end;
        state.records += records;
        state.bytes += bytes;
        if self.is_due(&state) {
            self.wake.notify_one();
        }
    }

    /// Whether a checkpoint is due. What is replayed at an opening stays in proportion to the
    /// checkpoint that is loaded, and checkpoints cost less than the writes between them.
    fn is_due(&self, state: &State) -> bool {
        let grown = state.checkpoint_bytes.max(self.checkpoint_file_bytes);
        // An entry takes about 100 bytes in the checkpoint.
        state.records > (state.checkpoint_bytes / 400).max(self.checkpoint_records)
            || state.bytes > grown
    }

    /// Stops the upkeep thread.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.notify_all();
    }

    /// Whether the upkeep thread is to end.
    pub fn stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Waits until there is something to do; `false` if the thread is to end.
    pub fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.stop && !self.is_due(&state) {
            self.wake.wait(&mut state);
        }
        !state.stop
    }

    /// What was written since the last checkpoint, if anything was.
    pub fn unsaved(&self) -> Option<Unsaved> {
        let state = self.state.lock();
        (state.records > 0).then_some(Unsaved {
            end: state.end,
            records: state.records,
            bytes: state.bytes,
        })
    }

    /// A checkpoint of this was tried. Also after a failure the next attempt follows only when as
    /// much was written again.
    pub fn tried(&self, unsaved: Unsaved) {
        let mut state = self.state.lock();
        state.records = state.records.saturating_sub(unsaved.records);
        state.bytes = state.bytes.saturating_sub(unsaved.bytes);
    }

    /// A checkpoint of so many bytes was written.
    pub fn saved(&self, checkpoint_bytes: u64) {
        self.state.lock().checkpoint_bytes = checkpoint_bytes;
    }
}
