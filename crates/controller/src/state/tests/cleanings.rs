//! Key compaction: what is due, and what takes the place of what.

use tailwater_format::metadata::{CleaningRecord, ObjectLife};

use super::*;

/// A compacted topic of two partitions (streams 0 and 1) and a journal that is uploaded.
struct Cleaning {
    machine: Machine,
    frontend: Caller,
    compactor: Caller,
    journal: JournalId,
    upload: LeaseRef,
    next_lsn: u64,
}

fn cleaning(configs: &[(&str, &str)]) -> Cleaning {
    let mut machine = Machine::new();
    machine.limits.node_lease = None;
    machine.wal();
    let frontend = machine.register(1, Tier::Frontend, 1);
    let compactor = machine.register(201, Tier::Compactor, 1);
    let mut new = topic("a", 2);
    new.configs = compacted();
    for (name, value) in configs {
        new.configs.insert((*name).to_owned(), (*value).to_owned());
    }
    let id = TopicId::from_random(7);
    machine.run(|tx| catalog::create_topic(tx, frontend, id, &new)).unwrap();
    let journal = machine.journal(frontend);
    let upload = machine.lease(compactor, TaskKind::Upload).unwrap().lease;
    Cleaning {
        machine,
        frontend,
        compactor,
        journal,
        upload,
        next_lsn: 0,
    }
}

impl Cleaning {
    /// Uploads an object with these slices.
    fn put(&mut self, slices: &[(u64, i64, i64)]) -> ObjectId {
        let id = self.machine.prepare(self.compactor, self.upload, 1)[0];
        self.commit_upload(object(id, slices));
        id
    }

    fn commit_upload(&mut self, object: CommittedObject) {
        let lsns = (self.next_lsn, self.next_lsn + 1);
        self.next_lsn += 1;
        self.commit(&commit(self.upload, self.journal, lsns, vec![object]))
            .unwrap();
    }

    fn commit(&mut self, request: &CommitObjects) -> Result<MetadataVersion> {
        let compactor = self.compactor;
        self.machine.run(|tx| objects::commit(tx, compactor, request))
    }

    fn lease(&mut self) -> Option<Lease> {
        let lease = self.machine.lease(self.compactor, TaskKind::Clean);
        self.machine.pass(SECOND);
        lease
    }

    /// Stream, range and first dirty offset of the next cleaning, which is given back.
    fn due(&mut self) -> Option<(u64, i64, i64, i64)> {
        let lease = self.lease()?;
        let Work::Clean {
            stream,
            range,
            first_dirty,
            ..
        } = lease.work
        else {
            panic!("{:?}", lease.work)
        };
        self.release(lease.lease, true);
        Some((stream.0, range.start.0, range.end.0, first_dirty.0))
    }

    fn release(&mut self, lease: LeaseRef, done: bool) {
        let compactor = self.compactor;
        self.machine
            .run(|tx| tasks::release(tx, compactor, lease, done))
            .unwrap();
    }

    /// One object in the place of what these have of a range.
    fn replacing(&mut self, lease: LeaseRef, range: (i64, i64), sources: &[ObjectId], snapshot: bool) -> CommitObjects {
        let id = self.machine.prepare(self.compactor, lease, 1)[0];
        let mut object = object(id, &[(0, range.0, range.1)]);
        if !snapshot {
            object.streams[0].snapshot = None;
        }
        CommitObjects {
            lease,
            source: CommitSource::Objects {
                stream: StreamId(0),
                range: OffsetRange::new(Offset(range.0), Offset(range.1)),
                objects: sources.to_vec(),
                keys_end: Offset::ZERO,
            },
            objects: vec![object],
            abandoned: Vec::new(),
        }
    }

    /// The cleanings that ended early.
    fn left(&self) -> BTreeMap<TaskId, CleaningRecord> {
        let state = &self.machine.state;
        let all = state.index().cleanings();
        let all = all.map(|(task, _)| (task, **state.cleaning(task).unwrap()));
        all.filter(|(_, record)| record.holder.is_none()).collect()
    }

