//! Fetch sessions (KIP-227): a client names its partitions once, and later only what has changed.
//!
//! Pure. Owns: which sessions there are, what each has been told of its partitions, and so what an incremental answer
//! leaves out. Does not own: reading (`pass`), when an answer is due (`mod`). Invariant: what an incremental answer leaves
//! out is exactly what the session's last answers have said already, and has no records.
//!
//! Bounded in sessions and in their partitions altogether. Where there is no room a fetch is answered without a session,
//! which is always legal: the client then sends full fetches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tailwater_kafka::messages::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use tailwater_kafka::{ErrorCode, Str, Uuid};
use tailwater_runtime::clock::Instant;

/// No session.
const NO_SESSION: i32 = 0;
/// A full fetch that wants a session.
const INITIAL_EPOCH: i32 = 0;
/// A full fetch that wants none.
const FINAL_EPOCH: i32 = -1;
/// What nothing has been told of yet: no partition has it.
const NOT_TOLD: i64 = -1;
/// A session that is unused for so long makes room for any other, and one that has existed for so long for one that has
/// more partitions (Kafka's `min.incremental.fetch.session.eviction.ms`).
const EVICT_AFTER: Duration = Duration::from_secs(120);

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All its partitions are answered.
    Full { wants_session: bool },
    /// The next one of a session.
    Incremental { id: i32, epoch: i32 },
}

/// The sessions of a node.
#[derive(Debug)]
pub(super) struct Sessions {
    max_sessions: usize,
    max_partitions: usize,
    sessions: BTreeMap<i32, Session>,
    /// By when they were last used.
    last_used: BTreeSet<(Instant, i32)>,
    /// Those that have existed for long, by the number of their partitions.
    evictable: BTreeSet<(usize, i32)>,
    partitions: usize,
    evictions: u64,
}

#[derive(Debug)]
struct Session {
    by_id: bool,
    /// That the next request must have.
    epoch: i32,
    created_at: Instant,
    used_at: Instant,
    /// Partitions when it was last used: what is counted of it.
    size: usize,
    /// In the order in which they are answered: one that had records goes to the end, so that all have their turn.
    partitions: BTreeMap<u64, Cached>,
    places: BTreeMap<Key, u64>,
    next_place: u64,
}

/// A topic by name or by id, the other one being empty, and one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    topic: Str,
    topic_id: Uuid,
    partition: i32,
}

/// One partition of a session.
#[derive(Debug)]
struct Cached {
    key: Key,
    /// What the client asks of it.
    asked: FetchPartition,
    told: Told,
}

/// What the client was told last. After an error nothing counts, so that it is told when that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start: i64,
}

impl Told {
    const NOTHING: Self = Self {
        high_watermark: NOT_TOLD,
        last_stable_offset: NOT_TOLD,
        log_start: NOT_TOLD,
    };

    fn by(data: &PartitionData) -> Self {
        match data.error_code.is_error() {
            true => Self::NOTHING,
            false => Self {
                high_watermark: data.high_watermark,
                last_stable_offset: data.last_stable_offset,
                log_start: data.log_start_offset,
            },
        }
    }
}

