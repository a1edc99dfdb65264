//! The APIs: their keys, their versions, and any request of those that are served.
//!
//! An API whose messages are known before anybody answers them stands in the second list. Then it has a key and a table,
//! and no client hears of it: to serve it, move its line up and give it a handler.

use std::fmt;

use crate::messages::*;
use crate::{CodecError, Message as _, Reader, Versions, Wire as _};

/// The first version of Metadata whose lists have compact lengths.
const FIRST_FLEXIBLE_METADATA: i16 = 9;

/// Whether bytes behind a request's end are passed over, as Kafka does. librdkafka, up to 2.16 at least, asks for all topics
/// with a length of four bytes where one is due: what it says is understood, and three bytes are left.
fn may_be_longer(api: ApiKey, version: i16) -> bool {
    api == ApiKey::Metadata && version >= FIRST_FLEXIBLE_METADATA
}

macro_rules! apis {
    (
        $($key:literal $name:ident($request:ident) $(advertised $min:literal..=$max:literal)?,)*
        unserved: $($unserved_key:literal $unserved:ident($unserved_request:ident),)*
    ) => {
        /// An API by its number on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)*
            $($unserved = $unserved_key,)*
        }

        impl ApiKey {
            /// Those that are served.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The versions that can be decoded.
            pub const fn versions(self) -> Versions {
                match self {
                    $(Self::$name => $request::VERSIONS,)*
                    $(Self::$unserved => $unserved_request::VERSIONS,)*
                }
            }

            /// The versions that clients are told of, if it is served.
            pub const fn advertised(self) -> Versions {
                match self {
                    $(Self::$name => apis!(@advertised $request $($min $max)?),)*
                    $(Self::$unserved => $unserved_request::VERSIONS,)*
                }
            }

            /// Whether `version` is flexible (KIP-482), also where it isn't served.
            pub const fn is_flexible(self, version: i16) -> bool {
                version >= match self {
                    $(Self::$name => $request::FLEXIBLE,)*
                    $(Self::$unserved => $unserved_request::FLEXIBLE,)*
                }
            }
        }

        /// Only those that are served.
        impl TryFrom<i16> for ApiKey {
            type Error = CodecError;

            fn try_from(key: i16) -> Result<Self, CodecError> {
                match key {
                    $($key => Ok(Self::$name),)*
                    _ => Err(CodecError::UnknownApi(key)),
                }
            }
        }

        /// Any request that is served.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $($name($request),)*
        }

        impl Request {
            /// The request behind a header. Bytes behind its end are an error, but for those that a client is known to
            /// send (`may_be_longer`).
            ///
            /// # Errors
            /// [`CodecError::UnsupportedVersion`], or the bytes are no such request.
            pub fn decode(api: ApiKey, version: i16, mut body: Reader) -> Result<Self, CodecError> {
                let request = match api {
                    $(ApiKey::$name => Self::$name($request::read(&mut body, $request::version(version)?)?),)*
                    $(ApiKey::$unserved => return Err(CodecError::UnknownApi($unserved_key)),)*
                };
                if !may_be_longer(api, version) {
                    body.finish()?;
                }
                Ok(request)
            }
        }

        $(impl From<$request> for Request {
            fn from(request: $request) -> Self {
                Self::$name(request)
            }
        })*
    };
    (@advertised $request:ident) => { $request::VERSIONS };
    (@advertised $request:ident $min:literal $max:literal) => { Versions { min: $min, max: $max } };
}

apis! {
    // librdkafka before 2.11.1 stops compressing where Produce isn't advertised from 0.
    0 Produce(ProduceRequest) advertised 0..=13,
    1 Fetch(FetchRequest),
    2 ListOffsets(ListOffsetsRequest),
    3 Metadata(MetadataRequest),
    8 OffsetCommit(OffsetCommitRequest),
    9 OffsetFetch(OffsetFetchRequest),
    10 FindCoordinator(FindCoordinatorRequest),
    11 JoinGroup(JoinGroupRequest),
    12 Heartbeat(HeartbeatRequest),
    13 LeaveGroup(LeaveGroupRequest),
    14 SyncGroup(SyncGroupRequest),
    15 DescribeGroups(DescribeGroupsRequest),
    16 ListGroups(ListGroupsRequest),
    18 ApiVersions(ApiVersionsRequest),
    19 CreateTopics(CreateTopicsRequest),
    20 DeleteTopics(DeleteTopicsRequest),
    21 DeleteRecords(DeleteRecordsRequest),
    // Version 6 is not stable in Kafka 4.3, so Kafka doesn't advertise it either.
    22 InitProducerId(InitProducerIdRequest) advertised 0..=5,
    23 OffsetForLeaderEpoch(OffsetForLeaderEpochRequest),
    24 AddPartitionsToTxn(AddPartitionsToTxnRequest),
    25 AddOffsetsToTxn(AddOffsetsToTxnRequest),
    26 EndTxn(EndTxnRequest),
    27 WriteTxnMarkers(WriteTxnMarkersRequest),
    28 TxnOffsetCommit(TxnOffsetCommitRequest),
    32 DescribeConfigs(DescribeConfigsRequest),
    33 AlterConfigs(AlterConfigsRequest),
    35 DescribeLogDirs(DescribeLogDirsRequest),
    37 CreatePartitions(CreatePartitionsRequest),
    42 DeleteGroups(DeleteGroupsRequest),
    43 ElectLeaders(ElectLeadersRequest),
    44 IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
    45 AlterPartitionReassignments(AlterPartitionReassignmentsRequest),
    46 ListPartitionReassignments(ListPartitionReassignmentsRequest),
    47 OffsetDelete(OffsetDeleteRequest),
    55 DescribeQuorum(DescribeQuorumRequest),
    57 UpdateFeatures(UpdateFeaturesRequest),
    60 DescribeCluster(DescribeClusterRequest),
    61 DescribeProducers(DescribeProducersRequest),
    65 DescribeTransactions(DescribeTransactionsRequest),
    66 ListTransactions(ListTransactionsRequest),
    68 ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    69 ConsumerGroupDescribe(ConsumerGroupDescribeRequest),
    74 ListConfigResources(ListConfigResourcesRequest),
    75 DescribeTopicPartitions(DescribeTopicPartitionsRequest),

    unserved:
}

impl ApiKey {
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.code())
    }
}

/// What an ApiVersions response says about `apis`.
pub fn supported(apis: &[ApiKey]) -> Vec<ApiVersion> {
    let entry = |api: &ApiKey| {
        let Versions { min, max } = api.advertised();
        ApiVersion {
            api_key: api.code(),
            min_version: min,
            max_version: max,
        }
    };
    apis.iter().map(entry).collect()
}
