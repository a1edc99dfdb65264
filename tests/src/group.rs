//! A group's member as its client is to the coordinator, of either protocol, with a connection of its own, for tests and the bench.
//!
//! Owns: what a member sends, and what it has been given. Does not own: when it speaks. A member gives partitions back at once
//! when it is told to; it says so with its next heartbeat, as one that beats at a fixed pace.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Barrier, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use tailwater_kafka::messages::{
    AssignedPartitions, ConsumerAssignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatTopic,
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
    JoinGroupResponseMember, MetadataRequest, MetadataRequestTopic, SyncGroupRequest, SyncGroupRequestAssignment,
};
use tailwater_kafka::{ErrorCode, Str, Uuid};

use crate::Connection;

const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const CONSUMER_HEARTBEAT_VERSION: i16 = 1;
/// Kafka's clients' default.
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
const RETRY: Duration = Duration::from_millis(20);
const ASSIGNOR: &str = "even";
/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// JoinGroup, SyncGroup, Heartbeat: members assign.
    Classic,
    /// ConsumerGroupHeartbeat: the coordinator assigns.
    Modern,
}

/// What all members share partitions of.
#[derive(Clone, Debug)]
pub struct SharedTopic {
    pub topic: String,
    pub topic_id: Uuid,
    pub partitions: i32,
}

/// One member. Whatever goes wrong that clients don't get over by themselves is an error.
#[derive(Debug)]
pub struct GroupMember {
    protocol: GroupProtocol,
    group: Str,
    shared: SharedTopic,
    connection: Connection,
    session_timeout_ms: i32,
    /// Classic: empty until the coordinator has given one.
    id: Str,
    epoch: i32,
    owned: BTreeSet<i32>,
}

