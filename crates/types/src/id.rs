//! Identities. Small numbers are given out by the controller; UUIDs are made once by whoever creates the thing.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// The log of one partition. Never reused: a recreated topic has new streams.
    StreamId(u64)
);
number_id!(
    /// The sequence of everything that one frontend has written since it opened it.
    JournalId(u64)
);
number_id!(
    /// A file in object storage. Never reused.
    ObjectId(u64)
);
number_id!(
    /// One piece of work that a compactor leases from the controller.
    TaskId(u64)
);
number_id!(
    /// A process of any tier; for frontends also Kafka's broker id, so at most `i32::MAX`.
    NodeId(u32)
);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a version 4 UUID out of 128 random bits.
            pub fn from_random(bits: u128) -> Self {
                Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
            }

            /// The id whose 16 bytes, big-endian, are `bytes`.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes, big-endian.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }
        }

        /// Kafka's text form of a UUID: 22 characters of URL-safe base64 without padding.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ParseIdError)?;
                let bytes: [u8; 16] = bytes.try_into().map_err(|_| ParseIdError)?;
                Ok(Self::from_bytes(bytes))
            }
        }
    };
}

uuid_id!(
    /// One cluster, made when its metadata store is first opened.
    ClusterId
);
uuid_id!(
    /// One formatting of one WAL device: a node that comes back with another device is a stranger to the old one's journals.
    DeviceId
);
uuid_id!(
    /// Kafka's topic id (KIP-516).
    TopicId
);

/// A text that is not 22 characters of URL-safe base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected 22 characters of URL-safe base64")]
pub struct ParseIdError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_kafkas_and_reads_back() {
        let id = TopicId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "AAECAwQFBgcICQoLDA0O_w");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("short".parse::<TopicId>(), Err(ParseIdError));
    }

    #[test]
    fn random_ids_are_version_4() {
        assert_eq!(ClusterId::from_random(u128::MAX).0.get_version_num(), 4);
    }
}
