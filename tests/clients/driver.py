"""Drives a Python library, or kcat as a reader, as `protocol.md` says.

    driver.py --client {confluent,kafka-python,aiokafka,kcat} --bootstrap HOST:PORT [--group-protocol consumer]
              [--assignor {range,cooperative-sticky}]

Owns: the lines in and out, and a member's loop. How each library is told to do a thing stands in `adapters.py`,
`aiokafka_adapter.py` and `kcat_reader.py`.
"""

import argparse
import faulthandler
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Callable

from records import digest, digest_of_headers, read_tasks

COMMIT_EVERY = 300


def client_of(name: str, bootstrap: str):
    if name == "aiokafka":
        from aiokafka_adapter import AiokafkaClient

        return AiokafkaClient(bootstrap)
    if name == "kcat":
        from kcat_reader import KcatClient

        return KcatClient(bootstrap)
    from adapters import CLIENTS

    return CLIENTS[name](bootstrap)


class Said:
    """Lines for the other side, whole, in order, from any thread."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, *lines: str) -> None:
        with self.lock:
            sys.stdout.write("".join(line + "\n" for line in lines))
            sys.stdout.flush()

    def messages(self, reader: str, messages: list) -> None:
        def line(partition, offset, record):
            headers = "?" if record.headers is None else digest_of_headers(record.headers)
            key, value = digest(record.key), digest(record.value)
            return f"M {reader} {partition} {offset} {record.timestamp_ms} {key} {value} {headers}"

        self(*(line(*message) for message in messages))


class Member(threading.Thread):
    """A member of the group: polls, commits what it has seen, leaves when told to."""

    def __init__(self, said: Said, name: str, client, topic: str, group: str):
        super().__init__(name=name, daemon=True)
        self.said, self.client, self.topic, self.group = said, client, topic, group
        self.leaving = threading.Event()
        self.next, self.uncommitted = {}, 0

    def run(self) -> None:
        consumer = self.client.member(self.topic, self.group, self.on_assign, self.on_revoke)
        while not self.leaving.is_set():
            former = self.uncommitted
            consumer.poll(self.take)
            idle = self.uncommitted == former
            if self.uncommitted >= COMMIT_EVERY or (self.uncommitted and idle):
                self.commit(consumer)
        self.commit(consumer)
        consumer.close()

    def take(self, messages: list) -> None:
        """Never at the same time as `on_assign` and `on_revoke`, or what was taken away would be committed for ever after."""
        self.said.messages(self.name, messages)
        for partition, offset, _ in messages:
            self.next[partition] = offset + 1
        self.uncommitted += len(messages)

    def on_assign(self, partitions: list) -> None:
        for partition in partitions:
            self.next.pop(partition, None)
        self.said(f"J {self.name} {','.join(map(str, partitions))}")

    def on_revoke(self, partitions: list) -> None:
        # No commit here: kafka-python calls this from its I/O thread. What is not committed is delivered again.
        for partition in partitions:
            self.next.pop(partition, None)
        self.said(f"R {self.name} {','.join(map(str, partitions))}")

    def commit(self, consumer) -> None:
        from adapters import CommitRefused

        try:
            offsets = consumer.commit(lambda: dict(self.next))
            if offsets:
                self.said(f"C {self.name} " + ",".join(f"{p}:{o}" for p, o in offsets.items()))
            self.uncommitted = 0
        except CommitRefused as refused:
            self.said(f"N member {self.name}: commit refused: {' '.join(str(refused).split())}")


class Driver:
    def __init__(self, client):
        self.client, self.said, self.members, self.transactional = client, Said(), {}, {}

    def guarded(self, what: Callable) -> Callable:
        def run(*arguments) -> None:
            try:
                what(*arguments)
            except Exception:  # whatever it is, the client has failed and says so
                self.said("E " + " | ".join(traceback.format_exc().split("\n")))

        return run

    def create(self, topic: str, partitions: str, configs: str) -> None:
        self.client.create_topic(topic, int(partitions), dict(config.split("=") for config in configs.split(",")))
        self.said("ok create")

    def produce(self, topic: str, path: str) -> None:
        producers = {}
        for index, codec, partition, record in read_tasks(Path(path)):
            if codec not in producers:
                producers[codec] = self.client.producer(codec)
            on_ack = lambda p, o, i=index: self.said(f"A {i} {p} {o}")  # noqa: E731
            producers[codec].send(topic, None if partition < 0 else partition, record, on_ack)
        for producer in producers.values():
            producer.flush()
            producer.close()
        self.said("ok produce")

    def read(self, topic: str, wanted: str) -> None:
        ends = {int(p): int(end) for p, end in (pair.split(":") for pair in wanted.split(","))}
        at = {p: 0 for p in ends}
        consumer = self.client.assigned(topic, list(ends))

        def take(messages: list) -> None:
            for partition, offset, _ in messages:
                at[partition] = offset + 1
            self.said.messages("-", messages)

        while any(at[p] < end for p, end in ends.items()):
            consumer.poll(take)
        consumer.close()
        self.said("ok read")

    def step(self, command: str, name: str, does: Callable) -> None:
        try:
            does()
            self.said(f"T {name} {command} ok")
        except Exception as failed:  # whether that is right is judged elsewhere
            self.said(f"T {name} {command} failed {' '.join(str(failed).split())}")

    def open(self, name: str, transactional_id: str, timeout_ms: str) -> None:
        def open_it() -> None:
            self.transactional[name] = self.client.transactional(transactional_id, int(timeout_ms))

        self.step("open", name, open_it)

    def write(self, name: str, topic: str, partition: str, value: str) -> None:
        self.step("write", name, lambda: self.transactional[name].write(topic, int(partition), value))

    def end(self, name: str, how: str) -> None:
        self.step("end", name, lambda: self.transactional[name].end(how == "commit"))

    def chain(self, name: str, source: str, sink: str, group: str, partitions: str, last: str) -> None:
        def chain_them() -> None:
            consumer, left, is_first = self.client.chained(source, group), set(range(int(partitions))), True
            while left:
                messages = []
                consumer.poll(messages.extend)
                if not messages:
                    continue
                done = {partition for partition, _, record in messages if record.value.decode() == last}
                next_offsets = {partition: offset + 1 for partition, offset, _ in messages}
                for partition, _, record in messages:
                    self.transactional[name].write(sink, partition, record.value.decode() + "+")
                self.transactional[name].send_offsets(consumer, next_offsets)
                self.transactional[name].end(not is_first)
                if is_first:
                    consumer.go_back()
                else:
                    left -= done
                is_first = False
            consumer.close()

        self.step("chain", name, chain_them)

    def scan(self, topic: str, partitions: str, last: str, isolation: str) -> None:
        left = set(range(int(partitions)))
        consumer = self.client.assigned(topic, list(left), isolation)

        def take(messages: list) -> None:
            for partition, _, record in messages:
                value = record.value.decode()
                self.said(f"V {partition} {value}")
                if value == last:
                    left.discard(partition)

        while left:
            consumer.poll(take)
        consumer.close()
        self.said("ok scan")

    def join(self, name: str, topic: str, group: str) -> None:
        member = Member(self.said, name, self.client, topic, group)
        member.run = self.guarded(member.run)
        self.members[name] = member
        member.start()

    def leave(self, name: str) -> None:
        member = self.members[name]
        member.leaving.set()
        member.join()
        self.said(f"ok leave {name}")

    def serve(self) -> None:
        self.said(f"ready {self.client.version()}")
        for line in sys.stdin:
            command, *arguments = line.split()
            does = self.guarded({"create": self.create, "produce": self.produce, "read": self.read,
                                 "join": self.join, "leave": self.leave, "open": self.open, "write": self.write,
                                 "end": self.end, "chain": self.chain, "scan": self.scan}[command])  # fmt: skip
            threading.Thread(target=does, args=arguments, daemon=True).start()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--client", required=True)
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--group-protocol", choices=("classic", "consumer"), default="classic")
    arguments.add_argument("--assignor", choices=("range", "cooperative-sticky"))
    given = arguments.parse_args()
    # What hangs can be asked where.
    faulthandler.register(signal.SIGQUIT)
    client = client_of(given.client, given.bootstrap)
    # Only those that have both are told.
    client.group_protocol, client.assignor = given.group_protocol, given.assignor
    Driver(client).serve()
    # Without waiting for threads of libraries.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