impl SharedTopic {
    /// A new topic that the server knows, and coordinators that are there.
    ///
    /// # Errors
    /// If that isn't so within a minute.
    pub fn create(server: SocketAddr, topic: &str, partitions: i32) -> Result<Self> {
        let mut connection = Connection::try_open(server)?;
        let created = connection.create_topic(topic, partitions, &[])?;
        ensure!(created == ErrorCode::None, "{created:?}");
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            let coordinator = FindCoordinatorRequest {
                key: Str::from("any"),
                ..Default::default()
            };
            let is_found = !connection.call(3, &coordinator)?.error_code.is_error();
            let request = MetadataRequest {
                topics: Some(vec![MetadataRequestTopic {
                    name: Some(Str::from(topic)),
                    ..Default::default()
                }]),
                ..Default::default()
            };
            let found = connection.call(12, &request)?.topics.into_iter().next();
            let found = found.context("an answer about the topic")?;
            let are_led = found.partitions.iter().all(|partition| partition.leader_id >= 0);
            if is_found && are_led && found.partitions.len() == partitions.unsigned_abs() as usize {
                return Ok(Self {
                    topic: topic.to_owned(),
                    topic_id: found.topic_id,
                    partitions,
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("{topic} isn't there within {LIMIT:?}")
    }
}

impl GroupMember {
    /// Not joined yet.
    ///
    /// # Errors
    /// If the server takes no connection.
    pub fn new(
        protocol: GroupProtocol,
        server: SocketAddr,
        group: &str,
        number: usize,
        shared: &SharedTopic,
    ) -> Result<Self> {
        let id = match protocol {
            GroupProtocol::Classic => Str::default(),
            GroupProtocol::Modern => Str::from(format!("member-{number:03}").as_str()),
        };
        Ok(Self {
            protocol,
            group: Str::from(group),
            shared: shared.clone(),
            connection: Connection::try_open(server)?,
            session_timeout_ms: SESSION_TIMEOUT_MS,
            id,
            epoch: 0,
            owned: BTreeSet::new(),
        })
    }

    /// Instead of 45 s. In the new protocol the coordinator's configuration says it.
    ///
    /// # Panics
    /// If it is above 24 days.
    #[must_use]
    pub fn with_session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout_ms = i32::try_from(timeout.as_millis()).expect("at most 24 days");
        self
    }

    /// From now on it speaks to the coordinator at this address.
    ///
    /// # Errors
    /// If that takes no connection.
    pub fn connect(&mut self, server: SocketAddr) -> Result<()> {
        self.connection = Connection::try_open(server)?;
        Ok(())
    }

    /// The classic generation, or the member's epoch; 0 before it has joined.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Its partitions, as far as it has been told.
    pub fn owned(&self) -> &BTreeSet<i32> {
        &self.owned
    }

    /// One heartbeat, or all that it takes to join, which waits for the others of a classic group.
    ///
    /// # Errors
    /// If the connection fails, or the coordinator refuses the member.
    pub fn beat(&mut self) -> Result<()> {
        if self.protocol == GroupProtocol::Modern {
            return self.beat_modern();
        }
        if self.epoch > 0 && self.beat_classic()? {
            return Ok(());
        }
        self.join_classic()
    }

    fn beat_modern(&mut self) -> Result<()> {
        loop {
            let joins = self.epoch == 0;
            let owned = ConsumerGroupHeartbeatTopic {
                topic_id: self.shared.topic_id,
                partitions: self.owned.iter().copied().collect(),
            };
            let request = ConsumerGroupHeartbeatRequest {
                group_id: self.group.clone(),
                member_id: self.id.clone(),
                member_epoch: self.epoch,
                rebalance_timeout_ms: if joins { REBALANCE_TIMEOUT_MS } else { -1 },
                subscribed_topic_names: joins.then(|| vec![Str::from(self.shared.topic.as_str())]),
                topic_partitions: Some(if self.owned.is_empty() { Vec::new() } else { vec![owned] }),
                ..Default::default()
            };
            let reply = self.connection.call(CONSUMER_HEARTBEAT_VERSION, &request)?;
            match reply.error_code {
                ErrorCode::None => {}
                error if is_passing(error) => {
                    std::thread::sleep(RETRY);
                    continue;
                }
                error => bail!("{}: {error:?} {:?}", self.id, reply.error_message),
            }
            self.epoch = reply.member_epoch;
            if let Some(assignment) = reply.assignment {
                let topics = assignment.topic_partitions.into_iter();
                self.owned = topics.flat_map(|topic| topic.partitions).collect();
            }
            return Ok(());
        }
    }

    /// False where the member has to join again.
    fn beat_classic(&mut self) -> Result<bool> {
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.epoch,
            member_id: self.id.clone(),
            group_instance_id: None,
        };
        match self.connection.call(HEARTBEAT_VERSION, &request)?.error_code {
            ErrorCode::None => Ok(true),
            ErrorCode::RebalanceInProgress => Ok(false),
            error if is_passing(error) => Ok(true),
            error => bail!("{}: {error:?}", self.id),
        }
    }

    fn join_classic(&mut self) -> Result<()> {
        loop {
            self.send_join()?;
            let joined = self.receive_joined()?;
            if self.sync(&joined)? {
                return Ok(());
            }
        }
    }

    /// Asks to join a classic group, and doesn't wait for the others' doing so.
    ///
    /// # Errors
    /// As [`GroupMember::beat`].
    pub fn send_join(&mut self) -> Result<()> {
        while self.id.is_empty() {
            let request = self.join_request();
            let reply = self.connection.call(JOIN_VERSION, &request)?;
            match reply.error_code {
                ErrorCode::MemberIdRequired => self.id = reply.member_id,
                error if is_passing(error) => std::thread::sleep(RETRY),
                error => bail!("a member without an id was answered {error:?}"),
            }
        }
        let request = self.join_request();
        Ok(self.connection.send(JOIN_VERSION, &request)?)
    }

    /// The answer to [`GroupMember::send_join`].
    ///
    /// # Errors
    /// As [`GroupMember::beat`].
    pub fn receive_joined(&mut self) -> Result<JoinGroupResponse> {
        let joined = self.connection.receive::<JoinGroupRequest>(JOIN_VERSION)?;
        ensure!(
            joined.error_code == ErrorCode::None,
            "{} doesn't join: {:?}",
            self.id,
            joined.error_code
        );
        Ok(joined)
    }

    fn join_request(&self) -> JoinGroupRequest {
        let protocol = JoinGroupRequestProtocol {
            name: Str::from(ASSIGNOR),
            metadata: subscription(&self.shared.topic),
        };
        JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: self.id.clone(),
            protocol_type: Str::from("consumer"),
            protocols: vec![protocol],
            ..Default::default()
        }
    }