    fn found(&self, stream: u64) -> Vec<(ObjectId, i64, i64)> {
        let found = objects::find(&self.machine.state, StreamId(stream), Offset(0), 100).unwrap();
        let slice = |slice: &ObjectSlice| (slice.object, slice.range.start.0, slice.range.end.0);
        found.objects.iter().map(slice).collect()
    }

    fn snapshot(&self, stream: u64) -> Option<ObjectId> {
        let uploads = objects::uploads(&self.machine.state, &[StreamId(stream)]);
        uploads[0].snapshot.as_ref().map(|at| at.object)
    }
}

/// Cleaned objects take their sources' place in one step; what else a source has stays where it is, one that nobody needs
/// any more is deleted, and the newest snapshot is where the new object has it.
#[test]
fn cleaned_objects_take_their_sources_place() {
    let mut cleaning = cleaning(&[]);
    let mixed = cleaning.put(&[(0, 0, 10), (1, 0, 3)]);
    let own = cleaning.put(&[(0, 10, 20)]);
    let lease = cleaning.lease().unwrap();
    let request = cleaning.replacing(lease.lease, (0, 20), &[mixed, own], true);
    let cleaned = request.objects[0].object;
    let version = cleaning.commit(&request).unwrap();
    assert_eq!(cleaning.found(0), [(cleaned, 0, 20)]);
    assert_eq!(cleaning.found(1), [(mixed, 0, 3)]);
    assert_eq!(
        (cleaning.snapshot(0), cleaning.snapshot(1)),
        (Some(cleaned), Some(mixed))
    );
    assert_eq!(
        cleaning.commit(&request),
        Ok(version),
        "a repeat answers as the first did"
    );
    cleaning.release(lease.lease, true);
    cleaning.machine.chores();
    assert_eq!(cleaning.machine.object_life(own), Some(ObjectLife::Marked));
    assert_eq!(cleaning.machine.object_life(mixed), Some(ObjectLife::Committed));
    assert_eq!(cleaning.machine.state, cleaning.machine.rebuilt());
    assert_eq!(cleaning.due(), Some((1, 0, 3, 0)), "the other stream is dirty still");
}

/// A newest snapshot that the cleaned object doesn't have stays where it is, and keeps its object.
#[test]
fn the_newest_snapshot_is_never_lost() {
    let mut cleaning = cleaning(&[]);
    let first = cleaning.put(&[(0, 0, 10)]);
    let last = cleaning.put(&[(0, 10, 20)]);
    let lease = cleaning.lease().unwrap().lease;
    let request = cleaning.replacing(lease, (0, 20), &[first, last], false);
    cleaning.commit(&request).unwrap();
    cleaning.machine.chores();
    assert_eq!(cleaning.snapshot(0), Some(last));
    assert_eq!(cleaning.machine.object_life(last), Some(ObjectLife::Committed));
    assert_eq!(cleaning.machine.object_life(first), Some(ObjectLife::Marked));
    assert_eq!(cleaning.machine.state, cleaning.machine.rebuilt());
}

/// A range may end within its last source, which keeps the rest; that is dirty.
#[test]
fn a_source_keeps_what_lies_behind_the_range() {
    let mut cleaning = cleaning(&[]);
    let first = cleaning.put(&[(0, 0, 10)]);
    let second = cleaning.put(&[(0, 10, 20)]);
    let lease = cleaning.lease().unwrap().lease;
    let request = cleaning.replacing(lease, (0, 15), &[first, second], false);
    let cleaned = request.objects[0].object;
    cleaning.commit(&request).unwrap();
    assert_eq!(cleaning.found(0), [(cleaned, 0, 15), (second, 15, 20)]);
    assert_eq!(cleaning.snapshot(0), Some(second));
    assert_eq!(cleaning.machine.state, cleaning.machine.rebuilt());
    let uploads = objects::uploads(&cleaning.machine.state, &[StreamId(0), StreamId(1)]);
    assert_eq!((uploads[0].cleaned, uploads[1].cleaned), (Offset(15), Offset(0)));
    assert_eq!(
        cleaning.machine.state.progress(StreamId(0)).unwrap().cleaned,
        Offset(15)
    );
    cleaning.release(lease, true);
    assert_eq!(cleaning.due(), Some((0, 0, 20, 15)));
}

