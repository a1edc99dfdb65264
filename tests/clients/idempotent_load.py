"""Idempotent acks=all producers and one committing group member, which go on through every restart of the server.

    idempotent_load.py --bootstrap HOST:PORT --topic T --history FILE [--group G]

Runs until SIGTERM (or until its standard input ends), then flushes and ends its history with `E`. Prints `started` once
the first record is acknowledged. At the end it says how long the slowest acknowledgement took. Exits 1 if a record failed for good. Writes down everything that `verify.py` needs.
"""

import argparse
import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from history import Value, Writer

stop = threading.Event()
WORKERS = 2
# A record fails only if the server is gone for that long.
DELIVERY_TIMEOUT_MS = 300_000


class ProducerWorker(threading.Thread):
    def __init__(self, number: int, given, writer: Writer):
        super().__init__(name=f"producer-{number}", daemon=True)
        self.number, self.given, self.writer = number, given, writer
        self.acked, self.failed, self.slowest = 0, 0, 0.0
        self.producer = Producer(
            {
                "bootstrap.servers": given.bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "message.timeout.ms": DELIVERY_TIMEOUT_MS,
                "queue.buffering.max.messages": 20_000,
                # A server that was away, or is slow, has no more than this before it at once, whatever the disk can do.
                "queue.buffering.max.kbytes": 4096,
                # What was sent to a server that hangs is sent again before anybody gives up waiting for it.
                "socket.timeout.ms": 15_000,
                "reconnect.backoff.max.ms": 500,
                "retry.backoff.max.ms": 500,
                "compression.type": ("none", "lz4")[number % 2],
                "log_level": 2,
            }
        )

    def run(self) -> None:
        next_number = [0] * self.given.partitions
        sent_bytes, begun = 0, time.monotonic()
        while not stop.is_set():
            for partition in range(self.given.partitions):
                value = Value(self.number, partition, next_number[partition])
                next_number[partition] += 1
                data = value.encode()
                self.writer.line("S", *value)
                self.send(value, data)
                sent_bytes += len(data)
            ahead = sent_bytes / self.given.rate - (time.monotonic() - begun)
            self.producer.poll(min(max(ahead, 0), 0.1))
        left = self.producer.flush(DELIVERY_TIMEOUT_MS / 1000)
        if left:
            self.failed += left
            self.writer.line("V", f"{left} records of {self.name} had no outcome at the end")

    def send(self, value: Value, data: bytes) -> None:
        def delivered(error, message):
            if error is None:
                self.acked += 1
                self.slowest = max(self.slowest, message.latency() or 0.0)
                self.writer.line("A", *value, message.offset())
            else:
                self.failed += 1
                self.writer.line("F", *value, str(error).replace("\n", " "))

        while True:
            try:
                return self.producer.produce(self.given.topic, data, partition=value.partition, on_delivery=delivered)
            except BufferError:
                self.producer.poll(0.1)


class Committer(threading.Thread):
    """The one member of a group: commits as it goes, and checks that it goes on where it committed."""

    def __init__(self, given, writer: Writer):
        super().__init__(name="committer", daemon=True)
        self.given, self.writer = given, writer
        self.committed, self.floor, self.next = {}, {}, {}
        self.consumer = Consumer(
            {
                "bootstrap.servers": given.bootstrap,
                "group.id": given.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 1_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 2,
            }
        )

    def run(self) -> None:
        self.consumer.subscribe([self.given.topic], on_assign=self.on_assign)
        while not stop.is_set():
            for message in self.consumer.consume(500, 0.2):
                if message.error() is None:
                    self.take(message.partition(), message.offset())
            self.commit()
        self.consumer.close()

    def on_assign(self, _, partitions) -> None:
        self.floor = {tp.partition: self.committed.get(tp.partition, 0) for tp in partitions}
        self.next = {}

    def take(self, partition: int, offset: int) -> None:
        floor = self.floor.pop(partition, 0)
        if offset < floor:
            self.writer.line("V", f"the group went on at {partition}/{offset}, but {floor} was committed")
        expected = self.next.get(partition, offset)
        if offset != expected:
            self.writer.line("V", f"the consumer went from {partition}/{expected - 1} to {offset}")
        self.next[partition] = offset + 1

    def commit(self) -> None:
        offsets = [TopicPartition(self.given.topic, p, o) for p, o in self.next.items() if o > self.committed.get(p, 0)]
        if not offsets:
            return
        for tp in offsets:
            self.writer.line("T", tp.partition, tp.offset)
        # On disk before it is tried: the server may have carried out what nobody was told of.
        self.writer.flush()
        try:
            done = self.consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException:
            return  # Not acknowledged: it may have happened or not.
        for tp in done:
            if tp.error is None:
                self.committed[tp.partition] = tp.offset
                self.writer.line("C", tp.partition, tp.offset)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--topic", default="load")
    arguments.add_argument("--partitions", type=int, default=4)
    arguments.add_argument("--history", required=True)
    arguments.add_argument("--group", default="load-group")
    arguments.add_argument("--rate", type=int, default=6_000_000, help="bytes a second and producer, at most")
    given = arguments.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()

    admin = AdminClient({"bootstrap.servers": given.bootstrap, "log_level": 2})
    admin.create_topics([NewTopic(given.topic, given.partitions, 1)])[given.topic].result(timeout=60)

    writer = Writer(given.history)
    producers = [ProducerWorker(number, given, writer) for number in range(WORKERS)]
    committer = Committer(given, writer)
    for thread in (*producers, committer):
        thread.start()
    while not stop.is_set() and not any(producer.acked for producer in producers):
        time.sleep(0.02)
    print("started", flush=True)
    while not stop.wait(0.1):
        writer.flush()
        if any(producer.failed for producer in producers):
            stop.set()
    for thread in (*producers, committer):
        thread.join()
    failed = sum(producer.failed for producer in producers)
    writer.line("E")
    writer.flush()
    acked, slowest = sum(p.acked for p in producers), max(p.slowest for p in producers)
    print(
        f"{'FAILED' if failed else 'ok'}: {acked} records acknowledged, {failed} failed, slowest {slowest * 1000:.0f} ms",
        flush=True,
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
