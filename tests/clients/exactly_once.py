"""Consume, transform, produce with exactly-once, by a worker that is killed again and again.

    exactly_once.py --bootstrap HOST:PORT --records N --kills K [--at-once N]

Writes N records to a topic and starts a worker: a member of a group that passes each record on to another topic, together with
the group's offsets, in transactions. Each time another share of the records is there, the worker is killed (SIGKILL) and
another takes its place, under the same transactional id. What must hold: a reader of committed records finds each record of
the input exactly once, in the input's order, and what the group has committed is the input's end. Prints what it has found.
Exits 1 if anything is amiss.
"""

import argparse
import signal
import subprocess
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SOURCE, SINK, GROUP, ID = "eo-in", "eo-out", "eo-workers", "eo-worker"
PARTITIONS = 3
# The shortest that brokers allow.
SESSION_MS = 6_000
TRANSACTION_MS = 60_000
REQUEST_S = 60
# Without any progress.
LIMIT_S = 120
COORDINATOR_COMES = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE)


def consumer(bootstrap: str, **more) -> Consumer:
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": GROUP,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 1_000,
    }
    return Consumer(settings | {name.replace("_", "."): value for name, value in more.items()})


def checked(messages: list) -> list:
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
    return messages


def work(bootstrap: str, at_once: int) -> None:
    """Until it is killed. An error that a transaction can be aborted for is what brokers may answer while they lose a member;
    any other ends the worker, and its watcher finds it dead."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": ID,
            "transaction.timeout.ms": TRANSACTION_MS,
            "message.timeout.ms": TRANSACTION_MS,
            "linger.ms": 0,
        }
    )
    producer.init_transactions(REQUEST_S)
    reader = consumer(bootstrap)
    reader.subscribe([SOURCE])
    while True:
        messages = checked(reader.consume(at_once, 0.2))
        if not messages:
            continue
        try:
            producer.begin_transaction()
            for message in messages:
                producer.produce(SINK, message.value(), partition=message.partition())
            # The first is the lowest, the last the highest of its partition.
            ends = {message.partition(): message.offset() + 1 for message in messages}
            offsets = [TopicPartition(SOURCE, partition, end) for partition, end in ends.items()]
            producer.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), REQUEST_S)
            producer.commit_transaction(REQUEST_S)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            print(f"worker: aborts: {error}", flush=True)
            producer.abort_transaction(REQUEST_S)
            go_back(reader)


def go_back(reader: Consumer) -> None:
    for found in reader.committed(reader.assignment(), REQUEST_S):
        offset = found.offset if found.offset >= 0 else OFFSET_BEGINNING
        reader.seek(TopicPartition(found.topic, found.partition, offset))


def value_of(number: int) -> bytes:
    return f"{number}".encode()


def write_input(bootstrap: str, records: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "queue.buffering.max.messages": 200_000})
    for number in range(records):
        while True:
            try:
                producer.produce(SOURCE, value_of(number), partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(LIMIT_S) > 0:
        raise TimeoutError("the input can't be written")


class Worker:
    """The process that works now, and who takes its place."""

    def __init__(self, bootstrap: str, at_once: int):
        self.command = [sys.executable, __file__, "--bootstrap", bootstrap, "--at-once", str(at_once), "--worker"]
        self.process = subprocess.Popen(self.command)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def replace(self) -> None:
        self.kill()
        self.process = subprocess.Popen(self.command)

    def check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker has ended by itself: {self.process.returncode}")


def passed_on(reader: Consumer) -> int:
    """Of all partitions: the offsets that the group has committed."""
    places = [TopicPartition(SOURCE, partition) for partition in range(PARTITIONS)]
    try:
        return sum(max(place.offset, 0) for place in reader.committed(places, REQUEST_S))
    except KafkaException as error:
        # A broker that has just made the groups' topic has no coordinator yet, or one that is reading.
        if error.args[0].code() in COORDINATOR_COMES:
            return 0
        raise


def watch(bootstrap: str, records: int, kills: int, at_once: int) -> None:
    """Kills the worker when it has passed on each share but the last, until everything is passed on."""
    # Who reads what is committed waits for open transactions when it asks for offsets.
    looker, worker, done = consumer(bootstrap, isolation_level="read_uncommitted"), Worker(bootstrap, at_once), 0
    try:
        best, since = -1, time.monotonic()
        while best < records:
            worker.check()
            now = passed_on(looker)
            if now > best:
                best, since = now, time.monotonic()
            elif time.monotonic() - since > LIMIT_S:
                raise TimeoutError(f"{best} of {records} records are passed on, and no more for {LIMIT_S} s")
            if done < kills and best >= records * (done + 1) // (kills + 1):
                worker.replace()
                done += 1
                print(f"killed at {best} of {records}", flush=True)
            time.sleep(0.05)
    finally:
        worker.kill()
        looker.close()
    if done != kills:
        raise RuntimeError(f"killed {done} times only: the worker was too fast")


def output(bootstrap: str) -> dict:
    """What readers of committed records find in each partition, once nothing is undecided."""
    # Fences the last worker, and waits until its transaction has ended.
    Producer({"bootstrap.servers": bootstrap, "transactional.id": ID}).init_transactions(REQUEST_S)
    reader = consumer(bootstrap, enable_partition_eof=True)
    reader.assign([TopicPartition(SINK, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    values, ended = {partition: [] for partition in range(PARTITIONS)}, set()
    end = time.monotonic() + LIMIT_S
    while len(ended) < PARTITIONS:
        for message in reader.consume(10_000, 1):
            if message.error() is None:
                values[message.partition()].append(message.value())
                end = time.monotonic() + LIMIT_S
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise KafkaException(message.error())
        if time.monotonic() > end:
            raise TimeoutError(f"partitions without an end: {set(range(PARTITIONS)) - ended}")
    reader.close()
    return values


def faults_in(found: list, expected: list) -> str:
    if found == expected:
        return ""
    lost, extra = set(expected) - set(found), len(found) - len(set(found))
    first = next((at for at, pair in enumerate(zip(found, expected)) if pair[0] != pair[1]), min(len(found), len(expected)))
    return f"{len(found)} records, expected {len(expected)}: {len(lost)} lost, {extra} doubled; first difference at {first}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=200, help="records of a transaction at most")
    parser.add_argument("--worker", action="store_true")
    given = parser.parse_args()
    if given.worker:
        work(given.bootstrap, given.at_once)
        return 0
    admin = AdminClient({"bootstrap.servers": given.bootstrap})
    for made in admin.create_topics([NewTopic(SOURCE, PARTITIONS), NewTopic(SINK, PARTITIONS)]).values():
        made.result(REQUEST_S)
    write_input(given.bootstrap, given.records)
    watch(given.bootstrap, given.records, given.kills, given.at_once)
    faults = []
    for partition, values in output(given.bootstrap).items():
        expected = [value_of(number) for number in range(partition, given.records, PARTITIONS)]
        fault = faults_in(values, expected)
        if fault:
            faults.append(f"partition {partition}: {fault}")
    print(f"{given.records} records, {given.kills} kills")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
