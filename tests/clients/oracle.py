"""What must come back, and the verdict on every feature of a client.

Owns: what was sent, acknowledged, delivered and committed, and what follows from it. Knows no client and no process.
Verdicts are taken when nothing is under way.
"""

import threading
from pathlib import Path
from typing import Callable

from drivers import Failed
from records import KIB, Task, record, write_tasks

PARTITIONS = 12
EXTRA_RECORDS = 60

CREATES = "creates a topic"
GROUP = "group of three, members come and go"
KILLED = "group: a member is killed"
COMMITS = "committed offsets"
RESTART = "committed offsets after a restart"
AS_ASSIGNED = "by assignment"
CONTENTS = ("keys", "nulls and empties", "headers", "timestamps", "values up to 1 MiB")
SHOWN_DEVIATIONS = 3


class Oracle:
    def __init__(self, client: str, seed: int, codecs: tuple, all_nulls: bool):
        self.client, self.seed, self.codecs, self.all_nulls = client, seed, codecs, all_nulls
        # Of every index its digests, and the features that it shows.
        self.expected, self.shows = [], []
        self.index_at, self.place_of = {}, {}
        self.seen = {}
        # Of each member and partition what comes next, and below what nothing may come.
        self.next, self.floors = {}, {}
        self.assigned_once = set()
        self.committed = {}
        self.commit_failures = []
        self.wrong = {}
        self.passed = set()
        # Of what is heard: a client has several processes, and each is listened to by a thread.
        self.lock = threading.Lock()

    # What is sent.

    def write(self, path: Path, indexes: range) -> None:
        """Half of the records go where the client likes."""

        def task(index: int) -> Task:
            codec = self.codecs[index % len(self.codecs)]
            made = record(self.seed, index, self.all_nulls)
            shows = [codec]
            if made.key:
                shows.append("keys")
            if not made.value or not made.key:
                shows.append("nulls and empties")
            if made.headers:
                shows.append("headers")
            if len(made.value or b"") > 32 * KIB:
                shows.append("values up to 1 MiB")
            self.expected.append(made.digests())
            self.shows.append(shows)
            return Task(index, codec, index // len(self.codecs) % PARTITIONS if index % 2 else -1, made)

        assert indexes.start == len(self.expected), "indexes are sent in order"
        write_tasks(path, (task(index) for index in indexes))

    def all_acked(self, indexes: range) -> None:
        left = [index for index in indexes if index not in self.place_of]
        if left:
            raise Failed(f"{len(left)} records were never acknowledged, first {left[0]}")

    def has_sent(self) -> bool:
        return bool(self.index_at)

    def ends(self) -> dict:
        """Of every partition, the offset behind its last record; fails unless offsets are dense from 0."""
        ends = {p: 0 for p in range(PARTITIONS)}
        for partition, offset in sorted(self.index_at):
            if offset != ends[partition]:
                raise Failed(f"acknowledged offsets of partition {partition} go from {ends[partition] - 1} to {offset}")
            ends[partition] += 1
        return ends

    # What is heard.

    def heard(self, event: str, words: list) -> None:
        with self.lock:
            self.take(event, words)

    def take(self, event: str, words: list) -> None:
        if event == "A":
            index, partition, offset = map(int, words)
            former = self.index_at.setdefault((partition, offset), index)
            if former != index or self.place_of.setdefault(index, (partition, offset)) != (partition, offset):
                raise Failed(f"record {index} was acknowledged at {partition}/{offset}, where {former} is, or twice")
        elif event == "M":
            self.delivered_to(words[0], int(words[1]), int(words[2]), tuple(words[3:]))
        elif event == "J":
            partitions = [int(p) for p in words[1].split(",")] if len(words) > 1 else []
            for partition in partitions:
                self.floors[words[0], partition] = self.committed.get(partition, 0)
                self.next.pop((words[0], partition), None)
            if partitions:
                self.assigned_once.add(words[0])
        elif event == "R":
            for partition in words[1].split(",") if len(words) > 1 else []:
                self.next.pop((words[0], int(partition)), None)
        elif event == "C":
            for pair in words[1].split(","):
                partition, offset = map(int, pair.split(":"))
                self.committed[partition] = max(offset, self.committed.get(partition, 0))
        else:
            raise Failed(f"the driver said {event} {words}")

    def delivered_to(self, member: str, partition: int, offset: int, digests: tuple) -> None:
        expected = self.next.get((member, partition))
        if expected is not None and offset != expected:
            raise Failed(f"member {member}: partition {partition} went on at {offset}, not at {expected}")
        floor = self.floors.pop((member, partition), 0)
        if offset < floor:
            self.commit_failures.append(f"member {member}: partition {partition} began at {offset}, but {floor} was committed")
        self.next[member, partition] = offset + 1
        if self.seen.setdefault((partition, offset), digests) != digests:
            raise Failed(f"{partition}/{offset} was delivered with two contents")

    def delivered(self) -> int:
        return len(self.seen)

    def was_assigned(self, member: str) -> bool:
        return member in self.assigned_once

    def commits(self) -> int:
        return sum(self.committed.values())

    def all_is_committed(self) -> bool:
        return all(self.committed.get(p, 0) == end for p, end in self.ends().items())

    # Verdicts.

    def stage(self, feature: str, run: Callable) -> None:
        """A failure ends the client's way, unless it is one reader's."""
        try:
            run()
            self.passed.add(feature)
        except Failed as failed:
            self.wrong.setdefault(feature, []).append(str(failed))
            if not feature.startswith("read by "):
                raise

    def failed(self, why: str) -> None:
        """The client's way ended here."""
        if not any(why in reasons for reasons in self.wrong.values()):
            self.wrong.setdefault("runs to the end", []).append(why)

    def judge_commits(self) -> None:
        if self.commit_failures:
            raise Failed("; ".join(self.commit_failures[:SHOWN_DEVIATIONS]))

    def judge_deliveries(self) -> None:
        self.judge("in the group", self.seen)
        if set(self.seen) != set(self.index_at):
            strange = sorted(set(self.seen) ^ set(self.index_at))
            raise Failed(f"what was delivered isn't what was acknowledged: {len(strange)} places, first {strange[0]}")

    def judge(self, reader: str, seen: dict) -> None:
        deviations = 0
        for place, found in seen.items():
            index = self.index_at.get(place)
            if index is None:
                raise Failed(f"{reader}: {place} has a record that nobody sent")
            sent = self.expected[index]
            wrong = [part for part, s, f in zip(("timestamp", "key", "value", "headers"), sent, found) if f not in (s, "?")]
            if not wrong:
                continue
            deviations += 1
            text = f"{reader}: record {index} at {place}: {', '.join(wrong)}: sent {' '.join(sent)}, found {' '.join(found)}"
            by_part = {"timestamp": "timestamps", "key": "keys", "headers": "headers"}
            for feature in {by_part.get(part, self.shows[index][0]) for part in wrong} | set(self.shows[index]):
                self.wrong.setdefault(feature, []).append(text)
        if deviations:
            raise Failed(f"{reader}: {deviations} records came back otherwise than they were sent")

    def reading(self, reader: str) -> "Reading":
        return Reading(self, reader)

    def verdicts(self) -> dict:
        """Of every feature `yes`, or `no:` and why. Contents hold where they came back the same by assignment."""
        features = {}
        always = (CREATES, *self.codecs, *CONTENTS, "idempotent producer", AS_ASSIGNED, GROUP, COMMITS)
        for feature in (*always, *sorted(self.passed | set(self.wrong))):
            ok = feature in self.passed or (feature not in self.wrong and AS_ASSIGNED in self.passed)
            why = self.wrong.get(feature) or ["not reached"]
            features[feature] = "yes" if ok and feature not in self.wrong else "no: " + " | ".join(why[:SHOWN_DEVIATIONS])
        return features


class Reading:
    """One reading of everything by assignment."""

    def __init__(self, oracle: Oracle, reader: str):
        self.oracle, self.reader, self.seen, self.at = oracle, reader, {}, {}

    def heard(self, event: str, words: list) -> None:
        if event != "M" or words[0] != "-":
            raise Failed(f"the driver said {event} {words[:3]} while it read by assignment")
        partition, offset = int(words[1]), int(words[2])
        if offset != self.at.get(partition, 0):
            raise Failed(f"{self.reader}: partition {partition} went on at {offset}, expected {self.at.get(partition, 0)}")
        self.at[partition] = offset + 1
        self.seen[partition, offset] = tuple(words[3:])

    def count(self) -> int:
        return len(self.seen)

    def judge(self) -> None:
        if {p: self.at.get(p, 0) for p in range(PARTITIONS)} != self.oracle.ends():
            raise Failed(f"{self.reader} read up to {self.at}, the ends are {self.oracle.ends()}")
        self.oracle.judge(self.reader, self.seen)
