"""confluent-kafka and kafka-python behind one small interface, so that one driver serves both.

Owns: how each library is told to do a thing. Does not own: what is sent, or what must come back.
"""

import time
from typing import Callable, NamedTuple

from records import Record

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
REQUEST_TIMEOUT_S = 60
POLL_S = 0.2
JOIN_POLL_S = 5.0


class Message(NamedTuple):
    partition: int
    offset: int
    record: Record


class CommitRefused(Exception):
    """A commit that a rebalance overtook: legitimate, and not counted as committed."""


class ConfluentClient:
    """confluent-kafka, which is librdkafka."""

    name = "confluent"
    group_protocol = "classic"
    # Of classic groups; none: the client's own choice.
    assignor = None

    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap

    def version(self) -> str:
        import confluent_kafka

        return f"{confluent_kafka.version()} (librdkafka {confluent_kafka.libversion()[0]})"

    def create_topic(self, topic: str, partitions: int, configs: dict) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        created = admin.create_topics([NewTopic(topic, partitions, 1, config=configs)], operation_timeout=REQUEST_TIMEOUT_S)
        created[topic].result(timeout=REQUEST_TIMEOUT_S)
        # A broker may learn of a topic a moment after the answer, Kafka's does, and kcat ends where a topic is unknown.
        while len(admin.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic].partitions) < partitions:
            time.sleep(0.05)

    def producer(self, codec: str) -> "ConfluentProducer":
        return ConfluentProducer(self.bootstrap, codec)

    def transactional(self, transactional_id: str, timeout_ms: int) -> "ConfluentTransactions":
        return ConfluentTransactions(self.bootstrap, transactional_id, timeout_ms)

    def assigned(self, topic: str, partitions: list, isolation: str = "read_uncommitted") -> "ConfluentConsumer":
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        consumer = ConfluentConsumer(self.bootstrap, topic, "by-assignment", {"isolation.level": isolation})
        consumer.inner.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        return consumer

    def chained(self, topic: str, group: str) -> "ConfluentConsumer":
        """A member that reads what is committed."""
        consumer = ConfluentConsumer(self.bootstrap, topic, group, {"isolation.level": "read_committed"}, self.group_protocol)
        consumer.inner.subscribe([topic])
        return consumer

    def member(self, topic: str, group: str, on_assign: Callable, on_revoke: Callable) -> "ConfluentConsumer":
        more = {"partition.assignment.strategy": self.assignor} if self.assignor else None
        consumer = ConfluentConsumer(self.bootstrap, topic, group, more, group_protocol=self.group_protocol)
        consumer.inner.subscribe(
            [topic],
            on_assign=lambda _, found: on_assign([tp.partition for tp in found]),
            on_revoke=lambda _, lost: on_revoke([tp.partition for tp in lost]),
        )
        return consumer


# With the consumer protocol the times are the server's.
CONFLUENT_PROTOCOLS = {
    "classic": {"session.timeout.ms": 10_000, "heartbeat.interval.ms": 1_000},
    "consumer": {"group.protocol": "consumer"},
}


class ConfluentProducer:
    def __init__(self, bootstrap: str, codec: str):
        from confluent_kafka import Producer

        self.inner = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": codec,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.max.bytes": MAX_MESSAGE_BYTES - 1024,
                "queue.buffering.max.kbytes": 128 * 1024,
                "message.timeout.ms": 300_000,
            }
        )
        self.failure = None

    def send(self, topic: str, partition, record: Record, on_ack: Callable) -> None:
        def delivered(error, message):
            if error is not None:
                self.failure = self.failure or RuntimeError(f"a record was not delivered: {error}")
            else:
                on_ack(message.partition(), message.offset())

        where = {} if partition is None else {"partition": partition}
        while True:
            try:
                self.inner.produce(
                    topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    timestamp=record.timestamp_ms,
                    on_delivery=delivered,
                    **where,
                )
                break
            except BufferError:
                self.inner.poll(0.1)
        self.inner.poll(0)

    def flush(self) -> None:
        left = self.inner.flush(300)
        if self.failure is not None:
            raise self.failure
        if left:
            raise RuntimeError(f"{left} records were not delivered within 300 s")

    def close(self) -> None:
        """It closes when it is dropped."""


