//! Restores a partition's state from what is stored behind its snapshot.
//!
//! A stream that moved away and came back has its tail in several journals in turn, and each is read from its start to
//! its end. So one pass over the journals takes what fits, and passes are repeated until one reaches the end: nothing is
//! kept waiting in memory. Streams that never moved need one pass.

use bytes::Bytes;
use tailwater_format::entry::{SliceHeader, SliceKind};
use tailwater_types::Offset;

use crate::{LogError, PartitionState, Replayed, StoredBatch};

/// Restores one stream's state. Feed it the stream's slices of each journal in LSN order, the journals in the order in
/// which they were opened; then call [`Scanner::finish_pass`].
#[derive(Clone, Debug)]
pub struct Scanner {
    state: PartitionState,
    /// Where this pass began.
    began: Offset,
    /// The furthest end that any slice named.
    reach: Offset,
}

/// How a pass ended.
#[derive(Clone, Debug)]
pub enum Pass {
    /// Everything that was fed is in the state.
    Complete(PartitionState),
    /// It came further but not to the end: feed the same slices again.
    Again(Scanner),
}

impl Scanner {
    /// Begins with the state that a snapshot gave, or with an empty one.
    pub fn new(state: PartitionState) -> Self {
        let end = state.end();
        Self {
            state,
            began: end,
            reach: end,
        }
    }

    /// The end reached so far.
    pub fn end(&self) -> Offset {
        self.state.end()
    }

    /// Takes what a slice has that is next. `parts` are, for records, the batches or the first 61 bytes of each, of
    /// control batches all; for a snapshot its bytes in any cut. `now_ms` becomes the last use of the producers in it.
    ///
    /// # Errors
    /// Whatever shows damage; then the state is of no use.
    pub fn feed(&mut self, slice: &SliceHeader, parts: &[Bytes], now_ms: i64) -> Result<(), LogError> {
        self.reach = self.reach.max(slice.end);
        if slice.end <= self.state.end() || slice.base > self.state.end() && slice.kind == SliceKind::Records {
            return Ok(());
        }
        match slice.kind {
            SliceKind::Records => {
                for part in parts {
                    let batch = StoredBatch::read(part)?;
                    if self.state.replay(&batch, now_ms)? == Replayed::Beyond {
                        return Ok(());
                    }
                }
            }
            // It is exact further on than what was replayed: nothing between is needed.
            SliceKind::Snapshot => self.state = decode_parts(parts)?,
        }
        Ok(())
    }

    /// # Errors
    /// [`LogError::Gap`] if a whole pass found nothing to go on with, although slices behind it exist.
    pub fn finish_pass(self) -> Result<Pass, LogError> {
        let (end, reach) = (self.state.end(), self.reach);
        if end >= reach {
            return Ok(Pass::Complete(self.state));
        }
        if end == self.began {
            return Err(LogError::Gap { end, reach });
        }
        Ok(Pass::Again(Self { began: end, ..self }))
    }
}

fn decode_parts(parts: &[Bytes]) -> Result<PartitionState, LogError> {
    match parts {
        [whole] => PartitionState::decode_snapshot(whole),
        cut => PartitionState::decode_snapshot(&cut.concat()),
    }
}

#[cfg(test)]
mod tests;