/// Each refusal of a cleaning's commit, and that it changes nothing.
#[test]
fn cleanings_are_checked() {
    let mut cleaning = cleaning(&[]);
    let first = cleaning.put(&[(0, 0, 10)]);
    let second = cleaning.put(&[(0, 10, 20)]);
    let lease = cleaning.lease().unwrap().lease;
    let good = cleaning.replacing(lease, (0, 20), &[first, second], true);
    let from = |range: (i64, i64), objects: &[ObjectId]| CommitObjects {
        source: CommitSource::Objects {
            stream: StreamId(0),
            range: OffsetRange::new(Offset(range.0), Offset(range.1)),
            objects: objects.to_vec(),
            keys_end: Offset::ZERO,
        },
        ..good.clone()
    };
    let with = |change: fn(&mut CommittedObject)| {
        let mut request = good.clone();
        change(&mut request.objects[0]);
        request
    };
    let replaced = |object| Some(Error::ObjectReplaced { object });
    let expired = ObjectId(99);
    let cases = [
        (
            "another task's lease",
            CommitObjects {
                lease: cleaning.upload,
                ..good.clone()
            },
            Some(Error::LeaseFenced {
                task: cleaning.upload.task,
            }),
        ),
        (
            "an object that nobody prepared",
            with(|object| object.object = ObjectId(99)),
            Some(Error::ObjectExpired { object: expired }),
        ),
        (
            "an order that isn't there",
            from((0, 20), &[second, first]),
            replaced(second),
        ),
        ("a source too few", from((0, 20), &[first]), replaced(first)),
        (
            "a source too many",
            from((0, 20), &[first, second, first]),
            replaced(first),
        ),
        ("a range beyond what was leased", from((0, 21), &[first, second]), None),
        ("a hole", with(|object| object.streams[0].range.start = Offset(1)), None),
        (
            "another stream",
            with(|object| object.streams[0].stream = StreamId(1)),
            None,
        ),
        (
            "an end too early",
            with(|object| object.streams[0].range.end = Offset(19)),
            None,
        ),
    ];
    for (case, request, expected) in cases {
        let before = cleaning.machine.state.clone();
        let refused = cleaning.commit(&request).unwrap_err();
        match expected {
            Some(expected) => assert_eq!(refused, expected, "{case}"),
            None => assert!(matches!(refused, Error::Invalid(_)), "{case}: {refused}"),
        }
        assert_eq!(cleaning.machine.state, before, "{case}");
    }
    cleaning.commit(&good).unwrap();
    let again = cleaning.replacing(lease, (0, 20), &[first, second], true);
    assert_eq!(
        cleaning.commit(&again),
        Err(Error::ObjectReplaced { object: first }),
        "OBJECT_REPLACED"
    );
}

/// Rule 30: what isn't stable isn't cleaned, nor anything behind it; what was uploaded later may say that it is.
#[test]
fn rule_30_nothing_at_or_above_the_last_stable_offset_is_due() {
    let mut cleaning = cleaning(&[]);
    cleaning.put(&[(0, 0, 10)]);
    for (range, stable) in [((10, 20), 12), ((20, 30), 12)] {
        let id = cleaning.machine.prepare(cleaning.compactor, cleaning.upload, 1)[0];
        let mut unstable = object(id, &[(0, range.0, range.1)]);
        unstable.streams[0].stable_end = Offset(stable);
        cleaning.commit_upload(unstable);
    }
    assert_eq!(cleaning.due(), Some((0, 0, 10, 0)));
    cleaning.put(&[(0, 30, 31)]);
    assert_eq!(cleaning.due(), Some((0, 0, 31, 0)));
}

