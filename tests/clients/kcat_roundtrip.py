"""kcat produces records with keys, headers, nulls and empties in all codecs, and reads them back exactly.

    kcat_roundtrip.py --bootstrap HOST:PORT --records N

By assignment, and in a group of three processes of which one is stopped and another joins midway. kcat gives all records
of one call the same headers and the current time, so sent timestamps can't be compared: they must lie within the run.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, Optional

from adapters import MAX_MESSAGE_BYTES, ConfluentClient
from records import CODECS, MIB, body, size_of

PARTITIONS = 5
NO_PROGRESS_S = 120
# Neither occurs in what is sent: values are drawn from bytes above 0x1f.
KEY_END, RECORD_END = b"\x01\x02", b"\x03\x04"
# By lengths, so that any bytes can be read back.
FORMAT = "%p %o %T %K %S [%h]\n%k%s\n"
CLOCK_SLACK_MS = 60_000


class Failed(Exception):
    pass


class Seen(NamedTuple):
    partition: int
    offset: int
    timestamp_ms: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: bytes


def printable(data: bytes) -> bytes:
    return bytes(byte | 0x20 for byte in data)


def pair(seed: int, index: int) -> tuple:
    """Key and value; kcat reads an absent key as null and an empty value as empty, and skips what has neither."""
    rng = random.Random(seed * 1_000_003 + index)
    size = size_of(index, rng)
    value = b"" if index % 43 == 0 else printable(body(min(size, 1024), index, rng)) * (size // 1024 + 1)
    return None if index % 5 == 0 and value else b"" if index % 37 == 0 else b"key %d" % index, value[:MIB]


class Kcat:
    def __init__(self, bootstrap: str, topic: str, folder: Path):
        self.bootstrap, self.topic, self.folder = bootstrap, topic, folder

    def command(self, *arguments: str) -> list:
        return ["kcat", "-b", self.bootstrap, "-q", "-X", "topic.metadata.refresh.interval.ms=1000", *arguments]

    def run(self, *arguments: str, stdin: Optional[bytes] = None) -> bytes:
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, timeout=600, check=False)
        if done.returncode != 0:
            raise Failed(f"kcat {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def produce(self, partition: int, codec: str, *arguments: str, stdin: Optional[bytes] = None) -> None:
        self.run(
            "-P", "-t", self.topic, "-p", str(partition), "-z", codec,
            "-X", "enable.idempotence=true", "-X", f"message.max.bytes={MAX_MESSAGE_BYTES - 1024}",
            *arguments, stdin=stdin,
        )  # fmt: skip

    def member(self, name: str, group: str) -> "Member":
        return Member(name, self, group)


class Member:
    """One kcat process in a group, printing what it gets to a file of its own."""

    def __init__(self, name: str, kcat: Kcat, group: str):
        self.name, self.path = name, kcat.folder / name
        self.out, self.errors = self.path.open("wb"), self.path.with_suffix(".stderr").open("wb")
        # Its own commits, every 200 ms.
        command = kcat.command(
            "-u", "-f", FORMAT, "-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=200",
            "-X", "session.timeout.ms=10000", "-X", "heartbeat.interval.ms=1000", "-G", group, kcat.topic,
        )  # fmt: skip
        self.process = subprocess.Popen(command, stdout=self.out, stderr=self.errors, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(NO_PROGRESS_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed(f"member {self.name} did not leave within {NO_PROGRESS_S} s") from None
        if code != 0:
            raise Failed(f"member {self.name} ended with {code}: {self.path.with_suffix('.stderr').read_text()}")

    def seen(self) -> list:
        return parse(self.path.read_bytes(), torn_end=self.process.poll() is None)


def parse(data: bytes, torn_end: bool = False) -> list:
    found, at = [], 0
    while at < len(data):
        line_end = data.find(b"\n", at)
        fields = data[at:line_end].split(b" ", 5) if line_end >= 0 else []
        lengths = [int(field) for field in fields[3:5]]
        key_at = line_end + 1
        value_at = key_at + max(lengths[0], 0) if lengths else 0
        end = value_at + max(lengths[1], 0) if lengths else 0
        if line_end < 0 or end >= len(data):
            if torn_end:
                break
            raise Failed(f"kcat's output ends within a record, at byte {at} of {len(data)}")
        if data[end : end + 1] != b"\n":
            raise Failed(f"kcat's output is not what its format says, at byte {at}: {data[at : at + 200]!r}")
        key = None if lengths[0] < 0 else data[key_at:value_at]
        value = None if lengths[1] < 0 else data[value_at:end]
        found.append(Seen(int(fields[0]), int(fields[1]), int(fields[2]), key, value, fields[5]))
        at = end + 1
    return found


class RoundTrip:
    def __init__(self, kcat: Kcat, seed: int):
        self.kcat, self.seed = kcat, seed
        # Of each partition what was sent, in order: (key, value, headers).
        self.sent = {p: [] for p in range(PARTITIONS)}
        self.begun_ms = int(time.time() * 1000)

    def produce(self, indexes: range) -> None:
        for number, codec in enumerate(CODECS):
            pairs = [pair(self.seed, index) for index in indexes[number :: len(CODECS)]]
            lines = (value if key is None else key + KEY_END + value for key, value in pairs)
            headers, shown = ("a=1", f"codec={codec}", "empty=", "null"), f"[a=1,codec={codec},empty=,null=NULL]".encode()
            options = [option for header in headers for option in ("-H", header)]
            escaped = [delimiter.decode().encode("unicode_escape").decode() for delimiter in (KEY_END, RECORD_END)]
            self.kcat.produce(number, codec, "-K", escaped[0], "-D", escaped[1], *options, stdin=RECORD_END.join(lines))
            self.sent[number] += [(key, value, shown) for key, value in pairs]

    def produce_oddities(self) -> None:
        """What lines can't say: null values, arbitrary bytes."""
        raw = self.kcat.folder / "raw"
        for number, codec in enumerate(CODECS):
            self.kcat.produce(number, codec, "-Z", "-K", ":", stdin=b"null:\n")
            raw.write_bytes(random.Random(number).randbytes(200_000))
            self.kcat.produce(number, codec, "-k", "raw", str(raw))
            self.sent[number] += [(b"null", None, b"[]"), (b"raw", raw.read_bytes(), b"[]")]

    def count(self) -> int:
        return sum(len(records) for records in self.sent.values())

    def check(self, reader: str, seen: list) -> None:
        """Every record as it was sent; at the time of the run."""
        until_ms = int(time.time() * 1000) + CLOCK_SLACK_MS
        for record in seen:
            where = f"{reader}: {record.partition}/{record.offset}"
            if record.offset >= len(self.sent[record.partition]):
                raise Failed(f"{where} was never sent")
            expected = self.sent[record.partition][record.offset]
            if (record.key, record.value, record.headers) != expected:
                shown = [(key, value and (len(value), value[:40]), headers) for key, value, headers in (expected, record[3:])]
                raise Failed(f"{where}: sent {shown[0]}, found {shown[1]}")
            if not self.begun_ms - CLOCK_SLACK_MS <= record.timestamp_ms <= until_ms:
                raise Failed(f"{where} has timestamp {record.timestamp_ms}, the run began at {self.begun_ms}")

    def read_by_assignment(self) -> None:
        for partition, sent in self.sent.items():
            seen = parse(self.kcat.run("-C", "-t", self.kcat.topic, "-p", str(partition), "-o", "beginning", "-e", "-f", FORMAT))
            self.check("by assignment", seen)
            offsets = [record.offset for record in seen]
            if offsets != list(range(len(sent))):
                raise Failed(f"partition {partition}: {len(sent)} sent, {len(offsets)} read, first difference at "
                             f"{next((i for i, o in enumerate(offsets) if i != o), len(offsets))}")  # fmt: skip

    def read_in_group(self, records: int) -> None:
        group = f"group-of-{self.kcat.topic}"
        a, b, c = (self.kcat.member(name, group) for name in "abc")
        members = [a, b, c]
        try:
            self.produce(range(0, records // 3))
            self.wait_for(members, records // 6)
            b.stop()
            self.produce(range(records // 3, 2 * records // 3))
            d = self.kcat.member("d", group)
            members.append(d)
            self.produce(range(2 * records // 3, records))
            self.wait_for(members, self.count())
            for member in (a, c, d):
                member.stop()
            for member in members:
                self.check(f"member {member.name}", member.seen())

            # A newcomer to the emptied group gets what comes after the commit, and nothing of what was before.
            before = {partition: len(sent) for partition, sent in self.sent.items()}
            self.produce_oddities()
            late = self.kcat.member("e", group)
            members.append(late)
            self.wait_for([late], self.count() - sum(before.values()))
            late.stop()
            self.check("newcomer", late.seen())
            again = [record for record in late.seen() if record.offset < before[record.partition]]
            if again:
                raise Failed(f"{again[0].partition}/{again[0].offset} was committed, and delivered again after the group was empty")
        finally:
            for member in members:
                member.process.kill()

    def wait_for(self, members: list, count: int) -> None:
        """Waits until the members together have printed `count` different records."""
        size, since = -1, time.monotonic()
        while True:
            now = sum(os.path.getsize(member.path) for member in members)
            if now != size:
                size, since = now, time.monotonic()
            else:
                seen = {(record.partition, record.offset) for member in members for record in member.seen()}
                if len(seen) >= count:
                    return
                if time.monotonic() - since > NO_PROGRESS_S:
                    errors = [member.path.with_suffix(".stderr").read_text()[-500:] for member in members]
                    raise Failed(f"no progress for {NO_PROGRESS_S} s: {len(seen)} of {count} records in the group; {errors}")
            time.sleep(0.5)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--records", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--topic", default="roundtrip-kcat")
    given = arguments.parse_args()

    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trip = RoundTrip(Kcat(given.bootstrap, given.topic, Path(folder)), given.seed)
        try:
            # kcat creates no topics with settings.
            ConfluentClient(given.bootstrap).create_topic(given.topic, PARTITIONS, {"max.message.bytes": str(MAX_MESSAGE_BYTES)})
            trip.read_in_group(given.records)
            trip.read_by_assignment()
        except Failed as failed:
            print(f"FAILED kcat: {failed}", file=sys.stderr)
            return 1
    print(f"ok: kcat: {trip.count()} records, in a group and by assignment, {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
