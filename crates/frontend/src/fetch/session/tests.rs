//! Tables of what Apache Kafka answers, and any sequence of requests against a client that believes what it is told.

use bytes::Bytes;
use proptest::prelude::*;
use tailwater_kafka::messages::{FetchableTopicResponse, ForgottenTopic};

use super::*;

const NAMES: [&str; 2] = ["a", "b"];

/// A partition as it really is: high watermark, last stable offset, log start; `Err`: it can't be read.
type Truth = Result<(i64, i64, i64), ErrorCode>;

/// A topic's name or id, and a partition.
type At = (usize, i32);

struct Server {
    sessions: Sessions,
    now: Instant,
    next_id: u64,
    by_id: bool,
    truth: BTreeMap<At, Truth>,
    /// Partitions that have records to give, each once.
    records: BTreeSet<At>,
}

/// What came of a request.
struct Answered {
    error: ErrorCode,
    session: i32,
    /// In order, with whether there were records.
    partitions: Vec<(At, Truth, bool)>,
}

impl Answered {
    fn indexes(&self) -> Vec<i32> {
        self.partitions.iter().map(|((_, partition), ..)| *partition).collect()
    }
}

impl Server {
    fn new(max_sessions: usize, max_partitions: usize) -> Self {
        Self {
            sessions: Sessions::new(max_sessions, max_partitions),
            now: Instant::now(),
            next_id: 0,
            by_id: false,
            truth: BTreeMap::new(),
            records: BTreeSet::new(),
        }
    }

    fn name(&self, topic: usize) -> (Str, Uuid) {
        match self.by_id {
            true => (Str::default(), Uuid::from_u128(topic as u128 + 1)),
            false => (Str::from(NAMES[topic]), Uuid::nil()),
        }
    }

    fn request(&self, session: (i32, i32), asked: &[At], forgotten: &[At]) -> FetchRequest {
        let topic = |(topic, partition): &At| {
            let (topic, topic_id) = self.name(*topic);
            FetchTopic {
                topic,
                topic_id,
                partitions: vec![FetchPartition {
                    partition: *partition,
                    ..Default::default()
                }],
            }
        };
        let forget = |(topic, partition): &At| {
            let (topic, topic_id) = self.name(*topic);
            ForgottenTopic {
                topic,
                topic_id,
                partitions: vec![*partition],
            }
        };
        FetchRequest {
            session_id: session.0,
            session_epoch: session.1,
            topics: asked.iter().map(topic).collect(),
            forgotten_topics_data: forgotten.iter().map(forget).collect(),
            ..Default::default()
        }
    }

    fn fetch(&mut self, session: (i32, i32), asked: &[At], forgotten: &[At]) -> Answered {
        let mut request = self.request(session, asked, forgotten);
        let kind = match self.sessions.begin(&mut request, self.by_id, self.now) {
            Ok(kind) => kind,
            Err(error) => {
                return Answered {
                    error,
                    session: 0,
                    partitions: Vec::new(),
                };
            }
        };
        let mut response = self.read(&request);
        self.finish(kind, &request, &mut response);
        self.answered(&response)
    }

    fn finish(&mut self, kind: Kind, request: &FetchRequest, response: &mut FetchResponse) {
        let next_id = &mut self.next_id;
        let mut new_id = || {
            *next_id += 1;
            // 0 in 31 bits at first, which is no session.
            ((*next_id - 1) << 1) | (1 << 31)
        };
        let (by_id, now) = (self.by_id, self.now);
        self.sessions.finish(kind, request, by_id, response, now, &mut new_id);
    }

    /// All that is asked for.
    fn read(&mut self, request: &FetchRequest) -> FetchResponse {
        let mut response = FetchResponse::default();
        for topic in &request.topics {
            let at = |partition: i32| (self.topic_of(&topic.topic, topic.topic_id), partition);
            let partitions = topic.partitions.iter().map(|asked| {
                let at = at(asked.partition);
                let truth = self.truth.get(&at).copied().unwrap_or(Ok((0, 0, 0)));
                let mut data = PartitionData {
                    partition_index: asked.partition,
                    ..Default::default()
                };
                match truth {
                    Ok((high_watermark, last_stable_offset, log_start_offset)) => {
                        (data.high_watermark, data.last_stable_offset) = (high_watermark, last_stable_offset);
                        data.log_start_offset = log_start_offset;
                        if self.records.contains(&at) {
                            data.records = Some(std::iter::once(Bytes::from_static(b"x")).collect());
                        }
                    }
                    Err(error) => (data.error_code, data.high_watermark) = (error, -1),
                }
                data
            });
            response.responses.push(FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
            });
        }
        response
    }

    fn answered(&mut self, response: &FetchResponse) -> Answered {
        let mut partitions = Vec::new();
        for topic in &response.responses {
            assert!(!topic.partitions.is_empty(), "a topic of which nothing is said");
            for data in &topic.partitions {
                let at = (self.topic_of(&topic.topic, topic.topic_id), data.partition_index);
                let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
                if has_records {
                    self.records.remove(&at);
                }
                let told = match data.error_code {
                    ErrorCode::None => Ok((data.high_watermark, data.last_stable_offset, data.log_start_offset)),
                    error => Err(error),
                };
                partitions.push((at, told, has_records));
            }
        }
        Answered {
            error: response.error_code,
            session: response.session_id,
            partitions,
        }
    }

    fn topic_of(&self, name: &str, id: Uuid) -> usize {
        match self.by_id {
            true => id.as_u128() as usize - 1,
            false => NAMES.iter().position(|known| *known == name).unwrap(),
        }
    }
}

