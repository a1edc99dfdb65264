"""kcat as a reader of what others wrote. It shows headers in a way that can't be taken apart, so they are left out."""

import subprocess
from typing import Callable

from adapters import Message
from kcat_roundtrip import parse
from records import Record

# As in kcat_roundtrip.py, without headers: arbitrary bytes in them would break the lines.
FORMAT = "%p %o %T %K %S -\n%k%s\n"


class KcatClient:
    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap

    def version(self) -> str:
        said = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
        return next(word for line in said.split("\n") if line.startswith("Version") for word in line.split()[1:])

    def assigned(self, topic: str, partitions: list) -> "KcatReader":
        return KcatReader(self.bootstrap, topic, partitions)


class KcatReader:
    """One process a partition, each up to the partition's end."""

    def __init__(self, bootstrap: str, topic: str, partitions: list):
        self.bootstrap, self.topic, self.left = bootstrap, topic, list(partitions)

    def poll(self, take: Callable) -> None:
        if not self.left:
            raise RuntimeError("kcat has read every partition to its end, and less than was wanted")
        partition = str(self.left.pop(0))
        command = ["kcat", "-b", self.bootstrap, "-q", "-C", "-t", self.topic, "-p", partition, "-o", "beginning", "-e", "-f", FORMAT]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"kcat ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        take([Message(s.partition, s.offset, Record(s.key, s.value, None, s.timestamp_ms)) for s in parse(done.stdout)])

    def close(self) -> None:
        pass
