//! CRC32C of concatenated bytes from the CRCs of the parts, so that no byte is summed twice.
//!
//! A CRC is a polynomial over GF(2), modulo CRC32C's; appending n bytes multiplies it by x^(8n). With the powers
//! x^(2^k) in a table that takes one product per bit that is set in n: tens of nanoseconds, as long as summing 1 KiB, where
//! squaring bit matrices (the `crc32c` crate's way) takes ten microseconds, as long as summing 200 KiB.

/// CRC32C's polynomial, reflected: bit 31 is x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const ONE: u32 = 1 << 31;

/// Below this many bytes, summing them again takes less time than combining.
const COMBINE_FROM_BYTES: usize = 8 * 1024;

/// x^(2^k). They repeat from here on: x has the order 2^31 - 1, since the polynomial has the factor x + 1.
const POWERS: [u32; 31] = {
    let mut powers = [ONE >> 1; 31];
    let mut k = 1;
    while k < 31 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// The CRC32C of A followed by B, from those of A and B and B's length in bytes.
#[must_use]
pub fn combine(a: u32, b: u32, b_bytes: usize) -> u32 {
    shift(a, b_bytes) ^ b
}

/// The CRC32C of what `sum` covers followed by `bytes`, whose own is `bytes_crc`: summed or combined, whichever is cheaper.
#[must_use]
pub fn append(sum: u32, bytes: &[u8], bytes_crc: u32) -> u32 {
    if bytes.len() < COMBINE_FROM_BYTES {
        crc32c::crc32c_append(sum, bytes)
    } else {
        combine(sum, bytes_crc, bytes.len())
    }
}

/// The CRC32C of bytes with a patched front, from the one before and the fronts' own.
#[must_use]
pub fn replace_front(whole: u32, old_front: u32, new_front: u32, rest_bytes: usize) -> u32 {
    whole ^ shift(old_front ^ new_front, rest_bytes)
}

/// `crc` times x^(8 `bytes`).
fn shift(crc: u32, mut bytes: usize) -> u32 {
    let mut product = crc;
    // 8 is 2^3.
    let mut k = 3;
    while bytes != 0 {
        if bytes & 1 == 1 {
            product = multiply(POWERS[k % 31], product);
        }
        bytes >>= 1;
        k += 1;
    }
    product
}

/// `a` times `b`, modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = ONE;
    while bit != 0 {
        // All ones if the bit is set: a branch here would be guessed wrong half the time.
        product ^= b & 0u32.wrapping_sub((a & bit != 0) as u32);
        b = (b >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(b & 1));
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Combining gives what summing the concatenation gives.
        #[test]
        fn combines(a: Vec<u8>, b: Vec<u8>) {
            let whole = [a.clone(), b.clone()].concat();
            let combined = combine(crc32c::crc32c(&a), crc32c::crc32c(&b), b.len());
            prop_assert_eq!(combined, crc32c::crc32c(&whole));
        }

        /// Long lengths, too, against another implementation.
        #[test]
        fn combines_at_any_length(a: u32, b: u32, b_bytes in 0usize..1 << 40) {
            prop_assert_eq!(combine(a, b, b_bytes), crc32c::crc32c_combine(a, b, b_bytes));
        }

        /// Appending gives what summing gives, on both sides of the choice.
        #[test]
        fn appends(a: Vec<u8>, b in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let whole = [a.clone(), b.clone()].concat();
            prop_assert_eq!(append(crc32c::crc32c(&a), &b, crc32c::crc32c(&b)), crc32c::crc32c(&whole));
        }

        /// A patched front changes the sum as summing again would.
        #[test]
        fn replaces_a_front(old: [u8; 40], new: [u8; 40], rest: Vec<u8>) {
            let sum = |front: &[u8]| crc32c::crc32c(&[front, &rest].concat());
            let replaced = replace_front(sum(&old), crc32c::crc32c(&old), crc32c::crc32c(&new), rest.len());
            prop_assert_eq!(replaced, sum(&new));
        }
    }
}
