use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::TransactionEnd;
use tailwater_kafka::messages::{FetchPartition, FetchTopic, PartitionData};
use tailwater_runtime::CancellationToken;
use tailwater_runtime::config::ByteSize;
use tailwater_store::{Fault, FaultyStorage, Operation};
use tailwater_types::{Lsn, NodeId, Offset, TopicId};

use super::*;
use crate::config::Config;
use crate::testing::{
    Fixture, append, batch, commit, commit_verified, end, listener, marker, send_marker, transactional,
};

/// A fetch of these partitions of a topic, each from its offset.
fn request(topic: TopicId, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|(index, offset)| FetchPartition {
        partition: *index,
        fetch_offset: *offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    });
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic_id: topic.0,
            partitions: partitions.collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

async fn fetch(fixture: &Fixture, request: FetchRequest) -> Vec<PartitionData> {
    let Fetched { response, .. } = fixture.data.fetch.handle(request, 17, &listener()).await;
    assert_eq!(response.error_code, ErrorCode::None);
    response
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .collect()
}

fn bytes(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, |records| records.len())
}

/// Rule 4: a fetch in the middle of a batch returns the whole batch, from the cache and from an object.
#[tokio::test(start_paused = true)]
async fn rule_4_the_whole_batch_is_returned() {
    let mut fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let one = batch(&[b"a", b"b", b"c"]);
    commit(&partition, one.clone()).await;
    for restart in [false, true] {
        if restart {
            let journal = fixture.journal();
            fixture.upload(journal, Lsn(1), true).await;
            fixture.restart().await;
            fixture.opened(partition.topic(), 0).await;
        }
        let found = fetch(&fixture, request(partition.topic(), &[(0, 1)])).await;
        assert_eq!((found[0].error_code, bytes(&found[0])), (ErrorCode::None, one.len()));
        let mut nothing = request(partition.topic(), &[(0, 1)]);
        nothing.max_bytes = 0;
        let found = fetch(&fixture, nothing).await;
        assert_eq!((found[0].error_code, bytes(&found[0])), (ErrorCode::None, one.len()));
    }
}

/// Rule 5: the first batch of the first partition that has one is returned whatever its size; what doesn't fit behind it
/// is left out.
#[tokio::test(start_paused = true)]
async fn rule_5_the_first_batch_is_returned_whatever_its_size() {
    let fixture = Fixture::start().await;
    let topic = fixture.controller.add_topic("t", 3, &[]);
    let large = batch(&[&[7; 50_000]]);
    for index in [1, 2] {
        let partition = fixture.opened(topic, index).await;
        commit(&partition, large.clone()).await;
    }
    fixture.opened(topic, 0).await;
    let mut small = request(topic, &[(0, 0), (2, 0), (1, 0)]);
    small.max_bytes = 1000;
    for partition in &mut small.topics[0].partitions {
        partition.partition_max_bytes = 1000;
    }
    let found = fetch(&fixture, small).await;
    let lengths: Vec<usize> = found.iter().map(bytes).collect();
    assert_eq!(lengths, [0, large.len(), 0]);
}

/// Rule 6: at the log end a fetch waits for max_wait and is empty; for min_bytes it waits until they are committed; beyond
/// the log end the offset is out of range at once.
#[tokio::test(start_paused = true)]
async fn rule_6_a_fetch_waits_at_the_log_end() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let topic = partition.topic();
    commit(&partition, batch(&[b"first"])).await;
    let clock = &fixture.data.runtime.clock;
    let began = clock.now();
    let found = fetch(&fixture, request(topic, &[(0, 1)])).await;
    assert_eq!((bytes(&found[0]), found[0].high_watermark), (0, 1));
    assert_eq!(clock.now() - began, Duration::from_millis(500));

    let began = clock.now();
    let found = fetch(&fixture, request(topic, &[(0, 2)])).await;
    assert_eq!(found[0].error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!(clock.now(), began);

    let one = batch(&[b"more"]);
    let mut patient = request(topic, &[(0, 1)]);
    patient.min_bytes = 2 * one.len() as i32;
    let produce = async {
        for _ in 0..2 {
            clock.sleep(Duration::from_millis(100)).await;
            commit(&partition, one.clone()).await;
        }
    };
    let (found, ()) = tokio::join!(fetch(&fixture, patient), produce);
    assert_eq!(bytes(&found[0]), 2 * one.len());
    assert_eq!(clock.now() - began, Duration::from_millis(200));
}