    /// Gets the assignment, the leader's own doing. False where the next rebalance has begun.
    fn sync(&mut self, joined: &JoinGroupResponse) -> Result<bool> {
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: joined.generation_id,
            member_id: self.id.clone(),
            group_instance_id: None,
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(Str::from(ASSIGNOR)),
            assignments: assign(joined, &self.shared)?,
        };
        let reply = self.connection.call(SYNC_VERSION, &request)?;
        match reply.error_code {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => return Ok(false),
            error => bail!("{} isn't given partitions: {error:?}", self.id),
        }
        let assignment = ConsumerAssignment::decode_any(&reply.assignment).context("the assignment")?;
        let topics = assignment.assigned_partitions.into_iter();
        self.owned = topics.flat_map(|topic| topic.partitions).collect();
        self.epoch = joined.generation_id;
        Ok(true)
    }
}

/// Has all members of a small group join, one thread doing so: each has its share afterwards.
///
/// # Errors
/// If one of them is refused.
pub fn join_as_one(members: &mut [GroupMember]) -> Result<()> {
    let Some(first) = members.first_mut() else {
        return Ok(());
    };
    if first.protocol == GroupProtocol::Modern {
        return members.iter_mut().try_for_each(GroupMember::beat);
    }
    // It is the group's leader, and by itself at first: it joins again with the others, until all of them are in.
    first.send_join()?;
    first.receive_joined()?;
    let (first, others) = members.split_first_mut().context("there is one")?;
    others.iter_mut().try_for_each(GroupMember::send_join)?;
    let joined = loop {
        first.send_join()?;
        let joined = first.receive_joined()?;
        ensure!(joined.leader == first.id, "the first one leads");
        if joined.members.len() > others.len() {
            break joined;
        }
        let is_in = |member: &GroupMember| joined.members.iter().any(|found| found.member_id == member.id);
        for member in others.iter_mut().filter(|member| is_in(member)) {
            member.receive_joined()?;
            member.send_join()?;
        }
    };
    ensure!(first.sync(&joined)?, "a rebalance amid a rebalance");
    for member in others {
        let joined = member.receive_joined()?;
        ensure!(member.sync(&joined)?, "a rebalance amid a rebalance");
    }
    Ok(())
}

/// Has all members join, or go on, each in a thread of its own with a heartbeat every `pace`, until they have settled: equal
/// shares of all partitions, of the same epoch. Answers how long that took.
///
/// # Errors
/// If one of them is refused, or they don't settle within a minute.
///
/// # Panics
/// If a partition that the coordinator assigns is with two members at any time.
pub fn settle_group(members: &mut [GroupMember], pace: Duration) -> Result<Duration> {
    let first = members.first().context("a group has members")?;
    let board = Board {
        standings: Mutex::new(vec![(0, BTreeSet::new()); members.len()]),
        partitions: first.shared.partitions,
        // Members of a classic group give theirs back while they join, without a word.
        is_told_of_all: first.protocol == GroupProtocol::Modern,
        settled: OnceLock::new(),
    };
    let begin = Barrier::new(members.len());
    let drive = |number: usize, member: &mut GroupMember| -> Result<Instant> {
        begin.wait();
        let begun = Instant::now();
        loop {
            let beat = Instant::now();
            member.beat()?;
            if board.tell(number, member) {
                return Ok(begun);
            }
            ensure!(
                begun.elapsed() < LIMIT,
                "{} doesn't settle: {:?}",
                member.group,
                board.epochs()
            );
            std::thread::sleep(pace.saturating_sub(beat.elapsed()));
        }
    };
    let begun: Vec<Instant> = std::thread::scope(|scope| {
        let drive = &drive;
        let numbered = members.iter_mut().enumerate();
        let threads: Vec<_> = numbered
            .map(|(number, member)| scope.spawn(move || drive(number, member)))
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Result<_>>()
    })?;
    let first = begun.into_iter().min().context("there are members")?;
    let settled = board.settled.get().context("it has settled")?;
    Ok(settled.duration_since(first))
}

/// What the members of a group have, as they learn of it.
struct Board {
    standings: Mutex<Vec<(i32, BTreeSet<i32>)>>,
    partitions: i32,
    /// Whether each change of a member's partitions is told before it has an effect.
    is_told_of_all: bool,
    settled: OnceLock<Instant>,
}

