"""Consume, transform, produce with exactly-once, by a worker that is killed again and again.

    exactly_once.py --bootstrap HOST:PORT --records N --kills K [--pauses P] [--at-once N]

Writes N records to a topic and starts a worker: a member of a group that passes each record on to another topic, together with
the group's offsets, in transactions. Each time another share of the records is there, the worker is killed (SIGKILL) and
another takes its place, under the same transactional id; P times it is not killed but stands still (SIGSTOP) in the middle of a
transaction, and goes on when another works in its place. What must hold: who went on is refused, and ends; a reader of committed records finds each record of
the input exactly once, in the input's order, and what the group has committed is the input's end. Prints what it has found.
Exits 1 if anything is amiss.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
# librdkafka was seen to wait for ever, and beyond the time that it was given, in rd_kafka_send_offsets_to_transaction, without
# sending anything, when the connection to a group's coordinator went away in the middle of it: such a worker is replaced.
STANDS_STILL_S = 40
TELL_EVERY_S = 5
# The exit code of a worker that was told that another has its place.
REFUSED = 3
# What a question gets while its broker goes, or comes.
COORDINATOR_COMES = (
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.REQUEST_TIMED_OUT,
)


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
    """Another broker than the one that made a topic may learn of it a moment later."""
    found = [message for message in messages if message.error() is None or message.error().code() != KafkaError.UNKNOWN_TOPIC_OR_PART]
    for message in found:
        if message.error() is not None:
            raise KafkaException(message.error())
    return found


def work(bootstrap: str, at_once: int, hold: Path) -> int:
    """Until it is killed, or fenced. An error that a transaction can be aborted for is what brokers may answer while they lose a
    member; any other ends the worker, and its watcher finds it dead."""
    try:
        pass_on(bootstrap, at_once, hold)
    except KafkaException as error:
        if error.args[0].fatal():
            print(f"worker: refused: {error}", flush=True)
            return REFUSED
        raise
    return 0


def pass_on(bootstrap: str, at_once: int, hold: Path) -> None:
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
            wait_while_held(hold)
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


def held(hold: Path) -> Path:
    return hold.with_suffix(".held")


def wait_while_held(hold: Path) -> None:
    """In the middle of a transaction: says that it waits, and waits while it shall."""
    if hold.exists():
        held(hold).touch()
        while hold.exists():
            time.sleep(0.01)


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

    def __init__(self, bootstrap: str, at_once: int, hold: Path):
        self.hold = hold
        self.command = [sys.executable, __file__, "--bootstrap", bootstrap, "--at-once", str(at_once), "--worker", str(hold)]
        self.process = subprocess.Popen(self.command)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def replace(self) -> None:
        self.kill()
        self.process = subprocess.Popen(self.command)

    def pause(self) -> subprocess.Popen:
        """Answers the process that stands still in the middle of a transaction."""
        self.hold.touch()
        end = time.monotonic() + LIMIT_S
        while not held(self.hold).exists():
            self.check()
            if time.monotonic() > end:
                raise TimeoutError(f"no transaction for {LIMIT_S} s")
            time.sleep(0.01)
        paused = self.process
        paused.send_signal(signal.SIGSTOP)
        held(self.hold).unlink()
        self.hold.unlink()
        self.process = subprocess.Popen(self.command)
        return paused

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


def end_of_zombie(zombie: subprocess.Popen) -> str:
    """Lets it go on; what is wrong with how it ends."""
    zombie.send_signal(signal.SIGCONT)
    try:
        code = zombie.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"a worker that another has replaced still works {LIMIT_S} s after it went on"
    return "" if code == REFUSED else f"a worker that another has replaced ended with {code}, and wasn't refused"


def watch(given, hold: Path) -> list:
    """Stops the worker when it has passed on each share but the last, until everything is passed on; the last shares by a pause.
    Answers what is wrong with the workers that went on."""
    # Who reads what is committed waits for open transactions when it asks for offsets.
    looker, worker = consumer(given.bootstrap, isolation_level="read_uncommitted"), Worker(given.bootstrap, given.at_once, hold)
    records, stops, done, zombies, faults = given.records, given.kills + given.pauses, 0, [], []
    try:
        best, since, told, at_pause, began = -1, time.monotonic(), time.monotonic(), 0, time.monotonic()
        while best < records:
            worker.check()
            now = passed_on(looker)
            if now > best:
                best, since = now, time.monotonic()
            elif time.monotonic() - max(since, began) > STANDS_STILL_S:
                print(f"at {best} of {records} a worker that stands still is replaced", flush=True)
                worker.replace()
                began = time.monotonic()
            if time.monotonic() - since > LIMIT_S:
                raise TimeoutError(f"{best} of {records} records are passed on, and no more for {LIMIT_S} s")
            if zombies and now > at_pause:
                faults.append(end_of_zombie(zombies.pop()))
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                print(f"{best} of {records} passed on", flush=True)
            if done < stops and best >= records * (done + 1) // (stops + 1):
                if done < given.kills:
                    worker.replace()
                else:
                    zombies.append(worker.pause())
                    # What it had committed before. More comes from its successor only.
                    at_pause = passed_on(looker)
                done += 1
                print(f"{'killed' if done <= given.kills else 'paused'} at {best} of {records}", flush=True)
            time.sleep(0.05)
    finally:
        worker.kill()
        for zombie in zombies:
            zombie.kill()
        looker.close()
    if done != stops or len(faults) != given.pauses:
        raise RuntimeError(f"stopped {done} times, {len(faults)} of them by a pause: the worker was too fast")
    return [fault for fault in faults if fault]


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
    parser.add_argument("--pauses", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=200, help="records of a transaction at most")
    parser.add_argument("--worker", type=Path, metavar="HOLD", help="works, and waits in a transaction while this file is there")
    given = parser.parse_args()
    if given.worker:
        return work(given.bootstrap, given.at_once, given.worker)
    admin = AdminClient({"bootstrap.servers": given.bootstrap})
    for made in admin.create_topics([NewTopic(SOURCE, PARTITIONS), NewTopic(SINK, PARTITIONS)]).values():
        made.result(REQUEST_S)
    begun = time.monotonic()
    write_input(given.bootstrap, given.records)
    written = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        faults = watch(given, Path(folder) / "hold")
    ended = time.monotonic()
    for partition, values in output(given.bootstrap).items():
        expected = [value_of(number) for number in range(partition, given.records, PARTITIONS)]
        fault = faults_in(values, expected)
        if fault:
            faults.append(f"partition {partition}: {fault}")
    print(
        f"{given.records} records, {given.kills} kills, {given.pauses} pauses: written in {written - begun:.1f} s, "
        f"passed on in {ended - written:.1f} s, read in {time.monotonic() - ended:.1f} s"
    )
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