impl Sessions {
    pub fn new(max_sessions: usize, max_partitions: usize) -> Self {
        Self {
            max_sessions,
            max_partitions,
            sessions: BTreeMap::new(),
            last_used: BTreeSet::new(),
            evictable: BTreeSet::new(),
            partitions: 0,
            evictions: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Of all sessions.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Sessions that had to make room, ever.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Decides what a request is. An incremental one's changes are taken over, and its topics become all of the session's.
    ///
    /// # Errors
    /// What is said of the whole request: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, or
    /// FETCH_SESSION_TOPIC_ID_ERROR for a session that names topics in the other way.
    pub fn begin(&mut self, request: &mut FetchRequest, by_id: bool, now: Instant) -> Result<Kind, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if matches!(epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            // A full fetch ends the session that it names.
            self.remove(id);
            return Ok(Kind::Full {
                wants_session: epoch == INITIAL_EPOCH,
            });
        }
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.update(request);
        if session.places.is_empty() {
            self.remove(id);
            return Ok(Kind::Full { wants_session: false });
        }
        session.epoch = next_epoch(epoch);
        request.topics = session.topics();
        if !self.touch(id, now) {
            self.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        Ok(Kind::Incremental { id, epoch })
    }

    /// Completes the answer to a request of this kind: gives it a session, or leaves out of it what its session was told.
    /// `new_id` makes up ids.
    pub fn finish(
        &mut self,
        kind: Kind,
        request: &FetchRequest,
        by_id: bool,
        response: &mut FetchResponse,
        now: Instant,
        new_id: &mut dyn FnMut() -> u64,
    ) {
        match kind {
            Kind::Full { wants_session: false } => {}
            Kind::Full { wants_session: true } => {
                response.session_id = self.create(request, by_id, response, now, new_id);
            }
            Kind::Incremental { id, epoch } => self.answer(id, epoch, response),
        }
    }

    /// A session with the request's partitions, told the response; [`NO_SESSION`] if there is no room.
    fn create(
        &mut self,
        request: &FetchRequest,
        by_id: bool,
        response: &FetchResponse,
        now: Instant,
        new_id: &mut dyn FnMut() -> u64,
    ) -> i32 {
        let mut session = Session::new(by_id, now);
        session.update(request);
        for topic in &response.responses {
            for data in &topic.partitions {
                session.tell(&topic.topic, topic.topic_id, data);
            }
        }
        let size = session.places.len();
        if size == 0 || !self.make_room(size, now) {
            return NO_SESSION;
        }
        let id = loop {
            // Positive, and nobody else's.
            let id = (new_id() & i32::MAX as u64) as i32;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        self.last_used.insert((now, id));
        self.sessions.insert(id, session);
        // It has room, so this succeeds.
        self.touch(id, now);
        id
    }

    /// Leaves out of the answer what the session was told, and remembers the rest.
    fn answer(&mut self, id: i32, epoch: i32, response: &mut FetchResponse) {
        let Some(session) = self.sessions.get_mut(&id) else {
            // It had to make room meanwhile. Without a session everything may be said.
            return;
        };
        response.session_id = id;
        if session.epoch != next_epoch(epoch) {
            // Another request of the same epoch came in between, on another connection: one of both is a repeat.
            *response = FetchResponse {
                error_code: ErrorCode::InvalidFetchSessionEpoch,
                session_id: id,
                ..FetchResponse::default()
            };
            return;
        }
        for topic in &mut response.responses {
            let (name, topic_id) = (&topic.topic, topic.topic_id);
            topic.partitions.retain(|data| session.tell(name, topic_id, data));
        }
        response.responses.retain(|topic| !topic.partitions.is_empty());
    }

    /// Whether a session of `size` partitions may be added, after another one has gone for it if need be.
    fn make_room(&mut self, size: usize, now: Instant) -> bool {
        if size > self.max_partitions {
            return false;
        }
        while self.sessions.len() >= self.max_sessions || self.partitions + size > self.max_partitions {
            let stale = self.last_used.first().copied();
            let evicted = match (stale, self.evictable.first().copied()) {
                (Some((used_at, id)), _) if now.saturating_duration_since(used_at) > EVICT_AFTER => id,
                (_, Some((smallest, id))) if smallest < size => id,
                _ => return false,
            };
            self.remove(evicted);
            self.evictions += 1;
        }
        true
    }

    /// Notes that a session is used; false if it has grown beyond what all may have.
    fn touch(&mut self, id: i32, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        self.last_used.remove(&(session.used_at, id));
        self.evictable.remove(&(session.size, id));
        self.partitions -= session.size;
        session.used_at = now;
        session.size = session.places.len();
        self.last_used.insert((now, id));
        if now.saturating_duration_since(session.created_at) > EVICT_AFTER {
            self.evictable.insert((session.size, id));
        }
        self.partitions += session.size;
        self.partitions <= self.max_partitions
    }

    fn remove(&mut self, id: i32) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.last_used.remove(&(session.used_at, id));
        self.evictable.remove(&(session.size, id));
        self.partitions -= session.size;
    }
}

impl Session {
    fn new(by_id: bool, now: Instant) -> Self {
        Self {
            by_id,
            epoch: next_epoch(INITIAL_EPOCH),
            created_at: now,
            used_at: now,
            size: 0,
            partitions: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
        }
    }

    /// Takes over what a request says: new partitions, other offsets, what is to be forgotten.
    fn update(&mut self, request: &FetchRequest) {
        for topic in &request.topics {
            // What outlives the request must not keep its memory.
            let name = topic.topic.detached();
            for asked in &topic.partitions {
                let key = self.key(&name, topic.topic_id, asked.partition);
                if let Some(place) = self.places.get(&key)
                    && let Some(known) = self.partitions.get_mut(place)
                {
                    known.asked = asked.clone();
                } else {
                    let (asked, told) = (asked.clone(), Told::NOTHING);
                    self.append(Cached { key, asked, told });
                }
            }
        }
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                let key = self.key(&topic.topic, topic.topic_id, *partition);
                if let Some(place) = self.places.remove(&key) {
                    self.partitions.remove(&place);
                }
            }
        }
    }

    /// All partitions as a request names them, in order; neighbours of one topic stand together.
    fn topics(&self) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for Cached { key, asked, .. } in self.partitions.values() {
            match topics.last_mut() {
                Some(last) if last.topic == key.topic && last.topic_id == key.topic_id => {
                    last.partitions.push(asked.clone());
                }
                _ => topics.push(FetchTopic {
                    topic: key.topic.clone(),
                    topic_id: key.topic_id,
                    partitions: vec![asked.clone()],
                }),
            }
        }
        topics
    }

    /// Whether the answer must say this of a partition, which then counts as told.
    fn tell(&mut self, topic: &Str, topic_id: Uuid, data: &PartitionData) -> bool {
        let key = self.key(topic, topic_id, data.partition_index);
        let place = self.places.get(&key).copied();
        let Some(mut cached) = place.and_then(|place| self.partitions.remove(&place)) else {
            return true;
        };
        let told = std::mem::replace(&mut cached.told, Told::by(data));
        let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
        let must_respond = has_records
            || data.error_code.is_error()
            || told != cached.told
            || data.diverging_epoch != Default::default()
            || data.preferred_read_replica >= 0;
        match (has_records, place) {
            (false, Some(place)) => drop(self.partitions.insert(place, cached)),
            _ => self.append(cached),
        }
        must_respond
    }

    fn append(&mut self, cached: Cached) {
        self.places.insert(cached.key.clone(), self.next_place);
        self.partitions.insert(self.next_place, cached);
        self.next_place += 1;
    }

    /// A request may carry the other name too; only the one that the session goes by counts.
    fn key(&self, topic: &Str, topic_id: Uuid, partition: i32) -> Key {
        match self.by_id {
            true => Key {
                topic: Str::default(),
                topic_id,
                partition,
            },
            false => Key {
                topic: topic.clone(),
                topic_id: Uuid::nil(),
                partition,
            },
        }
    }
}

/// 0 and -1 mean something else.
fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        ..0 => FINAL_EPOCH,
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}

#[cfg(test)]
mod tests;
