"""The records that round trips send: made from their index alone, and how files and digests of them look.

Owns: contents and sizes of records, the file in which drivers get them, the digests by which two of them are compared.
Knows no client. Files and digests are described in `protocol.md`.
"""

import hashlib
import random
import struct
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple, Optional

KIB = 1024
MIB = 1024 * KIB
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

# Old enough to lie before any broker's clock, far enough from 0 that no client takes it for "now".
FIRST_TIMESTAMP_MS = 1_600_000_000_000


class Record(NamedTuple):
    key: Optional[bytes]
    value: Optional[bytes]
    headers: tuple
    timestamp_ms: int

    def digests(self) -> tuple:
        """Timestamp, key, value and headers, as drivers report them."""
        return str(self.timestamp_ms), digest(self.key), digest(self.value), digest_of_headers(self.headers)

    def describe(self) -> str:
        def short(part):
            if part is None:
                return "null"
            return f"{len(part)} bytes {part[:24]!r}{'…' if len(part) > 24 else ''}"

        headers = ", ".join(f"{name}={short(value)}" for name, value in self.headers)
        return f"key {short(self.key)}, value {short(self.value)}, headers [{headers}], timestamp {self.timestamp_ms}"


def digest(part: Optional[bytes]) -> str:
    return "-" if part is None else f"{len(part)}:{hashlib.sha256(part).hexdigest()[:16]}"


def digest_of_headers(headers: tuple) -> str:
    encoded = b"".join(counted(name.encode()) + counted(value) for name, value in headers)
    return f"{len(headers)}:{hashlib.sha256(encoded).hexdigest()[:16]}"


def counted(part: Optional[bytes]) -> bytes:
    return struct.pack(">i", -1) if part is None else struct.pack(">i", len(part)) + part


class Task(NamedTuple):
    """A record to be sent: with which codec, and where to (-1: where the client likes)."""

    index: int
    codec: str
    partition: int
    record: Record


def write_tasks(path: Path, tasks: Iterable[Task]) -> None:
    with path.open("wb") as file:
        for index, codec, partition, record in tasks:
            file.write(struct.pack(">iBiq", index, CODECS.index(codec), partition, record.timestamp_ms))
            file.write(counted(record.key) + counted(record.value) + struct.pack(">i", len(record.headers)))
            file.write(b"".join(counted(name.encode()) + counted(value) for name, value in record.headers))


def read_tasks(path: Path) -> Iterator[Task]:
    with path.open("rb") as file:

        def part() -> Optional[bytes]:
            (length,) = struct.unpack(">i", file.read(4))
            return None if length < 0 else file.read(length)

        while fixed := file.read(17):
            index, codec, partition, timestamp_ms = struct.unpack(">iBiq", fixed)
            key, value = part(), part()
            (count,) = struct.unpack(">i", file.read(4))
            headers = tuple((part().decode(), part()) for _ in range(count))
            yield Task(index, CODECS[codec], partition, Record(key, value, headers, timestamp_ms))


def size_of(index: int, rng: random.Random) -> int:
    """90% of values up to 1 KiB, 9% up to 32 KiB, 1% up to 1 MiB; the bounds themselves occur."""
    place = index % 100
    bound, low = (KIB, 0) if place < 90 else (32 * KIB, KIB) if place < 99 else (MIB, 32 * KIB)
    return bound if index // 100 % 10 == 0 and place in (89, 98, 99) else rng.randint(low, bound)


def body(size: int, index: int, rng: random.Random) -> bytes:
    """Every third one is noise, which no codec makes smaller; the others repeat themselves."""
    if index % 3 == 0:
        return rng.randbytes(size)
    pattern = rng.randbytes(rng.choice((1, 7, 64, 1000)))
    return (pattern * (size // len(pattern) + 1))[:size]


def record(seed: int, index: int, all_nulls: bool) -> Record:
    """The record of this index. Without `all_nulls`, no header's value is null, and a null value always has a key."""
    rng = random.Random(seed * 1_000_003 + index)
    value = body(size_of(index, rng), index, rng)
    if index % 41 == 0:
        value = None
    elif index % 43 == 0:
        value = b""
    key = None if index % 5 == 0 and (value is not None or all_nulls) else b"" if index % 37 == 0 else b"\x00\xff%d" % (index % 1009)
    headers = ()
    if index % 3 == 1:
        headers = (("n", str(index).encode()), ("bytes", rng.randbytes(index % 50)))
    elif index % 7 == 0:
        # A name twice, an empty name, and both sorts of nothing.
        headers = (("again", b"1"), ("again", b"2"), ("", b"no name"), ("empty", b""), ("ünï", b"\xff"))
        headers += (("null", None),) if all_nulls else ()
    # Neither ascending nor unique.
    timestamp_ms = FIRST_TIMESTAMP_MS + index // 2 * 7 + rng.randint(-1000, 1000)
    return Record(key, value, headers, timestamp_ms)
