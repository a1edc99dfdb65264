//! A Kafka cluster as the commands see it: any broker, a certain one, the controller, a partition's leader, a group's
//! coordinator; and trying again while those move.
//!
//! Owns: connections, what is known of the brokers, the deadline of the whole command. Does not own: any command.

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, RequestMessage, Str, Uuid, Versions};
use tailwater_runtime::Clock;
use tailwater_runtime::clock::Instant;

use crate::connection::Connection;
use crate::error::Error;

/// Between two tries, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// From here on a request says that no topic is to be created by asking for it.
const METADATA: Versions = Versions { min: 4, max: 12 };
/// From here on one request asks for several coordinators (KIP-699).
const FIND_COORDINATORS: Versions = Versions { min: 4, max: i16::MAX };
/// Every version that both sides have.
pub const ANY_VERSION: Versions = Versions::ALL;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broker {
    Any,
    Controller,
    Id(i32),
}

/// What came of each thing that was asked about.
pub type Outcomes<K, T> = Vec<(K, Result<T, Error>)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    /// Nil where the broker is too old for ids.
    pub id: Uuid,
    pub internal: bool,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
}

/// The brokers as one of them sees them.
#[derive(Clone, Debug, Default)]
pub struct Brokers {
    /// HOST:PORT.
    pub addresses: BTreeMap<i32, String>,
    pub controller: Option<i32>,
}

#[derive(Debug)]
pub struct Client {
    bootstrap: Vec<String>,
    /// The one of them that answers.
    entry: Option<String>,
    clock: Clock,
    deadline: Instant,
    connections: BTreeMap<String, Connection>,
    brokers: Option<Brokers>,
    coordinators: BTreeMap<String, i32>,
}

impl Client {
    /// Nothing is connected yet. `bootstrap` is HOST:PORT, or several with commas between.
    pub fn new(bootstrap: &str, timeout: Duration) -> Self {
        let clock = Clock::system();
        let addresses = bootstrap.split(',').map(str::trim).filter(|text| !text.is_empty());
        Self {
            bootstrap: addresses.map(str::to_owned).collect(),
            entry: None,
            deadline: clock.now() + timeout,
            clock,
            connections: BTreeMap::new(),
            brokers: None,
            coordinators: BTreeMap::new(),
        }
    }

