"""A Kafka Streams application that is killed again and again: what it has counted is what was there to be counted.

    streams.py --bootstrap HOST:PORT --records N --kills K [--lose-state | --compact]

`java/WindowedCount.java` counts equal values by windows of time, exactly once: over a repartition topic, a state store with its
changelog, transactions. It is killed (SIGKILL) each time some of another part of the input is counted, and started again; with
`--lose-state` without what it had on disk, so that it restores its counts from the changelog. What must hold: a reader of
committed records finds, of each value and window, every count from 1 to how often it was there, each once and in order.

With `--compact` its changelog is compacted while it is written, eagerly, and each start restores what compaction has left: it
waits for records to be gone. At the end the application's table, what it was before its last kill and what is restored from
the compacted changelog, and a reader's table of the changelog have to be what was there to be counted. Exits 1 if anything is
amiss.
"""

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).parent
PREPARED = Path(os.environ.get("TAILWATER_TEST_CLIENTS") or HERE.parent.parent / ".clients")
PARTITIONS = 2
WORDS = 40
WINDOW_MS = 10_000
# Of all records: a few windows.
SPAN_MS = 50_000
REQUEST_S = 60
# Without any progress; a start of Java, a session that runs out and a restored state are no progress.
LIMIT_S = 120


def source_of(name: str) -> str:
    return f"{name}-in"


def sink_of(name: str) -> str:
    return f"{name}-out"


