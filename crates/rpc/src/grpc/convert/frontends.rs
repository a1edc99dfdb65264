//! Messages of the port `Frontend`.

use tailwater_kafka::ErrorCode;
use tailwater_types::{NodeEpoch, NodeId};

use super::{all, enumerated, id_bytes, into_all, leader_epoch, number, required, topic_id, unspecified};
use crate::frontend::{AddPartitions, CallOrder, MarkedPartition, MarkerFor, Peer, WriteMarkers};
use crate::grpc::proto;
use crate::{Error, Result};

/// Kafka's codes of the partitions of one question, of which there were `asked`. A code that came later than this build is an
/// unknown error to it.
///
/// # Errors
/// [`Error::Invalid`] for an answer of another length, or a number that is no code.
pub(in crate::grpc) fn partition_errors(codes: &[i32], asked: usize) -> Result<Vec<ErrorCode>> {
    if codes.len() != asked {
        let answered = codes.len();
        return Err(Error::Invalid(format!(
            "{answered} partitions are answered, {asked} were asked for"
        )));
    }
    let one = |code: &i32| Ok(ErrorCode::from_code(number(*code, "errors")?));
    codes.iter().map(one).collect()
}

/// As above of many markers; `asked` is each one's number of partitions.
///
/// # Errors
/// As above.
pub(in crate::grpc) fn marker_errors(
    answer: &proto::WriteMarkersAnswer,
    asked: &[usize],
) -> Result<Vec<Vec<ErrorCode>>> {
    if answer.markers.len() != asked.len() {
        return Err(Error::Invalid(format!(
            "{} markers are answered, {} were asked for",
            answer.markers.len(),
            asked.len()
        )));
    }
    let markers = answer.markers.iter().zip(asked);
    markers
        .map(|(marker, asked)| partition_errors(&marker.errors, *asked))
        .collect()
}

pub(in crate::grpc) fn error_codes(errors: &[ErrorCode]) -> Vec<i32> {
    errors.iter().map(|error| error.code().into()).collect()
}

impl From<Vec<Vec<ErrorCode>>> for proto::WriteMarkersAnswer {
    fn from(errors: Vec<Vec<ErrorCode>>) -> Self {
        let marker = |errors: &Vec<ErrorCode>| proto::WrittenMarker {
            errors: error_codes(errors),
        };
        Self {
            markers: errors.iter().map(marker).collect(),
        }
    }
}

impl From<Peer> for proto::FrontendPeer {
    fn from(peer: Peer) -> Self {
        Self {
            node: peer.node.0,
            node_epoch: peer.node_epoch.0,
        }
    }
}

fn peer(peer: Option<proto::FrontendPeer>) -> Result<Peer> {
    let peer = required(peer, "from")?;
    Ok(Peer {
        node: NodeId(peer.node),
        node_epoch: NodeEpoch(peer.node_epoch),
    })
}

impl From<WriteMarkers> for proto::WriteMarkersRequest {
    fn from(request: WriteMarkers) -> Self {
        Self {
            from: Some(request.from.into()),
            markers: into_all(request.markers),
            number: request.order.number,
            over_below: request.order.over_below,
        }
    }
}

impl TryFrom<proto::WriteMarkersRequest> for WriteMarkers {
    type Error = Error;

    fn try_from(request: proto::WriteMarkersRequest) -> Result<Self> {
        Ok(Self {
            from: peer(request.from)?,
            order: CallOrder {
                number: request.number,
                over_below: request.over_below,
            },
            markers: all(request.markers)?,
        })
    }
}

impl From<MarkerFor> for proto::TransactionMarker {
    fn from(marker: MarkerFor) -> Self {
        let end = match marker.is_commit {
            true => proto::TransactionEnd::Commit,
            false => proto::TransactionEnd::Abort,
        };
        let partition = |partition: MarkedPartition| proto::MarkedPartition {
            topic: id_bytes(partition.topic.to_bytes()),
            index: partition.index,
            leader_epoch: partition.leader_epoch.map(|epoch| epoch.0),
        };
        Self {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch.into(),
            end: end.into(),
            coordinator_epoch: marker.coordinator_epoch.0,
            transaction_version: marker.transaction_version.into(),
            partitions: marker.partitions.into_iter().map(partition).collect(),
        }
    }
}

impl TryFrom<proto::TransactionMarker> for MarkerFor {
    type Error = Error;

    fn try_from(marker: proto::TransactionMarker) -> Result<Self> {
        let is_commit = match enumerated(marker.end, "markers.end")? {
            proto::TransactionEnd::Commit => true,
            proto::TransactionEnd::Abort => false,
            proto::TransactionEnd::Unspecified => return Err(unspecified("markers.end")),
        };
        let partition = |partition: proto::MarkedPartition| {
            let epoch = partition.leader_epoch;
            let epoch = epoch.map(|epoch| leader_epoch(epoch, "markers.partitions.leader_epoch"));
            Ok(MarkedPartition {
                topic: topic_id(&partition.topic, "markers.partitions.topic")?,
                index: partition.index,
                leader_epoch: epoch.transpose()?,
            })
        };
        Ok(Self {
            producer_id: marker.producer_id,
            producer_epoch: number(marker.producer_epoch, "markers.producer_epoch")?,
            is_commit,
            coordinator_epoch: leader_epoch(marker.coordinator_epoch, "markers.coordinator_epoch")?,
            transaction_version: number(marker.transaction_version, "markers.transaction_version")?,
            partitions: marker.partitions.into_iter().map(partition).collect::<Result<_>>()?,
        })
    }
}

