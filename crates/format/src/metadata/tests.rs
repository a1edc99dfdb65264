use std::collections::BTreeMap;

use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, LeaderEpoch, LeaseEpoch, Lsn, LsnRange, MetadataVersion, NodeEpoch,
    Offset, OffsetRange,
};

use super::*;

/// One record of each kind with every field set, and its key.
fn samples() -> Vec<(Key, Record)> {
    let device = DeviceId::from_bytes([7; 16]);
    let topic = TopicId::from_bytes([9; 16]);
    let row = StreamRow {
        topic,
        index: 3,
        leader: Some((NodeId(1), NodeEpoch(4))),
        leader_epoch: LeaderEpoch(6),
        start: Offset(70),
        owners: vec![NodeId(1), NodeId(2)],
        closed: Vec::new(),
        ended: None,
    };
    let moved = StreamRow {
        closed: vec![ClosedTail {
            owner: NodeId(2),
            journal: JournalId(4),
            end: Lsn(300),
        }],
        ended: Some(StreamEnd {
            leader_epoch: LeaderEpoch(5),
            end: Offset(85),
        }),
        ..row.clone()
    };
    let slice = ObjectSlice {
        stream: StreamId(258),
        range: OffsetRange::new(Offset(70), Offset(90)),
        stable_end: Offset(85),
        max_timestamp_ms: -1,
        bytes: 1000,
        is_cleaned: false,
    };
    let snapshot = ObjectSnapshot {
        stream: StreamId(258),
        at: Offset(90),
        position: 4096,
        length: 77,
        crc: 0xdead_beef,
    };
    vec![
        (
            Key::Cluster,
            Record::Cluster(Arc::new(ClusterRecord {
                cluster: ClusterId::from_bytes([1; 16]),
                term: ControllerEpoch(2),
            })),
        ),
        (
            Key::Counters,
            Record::Counters(Arc::new(Counters {
                version: MetadataVersion(1),
                next_stream: 2,
                next_journal: 3,
                next_object: 4,
                next_task: 5,
                next_producer_id: 6000,
                next_config: 7,
                forgotten_epoch: NodeEpoch(8),
            })),
        ),
        (
            Key::Node(NodeId(1)),
            Record::Node(Arc::new(NodeRecord {
                tier: NodeTier::Wal,
                epoch: NodeEpoch(4),
                granted: true,
                state: NodeState::ControlledShutdown,
                incarnation: 0x0102,
                endpoints: vec![("PLAINTEXT".to_owned(), "localhost".to_owned(), 9092)],
                device: Some(device),
                address: Some("wal-0:9470".to_owned()),
            })),
        ),
        (
            Key::Device(device),
            Record::Device(Arc::new(DeviceRecord {
                node: NodeId(1),
                epoch: DeviceEpoch(2),
                previous: Some(DeviceEpoch(0)),
                capacity_bytes: 1 << 31,
            })),
        ),
        (
            Key::Topic(topic),
            Record::Topic(Arc::new(TopicRecord {
                name: "orders".to_owned(),
                configs: BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]),
                internal: true,
                runs: vec![(StreamId(258), 4)],
            })),
        ),
        (
            Key::Streams(1),
            Record::Streams(Arc::new(StreamBlock {
                rows: BTreeMap::from([(StreamId(258), row)]),
            })),
        ),
        (
            Key::Streams(2),
            Record::Streams(Arc::new(StreamBlock {
                rows: BTreeMap::from([(StreamId(513), moved)]),
            })),
        ),
        (
            Key::Journal(JournalId(5)),
            Record::Journal(Arc::new(JournalRecord {
                owner: NodeId(1),
                owner_epoch: NodeEpoch(4),
                ensemble: vec![device],
                ack_quorum: 1,
                min_leader_epochs: vec![(StreamId(258), LeaderEpoch(6))],
                state: JournalState::Sealed { end: Lsn(12) },
                trim: Lsn(8),
                task: TaskId(3),
                lease: LeaseEpoch(2),
                holder: Some((NodeId(201), NodeEpoch(1))),
                last_commit: Some(JournalCommit {
                    lease: LeaseEpoch(1),
                    range: LsnRange::new(Lsn(2), Lsn(8)),
                    version: MetadataVersion(40),
                }),
                unconfirmed: false,
            })),
        ),
        (
            Key::Journal(JournalId(6)),
            Record::Journal(Arc::new(JournalRecord {
                owner: NodeId(1),
                owner_epoch: NodeEpoch(4),
                ensemble: vec![device],
                ack_quorum: 1,
                min_leader_epochs: Vec::new(),
                state: JournalState::Open,
                trim: Lsn(0),
                task: TaskId(4),
                lease: LeaseEpoch(0),
                holder: None,
                last_commit: None,
                unconfirmed: true,
            })),
        ),
        (
            Key::Object(ObjectId(6)),
            Record::Object(Arc::new(ObjectRecord {
                key: "f5/c/6-2".to_owned(),
                task: TaskId(3),
                lease: LeaseEpoch(2),
                life: ObjectLife::Marked,
                committed: Some(MetadataVersion(41)),
                size_bytes: 5000,
                slices: vec![slice],
                snapshots: vec![snapshot],
            })),
        ),
        (
            Key::Object(ObjectId(7)),
            Record::Object(Arc::new(ObjectRecord {
                key: "f5/c/6-2".to_owned(),
                task: TaskId(3),
                lease: LeaseEpoch(2),
                life: ObjectLife::Marked,
                committed: Some(MetadataVersion(41)),
                size_bytes: 5000,
                slices: vec![ObjectSlice {
                    is_cleaned: true,
                    ..slice
                }],
                snapshots: vec![snapshot],
            })),
        ),
        (
            Key::Deletion(TaskId(9)),
            Record::Deletion(Arc::new(DeletionRecord {
                objects: vec![ObjectId(6), ObjectId(7)],
                lease: LeaseEpoch(1),
                holder: Some((NodeId(201), NodeEpoch(1))),
            })),
        ),
        config(1, ConfigOwner::Broker(None)),
        config(2, ConfigOwner::Broker(Some(NodeId(0)))),
        config(3, ConfigOwner::Group("g".to_owned())),
        config(4, ConfigOwner::ClientMetrics("m".to_owned())),
        (
            Key::Cleaning(TaskId(10)),
            Record::Cleaning(Arc::new(CleaningRecord {
                stream: StreamId(258),
                range: OffsetRange::new(Offset(70), Offset(90)),
                first_dirty: Offset(85),
                delete_retention_ms: 86_400_000,
                lease: LeaseEpoch(2),
                holder: Some((NodeId(201), NodeEpoch(1))),
                done_to: Offset(80),
                keys_end: Offset(88),
            })),
        ),
    ]
}

