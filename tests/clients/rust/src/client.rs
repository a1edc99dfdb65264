//! How the rdkafka crate is told to do a thing. Does not own: what is sent, or what must come back.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::wire::{MAX_MESSAGE_BYTES, Task, digest, digest_of_headers, say};

/// Of everything that waits for a broker.
pub const REQUEST: Duration = Duration::from_secs(60);
pub const POLL: Duration = Duration::from_millis(200);
const FLUSH: Duration = Duration::from_secs(300);

/// Whatever went wrong, as it is told.
pub type Outcome<T = ()> = Result<T, String>;

pub fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What every client of the process has in common.
#[derive(Clone)]
pub struct Settings {
    pub bootstrap: String,
    /// `classic` or `consumer`.
    pub group_protocol: String,
}

impl Settings {
    fn config(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        for (name, value) in more {
            config.set(*name, *value);
        }
        config
    }

    pub fn create(&self, topic: &str, partitions: i32, configs: &str) -> Outcome {
        let admin: AdminClient<DefaultClientContext> = self.config(&[]).create().map_err(told)?;
        let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in configs.split(',').filter_map(|config| config.split_once('=')) {
            wanted = wanted.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        let created = wait_for(admin.create_topics(&[wanted], &options)).map_err(told)?;
        for result in created {
            result.map_err(|(name, code)| format!("creating {name}: {code}"))?;
        }
        Ok(())
    }

    pub fn producer(&self, codec: &str) -> Outcome<Sender> {
        let bytes = (MAX_MESSAGE_BYTES - 1024).to_string();
        let config = self.config(&[
            ("compression.type", codec),
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("message.max.bytes", &bytes),
            ("queue.buffering.max.kbytes", "131072"),
            ("message.timeout.ms", "300000"),
        ]);
        Sender::new(&config)
    }

    pub fn transactional(&self, id: &str, timeout_ms: &str) -> Outcome<Sender> {
        let made = Sender::new(&self.config(&[
            ("transactional.id", id),
            ("linger.ms", "0"),
            ("transaction.timeout.ms", timeout_ms),
            // Its own timeout for a record must not be above the transaction's.
            ("message.timeout.ms", timeout_ms),
        ]))?;
        made.inner.init_transactions(REQUEST).map_err(told)?;
        Ok(made)
    }

    fn consumer<C: ConsumerContext>(&self, group: &str, more: &[(&str, &str)], context: C) -> Outcome<BaseConsumer<C>> {
        let bytes = MAX_MESSAGE_BYTES.to_string();
        let mut config = self.config(more);
        config
            .set("group.id", group)
            .set("fetch.message.max.bytes", bytes)
            .set("check.crcs", "true");
        config
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest");
        config.create_with_context(context).map_err(told)
    }

    /// Reads these partitions from the beginning, without a group.
    pub fn assigned(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = i32>,
        isolation: &str,
    ) -> Outcome<BaseConsumer> {
        let consumer: BaseConsumer = self.consumer(
            "by-assignment",
            &[("isolation.level", isolation)],
            rdkafka::consumer::DefaultConsumerContext,
        )?;
        let mut places = TopicPartitionList::new();
        for partition in partitions {
            places
                .add_partition_offset(topic, partition, Offset::Beginning)
                .map_err(told)?;
        }
        consumer.assign(&places).map_err(told)?;
        Ok(consumer)
    }

    /// A member of the group that reads what is committed.
    pub fn member<C: ConsumerContext>(&self, topic: &str, group: &str, context: C) -> Outcome<BaseConsumer<C>> {
        let mut more = vec![("isolation.level", "read_committed")];
        if self.group_protocol == "classic" {
            more.extend([("session.timeout.ms", "10000"), ("heartbeat.interval.ms", "1000")]);
        } else {
            // The times are the server's.
            more.push(("group.protocol", &self.group_protocol));
        }
        let consumer = self.consumer(group, &more, context)?;
        consumer.subscribe(&[topic]).map_err(told)?;
        Ok(consumer)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The administration answers by futures, which its own thread completes.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Tells acknowledgements, and keeps the first failure.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Option<String>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// The index to be told with the acknowledgement, if it shall be.
    type DeliveryOpaque = Box<Option<i32>>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Self::DeliveryOpaque) {
        match result {
            Ok(message) => {
                if let Some(index) = *index {
                    say(&format!("A {index} {} {}", message.partition(), message.offset()));
                }
            }
            Err((error, _)) => {
                let mut failure = self.0.lock().expect("no holder panics");
                failure.get_or_insert_with(|| format!("a record was not delivered: {error}"));
            }
        }
    }
}

/// A producer that polls on a thread of its own.
pub struct Sender {
    inner: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
    is_begun: bool,
}

impl Sender {
    fn new(config: &ClientConfig) -> Outcome<Self> {
        let deliveries = Deliveries::default();
        let inner = config.create_with_context(deliveries.clone()).map_err(told)?;
        Ok(Self {
            inner,
            deliveries,
            is_begun: false,
        })
    }