/// Rule 6: `min_bytes` beyond `max_bytes` can never be had, and isn't waited for.
#[tokio::test(start_paused = true)]
async fn rule_6_more_than_max_bytes_is_not_waited_for() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let one = batch(&[&[7; 1000]]);
    commit(&partition, one.clone()).await;
    let mut greedy = request(partition.topic(), &[(0, 0)]);
    (greedy.min_bytes, greedy.max_bytes) = (i32::MAX, one.len() as i32);
    let began = fixture.data.runtime.clock.now();
    let found = fetch(&fixture, greedy).await;
    assert_eq!(bytes(&found[0]), one.len());
    assert_eq!(fixture.data.runtime.clock.now(), began);
}

/// Between the high watermark and the log end a fetch waits like at the end: nothing there is committed, nor out of range.
#[tokio::test(start_paused = true)]
async fn an_uncommitted_offset_is_waited_for() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    fixture.wal.hold();
    for _ in 0..3 {
        drop(append(&partition, batch(&[b"x"])).await.unwrap());
    }
    let found = fetch(&fixture, request(partition.topic(), &[(0, 2)])).await;
    assert_eq!((found[0].error_code, bytes(&found[0])), (ErrorCode::None, 0));
    let found = fetch(&fixture, request(partition.topic(), &[(0, 4)])).await;
    assert_eq!(found[0].error_code, ErrorCode::OffsetOutOfRange);
}

/// Rule 7: read_committed stops at the last stable offset, which without transactions is the high watermark, and lists
/// aborted transactions; read_uncommitted lists none.
#[tokio::test(start_paused = true)]
async fn rule_7_read_committed_names_the_stable_end() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit(&partition, batch(&[b"x"])).await;
    for (isolation_level, aborted) in [(0, None), (1, Some(Vec::new()))] {
        let mut request = request(partition.topic(), &[(0, 0)]);
        request.isolation_level = isolation_level;
        let found = fetch(&fixture, request).await;
        assert_eq!((found[0].last_stable_offset, found[0].high_watermark), (1, 1));
        assert_eq!(found[0].aborted_transactions, aborted);
    }
}