fn config(number: u64, owner: ConfigOwner) -> (Key, Record) {
    let configs = BTreeMap::from([("log.retention.ms".to_owned(), "5".to_owned())]);
    (
        Key::Config(number),
        Record::Config(Arc::new(ConfigRecord { owner, configs })),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The stored bytes of each kind of record are the ones that are on disks already.
#[test]
fn golden_bytes() {
    let lines: Vec<String> = samples()
        .iter()
        .map(|(key, record)| format!("{} {}", hex(&key.to_bytes()), hex(&record.encode(*key))))
        .collect();
    assert_eq!(lines.join("\n"), include_str!("golden.txt").trim_end());
}

/// Every record reads back as it was, and every key.
#[test]
fn reads_back_what_was_written() {
    for (key, record) in samples() {
        assert_eq!(Key::from_bytes(&key.to_bytes()), Ok(key));
        assert_eq!(Record::decode(key, &record.encode(key)), Ok(record));
    }
}

/// A changed byte, a cut, and a value under another key of its kind are all found.
#[test]
fn damage_is_found() {
    for (key, record) in samples() {
        let bytes = record.encode(key);
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 0x20;
            assert!(Record::decode(key, &torn).is_err(), "{key:?} byte {at}");
            assert!(Record::decode(key, &bytes[..at]).is_err(), "{key:?} cut at {at}");
        }
    }
    let (key, record) = samples().swap_remove(7);
    let other = Key::Journal(JournalId(6));
    let error = Record::decode(other, &record.encode(key));
    assert!(matches!(error, Err(FormatError::Checksum { .. })));
}

/// A value of a later version is refused by its number, not misread.
#[test]
fn a_later_version_is_named() {
    let (key, record) = samples().swap_remove(0);
    let mut bytes = record.encode(key);
    bytes[0] = 3;
    let content = bytes.len() - CRC_BYTES;
    let crc = checksum(key, &bytes[..content]);
    bytes[content..].copy_from_slice(&crc.to_be_bytes());
    let expected = FormatError::Version {
        what: WHAT,
        newest: 2,
        found: 3,
    };
    assert_eq!(Record::decode(key, &bytes), Err(expected));
}

/// Keys sort by kind, then id; bytes that are no key are refused.
#[test]
fn keys_sort_and_refuse() {
    let keys: Vec<Vec<u8>> = samples().iter().map(|(key, _)| key.to_bytes()).collect();
    assert!(keys.is_sorted());
    for bytes in [&b""[..], &[1, 0], &[3, 0, 0], &[10], &[11], &[0]] {
        assert!(Key::from_bytes(bytes).is_err(), "{bytes:?}");
    }
}
