//! What the leader of a group of consumers hands a member: the partitions that are its own (Kafka's
//! `ConsumerProtocolAssignment`). Brokers pass it on unread; tools show it.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{CodecError, Message, Reader, Str, Version, Wire as _};

message! {
    ConsumerAssignment, versions 0..=3, flexible i16::MAX, {
        assigned_partitions: Vec<AssignedPartitions>,
        /// Between the members.
        user_data: Option<Bytes>,
    }
}

structure! {
    AssignedPartitions {
        topic: Str,
        partitions: Vec<i32>,
    }
}

impl ConsumerAssignment {
    /// The assignment behind its version, in any version: what newer ones add stands behind what is read here.
    ///
    /// # Errors
    /// The bytes are no assignment.
    pub fn decode_any(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let number = i16::from_be_bytes(reader.array()?);
        let flexible = false;
        Self::read(&mut reader, Version { number, flexible })
    }

    /// The assignment with its version in front.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn encode_with_version(&self, version: i16) -> Result<Bytes, CodecError> {
        let message = self.encode(version)?;
        let mut bytes = BytesMut::with_capacity(2 + message.len());
        bytes.put_i16(version);
        bytes.put_slice(&message);
        Ok(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kafka's layout: a version, topics with partitions, bytes of the members' own; what follows in newer versions is left.
    #[test]
    fn assignments_are_read_in_every_version() {
        let bytes = b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\0\0\0\0\x05\xff\xff\xff\xff";
        let assignment = ConsumerAssignment {
            assigned_partitions: vec![AssignedPartitions {
                topic: "ab".into(),
                partitions: vec![0, 5],
            }],
            user_data: None,
        };
        assert_eq!(assignment.encode_with_version(1).unwrap(), &bytes[..]);
        assert_eq!(ConsumerAssignment::decode_any(bytes).as_ref(), Ok(&assignment));
        let newer = [b"\0\x09", &bytes[2..], b"more"].concat();
        assert_eq!(ConsumerAssignment::decode_any(&newer), Ok(assignment));
        for cut in 0..bytes.len() {
            assert!(ConsumerAssignment::decode_any(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
