//! CRC32C of bytes behind one another, out of the sums that are known already.
//!
//! Record bytes are summed once, when they are validated; every later sum over them is combined from that one.
//! The `crc32c` crate can combine too, but at the price of summing some 100 KiB; this takes as long as some KiB.

/// The Castagnoli polynomial, bits reversed: bit 31 is x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Below this many bytes, summing them again takes less time than combining.
const COMBINE_FROM_BYTES: usize = 8 * 1024;

/// x^(8 · 2^k) modulo the polynomial: what 2^k zero bytes multiply a sum by.
const ZERO_BYTES: [u32; 64] = {
    let mut powers = [0; 64];
    powers[0] = 1 << (31 - 8);
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// The sum of two pieces behind one another, from their sums and the length of the second.
#[must_use]
pub fn combine(first: u32, second: u32, second_bytes: usize) -> u32 {
    let mut shifted = first;
    let mut left = second_bytes;
    while left != 0 {
        shifted = multiply(ZERO_BYTES[left.trailing_zeros() as usize], shifted);
        left &= left - 1;
    }
    shifted ^ second
}

/// The sum of what `sum` covers with `bytes` behind it, whose own sum is `bytes_crc`.
#[must_use]
pub fn append(sum: u32, bytes: &[u8], bytes_crc: u32) -> u32 {
    if bytes.len() < COMBINE_FROM_BYTES {
        crc32c::crc32c_append(sum, bytes)
    } else {
        combine(sum, bytes_crc, bytes.len())
    }
}

/// The product of two polynomials modulo the Castagnoli one, without branches on their bits.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut power = 32;
    while power != 0 {
        power -= 1;
        product ^= b & ((a >> power) & 1).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Combining gives what summing the bytes gives, at any cut.
        #[test]
        fn combining_is_summing(bytes in proptest::collection::vec(any::<u8>(), 0..20_000), cut in 0..20_000_usize) {
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let (a, b) = (crc32c::crc32c(first), crc32c::crc32c(second));
            prop_assert_eq!(combine(a, b, second.len()), crc32c::crc32c(&bytes));
            prop_assert_eq!(append(a, second, b), crc32c::crc32c(&bytes));
        }
    }

    /// A long second piece uses the high powers.
    #[test]
    fn long_pieces_combine() {
        let zeros = vec![0; 3 << 20];
        let sum = crc32c::crc32c_append(crc32c::crc32c(b"head"), &zeros);
        assert_eq!(
            combine(crc32c::crc32c(b"head"), crc32c::crc32c(&zeros), zeros.len()),
            sum
        );
    }
}
