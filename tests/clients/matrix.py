"""The client matrix: every client does the same things with the same records, and one oracle judges.

    matrix.py --bootstrap HOST:PORT [--records N] [--client NAME]... [--json FILE] [--jobs N] [--restart]

Owns: which clients there are, what each can't do by itself, the scenarios, and the verdict on every feature. Whoever serves
at the address: Tailwater or Apache Kafka. With `--restart` it says `restart` on a line of its own when whoever runs it shall
restart the servers, and goes on at the end of its input. Exits 1 if a client fails; deadlines are about progress, never about speed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Optional

import transactions
from drivers import Driver, Failed
from oracle import (
    AS_ASSIGNED,
    COMMITS,
    CREATES,
    EXTRA_RECORDS,
    GROUP,
    KILLED,
    PARTITIONS,
    RESTART,
    Oracle,
)
from records import CODECS, MIB

HERE = Path(__file__).parent
# Records have timestamps of years ago, which would be deleted before they are read.
CONFIGS = f"max.message.bytes={2 * MIB},retention.ms=-1"
# Programs and packages that `prepare` has made ready.
PREPARED = Path(os.environ.get("TAILWATER_TEST_CLIENTS") or HERE.parent.parent / ".clients")
READERS = ("kcat", "java", "franz-go")


class Client(NamedTuple):
    name: str
    command: list
    # What has to be there for it.
    needs: list
    codecs: tuple = CODECS
    # It sends null header values, and records with neither key nor value.
    sends_all_nulls: bool = True
    # It reads partitions that it was told of, and not only in a group.
    assigns: bool = True
    # Groups whose coordinator assigns are tried with it; the rest of what it does is another entry's.
    only_groups: bool = False

    def transactions(self) -> tuple:
        """Those that are another thing in a group whose coordinator assigns, or all."""
        return (transactions.CHAIN,) if self.only_groups else transactions.FEATURES


def python(name: str, **traits) -> Client:
    return Client(name, [sys.executable, str(HERE / "driver.py"), "--client", name], [], **traits)


def with_kip_848(client: Client) -> Client:
    """The same client in groups whose coordinator assigns."""
    command = [*client.command, "--group-protocol", "consumer"]
    return client._replace(name=f"{client.name}-kip848", command=command, only_groups=True)


CLIENTS = [
    python("confluent"),
    python("kafka-python", sends_all_nulls=False),
    python("aiokafka", sends_all_nulls=False),
    Client(
        "java",
        ["java", "-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
         "-cp", f"{PREPARED}/java:{PREPARED}/jars/*", "Driver"],  # fmt: skip
        ["java", f"{PREPARED}/java/Driver.class"],
    ),
    Client("franz-go", [f"{PREPARED}/go/franz"], [f"{PREPARED}/go/franz"]),
    Client("sarama", [f"{PREPARED}/go/sarama"], [f"{PREPARED}/go/sarama"]),
    Client("rdkafka", [f"{PREPARED}/rust/debug/rdkafka"], [f"{PREPARED}/rust/debug/rdkafka"]),
    Client(
        "kafkajs",
        ["node", f"{PREPARED}/node/driver.js"],
        ["node", f"{PREPARED}/node/node_modules/kafkajs"],
        # It has no zstd of its own.
        codecs=tuple(codec for codec in CODECS if codec != "zstd"),
        sends_all_nulls=False,
        assigns=False,
    ),
]
CLIENTS += [with_kip_848(client) for client in CLIENTS if client.name in ("confluent", "java", "franz-go", "rdkafka")]
KCAT = Client("kcat", [sys.executable, str(HERE / "driver.py"), "--client", "kcat"], ["kcat"])


def missing(client: Client) -> Optional[str]:
    for need in client.needs:
        if "/" in need and not Path(need).exists():
            return f"{need} isn't there (tests/clients/prepare makes it)"
        if "/" not in need and shutil.which(need) is None:
            return f"{need} is not installed"
    return None


class Trip:
    """One client's way through all scenarios on a topic of its own."""

    def __init__(self, client: Client, given, folder: Path, topic: str):
        self.client, self.given, self.folder, self.topic = client, given, folder, topic
        self.oracle = Oracle(client.name, given.seed, client.codecs, client.sends_all_nulls)
        self.version, self.transactions = "", {}
        self.seconds = 0.0

    def driver(self) -> Driver:
        return Driver(self.client.name, [*self.client.command, "--bootstrap", self.given.bootstrap], self.folder)

    def another(self) -> Driver:
        """One more process of the client, whose events come where the first one's do."""
        driver = self.driver()
        driver.start(self.oracle.heard)
        return driver

    def go(self) -> "Trip":
        begun = time.monotonic()
        driver = self.driver()
        try:
            self.version = driver.start(self.oracle.heard)
            self.oracle.stage(CREATES, lambda: driver.do("create", self.topic, PARTITIONS, CONFIGS))
            self.oracle.stage(GROUP, lambda: self.read_in_group(driver, self.given.records))
            self.oracle.stage(COMMITS, self.oracle.judge_commits)
            self.oracle.stage(AS_ASSIGNED, lambda: self.read_with(driver))
            topic = f"{self.topic}-transactions"
            driver.do("create", topic, transactions.PARTITIONS, CONFIGS)
            self.transactions = transactions.run(driver, self.another, topic, CONFIGS, self.client.transactions())
            driver.stop()
        except Failed as failed:
            self.oracle.failed(str(failed))
        finally:
            driver.kill()
            self.seconds = time.monotonic() - begun
        return self

    def produce(self, driver: Driver, indexes: range) -> None:
        path = self.folder / f"{self.topic}.{indexes.start}"
        self.oracle.write(path, indexes)
        try:
            driver.do("produce", self.topic, path, progress=lambda: len(self.oracle.place_of))
            self.oracle.all_acked(indexes)
        finally:
            path.unlink()

    def read_in_group(self, driver: Driver, records: int) -> None:
        group, third, oracle = f"group-of-{self.topic}", records // 3, self.oracle

        def expect(what: str, count: int) -> None:
            driver.wait(what, lambda: oracle.delivered() >= count, oracle.delivered)

        def lose_a_member() -> None:
            """The one in the other process ends in the middle of what it does, and says nothing to anybody."""
            expect("half of the first third", third // 2)
            driver.wait("an assignment of the one to be killed", lambda: oracle.was_assigned("b"), oracle.delivered)
            other.kill()
            self.produce(driver, range(third, 2 * third))
            expect("everything, once the group has found out", 2 * third)

        other = self.another()
        try:
            for name, its in (("a", driver), ("b", other), ("c", driver)):
                its.tell("join", name, self.topic, group)
            self.produce(driver, range(0, third))
            oracle.stage(KILLED, lose_a_member)
        finally:
            other.kill()

        driver.tell("join", "d", self.topic, group)
        driver.wait("the fourth member's assignment", lambda: oracle.was_assigned("d"), oracle.delivered)
        leaving = driver.begin("leave", "c")
        self.produce(driver, range(2 * third, records))
        leaving()
        expect("every record in the group", records)
        driver.wait("the last commits", oracle.all_is_committed, oracle.commits)
        for name in "ad":
            driver.do("leave", name)

        # A newcomer to the emptied group gets what comes after the commit, and nothing of what was before.
        driver.tell("join", "e", self.topic, group)
        driver.wait("the newcomer's assignment", lambda: oracle.was_assigned("e"), oracle.delivered)
        self.produce(driver, range(records, records + EXTRA_RECORDS))
        expect("what came after the last commit", records + EXTRA_RECORDS)
        driver.do("leave", "e")
        oracle.judge_deliveries()

    def after_restart(self) -> None:
        """Another newcomer, who knew nothing of the servers before."""
        if self.oracle.wrong:
            return
        driver = self.driver()
        try:
            driver.start(self.oracle.heard)
            self.oracle.stage(RESTART, lambda: self.come_back(driver))
            driver.stop()
        except Failed as failed:
            self.oracle.failed(str(failed))
        finally:
            driver.kill()

    def come_back(self, driver: Driver) -> None:
        oracle, first = self.oracle, self.given.records + EXTRA_RECORDS
        driver.tell("join", "f", self.topic, f"group-of-{self.topic}")
        driver.wait("an assignment after the restart", lambda: oracle.was_assigned("f"), oracle.delivered)
        self.produce(driver, range(first, first + EXTRA_RECORDS))
        driver.wait("what came after the restart", lambda: oracle.delivered() >= first + EXTRA_RECORDS, oracle.delivered)
        driver.do("leave", "f")
        oracle.judge_deliveries()
        oracle.judge_commits()

    def read_with(self, driver: Driver) -> None:
        """By assignment, from the beginning to the end, with this client or with another one."""
        reading = self.oracle.reading(driver.name)
        driver.listener = reading.heard
        # A partition that got nothing has no last record to wait for.
        ends = ",".join(f"{partition}:{end}" for partition, end in self.oracle.ends().items() if end > 0)
        driver.do("read", self.topic, ends, progress=reading.count)
        reading.judge()

    def result(self) -> dict:
        features = self.oracle.verdicts()
        if not self.client.assigns and features[AS_ASSIGNED] == "yes":
            del features[AS_ASSIGNED]
        features |= self.transactions or dict.fromkeys(self.client.transactions(), "no: not reached")
        return {"version": self.version, "seconds": round(self.seconds, 1), "features": features}


def cross_read(reader: Client, trips: list, given, folder: Path) -> None:
    """`reader` reads what all the others wrote."""
    driver = Driver(reader.name, [*reader.command, "--bootstrap", given.bootstrap], folder)
    try:
        driver.start(lambda event, words: None)
        for trip in trips:
            if trip.client.name != reader.name and trip.oracle.has_sent():
                trip.oracle.stage(f"read by {reader.name}", lambda trip=trip: trip.read_with(driver))
        driver.stop()
    except Failed as failed:
        for trip in trips:
            trip.oracle.failed(str(failed))
    finally:
        driver.kill()


def run_kcat(given) -> dict:
    """kcat can give records neither headers nor timestamps of their own, so it has a round trip of its own."""
    begun = time.monotonic()
    command = [sys.executable, str(HERE / "kcat_roundtrip.py"), "--bootstrap", given.bootstrap]
    command += ["--records", str(given.records), "--seed", str(given.seed), "--topic", f"{given.prefix}-kcat"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    verdict = "yes" if done.returncode == 0 else f"no: {(done.stderr or done.stdout).strip()[-2000:]}"
    version = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
    version = next(line.split()[1] for line in version.split("\n") if line.startswith("Version"))
    features = {codec: verdict for codec in CODECS}
    features |= {"keys": verdict, "nulls and empties": verdict, "values up to 1 MiB": verdict}
    features |= {GROUP: verdict, COMMITS: verdict, AS_ASSIGNED: verdict, "idempotent producer": verdict}
    return {"version": version, "seconds": round(time.monotonic() - begun, 1), "features": features}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--records", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--client", action="append", help="only these")
    arguments.add_argument("--prefix", default="matrix", help="of the names of topics and groups")
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--restart", action="store_true", help="let the servers be restarted, and come back")
    given = arguments.parse_args()

    everyone = {client.name: client for client in [*CLIENTS, KCAT]}
    wanted = given.client or list(everyone)
    for name in [name for name in wanted if missing(everyone[name])]:
        print(f"SKIPPED {name}: {missing(everyone[name])}", flush=True)
        wanted.remove(name)
        if os.environ.get("CI") == "true":
            print("nothing may be skipped under CI=true", file=sys.stderr)
            return 1

    results, lock = {}, threading.Lock()

    def finished(name: str, result: dict) -> None:
        wrong = {feature: verdict for feature, verdict in result["features"].items() if verdict != "yes"}
        with lock:
            results[name] = result
            print(f"{'FAILED' if wrong else 'ok'}: {name} {result['version']}: {result['seconds']} s", flush=True)
            for feature, verdict in wrong.items():
                print(f"  {feature}: {verdict}", flush=True)

    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as pool:
        trips = [Trip(everyone[name], given, Path(folder), f"{given.prefix}-{name}") for name in wanted if name != KCAT.name]
        kcat = pool.submit(run_kcat, given) if KCAT.name in wanted else None
        trips = list(pool.map(Trip.go, trips))
        print(f"round trips: {time.monotonic() - begun:.1f} s", flush=True)
        if given.restart:
            # All of kcat's is before it, or it would meet servers that aren't there.
            if kcat:
                kcat.result()
            print("restart", flush=True)
            sys.stdin.read()
            list(pool.map(Trip.after_restart, trips))
        readers = [everyone[name] for name in READERS if not missing(everyone[name])]
        list(pool.map(lambda reader: cross_read(reader, trips, given, Path(folder)), readers))
        for trip in trips:
            finished(trip.client.name, trip.result())
        if kcat:
            finished(KCAT.name, kcat.result())
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"records": given.records, "clients": results}, indent=1, sort_keys=True) + "\n")
    failed = [name for name, result in results.items() if set(result["features"].values()) != {"yes"}]
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed, {time.monotonic() - begun:.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
