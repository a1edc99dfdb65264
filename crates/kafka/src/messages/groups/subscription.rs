//! What a consumer says of itself to the leader of its group (Kafka's `ConsumerProtocolSubscription`). A coordinator reads it
//! only where it assigns itself.

use bytes::Bytes;

use super::AssignedPartitions;
use crate::{CodecError, Message, Reader, Str, Version, Wire as _};

message! {
    ConsumerSubscription, versions 0..=3, flexible i16::MAX, {
        topics: Vec<Str>,
        /// Between the members.
        user_data: Option<Bytes>,
        /// What the member has while it joins.
        owned_partitions: Vec<AssignedPartitions> [1.., ignorable],
        /// When it got that.
        generation_id: i32 [2.., ignorable] = -1,
        rack_id: Option<Str> [3.., ignorable],
    }
}

impl ConsumerSubscription {
    /// The subscription behind its version, in any version: what newer ones add stands behind what is read here.
    ///
    /// # Errors
    /// The bytes are no subscription.
    pub fn decode_any(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let number = i16::from_be_bytes(reader.array()?).clamp(Self::VERSIONS.min, Self::VERSIONS.max);
        let flexible = false;
        Self::read(&mut reader, Version { number, flexible })
    }

    /// The version that stands in front of one; of none, the first.
    pub fn version_of(bytes: &[u8]) -> i16 {
        let number = bytes.first_chunk::<2>().map(|bytes| i16::from_be_bytes(*bytes));
        number.unwrap_or_default().clamp(Self::VERSIONS.min, Self::VERSIONS.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kafka's layout: a version, topics, bytes of the members' own, and from version 1 on what the member has.
    #[test]
    fn subscriptions_are_read_in_every_version() {
        let start = b"\0\0\0\x01\0\x01t\xff\xff\xff\xff";
        let owned = b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x05";
        let mut subscription = ConsumerSubscription {
            topics: vec!["t".into()],
            ..ConsumerSubscription::default()
        };
        let read = |version: u8, parts: &[&[u8]]| {
            let bytes = [&[0, version][..], &parts.concat()].concat();
            assert_eq!(ConsumerSubscription::version_of(&bytes), i16::from(version).min(3));
            ConsumerSubscription::decode_any(&bytes)
        };
        assert_eq!(read(0, &[start]), Ok(subscription.clone()));
        subscription.owned_partitions = vec![AssignedPartitions {
            topic: "t".into(),
            partitions: vec![5],
        }];
        assert_eq!(read(1, &[start, owned]), Ok(subscription.clone()));
        subscription.generation_id = 7;
        assert_eq!(read(2, &[start, owned, b"\0\0\0\x07"]), Ok(subscription.clone()));
        subscription.rack_id = Some("r".into());
        let whole: [&[u8]; 4] = [start, owned, b"\0\0\0\x07", b"\0\x01r"];
        assert_eq!(read(3, &whole), Ok(subscription.clone()));
        assert_eq!(read(9, &[&whole.concat(), b"more"]), Ok(subscription));
        assert!(read(1, &[start]).is_err());
        assert_eq!(ConsumerSubscription::version_of(b"\0"), 0);
        assert_eq!(ConsumerSubscription::version_of(b"\xff\xff"), 0);
    }
}