/// A topic that isn't compacted, one that isn't dirty enough, records that are too young: nothing is due. Old dirty records
/// are due whatever the ratio is.
#[test]
fn settings_say_what_is_due() {
    let due = |configs: &[(&str, &str)], ends: &[i64]| {
        let mut cleaning = cleaning(configs);
        let mut start = 0;
        for end in ends {
            cleaning.put(&[(0, start, *end)]);
            start = *end;
        }
        cleaning.due().map(|due| due.2)
    };
    assert_eq!(due(&[], &[10]), Some(10));
    assert_eq!(due(&[("cleanup.policy", "delete")], &[10]), None);
    assert_eq!(due(&[("cleanup.policy", "delete, compact")], &[10]), Some(10));
    assert_eq!(due(&[("min.cleanable.dirty.ratio", "1")], &[10]), None);
    assert_eq!(
        due(
            &[("min.cleanable.dirty.ratio", "1"), ("max.compaction.lag.ms", "5000")],
            &[10]
        ),
        Some(10)
    );
    // Slices have their ends as timestamps.
    let lag = (WALL_MS - 15).to_string();
    assert_eq!(due(&[("min.compaction.lag.ms", &lag)], &[10, 20, 30]), Some(10));
    assert_eq!(due(&[("min.compaction.lag.ms", "1000000")], &[10]), None);

    // Half of the bytes are clean then.
    let mut cleaning = cleaning(&[("min.cleanable.dirty.ratio", "0.5")]);
    let first = cleaning.put(&[(0, 0, 10)]);
    let lease = cleaning.lease().unwrap().lease;
    let request = cleaning.replacing(lease, (0, 10), &[first], true);
    cleaning.commit(&request).unwrap();
    cleaning.release(lease, true);
    cleaning.put(&[(0, 10, 20)]);
    assert_eq!(cleaning.due(), None);
    cleaning.put(&[(0, 20, 21)]);
    assert_eq!(cleaning.due(), Some((0, 0, 21, 10)));
}

/// `delete.retention.ms` goes with the lease: what is set of the topic, else of its leader's broker, else of all brokers, else a
/// day.
#[test]
fn a_lease_says_how_long_deletes_are_kept() {
    let retention = |of_topic: Option<&str>, of_brokers: &[(Option<NodeId>, &str)]| {
        let configs: Vec<_> = of_topic
            .map(|value| ("delete.retention.ms", value))
            .into_iter()
            .collect();
        let mut cleaning = cleaning(&configs);
        let caller = cleaning.compactor;
        for (node, value) in of_brokers {
            let request = AlterConfigs {
                resource: ConfigResource::Broker(*node),
                changes: ConfigChanges::Incremental(vec![ConfigChange {
                    name: "log.cleaner.delete.retention.ms".to_owned(),
                    op: ConfigOp::Set((*value).to_owned()),
                }]),
                validate_only: false,
            };
            cleaning.machine.run(|tx| configs::alter(tx, caller, &request)).unwrap();
        }
        cleaning.put(&[(0, 0, 10)]);
        match cleaning.lease().unwrap().work {
            Work::Clean { delete_retention, .. } => delete_retention.as_millis(),
            other => panic!("{other:?}"),
        }
    };
    let leader = Some(NodeId(1));
    assert_eq!(retention(None, &[]), 86_400_000);
    assert_eq!(retention(None, &[(None, "3000")]), 3_000);
    assert_eq!(retention(None, &[(None, "3000"), (leader, "2000")]), 2_000);
    assert_eq!(retention(None, &[(Some(NodeId(9)), "9000")]), 86_400_000);
    assert_eq!(retention(Some("1000"), &[(None, "3000"), (leader, "2000")]), 1_000);
    assert_eq!(retention(Some("0"), &[(None, "3000")]), 0);
}