class ConfluentTransactions:
    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int):
        from confluent_kafka import Producer

        settings = {"bootstrap.servers": bootstrap, "transactional.id": transactional_id, "linger.ms": 0}
        # Its own timeout for a record must not be above the transaction's.
        settings |= {"transaction.timeout.ms": timeout_ms, "message.timeout.ms": timeout_ms}
        self.inner, self.begun = Producer(settings), False
        self.inner.init_transactions(REQUEST_TIMEOUT_S)

    def write(self, topic: str, partition: int, value: str) -> None:
        errors = []
        if not self.begun:
            self.inner.begin_transaction()
            self.begun = True
        self.inner.produce(topic, value=value.encode(), partition=partition, on_delivery=lambda error, _: errors.append(error))
        left = self.inner.flush(REQUEST_TIMEOUT_S)
        if left or errors != [None]:
            raise RuntimeError(f"the record was not delivered: {errors}")

    def send_offsets(self, consumer: "ConfluentConsumer", offsets: dict) -> None:
        from confluent_kafka import TopicPartition

        positions = [TopicPartition(consumer.topic, p, o) for p, o in offsets.items()]
        self.inner.send_offsets_to_transaction(positions, consumer.inner.consumer_group_metadata(), REQUEST_TIMEOUT_S)

    def end(self, is_commit: bool) -> None:
        self.begun = False
        end = self.inner.commit_transaction if is_commit else self.inner.abort_transaction
        end(REQUEST_TIMEOUT_S)


class ConfluentConsumer:
    def __init__(self, bootstrap: str, topic: str, group: str, more: dict | None = None, group_protocol: str = "classic"):
        from confluent_kafka import Consumer

        self.topic = topic
        self.inner = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
                "check.crcs": True,
                **CONFLUENT_PROTOCOLS[group_protocol],
                **(more or {}),
            }
        )

    def poll(self, take: Callable) -> None:
        from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError

        found = []
        for message in self.inner.consume(500, POLL_S):
            if message.error() is not None and message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue  # Another broker than the one that made it may learn of it a moment later.
            if message.error() is not None:
                raise RuntimeError(f"consuming failed: {message.error()}")
            kind, timestamp_ms = message.timestamp()
            if kind != TIMESTAMP_CREATE_TIME:
                raise RuntimeError(f"timestamp type {kind} at {message.partition()}/{message.offset()}, expected create time")
            record = Record(message.key(), message.value(), tuple(message.headers() or ()), timestamp_ms)
            found.append(Message(message.partition(), message.offset(), record))
        take(found)

    def go_back(self) -> None:
        """To what the group has committed."""
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        for found in self.inner.committed(self.inner.assignment(), REQUEST_TIMEOUT_S):
            offset = found.offset if found.offset >= 0 else OFFSET_BEGINNING
            self.inner.seek(TopicPartition(found.topic, found.partition, offset))

    def commit(self, offsets: Callable) -> dict:
        from confluent_kafka import KafkaException, TopicPartition

        asked = offsets()
        if not asked:
            return asked
        try:
            done = self.inner.commit(offsets=[TopicPartition(self.topic, p, o) for p, o in asked.items()], asynchronous=False)
        except KafkaException as error:
            raise CommitRefused(str(error)) from error
        refused = [tp.error for tp in done if tp.error is not None]
        if refused:
            raise CommitRefused(str(refused[0]))
        return asked

    def close(self) -> None:
        self.inner.close()


class KafkaPythonClient:
    """kafka-python, which is Python all the way down."""

    name = "kafka-python"

    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap

    def version(self) -> str:
        import kafka

        return kafka.__version__

    def create_topic(self, topic: str, partitions: int, configs: dict) -> None:
        from kafka import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}})
        admin.close()

    def producer(self, codec: str) -> "KafkaPythonProducer":
        return KafkaPythonProducer(self.bootstrap, codec)

    def transactional(self, transactional_id: str, timeout_ms: int) -> "KafkaPythonTransactions":
        return KafkaPythonTransactions(self.bootstrap, transactional_id, timeout_ms)

    def assigned(self, topic: str, partitions: list, isolation: str = "read_uncommitted") -> "KafkaPythonConsumer":
        from kafka import TopicPartition

        consumer = KafkaPythonConsumer(self.bootstrap, topic, None, isolation)
        consumer.inner.assign([TopicPartition(topic, p) for p in partitions])
        consumer.inner.seek_to_beginning()
        return consumer

    def chained(self, topic: str, group: str) -> "KafkaPythonConsumer":
        """A member that reads what is committed."""
        return self.member(topic, group, lambda _: None, lambda _: None, "read_committed")

    def member(
        self, topic: str, group: str, on_assign: Callable, on_revoke: Callable, isolation: str = "read_uncommitted"
    ) -> "KafkaPythonConsumer":
        from kafka import ConsumerRebalanceListener

        class Listener(ConsumerRebalanceListener):
            """Tells what changes hands: 3.0.12 revokes all and goes on where it was in what it is assigned again."""

            held = frozenset()

            def on_partitions_assigned(self, assigned):
                consumer.poll_s = POLL_S
                now = frozenset(tp.partition for tp in assigned)
                gone, new, self.held = self.held - now, now - self.held, now
                if gone:
                    on_revoke(sorted(gone))
                on_assign(sorted(new))

            def on_partitions_revoked(self, revoked):
                """What of it is really gone is known when it is assigned again."""

            def on_partitions_lost(self, lost):
                # It forgets its places then.
                gone, self.held = self.held, frozenset()
                on_revoke(sorted(gone))

        consumer = KafkaPythonConsumer(self.bootstrap, topic, group, isolation)
        # kafka-python 3.0.12 forgets a join that it leads for new metadata if a poll ends while it is under way, and then
        # neither joins nor sends heartbeats, whoever the broker is. So: metadata first, and a long first poll.
        consumer.inner.partitions_for_topic(topic)
        consumer.poll_s = JOIN_POLL_S
        consumer.inner.subscribe([topic], listener=Listener())
        return consumer