/// Rule 10: a client that knows an older epoch is told so at once, one that knows a newer one too.
#[tokio::test(start_paused = true)]
async fn rule_10_epochs_are_checked() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let topic = partition.topic();
    fixture.controller.set_sealed(fixture.journal(), Lsn(0));
    fixture.controller.move_to(fixture.controller.stream(topic, 0), 1);
    let mut changes = fixture.data.partitions.changes();
    while !partition.has_ended() {
        changes.changed().await.unwrap();
    }
    fixture.opened(topic, 0).await;
    for (epoch, code) in [(0, ErrorCode::FencedLeaderEpoch), (2, ErrorCode::UnknownLeaderEpoch)] {
        let mut request = request(topic, &[(0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(fetch(&fixture, request).await[0].error_code, code);
    }
}

/// What isn't there is told per partition, and the others are answered; a leader elsewhere is named with its endpoint.
#[tokio::test(start_paused = true)]
async fn one_partitions_error_is_its_own() {
    let fixture = Fixture::start().await;
    let topic = fixture.controller.add_topic("t", 2, &[]);
    let partition = fixture.opened(topic, 0).await;
    commit(&partition, batch(&[b"x"])).await;
    let moved = fixture.opened(topic, 1).await;
    fixture.controller.move_to(fixture.controller.stream(topic, 1), 1);
    let mut changes = fixture.data.partitions.changes();
    while !moved.has_ended() {
        changes.changed().await.unwrap();
    }
    let found = fetch(&fixture, request(topic, &[(0, 0), (9, 0)])).await;
    assert_eq!(found[0].error_code, ErrorCode::None);
    assert_eq!(found[1].error_code, ErrorCode::UnknownTopicOrPartition);
    let unknown = TopicId::from_random(99);
    let found = fetch(&fixture, request(unknown, &[(0, 0)])).await;
    assert_eq!(found[0].error_code, ErrorCode::UnknownTopicId);
    // Node 1's own endpoint serves as another's.
    let stream = fixture.controller.stream(topic, 0);
    fixture.controller.move_to(stream, 2);
    while !partition.has_ended() {
        changes.changed().await.unwrap();
    }
    let Fetched { response, .. } = fixture
        .data
        .fetch
        .handle(request(topic, &[(0, 0)]), 17, &listener())
        .await;
    let found = &response.responses[0].partitions[0];
    assert_eq!(found.error_code, ErrorCode::NotLeaderOrFollower);
    assert!(fixture.data.view.snapshot().node(NodeId(2)).is_none());
    assert_eq!((found.current_leader.leader_id, response.node_endpoints.len()), (-1, 0));
}

/// One fetch of a session: its id and epoch, and what it says of partitions. Answers what was said, by partition.
async fn in_session(
    fixture: &Fixture,
    version: i16,
    session: (i32, i32),
    topics: Vec<FetchTopic>,
) -> (FetchResponse, Vec<(i32, ErrorCode, i64)>) {
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        session_id: session.0,
        session_epoch: session.1,
        topics,
        ..FetchRequest::default()
    };
    let Fetched { response, .. } = fixture.data.fetch.handle(request, version, &listener()).await;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let told = partitions.map(|data| (data.partition_index, data.error_code, data.high_watermark));
    let told = told.collect();
    (response, told)
}

/// Rule 22: a full fetch lists every partition and gives a session; in that only news is said; what was never given out,
/// or is out of turn, is refused.
#[tokio::test(start_paused = true)]
async fn rule_22_sessions_say_what_is_new() {
    let fixture = Fixture::start().await;
    let topic = fixture.controller.add_topic("t", 3, &[]);
    for index in 0..3 {
        fixture.opened(topic, index).await;
    }
    let none = ErrorCode::None;
    let all = request(topic, &[(0, 0), (1, 0), (2, 0)]).topics;
    let (first, told) = in_session(&fixture, 17, (0, 0), all).await;
    assert_eq!(told, [(0, none, 0), (1, none, 0), (2, none, 0)]);
    let id = first.session_id;
    assert!(id > 0);
    let (second, told) = in_session(&fixture, 17, (id, 1), Vec::new()).await;
    assert_eq!((second.session_id, second.error_code, told.len()), (id, none, 0));
    let partition = fixture.opened(topic, 1).await;
    commit(&partition, batch(&[b"x"])).await;
    let (third, told) = in_session(&fixture, 17, (id, 2), Vec::new()).await;
    assert_eq!(told, [(1, none, 1)]);
    assert!(bytes(&third.responses[0].partitions[0]) > 0);
    let moved = request(topic, &[(1, 1)]).topics;
    assert_eq!(in_session(&fixture, 17, (id, 3), moved).await.1, []);
    for (session, expected) in [
        ((id, 3), ErrorCode::InvalidFetchSessionEpoch),
        ((5, 4), ErrorCode::FetchSessionIdNotFound),
    ] {
        let (refused, told) = in_session(&fixture, 17, session, Vec::new()).await;
        assert_eq!((refused.error_code, refused.session_id, told.len()), (expected, 0, 0));
    }
    assert_eq!(in_session(&fixture, 17, (id, 4), Vec::new()).await.0.error_code, none);
}

/// A session that names a topic finds the one made anew under the name; one by id is told that its topic is gone.
#[tokio::test(start_paused = true)]
async fn sessions_outlive_their_topics() {
    let fixture = Fixture::start().await;
    let old = fixture.topic("t").await;
    commit(&old, batch(&[b"x", b"y"])).await;
    let by_id = request(old.topic(), &[(0, 2)]).topics;
    let by_name = vec![FetchTopic {
        topic: "t".into(),
        topic_id: Default::default(),
        partitions: by_id[0].partitions.clone(),
    }];
    let ids = in_session(&fixture, 13, (0, 0), by_id).await.0.session_id;
    let names = in_session(&fixture, 12, (0, 0), by_name).await.0.session_id;
    assert!(ids > 0 && names > 0 && ids != names);
    fixture.controller.delete_topic_now(old.topic());
    let mut changes = fixture.data.partitions.changes();
    while !old.has_ended() {
        changes.changed().await.unwrap();
    }
    let gone = in_session(&fixture, 13, (ids, 1), Vec::new()).await;
    assert_eq!(
        (gone.0.session_id, gone.1),
        (ids, vec![(0, ErrorCode::UnknownTopicId, -1)])
    );
    let gone = in_session(&fixture, 12, (names, 1), Vec::new()).await;
    assert_eq!(gone.1, [(0, ErrorCode::UnknownTopicOrPartition, -1)]);
    fixture.topic("t").await;
    assert_eq!(
        in_session(&fixture, 13, (ids, 2), Vec::new()).await.1,
        [(0, ErrorCode::UnknownTopicId, -1)]
    );
    let anew = in_session(&fixture, 12, (names, 2), Vec::new()).await;
    assert_eq!(anew.1, [(0, ErrorCode::OffsetOutOfRange, -1)], "it is another log");
}

/// Waiting fetches leave nothing behind at their partitions.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_over_is_forgotten() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    for _ in 0..3 {
        fetch(&fixture, request(partition.topic(), &[(0, 0)])).await;
    }
    let clock = &fixture.data.runtime.clock;
    let dropped = clock.timeout(
        Duration::from_millis(10),
        fetch(&fixture, request(partition.topic(), &[(0, 0)])),
    );
    assert!(dropped.await.is_err());
    assert_eq!(partition.waiting_fetches(), 0);
}

