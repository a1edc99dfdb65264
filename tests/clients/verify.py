"""Reads every partition from the start to the end and holds it against the history of a load.

    verify.py --bootstrap HOST:PORT --topic T --history FILE [--group G] [--final]

What must hold: offsets dense from 0; every value whole, sent, and there once; each producer's values in the order in which
they were sent; every acknowledged value at its acknowledged offset; a group's committed offset not behind the last
acknowledged commit, nor ahead of the last one tried. With `--final` (the load has ended): nothing is left unacknowledged.
Prints one line of JSON. Exits 1 with the first anomalies if anything is amiss.
"""

import argparse
import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from history import History, Value

NO_PROGRESS_S = 120
CALL_TIMEOUT_S = 60
# What a server that was just started may answer; librdkafka goes on by itself, or the question is asked again.
TRANSIENT = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


class Log:
    """What is read of one partition, and what was wrong with it."""

    def __init__(self, partition: int, history: History, anomalies: list):
        self.partition, self.history, self.anomalies = partition, history, anomalies
        self.next = 0
        self.offset_of = {}
        self.last_number = {}

    def take(self, offset: int, data) -> None:
        at = f"{self.partition}/{offset}"
        if offset != self.next:
            self.anomalies.append(f"offsets go from {self.partition}/{self.next - 1} to {offset}")
        self.next = offset + 1
        value = Value.decode(data or b"")
        if value is None or value.partition != self.partition:
            self.anomalies.append(f"{at} is not a value that was sent here: {len(data or b'')} bytes {(data or b'')[:40]!r}")
            return
        if value in self.offset_of:
            self.anomalies.append(f"{value} is there twice, at {self.offset_of[value]} and {offset}")
        if value in self.history.failed:
            self.anomalies.append(f"{at} has {value}, which was reported as failed: {self.history.failed[value]}")
        if value.number <= self.last_number.get(value.worker, -1):
            self.anomalies.append(f"{at}: {value} follows number {self.last_number[value.worker]} of the same producer")
        self.last_number[value.worker] = value.number
        self.offset_of[value] = offset


def patiently(what: str, ask):
    """Asks until there is an answer other than one that a server gives while it starts."""
    until = time.monotonic() + NO_PROGRESS_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in TRANSIENT or time.monotonic() > until:
                raise RuntimeError(f"{what}: {error}") from error
            time.sleep(0.1)


def read_all(given, history: History, anomalies: list) -> dict:
    consumer = Consumer(
        {
            "bootstrap.servers": given.bootstrap,
            "group.id": "verify",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "log_level": 2,
        }
    )

    def partitions() -> list:
        topic = consumer.list_topics(given.topic, timeout=CALL_TIMEOUT_S).topics[given.topic]
        if topic.error is not None:
            raise KafkaException(topic.error)
        return list(topic.partitions)

    logs, ends = {}, {}
    for partition in patiently("metadata", partitions):
        at = TopicPartition(given.topic, partition)
        start, ends[partition] = patiently("ends", lambda at=at: consumer.get_watermark_offsets(at, timeout=CALL_TIMEOUT_S))
        if start != 0:
            anomalies.append(f"partition {partition} starts at {start}")
        logs[partition] = Log(partition, history, anomalies)
    consumer.assign([TopicPartition(given.topic, partition, OFFSET_BEGINNING) for partition in logs])
    since = time.monotonic()
    while any(log.next < ends[partition] for partition, log in logs.items()) and len(anomalies) < 100:
        messages = consumer.consume(5000, 0.5)
        for message in messages:
            if message.error() is None:
                logs[message.partition()].take(message.offset(), message.value())
                since = time.monotonic()
            elif message.error().code() not in TRANSIENT:
                anomalies.append(f"reading failed: {message.error()}")
        if time.monotonic() - since > NO_PROGRESS_S:
            at = {partition: log.next for partition, log in logs.items()}
            anomalies.append(f"no record for {NO_PROGRESS_S} s: read up to {at}, the ends are {ends}")
            break
    consumer.close()
    return logs


def check_group(given, history: History, anomalies: list) -> None:
    admin = AdminClient({"bootstrap.servers": given.bootstrap, "log_level": 2})
    asked = ConsumerGroupTopicPartitions(given.group, [TopicPartition(given.topic, p) for p in history.tried])

    def ask() -> list:
        answer = admin.list_consumer_group_offsets([asked], request_timeout=CALL_TIMEOUT_S)[given.group].result()
        for tp in answer.topic_partitions:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return answer.topic_partitions

    for tp in patiently("group offsets", ask):
        low, high = history.committed[tp.partition], history.tried[tp.partition]
        # A load that goes on may have committed more since its history was read.
        if tp.offset < low or (given.final and max(tp.offset, 0) > high):
            anomalies.append(f"group {given.group} has {tp.partition}/{tp.offset}; acknowledged {low}, tried {high}")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--topic", default="load")
    arguments.add_argument("--history", required=True)
    arguments.add_argument("--group")
    arguments.add_argument("--final", action="store_true")
    given = arguments.parse_args()

    # Read before the ends are asked for: everything acknowledged by now must lie below them.
    history, anomalies = History(given.history), []
    logs = read_all(given, history, anomalies)
    for value, offset in history.acked.items():
        found = logs[value.partition].offset_of.get(value) if value.partition in logs else None
        if found != offset:
            anomalies.append(f"{value} was acknowledged at {offset}, " + ("and is lost" if found is None else f"and lies at {found}"))
    if given.group and history.tried:
        check_group(given, history, anomalies)
    if given.final:
        if not history.ended:
            anomalies.append("the load did not end in order")
        open_ = len(history.sent) - len(history.acked) - len(history.failed)
        if open_:
            anomalies.append(f"{open_} records have no outcome")
        anomalies += [f"{value} was never sent" for log in logs.values() for value in log.offset_of if value not in history.sent]
    anomalies += history.violations
    anomalies += [f"{value} failed: {error}" for value, error in list(history.failed.items())[:5]]

    read = sum(len(log.offset_of) for log in logs.values())
    print(json.dumps({"read": read, "acked": len(history.acked), "sent": len(history.sent), "anomalies": len(anomalies)}))
    for anomaly in anomalies[:20]:
        print(f"ANOMALY: {anomaly}", file=sys.stderr)
    return 1 if anomalies else 0


if __name__ == "__main__":
    sys.exit(main())