    pub fn send(&self, topic: &str, task: &Task) -> Outcome {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &task.headers {
            headers = headers.insert(Header {
                key,
                value: value.as_ref(),
            });
        }
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(Some(task.index)))
            .timestamp(task.timestamp_ms)
            .headers(headers);
        if let Some(key) = &task.key {
            record = record.key(key);
        }
        if let Some(value) = &task.value {
            record = record.payload(value);
        }
        if task.partition >= 0 {
            record = record.partition(task.partition);
        }
        self.queue(record)
    }

    fn queue(&self, mut record: BaseRecord<'_, Vec<u8>, Vec<u8>, Box<Option<i32>>>) -> Outcome {
        loop {
            match self.inner.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    thread::sleep(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(told(error)),
            }
        }
    }

    /// Waits for every record's outcome.
    pub fn flush(&self) -> Outcome {
        self.inner.flush(FLUSH).map_err(told)?;
        self.deliveries
            .0
            .lock()
            .expect("no holder panics")
            .take()
            .map_or(Ok(()), Err)
    }

    /// Sends a record in a transaction, which it begins if need be, and waits for it.
    pub fn write(&mut self, topic: &str, partition: i32, value: &[u8]) -> Outcome {
        if !self.is_begun {
            self.inner.begin_transaction().map_err(told)?;
            self.is_begun = true;
        }
        let value = value.to_vec();
        self.queue(
            BaseRecord::with_opaque_to(topic, Box::new(None))
                .partition(partition)
                .payload(&value),
        )?;
        self.flush()
    }

    pub fn send_offsets<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        offsets: &TopicPartitionList,
    ) -> Outcome {
        let member = consumer.group_metadata().ok_or("no member")?;
        self.inner
            .send_offsets_to_transaction(offsets, &member, REQUEST)
            .map_err(told)
    }

    pub fn end(&mut self, is_commit: bool) -> Outcome {
        self.is_begun = false;
        let ended = if is_commit {
            self.inner.commit_transaction(REQUEST)
        } else {
            self.inner.abort_transaction(REQUEST)
        };
        ended.map_err(told)
    }
}

/// Tells what is assigned and taken away.
pub struct Member {
    pub name: String,
    /// By partition what comes next, to be committed.
    pub next: Arc<Mutex<std::collections::BTreeMap<i32, i64>>>,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let (event, changed) = match rebalance {
            Rebalance::Assign(partitions) => ("J", partitions),
            Rebalance::Revoke(partitions) => ("R", partitions),
            Rebalance::Error(error) => return say(&format!("N member {}: {error}", self.name)),
        };
        let partitions: Vec<i32> = changed.elements().iter().map(|place| place.partition()).collect();
        let mut next = self.next.lock().expect("no holder panics");
        for partition in &partitions {
            next.remove(partition);
        }
        let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        say(&format!("{event} {} {}", self.name, names.join(",")));
    }
}

/// Up to 500 records; fewer once nothing comes for [`POLL`].
pub fn polled<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Outcome<Vec<BorrowedMessage<'_>>> {
    let mut found = Vec::new();
    while found.len() < 500 {
        // What is there already is taken along, and not waited for.
        let wait = if found.is_empty() { POLL } else { Duration::ZERO };
        match consumer.poll(wait) {
            None => break,
            Some(Ok(message)) => found.push(message),
            // Another broker than the one that made it may learn of it a moment later.
            Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
            Some(Err(error)) => return Err(format!("consuming failed: {error}")),
        }
    }
    Ok(found)
}

/// Tells a record that was read.
pub fn tell(reader: &str, message: &BorrowedMessage<'_>) -> Outcome {
    let Timestamp::CreateTime(timestamp_ms) = message.timestamp() else {
        return Err(format!("timestamp {:?}, expected create time", message.timestamp()));
    };
    let headers: Vec<_> = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key, header.value)).collect()
    });
    let (key, value) = (digest(message.key()), digest(message.payload()));
    let (partition, offset) = (message.partition(), message.offset());
    say(&format!(
        "M {reader} {partition} {offset} {timestamp_ms} {key} {value} {}",
        digest_of_headers(&headers)
    ));
    Ok(())
}
