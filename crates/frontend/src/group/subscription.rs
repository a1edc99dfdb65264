//! What a consumer says in its JoinGroup: the topics that it wants (Kafka's `ConsumerProtocolSubscription`).
//!
//! Owns: reading the part that all versions share, a version and a list of topics. Everything else in it is between the
//! members.

/// The topics, or `None` if it can't be read.
pub(super) fn topics(metadata: &[u8]) -> Option<Vec<&str>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = u32::try_from(i32::from_be_bytes(*count)).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (topic, behind) = behind.split_at_checked(length)?;
        topics.push(std::str::from_utf8(topic).ok()?);
        rest = behind;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Topics are read whatever stands behind them; what is cut or lies about its lengths can't be read.
    #[test]
    fn topics_are_read_and_forged_lengths_are_not() {
        let good = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(topics(good), Some(vec!["a", "bc"]));
        assert_eq!(topics(b"\0\x01\0\0\0\0"), Some(Vec::new()));
        for cut in 0..13 {
            assert_eq!(topics(&good[..cut]), None, "{cut}");
        }
        for forged in [
            &b"\0\0\xff\xff\xff\xff"[..],
            b"\0\0\x7f\xff\xff\xff\0\x01a",
            b"\0\0\0\0\0\x01\xff\xff",
            b"\0\0\0\0\0\x01\x7f\xffa",
            b"\0\0\0\0\0\x01\0\x01\xff",
        ] {
            assert_eq!(topics(forged), None);
        }
    }
}
