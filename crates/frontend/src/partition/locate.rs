//! Taking whole batches out of a run of them.
//!
//! Pure. Owns: from which batch on, and how many. Base offsets and lengths are all that is looked at, but for the last
//! batch taken, whose end is read once.

use bytes::Bytes;
use tailwater_kafka::batch::{BatchError, BatchHeader, locate};
use tailwater_types::Offset;

/// Whole batches and where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub bytes: Bytes,
    pub next: Offset,
    /// Whether the run's end was reached, rather than a bound.
    pub exhausted: bool,
}

/// How much to take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// No batch that begins at or above it.
    pub end: Offset,
    pub max_bytes: usize,
    /// The first batch is taken however large it is.
    pub first_whole: bool,
}

/// The batches of `run` from the one that holds `offset` (or the first behind it) on; `None` if the bounds leave none.
///
/// # Errors
/// The run isn't one of whole batches.
pub(super) fn take(run: &Bytes, offset: Offset, bounds: Bounds) -> Result<Option<Taken>, BatchError> {
    let Some(start) = locate(run, offset)? else {
        return Ok(None);
    };
    let (mut position, mut last) = (start, None);
    let mut exhausted = true;
    while position < run.len() {
        let header = BatchHeader::read(&run[position..])?;
        let behind = position + header.size();
        let fits = behind - start <= bounds.max_bytes || (bounds.first_whole && last.is_none());
        if header.base_offset >= bounds.end || !fits {
            exhausted = false;
            break;
        }
        if behind > run.len() {
            return Err(BatchError::Truncated {
                needed: header.size(),
                available: run.len() - position,
            });
        }
        last = Some(header);
        position = behind;
    }
    Ok(last.map(|last| Taken {
        bytes: run.slice(start..position),
        next: last.end_offset(),
        exhausted,
    }))
}

#[cfg(test)]
mod tests {
    use tailwater_kafka::batch::{BatchBuilder, assign};
    use tailwater_types::LeaderEpoch;

    use super::*;

    /// Batches of two records each, the first at offset 10.
    fn run(batches: i64) -> Bytes {
        let batch = |number: i64| {
            let mut builder = BatchBuilder::new();
            builder.push(0, None, Some(b"a"), &[]);
            builder.push(0, None, Some(b"b"), &[]);
            let mut batch = builder.build();
            assign(&mut batch, Offset(10 + 2 * number), LeaderEpoch(0));
            batch.freeze()
        };
        (0..batches).map(batch).collect::<Vec<_>>().concat().into()
    }

    fn bounds(end: i64, max_bytes: usize) -> Bounds {
        Bounds {
            end: Offset(end),
            max_bytes,
            first_whole: true,
        }
    }

    /// Rule 4: an offset in the middle of a batch gives the whole batch.
    #[test]
    fn rule_4_the_whole_batch_is_returned() {
        let run = run(3);
        let size = run.len() / 3;
        let taken = take(&run, Offset(13), bounds(100, usize::MAX)).unwrap().unwrap();
        assert_eq!(taken.bytes, run.slice(size..));
        assert_eq!((taken.next, taken.exhausted), (Offset(16), true));
    }

    /// The first batch is taken however large it is, others only if they fit, none from the end on.
    #[test]
    fn bounds_hold_behind_the_first_batch() {
        let run = run(4);
        let size = run.len() / 4;
        let length = |end, max_bytes| {
            let taken = take(&run, Offset(10), bounds(end, max_bytes)).unwrap();
            taken.map(|taken| taken.bytes.len() / size)
        };
        assert_eq!(length(100, 1), Some(1));
        assert_eq!(length(100, 3 * size - 1), Some(2));
        assert_eq!(length(14, usize::MAX), Some(2));
        assert_eq!(length(10, usize::MAX), None);
        let strict = Bounds {
            first_whole: false,
            ..bounds(100, size - 1)
        };
        assert_eq!(take(&run, Offset(10), strict).unwrap(), None);
    }
}