/// Rule 22: session 0 is always legal; -1 asks for none, 0 for one; what a full fetch asks for is answered in full.
#[test]
fn rule_22_full_fetches_list_every_partition() {
    let mut server = Server::new(10, 100);
    for epoch in [-1, 0] {
        let answered = server.fetch((0, epoch), &[(0, 0), (0, 1), (1, 0)], &[]);
        assert_eq!((answered.error, answered.partitions.len()), (ErrorCode::None, 3));
        assert_eq!(answered.session != 0, epoch == 0);
    }
    assert_eq!((server.sessions.len(), server.sessions.partitions()), (1, 3));
}

/// Rule 22: an unknown session is 70, another epoch than the next one 71, and neither ends anything.
#[test]
fn rule_22_unknown_sessions_and_epochs_are_refused() {
    let mut server = Server::new(10, 100);
    let id = server.fetch((0, 0), &[(0, 0)], &[]).session;
    for (session, expected) in [
        ((id + 1, 1), ErrorCode::FetchSessionIdNotFound),
        ((0, 1), ErrorCode::FetchSessionIdNotFound),
        ((id, 2), ErrorCode::InvalidFetchSessionEpoch),
        ((id, -2), ErrorCode::InvalidFetchSessionEpoch),
        ((id, 1), ErrorCode::None),
        ((id, 1), ErrorCode::InvalidFetchSessionEpoch),
        ((id, 2), ErrorCode::None),
    ] {
        let answered = server.fetch(session, &[], &[]);
        assert_eq!(answered.error, expected, "{session:?}");
        assert_eq!(answered.session, if expected.is_error() { 0 } else { id });
    }
    server.by_id = true;
    assert_eq!(
        server.fetch((id, 3), &[], &[]).error,
        ErrorCode::FetchSessionTopicIdError
    );
}

/// An incremental answer has partitions with records, errors, or news of their offsets; nothing else.
#[test]
fn incremental_answers_have_the_news_only() {
    for by_id in [false, true] {
        let mut server = Server::new(10, 100);
        server.by_id = by_id;
        let all: Vec<At> = (0..4).map(|partition| (0, partition)).collect();
        let id = server.fetch((0, 0), &all, &[]).session;
        assert!(server.fetch((id, 1), &[], &[]).partitions.is_empty());
        server.records.insert((0, 2));
        assert_eq!(server.fetch((id, 2), &[], &[]).indexes(), [2]);
        for truth in [(5, 0, 0), (5, 4, 0), (5, 4, 3)] {
            server.truth.insert((0, 1), Ok(truth));
            let epoch = server.sessions.sessions[&id].epoch;
            assert_eq!(server.fetch((id, epoch), &[], &[]).indexes(), [1], "{truth:?}");
        }
        server.truth.insert((0, 3), Err(ErrorCode::NotLeaderOrFollower));
        for epoch in [6, 7] {
            assert_eq!(
                server.fetch((id, epoch), &[], &[]).indexes(),
                [3],
                "errors are told each time"
            );
        }
        server.truth.insert((0, 3), Ok((0, 0, 0)));
        assert_eq!(server.fetch((id, 8), &[], &[]).indexes(), [3], "and so is their end");
        assert!(server.fetch((id, 9), &[], &[]).partitions.is_empty());
    }
}

/// Partitions come and go with what requests say; a session without any ends.
#[test]
fn partitions_are_added_and_forgotten() {
    let mut server = Server::new(10, 100);
    let id = server.fetch((0, 0), &[(0, 0)], &[]).session;
    assert_eq!(
        server.fetch((id, 1), &[(0, 7), (0, 0)], &[]).indexes(),
        [7],
        "a new one is news"
    );
    server.truth = [((0, 0), Ok((1, 1, 0))), ((0, 7), Ok((1, 1, 0)))].into();
    assert_eq!(server.fetch((id, 2), &[], &[(0, 0), (1, 9)]).indexes(), [7]);
    assert_eq!(server.sessions.partitions(), 1);
    let ended = server.fetch((id, 3), &[], &[(0, 7)]);
    assert_eq!(
        (ended.error, ended.session, server.sessions.len()),
        (ErrorCode::None, 0, 0)
    );
}