class KafkaPythonProducer:
    def __init__(self, bootstrap: str, codec: str):
        from kafka import KafkaProducer

        self.inner = KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=True,
            acks="all",
            linger_ms=5,
            batch_size=64 * 1024,
            max_request_size=MAX_MESSAGE_BYTES,
            delivery_timeout_ms=300_000,
        )
        self.sent = []

    def send(self, topic: str, partition, record: Record, on_ack: Callable) -> None:
        future = self.inner.send(
            topic,
            value=record.value,
            key=record.key,
            headers=list(record.headers),
            timestamp_ms=record.timestamp_ms,
            partition=partition,
        )
        self.sent.append((future, on_ack))
        if len(self.sent) >= 200:
            self.flush()

    def flush(self) -> None:
        self.inner.flush(300)
        for future, on_ack in self.sent:
            found = future.get(timeout=300)
            on_ack(found.partition, found.offset)
        self.sent = []

    def close(self) -> None:
        self.inner.close()


class KafkaPythonTransactions:
    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int):
        from kafka import KafkaProducer

        self.inner, self.begun = KafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            max_block_ms=REQUEST_TIMEOUT_S * 1000,
        ), False
        self.inner.init_transactions()

    def write(self, topic: str, partition: int, value: str) -> None:
        if not self.begun:
            self.inner.begin_transaction()
            self.begun = True
        self.inner.send(topic, value=value.encode(), partition=partition).get(timeout=REQUEST_TIMEOUT_S)

    def send_offsets(self, consumer: "KafkaPythonConsumer", offsets: dict) -> None:
        from kafka import OffsetAndMetadata, TopicPartition

        positions = {TopicPartition(consumer.topic, p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}
        self.inner.send_offsets_to_transaction(positions, consumer.inner.group_metadata())

    def end(self, is_commit: bool) -> None:
        self.begun = False
        if is_commit:
            self.inner.commit_transaction()
        else:
            self.inner.abort_transaction()


class KafkaPythonConsumer:
    def __init__(self, bootstrap: str, topic: str, group, isolation: str = "read_uncommitted"):
        from kafka import KafkaConsumer

        self.topic, self.poll_s = topic, POLL_S
        self.inner = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            check_crcs=True,
            isolation_level=isolation,
        )

    def poll(self, take: Callable) -> None:
        found = []
        for messages in self.inner.poll(timeout_ms=int(self.poll_s * 1000), max_records=500).values():
            for message in messages:
                if message.timestamp_type != 0:
                    raise RuntimeError(f"timestamp type {message.timestamp_type}, expected create time")
                record = Record(message.key, message.value, tuple(message.headers or ()), message.timestamp)
                found.append(Message(message.partition, message.offset, record))
        take(found)

    def go_back(self) -> None:
        """To what the group has committed."""
        for place in self.inner.assignment():
            offset = self.inner.committed(place)
            if offset is None:
                self.inner.seek_to_beginning(place)
            else:
                self.inner.seek(place, offset)

    def commit(self, offsets: Callable) -> dict:
        from kafka import OffsetAndMetadata, TopicPartition
        from kafka.errors import KafkaError

        asked = offsets()
        try:
            if asked:
                self.inner.commit({TopicPartition(self.topic, p): OffsetAndMetadata(o, "", -1) for p, o in asked.items()})
        except KafkaError as error:
            raise CommitRefused(str(error)) from error
        return asked

    def close(self) -> None:
        self.inner.close()


CLIENTS = {client.name: client for client in (ConfluentClient, KafkaPythonClient)}
