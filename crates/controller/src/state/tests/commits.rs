use tailwater_format::metadata::ObjectLife;
use tailwater_rpc::Error;

use super::*;

/// A frontend with a topic of 4 partitions and a journal, and a compactor with the lease of its upload.
struct Upload {
    machine: Machine,
    frontend: Caller,
    compactor: Caller,
    topic: TopicId,
    journal: JournalId,
    lease: LeaseRef,
}

fn upload() -> Upload {
    let mut machine = Machine::new();
    machine.limits.node_lease = None;
    machine.wal();
    let frontend = machine.register(1, Tier::Frontend, 1);
    let compactor = machine.register(201, Tier::Compactor, 1);
    let topic = machine.topic(frontend, "a", 4);
    let journal = machine.journal(frontend);
    let lease = machine.lease(compactor, TaskKind::Upload).unwrap().lease;
    Upload {
        machine,
        frontend,
        compactor,
        topic,
        journal,
        lease,
    }
}

impl Upload {
    fn commit(&mut self, request: &CommitObjects) -> Result<MetadataVersion> {
        let compactor = self.compactor;
        self.machine.run(|tx| objects::commit(tx, compactor, request))
    }

    /// Prepares an object and commits it with these slices.
    fn put(&mut self, lsns: (u64, u64), slices: &[(u64, i64, i64)]) -> ObjectId {
        let id = self.machine.prepare(self.compactor, self.lease, 1)[0];
        let request = commit(self.lease, self.journal, lsns, vec![object(id, slices)]);
        self.commit(&request).unwrap();
        id
    }

    fn uploaded(&self, stream: u64) -> i64 {
        self.machine.state.progress(StreamId(stream)).unwrap().uploaded.0
    }

    /// Object and visible range of what a reader finds from `from` on.
    fn found(&self, stream: u64, from: i64) -> Vec<(ObjectId, i64, i64)> {
        let found = objects::find(&self.machine.state, StreamId(stream), Offset(from), 100).unwrap();
        let slice = |slice: &ObjectSlice| (slice.object, slice.range.start.0, slice.range.end.0);
        found.objects.iter().map(slice).collect()
    }

    fn trim(&self) -> u64 {
        self.machine.state.journal(self.journal).unwrap().trim.0
    }
}

/// A commit shows its objects, moves the trim LSN and the streams' ends, and gives the newest snapshot.
#[test]
fn a_commit_shows_its_objects() {
    let mut upload = upload();
    let first = upload.put((0, 5), &[(0, 0, 10), (1, 0, 3)]);
    let second = upload.put((5, 9), &[(0, 10, 12)]);
    assert_eq!(upload.found(0, 0), [(first, 0, 10), (second, 10, 12)]);
    assert_eq!(upload.found(0, 11), [(second, 10, 12)]);
    assert_eq!(upload.found(0, 12), []);
    assert_eq!((upload.uploaded(0), upload.uploaded(1), upload.trim()), (12, 3, 9));
    assert!(upload.machine.effects.contains(&Effect::Settle(upload.journal)));
    let found = objects::uploads(&upload.machine.state, &[StreamId(0), StreamId(99), StreamId(2)]);
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[0].snapshot.as_ref().map(|at| (at.object, at.crc)),
        Some((second, 12))
    );
    assert_eq!((found[1].uploaded, &found[1].snapshot), (Offset(0), &None));
    assert_eq!((found[0].bytes, found[1].bytes), (200, 0));
}

/// A repeat answers as the first did: after later commits, after the lease has moved, after the journal is forgotten; and one
/// without objects too.
#[test]
fn a_repeat_answers_as_the_first_did() {
    let mut upload = upload();
    let ids = upload.machine.prepare(upload.compactor, upload.lease, 2);
    let objects = ids.iter().map(|id| object(*id, &[(id.0, 0, 4)])).collect();
    let request = commit(upload.lease, upload.journal, (0, 5), objects);
    let version = upload.commit(&request).unwrap();
    let empty = commit(upload.lease, upload.journal, (5, 6), Vec::new());
    let second = upload.commit(&empty).unwrap();
    assert!(second > version);
    assert_eq!(
        (upload.commit(&empty), upload.commit(&request)),
        (Ok(second), Ok(version))
    );
    upload.machine.state = upload.machine.rebuilt();
    assert_eq!(
        (upload.commit(&empty), upload.commit(&request)),
        (Ok(second), Ok(version))
    );

    upload.compactor = upload.machine.register(201, Tier::Compactor, 2);
    upload.machine.lease(upload.compactor, TaskKind::Upload).unwrap();
    assert_eq!(upload.commit(&request), Ok(version));
    upload.machine.register(1, Tier::Frontend, 2);
    let journal = upload.journal;
    upload
        .machine
        .run(|tx| journals::commit_seal(tx, journal, Lsn(6)))
        .unwrap();
    upload
        .machine
        .run(|tx| {
            journals::forget(tx, journal);
            Ok(())
        })
        .unwrap();
    assert!(upload.machine.state.journal(journal).is_none());
    assert_eq!(upload.commit(&request), Ok(version));
}

