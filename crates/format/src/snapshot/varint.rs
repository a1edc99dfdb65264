//! Integers in as few bytes as they need: seven bits a byte, the low ones first, the high bit set on all but the last.
//! Signed ones are folded first, so that small ones of either sign are short.

use bytes::{Buf, BufMut};

use super::{WHAT, invalid};
use crate::FormatError;

/// The longest that a `u64` becomes.
pub(super) const MAX_BYTES: usize = 10;

pub(super) fn put_u64(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

pub(super) fn put_i64(out: &mut impl BufMut, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// # Errors
/// The input ends inside it, or it has more than 64 bits.
pub(super) fn get_u64(input: &mut &[u8]) -> Result<u64, FormatError> {
    let mut value = 0;
    for at in 0..MAX_BYTES {
        if input.is_empty() {
            return Err(FormatError::Truncated {
                what: WHAT,
                need: at + 1,
                have: at,
            });
        }
        let byte = u64::from(input.get_u8());
        let bits = byte & 0x7f;
        if at == MAX_BYTES - 1 && bits > 1 {
            break;
        }
        value |= bits << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(invalid("an integer of more than 64 bits".to_owned()))
}

/// # Errors
/// As [`get_u64`].
pub(super) fn get_i64(input: &mut &[u8]) -> Result<i64, FormatError> {
    let folded = get_u64(input)?;
    Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
}
