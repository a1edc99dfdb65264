"""Produces records of every sort and reads them back exactly, in a group whose members come and go and by assignment.

    roundtrip.py --client {confluent,kafka-python} --bootstrap HOST:PORT --records N

Exits 0 if all is as sent, 1 with the first deviations otherwise. Deadlines are about progress, never about speed.
"""

import argparse
import sys
import threading
import time
import traceback

from adapters import CLIENTS, MAX_MESSAGE_BYTES, CommitRefused
from records import CODECS, record

PARTITIONS = 6
NO_PROGRESS_S = 120
EXTRA_RECORDS = 60


class Failed(Exception):
    pass


class Sent:
    """What was acknowledged, and where."""

    def __init__(self, seed: int, all_nulls: bool):
        self.seed, self.all_nulls = seed, all_nulls
        self.lock = threading.Lock()
        self.index_at = {}

    def record(self, index: int):
        return record(self.seed, index, self.all_nulls)

    def acked(self, index: int, partition: int, offset: int) -> None:
        with self.lock:
            former = self.index_at.setdefault((partition, offset), index)
        if former != index:
            raise Failed(f"records {former} and {index} were both acknowledged at {partition}/{offset}")

    def ends(self) -> dict:
        """Of every partition, the offset behind its last record; fails unless offsets are dense from 0."""
        with self.lock:
            places = sorted(self.index_at)
        ends = {p: 0 for p in range(PARTITIONS)}
        for partition, offset in places:
            if offset != ends[partition]:
                raise Failed(f"acknowledged offsets of partition {partition} go from {ends[partition] - 1} to {offset}")
            ends[partition] += 1
        return ends