/// A stream has one cleaning at a time; one that failed waits, the longer the more often it did, and so does one whose holder
/// is gone: it may have gone of it. One of a deleted topic is forgotten.
#[test]
fn a_cleaning_has_one_holder() {
    let mut cleaning = cleaning(&[]);
    let first = cleaning.put(&[(0, 0, 10)]);
    let lost = cleaning.lease().unwrap().lease;
    assert_eq!(cleaning.lease(), None);
    let request = cleaning.replacing(lost, (0, 10), &[first], true);
    cleaning.compactor = cleaning.machine.register(201, Tier::Compactor, 2);
    assert_eq!(cleaning.lease(), None, "another stream's turn");
    assert_eq!(cleaning.commit(&request), Err(Error::LeaseFenced { task: lost.task }));
    cleaning.machine.pass(LEASE);
    let lease = cleaning.lease().unwrap().lease;
    assert_ne!(lease.task, lost.task);
    cleaning.machine.chores();
    assert_eq!(
        cleaning.machine.object_life(request.objects[0].object),
        Some(ObjectLife::Expired)
    );

    cleaning.release(lease, false);
    assert_eq!(cleaning.lease(), None, "it failed a moment ago");
    cleaning.machine.pass(LEASE);
    assert_eq!(cleaning.lease(), None, "for the second time");
    cleaning.machine.pass(LEASE);
    let lease = cleaning.lease().unwrap().lease;
    cleaning.release(lease, true);
    let lease = cleaning.lease().unwrap().lease;
    cleaning.release(lease, false);
    cleaning.machine.pass(LEASE);
    assert!(cleaning.lease().is_some(), "for the first time since it was cleaned");

    let frontend = cleaning.machine.register(1, Tier::Frontend, 2);
    let topic = cleaning.machine.state.index().topic("a").unwrap();
    cleaning
        .machine
        .run(|tx| catalog::delete_topic(tx, frontend, topic))
        .unwrap();
    cleaning.machine.chores();
    assert_eq!(cleaning.machine.state.index().cleanings().count(), 0);
}

/// A cleaning that ends early, however, is gone on with where it came to, and comes to the end of the keys that it knew and no
/// further: what it has behind it was cleaned of what those supersede. What came meanwhile is the next one's.
#[test]
fn a_cleaning_that_ended_early_is_gone_on_with() {
    for ends in ["it gives up", "it fails", "its node is gone", "the controller restarts"] {
        let mut cleaning = cleaning(&[]);
        let sources: Vec<_> = (0..4).map(|at| cleaning.put(&[(0, at * 10, at * 10 + 10)])).collect();
        let lease = cleaning.lease().unwrap().lease;
        let request = with_keys(cleaning.replacing(lease, (0, 10), &sources[..1], false), 35);
        cleaning.commit(&request).unwrap();
        cleaning.put(&[(0, 40, 50)]);
        match ends {
            "it gives up" => cleaning.release(lease, true),
            "it fails" => cleaning.release(lease, false),
            "its node is gone" => cleaning.compactor = cleaning.machine.register(201, Tier::Compactor, 2),
            _ => {
                cleaning.machine.state = cleaning.machine.rebuilt();
                cleaning.compactor = cleaning.machine.register(201, Tier::Compactor, 2);
            }
        }
        assert_eq!(cleaning.lease(), None, "{ends}: not at once");
        cleaning.machine.pass(LEASE * 4);
        let next = cleaning.lease().expect(ends);
        let Work::Clean { range, first_dirty, .. } = next.work else {
            panic!()
        };
        let offsets = (range.start.0, range.end.0, first_dirty.0);
        assert_eq!((next.lease.task, offsets), (lease.task, (10, 35, 10)), "{ends}");
        // With room for fewer keys.
        let request = with_keys(cleaning.replacing(next.lease, (10, 25), &sources[1..3], false), 30);
        cleaning.commit(&request).unwrap();
        cleaning.release(next.lease, true);
        cleaning.machine.pass(LEASE * 4);
        let next = cleaning.lease().expect(ends);
        let Work::Clean { range, .. } = next.work else { panic!() };
        assert_eq!((range.start.0, range.end.0), (25, 30), "{ends}");
        let request = with_keys(cleaning.replacing(next.lease, (25, 30), &sources[2..3], false), 30);
        cleaning.commit(&request).unwrap();
        cleaning.release(next.lease, true);
        assert_eq!(cleaning.due(), Some((0, 0, 50, 30)), "{ends}: all of it anew");
        assert_eq!(cleaning.machine.state, cleaning.machine.rebuilt());
    }
}

