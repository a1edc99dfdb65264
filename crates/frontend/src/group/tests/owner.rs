//! The owner's task over a real partition: what it does while the log is behind.

use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_types::{NodeId, Offset};
use tokio::sync::oneshot;

use super::harness::*;
use crate::coordinator::{Command, Owner, OwnerHandle, Stage};
use crate::group::Groups;
use crate::group::effects::*;
use crate::group::machine::GroupMachine;
use crate::group::metrics::GroupMetrics;
use crate::group::shard::Shard;
use crate::metadata::TopicCreator;
use crate::testing::Fixture;
use crate::view::View;

/// More batches than an owner has on their way at once.
const MORE_THAN_IN_FLIGHT: i64 = 20;

fn begin(owner: &OwnerHandle<GroupMachine>, request: Request) -> oneshot::Receiver<Reply> {
    let (reply, answer) = oneshot::channel();
    let group = GROUP.to_owned();
    let command = Command {
        id: group,
        request,
        reply,
    };
    assert!(owner.commands.try_send(command).is_ok(), "the queue has room");
    answer
}

async fn ask(owner: &OwnerHandle<GroupMachine>, request: Request) -> Reply {
    begin(owner, request).await.expect("the owner answers")
}

/// While the log stands still the owner takes no heartbeats, so it ends no sessions either: when the log goes on, whoever
/// has sent one is still a member. Nothing is answered before it is committed.
#[tokio::test(start_paused = true)]
async fn no_session_ends_while_the_log_stands_still() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("log").await;
    let (clock, metrics) = (
        fixture.runtime.clock.clone(),
        GroupMetrics::new(&fixture.runtime.metrics),
    );
    let (owner, handle) = Owner::new(
        GroupMachine::new(Shard::new(limits()), View::new(NodeId(1)), metrics.clone()),
        partition.clone(),
        1 << 20,
        metrics.loading.clone(),
        clock,
    );
    fixture
        .runtime
        .tasks
        .spawn("owner", tailwater_runtime::Policy::LOGGED_ABORT, owner.run());
    let Reply::Join(joined) = ask(&handle, new_member("a")).await else {
        panic!("not a JoinGroup reply")
    };
    let generation = joined.generation;
    ask(&handle, sync("a", generation, &[("a", "part")])).await;

    fixture.wal.hold();
    let before = partition.log_end();
    let mut commits = Vec::new();
    for offset in 0..MORE_THAN_IN_FLIGHT {
        let commit = Commit {
            member: member("a", generation),
            offsets: vec![(at(0), committed(offset))],
            unknown_group: ErrorCode::IllegalGeneration,
            knows_epochs: true,
        };
        commits.push(begin(&handle, Request::Commit(commit)));
        // Each becomes a batch of its own.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let taken = partition.log_end().0 - before.0;
    assert!(taken < MORE_THAN_IN_FLIGHT, "the owner takes no more");
    let beat = begin(&handle, Request::Heartbeat(member("a", generation)));
    tokio::time::sleep(3 * join("", "").session_timeout).await;
    assert!(
        commits.iter_mut().all(|commit| commit.try_recv().is_err()),
        "not committed"
    );

    fixture.wal.release();
    assert_eq!(beat.await, Ok(Reply::Heartbeat(ErrorCode::None)));
    for commit in commits {
        assert_eq!(commit.await, Ok(Reply::Commit(ErrorCode::None)));
    }
    assert!(partition.high_watermark() >= Offset(before.0 + taken));
}

/// A partition that couldn't be given away, with a commit under way: the next coordinator begins when the former one has
/// answered for it, and knows it.
#[tokio::test(start_paused = true)]
async fn a_coordinator_knows_what_its_predecessor_answers_for() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("log").await;
    let spawn = || {
        let (clock, metrics) = (
            fixture.runtime.clock.clone(),
            GroupMetrics::new(&fixture.runtime.metrics),
        );
        let (owner, handle) = Owner::new(
            GroupMachine::new(Shard::new(limits()), View::new(NodeId(1)), metrics.clone()),
            partition.clone(),
            1 << 20,
            metrics.loading.clone(),
            clock,
        );
        let tasks = &fixture.runtime.tasks;
        tasks.spawn("owner", tailwater_runtime::Policy::LOGGED_ABORT, owner.run());
        handle
    };
    let commit = |offset| {
        Request::Commit(Commit {
            member: MemberRef {
                member_id: String::new(),
                instance_id: None,
                generation: -1,
            },
            offsets: vec![(at(0), committed(offset))],
            unknown_group: ErrorCode::IllegalGeneration,
            knows_epochs: true,
        })
    };
    let former = spawn();
    assert_eq!(ask(&former, commit(1)).await, Reply::Commit(ErrorCode::None));
    fixture.wal.hold();
    let answer = begin(&former, commit(2));
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(former);

    let next = spawn();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(next.stage(), Stage::Loading, "its log isn't committed to the end");
    fixture.wal.release();
    assert_eq!(answer.await, Ok(Reply::Commit(ErrorCode::None)));
    let TopicPartition { topic, partition } = at(0);
    let asked = FetchOffsets {
        member_id: None,
        member_epoch: -1,
        require_stable: false,
        topics: Some(vec![(topic.clone(), vec![partition])]),
    };
    let expected = vec![(topic, vec![(partition, Fetched::Offset(committed(2)))])];
    assert_eq!(
        ask(&next, Request::FetchOffsets(asked)).await,
        Reply::FetchOffsets(Ok(expected))
    );
}

/// A commit that the log doesn't take is answered after 5 s, so that what its member has sent behind it on the same connection
/// gets its turn; once the log goes on, it counts all the same. So Apache Kafka does it (`offsets.commit.timeout.ms`).
#[tokio::test(start_paused = true)]
async fn a_commit_is_answered_while_the_log_stands_still() {
    let fixture = Fixture::start().await;
    let Fixture { data, runtime, .. } = &fixture;
    let groups = Groups::new(
        data.config.groups.clone(),
        data.session.clone(),
        data.view.clone(),
        data.partitions.clone(),
        TopicCreator::new(data.session.clone(), data.view.clone()),
        runtime,
    );
    let following = groups.clone().follow();
    runtime
        .tasks
        .spawn("groups", tailwater_runtime::Policy::LOGGED_ABORT, following);
    let commit = |offset| {
        let commit = Request::Commit(Commit {
            member: MemberRef {
                member_id: String::new(),
                instance_id: None,
                generation: -1,
            },
            offsets: vec![(at(0), committed(offset))],
            unknown_group: ErrorCode::IllegalGeneration,
            knows_epochs: true,
        });
        groups.commit(GROUP.to_owned(), commit)
    };
    groups.coordinator_of(GROUP).await.expect("the topic is made");
    while commit(1).await != ErrorCode::None {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.wal.hold();
    let begun = tokio::time::Instant::now();
    assert_eq!(commit(2).await, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    fixture.wal.release();
    assert_eq!(commit(3).await, ErrorCode::None);
    let log = groups.log_of(GROUP).expect("it is coordinated here");
    assert_eq!(log.high_watermark(), Offset(3), "all three are in the log");
}
