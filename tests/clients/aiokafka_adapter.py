"""aiokafka behind the same interface as the libraries of `adapters.py`: its event loop runs on a thread of its own."""

import asyncio
import threading
from typing import Callable

from adapters import MAX_MESSAGE_BYTES, POLL_S, CommitRefused, Message
from records import Record

CALL_LIMIT_S = 300


class Loop:
    def __init__(self):
        self.inner = asyncio.new_event_loop()
        threading.Thread(target=self.inner.run_forever, daemon=True).start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.inner).result(CALL_LIMIT_S)


class AiokafkaClient:
    name = "aiokafka"

    def __init__(self, bootstrap: str):
        self.bootstrap, self.loop = bootstrap, Loop()

    def version(self) -> str:
        import aiokafka

        return aiokafka.__version__

    def create_topic(self, topic: str, partitions: int, configs: dict) -> None:
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        async def create():
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
            await admin.close()
            codes = [entry[1] for entry in answer.topic_errors]
            if codes != [0]:
                raise RuntimeError(f"creating {topic}: {answer}")

        self.loop.run(create())

    def producer(self, codec: str) -> "AiokafkaProducer":
        return AiokafkaProducer(self, codec)

    def transactional(self, transactional_id: str, timeout_ms: int) -> "AiokafkaTransactions":
        return AiokafkaTransactions(self, transactional_id, timeout_ms)

    def assigned(self, topic: str, partitions: list, isolation: str = "read_uncommitted") -> "AiokafkaConsumer":
        from aiokafka import TopicPartition

        consumer = AiokafkaConsumer(self, topic, None, isolation)
        places = [TopicPartition(topic, p) for p in partitions]

        async def start():
            consumer.inner.assign(places)
            await consumer.inner.start()
            await consumer.inner.seek_to_beginning(*places)

        self.loop.run(start())
        return consumer

    def chained(self, topic: str, group: str) -> "AiokafkaConsumer":
        """A member that reads what is committed."""
        return self.member(topic, group, lambda _: None, lambda _: None, "read_committed")

    def member(
        self, topic: str, group: str, on_assign: Callable, on_revoke: Callable, isolation: str = "read_uncommitted"
    ) -> "AiokafkaConsumer":
        from aiokafka import ConsumerRebalanceListener

        class Listener(ConsumerRebalanceListener):
            async def on_partitions_assigned(self, assigned):
                on_assign([tp.partition for tp in assigned])

            async def on_partitions_revoked(self, revoked):
                on_revoke([tp.partition for tp in revoked])

        consumer = AiokafkaConsumer(self, topic, group, isolation)

        async def start():
            consumer.inner.subscribe([topic], listener=Listener())
            await consumer.inner.start()

        self.loop.run(start())
        return consumer


class AiokafkaProducer:
    def __init__(self, client: AiokafkaClient, codec: str):
        self.loop, self.sent = client.loop, []

        async def start():
            from aiokafka import AIOKafkaProducer

            self.inner = AIOKafkaProducer(
                bootstrap_servers=client.bootstrap,
                compression_type=None if codec == "none" else codec,
                enable_idempotence=True,
                acks="all",
                linger_ms=5,
                max_batch_size=64 * 1024,
                max_request_size=MAX_MESSAGE_BYTES,
            )
            await self.inner.start()

        self.loop.run(start())

    def send(self, topic: str, partition, record: Record, on_ack: Callable) -> None:
        self.sent.append((topic, partition, record, on_ack))
        if len(self.sent) >= 200:
            self.flush()

    def flush(self) -> None:
        async def all_of_it():
            futures = [
                await self.inner.send(topic, record.value, record.key, partition, record.timestamp_ms, list(record.headers))
                for topic, partition, record, _ in self.sent
            ]
            return await asyncio.gather(*futures)

        for (_, _, _, on_ack), found in zip(self.sent, self.loop.run(all_of_it())):
            on_ack(found.partition, found.offset)
        self.sent = []

    def close(self) -> None:
        self.loop.run(self.inner.stop())


class AiokafkaTransactions:
    def __init__(self, client: AiokafkaClient, transactional_id: str, timeout_ms: int):
        self.loop, self.begun = client.loop, False

        async def start():
            from aiokafka import AIOKafkaProducer

            self.inner = AIOKafkaProducer(
                bootstrap_servers=client.bootstrap, transactional_id=transactional_id, transaction_timeout_ms=timeout_ms
            )
            await self.inner.start()

        self.loop.run(start())

    def write(self, topic: str, partition: int, value: str) -> None:
        async def write():
            if not self.begun:
                await self.inner.begin_transaction()
                self.begun = True
            await self.inner.send_and_wait(topic, value.encode(), partition=partition)

        self.loop.run(write())

    def send_offsets(self, consumer: "AiokafkaConsumer", offsets: dict) -> None:
        """It knows no member, only the group: a member that was put out isn't refused."""
        from aiokafka import TopicPartition

        positions = {TopicPartition(consumer.topic, p): o for p, o in offsets.items()}
        self.loop.run(self.inner.send_offsets_to_transaction(positions, consumer.group))

    def end(self, is_commit: bool) -> None:
        self.begun = False
        self.loop.run(self.inner.commit_transaction() if is_commit else self.inner.abort_transaction())


class AiokafkaConsumer:
    def __init__(self, client: AiokafkaClient, topic: str, group, isolation: str = "read_uncommitted"):
        self.loop, self.topic, self.group = client.loop, topic, group

        async def make():
            from aiokafka import AIOKafkaConsumer

            self.inner = AIOKafkaConsumer(
                bootstrap_servers=client.bootstrap,
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=10_000,
                heartbeat_interval_ms=1_000,
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
                check_crcs=True,
                isolation_level=isolation,
            )

        self.loop.run(make())

    def poll(self, take: Callable) -> None:
        """`take` runs on the loop's thread: a rebalance, which does too, comes before or after it, never between."""

        async def some():
            polled = await self.inner.getmany(timeout_ms=int(POLL_S * 1000), max_records=500)
            found = []
            for message in (message for messages in polled.values() for message in messages):
                if message.timestamp_type != 0:
                    raise RuntimeError(f"timestamp type {message.timestamp_type}, expected create time")
                record = Record(message.key, message.value, tuple(message.headers or ()), message.timestamp)
                found.append(Message(message.partition, message.offset, record))
            take(found)

        self.loop.run(some())

    def go_back(self) -> None:
        """To what the group has committed; where that is nothing, to the beginning."""

        async def seek():
            for place in self.inner.assignment():
                offset = await self.inner.committed(place)
                if offset is None:
                    await self.inner.seek_to_beginning(place)
                else:
                    self.inner.seek(place, offset)

        self.loop.run(seek())

    def commit(self, offsets: Callable) -> dict:
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        async def do():
            asked = offsets()
            if asked:
                await self.inner.commit({TopicPartition(self.topic, p): o for p, o in asked.items()})
            return asked

        try:
            return self.loop.run(do())
        except KafkaError as error:
            raise CommitRefused(str(error)) from error

    def close(self) -> None:
        self.loop.run(self.inner.stop())