class Delivered:
    """What a group's members were given, and what they were told is committed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.digests = {}
        self.committed = {}
        self.failures = []

    def fail(self, why: str) -> None:
        with self.lock:
            self.failures.append(why)

    def saw(self, message) -> None:
        place, digest = (message.partition, message.offset), message.record.digest()
        with self.lock:
            if self.digests.setdefault(place, digest) != digest:
                self.failures.append(f"{place} was delivered with two contents")

    def was_committed(self, offsets: dict) -> None:
        with self.lock:
            for partition, offset in offsets.items():
                self.committed[partition] = max(offset, self.committed.get(partition, 0))

    def floor(self, partition: int) -> int:
        with self.lock:
            return self.committed.get(partition, 0)

    def commits(self) -> int:
        self.count()
        with self.lock:
            return sum(self.committed.values())

    def count(self) -> int:
        """Different records delivered so far; fails if anything has gone wrong."""
        with self.lock:
            if self.failures:
                raise Failed("; ".join(self.failures[:5]))
            return len(self.digests)


class Member(threading.Thread):
    """A member of the group: polls, commits what it has seen, leaves when told to."""

    def __init__(self, name: str, client, topic: str, group: str, delivered: Delivered):
        super().__init__(name=name, daemon=True)
        self.client, self.topic, self.group, self.delivered = client, topic, group, delivered
        self.leave = threading.Event()
        self.assigned = threading.Event()
        self.floors, self.next, self.uncommitted = {}, {}, 0

    def run(self) -> None:
        try:
            consumer = self.client.member(self.topic, self.group, self.on_assign, self.on_revoke)
            self.consumer = consumer
            while not self.leave.is_set():
                messages = consumer.poll()
                for message in messages:
                    self.take(message)
                if self.uncommitted >= 300 or (self.uncommitted and not messages):
                    self.commit()
            self.commit()
            consumer.close()
        except Exception:  # whatever it is, the test has failed and says so
            self.delivered.fail(f"member {self.name}: {traceback.format_exc()}")

    def on_assign(self, partitions: list) -> None:
        for partition in partitions:
            self.floors[partition] = self.delivered.floor(partition)
            self.next.pop(partition, None)
        if partitions:
            self.assigned.set()

    def on_revoke(self, partitions: list) -> None:
        # No commit here: kafka-python calls this from its I/O thread. What is not committed is delivered again.
        for partition in partitions:
            self.next.pop(partition, None)

    def take(self, message) -> None:
        partition, offset = message.partition, message.offset
        expected = self.next.get(partition)
        if expected is not None and offset != expected:
            self.delivered.fail(f"member {self.name}: partition {partition} went on at {offset}, not at {expected}")
        floor = self.floors.pop(partition, 0)
        if offset < floor:
            self.delivered.fail(f"member {self.name}: partition {partition} began at {offset}, but {floor} was committed")
        self.next[partition] = offset + 1
        self.uncommitted += 1
        self.delivered.saw(message)

    def commit(self) -> None:
        offsets = dict(self.next)
        try:
            if offsets:
                self.consumer.commit(offsets)
                self.delivered.was_committed(offsets)
            self.uncommitted = 0
        except CommitRefused as refused:
            print(f"note: member {self.name}: commit refused by a rebalance: {refused}", flush=True)


def wait(what: str, done, progress) -> None:
    """Waits for `done()`; fails once `progress()` has stood still for too long."""
    last, since = progress(), time.monotonic()
    while not done():
        time.sleep(0.05)
        now = progress()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > NO_PROGRESS_S:
            raise Failed(f"no progress for {NO_PROGRESS_S} s while waiting for {what} (at {now})")


def produce(client, topic: str, sent: Sent, indexes: range) -> None:
    """Sends the records of these indexes, a fifth of them with each codec; half of them where the client likes."""
    for number, codec in enumerate(CODECS):
        producer = client.producer(codec)
        for index in indexes[number :: len(CODECS)]:
            partition = index // len(CODECS) % PARTITIONS if index % 2 else None
            producer.send(topic, partition, sent.record(index), lambda p, o, i=index: sent.acked(i, p, o))
        producer.flush()


def read_in_group(client, topic: str, sent: Sent, records: int) -> None:
    group, delivered = f"group-of-{topic}", Delivered()
    third = records // 3

    def start(name: str) -> Member:
        member = Member(name, client, topic, group, delivered)
        member.start()
        return member

    def stop(member: Member) -> None:
        member.leave.set()
        member.join(NO_PROGRESS_S)
        if member.is_alive():
            raise Failed(f"member {member.name} did not leave within {NO_PROGRESS_S} s")

    def expect(what: str, count: int) -> None:
        wait(what, lambda: delivered.count() >= count, delivered.count)

    a, b, c = start("a"), start("b"), start("c")
    produce(client, topic, sent, range(0, third))
    expect("half of the first third", third // 2)

    leaving = threading.Thread(target=stop, args=(b,), daemon=True)
    leaving.start()
    produce(client, topic, sent, range(third, 2 * third))
    leaving.join()
    expect("half of the second third", third + third // 2)

    d = start("d")
    wait("the fourth member's assignment", d.assigned.is_set, delivered.count)
    produce(client, topic, sent, range(2 * third, records))
    expect("every record in the group", records)
    ends = sent.ends()
    wait("the last commits", lambda: all(delivered.floor(p) == end for p, end in ends.items()), delivered.commits)
    for member in (a, c, d):
        stop(member)

    # A newcomer to the emptied group gets what comes after the commit, and nothing of what was before.
    late = start("e")
    wait("the newcomer's assignment", late.assigned.is_set, delivered.count)
    produce(client, topic, sent, range(records, records + EXTRA_RECORDS))
    expect("what came after the last commit", records + EXTRA_RECORDS)
    stop(late)
    delivered.count()

    for place, index in sent.index_at.items():
        if delivered.digests.get(place) != sent.record(index).digest():
            raise Failed(f"record {index} at {place} was delivered otherwise than it was sent: {sent.record(index).describe()}")


def read_by_assignment(client, topic: str, sent: Sent) -> None:
    ends = sent.ends()
    at = {p: 0 for p in ends}
    consumer = client.assigned(topic, list(ends))
    since = time.monotonic()
    while at != ends:
        messages = consumer.poll()
        if messages:
            since = time.monotonic()
        elif time.monotonic() - since > NO_PROGRESS_S:
            raise Failed(f"no record for {NO_PROGRESS_S} s: positions {at}, ends {ends}")
        for partition, offset, found in messages:
            if offset != at[partition] or offset >= ends[partition]:
                raise Failed(f"partition {partition} went on at {offset}, expected {at[partition]} of {ends[partition]}")
            at[partition] += 1
            index = sent.index_at[(partition, offset)]
            expected = sent.record(index)
            if found != expected:
                raise Failed(
                    f"record {index} at {partition}/{offset} (codec {CODECS[index % len(CODECS)]}):\n"
                    f"  sent  {expected.describe()}\n  found {found.describe()}"
                )
    consumer.close()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--client", choices=sorted(CLIENTS), required=True)
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--records", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--topic")
    given = arguments.parse_args()

    topic = given.topic or f"roundtrip-{given.client}"
    client, begun = CLIENTS[given.client](given.bootstrap), time.monotonic()
    sent = Sent(given.seed, client.sends_all_nulls)
    try:
        client.create_topic(topic, PARTITIONS, {"max.message.bytes": str(MAX_MESSAGE_BYTES)})
        read_in_group(client, topic, sent, given.records)
        read_by_assignment(client, topic, sent)
    except Failed as failed:
        print(f"FAILED {given.client}: {failed}", file=sys.stderr)
        return 1
    print(f"ok: {given.client}: {len(sent.index_at)} records, in a group and by assignment, {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