class Application:
    """The process that counts now, and who takes its place."""

    def __init__(self, bootstrap: str, folder: Path, name: str, compact: bool):
        self.state = folder / name
        self.command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{PREPARED}/java:{PREPARED}/jars/*", "WindowedCount",
                        "--bootstrap", bootstrap, "--application", name, "--source", source_of(name), "--sink", sink_of(name),
                        "--state", str(self.state), "--compact", str(compact).lower()]  # fmt: skip
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = queue.Queue()
        threading.Thread(target=self.listen, args=(self.process.stdout, self.said), daemon=True).start()

    @staticmethod
    def listen(lines, said: queue.Queue) -> None:
        for line in lines:
            said.put(line.split())

    def table(self) -> dict:
        """What its store has, once it is restored."""
        self.process.stdin.write("table\n")
        self.process.stdin.flush()
        table = {}
        while True:
            try:
                word, *words = self.said.get(timeout=LIMIT_S)
            except queue.Empty:
                raise TimeoutError(f"no table for {LIMIT_S} s") from None
            if word == "end":
                return table
            if word == "count":
                table[words[0]] = int(words[1])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def replace(self, loses_state: bool, changelog: "Changelog | None") -> None:
        self.kill()
        if loses_state:
            shutil.rmtree(self.state)
        if changelog:
            changelog.wait_until_compacted()
        self.start()

    def check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"the application has ended by itself: {self.process.returncode}")


class Input:
    """Writes the records, a part at a time, and knows what is to be counted."""

    def __init__(self, bootstrap: str, name: str, records: int):
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        self.topic, self.records, self.written = source_of(name), records, 0
        self.begin = int(time.time() * 1000) // WINDOW_MS * WINDOW_MS - SPAN_MS
        # How often each word is there in each window, by the name that the application gives it.
        self.expected = defaultdict(int)

    def write_to(self, end: int) -> None:
        for number in range(self.written, end):
            # Multiplied so that neighbours differ.
            word, at_ms = f"w{number * 7919 % WORDS}", self.begin + number * SPAN_MS // self.records
            self.expected[f"{word}@{at_ms // WINDOW_MS * WINDOW_MS}"] += 1
            self.producer.produce(self.topic, word.encode(), partition=number % PARTITIONS, timestamp=at_ms)
            self.producer.poll(0)
        self.written = end
        if self.producer.flush(LIMIT_S) > 0:
            raise TimeoutError("the input can't be written")


class Counts:
    """Reads what is committed of the sink as it comes."""

    def __init__(self, bootstrap: str, name: str):
        settings = {"bootstrap.servers": bootstrap, "group.id": "none", "isolation.level": "read_committed"}
        self.consumer = Consumer(settings | {"enable.auto.commit": False})
        self.consumer.assign([TopicPartition(sink_of(name), partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
        self.counts, self.records = defaultdict(list), 0

    def read(self) -> None:
        for message in self.consumer.consume(500, 0.2):
            if message.error() is None:
                self.counts[message.key().decode()].append(int(message.value()))
                self.records += 1
            elif message.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(message.error())


class Changelog:
    """What the application keeps its counts in, read from outside."""

    def __init__(self, bootstrap: str, name: str):
        self.topic = f"{name}-counts-changelog"
        self.settings = {"bootstrap.servers": bootstrap, "group.id": "none", "isolation.level": "read_committed",
                         "enable.auto.commit": False, "enable.partition.eof": True}  # fmt: skip

    def read(self) -> tuple:
        """From its beginning to its end: the last count of each word and window, how many records there are, and how many
        offsets."""
        consumer, table, records, ends = Consumer(self.settings), {}, 0, {}
        consumer.assign([TopicPartition(self.topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
        until = time.monotonic() + LIMIT_S
        while len(ends) < PARTITIONS:
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    records += 1
                    # A window's start and a number follow the word; the time of the last change comes before the count.
                    word, start = message.key()[:-12].decode(), int.from_bytes(message.key()[-12:-4], "big")
                    table[f"{word}@{start}"] = int.from_bytes(message.value()[-8:], "big")
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ends[message.partition()] = message.offset()
                else:
                    raise KafkaException(message.error())
            if time.monotonic() > until:
                raise TimeoutError(f"{self.topic} has no end after {LIMIT_S} s: {ends}")
        consumer.close()
        return table, records, sum(ends.values())

    def wait_until_compacted(self) -> None:
        """Until most of what was written is gone."""
        until = time.monotonic() + LIMIT_S
        while True:
            _, records, offsets = self.read()
            if records * 2 < offsets:
                print(f"{records} records of {offsets} offsets are left in the changelog", flush=True)
                return
            if time.monotonic() > until:
                raise TimeoutError(f"after {LIMIT_S} s {records} records of {offsets} offsets are left: nothing compacts them")
            time.sleep(0.5)


def wait(application: Application, counts: Counts, records: int) -> None:
    last, since = -1, time.monotonic()
    while counts.records < records:
        application.check()
        counts.read()
        if counts.records != last:
            last, since = counts.records, time.monotonic()
        elif time.monotonic() - since > LIMIT_S:
            raise TimeoutError(f"{last} of {records} counts are there, and no more for {LIMIT_S} s")


def watch(application: Application, source: Input, counts: Counts, changelog: "Changelog | None", given) -> None:
    """Kills it when it has counted some of a part and has more to do."""
    ends = [given.records * part // (given.kills + 1) for part in range(1, given.kills + 2)]
    source.write_to(ends[0])
    for begin, end, next_end in zip([0, *ends], ends, ends[1:]):
        wait(application, counts, (begin + end) // 2)
        source.write_to(next_end)
        print(f"killed at {counts.records} of {given.records}", flush=True)
        application.replace(given.lose_state, changelog)
    wait(application, counts, given.records)


def faults_in_tables(application: Application, changelog: Changelog, expected: dict) -> list:
    """The live one, the one of who reads the compacted changelog, and the one that is restored from it."""
    faults = []

    def look(what: str, table: dict) -> None:
        if table != expected:
            wrong = [key for key in set(table) | set(expected) if table.get(key) != expected.get(key)]
            faults.append(f"{what}: {len(wrong)} counts differ, first {wrong[0]}: {table.get(wrong[0])}, not {expected.get(wrong[0])}")

    look("the live table", application.table())
    application.replace(True, changelog)
    look("the restored table", application.table())
    look("the changelog", changelog.read()[0])
    return faults


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--lose-state", action="store_true")
    parser.add_argument("--compact", action="store_true")
    given = parser.parse_args()
    given.lose_state = given.lose_state or given.compact
    for need in ("java", f"{PREPARED}/java/WindowedCount.class"):
        if shutil.which(need) is None and not Path(need).exists():
            print(f"SKIPPED Kafka Streams: {need} isn't there (tests/clients/prepare)")
            return 1 if os.environ.get("CI") == "true" else 0
    admin = AdminClient({"bootstrap.servers": given.bootstrap})
    name = "count-compacted" if given.compact else "count-restored" if given.lose_state else "count"
    for made in admin.create_topics([NewTopic(topic, PARTITIONS) for topic in (source_of(name), sink_of(name))]).values():
        made.result(REQUEST_S)
    source = Input(given.bootstrap, name, given.records)
    counts, faults = Counts(given.bootstrap, name), []
    changelog = Changelog(given.bootstrap, name) if given.compact else None
    with tempfile.TemporaryDirectory() as folder:
        application = Application(given.bootstrap, Path(folder), name, given.compact)
        try:
            watch(application, source, counts, changelog, given)
            if changelog:
                faults += faults_in_tables(application, changelog, source.expected)
            # Nothing comes behind it.
            for _ in range(10):
                counts.read()
        finally:
            application.kill()
    expected = source.expected
    for key in sorted(set(expected) | set(counts.counts)):
        found = counts.counts.get(key, [])
        if found != list(range(1, expected.get(key, 0) + 1)):
            faults.append(f"{key}: expected 1 to {expected.get(key, 0)}, found {len(found)}: {found[:5]} … {found[-5:]}")
    print(f"{given.records} records, {given.kills} kills, {len(expected)} counts" + (", state lost" if given.lose_state else ""))
    for fault in faults[:20]:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
