//! Every struct survives its message; every ill-formed field is named.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use prost::Message;
use tailwater_types::{
    DeviceEpoch, DeviceId, JournalId, LeaderEpoch, LeaseEpoch, Lsn, MetadataVersion, NodeEpoch, NodeId, ObjectId,
    Offset, StreamId, TaskId,
};

use super::*;
use crate::controller::*;
use crate::grpc::proto::metadata_change::Change;
use crate::grpc::proto::open_stream_answer::Answer;
use crate::grpc::proto::work::Work as Kind;

/// `value` through the bytes of its message.
pub(super) fn survives<T, P>(value: T)
where
    T: Clone + Debug + PartialEq + Into<P> + TryFrom<P>,
    <T as TryFrom<P>>::Error: Debug,
    P: Message + Default,
{
    let message: P = value.clone().into();
    let message = P::decode(&message.encode_to_vec()[..]).expect("decodes");
    let back: T = message.try_into().expect("is well formed");
    assert_eq!(back, value);
}

fn device(byte: u8) -> DeviceId {
    DeviceId::from_bytes([byte; 16])
}

fn configs() -> BTreeMap<String, String> {
    let pairs = [("retention.ms", "-1"), ("cleanup.policy", ""), ("ä", "ö")];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn snapshot() -> SnapshotAt {
    SnapshotAt {
        object: ObjectId(1),
        key: "ab/c/1-2".to_owned(),
        position: u64::MAX,
        length: u32::MAX,
        crc: u32::MAX,
    }
}

fn node() -> NodeInfo {
    NodeInfo {
        node: NodeId(u32::MAX),
        tier: Tier::Wal,
        epoch: NodeEpoch(3),
        state: NodeState::Fenced,
        endpoints: vec![Endpoint {
            listener: "EXTERNAL".to_owned(),
            host: "b1.example".to_owned(),
            port: u16::MAX,
        }],
        address: Some("wal-0:9000".to_owned()),
        device: Some(device(1)),
    }
}

fn registration() -> RegisterNode {
    RegisterNode {
        node: NodeId(0),
        tier: Tier::Frontend,
        cluster: Some(ClusterId::from_bytes([9; 16])),
        incarnation: u128::MAX - 1,
        endpoints: node().endpoints,
        address: None,
        device: Some(DeviceReport {
            device: device(2),
            epoch: DeviceEpoch(0),
            capacity_bytes: u64::MAX,
        }),
    }
}

fn opened() -> OpenedStream {
    OpenedStream {
        stream: StreamId(u64::MAX),
        start: Offset(0),
        uploaded: Offset(i64::MAX),
        snapshot: Some(snapshot()),
        tails: vec![StreamTail {
            journal: JournalId(4),
            ensemble: vec![device(1), device(2)],
            range: LsnRange::new(Lsn(0), Lsn(u64::MAX)),
        }],
        closed: Some(ClosedAt {
            leader_epoch: LeaderEpoch(0),
            end: Offset(i64::MAX),
        }),
    }
}

fn commit() -> CommitObjects {
    let stream = CommittedStream {
        stream: StreamId(1),
        range: OffsetRange::new(Offset(5), Offset(5)),
        stable_end: Offset(4),
        max_timestamp_ms: -1,
        bytes: 77,
        snapshot: Some(snapshot()),
    };
    CommitObjects {
        lease: LeaseRef {
            task: TaskId(1),
            epoch: LeaseEpoch(2),
        },
        source: CommitSource::Journals(vec![(JournalId(3), LsnRange::new(Lsn(1), Lsn(2)))]),
        objects: vec![CommittedObject {
            object: ObjectId(1),
            size_bytes: 99,
            streams: vec![stream],
        }],
        abandoned: vec![ObjectId(2), ObjectId(0)],
    }
}

/// Each struct, its absent and its present parts and every value of its enums, is itself again behind the wire.
#[test]
fn structs_survive_the_wire() {
    survives::<_, proto::RegisterRequest>(registration());
    survives::<_, proto::RegisterRequest>(RegisterNode {
        cluster: None,
        device: None,
        address: Some(String::new()),
        endpoints: Vec::new(),
        ..registration()
    });
    survives::<_, proto::Registration>(Registration {
        cluster: ClusterId::from_bytes([1; 16]),
        controller_epoch: ControllerEpoch(1),
        node_epoch: NodeEpoch(2),
        device_epoch: Some(DeviceEpoch(0)),
        lease: Some(Duration::from_millis(3_000)),
    });
    let states = [
        NodeState::Starting,
        NodeState::Active,
        NodeState::Fenced,
        NodeState::ControlledShutdown,
        NodeState::ShuttingDown,
        NodeState::Gone,
    ];
    for state in states {
        survives::<_, proto::HeartbeatAnswer>(HeartbeatAnswer {
            controller_epoch: ControllerEpoch(1),
            state,
            asked: vec![OpenStream {
                stream: StreamId(7),
                leader_epoch: LeaderEpoch(3),
            }],
            lease: (state == NodeState::Active).then_some(Duration::from_millis(1_500)),
        });
    }
    for tier in [Tier::Frontend, Tier::Wal, Tier::Compactor] {
        let (address, device) = (None, None);
        survives::<_, proto::NodeInfo>(NodeInfo {
            tier,
            address,
            device,
            ..node()
        });
    }
    let changes = [
        MetadataChange::Node(node()),
        MetadataChange::Topic(TopicInfo {
            id: TopicId::from_bytes([3; 16]),
            name: "a".to_owned(),
            configs: configs(),
            internal: true,
        }),
        MetadataChange::TopicDeleted(TopicId::from_bytes([0; 16])),
        MetadataChange::Partition(PartitionInfo {
            topic: TopicId::from_bytes([3; 16]),
            index: 0,
            stream: StreamId(1),
            leader: Some(NodeId(0)),
            leader_epoch: LeaderEpoch(i32::MAX),
        }),
        MetadataChange::Stream(StreamProgress {
            stream: StreamId(1),
            start: Offset(2),
            uploaded: Offset(3),
            cleaned: Offset(1),
        }),
    ];
    for change in changes {
        survives::<_, proto::MetadataChange>(change);
    }
    let resources = [
        ConfigResource::Topic(TopicId::from_bytes([3; 16])),
        ConfigResource::Broker(None),
        ConfigResource::Broker(Some(NodeId(0))),
        ConfigResource::Group(String::new()),
        ConfigResource::ClientMetrics("m".to_owned()),
    ];
    for resource in resources {
        survives::<_, proto::MetadataChange>(MetadataChange::Config(ConfigInfo {
            resource: resource.clone(),
            configs: configs(),
        }));
        survives::<_, proto::AlterConfigsRequest>(AlterConfigs {
            resource: resource.clone(),
            changes: ConfigChanges::Replace(configs()),
            validate_only: true,
        });
        let (items, unset) = (vec!["a".to_owned()], "b".to_owned());
        let ops = [
            ConfigOp::Set(String::new()),
            ConfigOp::Delete,
            ConfigOp::Append {
                items: items.clone(),
                unset: unset.clone(),
            },
            ConfigOp::Subtract { items, unset },
        ];
        let changes = ops.map(|op| ConfigChange {
            name: "n".to_owned(),
            op,
        });
        survives::<_, proto::AlterConfigsRequest>(AlterConfigs {
            resource,
            changes: ConfigChanges::Incremental(changes.into()),
            validate_only: false,
        });
    }
    survives::<_, proto::CreatePartitionsRequest>(CreatePartitions {
        topic: TopicId::from_bytes([3; 16]),
        total: -1,
        validate_only: true,
    });
    survives::<_, proto::DeleteRecordsRequest>(DeleteRecords {
        stream: StreamId(1),
        leader_epoch: LeaderEpoch(0),
        start: Offset(-1),
    });
    survives::<_, proto::CreateTopicRequest>(NewTopic {
        name: "a".to_owned(),
        partitions: -1,
        configs: configs(),
        internal: true,
        validate_only: true,
    });
    survives::<_, proto::CreatedTopic>(CreatedTopic {
        id: TopicId::from_bytes([3; 16]),
        version: MetadataVersion(u64::MAX),
    });
    survives::<_, proto::ProducerIds>(ProducerIds { first: 0, count: 1 });
    survives::<_, proto::JournalGrant>(JournalGrant {
        journal: JournalId(1),
        ensemble: vec![device(1)],
        ack_quorum: u8::MAX,
        min_leader_epochs: vec![(StreamId(1), LeaderEpoch(0))],
        unconfirmed: true,
    });
    survives::<_, proto::OpenedStream>(opened());
    survives::<_, proto::OpenedStream>(OpenedStream {
        snapshot: None,
        closed: None,
        ..opened()
    });
    survives::<_, proto::CloseStream>(CloseStream {
        stream: StreamId(u64::MAX),
        leader_epoch: LeaderEpoch(i32::MAX),
        end: Offset(0),
        journal: JournalId(2),
        journal_end: Lsn(u64::MAX),
    });
    let answers = vec![Ok(()), Err(Error::StreamFenced { stream: StreamId(3) })];
    let message = proto::CloseStreamsAnswer {
        streams: answers.iter().cloned().map(Into::into).collect(),
    };
    assert_eq!(closed_streams(message.clone(), 2), Ok(answers));
    assert!(closed_streams(message, 3).is_err(), "one answer for each");
    for state in [
        JournalState::Open,
        JournalState::Sealing,
        JournalState::Sealed { end: Lsn(0) },
    ] {
        survives::<_, proto::JournalInfo>(JournalInfo {
            journal: JournalId(1),
            owner: NodeId(2),
            owner_epoch: NodeEpoch(3),
            ensemble: vec![device(1)],
            state,
            trim: Lsn(4),
        });
    }
}

/// As above, of objects and tasks.
#[test]
fn work_survives_the_wire() {
    survives::<_, proto::PrepareObjectsRequest>(PrepareObjects {
        lease: commit().lease,
        count: u32::MAX,
    });
    survives::<_, proto::PreparedObject>(PreparedObject {
        object: ObjectId(1),
        key: "k".to_owned(),
        deadline: Duration::from_millis(1),
    });
    survives::<_, proto::CommitObjectsRequest>(commit());
    let slice = ObjectSlice {
        object: ObjectId(1),
        key: "k".to_owned(),
        size_bytes: 1,
        range: OffsetRange::new(Offset(0), Offset(i64::MAX)),
        max_timestamp_ms: i64::MIN,
    };
    survives::<_, proto::StreamObjects>(StreamObjects {
        version: MetadataVersion(1),
        start: Offset(2),
        uploaded: Offset(3),
        objects: vec![slice],
    });
    for snapshot in [None, Some(snapshot())] {
        survives::<_, proto::StreamUpload>(StreamUpload {
            start: Offset(3),
            stream: StreamId(1),
            uploaded: Offset(2),
            cleaned: Offset(1),
            snapshot,
            bytes: u64::MAX,
        });
    }
    let upload = |sealed_end| Work::Upload {
        journal: JournalId(1),
        ensemble: vec![device(1)],
        trim: Lsn(2),
        sealed_end,
    };
    let delete = Work::Delete {
        objects: vec![(ObjectId(1), "k".to_owned())],
    };
    let clean = Work::Clean {
        stream: StreamId(1),
        range: OffsetRange::new(Offset(2), Offset(9)),
        first_dirty: Offset(4),
        delete_retention: Duration::from_secs(86_400),
    };
    for work in [upload(None), upload(Some(Lsn(0))), delete, clean] {
        survives::<_, proto::Lease>(Lease {
            lease: commit().lease,
            duration: Duration::from_secs(30),
            work,
        });
    }
    let kinds = vec![TaskKind::Upload, TaskKind::Delete, TaskKind::Clean];
    let numbers = kinds.iter().map(|kind| proto::TaskKind::from(*kind).into()).collect();
    assert_eq!(task_kinds(numbers), Ok(kinds));
}

/// Of every stream that was asked for there is an answer, the refusals whole.
#[test]
fn answers_for_many_streams_survive_the_wire() {
    let refused = Error::StreamNotClosed { stream: StreamId(2) };
    let answers = vec![Ok(opened()), Err(refused), Err(Error::NotFound("stream 3".to_owned()))];
    let message = proto::OpenStreamsAnswer {
        streams: into_all(answers.clone()),
    };
    assert_eq!(opened_streams(message.clone(), 3), Ok(answers));
    assert!(matches!(opened_streams(message, 4), Err(Error::Invalid(_))));
}

/// `message`, spoilt by `spoil`, is refused with a text that begins with the field's name.
pub(super) fn refused<T, P>(field: &str, good: P, spoil: impl FnOnce(&mut P))
where
    T: TryFrom<P, Error = Error> + Debug,
{
    let mut message = good;
    spoil(&mut message);
    match T::try_from(message) {
        Err(Error::Invalid(text)) => assert!(text.starts_with(&format!("{field} ")), "{field}: {text}"),
        other => panic!("{field}: {other:?}"),
    }
}

/// Whatever is missing, of the wrong length, out of range or of an unknown number is refused by its name.
#[test]
fn ill_formed_fields_are_named() {
    let short = || Bytes::from_static(&[1; 15]);
    let register = || proto::RegisterRequest::from(registration());
    refused::<RegisterNode, _>("tier", register(), |it| it.tier = 0);
    refused::<RegisterNode, _>("tier", register(), |it| it.tier = 9);
    refused::<RegisterNode, _>("cluster", register(), |it| it.cluster = Some(short()));
    refused::<RegisterNode, _>("incarnation", register(), |it| it.incarnation = Bytes::new());
    refused::<RegisterNode, _>("endpoint.port", register(), |it| it.endpoints[0].port = 65_536);
    refused::<RegisterNode, _>("device.device", register(), |it| {
        it.device.as_mut().expect("there").device = short();
    });
    let info = || proto::NodeInfo::from(node());
    refused::<NodeInfo, _>("node.tier", info(), |it| it.tier = -1);
    refused::<NodeInfo, _>("node.state", info(), |it| it.state = 0);
    refused::<NodeInfo, _>("node.device", info(), |it| it.device = Some(Bytes::new()));
    refused::<Registration, _>("cluster", proto::Registration::default(), |_| ());
    refused::<HeartbeatAnswer, _>("state", proto::HeartbeatAnswer::default(), |_| ());
    let beat = || proto::HeartbeatAnswer {
        state: proto::NodeState::Active.into(),
        asked: vec![proto::StreamEpoch::default()],
        ..proto::HeartbeatAnswer::default()
    };
    refused::<HeartbeatAnswer, _>("leader_epoch", beat(), |it| it.asked[0].leader_epoch = -1);
    let change = |change| proto::MetadataChange { change: Some(change) };
    let deleted = || change(Change::TopicDeleted(short()));
    let partition = || proto::PartitionInfo {
        topic: id_bytes([1; 16]),
        ..Default::default()
    };
    refused::<MetadataChange, _>("change", deleted(), |it| it.change = None);
    refused::<MetadataChange, _>("topic_deleted", deleted(), |_| ());
    refused::<MetadataChange, _>("topic.id", change(Change::Topic(proto::TopicInfo::default())), |_| ());
    refused::<PartitionInfo, _>("partition.topic", partition(), |it| it.topic = short());
    refused::<PartitionInfo, _>("partition.leader_epoch", partition(), |it| it.leader_epoch = -1);
    refused::<StreamProgress, _>("stream.start", proto::StreamProgress::default(), |it| it.start = -1);
    refused::<StreamProgress, _>("stream.uploaded", proto::StreamProgress::default(), |it| {
        it.uploaded = -1
    });
    refused::<StreamProgress, _>("stream.cleaned", proto::StreamProgress::default(), |it| it.cleaned = -1);
    let alter = || {
        proto::AlterConfigsRequest::from(AlterConfigs {
            resource: ConfigResource::Broker(None),
            changes: ConfigChanges::Incremental(Vec::new()),
            validate_only: false,
        })
    };
    refused::<AlterConfigs, _>("changes", alter(), |it| it.changes = None);
    refused::<AlterConfigs, _>("resource", alter(), |it| it.resource = None);
    refused::<ConfigResource, _>("resource", proto::ConfigResource::default(), |_| ());
    refused::<ConfigInfo, _>("config.resource", proto::ConfigInfo::default(), |_| ());
    refused::<ConfigChange, _>("changes.op", proto::ConfigChange::default(), |_| ());
    refused::<CreatePartitions, _>("topic", proto::CreatePartitionsRequest::default(), |_| ());
    refused::<DeleteRecords, _>("leader_epoch", proto::DeleteRecordsRequest::default(), |it| {
        it.leader_epoch = -1;
    });
    refused::<CreatedTopic, _>("id", proto::CreatedTopic::default(), |_| ());
    refused::<JournalGrant, _>("ensemble", proto::JournalGrant::default(), |it| {
        it.ensemble = vec![short()]
    });
    refused::<JournalGrant, _>("ack_quorum", proto::JournalGrant::default(), |it| it.ack_quorum = 256);
    let epoch = proto::StreamEpoch {
        stream: 1,
        leader_epoch: -1,
    };
    refused::<JournalGrant, _>("min_leader_epochs", proto::JournalGrant::default(), |it| {
        it.min_leader_epochs = vec![epoch];
    });
    refused::<OpenStream, _>("leader_epoch", epoch, |_| ());
    let stream = || proto::OpenedStream::from(opened());
    refused::<OpenedStream, _>("opened.start", stream(), |it| it.start = -1);
    refused::<OpenedStream, _>("tail.range", stream(), |it| it.tails[0].range = None);
    refused::<OpenedStream, _>("tail.range", stream(), |it| {
        it.tails[0].range = Some(proto::LsnRange { start: 2, end: 1 });
    });
    let backwards = || Some(proto::OffsetRange { start: 2, end: 1 });
    let request = || proto::CommitObjectsRequest::from(commit());
    refused::<CommitObjects, _>("source", request(), |it| it.source = None);
    refused::<CommitObjects, _>("lease", request(), |it| it.lease = None);
    refused::<CommitObjects, _>("objects.streams.range", request(), |it| {
        it.objects[0].streams[0].range = backwards()
    });
    refused::<CommitObjects, _>("objects.streams.stable_end", request(), |it| {
        it.objects[0].streams[0].stable_end = -1
    });
    refused::<PrepareObjects, _>("lease", proto::PrepareObjectsRequest::default(), |_| ());
    refused::<ObjectSlice, _>("objects.range", proto::ObjectSlice::default(), |it| {
        it.range = Some(proto::OffsetRange { start: -1, end: 1 });
    });
    refused::<StreamUpload, _>("streams.uploaded", proto::StreamUpload::default(), |it| {
        it.uploaded = -1
    });
    refused::<Lease, _>("lease.lease", proto::Lease::default(), |_| ());
    refused::<Work, _>("work", proto::Work::default(), |_| ());
    let upload = proto::UploadWork {
        ensemble: vec![short()],
        ..Default::default()
    };
    let work = Some(Kind::Upload(upload));
    refused::<Work, _>("work.ensemble", proto::Work { work }, |_| ());
}

/// As above, of what isn't a struct by itself.
#[test]
fn ill_formed_answers_are_refused() {
    assert_eq!(caller(None), Err(Error::Invalid("caller is missing".to_owned())));
    for kind in [0, 4, -1] {
        assert!(matches!(task_kinds(vec![kind]), Err(Error::Invalid(_))), "{kind}");
    }
    for (first, count) in [(-1, 5), (5, 0), (i64::MAX, 1)] {
        let ids = ProducerIds::try_from(proto::ProducerIds { first, count });
        assert!(matches!(ids, Err(Error::Invalid(_))), "{first} {count}");
    }
    let sealing = proto::JournalInfo {
        sealing: true,
        sealed_end: Some(1),
        ..Default::default()
    };
    assert!(matches!(JournalInfo::try_from(sealing), Err(Error::Invalid(_))));
    let unanswered = [None, Some(Answer::Refused(proto::Refusal::default()))];
    for answer in unanswered {
        let streams = vec![proto::OpenStreamAnswer { answer }];
        assert!(matches!(
            opened_streams(proto::OpenStreamsAnswer { streams }, 1),
            Err(Error::Invalid(_))
        ));
    }
}

/// A change of a kind that came later is left out, and nothing else with it; one that is ill-formed isn't.
#[test]
fn changes_that_nobody_knows_here_are_left_out() {
    let known = MetadataChange::TopicDeleted(TopicId::from_bytes([3; 16]));
    // What a kind that came later looks like: a field that this build skips.
    let unknown = proto::MetadataChange::decode(&[0xfa, 0x01, 0x02, 0x08, 0x01][..]).expect("a message");
    assert_eq!(unknown.change, None);
    let mut changes = vec![unknown.clone(), known.clone().into(), unknown];
    assert_eq!(known_changes(changes.clone()), Ok(vec![known]));
    changes.push(proto::MetadataChange {
        change: Some(Change::TopicDeleted(Bytes::new())),
    });
    assert!(known_changes(changes).is_err());
}