impl Board {
    /// Whether everybody has its share of the same epoch by now.
    fn tell(&self, number: usize, member: &GroupMember) -> bool {
        let mut standings = self.standings.lock().expect("nobody panics with it");
        let standing = (member.epoch(), member.owned().clone());
        let has_changed = standings[number] != standing;
        standings[number] = standing;
        if self.is_told_of_all && has_changed {
            check_disjoint(&standings, self.partitions);
        }
        if self.settled.get().is_none() && is_settled(&standings, self.partitions) {
            let _ = self.settled.set(Instant::now());
        }
        self.settled.get().is_some()
    }

    fn epochs(&self) -> Vec<(i32, usize)> {
        let standings = self.standings.lock().expect("nobody panics with it");
        standings.iter().map(|(epoch, owned)| (*epoch, owned.len())).collect()
    }
}

fn check_disjoint(standings: &[(i32, BTreeSet<i32>)], partitions: i32) {
    let mut is_taken = vec![false; partitions.unsigned_abs() as usize];
    for partition in standings.iter().flat_map(|(_, owned)| owned) {
        let is_taken = &mut is_taken[partition.unsigned_abs() as usize];
        assert!(!*is_taken, "partition {partition} is with two members");
        *is_taken = true;
    }
}

/// All partitions are with somebody, each with one, in shares that differ by one at most.
fn is_settled(standings: &[(i32, BTreeSet<i32>)], partitions: i32) -> bool {
    let Some((epoch, _)) = standings.first() else {
        return false;
    };
    if *epoch == 0 || standings.iter().any(|(other, _)| other != epoch) {
        return false;
    }
    let partitions = partitions.unsigned_abs() as usize;
    let even = partitions / standings.len()..=partitions.div_ceil(standings.len());
    let shares = standings.iter().map(|(_, owned)| owned);
    let given: usize = shares.clone().map(BTreeSet::len).sum();
    let distinct: BTreeSet<i32> = shares.clone().flatten().copied().collect();
    shares.into_iter().all(|owned| even.contains(&owned.len())) && given == partitions && distinct.len() == partitions
}

/// The leader's: equal shares of what there is. Nobody else's.
fn assign(joined: &JoinGroupResponse, shared: &SharedTopic) -> Result<Vec<SyncGroupRequestAssignment>> {
    if joined.leader != joined.member_id {
        return Ok(Vec::new());
    }
    let count = i32::try_from(joined.members.len())?;
    let share = |(member, number): (&JoinGroupResponseMember, i32)| {
        let bound = |number: i32| shared.partitions * number / count;
        let assignment = ConsumerAssignment {
            assigned_partitions: vec![AssignedPartitions {
                topic: Str::from(shared.topic.as_str()),
                partitions: (bound(number)..bound(number + 1)).collect(),
            }],
            user_data: None,
        };
        Ok(SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: assignment.encode_with_version(0)?,
        })
    };
    joined.members.iter().zip(0..).map(share).collect()
}

/// Version 0: the topics, and nothing of the member's own.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(i16::try_from(topic.len()).expect("a topic's name"));
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(-1);
    bytes.freeze()
}

fn is_passing(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group has settled when all have the same epoch and equal shares that nobody else has.
    #[test]
    fn settled_is_everything_with_one_member_each() {
        let standing = |epoch, owned: &[i32]| (epoch, owned.iter().copied().collect());
        assert!(is_settled(&[standing(2, &[0, 1]), standing(2, &[2])], 3));
        assert!(!is_settled(&[standing(2, &[0, 1]), standing(1, &[2])], 3), "two epochs");
        assert!(
            !is_settled(&[standing(0, &[0, 1]), standing(0, &[2])], 3),
            "nobody has joined"
        );
        assert!(
            !is_settled(&[standing(2, &[0, 1]), standing(2, &[])], 3),
            "one is with nobody"
        );
        assert!(
            !is_settled(&[standing(2, &[0, 1]), standing(2, &[1])], 3),
            "one is with two"
        );
        assert!(!is_settled(&[standing(2, &[0, 1, 2]), standing(2, &[])], 3), "unequal");
    }
}