impl From<AddPartitions> for proto::AddPartitionsRequest {
    fn from(request: AddPartitions) -> Self {
        let partition = |(topic, index): (String, i32)| proto::NamedPartition { topic, index };
        Self {
            from: Some(request.from.into()),
            transactional_id: request.transactional_id,
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch.into(),
            verify_only: request.verify_only,
            partitions: request.partitions.into_iter().map(partition).collect(),
        }
    }
}

impl TryFrom<proto::AddPartitionsRequest> for AddPartitions {
    type Error = Error;

    fn try_from(request: proto::AddPartitionsRequest) -> Result<Self> {
        let partition = |partition: proto::NamedPartition| (partition.topic, partition.index);
        Ok(Self {
            from: peer(request.from)?,
            transactional_id: request.transactional_id,
            producer_id: request.producer_id,
            producer_epoch: number(request.producer_epoch, "producer_epoch")?,
            verify_only: request.verify_only,
            partitions: request.partitions.into_iter().map(partition).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tailwater_types::{LeaderEpoch, TopicId};

    use super::super::tests::{refused, survives};
    use super::*;

    const PEER: Peer = Peer {
        node: NodeId(u32::MAX),
        node_epoch: NodeEpoch(u64::MAX),
    };

    fn marker() -> MarkerFor {
        MarkerFor {
            producer_id: i64::MAX,
            producer_epoch: i16::MAX,
            is_commit: true,
            coordinator_epoch: LeaderEpoch(i32::MAX),
            transaction_version: i8::MAX,
            partitions: vec![
                MarkedPartition {
                    topic: TopicId::from_bytes([3; 16]),
                    index: 0,
                    leader_epoch: Some(LeaderEpoch(i32::MAX)),
                },
                MarkedPartition {
                    topic: TopicId::from_bytes([0; 16]),
                    index: i32::MAX,
                    leader_epoch: None,
                },
            ],
        }
    }

    /// Both requests are themselves again behind the wire.
    #[test]
    fn requests_survive_the_wire() {
        let aborted = MarkerFor {
            producer_id: 0,
            producer_epoch: 0,
            is_commit: false,
            coordinator_epoch: LeaderEpoch(0),
            transaction_version: 0,
            partitions: Vec::new(),
        };
        survives::<_, proto::WriteMarkersRequest>(WriteMarkers {
            from: PEER,
            order: CallOrder {
                number: u64::MAX,
                over_below: 1,
            },
            markers: vec![marker(), aborted],
        });
        for verify_only in [true, false] {
            survives::<_, proto::AddPartitionsRequest>(AddPartitions {
                from: PEER,
                transactional_id: "ä".to_owned(),
                producer_id: -1,
                producer_epoch: -1,
                verify_only,
                partitions: vec![("t".to_owned(), 0), (String::new(), i32::MAX)],
            });
        }
    }

    /// Every code is itself again, of as many partitions as were asked for. One that came later is unknown, what can't be one is
    /// no answer.
    #[test]
    fn answers_survive_the_wire() {
        let errors = vec![ErrorCode::ALL.to_vec(), Vec::new(), vec![ErrorCode::None]];
        let answer = proto::WriteMarkersAnswer::from(errors.clone());
        let all = ErrorCode::ALL.len();
        assert_eq!(marker_errors(&answer, &[all, 0, 1]), Ok(errors));
        for asked in [&[all, 0][..], &[all, 1, 0], &[all, 0, 1, 0]] {
            assert!(matches!(marker_errors(&answer, asked), Err(Error::Invalid(_))));
        }
        let later = partition_errors(&[0, 32_000], 2);
        assert_eq!(later, Ok(vec![ErrorCode::None, ErrorCode::UnknownServerError]));
        assert!(matches!(partition_errors(&[40_000], 1), Err(Error::Invalid(_))));
    }

    /// Whatever is missing, of the wrong length, out of range or of an unknown number is refused by its name.
    #[test]
    fn ill_formed_fields_are_named() {
        let message = || proto::TransactionMarker::from(marker());
        refused::<MarkerFor, _>("markers.end", message(), |it| it.end = 0);
        refused::<MarkerFor, _>("markers.end", message(), |it| it.end = 3);
        refused::<MarkerFor, _>("markers.producer_epoch", message(), |it| it.producer_epoch = 1 << 15);
        refused::<MarkerFor, _>("markers.coordinator_epoch", message(), |it| it.coordinator_epoch = -1);
        refused::<MarkerFor, _>("markers.transaction_version", message(), |it| {
            it.transaction_version = 128;
        });
        refused::<MarkerFor, _>("markers.partitions.topic", message(), |it| {
            it.partitions[1].topic = Bytes::from_static(&[1; 15]);
        });
        refused::<MarkerFor, _>("markers.partitions.leader_epoch", message(), |it| {
            it.partitions[1].leader_epoch = Some(-1);
        });
        refused::<WriteMarkers, _>("from", proto::WriteMarkersRequest::default(), |_| ());
        refused::<AddPartitions, _>("from", proto::AddPartitionsRequest::default(), |_| ());
        let add = proto::AddPartitionsRequest {
            from: Some(PEER.into()),
            ..Default::default()
        };
        refused::<AddPartitions, _>("producer_epoch", add, |it| it.producer_epoch = -32_769);
    }
}