/// An answer from behind the tail cache holds permits for what it has, no matter how much less or more than that was
/// asked for; one from the tail cache holds none.
#[tokio::test(start_paused = true)]
async fn an_answer_holds_permits_for_its_bytes() {
    let mut config = Config::default();
    config.fetch.cold_read_bytes = ByteSize(100_000);
    let mut fixture = Fixture::with(config).await;
    let partition = fixture.topic("t").await;
    let topic = partition.topic();
    let large = batch(&[&[7; 60_000]]);
    commit(&partition, large.clone()).await;
    let cached = fixture
        .data
        .fetch
        .handle(request(topic, &[(0, 0)]), 17, &listener())
        .await;
    assert!(cached.memory.is_empty());
    let journal = fixture.journal();
    fixture.upload(journal, Lsn(1), true).await;
    fixture.restart().await;
    fixture.opened(topic, 0).await;
    let memory = fixture.data.fetch.cold_bytes.clone();
    let mut small = request(topic, &[(0, 0)]);
    small.max_bytes = 1000;
    for asked in [request(topic, &[(0, 0)]), small.clone()] {
        let fetched = fixture.data.fetch.handle(asked, 17, &listener()).await;
        assert_eq!(memory.in_use_bytes(), large.len() as u64);
        drop(fetched.memory);
        assert_eq!(memory.in_use_bytes(), 0);
    }
    // With no room for the rest of the batch it is read again when there is.
    let held = memory.try_acquire(50_000).unwrap();
    let through = listener();
    let mut fetching = Box::pin(fixture.data.fetch.handle(small, 17, &through));
    let early = fixture
        .data
        .runtime
        .clock
        .timeout(Duration::from_secs(5), &mut fetching);
    assert!(early.await.is_err(), "answered without memory for it");
    drop(held);
    let fetched = fetching.await;
    assert_eq!(
        fetched.memory.iter().map(BytePermit::bytes).sum::<u64>(),
        large.len() as u64
    );
}