/// What had records goes behind all others, so that none of them is starved by the one in front.
#[test]
fn partitions_with_records_go_to_the_end() {
    let mut server = Server::new(10, 100);
    let id = server.fetch((0, 0), &[(0, 0), (0, 1), (0, 2)], &[]).session;
    server.records.insert((0, 0));
    assert_eq!(server.fetch((id, 1), &[], &[]).indexes(), [0]);
    server.records = [(0, 0), (0, 1), (0, 2)].into();
    assert_eq!(server.fetch((id, 2), &[], &[]).indexes(), [1, 2, 0]);
}

/// A full fetch ends the session that it names, and epochs go round without 0.
#[test]
fn full_fetches_end_their_session() {
    let mut server = Server::new(10, 100);
    let id = server.fetch((0, 0), &[(0, 0)], &[]).session;
    server.sessions.sessions.get_mut(&id).unwrap().epoch = i32::MAX;
    assert_eq!(server.fetch((id, i32::MAX), &[], &[]).error, ErrorCode::None);
    assert_eq!(server.fetch((id, 1), &[], &[]).error, ErrorCode::None);
    let other = server.fetch((id, 0), &[(0, 0)], &[]).session;
    assert!(other != id && other != 0);
    assert_eq!(server.fetch((id, 2), &[], &[]).error, ErrorCode::FetchSessionIdNotFound);
    assert_eq!(server.fetch((other, -1), &[(0, 0)], &[]).session, 0);
    assert_eq!(server.sessions.len(), 0);
}

/// A repeat of a request whose first copy is still waiting makes that one's answer void.
#[test]
fn of_two_requests_of_one_epoch_one_is_answered() {
    let mut server = Server::new(10, 100);
    let id = server.fetch((0, 0), &[(0, 0)], &[]).session;
    let mut slow = server.request((id, 1), &[], &[]);
    let kind = server.sessions.begin(&mut slow, false, server.now).unwrap();
    assert_eq!(
        server.fetch((id, 1), &[], &[]).error,
        ErrorCode::InvalidFetchSessionEpoch
    );
    assert_eq!(server.fetch((id, 2), &[], &[]).error, ErrorCode::None);
    let mut response = server.read(&slow);
    server.finish(kind, &slow, &mut response);
    assert_eq!(
        (response.error_code, response.session_id),
        (ErrorCode::InvalidFetchSessionEpoch, id)
    );
    assert!(response.responses.is_empty());
}

/// Sessions are bounded in number: a full cache gives none out, until one is stale, or an old one is smaller.
#[test]
fn sessions_make_room_as_kafkas_do() {
    let mut server = Server::new(2, 100);
    let first = server.fetch((0, 0), &[(0, 0), (0, 1)], &[]).session;
    let second = server.fetch((0, 0), &[(0, 0)], &[]).session;
    assert_eq!(
        server.fetch((0, 0), &[(0, 0), (0, 1), (0, 2)], &[]).session,
        0,
        "both are young"
    );
    server.now += Duration::from_secs(100);
    assert_eq!(server.fetch((second, 1), &[], &[]).error, ErrorCode::None);
    server.now += Duration::from_secs(21);
    assert_eq!(server.fetch((second, 2), &[], &[]).error, ErrorCode::None);
    let third = server.fetch((0, 0), &[(0, 0)], &[]).session;
    assert_ne!(third, 0);
    assert_eq!(
        server.fetch((first, 1), &[], &[]).error,
        ErrorCode::FetchSessionIdNotFound,
        "it was stale"
    );
    assert_eq!(server.fetch((0, 0), &[(0, 0)], &[]).session, 0, "no smaller one");
    assert_ne!(server.fetch((0, 0), &[(0, 0), (0, 1)], &[]).session, 0);
    assert_eq!(
        server.fetch((second, 3), &[], &[]).error,
        ErrorCode::FetchSessionIdNotFound,
        "old and small"
    );
    assert_eq!((server.sessions.len(), server.sessions.evictions()), (2, 2));
}

/// All sessions together are bounded in their partitions; one that grows beyond that ends.
#[test]
fn partitions_are_bounded() {
    let mut server = Server::new(10, 4);
    let many: Vec<At> = (0..5).map(|partition| (0, partition)).collect();
    assert_eq!(server.fetch((0, 0), &many, &[]).session, 0);
    let id = server.fetch((0, 0), &many[..3], &[]).session;
    assert_eq!(server.fetch((0, 0), &many[..2], &[]).session, 0);
    assert_eq!(
        server.fetch((id, 1), &many[3..], &[]).error,
        ErrorCode::FetchSessionIdNotFound
    );
    assert_eq!((server.sessions.len(), server.sessions.partitions()), (0, 0));
}

