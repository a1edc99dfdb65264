//! A stream's snapshot: its state, exact at one offset; see the `log` crate for what the state means.
//!
//! ```text
//! 0   u32  magic "TWSN"
//! 4   u8   version (1)
//! 5   u8   0
//! 6   u16  0
//! 8   i64  end: the offset at which it is exact
//! 16  u32  leader epoch count
//! 20  u32  producer count
//! 24  leader epochs, ascending, 12 bytes each: i32 epoch, i64 start offset
//! ..  producers, ascending by id: i64 id, i64 last used (ms), i16 epoch, u8 batch count (0 to 5), u8 0;
//!     then its batches, oldest first, 24 bytes each: i32 first sequence, i32 last sequence, i64 base offset,
//!     i64 max timestamp (ms)
//! ```
//!
//! It has no sum of its own: whatever stores it (a journal's slice, an object) sums its bytes. Open and aborted
//! transactions will come with another version.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tailwater_types::{LeaderEpoch, Offset};

use crate::FormatError;

const MAGIC: u32 = u32::from_be_bytes(*b"TWSN");
const VERSION: u8 = 1;
const FIXED_BYTES: usize = 24;
const EPOCH_BYTES: usize = 12;
const PRODUCER_BYTES: usize = 20;
const BATCH_BYTES: usize = 24;
const WHAT: &str = "stream snapshot";

/// How many of a producer's batches are remembered (Kafka's `ProducerStateEntry`: 5, the most an idempotent client has
/// in flight).
pub const PRODUCER_BATCHES: usize = 5;

/// A stream's state at `end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub end: Offset,
    /// Ascending by epoch and start.
    pub leader_epochs: Vec<EpochStart>,
    /// Ascending by id.
    pub producers: Vec<Producer>,
}

/// The first offset that was written in a leader epoch. An epoch in which nothing was written has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start: Offset,
}

/// What is remembered of one idempotent producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    /// When its last batch was applied, by the clock of whoever applied it.
    pub last_used_ms: i64,
    /// Of this epoch, oldest first, at most [`PRODUCER_BATCHES`].
    pub batches: Vec<ProducerBatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    pub first_sequence: i32,
    /// Below the first one where the sequence went beyond `i32::MAX` inside the batch.
    pub last_sequence: i32,
    pub base_offset: Offset,
    /// Milliseconds since the Unix epoch; -1 where no record has one.
    pub max_timestamp_ms: i64,
}

impl Snapshot {
    /// Bytes that [`Snapshot::encode`] makes.
    pub fn encoded_bytes(&self) -> usize {
        let batches: usize = self.producers.iter().map(|producer| producer.batches.len()).sum();
        FIXED_BYTES
            + self.leader_epochs.len() * EPOCH_BYTES
            + self.producers.len() * PRODUCER_BYTES
            + batches * BATCH_BYTES
    }

    /// # Panics
    /// If a producer has more than [`PRODUCER_BATCHES`] batches, or there are 2^32 of anything.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        out.put_u32(MAGIC);
        out.put_u8(VERSION);
        out.put_bytes(0, 3);
        out.put_i64(self.end.0);
        out.put_u32(u32::try_from(self.leader_epochs.len()).expect("epochs are counted in 31 bits"));
        out.put_u32(u32::try_from(self.producers.len()).expect("producers are bounded far below"));
        for start in &self.leader_epochs {
            out.put_i32(start.epoch.0);
            out.put_i64(start.start.0);
        }
        for producer in &self.producers {
            assert!(producer.batches.len() <= PRODUCER_BATCHES, "batches are bounded");
            out.put_i64(producer.id);
            out.put_i64(producer.last_used_ms);
            out.put_i16(producer.epoch);
            out.put_u8(producer.batches.len() as u8);
            out.put_u8(0);
            for batch in &producer.batches {
                out.put_i32(batch.first_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.base_offset.0);
                out.put_i64(batch.max_timestamp_ms);
            }
        }
        out.freeze()
    }

    /// # Errors
    /// Whatever makes the bytes no snapshot, bytes behind its end included.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, FormatError> {
        let input = &mut bytes;
        require(input, FIXED_BYTES)?;
        let found = input.get_u32();
        if found != MAGIC {
            return Err(FormatError::Magic {
                what: WHAT,
                expected: MAGIC,
                found,
            });
        }
        let found = input.get_u8();
        if found != VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                newest: VERSION,
                found,
            });
        }
        input.advance(3);
        let end = Offset(input.get_i64());
        let (epochs, producers) = (input.get_u32() as usize, input.get_u32() as usize);
        // Before anything is allocated: the counts are no more than the bytes can hold.
        require(
            input,
            epochs
                .saturating_mul(EPOCH_BYTES)
                .saturating_add(producers.saturating_mul(PRODUCER_BYTES)),
        )?;
        let leader_epochs = decode_epochs(input, epochs, end)?;
        let mut snapshot = Self {
            end,
            leader_epochs,
            producers: Vec::with_capacity(producers),
        };
        for _ in 0..producers {
            let producer = decode_producer(input, end)?;
            if snapshot.producers.last().is_some_and(|last| last.id >= producer.id) {
                return Err(invalid(format!("producer {} out of order", producer.id)));
            }
            snapshot.producers.push(producer);
        }
        if !input.is_empty() {
            return Err(invalid(format!("{} bytes behind its end", input.len())));
        }
        Ok(snapshot)
    }
}