/// As [`request`], under read_committed.
fn committed(topic: TopicId, partitions: &[(i32, i64)]) -> FetchRequest {
    FetchRequest {
        isolation_level: 1,
        ..request(topic, partitions)
    }
}

fn aborted(data: &PartitionData) -> Option<Vec<(i64, i64)>> {
    let all = data.aborted_transactions.as_ref()?;
    Some(all.iter().map(|one| (one.producer_id, one.first_offset)).collect())
}

/// Rule 7: read_committed stops below the last stable offset and lists what was aborted, also from objects after a restart;
/// read_uncommitted reads everything and lists nothing.
#[tokio::test(start_paused = true)]
async fn rule_7_read_committed_stops_at_the_last_stable_offset() {
    let mut fixture = Fixture::start().await;
    let mut partition = fixture.topic("t").await;
    let topic = partition.topic();
    commit_verified(&partition, transactional(7, 0, 0, &[b"a"])).await;
    commit(&partition, batch(&[b"plain"])).await;
    end(&partition, 7, 0, TransactionEnd::Abort).await;
    commit_verified(&partition, transactional(8, 0, 0, &[b"open"])).await;
    commit(&partition, batch(&[b"behind"])).await;
    for restart in [false, true] {
        if restart {
            let journal = fixture.journal();
            let all = Lsn(fixture.wal.entries(journal).len() as u64);
            fixture.upload(journal, all, true).await;
            fixture.restart().await;
            partition = fixture.opened(topic, 0).await;
        }
        let all = fetch(&fixture, request(topic, &[(0, 0)])).await.remove(0);
        assert_eq!((all.last_stable_offset, all.high_watermark), (3, 5));
        assert_eq!(aborted(&all), None);
        let stable = fetch(&fixture, committed(topic, &[(0, 0)])).await.remove(0);
        assert_eq!((stable.last_stable_offset, stable.high_watermark), (3, 5));
        assert_eq!(aborted(&stable), Some(vec![(7, 0)]));
        let behind = transactional(8, 0, 0, &[b"open"]).len() + batch(&[b"behind"]).len();
        assert_eq!(bytes(&stable), bytes(&all) - behind);
        // The marker ends it: whoever begins behind it need not know.
        let later = fetch(&fixture, committed(topic, &[(0, 3)])).await.remove(0);
        assert_eq!(
            (later.error_code, bytes(&later), aborted(&later)),
            (ErrorCode::None, 0, Some(vec![]))
        );
        // Of what isn't decided nothing is read, and nothing is out of range.
        let undecided = fetch(&fixture, committed(topic, &[(0, 4)])).await.remove(0);
        assert_eq!((undecided.error_code, bytes(&undecided)), (ErrorCode::None, 0));
        let beyond = fetch(&fixture, committed(topic, &[(0, 6)])).await.remove(0);
        assert_eq!(beyond.error_code, ErrorCode::OffsetOutOfRange);
    }
    end(&partition, 8, 0, TransactionEnd::Commit).await;
    let stable = fetch(&fixture, committed(topic, &[(0, 0)])).await.remove(0);
    assert_eq!((stable.last_stable_offset, stable.high_watermark), (6, 6));
    assert_eq!(aborted(&stable), Some(vec![(7, 0)]));
}

/// Only what was aborted in the batches of an answer is listed with it.
#[tokio::test(start_paused = true)]
async fn aborted_transactions_are_those_of_the_answer() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    for producer in [7, 8] {
        commit_verified(&partition, transactional(producer, 0, 0, &[b"x"])).await;
        end(&partition, producer, 0, TransactionEnd::Abort).await;
    }
    let mut small = committed(partition.topic(), &[(0, 0)]);
    small.topics[0].partitions[0].partition_max_bytes = 1;
    let found = fetch(&fixture, small).await.remove(0);
    assert_eq!(bytes(&found), transactional(7, 0, 0, &[b"x"]).len());
    assert_eq!(aborted(&found), Some(vec![(7, 0)]));
    let found = fetch(&fixture, committed(partition.topic(), &[(0, 1)])).await.remove(0);
    assert_eq!(aborted(&found), Some(vec![(7, 0), (8, 2)]), "its marker is to come");
}