/// Each refusal of a commit, and that it changes nothing.
#[test]
fn commits_are_checked() {
    let mut upload = upload();
    upload.put((0, 5), &[(0, 0, 10)]);
    let [id, other] = upload.machine.prepare(upload.compactor, upload.lease, 2)[..] else {
        panic!("two were asked for");
    };
    let (journal, lease, task) = (upload.journal, upload.lease, upload.lease.task);
    let good = commit(lease, journal, (5, 6), vec![object(id, &[(0, 10, 12)])]);
    let newer = LeaseRef {
        epoch: lease.epoch.next(),
        ..lease
    };
    let with = |objects| CommitObjects {
        objects,
        ..good.clone()
    };
    let from = |start, end| commit(lease, journal, (start, end), good.objects.clone());
    let unstable = {
        let mut request = good.clone();
        request.objects[0].streams[0].stable_end = Offset(13);
        request
    };
    let outside = {
        let mut request = good.clone();
        request.objects[0].size_bytes = 14;
        request
    };
    let of_another = {
        let mut request = good.clone();
        request.objects[0].streams[0].snapshot.as_mut().unwrap().object = other;
        request
    };
    let fenced = Some(Error::LeaseFenced { task });
    let expired = |object| Some(Error::ObjectExpired { object });
    let moved = Some(Error::OffsetNotMatched { journal, trim: Lsn(5) });
    // `None` where the request contradicts itself: Invalid.
    let table = [
        (
            "lease moved",
            CommitObjects {
                lease: newer,
                ..good.clone()
            },
            fenced.clone(),
        ),
        (
            "no such task",
            CommitObjects {
                lease: LeaseRef {
                    task: TaskId(99),
                    ..lease
                },
                ..good.clone()
            },
            Some(Error::LeaseFenced { task: TaskId(99) }),
        ),
        (
            "never prepared",
            with(vec![object(ObjectId(99), &[])]),
            expired(ObjectId(99)),
        ),
        (
            "committed before",
            with(vec![object(id, &[]), object(ObjectId(0), &[])]),
            expired(ObjectId(0)),
        ),
        ("range too early", from(4, 6), moved.clone()),
        ("range too late", from(6, 7), moved),
        ("another journal", commit(lease, JournalId(9), (5, 6), vec![]), None),
        (
            "two ranges",
            CommitObjects {
                source: CommitSource::Journals(vec![]),
                ..good.clone()
            },
            None,
        ),
        ("object twice", with(vec![object(id, &[]), object(id, &[])]), None),
        (
            "committed and abandoned",
            CommitObjects {
                abandoned: vec![id],
                ..good.clone()
            },
            None,
        ),
        (
            "too many",
            with((0..65).map(|id| object(ObjectId(id), &[])).collect()),
            None,
        ),
        ("stable beyond end", unstable, None),
        ("snapshot outside", outside, None),
        ("snapshot elsewhere", of_another, None),
        (
            "two snapshots",
            with(vec![object(id, &[(0, 10, 11), (0, 11, 12)])]),
            None,
        ),
    ];
    let before = upload.machine.state.clone();
    for (name, request, refusal) in table {
        match (upload.commit(&request), refusal) {
            (Err(found), Some(refusal)) => assert_eq!(found, refusal, "{name}"),
            (Err(Error::Invalid(_)), None) => {}
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
    assert_eq!(upload.machine.state, before);
    upload.commit(&good).unwrap();
    let foreign = upload.frontend;
    let by_frontend = upload
        .machine
        .run(|tx| objects::prepare(tx, foreign, &PrepareObjects { lease, count: 1 }));
    assert_eq!(by_frontend, Err(Error::LeaseFenced { task }));
}

/// Overlaps are clipped, whichever way they lie; each offset is found once.
#[test]
fn overlaps_are_clipped() {
    let mut upload = upload();
    let a = upload.put(
        (0, 1),
        &[(0, 0, 10), (0, 20, 30)].map(|(s, a, b)| (s + (a / 20) as u64, a, b)),
    );
    let b = upload.put((1, 2), &[(0, 5, 15)]);
    let c = upload.put((2, 3), &[(0, 0, 12)]);
    assert_eq!(upload.found(0, 0), [(a, 0, 10), (b, 10, 15)]);
    assert_eq!(upload.uploaded(0), 15);
    assert!(upload.machine.state.object(c).unwrap().slices.is_empty());
    // Around what is there already: two pieces, whose bytes are counted once.
    let d = upload.put((3, 4), &[(1, 0, 40)]);
    assert_eq!(upload.found(1, 0), [(d, 0, 20), (a, 20, 30), (d, 30, 40)]);
    let bytes: u64 = upload
        .machine
        .state
        .object(d)
        .unwrap()
        .slices
        .iter()
        .map(|slice| slice.bytes)
        .sum();
    assert_eq!(bytes, 100);
    // And within one commit.
    let ids = upload.machine.prepare(upload.compactor, upload.lease, 2);
    let objects = vec![object(ids[0], &[(2, 0, 6)]), object(ids[1], &[(2, 4, 9)])];
    let request = commit(upload.lease, upload.journal, (4, 5), objects);
    upload.commit(&request).unwrap();
    assert_eq!(upload.found(2, 0), [(ids[0], 0, 6), (ids[1], 6, 9)]);
}

/// What lies above a hole is kept and doesn't count until the hole is filled; the snapshot that is given is never above the
/// contiguous end.
#[test]
fn uploads_out_of_order() {
    let mut upload = upload();
    upload.put((0, 1), &[(0, 0, 5)]);
    upload.put((1, 2), &[(0, 9, 12)]);
    assert_eq!((upload.uploaded(0), upload.found(0, 0).len()), (5, 1));
    let snapshot = |upload: &Upload| {
        let found = objects::uploads(&upload.machine.state, &[StreamId(0)]);
        (found[0].snapshot.as_ref().map(|at| at.crc), found[0].bytes)
    };
    assert_eq!(snapshot(&upload), (Some(5), 100), "nobody reads behind the hole");
    upload.put((2, 3), &[(0, 5, 9)]);
    assert_eq!((upload.uploaded(0), upload.found(0, 0).len()), (12, 3));
    assert_eq!(snapshot(&upload), (Some(12), 300));
}

/// A sealed journal that is uploaded to its end is gone; nothing is committed beyond the end.
#[test]
fn a_journal_ends() {
    let mut upload = upload();
    upload.put((0, 5), &[(0, 0, 10)]);
    let (journal, stream) = (upload.journal, StreamId(0));
    let frontend = upload.machine.register(1, Tier::Frontend, 2);
    upload.machine.chores();
    let open = |upload: &Upload, leader_epoch| {
        let request = OpenStream {
            stream,
            leader_epoch: LeaderEpoch(leader_epoch),
        };
        streams::open_streams(&upload.machine.state, frontend, &[request])
            .unwrap()
            .remove(0)
    };
    assert_eq!(open(&upload, 0), Err(Error::StreamFenced { stream }));
    assert_eq!(open(&upload, 1), Err(Error::StreamNotClosed { stream }));
    let low = upload.machine.run(|tx| journals::commit_seal(tx, journal, Lsn(4)));
    assert!(matches!(low, Err(Error::Corrupt(_))), "below what was uploaded");
    for end in [8, 3] {
        upload
            .machine
            .run(|tx| journals::commit_seal(tx, journal, Lsn(end)))
            .unwrap();
    }
    let opened = open(&upload, 1).unwrap();
    assert_eq!((opened.start, opened.uploaded), (Offset(0), Offset(10)));
    assert_eq!(opened.snapshot.map(|at| at.crc), Some(10));
    assert_eq!(opened.tails.len(), 1);
    assert_eq!(opened.tails[0].range, LsnRange::new(Lsn(5), Lsn(8)));

    let own = upload.machine.journal(frontend);
    assert_eq!(
        open(&upload, 1).unwrap().tails.len(),
        1,
        "its own open journal doesn't hold it up"
    );
    let beyond = commit(upload.lease, journal, (5, 9), Vec::new());
    assert!(matches!(upload.commit(&beyond), Err(Error::Invalid(_))));
    let last = commit(upload.lease, journal, (5, 8), Vec::new());
    upload.commit(&last).unwrap();
    assert!(open(&upload, 1).unwrap().tails.is_empty());
    let listed: Vec<_> = journals::list(&upload.machine.state)
        .iter()
        .map(|info| info.journal)
        .collect();
    assert_eq!(listed, [own]);
    let compactor = upload.compactor;
    let lease = upload.lease;
    let renewed = upload.machine.run(|tx| tasks::renew(tx, compactor, lease));
    assert_eq!(
        renewed,
        Err(Error::LeaseFenced { task: lease.task }),
        "the task is finished"
    );
}

/// Another journal seals the one before; one that nothing was written to is gone at once.
#[test]
fn an_owner_has_one_open_journal() {
    let mut upload = upload();
    let first = upload.journal;
    let second = upload.machine.journal(upload.frontend);
    let state = |upload: &Upload, id| upload.machine.state.journal(id).unwrap().state;
    use tailwater_format::metadata::JournalState::*;
    assert_eq!((state(&upload, first), state(&upload, second)), (Sealing, Open));
    upload
        .machine
        .run(|tx| journals::commit_seal(tx, first, Lsn(0)))
        .unwrap();
    assert_eq!(state(&upload, first), Gone { end: Lsn(0) });
}

/// Streams of a deleted topic are left out of commits; their objects are marked once no living stream needs them.
#[test]
fn a_deleted_topic_frees_its_objects() {
    let mut upload = upload();
    let other = upload.machine.topic(upload.frontend, "b", 1);
    let (mixed, only) = (
        upload.put((0, 1), &[(0, 0, 5), (4, 0, 5)]),
        upload.put((1, 2), &[(1, 0, 5)]),
    );
    let (caller, topic) = (upload.frontend, upload.topic);
    upload
        .machine
        .run(|tx| catalog::delete_topic(tx, caller, topic))
        .unwrap();
    upload.machine.chores();
    assert_eq!(upload.machine.object_life(only), Some(ObjectLife::Marked));
    assert_eq!(upload.machine.object_life(mixed), Some(ObjectLife::Committed));
    assert!(matches!(
        objects::find(&upload.machine.state, StreamId(0), Offset(0), 1),
        Err(Error::NotFound(_))
    ));
    let late = upload.put((2, 3), &[(0, 5, 9)]);
    assert!(upload.machine.state.object(late).unwrap().slices.is_empty());
    upload.machine.chores();
    assert_eq!(upload.machine.object_life(late), Some(ObjectLife::Marked));
    upload
        .machine
        .run(|tx| catalog::delete_topic(tx, caller, other))
        .unwrap();
    upload.machine.chores();
    assert_eq!(upload.machine.object_life(mixed), Some(ObjectLife::Marked));
}

/// An upload of thousands of streams is one change within the bounds.
#[test]
fn a_commit_of_many_streams() {
    let mut upload = upload();
    upload.machine.topic(upload.frontend, "b", 8000);
    let slices: Vec<_> = (4..8004).map(|stream| (stream, 0, 7)).collect();
    upload.put((0, 1), &slices);
    assert_eq!(upload.uploaded(5000), 7);
}

/// Records can be deleted before they are uploaded: the start moves at once and survives, the uploaded end and the snapshot
/// of an opening stay those of the uploads, which go on as if nothing were deleted.
#[test]
fn a_start_above_what_is_uploaded_leaves_uploads_alone() {
    let mut upload = upload();
    upload.put((0, 5), &[(0, 0, 10)]);
    let (frontend, stream) = (upload.frontend, StreamId(0));
    let request = |start, leader_epoch| DeleteRecords {
        stream,
        leader_epoch: LeaderEpoch(leader_epoch),
        start: Offset(start),
    };
    let fenced = upload
        .machine
        .run(|tx| catalog::delete_records(tx, frontend, request(4, 1)));
    assert_eq!(fenced, Err(Error::StreamFenced { stream }));
    let negative = upload
        .machine
        .run(|tx| catalog::delete_records(tx, frontend, request(-1, 0)));
    assert!(matches!(negative, Err(Error::Invalid(_))));
    for (asked, start) in [(4, 4), (15, 15), (7, 15)] {
        upload
            .machine
            .run(|tx| catalog::delete_records(tx, frontend, request(asked, 0)))
            .unwrap();
        let rebuilt = upload.machine.rebuilt();
        let progress = rebuilt.progress(stream).unwrap();
        assert_eq!(
            (progress.start, progress.uploaded),
            (Offset(start), Offset(10)),
            "{asked}"
        );
        let snapshot = streams::snapshot_at(&rebuilt, stream, progress.uploaded).unwrap();
        assert_eq!(snapshot.crc, 10, "exact at the uploaded end");
    }
    assert_eq!(upload.found(0, 0), []);
    let object = upload.put((5, 9), &[(0, 10, 13)]);
    assert_eq!((upload.uploaded(0), upload.found(0, 0)), (13, vec![]));
    let next = upload.put((9, 12), &[(0, 13, 20)]);
    assert_eq!((upload.uploaded(0), upload.found(0, 0)), (20, vec![(next, 13, 20)]));
    assert!(upload.machine.state.object(object).is_some());
}
