"""The records that round trips send: made from their index alone, so that every reader can make them again.

Owns: contents and sizes of records, and the digest by which two of them are compared. Knows no client.
"""

import hashlib
import random
from typing import NamedTuple, Optional

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

    def digest(self) -> bytes:
        """Sixteen bytes that differ if anything of the record differs, null and empty included."""
        sum_ = hashlib.blake2b(digest_size=16)

        def add(part):
            sum_.update(b"-" if part is None else b"+%d:" % len(part) + part)

        add(self.key)
        add(self.value)
        sum_.update(b"#%d@%d" % (len(self.headers), self.timestamp_ms))
        for name, value in self.headers:
            add(name.encode())
            add(value)
        return sum_.digest()

    def describe(self) -> str:
        def short(part):
            if part is None:
                return "null"
            return f"{len(part)} bytes {part[:24]!r}{'…' if len(part) > 24 else ''}"

        headers = ", ".join(f"{name}={short(value)}" for name, value in self.headers)
        return f"key {short(self.key)}, value {short(self.value)}, headers [{headers}], timestamp {self.timestamp_ms}"


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
