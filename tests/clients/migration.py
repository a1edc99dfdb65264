"""Groups of classic members that are rolled, one member after the other, to the protocol of KIP-848, and back.

    migration.py --bootstrap HOST:PORT [--clients confluent,java] [--assignors range,cooperative-sticky]

For each client and assignor: records flow all the time into a topic of six partitions; a classic group of three reads and commits
them. Then each member leaves, and one of the new protocol takes its place; and when all are, each one of those makes way for a
classic one again. After each step the group must own all partitions again and have committed records that came after it.
What must hold: every record is delivered at least once, no member begins below what was committed before or skips a record, in the
end the group has committed the end of each partition, and the group is of the type that its members make it. Prints what it has
found. Exits 1 if anything is amiss.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from drivers import NO_PROGRESS_S, Driver, Failed
from matrix import CLIENTS, missing

PARTITIONS, MEMBERS = 6, 3
CONFIGS = "retention.ms=-1"
BETWEEN_RECORDS_S = 0.005
REQUEST_S = 30


class Flow(threading.Thread):
    """Records by turns into all partitions, until it is stopped; `ends` are behind those that are acknowledged."""

    def __init__(self, bootstrap: str, topic: str):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "enable.idempotence": True, "message.timeout.ms": 300_000})
        self.topic, self.stopping, self.failure = topic, threading.Event(), None
        self.ends = [0] * PARTITIONS

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            self.producer.produce(self.topic, str(number), partition=number % PARTITIONS, on_delivery=self.delivered)
            self.producer.poll(0)
            number += 1
            time.sleep(BETWEEN_RECORDS_S)
        if self.producer.flush(300):
            self.failure = "records were not acknowledged"

    def delivered(self, error, message) -> None:
        if error is not None:
            self.failure = str(error)
        else:
            self.ends[message.partition()] = max(self.ends[message.partition()], message.offset() + 1)

    def stop(self) -> list:
        self.stopping.set()
        self.join()
        if self.failure:
            raise Failed(f"producing: {self.failure}")
        return self.ends


class Group:
    """What the members of a group say, whichever process they are in."""

    def __init__(self):
        self.lock = threading.Lock()
        self.owned, self.next, self.floors = {}, {}, {}
        self.seen = [set() for _ in range(PARTITIONS)]
        self.committed = [0] * PARTITIONS
        self.wrong = []

    def heard(self, event: str, words: list) -> None:
        with self.lock:
            self.take(event, words)

    def take(self, event: str, words: list) -> None:
        member, partitions = words[0], [int(p) for p in words[1].split(",")] if len(words) > 1 and event in "JR" else []
        if event == "M":
            self.delivered(member, int(words[1]), int(words[2]))
        elif event == "J":
            self.owned.setdefault(member, set()).update(partitions)
            for partition in partitions:
                self.next.pop((member, partition), None)
                self.floors[member, partition] = self.committed[partition]
        elif event == "R":
            self.owned.setdefault(member, set()).difference_update(partitions)
            for partition in partitions:
                self.next.pop((member, partition), None)
        elif event == "C":
            for pair in words[1].split(","):
                partition, offset = map(int, pair.split(":"))
                self.committed[partition] = max(offset, self.committed[partition])

    def delivered(self, member: str, partition: int, offset: int) -> None:
        expected, floor = self.next.get((member, partition)), self.floors.pop((member, partition), 0)
        if expected is not None and offset != expected:
            self.wrong.append(f"{member}: partition {partition} went on at {offset}, not at {expected}")
        if offset < floor:
            self.wrong.append(f"{member}: partition {partition} began at {offset}, but {floor} was committed")
        self.next[member, partition] = offset + 1
        self.seen[partition].add(offset)

    def owns_all(self, members: set) -> bool:
        """Every partition is with one of these members, and each has as many as the others."""
        with self.lock:
            of = [self.owned.get(member, set()) for member in members]
            return sum(map(len, of)) == PARTITIONS and set().union(*of) == set(range(PARTITIONS)) and min(map(len, of)) == PARTITIONS // len(of)

    def has_committed(self, offsets: list) -> bool:
        with self.lock:
            return all(done >= wanted for done, wanted in zip(self.committed, offsets))

    def reached(self) -> tuple:
        with self.lock:
            return sum(self.committed), sum(map(len, self.seen))


class Roll:
    def __init__(self, given, client, assignor: str, folder: Path):
        self.given, self.client, self.assignor, self.folder = given, client, assignor, folder
        self.name = self.topic = f"roll-{client.name}-{assignor}"
        self.group = Group()
        self.drivers = {}

    def run(self) -> None:
        for protocol, more in (("classic", ["--assignor", self.assignor]), ("consumer", ["--group-protocol", "consumer"])):
            command = [*self.client.command, "--bootstrap", self.given.bootstrap, *more]
            self.drivers[protocol] = Driver(f"{self.name}-{protocol}", command, self.folder)
        try:
            for driver in self.drivers.values():
                driver.start(self.group.heard)
            self.roll()
            for driver in self.drivers.values():
                driver.stop()
        finally:
            for driver in self.drivers.values():
                driver.kill()

    def roll(self) -> None:
        self.drivers["classic"].do("create", self.topic, PARTITIONS, CONFIGS)
        flow = Flow(self.given.bootstrap, self.topic)
        flow.start()
        members = []
        for number in range(MEMBERS):
            members.append((f"m{number}", "classic"))
            self.drivers["classic"].tell("join", f"m{number}", self.topic, self.name)
        self.settle("the classic group", members, flow)
        self.expect_type("CLASSIC")
        for step, protocol in enumerate(["consumer"] * MEMBERS + ["classic"] * MEMBERS):
            name, former = members.pop(0)
            self.drivers[former].do("leave", name, progress=self.group.reached)
            self.group.owned.pop(name, None)
            members.append((f"m{MEMBERS + step}", protocol))
            self.drivers[protocol].tell("join", f"m{MEMBERS + step}", self.topic, self.name)
            self.settle(f"step {step}", members, flow)
            self.expect_type("CLASSIC" if step == 2 * MEMBERS - 1 else "CONSUMER")
        ends = flow.stop()
        self.wait("the last commits", lambda: self.group.has_committed(ends))
        for name, protocol in members:
            self.drivers[protocol].do("leave", name, progress=self.group.reached)
        self.judge(ends)

    def settle(self, what: str, members: list, flow: Flow) -> None:
        begun = time.monotonic()
        self.wait(f"{what}: all partitions owned", lambda: self.group.owns_all({name for name, _ in members}))
        wanted = [end + 1 for end in flow.ends]
        self.wait(f"{what}: newer records committed", lambda: self.group.has_committed(wanted))
        print(f"  {self.name}: {what}: settled in {time.monotonic() - begun:.1f} s", flush=True)

    def wait(self, what: str, done) -> None:
        begun = time.monotonic()
        while not done():
            for driver in self.drivers.values():
                if driver.failure or driver.ended:
                    raise Failed(f"{driver.name}: {driver.failure or 'it has ended'}; {driver.last_words()}")
            if time.monotonic() - begun > NO_PROGRESS_S:
                raise Failed(f"{self.name}: {what}: not within {NO_PROGRESS_S} s; owned {self.group.owned}, {self.group.wrong}; "
                             + "; ".join(driver.last_words() for driver in self.drivers.values()))  # fmt: skip
            time.sleep(0.05)

    def expect_type(self, expected: str) -> None:
        # It lists nothing once nobody holds it.
        admin = AdminClient({"bootstrap.servers": self.given.bootstrap})
        listed = admin.list_consumer_groups(request_timeout=REQUEST_S).result()
        found = [group.type.name for group in listed.valid if group.group_id == self.name]
        if found != [expected]:
            raise Failed(f"{self.name} is {found}, not {expected}")

    def judge(self, ends: list) -> None:
        wrong = list(self.group.wrong)
        for partition, (end, seen) in enumerate(zip(ends, self.group.seen)):
            if seen != set(range(end)):
                wrong.append(f"partition {partition}: {end - len(seen)} of {end} records were never delivered, first {sorted(set(range(end)) - seen)[:3]}")
        if self.group.committed != ends:
            wrong.append(f"committed {self.group.committed}, not {ends}")
        if wrong:
            raise Failed(f"{self.name}: " + "; ".join(wrong[:5]))
        print(f"OK: {self.name}: {sum(ends)} records, all delivered, all committed", flush=True)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--clients", default="confluent,java")
    arguments.add_argument("--assignors", default="range,cooperative-sticky")
    given = arguments.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for client in (client for client in CLIENTS if client.name in given.clients.split(",")):
            if why := missing(client):
                print(f"SKIPPED: {client.name}: {why}")
                continue
            for assignor in given.assignors.split(","):
                try:
                    Roll(given, client, assignor, Path(folder)).run()
                except Failed as failure:
                    failed = True
                    print(f"FAILED: {client.name}, {assignor}: {failure}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