/// Where a cleaning came to is forgotten once it isn't there any more.
#[test]
fn a_cleaning_whose_place_was_deleted_begins_anew() {
    let mut cleaning = cleaning(&[("cleanup.policy", "compact,delete")]);
    let sources: Vec<_> = (0..3).map(|at| cleaning.put(&[(0, at * 10, at * 10 + 10)])).collect();
    let lease = cleaning.lease().unwrap().lease;
    let request = with_keys(cleaning.replacing(lease, (0, 10), &sources[..1], false), 30);
    cleaning.commit(&request).unwrap();
    cleaning.release(lease, true);
    let frontend = cleaning.frontend;
    let leader_epoch = cleaning.machine.state.row(StreamId(0)).unwrap().leader_epoch;
    let deletion = DeleteRecords {
        stream: StreamId(0),
        leader_epoch,
        start: Offset(12),
    };
    cleaning
        .machine
        .run(|tx| catalog::delete_records(tx, frontend, deletion))
        .unwrap();
    cleaning.machine.pass(LEASE * 4);
    assert_eq!(cleaning.due(), Some((0, 10, 30, 10)));
    assert!(cleaning.left().is_empty());
}

/// What isn't clean isn't left out between what is.
#[test]
fn a_clean_part_is_a_prefix() {
    let mut cleaning = cleaning(&[]);
    let sources: Vec<_> = (0..3).map(|at| cleaning.put(&[(0, at * 10, at * 10 + 10)])).collect();
    let lease = cleaning.lease().unwrap().lease;
    let behind = cleaning.replacing(lease, (10, 20), &sources[1..2], false);
    assert_eq!(
        cleaning.commit(&behind),
        Err(Error::ObjectReplaced { object: sources[1] })
    );
    let first = cleaning.replacing(lease, (0, 10), &sources[..1], false);
    cleaning.commit(&first).unwrap();
    cleaning.commit(&behind).unwrap();
}

fn with_keys(request: CommitObjects, end: i64) -> CommitObjects {
    let CommitSource::Objects {
        stream, range, objects, ..
    } = request.source
    else {
        panic!("a cleaning's")
    };
    CommitObjects {
        source: CommitSource::Objects {
            stream,
            range,
            objects,
            keys_end: Offset(end),
        },
        ..request
    }
}