/// A fetch that waits under read_committed is woken when what it waits for is decided, not when it is committed: by the
/// marker, however few bytes that has.
#[tokio::test(start_paused = true)]
async fn rule_7_a_waiting_fetch_is_woken_by_the_marker() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let topic = partition.topic();
    let clock = &fixture.data.runtime.clock;
    let began = clock.now();
    let data = transactional(7, 0, 0, &[&[1; 1000]]);
    let mut patient = committed(topic, &[(0, 0)]);
    (patient.min_bytes, patient.max_wait_ms) = (1000, 10_000);
    let produce = async {
        clock.sleep(Duration::from_millis(100)).await;
        commit_verified(&partition, data.clone()).await;
        clock.sleep(Duration::from_millis(100)).await;
        fixture.wal.hold();
        let sent = send_marker(&partition, marker(7, 0, TransactionEnd::Commit))
            .await
            .unwrap();
        clock.sleep(Duration::from_millis(100)).await;
        fixture.wal.release();
        sent.committed().await.unwrap();
    };
    let (found, ()) = tokio::join!(fetch(&fixture, patient), produce);
    assert!(bytes(&found[0]) > data.len());
    assert_eq!(clock.now() - began, Duration::from_millis(300));

    // Without transactions it waits for as many bytes as it asks for.
    let one = batch(&[b"more"]);
    let mut patient = committed(topic, &[(0, 2)]);
    patient.min_bytes = 2 * one.len() as i32;
    let began = clock.now();
    let produce = async {
        for _ in 0..2 {
            clock.sleep(Duration::from_millis(100)).await;
            commit(&partition, one.clone()).await;
        }
    };
    let (found, ()) = tokio::join!(fetch(&fixture, patient), produce);
    assert_eq!(bytes(&found[0]), 2 * one.len());
    assert_eq!(clock.now() - began, Duration::from_millis(200));
}

/// Rule 7: what was aborted among records that DeleteRecords takes while they are read, nobody knows any more: they
/// aren't answered as if all of them counted.
#[tokio::test(start_paused = true)]
async fn rule_7_records_deleted_while_they_are_read_are_not_answered() {
    let mut fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let topic = partition.topic();
    commit_verified(&partition, transactional(7, 0, 0, &[b"a"])).await;
    end(&partition, 7, 0, TransactionEnd::Abort).await;
    commit(&partition, batch(&[b"plain"])).await;
    let journal = fixture.journal();
    fixture.upload(journal, Lsn(3), true).await;
    let storage = Arc::new(FaultyStorage::new(fixture.storage.clone()));
    fixture.storage = storage.clone();
    fixture.restart().await;
    let partition = fixture.opened(topic, 0).await;

    let (begun, release) = (storage.begun().len(), CancellationToken::new());
    for operation in [Operation::GetRange, Operation::GetTail] {
        storage.inject(operation, 0, Fault::Held(release.clone()));
    }
    let deletes = async {
        while storage.begun().len() == begun {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        partition.set_log_start(Offset(2));
        release.cancel();
    };
    let (found, ()) = tokio::join!(fetch(&fixture, committed(topic, &[(0, 0)])), deletes);
    assert_eq!(found[0].error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!(bytes(&found[0]), 0);
    let found = fetch(&fixture, committed(topic, &[(0, 2)])).await.remove(0);
    assert_eq!((found.error_code, aborted(&found)), (ErrorCode::None, Some(vec![])));
    assert_eq!(bytes(&found), batch(&[b"plain"]).len());
}