/// `count` times [`EPOCH_BYTES`] are left.
fn decode_epochs(input: &mut &[u8], count: usize, end: Offset) -> Result<Vec<EpochStart>, FormatError> {
    let mut starts: Vec<EpochStart> = Vec::with_capacity(count);
    for _ in 0..count {
        let next = EpochStart {
            epoch: LeaderEpoch(input.get_i32()),
            start: Offset(input.get_i64()),
        };
        let ascends = starts
            .last()
            .is_none_or(|last| last.epoch < next.epoch && last.start < next.start);
        if !ascends || next.epoch.0 < 0 || next.start.0 < 0 || next.start >= end {
            return Err(invalid(format!(
                "leader epoch {} at {} below end {end}",
                next.epoch, next.start
            )));
        }
        starts.push(next);
    }
    Ok(starts)
}

fn decode_producer(input: &mut &[u8], end: Offset) -> Result<Producer, FormatError> {
    require(input, PRODUCER_BYTES)?;
    let (id, last_used_ms, epoch) = (input.get_i64(), input.get_i64(), input.get_i16());
    let count = usize::from(input.get_u8());
    input.advance(1);
    if id < 0 || epoch < 0 || count > PRODUCER_BATCHES {
        return Err(invalid(format!("producer {id}, epoch {epoch}, {count} batches")));
    }
    require(input, count * BATCH_BYTES)?;
    let batches: Vec<_> = (0..count)
        .map(|_| ProducerBatch {
            first_sequence: input.get_i32(),
            last_sequence: input.get_i32(),
            base_offset: Offset(input.get_i64()),
            max_timestamp_ms: input.get_i64(),
        })
        .collect();
    let ascend = batches.is_sorted_by(|a, b| a.base_offset < b.base_offset);
    let inside = batches
        .iter()
        .all(|batch| batch.base_offset.0 >= 0 && batch.base_offset < end);
    if !ascend || !inside {
        return Err(invalid(format!("offsets of producer {id}'s batches")));
    }
    Ok(Producer {
        id,
        epoch,
        last_used_ms,
        batches,
    })
}

fn require(bytes: &[u8], need: usize) -> Result<(), FormatError> {
    if bytes.len() < need {
        return Err(FormatError::Truncated {
            what: WHAT,
            need,
            have: bytes.len(),
        });
    }
    Ok(())
}

fn invalid(detail: String) -> FormatError {
    FormatError::Invalid { what: WHAT, detail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(first: i32, last: i32, base: i64) -> ProducerBatch {
        ProducerBatch {
            first_sequence: first,
            last_sequence: last,
            base_offset: Offset(base),
            max_timestamp_ms: 9,
        }
    }

    fn sample() -> Snapshot {
        let start = |epoch, start| EpochStart {
            epoch: LeaderEpoch(epoch),
            start: Offset(start),
        };
        Snapshot {
            end: Offset(40),
            leader_epochs: vec![start(0, 0), start(3, 17)],
            producers: vec![
                Producer {
                    id: 1_000,
                    epoch: 2,
                    last_used_ms: 77,
                    batches: vec![batch(0, 1, 20), batch(2, 2, 39)],
                },
                Producer {
                    id: 1_001,
                    epoch: 0,
                    last_used_ms: 78,
                    batches: vec![],
                },
            ],
        }
    }

    /// The layout is what is stored: it changes only with a new version.
    #[test]
    fn golden_bytes() {
        let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "5457534e01000000000000000000002800000002000000020000000000000000000000000000000300000000000000110000\
        0000000003e8000000000000004d000202000000000000000001000000000000001400000000000000090000000200000002\
        0000000000000027000000000000000900000000000003e9000000000000004e00000000";

    #[test]
    fn reads_back_what_was_written() {
        for snapshot in [sample(), Snapshot::default()] {
            let bytes = snapshot.encode();
            assert_eq!(bytes.len(), snapshot.encoded_bytes());
            assert_eq!(Snapshot::decode(&bytes), Ok(snapshot));
        }
    }

    #[test]
    fn any_cut_is_found() {
        let bytes = sample().encode();
        for length in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Snapshot::decode(&longer).is_err());
    }

    /// Counts that the input can't hold allocate nothing.
    #[test]
    fn forged_counts_are_refused() {
        let mut bytes = Snapshot::default().encode().to_vec();
        bytes[16..24].fill(0xff);
        assert!(matches!(Snapshot::decode(&bytes), Err(FormatError::Truncated { .. })));
    }

    proptest! {
        /// What decodes, whatever was changed in it, encodes to the same bytes but for the ones that mean nothing.
        #[test]
        fn mutations_are_refused_or_valid(at in 0_usize..136, bit in 0_u8..8) {
            let mut bytes = sample().encode().to_vec();
            prop_assert_eq!(bytes.len(), 136);
            bytes[at] ^= 1 << bit;
            if let Ok(snapshot) = Snapshot::decode(&bytes) {
                prop_assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
            }
        }
    }
}