/// Uploads, cleanings in parts, cleanings that fail, holders that are gone, deletions and restarts of the controller, in
/// any order: streams stay whole, with a snapshot at their ends, and a state read from the store is the same.
#[test]
fn cleanings_in_any_order_leave_streams_whole() {
    let random = tailwater_runtime::Random::seeded(5);
    let below = |end: u64| random.u64() % end;
    let mut cleaning = cleaning(&[]);
    let (mut ends, mut leases, mut cleaned, mut went_on) = ([0i64; 2], Vec::new(), 0, 0);
    for _ in 0..3000 {
        match below(8) {
            0 | 1 => {
                let mut slices = Vec::new();
                for (stream, end) in ends.iter_mut().enumerate().filter(|_| below(3) > 0) {
                    let start = *end;
                    *end += 1 + below(9) as i64;
                    slices.push((stream as u64, start, *end));
                }
                cleaning.put(&slices);
            }
            2 => {
                let before: BTreeMap<_, _> = cleaning.left();
                let lease = cleaning.lease().map(|lease| lease.lease);
                if let Some(left) = lease.and_then(|lease| before.get(&lease.task)) {
                    let now = **cleaning.machine.state.cleaning(lease.unwrap().task).unwrap();
                    assert_eq!(now.range, OffsetRange::new(left.done_to, left.keys_end), "it goes on");
                    assert_eq!(now.first_dirty, left.first_dirty.max(left.done_to));
                    assert!(now.lease > left.lease);
                    went_on += 1;
                }
                leases.extend(lease);
            }
            3..=5 => {
                cleaned += usize::from(
                    leases
                        .last()
                        .is_some_and(|lease| clean_some(&mut cleaning, *lease, below(6))),
                )
            }
            6 => {
                if let Some(lease) = leases.pop() {
                    let compactor = cleaning.compactor;
                    drop(
                        cleaning
                            .machine
                            .run(|tx| tasks::release(tx, compactor, lease, below(2) > 0)),
                    );
                }
            }
            _ => {
                let waits = [SECOND, LEASE * 4];
                cleaning.machine.pass(waits[below(2) as usize]);
                cleaning.machine.chores();
                cleaning.machine.lease(cleaning.compactor, TaskKind::Delete);
            }
        }
        super::history::check_state(&cleaning.machine);
        for (stream, end) in ends.iter().enumerate() {
            let uploads = objects::uploads(&cleaning.machine.state, &[StreamId(stream as u64)]);
            assert_eq!(uploads[0].uploaded, Offset(*end));
            let snapshot = uploads[0].snapshot.as_ref().map(|at| i64::from(at.crc));
            assert_eq!(snapshot, (*end > 0).then_some(*end), "exact at the end");
        }
    }
    assert!(cleaned > 50 && went_on > 20, "{cleaned}, {went_on}");
}

/// Commits one object in the place of the next few, up to somewhere in the last; answers whether it was taken.
fn clean_some(cleaning: &mut Cleaning, lease: LeaseRef, draw: u64) -> bool {
    let state = &cleaning.machine.state;
    let Some(record) = state.cleaning(lease.task).map(|record| **record) else {
        return false;
    };
    let start = record.range.start.max(record.done_to);
    let found = objects::find(state, record.stream, start, 1 + draw as usize)
        .unwrap()
        .objects;
    let Some(last) = found.last() else { return false };
    let end = last.range.end.min(record.range.end).advance(-((draw % 2) as i64));
    if last.range.start >= end {
        return false;
    }
    let compactor = cleaning.compactor;
    let request = PrepareObjects { lease, count: 1 };
    let Ok(prepared) = cleaning.machine.run(|tx| objects::prepare(tx, compactor, &request)) else {
        return false;
    };
    let request = CommitObjects {
        lease,
        source: CommitSource::Objects {
            stream: record.stream,
            range: OffsetRange::new(start, end),
            objects: found.iter().map(|slice| slice.object).collect(),
            keys_end: match record.keys_end {
                // Of a compactor that says nothing of it, or has room for fewer keys.
                Offset::ZERO if draw > 3 => Offset::ZERO,
                Offset::ZERO => record.range.end.advance(-((draw / 2) as i64)).max(end),
                keys_end => keys_end,
            },
        },
        objects: vec![object(prepared[0].object, &[(record.stream.0, start.0, end.0)])],
        abandoned: Vec::new(),
    };
    cleaning.commit(&request).is_ok()
}

/// A stream that was cleaned is left alone for a while, unless much has come since.
#[test]
fn a_cleaned_stream_has_its_rest() {
    let mut cleaning = cleaning(&[]);
    cleaning.machine.limits.clean_interval = 10 * LEASE;
    cleaning.put(&[(0, 0, 10)]);
    assert!(cleaning.due().is_some());
    assert_eq!(cleaning.due(), None);
    let id = cleaning.machine.prepare(cleaning.compactor, cleaning.upload, 1)[0];
    let mut large = object(id, &[(0, 10, 20)]);
    large.streams[0].bytes = 1 << 30;
    cleaning.commit_upload(large);
    assert_eq!(cleaning.due().map(|due| due.2), Some(20));
    assert_eq!(cleaning.due().map(|due| due.2), Some(20), "nothing of it was replaced");
    cleaning.machine.pass(10 * LEASE);
    assert!(cleaning.due().is_some());
}