    /// The time left, as requests carry it: in milliseconds.
    pub fn timeout_ms(&self) -> i32 {
        let left = self.deadline.saturating_duration_since(self.clock.now());
        i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1)
    }

    /// Asks one broker in the newest version that both sides have and `wanted` allows.
    ///
    /// # Errors
    /// If it can't be reached, doesn't have such a version, or doesn't answer in time.
    pub fn ask<R: RequestMessage>(
        &mut self,
        broker: Broker,
        wanted: Versions,
        request: &R,
    ) -> Result<R::Response, Error> {
        let address = self.address(broker)?;
        let deadline = self.deadline;
        let answer = self.connection(&address)?.call(wanted, request, deadline);
        if matches!(answer, Err(Error::Lost { .. })) {
            self.connections.remove(&address);
        }
        answer
    }

    /// What a broker said about itself when it was connected to.
    ///
    /// # Errors
    /// If none can be reached.
    pub fn greeting(&mut self) -> Result<ApiVersionsResponse, Error> {
        let address = self.address(Broker::Any)?;
        Ok(self.connection(&address)?.greeting().clone())
    }

    /// The brokers, asked for once.
    ///
    /// # Errors
    /// If none can be reached.
    pub fn brokers(&mut self) -> Result<&Brokers, Error> {
        if self.brokers.is_none() {
            // About no topic.
            self.metadata(Some(Vec::new()))?;
        }
        Ok(self.brokers.get_or_insert_default())
    }

    /// The named topics, or all, in the order of their names.
    ///
    /// # Errors
    /// If no broker can be reached; a topic that there isn't has an error of its own.
    pub fn topics(&mut self, names: Option<&[String]>) -> Result<Outcomes<String, Topic>, Error> {
        let wanted = names.map(|names| {
            let name = |name: &String| MetadataRequestTopic {
                name: Some(Str::from(name.as_str())),
                ..Default::default()
            };
            names.iter().map(name).collect()
        });
        let mut topics: Outcomes<_, _> = self.metadata(wanted)?.into_iter().map(to_topic).collect();
        topics.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(topics)
    }

    fn metadata(&mut self, topics: Option<Vec<MetadataRequestTopic>>) -> Result<Vec<MetadataResponseTopic>, Error> {
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.ask(Broker::Any, METADATA, &request)?;
        let addresses = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id, host_port(&broker.host, broker.port)));
        self.brokers = Some(Brokers {
            addresses: addresses.collect(),
            controller: known(response.controller_id),
        });
        Ok(response.topics)
    }

    /// The broker that coordinates each group.
    ///
    /// # Errors
    /// If no broker can be reached; a group whose coordinator isn't known has an error of its own.
    pub fn coordinators(&mut self, groups: &[String]) -> Result<Outcomes<String, i32>, Error> {
        let unknown: Vec<Str> = groups
            .iter()
            .filter(|group| !self.coordinators.contains_key(*group))
            .map(|group| Str::from(group.as_str()))
            .collect();
        let mut found: BTreeMap<String, Result<i32, Error>> = BTreeMap::new();
        if !unknown.is_empty() {
            let request = FindCoordinatorRequest {
                coordinator_keys: unknown,
                ..Default::default()
            };
            let response = self.ask(Broker::Any, FIND_COORDINATORS, &request)?;
            for coordinator in response.coordinators {
                let group = coordinator.key.to_string();
                let checked = Error::check(coordinator.error_code, coordinator.error_message.as_deref());
                if checked.is_ok() {
                    self.coordinators.insert(group.clone(), coordinator.node_id);
                    let address = host_port(&coordinator.host, coordinator.port);
                    self.brokers()?;
                    let brokers = self.brokers.get_or_insert_default();
                    brokers.addresses.entry(coordinator.node_id).or_insert(address);
                }
                found.insert(group, checked.map(|()| coordinator.node_id));
            }
        }
        let of = |group: &String| {
            let cached = self.coordinators.get(group).copied().map(Ok);
            let found = cached.or_else(|| found.remove(group));
            let missing = || Err(Error::refused(ErrorCode::CoordinatorNotAvailable, None));
            (group.clone(), found.unwrap_or_else(missing))
        };
        Ok(groups.iter().map(of).collect())
    }

    /// Makes `attempt` at all of `keys`, then again at those whose failure passes, until none is left or time is up. The
    /// answers come in the order of `keys`.
    ///
    /// # Errors
    /// What `attempt` as a whole failed with, unless that passes too.
    pub fn settle<K: Clone + Ord, T>(
        &mut self,
        keys: impl IntoIterator<Item = K>,
        patience: Patience,
        mut attempt: impl FnMut(&mut Self, &[K]) -> Result<Outcomes<K, T>, Error>,
    ) -> Result<Outcomes<K, T>, Error> {
        let keys: Vec<K> = keys.into_iter().collect();
        let until = match patience {
            Patience::All => self.deadline,
            Patience::Some(span) => self.deadline.min(self.clock.now() + span),
        };
        let mut open = keys.clone();
        let mut answers: BTreeMap<K, Result<T, Error>> = BTreeMap::new();
        let mut pause = PAUSE_FIRST;
        while !open.is_empty() {
            match attempt(self, &open) {
                Ok(answered) => answers.extend(answered),
                Err(error) if error.is_passing() => {
                    answers.extend(open.iter().map(|key| (key.clone(), Err(error.clone()))));
                }
                Err(error) => return Err(error),
            }
            open.retain(|key| matches!(answers.get(key), Some(Err(error)) if error.is_passing()));
            if open.is_empty() || self.clock.now() + pause >= until {
                break;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
            (self.brokers, self.coordinators) = (None, BTreeMap::new());
        }
        let unanswered = || Err(Error::Absent("the broker's answer doesn't mention it".to_owned()));
        let answer = |key: K| {
            let answer = answers.remove(&key).unwrap_or_else(unanswered);
            (key, answer)
        };
        Ok(keys.into_iter().map(answer).collect())
    }

    fn address(&mut self, broker: Broker) -> Result<String, Error> {
        let brokers = match broker {
            Broker::Any => return self.entry(),
            Broker::Controller | Broker::Id(_) => self.brokers()?,
        };
        let id = match broker {
            Broker::Id(id) => Some(id),
            _ => brokers.controller,
        };
        let address = id.and_then(|id| brokers.addresses.get(&id)).cloned();
        match (address, id) {
            (Some(address), _) => Ok(address),
            (None, Some(id)) if broker != Broker::Controller => Err(Error::Connect {
                address: format!("broker {id}"),
                reason: "the cluster doesn't know where it is".to_owned(),
            }),
            // Any broker takes it to the controller.
            _ => self.entry(),
        }
    }

    /// The first address of `bootstrap` that answers.
    fn entry(&mut self) -> Result<String, Error> {
        if let Some(entry) = &self.entry
            && self.connections.contains_key(entry)
        {
            return Ok(entry.clone());
        }
        let mut failure = Error::Usage("--bootstrap names no address: HOST:PORT is expected".to_owned());
        for address in self.bootstrap.clone() {
            match self.connection(&address) {
                Ok(_) => {
                    self.entry = Some(address.clone());
                    return Ok(address);
                }
                Err(Error::Connect { address, reason }) => failure = Error::NoBroker { address, reason },
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn connection(&mut self, address: &str) -> Result<&mut Connection, Error> {
        if !self.connections.contains_key(address) {
            let connection = Connection::open(address, &self.clock, self.deadline)?;
            self.connections.insert(address.to_owned(), connection);
        }
        Ok(self.connections.get_mut(address).expect("it was just put there"))
    }
}

/// How long a passing failure is waited out.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// As long as the command may take.
    All,
    Some(Duration),
}

/// A group's requests go to its coordinator: `ask` gets a broker and those of `groups` that are its own. What fails as a
/// whole fails for each of them.
///
/// # Errors
/// If no broker can be reached.
pub fn by_coordinator<T>(
    client: &mut Client,
    groups: &[String],
    mut ask: impl FnMut(&mut Client, Broker, &[String]) -> Result<Outcomes<String, T>, Error>,
) -> Result<Outcomes<String, T>, Error> {
    let mut outcomes = Vec::new();
    let mut places: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for (group, coordinator) in client.coordinators(groups)? {
        match coordinator {
            Ok(broker) => places.entry(broker).or_default().push(group),
            Err(error) => outcomes.push((group, Err(error))),
        }
    }
    for (broker, groups) in places {
        match ask(client, Broker::Id(broker), &groups) {
            Ok(answered) => outcomes.extend(answered),
            Err(error) => outcomes.extend(groups.into_iter().map(|group| (group, Err(error.clone())))),
        }
    }
    Ok(outcomes)
}

/// A broker's number; brokers say -1 for none.
pub fn known(id: i32) -> Option<i32> {
    (id >= 0).then_some(id)
}

/// As one text, with brackets around an IPv6 address.
pub fn host_port(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn to_topic(topic: MetadataResponseTopic) -> (String, Result<Topic, Error>) {
    let name = topic.name.map_or_else(String::new, |name| name.to_string());
    if let Err(error) = Error::check(topic.error_code, None) {
        return (name, Err(error));
    }
    let mut partitions: Vec<_> = topic
        .partitions
        .into_iter()
        .map(|partition| Partition {
            index: partition.partition_index,
            leader: known(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes,
            isr: partition.isr_nodes,
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    let topic = Topic {
        name: name.clone(),
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    };
    (name, Ok(topic))
}
