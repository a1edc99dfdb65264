//! Finds the batch that holds an offset.

use tailwater_types::Offset;

use super::{BatchError, BatchHeader, LENGTH_END, at, field, size_of_batch};

/// The position in `run`, whole batches with ascending offsets, of the batch that holds `offset`; where none does, of the
/// first one behind it. `None` if the run ends before `offset`.
///
/// Compares base offsets, and reads the last offset of one batch only: of the last that doesn't begin behind `offset`.
///
/// # Errors
/// The run is cut off, or has a length that no batch has.
pub fn locate(run: &[u8], offset: Offset) -> Result<Option<usize>, BatchError> {
    let mut candidate = None;
    let mut position = 0;
    while position < run.len() {
        let rest = &run[position..];
        if rest.len() < LENGTH_END {
            return Err(BatchError::Truncated {
                needed: LENGTH_END,
                available: rest.len(),
            });
        }
        if i64::from_be_bytes(field(rest, at::BASE_OFFSET)) > offset.0 {
            break;
        }
        candidate = Some(position);
        let needed = size_of_batch(i32::from_be_bytes(field(rest, at::LENGTH)))?;
        if rest.len() < needed {
            return Err(BatchError::Truncated {
                needed,
                available: rest.len(),
            });
        }
        position += needed;
    }
    if let Some(candidate) = candidate
        && BatchHeader::read(&run[candidate..])?.end_offset() > offset
    {
        return Ok(Some(candidate));
    }
    Ok((position < run.len()).then_some(position))
}
