"""The history file of a load: one line an event, appended by the load, read by the verifier while the load goes on.

    S worker partition number              handed to the producer
    A worker partition number offset       acknowledged at that offset
    F worker partition number error        failed for good
    T partition offset                     a group commit of that offset was tried
    C partition offset                     the commit was acknowledged
    V text                                 the load itself saw a broken rule
    E                                      the load ended in order: everything was flushed

Owns: the lines, and the values that are sent: their identity and filler, made from (worker, partition, number).
"""

import threading
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, Optional


class Value(NamedTuple):
    worker: int
    partition: int
    number: int

    def encode(self) -> bytes:
        """Unique, and of a size that differs from value to value: mostly around 2 KiB, one in 64 around 60 KiB."""
        size = 60_000 + self.number % 1000 if self.number % 64 == 0 else 64 + self.number * 37 % 4096
        head = b"%d %d %d " % self
        # Cheap to make, and different in every value: a torn or misplaced byte shows.
        filler = (head * 8 + bytes((self.number + i) & 0xFF for i in range(64))) * (size // 64 + 1)
        return head + filler[:size]

    @classmethod
    def decode(cls, data: bytes) -> Optional["Value"]:
        """`None` if these bytes are not, to the last one, what `encode` makes."""
        try:
            found = cls(*(int(part) for part in data.split(b" ", 3)[:3]))
        except (TypeError, ValueError):
            return None
        return found if found.encode() == data else None


class Writer:
    """Appends whole lines; callbacks of several threads may write."""

    def __init__(self, path: str):
        self.file = open(path, "a", buffering=1 << 16, encoding="utf-8")
        self.lock = threading.Lock()

    def line(self, *parts) -> None:
        text = " ".join(str(part) for part in parts) + "\n"
        with self.lock:
            self.file.write(text)

    def flush(self) -> None:
        with self.lock:
            self.file.flush()


class History:
    """What a history file said when it was read."""

    def __init__(self, path: str):
        self.sent = set()
        self.acked = {}  # Value -> offset
        self.failed = {}  # Value -> error
        self.tried = defaultdict(int)  # partition -> highest offset of a commit
        self.committed = defaultdict(int)
        self.violations = []
        self.ended = False
        text = Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""
        # A line without its end is still being written.
        for line in text[: text.rfind("\n") + 1].splitlines():
            self.take(line.split(" "), line)

    def take(self, parts: list, line: str) -> None:
        kind, numbers = parts[0], parts[1:]
        if kind == "S":
            self.sent.add(Value(*map(int, numbers)))
        elif kind == "A":
            worker, partition, number, offset = map(int, numbers)
            value = Value(worker, partition, number)
            if self.acked.setdefault(value, offset) != offset:
                self.violations.append(f"{value} was acknowledged at {self.acked[value]} and at {offset}")
        elif kind == "F":
            self.failed[Value(*map(int, numbers[:3]))] = " ".join(numbers[3:])
        elif kind in "TC":
            partition, offset = map(int, numbers)
            table = self.tried if kind == "T" else self.committed
            table[partition] = max(table[partition], offset)
        elif kind == "V":
            self.violations.append(line[2:])
        elif kind == "E":
            self.ended = True
        else:
            raise ValueError(f"unknown line in the history: {line!r}")