#[derive(Clone, Debug)]
enum Action {
    /// Of this client, with these partitions wanted from now on.
    Fetch {
        client: usize,
        wanted: BTreeSet<At>,
    },
    Repeat {
        client: usize,
    },
    Truth {
        at: At,
        truth: Truth,
    },
    Records {
        at: At,
    },
    Pass {
        seconds: u64,
    },
}

fn at() -> impl Strategy<Value = At> {
    (0..2usize, 0..3i32)
}

fn action() -> impl Strategy<Value = Action> {
    let truth = prop_oneof![
        4 => (0..3i64, 0..3i64, 0..3i64).prop_map(Ok),
        1 => Just(Err(ErrorCode::NotLeaderOrFollower)),
    ];
    prop_oneof![
        8 => (0..3usize, prop::collection::btree_set(at(), 0..6))
            .prop_map(|(client, wanted)| Action::Fetch { client, wanted }),
        1 => (0..3usize).prop_map(|client| Action::Repeat { client }),
        4 => (at(), truth).prop_map(|(at, truth)| Action::Truth { at, truth }),
        3 => at().prop_map(|at| Action::Records { at }),
        2 => prop_oneof![Just(1u64), Just(50), Just(130)].prop_map(|seconds| Action::Pass { seconds }),
    ]
}

/// A client as KIP-227 describes it: it names what it wants differently than before, and believes what it is told.
#[derive(Default)]
struct Client {
    session: (i32, i32),
    known: BTreeMap<At, Truth>,
}

impl Client {
    fn fetch(&mut self, server: &mut Server, wanted: &BTreeSet<At>) {
        let is_full = self.session.1 == 0;
        let asked: Vec<At> = match is_full {
            true => wanted.iter().copied().collect(),
            false => wanted
                .iter()
                .filter(|at| !self.known.contains_key(at))
                .copied()
                .collect(),
        };
        let forgotten: Vec<At> = match is_full {
            true => Vec::new(),
            false => self.known.keys().filter(|at| !wanted.contains(at)).copied().collect(),
        };
        let with_records: Vec<At> = wanted.intersection(&server.records).copied().collect();
        let answered = server.fetch(self.session, &asked, &forgotten);
        if answered.error.is_error() {
            *self = Self::default();
            return;
        }
        if is_full {
            self.known.clear();
            assert_eq!(answered.partitions.len(), wanted.len(), "rule 22");
        }
        self.known.retain(|at, _| wanted.contains(at));
        let mut got_records = Vec::new();
        for (at, told, has_records) in answered.partitions {
            assert!(wanted.contains(&at), "nobody asked for {at:?}");
            self.known.insert(at, told);
            got_records.extend(has_records.then_some(at));
        }
        got_records.sort_unstable();
        let readable = |at: &At| server.truth.get(at).is_none_or(|truth| truth.is_ok());
        let expected: Vec<At> = with_records.into_iter().filter(readable).collect();
        assert_eq!(got_records, expected, "records are never left out");
        for at in wanted {
            let truth = server.truth.get(at).copied().unwrap_or(Ok((0, 0, 0)));
            assert_eq!(self.known.get(at), Some(&truth), "{at:?}");
        }
        self.session = match answered.session {
            0 => (0, 0),
            id => (id, self.session.1 + 1),
        };
        if self.session == (0, 0) {
            self.known.clear();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens, a client that believes what it is told knows after each answer how its partitions are, gets all
    /// records, and the bounds hold.
    #[test]
    fn clients_know_what_they_would_know_without_sessions(
        by_id in any::<bool>(),
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut server = Server::new(2, 8);
        server.by_id = by_id;
        let mut clients: [Client; 3] = Default::default();
        for action in actions {
            match action {
                Action::Fetch { client, wanted } => clients[client].fetch(&mut server, &wanted),
                Action::Repeat { client } => {
                    let (id, epoch) = clients[client].session;
                    if epoch > 1 {
                        prop_assert!(server.fetch((id, epoch - 1), &[], &[]).error.is_error());
                    }
                }
                Action::Truth { at, truth } => drop(server.truth.insert(at, truth)),
                Action::Records { at } => drop(server.records.insert(at)),
                Action::Pass { seconds } => server.now += Duration::from_secs(seconds),
            }
            let sessions = &server.sessions;
            prop_assert!(sessions.len() <= 2 && sessions.partitions() <= 8);
            let counted: usize = sessions.sessions.values().map(|session| session.partitions.len()).sum();
            prop_assert_eq!(sessions.partitions(), counted);
            prop_assert_eq!(sessions.last_used.len(), sessions.len());
            prop_assert!(sessions.evictable.iter().all(|(_, id)| sessions.sessions.contains_key(id)));
        }
    }
}
